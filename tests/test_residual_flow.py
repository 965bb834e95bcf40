"""The residual flow as a recipe, and what its densities are said to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.datasets import make_moons
from torch import Tensor, nn

import pushforward
from pushforward.bijections import Affine, InverseFailed, Residual
from pushforward.cli import main
from pushforward.flows import BijectiveFlow, Transformed, residual


def trained(steps: int = 80, **options: Any) -> tuple[BijectiveFlow, list[Tensor]]:
    torch.manual_seed(0)
    flow = residual(2, layers=4, width=16, **options)
    g = torch.Generator().manual_seed(0)
    x = torch.from_numpy(make_moons(2000, noise=0.1, random_state=0)[0]).float()
    x = (x - x.mean(0)) / x.std(0)
    flow.initialise(x)
    optimiser, losses = torch.optim.Adam(flow.parameters(), 1e-2), []
    for _ in range(steps):
        loss = -flow(x[torch.randint(len(x), (256,), generator=g)], generator=g).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return flow.eval(), losses


def test_it_learns_and_its_density_integrates_to_one() -> None:
    flow, losses = trained(steps=80)
    assert flow.density == "exact"
    # no normal distribution of these rows comes below half the logarithm of det(2 pi e cov), 2.73 nats
    assert float(torch.stack(losses[-20:]).mean()) < 2.5
    line = torch.linspace(-4, 4, 121)
    with torch.no_grad():
        mass = torch.trapezoid(
            torch.trapezoid(flow(torch.cartesian_prod(line, line)).exp().reshape(121, 121), line), line
        )
        x, log_p = flow.sample_and_log_prob(100, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(flow(x), log_p, atol=1e-4)
    assert abs(float(mass) - 1) < 1e-3


def test_estimates_are_taken_in_training_alone_and_said_to_be() -> None:
    flow, _ = trained(steps=20)
    estimated = residual(2, layers=4, width=16, terms=1)
    estimated.load_state_dict(flow.state_dict())
    outer = Transformed(estimated, Affine(0.0, 2.0))
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert estimated.density == outer.density == "estimate"
    assert not torch.allclose(estimated.log_prob(x), flow.log_prob(x), atol=1e-4)
    outer.eval()
    assert estimated.density == outer.density == flow.density == "exact"
    assert torch.equal(estimated.log_prob(x), flow.log_prob(x))


def test_large_events_are_estimated_in_training() -> None:
    def terms(dim: int) -> set[int | None]:
        layers = residual(dim, layers=2).modules()
        return {layer.terms for layer in layers if isinstance(layer, Residual)}

    assert terms(64) == {None} and terms(65) == {2}


def test_the_command_line_trains_by_estimates_and_scores_exactly(tmp_path) -> None:
    # more than one block of rows, each of which draws for itself
    flags = ["--flow", "residual,layers=1,width=8,terms=1,lipschitz=0.7", "--steps", "5", "--batch", "600"]
    out = str(tmp_path / "run")
    command = ["train", "moons", "--method", "residual", *flags, "--rows", "700", "--no-report", "--out", out]
    assert main(command) == 0
    flow = pushforward.load(out)
    x = flow.sample(20)
    assert flow.density == "exact" and torch.equal(flow.log_prob(x), flow.log_prob(x))


@pytest.mark.parametrize(
    ("flow", "says"),
    [
        ("residual,layers=1,width=8,terms=1", "The log-density is exact, by the change of variables."),
        pytest.param(
            "vae,width=8",
            "The model has hidden variables, so the log-density is a lower bound.",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_the_report_says_what_the_log_density_is(flow: str, says: str, tmp_path) -> None:
    out = tmp_path / "run"
    flags = ["--method", flow.partition(",")[0], "--flow", flow, "--rows", "200", "--steps", "3"]
    assert main(["train", "moons", *flags, "--batch", "64", "--out", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert says in page and "The divergence is" not in page


class Given(nn.Module):
    """g as a function, with the constant that is claimed of it."""

    lipschitz = 0.9

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def given(self, condition=None):
        return self.function


def test_inverses_that_go_in_circles_at_rounding_are_found() -> None:
    # adding and taking away 100 leaves numbers in steps of 2^-17, 64 machine epsilons
    layer = Residual(Given(lambda x: (0.9 * x + 100.0) - 100.0))
    y = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = layer.inverse(y)
    # half a step of error in g moves the root by no more than 1 / (1 - 0.9) times that
    assert float((x - y / 1.9).abs().max()) < 10 * 2.0**-17


def test_what_is_no_contraction_has_no_inverse() -> None:
    with torch.no_grad(), pytest.raises(InverseFailed):
        Residual(Given(lambda x: x)).inverse(torch.ones(3, 2))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: residual((1, 8, 8)), r"residual: expected events of shape \(d,\)"),
        (lambda: residual(2, layers=0), "layers: expected an integer of at least 1"),
        (lambda: residual(2, lipschitz=1.0), "lipschitz"),
        (lambda: residual(2, terms=0), "terms"),
    ],
)
def test_mistakes_are_refused(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
