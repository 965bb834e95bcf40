"""Ends of intervals, numbers far from 1, and what a bijection must refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions.transforms import ExpTransform

from bijection_cases import CASES, DOUBLE, Case, inputs, labels, perturbed
from narrowing import wrong
from pushforward.bijections import (
    ActNorm,
    Affine,
    Autoregressive,
    Chain,
    CouplingLayer,
    Dequantise,
    Elementwise,
    Inverse,
    InverseFailed,
    MultiScale,
    Permutation,
    PiecewiseLinear,
    Planar,
    Radial,
    Residual,
    Sigmoid,
    Squeeze,
    Sylvester,
    TransformerAutoregressive,
    Whiten,
    from_torch,
    to_torch,
)
from pushforward.bijections.monotone import CircularSpline, MonotoneNetwork, RationalQuadratic, ScaleShift
from pushforward.nn import (
    MLP,
    CausalTransformer,
    ConditionEmbedding,
    ConvConditioner,
    FourierFeatures,
    LipschitzPerceptron,
    MaskedPerceptron,
    Perceptron,
    ResidualMLP,
    TimeEmbedding,
)

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
SIGMOIDS = {
    "unit": (0.0, 1.0, 0.0),
    "with a margin": (0.0, 1.0, 0.05),
    "pixels": (0.0, 256.0, 0.05),
    "off centre": (-2.0, 5.0, 0.0),
    "narrow": (0.0, 0.1, 0.0),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SIGMOIDS)
def test_round_trips_at_the_ends_of_an_interval_are_finite(name: str, dtype: torch.dtype) -> None:
    sigmoid = Sigmoid(*SIGMOIDS[name])
    low, high = sigmoid.codomain.low, sigmoid.codomain.high
    x = torch.tensor([[-1e4], [-90.0], [-20.0], [0.0], [20.0], [90.0], [1e4]], dtype=dtype)
    y, _ = sigmoid.forward_and_log_det(x)
    ends = torch.tensor([[low], [high]], dtype=dtype)
    for image in (y, ends):
        image.requires_grad_()
        back, log_det = sigmoid.inverse_and_log_det(image)
        assert back.isfinite().all() and log_det.isfinite().all() and back.diff(dim=0).min() >= 0
        (gradient,) = torch.autograd.grad(back.sum() + log_det.sum(), image)
        assert gradient.isfinite().all()
    # each comes back as what has the same image, up to the last digit of the interval's ends
    again = sigmoid.forward(sigmoid.inverse(y))
    assert (again - y).abs().max() <= 2 * torch.finfo(dtype).eps * max(abs(low), abs(high))
    for beyond in (low - 0.1, high + 0.1, math.nan):
        with pytest.raises(ValueError, match="expected values in"):
            sigmoid.inverse(torch.full((1, 1), beyond, dtype=torch.float64))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dequantised_levels_come_back_to_the_bit(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    # 2^24 draws a level would meet rounding to the next one in float32; bytes in bfloat16 meet it at once
    levels = torch.arange(256).to(dtype).expand(200, 256)
    surjection = Dequantise(0, 255)
    x = surjection.inverse(levels, generator=g)
    assert torch.equal(surjection.forward(x), levels) and (x < 256).all()
    near = torch.full((1, 1), 2.0**23, dtype=torch.float32)  # where numbers lie one apart
    far = Dequantise(0, 2.0**24)
    for seed in range(20):
        assert torch.equal(
            far.forward(far.inverse(near, generator=torch.Generator().manual_seed(seed))), near
        )


def test_bytes_are_dequantised() -> None:
    levels = torch.arange(256, dtype=torch.uint8).expand(3, 256)
    chain = Chain(Sigmoid(0, 256, margin=0.05), Dequantise(0, 255))
    x, log_det = chain.inverse_and_log_det(levels, generator=torch.Generator().manual_seed(0))
    assert x.dtype == log_det.dtype == torch.float32 and x.isfinite().all()
    assert torch.equal(chain.forward(x), levels.float())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_angles_at_the_seam_of_a_circle_come_back(dtype: torch.dtype) -> None:
    spline = Elementwise(1, CircularSpline(4))
    torch.nn.init.normal_(spline.parameters_of_elements, generator=torch.Generator().manual_seed(0))
    spline = spline.to(dtype)
    x = torch.tensor([[-math.pi], [-3.0], [0.0], [3.0], [math.pi]], dtype=dtype)
    gap = (spline.inverse(spline.forward(x)) - x).abs()
    # slopes are between 0.2 and 5 here
    assert torch.minimum(gap, (2 * math.pi - gap).abs()).max() <= 50 * torch.finfo(dtype).eps


def test_columns_of_very_large_and_very_small_numbers() -> None:
    unit = torch.randn(500, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([1e200, 1e-200, 1.0], dtype=DOUBLE)
    x = (unit + 3) * sizes
    affine = Affine.standardise(x)
    z, log_det = affine.inverse_and_log_det(x)
    assert torch.allclose(z.mean(0), torch.zeros(3, dtype=DOUBLE), atol=1e-12)
    assert torch.allclose(z.std(0, correction=0), torch.ones(3, dtype=DOUBLE), rtol=1e-12)
    assert torch.allclose(log_det, -unit.std(0, correction=0).log().sum().expand(500), rtol=1e-10)
    assert torch.allclose(affine.forward(z) / x, torch.ones_like(x), rtol=1e-12)
    # covariances are squares: 1e150 is as far as they reach
    scale = torch.tensor([1e150, 1e-150], dtype=DOUBLE)
    whiten = Whiten(scale, torch.outer(scale, scale) * torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=DOUBLE))
    z, log_det = whiten.inverse_and_log_det(unit[:, :2] * scale)
    assert z.isfinite().all() and torch.allclose(log_det, torch.tensor(-0.5 * math.log(0.75)).double())
    assert torch.allclose(whiten.forward(z) / scale, unit[:, :2], atol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_what_is_not_finite_is_refused_or_shows(case: Case, bad: float) -> None:
    # an image or a log-determinant that is not finite either, or an error
    bijection = perturbed(case, case.scales[-1])
    shape = bijection.event_shape(case.shape())
    for inverse, given in ((False, case.shape()), (True, shape)):
        x = inputs(bijection, given, rows=8, reach=2.0, inverse=inverse)[6:].clone()
        x.flatten(1)[1, 0] = bad
        carry = bijection.inverse_and_log_det if inverse else bijection.forward_and_log_det
        try:
            with torch.no_grad():
                y, log_det = carry(x, labels(case, 2))
        except (InverseFailed, ValueError):
            continue
        assert not (y[1].isfinite().all() and log_det[1].isfinite()), inverse
        assert y[0].isfinite().all() and log_det[0].isfinite()


REFUSED = {
    "low and high": lambda: Sigmoid(1.0, 1.0),
    "an infinite end": lambda: Sigmoid(0.0, math.inf),
    "margin": lambda: Sigmoid(margin=0.5),
    "levels": lambda: Dequantise(1.0, 0.0),
    "step": lambda: Dequantise(step=0.0),
    "an infinite scale": lambda: Affine(0.0, math.inf),
    "a scale of zero": lambda: Affine(0.0, torch.tensor([1.0, 0.0])),
    "loc": lambda: Affine(math.nan, 1.0),
    "shapes": lambda: Affine(torch.zeros(3), torch.ones(2)),
    "a constant column": lambda: Affine.standardise(torch.tensor([[1.0, 2.0], [2.0, 2.0]])),
    "no rows": lambda: Affine.standardise(torch.zeros(0, 2)),
    "an infinite row": lambda: Affine.standardise(torch.tensor([[1.0], [math.inf]])),
    "an infinite covariance": lambda: Whiten(torch.zeros(1), torch.tensor([[math.inf]])),
    "a covariance of one side": lambda: Whiten(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]])),
    "a negative variance": lambda: Whiten(torch.zeros(1), torch.tensor([[-1.0]])),
    "no sizes": lambda: Elementwise(0),
    "a negative size": lambda: Elementwise((2, -1)),
    "half a channel": lambda: ActNorm(wrong(2.5)),
    "a boolean for a size": lambda: Squeeze(True),
    "text for a size": lambda: Planar(wrong("3")),
    "nothing for a size": lambda: Radial(wrong(None)),
    "too many of a rank": lambda: Sylvester(2, 3),
    "half a bin": lambda: RationalQuadratic(wrong(2.5)),
    "too many bins": lambda: RationalQuadratic(1000),
    "an infinite bound": lambda: RationalQuadratic(8, math.inf),
    "half a step": lambda: MonotoneNetwork(wrong(2.5)),
    "half a term": lambda: Residual(LipschitzPerceptron(2), wrong(1.5)),
    "no monotone map": lambda: Autoregressive(2, wrong("spline"), MaskedPerceptron),
    "a boolean for dim": lambda: Autoregressive(True, ScaleShift(), MaskedPerceptron),
    "places for a mask": lambda: CouplingLayer(wrong([0, 2]), ScaleShift(), Perceptron),
    "a mask of two dimensions": lambda: CouplingLayer(wrong([[True, False]]), ScaleShift(), Perceptron),
    "an order with a gap": lambda: Permutation([0, 2]),
    "an order of numbers": lambda: Permutation(torch.tensor([0.0, 1.0])),
    "an order of nothing": lambda: Permutation([]),
    "a list for links": lambda: Chain(wrong([Affine(0.0, 1.0)])),
    "a transform for a link": lambda: Chain(wrong(ExpTransform())),
    "nothing to invert": lambda: Inverse(wrong(None)),
    "a function for a transform": lambda: from_torch(wrong(torch.exp)),
    "a transform for a bijection": lambda: to_torch(wrong(ExpTransform())),
    "one level for several": lambda: MultiScale(wrong(Squeeze(2)), (1, 4, 4)),
    "a number for an event": lambda: TransformerAutoregressive(wrong(2.5), CausalTransformer),
    "an infinite knot": lambda: PiecewiseLinear(torch.tensor([0.0, math.inf]), torch.tensor([0.0, 1.0])),
    "no level": lambda: PiecewiseLinear.of_levels(torch.tensor([0.0, 9.0]), 0, 3),
    "a step of no size": lambda: PiecewiseLinear.of_levels(torch.tensor([0.0]), 0, 3, 0.0),
    "no features": lambda: TimeEmbedding(8, features=0),
    "a dimension of zero": lambda: FourierFeatures(0, 2),
    "an embedding of no width": lambda: ConditionEmbedding(3, 0),
    "a half label": lambda: ConditionEmbedding(wrong({"kind": 2.5}), 8),
    "a negative shape": lambda: MLP(2, condition=(-1, -2)),
    "one side of an image": lambda: ConvConditioner(2, 2, wrong(3)),
    "text for a shape": lambda: MLP(wrong("ab")),
    "an order of some": lambda: MaskedPerceptron(3, 2, order=wrong([0, 1])),
    "a rate of one": lambda: ResidualMLP(2, dropout=1.0),
    "text for a rate": lambda: CausalTransformer(3, 2, 2, width=16, dropout=wrong("a")),
    "no activation": lambda: MLP(2, activation=wrong(None)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z_, ]+: ") as caught:
        REFUSED[name]()
    assert "\n" not in str(caught.value)
