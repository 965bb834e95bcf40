"""The contract of every registered loss of flow maps, with exact maps of a Gaussian put into it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contract import complete
from pushforward import registry
from pushforward.fields import Diagonal, Field
from pushforward.objectives import FlowMapMatching, FlowMatching, Loss, MapLoss, Step
from pushforward.oracles import FlowMapOracle, GaussianMixtureOracle
from pushforward.random import normal, seeded
from pushforward.rows import Batch, Rows
from pushforward.sources import GaussianMixture

DOUBLE = torch.float64
#: The target: a normal distribution with correlated columns, and another one for each of two labels.
TARGET = GaussianMixture(
    torch.tensor([[1.3, -0.4]], dtype=DOUBLE), torch.tensor([[[0.5, 0.2], [0.2, 0.3]]], dtype=DOUBLE)
)


@dataclass(frozen=True)
class Case:
    """What is known of a loss.

    options: its settings, as ``--loss`` takes them.
    random: whether the target of a leap is random given its start when it is trained from data, so that the
    exact map has a loss above 0.
    bias: how far its target is from the exact map at most, in standard deviations of the data; 0 for none.
    """

    options: str = ""
    random: bool = False
    bias: float = 0.0


CASES = {
    "lagrangian": Case(),
    "eulerian": Case(),
    "semigroup": Case("between=uniform"),
    "mean-flow": Case(random=True),
    "improved-mean-flow": Case(random=True),
    # its first step is straight, with an error of the order of alpha
    "alpha-flow": Case("least=0.001", random=True, bias=1e-2),
    "shortcut": Case(),
    "consistency": Case(random=True, bias=1e-2),
    "scm": Case("warmup=0.5", random=True),
    "two-sided": Case(random=True),
    # long steps of Heun's method would leave errors, on which the slopes of its kernel do not depend
    "moment-matching": Case("halvings=15", random=True, bias=1e-2),
}
#: The end of training, where what is scheduled has arrived.
LAST: dict[str, Any] = {"index": 100, "total": 100}


class Bent(nn.Module):
    """The exact map plus small functions of all its arguments; their slopes at 0 test a loss."""

    def __init__(self, exact: nn.Module):
        super().__init__()
        self.exact, self.bends = exact, nn.Parameter(torch.zeros(4, dtype=DOUBLE))

    def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        s, t = (u.reshape(-1, 1).expand(len(x), 1) for u in (s, t))
        shapes = (torch.ones_like(x), (t - s) * x, s + 0 * x, torch.sin(2 * t + x.flip(1)))
        bend = sum(a * h for a, h in zip(self.bends, shapes))
        return self.exact(s.reshape(-1), t.reshape(-1), x, condition) + bend


def created(name: str) -> MapLoss:
    case = CASES[name]
    return registry.create("loss", f"{name},{case.options}".rstrip(","))


def objective(loss: MapLoss, teacher: Field | None = None, **options: Any) -> FlowMapMatching:
    return FlowMapMatching(loss, teacher=teacher, two_sided=loss.needs_two_sided, **options)


def pairs(rows: int, generator: torch.Generator, dtype: torch.dtype = DOUBLE) -> Batch:
    x0 = normal((rows, 2), generator, DOUBLE)
    return Batch((Rows(x0.to(dtype)), Rows(TARGET.sample(rows, generator=generator).to(dtype))))


def evaluated(objective: FlowMapMatching, model: nn.Module, batch: Batch, *seed: Any, **state: Any) -> Loss:
    step = Step(**{**LAST, **state}, generator=seeded("loss", *seed))
    return objective.loss(nn.ModuleDict({"field": model}), batch, step)


def test_every_loss_has_a_case() -> None:
    complete("loss", CASES, MapLoss)


@pytest.mark.parametrize("teacher", [False, True], ids=["data", "teacher"])
@pytest.mark.parametrize("name", CASES)
def test_the_exact_map_has_no_loss_but_what_is_known(name: str, teacher: bool) -> None:
    case, exact = CASES[name], FlowMapOracle(TARGET)
    rule = created(name)
    found = evaluated(
        objective(rule, GaussianMixtureOracle(TARGET) if teacher else None),
        exact,
        pairs(400, seeded("exact", name)),
    )
    leaps = float(found.terms["leaps"])
    if case.random and not teacher:
        assert leaps > 1e-4
    else:
        assert leaps <= case.bias**2 + 1e-18
    if "diagonal" in found.terms:
        assert float(found.terms["diagonal"]) < 1e-18 if teacher else float(found.terms["diagonal"]) > 0.1


@pytest.mark.parametrize("teacher", [False, True], ids=["data", "teacher"])
@pytest.mark.parametrize("name", CASES)
def test_the_exact_map_has_no_mean_gradient(name: str, teacher: bool) -> None:
    """In any of four directions: within 3 standard errors over 40 batches, or rounding and the known bias."""
    model, exact = Bent(FlowMapOracle(TARGET)), GaussianMixtureOracle(TARGET)
    loss = objective(created(name), exact if teacher else None)
    slopes = []
    for k in range(40):
        found = evaluated(loss, model, pairs(250, seeded("gradient", name, k)), name, k)
        slopes.append(torch.autograd.grad(found.value, model.bends)[0])
    slope = torch.stack(slopes)
    error = slope.std(0) / len(slopes) ** 0.5
    assert bool((slope.mean(0).abs() <= 3 * error + CASES[name].bias + 1e-10).all()), (slope.mean(0), error)


@pytest.mark.parametrize("name", CASES)
def test_a_map_that_is_not_exact_is_drawn_to_the_exact_one(name: str) -> None:
    """A step against the gradient in every direction shrinks a bend: no loss is blind or pushes away."""
    model, exact = Bent(FlowMapOracle(TARGET)), GaussianMixtureOracle(TARGET)
    model.bends.data[:] = torch.tensor([0.1, 0.1, 0.1, 0.1])
    loss = objective(created(name), exact)
    slope = torch.zeros(4, dtype=DOUBLE)
    for k in range(4):
        found = evaluated(loss, model, pairs(400, seeded("bent", name, k)), name, k)
        slope += torch.autograd.grad(found.value, model.bends)[0]
    assert float(slope @ model.bends.detach()) > 0.01


@pytest.mark.parametrize("name", CASES)
def test_rows_of_one_time_alone_are_flow_matching(name: str) -> None:
    """The same times and pairs, so the same value and the same gradients."""
    rule = created(name)
    rule.diagonal = 1.0
    model, batch = Bent(FlowMapOracle(TARGET)), pairs(50, seeded("diagonal"))
    model.bends.data[:] = 0.3
    found = evaluated(objective(rule, margin=1e-5), model, batch)
    step = Step(**LAST, generator=seeded("loss"))
    expected = FlowMatching().loss(nn.ModuleDict({"field": Diagonal(model)}), batch, step)
    if rule.weight(torch.ones(1)) is None:
        torch.testing.assert_close(found.value, expected.value, rtol=1e-14, atol=0)
    assert found.t is not None and expected.t is not None and torch.equal(found.t, expected.t)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss.value, model.bends)[0] for loss in (found, expected)), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("name", CASES)
def test_a_share_of_rows_has_one_time_and_others_none_outside(name: str) -> None:
    """As many as the loss says, over batches that the share does not divide; times in order, in [0, 1]."""
    rule, seen = created(name), []

    class Watched(nn.Module):
        def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
            seen.append(len(x))
            for u in (s, t):
                assert bool(((u >= 0) & (u <= 1)).all())
            assert rule.needs_two_sided or bool((s <= t).all())
            assert not rule.to_data or bool((t == 1).all())
            return torch.zeros_like(x) + 0 * s.reshape(-1, 1) + 0 * t.reshape(-1, 1)

    still = 0
    for k in range(20):
        found = evaluated(
            objective(rule), Watched(), pairs(37, seeded("share", k)), k, index=37 * k, total=740
        )
        still += seen[0] if "diagonal" in found.terms else 0
        seen.clear()
    assert abs(still - rule.diagonal * 740) <= 1


@pytest.mark.parametrize("name", CASES)
def test_conditions_reach_every_call_of_the_map(name: str) -> None:
    """Labels say where points lie, which the map checks whenever it is called, and a teacher too."""
    labels = torch.arange(60) % 3

    def near(x: Tensor, condition: Any) -> None:
        assert condition is not None and len(condition) == len(x)
        assert bool(((x[:, 0] - 100 * condition).abs() < 50).all())

    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.scale = 0, nn.Parameter(torch.ones((), dtype=DOUBLE))

        def forward(self, s: Tensor, t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
            near(x, condition)
            self.calls += 1
            return self.scale * torch.sin(x + s.reshape(-1, 1) * t.reshape(-1, 1))

    def teacher(t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        near(x, condition)
        return torch.cos(x)

    place = torch.stack([100.0 * labels, 0.0 * labels], 1).double()
    noise = [normal((60, 2), seeded("labels", k), DOUBLE) for k in range(2)]
    batch = Batch((Rows(place + noise[0]), Rows(place + noise[1], labels)))
    for given in (None, teacher):
        model = Labelled()
        assert bool(evaluated(objective(created(name), given), model, batch).value.isfinite())
        assert model.calls >= 1


@pytest.mark.parametrize("name", CASES)
def test_no_gradient_reaches_a_target(name: str) -> None:
    """The average of the weights has none, and the map has those that it has with targets of a copy."""
    model, batch = Bent(FlowMapOracle(TARGET)), pairs(80, seeded("targets"))
    model.bends.data[:] = 0.2
    average = nn.ModuleDict({"field": copy.deepcopy(model)})
    rule = created(name)
    rule.averaged = True
    apart = evaluated(objective(rule), model, batch, ema=average)
    apart.value.backward()
    assert all(parameter.grad is None for parameter in average.parameters())
    apart, model.bends.grad = model.bends.grad, None
    rule.averaged = False
    evaluated(objective(rule), model, batch).value.backward()
    assert apart is not None and model.bends.grad is not None and bool(apart.any())
    torch.testing.assert_close(model.bends.grad, apart, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("name", CASES)
def test_the_dtype_is_that_of_the_rows(name: str, dtype: torch.dtype) -> None:
    def wave(s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        assert s.dtype == t.dtype == x.dtype == dtype
        return torch.sin(x) + (s * t).reshape(-1, 1)

    model, batch = nn.ModuleDict({"field": Wrapped(wave)}), pairs(40, seeded("dtype"), dtype)
    found = objective(created(name)).loss(model, batch, Step(**LAST, generator=seeded("dtype")))
    assert found.value.dtype == dtype and found.per_sample.dtype == dtype
    assert found.per_sample.shape == (40,) and not found.per_sample.requires_grad
    torch.testing.assert_close(found.value.detach(), found.per_sample.mean(), rtol=1e-5, atol=1e-5)


class Wrapped(nn.Module):
    """A function (s, t, x) as a module without parameters."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.function(s, t, x)


@pytest.mark.parametrize("share", [-0.1, 1.5, True, float("nan")])
@pytest.mark.parametrize("name", CASES)
def test_a_share_outside_is_refused(name: str, share: float) -> None:
    made = registry.found("loss", name)
    if "diagonal" in inspect.signature(made).parameters:
        with pytest.raises(ValueError, match="diagonal: expected a number from 0 to 1, got"):
            made(diagonal=share)
