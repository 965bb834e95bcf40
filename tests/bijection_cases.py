"""Every bijection by name, for the test of their contract: a new one is one line of CASES."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.distributions.transforms import SoftplusTransform
from torch.func import jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pushforward.bijections import (
    ActNorm,
    Affine,
    Autoregressive,
    Bijection,
    Blur,
    Chain,
    Conditional,
    CouplingLayer,
    Dequantise,
    Elementwise,
    Haar,
    Inverse,
    InvertibleConv1x1,
    LULinear,
    MultiScale,
    Orthogonal,
    Permutation,
    PiecewiseLinear,
    Planar,
    Radial,
    Residual,
    Reverse,
    Sigmoid,
    Squeeze,
    Surjection,
    Sylvester,
    TransformerAutoregressive,
    Whiten,
    from_torch,
)
from pushforward.bijections.monotone import (
    CircularSpline,
    Monotone,
    MonotoneNetwork,
    RationalQuadratic,
    ScaleShift,
    Shift,
)
from pushforward.nn import LipschitzPerceptron, MaskedPerceptron, Perceptron
from pushforward.nn.causal import CausalTransformer

DOUBLE = torch.float64

FAMILIES: dict[str, Callable[[], Monotone]] = {
    "shift": Shift,
    "scale and shift": ScaleShift,
    "spline": partial(RationalQuadratic, bins=5),
    "circular spline": partial(CircularSpline, bins=5),
    "monotone network": partial(MonotoneNetwork, steps=4),
}

#: what conditions the conditional cases: one of three labels
LABELS = 3
perceptron = partial(Perceptron, width=8, depth=1)
masked = partial(MaskedPerceptron, width=8, depth=1)
transformer = partial(CausalTransformer, width=8, depth=1, heads=2)


@dataclass(frozen=True)
class Case:
    """build: for events of ``event``, or where that is None for vectors of any number of elements.

    reach: how far out inputs go on the line; where the codomain has an end floating point meets it early.
    magnitude: the largest number inside a layer that does not shrink with x and y: knots and centres.  Its
        rounding counts as that of x and y does, which for points near 0 is more than theirs.
    single: one layer, whose error is bounded by its own Jacobian.
    jumps: whether densities jump, which a coarse grid does not integrate.
    """

    build: Callable[[int], Bijection]
    event: tuple[int, ...] | None = None
    scales: tuple[float, ...] = (0.1, 1.0, 5.0)
    conditional: bool = False
    single: bool = True
    reach: float = 1000.0
    magnitude: float = 0.0
    jumps: bool = False

    def new(self, dim: int = 3, seed: int = 0) -> Bijection:
        torch.manual_seed(seed)
        return self.build(dim)

    def shape(self, dim: int = 3) -> tuple[int, ...]:
        return self.event or (dim,)


def every_other(dim: int) -> Tensor:
    return torch.arange(dim) % 2 == 1


def vector(*values: float) -> Callable[[int], Tensor]:
    return lambda dim: torch.tensor(values, dtype=DOUBLE)[:dim]


def covariance(dim: int) -> Tensor:
    return torch.tensor([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 0.2]], dtype=DOUBLE)[:dim, :dim]


#: noises of parameters for what has none
NONE = (0.0,)

CASES: dict[str, Case] = {
    "affine": Case(lambda d: Affine(vector(1.0, -2.0, 0.5)(d), vector(3.0, -0.1, 2.0)(d)), scales=NONE),
    "whiten": Case(lambda d: Whiten(vector(1.0, -2.0, 0.5)(d), covariance(d)), scales=NONE),
    "sigmoid": Case(lambda d: Sigmoid(-2.0, 5.0, margin=0.05), scales=NONE, reach=8.0),
    "piecewise linear": Case(
        lambda d: PiecewiseLinear(
            torch.tensor([-2.0, -0.5, 1.0, 3.0], dtype=DOUBLE),
            torch.tensor([-4.0, -1.0, 0.2, 5.0], dtype=DOUBLE),
        ),
        scales=NONE,
        magnitude=5.0,
        jumps=True,
    ),
    "permutation": Case(lambda d: Permutation(torch.arange(d).roll(1)), scales=NONE),
    "reverse": Case(lambda d: Reverse(), scales=NONE),
    "orthogonal": Case(Orthogonal),
    "orthogonal, odd": Case(lambda d: Orthogonal(d, reflections=3)),
    "lu": Case(lambda d: LULinear(d, order=torch.arange(d).roll(1))),
    "planar": Case(Planar),
    "radial": Case(Radial),
    "sylvester": Case(lambda d: Sylvester(d, rank=2)),
    "residual": Case(lambda d: Residual(LipschitzPerceptron(d, width=8))),
    "actnorm": Case(ActNorm),
    "actnorm of images": Case(lambda d: ActNorm(2), (2, 4, 4)),
    "invertible convolution": Case(lambda d: InvertibleConv1x1(3), (3, 2, 2)),
    "squeeze": Case(lambda d: Squeeze(2), (2, 4, 4), scales=NONE),
    "haar": Case(lambda d: Haar(), (2, 4, 4), scales=NONE),
    "tarflow": Case(lambda d: TransformerAutoregressive((4, 2, 2), transformer), (4, 2, 2)),
    "multiscale": Case(
        lambda d: MultiScale([Chain(Squeeze(2), ActNorm(4)), Chain(Squeeze(2), ActNorm(8))], (1, 4, 4)),
        (1, 4, 4),
        single=False,
    ),
    "torch's softplus": Case(lambda d: from_torch(SoftplusTransform()), scales=NONE, reach=8.0),
    "chain": Case(
        lambda d: Chain(Elementwise(d), Reverse(), LULinear(d), Planar(d), Inverse(Radial(d))), single=False
    ),
    "inverse": Case(
        lambda d: Inverse(CouplingLayer(every_other(d), ScaleShift(), perceptron)),
    ),
}
for _name, _family in FAMILIES.items():
    _size = 5.0 if "spline" in _name else 0.0
    CASES |= {
        f"elementwise {_name}": Case(
            lambda d, f=_family: Elementwise(d, f()), scales=(0.1, 1.0, 5.0, 20.0), magnitude=_size
        ),
        f"coupling, {_name}": Case(
            lambda d, f=_family: CouplingLayer(every_other(d), f(), perceptron), magnitude=_size
        ),
        f"autoregressive, {_name}": Case(
            lambda d, f=_family: Autoregressive(d, f(), masked), magnitude=_size
        ),
    }
CASES |= {
    "coupling given labels": Case(
        lambda d: CouplingLayer(every_other(d), ScaleShift(), partial(perceptron, condition=LABELS)),
        conditional=True,
    ),
    "autoregressive given labels": Case(
        lambda d: Autoregressive(d, RationalQuadratic(5), partial(masked, condition=LABELS)),
        conditional=True,
        magnitude=5.0,
    ),
    "residual given labels": Case(
        lambda d: Residual(LipschitzPerceptron(d, LABELS, width=8)), conditional=True
    ),
}
for _name in (
    "elementwise spline",
    "elementwise monotone network",
    "lu",
    "planar",
    "radial",
    "sylvester",
):
    CASES[f"{_name} given labels"] = Case(
        lambda d, b=CASES[_name].build: Conditional(b(d), partial(perceptron, condition=LABELS)),
        scales=(1.0,),
        conditional=True,
        magnitude=CASES[_name].magnitude,
    )


#: what draws noise, for the part of the contract that holds of it
SURJECTIONS: dict[str, Callable[[], Surjection]] = {
    "blur": lambda: Blur(0.5),
    "dequantise": lambda: Dequantise(low=-8.0, high=8.0),
}


def perturbed(case: Case, scale: float, dim: int = 3, seed: int = 0, fixed: bool = False) -> Bijection:
    """The case in float64 with N(0, ``scale``^2) added to every parameter.

    ``fixed``: the conditioners of its layers then give the same numbers whatever they are given.
    """
    bijection = case.new(dim, seed).double()
    g = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in bijection.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=g, dtype=DOUBLE)
        if fixed:
            for layer in bijection.modules():
                if isinstance(
                    layer, CouplingLayer | Autoregressive | TransformerAutoregressive | Conditional
                ):
                    last = [m for m in layer.network.modules() if isinstance(m, nn.Linear)][-1]
                    last.weight.zero_()
    return bijection


def labels(case: Case, rows: int) -> Tensor | None:
    return torch.arange(rows) % LABELS if case.conditional else None


def inputs(
    bijection: Bijection, shape: tuple[int, ...], rows: int = 24, reach: float = 1000.0, inverse: bool = False
) -> Tensor:
    """Points of the domain, or of the codomain: near 0, moderate, out to ``reach``; and special ones."""
    g = torch.Generator().manual_seed(rows)
    domain = bijection.codomain if inverse else bijection.domain
    third = -(-rows // 3)
    u = torch.rand(3 * third, *shape, generator=g, dtype=DOUBLE)
    if math.isfinite(domain.low) and math.isfinite(domain.high):
        return (domain.low + (domain.high - domain.low) * (0.001 + 0.998 * u))[:rows]
    if math.isfinite(domain.low):
        return (domain.low + 0.01 + reach * u.square())[:rows]
    wide = 2 * u - 1
    spans = torch.tensor([2.0, min(reach, 8.0), reach], dtype=DOUBLE).repeat_interleave(third)
    x = wide * spans.reshape(-1, *[1] * len(shape))
    # ends and knots of splines, centres, and the far ends themselves
    for row, value in enumerate((0.0, 5.0, -5.0, reach, -reach)):
        x[row] = value
    return x[:rows]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=gen(seed))


Module = TypeVar("Module", bound=nn.Module)


def noisy(module: Module, scale: float = 1.0) -> Module:
    module = module.double()
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += scale * draws(*parameter.shape, seed=i)
    return module


EACH = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])


def at_noise(*wanted: float, where: Callable[[Case], bool] = lambda case: True) -> pytest.MarkDecorator:
    """Every case with noise of each of its scales, or of those ``wanted``, in its parameters."""
    rows = [
        pytest.param(case, scale, id=f"{name}, noise {scale:g}")
        for name, case in CASES.items()
        if where(case)
        for scale in case.scales
        if not wanted or scale in (0, *wanted)
    ]
    return pytest.mark.parametrize(("case", "scale"), rows)


def way(bijection: Bijection, inverse: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    return bijection.inverse_and_log_det if inverse else bijection.forward_and_log_det


def by_row(bijection: Bijection, inverse: bool, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same rows one by one, under ``vmap``."""

    def one(row: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        y, log_det = way(bijection, inverse)(row[None], None if label is None else label[None])
        return y[0], log_det[0]

    with sdpa_kernel(SDPBackend.MATH):  # vmap has no rule for the others
        return vmap(one, in_dims=(0, None if c is None else 0))(x, c)


def jacobians(bijection: Bijection, inverse: bool, x: Tensor, c: Tensor | None) -> Tensor:
    """``(B, outputs, inputs)`` by autograd."""

    def one(row: Tensor, label: Tensor | None) -> Tensor:
        return way(bijection, inverse)(row[None], None if label is None else label[None])[0].flatten()

    with sdpa_kernel(SDPBackend.MATH):
        jacobian = vmap(jacrev(one), in_dims=(0, None if c is None else 0))(x, c)
    return jacobian.flatten(2)


def apart(a: Tensor, b: Tensor, bijection: Bijection) -> Tensor:
    """|a - b|, around the circle where the bijection is one of circles."""
    gap = (a.double() - b.double()).abs()
    circle = bijection.domain.low == -math.pi and bijection.domain.high == math.pi
    return torch.minimum(gap, (2 * math.pi - gap).abs()) if circle else gap


def allowed(start: Tensor, image: Tensor, back: Tensor, magnitude: float) -> Tensor:
    """100 epsilons times |start| + |d start / d image| |image|; ``magnitude`` counts with both."""
    spread = back.abs() @ (image.double().abs().flatten(1) + magnitude)[..., None]
    size = start.double().abs() + magnitude + spread.reshape(start.shape)
    return 100 * torch.finfo(start.dtype).eps * size
