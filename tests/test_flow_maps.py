"""Flow maps and the flows of them: exact maps, steps, trajectories, what is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from pushforward import Batch, FlowMapFlow, GaussianMixture, GaussianMixtureOracle, Normal, Rows, Step, UNet
from pushforward.fields import Diagonal, Straight, TwoTimes, as_flow_map, jump
from pushforward.nn import MLP, ResidualMLP
from pushforward.objectives import FlowMapMatching, MapRows, Semigroup, Times, Uniform
from pushforward.objectives.times import Late
from pushforward.random import seeded
from pushforward.solvers import Dopri8, Euler

DOUBLE = torch.float64
MEAN, DEVIATION = 1.3, 0.5


def exact(s: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """The map of N(0, 1) to N(1.3, .5^2) on the linear path, for s < t."""
    scale = lambda u: ((1 - u) ** 2 + (DEVIATION * u) ** 2).sqrt()  # noqa: E731
    s, t = s.reshape(-1, 1), t.reshape(-1, 1)
    return (MEAN * t + scale(t) / scale(s) * (x - MEAN * s) - x) / (t - s)


FLOW = FlowMapFlow(exact, Normal(1).double(), two_sided=True)
X = torch.randn(50, 1, dtype=DOUBLE, generator=seeded("flow maps"))


def test_values_that_are_known() -> None:
    one = torch.ones(1, 1, dtype=DOUBLE)
    assert FLOW.push(one).item() == pytest.approx(1.8, abs=1e-12)
    assert FLOW.jump(0.2, 0.8, one).item() == pytest.approx(1.45047815, abs=1e-8)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_any_number_of_steps_of_an_exact_map_arrives_where_the_solver_does(steps: int) -> None:
    mixture = GaussianMixture(torch.tensor([[MEAN]], dtype=DOUBLE), DEVIATION)
    oracle = GaussianMixtureOracle(mixture)
    solved = Dopri8(rtol=1e-11, atol=1e-11).solve(oracle, X, 0.0, 1.0).x
    flow = FLOW.replace(steps=steps)
    torch.testing.assert_close(flow.push(X), solved, atol=1e-8, rtol=0)
    torch.testing.assert_close(flow.pull(flow.push(X)), X, atol=1e-12, rtol=0)


def test_the_trajectory_passes_through_the_steps_and_jumps_between_them() -> None:
    flow = FlowMapFlow(exact, Normal(1).double(), grid=(0.0, 0.3, 1.0), two_sided=True)
    times = torch.tensor([0.0, 0.1, 0.3, 0.6, 1.0], dtype=DOUBLE)
    found = flow.trajectory(X, times)
    assert found.path is not None and found.calls == 4
    assert torch.equal(found.path[0], X) and torch.equal(found.path[-1], flow.push(X))
    for t, state in zip(times.tolist()[1:], found.path[1:]):
        torch.testing.assert_close(state, FLOW.jump(0.0, t, X), atol=1e-12, rtol=0)
    back = flow.trajectory(found.x, times.flip(0))
    assert back.path is not None
    torch.testing.assert_close(back.path.flip(0), found.path, atol=1e-12, rtol=0)


def test_a_state_comes_from_the_last_step_before_it() -> None:
    """With a map that is not exact, states are those that push goes through."""
    flow = FlowMapFlow(lambda s, t, x: torch.sin(3 * x), Normal(1).double(), steps=4)
    knots = flow.times
    found = flow.trajectory(X, knots)
    assert found.path is not None
    state = X
    for (s, t), reached in zip(pairwise(knots), found.path[1:]):
        state = state + (t - s) * torch.sin(3 * state)
        torch.testing.assert_close(reached, state)


def test_a_flow_of_no_span_is_the_identity() -> None:
    net = TwoTimes(MLP(2, spans=True))
    x, t = torch.randn(4, 2), torch.rand(4)
    assert torch.equal(jump(net, t, t, x), x)


@pytest.mark.parametrize(
    "network",
    [
        MLP(2, condition=3, spans=True),
        ResidualMLP(2, condition=3, width=16, spans=True),
        UNet((1, 4, 4), condition=3, width=8, spans=True),
    ],
    ids=["mlp", "resmlp", "unet"],
)
def test_networks_of_two_times(network: MLP | ResidualMLP | UNet) -> None:
    generator = seeded("two times")
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(5, *network.event_shape, generator=generator)
    s, t, label = torch.rand(5, generator=generator), torch.rand(5, generator=generator), torch.arange(5) % 3
    flow_map = TwoTimes(network)
    both = flow_map(s, t, x, label)
    for row in range(5):  # rows do not mix, and a scalar is the time of all rows
        one = flow_map(s[row], t[row], x[row : row + 1], label[row : row + 1])
        torch.testing.assert_close(one[0], both[row])
    torch.testing.assert_close(Diagonal(flow_map)(t, x, label), network(t, x, label))
    assert not torch.allclose(both, network(s, x, label))
    found = Diagonal(flow_map).value_and_divergence(t, x, label)
    if found is not None:
        torch.testing.assert_close(found[0], network(t, x, label))


def test_networks_of_two_times_begin_with_velocities_that_no_span_changes() -> None:
    net = TwoTimes(ResidualMLP(2, width=16, spans=True))
    for parameter in net.network.leave.parameters():  # type: ignore[union-attr]
        parameter.data.normal_()
    x = torch.randn(3, 2)
    assert torch.equal(net(torch.tensor(0.2), torch.tensor(0.9), x), net.network(0.2, x))


def test_its_velocity_is_a_flow_with_a_density() -> None:
    flow = FlowMapFlow(lambda s, t, x: -x, Normal(2).double(), steps=3)
    x = torch.randn(6, 2, dtype=DOUBLE)
    expected = Normal(2).double().log_prob(x * torch.e) + 2
    torch.testing.assert_close(flow.continuous(Dopri8(rtol=1e-9, atol=1e-9)).log_prob(x), expected)
    euler = flow.following(Euler(steps=3))
    torch.testing.assert_close(euler.push(x), flow.push(x))


def test_a_field_as_a_map_is_an_euler_step() -> None:
    flow = FlowMapFlow(Straight(lambda t, x: t - x), Normal(2).double(), steps=5)
    x = torch.randn(6, 2, dtype=DOUBLE)
    torch.testing.assert_close(flow.push(x), Euler(steps=5).solve(lambda t, x: t - x, x, 0.0, 1.0).x)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 0}, "steps: expected a positive number of steps, got 0"),
        ({"steps": 1.5}, "steps: expected a positive number of steps, got 1.5"),
        ({"grid": (0.0, 0.5)}, r"grid: expected times that rise from 0 to 1, got \[0.0, 0.5\]"),
        ({"grid": (0.0, 0.5, 0.5, 1.0)}, "grid: expected times that rise"),
        ({"grid": (0.0, 0.5, 1.0), "steps": 4}, "steps: expected 2 as the grid has, or grid=None, got 4"),
        ({"interval": (0.5, 0.2)}, "interval: expected 0 <= start < stop <= 1"),
    ],
)
def test_steps_that_lead_nowhere_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FlowMapFlow(exact, Normal(1), **changes)
    with pytest.raises(ValueError, match="steps: expected a positive"):
        FLOW.replace(steps=0)


def test_a_map_of_one_direction_says_what_trains_the_other() -> None:
    flow = FLOW.replace(two_sided=False)
    says = r"runs one way, from the source to the data; train it with two_sided=True \(--two-sided\)"
    assert not flow.invertible
    with pytest.raises(ValueError, match=f"pull: .*{says}"):
        flow.pull(X)
    with pytest.raises(ValueError, match=f"expected s <= t; .*{says}"):
        flow.jump(0.8, 0.2, X)
    with pytest.raises(ValueError, match=f"times: expected increasing times; .*{says}"):
        flow.trajectory(X, [1.0, 0.0])
    with pytest.raises(ValueError, match=r"no density of its own: train a head for its log-determinants"):
        flow.log_prob(X)


@pytest.mark.parametrize("times", [(-0.1, 0.5), (0.2, 1.5), (0.2, float("nan"))])
def test_times_outside_are_refused(times: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"expected (a time in \[0, 1\]|finite)"):
        FLOW.jump(*times, X)


def test_what_is_no_flow_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"field: expected a callable \(s, t, x\) or \(s, t, x, condition\)"):
        as_flow_map(lambda t, x: x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"such as MLP\(..., spans=True\), got a MLP that takes one"):
        TwoTimes(MLP(2))
    with pytest.raises(ValueError, match="span: this network takes one time; make it with spans=True"):
        MLP(2)(0.5, torch.zeros(1, 2), None, 0.1)
    with pytest.raises(ValueError, match="span: this network takes one time"):
        ResidualMLP(2)(0.5, torch.zeros(1, 2), None, 0.1)
    with pytest.raises(ValueError, match=r"the flow map is a function of \(s, t, x\) alone"):
        FLOW.sample(2, torch.tensor([0, 1]))


@pytest.mark.parametrize("times", [Uniform(), Late(2.0)], ids=["uniform", "late"])
def test_leaps_have_all_spans_alike(times: Times) -> None:
    """In quantiles of the times the span is uniform, and so is the start on what is left."""

    class Recorded(Semigroup):
        def errors(self, rows: MapRows) -> Tensor:
            seen.append((rows.s, rows.t))
            return super().errors(rows)

    seen: list[tuple[Tensor, Tensor]] = []
    count = 2000
    batch = Batch((Rows(torch.zeros(count, 1)), Rows(torch.ones(count, 1))))
    models = nn.ModuleDict({"field": TwoTimes(MLP(1, width=4, depth=1, spans=True))})
    FlowMapMatching(Recorded(0.0), times=times).loss(models, batch, Step(generator=seeded()))
    s, t = (u if isinstance(times, Uniform) else 1 - (1 - u).sqrt() for u in seen[0])
    span = t - s
    # fixed seed; of other seeds one in a hundred would refuse an exact sampler
    assert stats.kstest(span.numpy(), "uniform").pvalue > 0.005
    assert stats.kstest((s / (1 - span).clamp(1e-6)).numpy(), "uniform").pvalue > 0.005
