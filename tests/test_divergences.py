"""Estimates of divergences and log-densities: variances by their formulas, unbiased means, errors by name."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pushforward
from pushforward import Rows
from pushforward.bijections import Affine, Chain, Dequantise
from pushforward.flows import (
    ContinuousFlow,
    Divergence,
    Exact,
    Hutchinson,
    HutchPlusPlus,
    Transformed,
    load_flow,
    log_prob_and_error,
    multi_sample_bound,
    save,
)
from pushforward.inference import score, score_pieces
from pushforward.metrics import bits_per_dim
from pushforward.nn import MLP
from pushforward.random import seeded
from pushforward.solvers import RK4, Dopri5
from pushforward.sources import Normal, Source


@pytest.fixture(scope="module")
def run() -> Any:
    options: dict[str, Any] = {"network": "mlp,width=16,depth=2", "source": "normal", "folds": 0}
    return pushforward.train("moons", rows=300, steps=60, show_progress=False, **options)


DOUBLE, ROWS = torch.float64, 40_000
T = torch.tensor(0.5, dtype=DOUBLE)


def decaying(d: int, power: float) -> Tensor:
    """A matrix with the singular values 1, 2^-p, 3^-p, ... in random directions."""
    g = seeded("decaying")
    u, v = (torch.linalg.qr(torch.randn(d, d, generator=g, dtype=DOUBLE)).Q for _ in range(2))
    return u @ torch.diag(torch.arange(1, d + 1, dtype=DOUBLE) ** -power) @ (0.5 * u + 0.5 * v).T


def found(method: Divergence, jacobian: Tensor, rows: int = ROWS) -> Tensor:
    x = torch.zeros(rows, len(jacobian), dtype=DOUBLE)
    with torch.no_grad():
        noise = method.draw(x, seeded("found", repr(method)))
        return method(lambda t, x, condition=None: x @ jacobian.T, T, x, None, noise)[1]


@pytest.mark.parametrize("probes", [1, 4])
@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_the_variance_of_hutchinson_is_that_of_the_formula(noise: Any, probes: int) -> None:
    jacobian = torch.randn(8, 8, generator=seeded("variance"), dtype=DOUBLE)
    a = (jacobian + jacobian.T) / 2
    frobenius = a.square().sum()
    true = 2 * (frobenius - a.diagonal().square().sum() if noise == "rademacher" else frobenius) / probes
    values = found(Hutchinson(noise, probes), jacobian)
    # the standard error of a variance of n values is about sqrt((kurtosis - 1) / n): five of them
    kurtosis = float(((values - values.mean()) ** 4).mean() / values.var() ** 2)
    assert float(values.var()) == pytest.approx(float(true), rel=5 * math.sqrt((kurtosis - 1) / ROWS))
    assert float(values.mean()) == pytest.approx(
        float(jacobian.trace()), abs=5 * float(values.std()) / ROWS**0.5
    )


def test_hutchpp_beats_hutchinson_at_equal_products_where_the_spectrum_decays() -> None:
    """Its variance falls as 1 / m^2 and faster for singular values i^-2, that of Hutchinson as 1 / m."""
    jacobian = decaying(40, 2.0)
    variances: dict[int, tuple[float, float]] = {}
    for m in (6, 12, 24):
        ours, plain = (found(method, jacobian, 4000) for method in (HutchPlusPlus(m), Hutchinson(probes=m)))
        variances[m] = float(ours.var()), float(plain.var())
    for ours, plain in variances.values():
        assert ours < plain / 2
    assert variances[6][0] / variances[24][0] > 4**2
    assert variances[6][1] / variances[24][1] == pytest.approx(4, rel=0.2)  # 5 % a variance of 4,000 values


def test_hutchpp_is_exact_once_its_basis_spans_the_range() -> None:
    g = seeded("rank")
    low = torch.randn(20, 2, generator=g, dtype=DOUBLE) @ torch.randn(2, 20, generator=g, dtype=DOUBLE)
    # A = J^T has the range of the rows of J, of two dimensions
    torch.testing.assert_close(found(HutchPlusPlus(6), low, 50), low.trace().expand(50))
    assert float(found(HutchPlusPlus(3), low, 50).std()) > 0.1


@pytest.fixture(scope="module")
def flow() -> ContinuousFlow:
    torch.manual_seed(0)
    net = MLP((6,), width=32, depth=2).double()
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    return ContinuousFlow(net, RK4(steps=3), Normal(6).double())


@pytest.mark.parametrize("method", [Hutchinson(probes=2), Hutchinson("gaussian"), HutchPlusPlus(6)], ids=repr)
def test_log_densities_are_right_on_average_with_the_standard_error_told(
    flow: ContinuousFlow, method: Divergence
) -> None:
    x = torch.randn(300, 6, generator=seeded("points"), dtype=DOUBLE)
    twin = flow.replace(divergence=method)
    with torch.no_grad():
        exact = flow.log_prob(x)
        mean, error = log_prob_and_error(twin, x, 40, generator=seeded("draws", repr(method)))
    assert mean.shape == error.shape == (300,) and mean.dtype == DOUBLE
    score = (mean - exact) / error  # Student's t with 39 degrees of freedom: variance 39 / 37
    assert abs(float(score.mean())) < 5 * float(score.std()) / 300**0.5
    # the standard error of a variance of 300 such values is 8.6 %
    assert float(score.var()) == pytest.approx(39 / 37, rel=0.45)


def test_an_exact_density_has_no_error_and_a_bound_is_refused(flow: ContinuousFlow) -> None:
    x = torch.randn(3, 6, dtype=DOUBLE)
    outer = Transformed(flow.replace(divergence=Hutchinson()), Affine(0.0, 2.0).double(), DOUBLE)
    assert outer.density == "estimate"
    with torch.no_grad():
        mean, error = log_prob_and_error(flow, x, 2)
    assert torch.equal(mean, flow.log_prob(x)) and not error.any()
    assert log_prob_and_error(outer, x, 2)[1].all()
    with pytest.raises(ValueError, match="draws: expected an integer of at least 2, got 1"):
        log_prob_and_error(flow, x, 1)


def test_the_noise_is_drawn_once_for_a_solve_and_for_every_row(flow: ContinuousFlow) -> None:
    class Counting(Divergence):
        draws: list[Tensor] = []
        seen: list[Tensor] = []

        def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
            self.draws.append(torch.rand(x.shape, generator=generator))
            return self.draws[-1]

        def __call__(self, field: Any, t: Any, x: Any, condition: Any, noise: Any) -> tuple[Tensor, Tensor]:
            self.seen.append(noise)
            return field(t, x, condition), x.new_zeros(len(x))

    method = Counting()
    flow.replace(divergence=method).log_prob(torch.zeros(4, 6, dtype=DOUBLE))
    assert len(method.draws) == 1 and len(method.seen) == 12
    assert all(noise is method.draws[0] for noise in method.seen)


def test_training_and_scoring_have_the_gradient_of_the_exact_density_on_average(flow: ContinuousFlow) -> None:
    x = torch.randn(2, 6, generator=seeded("gradient"), dtype=DOUBLE)
    weight = next(p for p in flow.parameters() if p.ndim == 2)
    (true,) = torch.autograd.grad(flow.log_prob(x).mean(), weight)
    many = x.repeat(2000, 1)
    parts = []
    for k in range(8):
        value = flow.replace(divergence=Hutchinson()).log_prob(many, generator=seeded("gradient", k)).mean()
        parts.append(torch.autograd.grad(value, weight)[0])
    stack = torch.stack(parts)
    scores = (stack.mean(0) - true) / (stack.std(0) / 8**0.5)
    # Student's t with 7 degrees of freedom, over all entries of the weight
    assert float(scores.square().mean()) == pytest.approx(7 / 5, rel=0.5)


def test_flows_of_older_files_have_an_exact_divergence(tmp_path: Any) -> None:
    """Such files have an entry ``chunk`` and none for the divergence."""
    flow = ContinuousFlow(MLP((2,), width=8, depth=1), RK4(steps=2), Normal(2))
    x = torch.randn(3, 2)
    want = flow.log_prob(x)
    vars(flow).pop("divergence")
    vars(flow)["chunk"] = None
    save(flow, tmp_path / "old.safetensors")
    old = load_flow(tmp_path / "old.safetensors")
    assert isinstance(old, ContinuousFlow)
    assert old.density == "exact" and torch.equal(old.log_prob(x), want)


@pytest.mark.parametrize("method", [Exact(2), Hutchinson("gaussian", 3), HutchPlusPlus(9)], ids=repr)
def test_a_saved_flow_keeps_its_divergence(method: Divergence, tmp_path: Any) -> None:
    flow = ContinuousFlow(MLP((2,), width=8, depth=1), RK4(steps=2), Normal(2), divergence=method)
    save(flow, tmp_path / "flow.safetensors")
    assert repr(vars(load_flow(tmp_path / "flow.safetensors"))["divergence"]) == repr(method)


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: Hutchinson("uniform"), "noise: expected one of rademacher, gaussian, got 'uniform'"),  # pyright: ignore
        (lambda: Hutchinson(probes=0), "probes: expected an integer from 1 to 1000, got 0"),
        (lambda: HutchPlusPlus(2), "probes: expected an integer from 3 to 1000, got 2"),
        (lambda: Exact(0), "chunk: expected an integer of at least 1, got 0"),
    ],
)
def test_what_a_divergence_refuses(make: Any, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        make()


class Uniform(Source):
    """Uniform between -width and width."""

    def __init__(self, event_shape: tuple[int, ...], width: float):
        super().__init__()
        self.event_shape, self.width = event_shape, width

    def sample(self, n: int, condition: Any = None, generator: torch.Generator | None = None) -> Tensor:
        return self.width * (2 * torch.rand(n, *self.event_shape, generator=generator, dtype=DOUBLE) - 1)

    def log_prob(self, x: Tensor, condition: Any = None) -> Tensor:
        inside = (x.abs() <= self.width * (1 + 1e-12)).flatten(1).all(1)
        return torch.where(inside, -x[0].numel() * math.log(2 * self.width), -torch.inf)


@pytest.mark.parametrize("divergence", [Exact(), Hutchinson()], ids=repr)
@pytest.mark.parametrize("scaled", [False, True])
def test_a_uniform_distribution_on_bytes_has_eight_bits(divergence: Divergence, scaled: bool) -> None:
    """A flow that doubles a cube of half the width; random signs are exact for a diagonal Jacobian."""
    shape, rate = (3, 4, 4), math.log(2)
    flow = ContinuousFlow(
        lambda t, x: rate * x, Dopri5(rtol=1e-6, atol=1e-6), Uniform(shape, 0.5), divergence=divergence
    )
    images = torch.randint(256, (20, *shape), generator=seeded("bytes")).double()
    images[0], images[1] = 0, 255
    if scaled:  # [-1, 1) becomes [-1, 1 + step), whose values are -1, -1 + step, ..., 1
        step, images = 1 / 127.5, images / 127.5 - 1
        outer = Chain(Affine(step / 2, 1 + step / 2).double(), Dequantise(-1, 1, step))
    else:
        step, outer = 1.0, Chain(Affine(128.0, 128.0).double(), Dequantise(0, 255))
    whole = Transformed(flow, outer, DOUBLE)
    assert whole.density == "bound"
    bits = bits_per_dim(whole.log_prob(images, generator=seeded("bits")), 48, step)
    # the tolerance of the solver
    torch.testing.assert_close(bits, torch.full((20,), 8.0, dtype=DOUBLE), rtol=0, atol=1e-6)
    if not divergence.exact:
        with pytest.raises(ValueError, match="samples: expected 1 with a divergence that is an estimate"):
            multi_sample_bound(whole, images, 4)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"probes": 1}, "--probes 1: expected at least 2"),
        ({"probes": 4, "divergence": "exact"}, "--probes 4: --divergence exact is exact and has no error"),
        ({"divergence": "hutchinso"}, "did you mean"),
        ({"divergence": "hutchinson,noise=uniform"}, "noise: expected one of rademacher, gaussian"),
        ({"bound_samples": 2}, "the density of this run is no bound"),
    ],
)
def test_what_scoring_refuses(run: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        score(run, run.dataset.test, **options)


def test_scores_of_a_run_have_standard_errors_on_request(run: Any, tmp_path: Any) -> None:
    x = Rows(run.dataset.test.x[:40])
    name, exact = score(run, x)
    assert name == "log_prob"
    name, means = score(run, x, probes=8)
    assert name == "log_prob_estimate"
    pieces = np.concatenate([*score_pieces(run, [x], probes=8)])
    assert pieces.shape == (40, 2) and pieces[:, 0].tolist() == means
    scores = (np.array(means) - np.array(exact)) / pieces[:, 1]
    # Student's t with 7 degrees of freedom; rows share nothing but the model
    assert np.mean(scores**2) == pytest.approx(7 / 5, rel=0.9) and np.abs(scores).max() < 8
    assert score(run, x, divergence="hutchpp,probes=3")[0] == "log_prob_estimate"
    np.testing.assert_allclose(score(run, x, divergence="exact,chunk=1")[1], exact, rtol=1e-4)


def test_a_normalizing_flow_has_no_divergence() -> None:
    spline = pushforward.train("moons", method="maf", rows=60, steps=1, folds=0, show_progress=False)
    for options in ({"probes": 4}, {"divergence": "exact"}):
        with pytest.raises(ValueError, match="follows no velocity field"):
            score(spline, spline.dataset.test, **options)
