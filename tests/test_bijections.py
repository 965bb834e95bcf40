"""One registry-driven test of the bijection contract."""

from __future__ import annotations

import pytest
import torch
from torch.func import jacrev, vmap

from pushforward.bijections import Affine, Bijection, Chain, Dequantise, Inverse, Sigmoid
from pushforward.runs.preprocessing import bijection_from_json, bijection_to_json

DOUBLE = torch.float64


def number(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=DOUBLE)


BIJECTIONS = {
    "affine": lambda: Affine(number(1.0, -2.0, 0.5), number(3.0, -0.1, 2.0)),
    "standardise": lambda: Affine.standardise(5 + torch.randn(50, 3, dtype=DOUBLE)),
    "sigmoid": lambda: Sigmoid(-2.0, 5.0),
    "sigmoid with a margin": lambda: Sigmoid(0.0, 1.0, margin=0.05),
    "chain": lambda: Chain(Affine(number(0.1), number(0.5)), Sigmoid(0.0, 2.0)),
    "inverse": lambda: Inverse(Affine(number(1.0), number(4.0))),
    "empty chain": lambda: Chain(),
}


@pytest.fixture(params=list(BIJECTIONS))
def bijection(request) -> Bijection:
    torch.manual_seed(0)
    return BIJECTIONS[request.param]()


def inputs() -> torch.Tensor:
    return torch.randn(20, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))


def test_both_round_trips(bijection):
    x = inputs()
    y, log_det = bijection.forward_and_log_det(x)
    back, back_log_det = bijection.inverse_and_log_det(y)
    assert torch.allclose(back, x, atol=1e-12) and torch.allclose(log_det, -back_log_det, atol=1e-10)
    again, _ = bijection.forward_and_log_det(bijection.inverse(y))
    assert torch.allclose(again, y, atol=1e-12)


def test_log_det_is_that_of_the_jacobian(bijection):
    x = inputs()
    _, log_det = bijection.forward_and_log_det(x)
    jacobian = vmap(jacrev(lambda row: bijection.forward(row[None])[0]))(x)
    assert torch.allclose(log_det, torch.linalg.slogdet(jacobian).logabsdet, atol=1e-10)


def test_dtype_is_kept_and_values_stay_in_the_codomain(bijection):
    for dtype in (torch.float32, DOUBLE):
        y, log_det = bijection.forward_and_log_det(10 * inputs().to(dtype))
        assert y.dtype == log_det.dtype == dtype
        slack = 1e-6 if dtype == torch.float32 else 1e-12
        assert (y >= bijection.codomain.low - slack).all() and (y <= bijection.codomain.high + slack).all()


def test_preprocessing_survives_json(bijection):
    if isinstance(bijection, Inverse):
        with pytest.raises(ValueError, match="Inverse"):
            bijection_to_json(bijection)
        return
    import json

    twin = bijection_from_json(json.loads(json.dumps(bijection_to_json(bijection))))
    assert torch.equal(twin.forward(inputs()), bijection.forward(inputs()))


def test_standardise():
    x = 1e6 + 3 * torch.randn(1000, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    z = Affine.standardise(x).inverse(x)
    assert z.mean(0).abs().max() < 1e-8 and (z.std(0, unbiased=False) - 1).abs().max() < 1e-8
    images = torch.rand(10, 1, 4, 4)
    assert Affine.standardise(images, per_element=False).loc.shape == ()
    with pytest.raises(ValueError, match="constant"):
        Affine.standardise(torch.ones(5, 2))


def test_dequantise_round_trips_every_level_and_is_stochastic():
    levels = torch.arange(17.0)[:, None].repeat(1, 50)
    bijection = Chain(Affine(8.5, 8.5), Dequantise(0, 16))
    g = torch.Generator().manual_seed(0)
    inside = bijection.inverse(levels, generator=g)
    assert bijection.stochastic and not Chain(Affine(0.0, 1.0)).stochastic
    assert torch.equal(bijection.forward(inside), levels)
    assert inside.min() >= -1 and inside.max() <= 1
    assert (inside[3] != inside[3, 0]).any()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Affine(0.0, 0.0), "scale"),
        (lambda: Sigmoid(1.0, 1.0), "low"),
        (lambda: Sigmoid(0.0, 1.0, margin=0.5), "margin"),
        (lambda: Dequantise(3, 3), "low < high"),
        (lambda: Sigmoid(0.0, 1.0).inverse(torch.tensor([[2.0]])), "values in"),
    ],
)
def test_mistakes_are_refused(build, says):
    with pytest.raises(ValueError, match=says):
        build()
