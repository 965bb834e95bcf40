"""Two-dimensional distributions for experiments, sampled exactly, with their formulas.

Every function draws ``n`` independent points, ``(n, 2)``, of ``dtype`` (default: torch's).  Distributions
that are mixtures take ``label`` ``(n,)``, the component of every row, and then draw from that component;
without it components are drawn uniformly.  ``noise`` is the deviation of an independent N(0, noise^2 I) that
is added.  All raise ValueError for ``n`` below 1, a negative noise and labels that do not exist.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import random
from ..tensors import to_tensor
from .text import is_whole

__all__ = [
    "LABELS",
    "checkerboard",
    "circles",
    "draw_labels",
    "eight_gaussians",
    "gaussian",
    "moons",
    "pinwheel",
    "scurve",
    "spirals",
    "swissroll",
]

#: How many components each of the labelled distributions has, by the name of its function.
LABELS = {"moons": 2, "eight_gaussians": 8, "circles": 2, "pinwheel": 5, "spirals": 2}


def draw_labels(
    n: int, classes: int, generator: torch.Generator | None = None, label: Tensor | None = None
) -> Tensor:
    """Uniform labels ``(n,)`` in 0..classes-1, or ``label`` itself once checked."""
    _check_count(n)
    if label is None:
        return (classes * random.uniform((n,), generator, torch.float64)).long()
    label = to_tensor(label, "label")
    if label.shape != (n,) or label.is_floating_point():
        raise ValueError(f"label: expected {n} integers, got shape {tuple(label.shape)} of {label.dtype}")
    if bool(((label < 0) | (label >= classes)).any()):
        raise ValueError(f"label: expected integers in 0..{classes - 1}")
    return label


def _check_count(n: int, dtype: torch.dtype | None = None) -> None:
    if not is_whole(n) or n < 1:
        raise ValueError(f"n: expected at least one row, got {n!r}")
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype: expected a floating dtype, got {dtype}")


def _uniform(n: int, generator: torch.Generator | None, dtype: torch.dtype | None) -> Tensor:
    _check_count(n, dtype)
    return random.uniform((n,), generator, dtype)


def _blur(x: Tensor, noise: float, generator: torch.Generator | None) -> Tensor:
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise: expected a number of at least 0, got {noise}")
    return x + noise * random.normal(x.shape, generator, x.dtype, x.device)


def moons(
    n: int,
    noise: float = 0.05,
    label: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Two half circles that interlock.

    With a ~ U[0, pi]: label 0 is (cos a, sin a), label 1 is (1 - cos a, 1/2 - sin a).

    Mean (1/2, 1/4); covariance [[3/4, c], [c, v]] + noise^2 I with c = (1/2 - 4/pi) / 4 and
    v = 1/2 - 4/pi^2 + (4/pi - 1/2)^2 / 4.

    >>> moons(5).shape
    torch.Size([5, 2])
    """
    y = draw_labels(n, 2, generator, label)
    angle = math.pi * _uniform(n, generator, dtype)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    inner = torch.stack([1 - x[:, 0], 0.5 - x[:, 1]], 1)
    return _blur(torch.where(y[:, None].to(x.device) == 1, inner, x), noise, generator)


def eight_gaussians(
    n: int,
    noise: float = 0.5,
    radius: float = 5.0,
    label: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Eight normal distributions on a circle: label k is N(radius (cos(k pi/4), sin(k pi/4)), noise^2 I).

    Mean 0; covariance (radius^2 / 2 + noise^2) I.

    >>> eight_gaussians(5, label=torch.zeros(5, dtype=torch.long), noise=0.0)[0]
    tensor([5., 0.])
    """
    _check_count(n, dtype)
    y = draw_labels(n, 8, generator, label)
    angle = (math.pi / 4) * y.to(dtype or torch.get_default_dtype())
    return _blur(radius * torch.stack([angle.cos(), angle.sin()], 1), noise, generator)


def circles(
    n: int,
    noise: float = 0.05,
    factor: float = 0.5,
    label: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Two rings around the origin: label 0 has radius 1, label 1 has radius ``factor``.

    Mean 0; covariance ((1 + factor^2) / 4 + noise^2) I.

    >>> circles(5, noise=0.0, label=torch.ones(5, dtype=torch.long)).norm(dim=1)
    tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000])
    """
    y = draw_labels(n, 2, generator, label)
    angle = 2 * math.pi * _uniform(n, generator, dtype)
    radius = torch.where(y.to(angle.device) == 1, factor, 1.0).to(angle)
    return _blur(radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1), noise, generator)


def checkerboard(
    n: int, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Uniform on the eight squares of side 2 in [-4, 4]^2 whose column and row add to an even number.

    Density 1/32 there, 0 elsewhere.  Mean 0; variances 16/3; covariance 1.

    >>> bool((checkerboard(100).abs() <= 4).all())
    True
    """
    column = (4 * _uniform(n, generator, dtype)).floor()
    row = 2 * (2 * _uniform(n, generator, dtype)).floor() + column % 2
    corner = 2 * torch.stack([column, row], 1) - 4
    return corner + 2 * random.uniform((n, 2), generator, corner.dtype)


def pinwheel(
    n: int,
    noise: float = 0.1,
    spread: float = 0.3,
    label: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Five bent arms (Johnson et al. 2016, arXiv 1603.06277).

    With r ~ N(1, spread^2) and s ~ N(0, noise^2): label k is 2 (r, s) turned by 2 pi k / 5 + exp(r) / 4.
    Here ``noise`` lies across the arm.

    Mean 0; covariance 2 (1 + spread^2 + noise^2) I.

    >>> pinwheel(5).shape
    torch.Size([5, 2])
    """
    if not (0 <= noise < math.inf and 0 <= spread < math.inf):
        raise ValueError(f"noise, spread: expected numbers of at least 0, got {noise} and {spread}")
    y = draw_labels(n, 5, generator, label)
    _check_count(n, dtype)
    z = random.normal((n, 2), generator, dtype)
    r, s = 1 + spread * z[:, 0], noise * z[:, 1]
    angle = (2 * math.pi / 5) * y.to(r) + 0.25 * r.exp()
    return 2 * torch.stack([r * angle.cos() - s * angle.sin(), r * angle.sin() + s * angle.cos()], 1)


def spirals(
    n: int,
    noise: float = 0.1,
    label: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Two spiral arms: label 0 is a (cos a, sin a) / 3 with a = 3 pi sqrt(U[0, 1]), label 1 its mirror at 0.

    The root spreads points evenly along the arm.  Mean 0; with T = 3 pi, variances (T^2 +- 3) / 36 + noise^2
    and covariance (3 / (4 T) - T / 2) / 9.

    >>> spirals(5).shape
    torch.Size([5, 2])
    """
    y = draw_labels(n, 2, generator, label)
    a = 3 * math.pi * _uniform(n, generator, dtype).sqrt()
    sign = 1 - 2 * y.to(a)
    return _blur((sign * a / 3)[:, None] * torch.stack([a.cos(), a.sin()], 1), noise, generator)


def swissroll(
    n: int,
    noise: float = 0.1,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A spiral from the side of a Swiss roll: a (cos a, sin a) / 5 with a ~ U[3 pi / 2, 9 pi / 2].

    Mean (2/5, 2 / (15 pi)); E[x^2], E[y^2] = (39 pi^2 / 8 -+ 1/4) / 25 + noise^2; E[x y] = 3 pi / 50.

    >>> swissroll(5).shape
    torch.Size([5, 2])
    """
    a = 1.5 * math.pi * (1 + 2 * _uniform(n, generator, dtype))
    return _blur((a / 5)[:, None] * torch.stack([a.cos(), a.sin()], 1), noise, generator)


def scurve(
    n: int,
    noise: float = 0.05,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The letter S: (sin a, sign(a) (cos a - 1)) with a ~ U[-3 pi / 2, 3 pi / 2].

    Mean 0; covariance [[1/2, c], [c, 3/2 + 4 / (3 pi)]] + noise^2 I with c = -1 / (3 pi).

    >>> scurve(5).shape
    torch.Size([5, 2])
    """
    a = 3 * math.pi * (_uniform(n, generator, dtype) - 0.5)
    return _blur(torch.stack([a.sin(), a.sign() * (a.cos() - 1)], 1), noise, generator)


def gaussian(
    n: int,
    correlation: float = 0.8,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """One normal distribution with mean (1, -1), unit variances and ``correlation``.

    Raises ValueError for a correlation outside (-1, 1).

    >>> gaussian(5).shape
    torch.Size([5, 2])
    """
    if not -1 < correlation < 1:
        raise ValueError(f"correlation: expected a number in (-1, 1), got {correlation}")
    _check_count(n, dtype)
    z = random.normal((n, 2), generator, dtype)
    second = correlation * z[:, 0] + math.sqrt(1 - correlation**2) * z[:, 1]
    return torch.stack([1 + z[:, 0], second - 1], 1)
