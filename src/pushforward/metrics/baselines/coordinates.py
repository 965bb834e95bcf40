"""The coordinates in which baselines are fitted: columns at unit deviation, or uncorrelated."""

from __future__ import annotations

import torch
from torch import Tensor

from ...bijections import Affine, Whiten
from ...sources import Mapped, Source
from ...sources.kernels import TABLE, squared

#: A correlation matrix with an eigenvalue below this is singular to double precision.
SINGULAR = 1e-10
#: Distance from a column's median, in distances of its quartiles, beyond which a row is drawn in; and the
#: share of rows beyond it from which on they are no outliers, and the distance is that of outer twentieths.
FENCE, FEW_FAR = 10.0, 0.1

#: Rows within reach, itself among them, from which on a far row is not alone.
COMPANY = 8

#: The share by which a singular covariance is shrunk at least.
LEAST = 1e-6
#: Shares by which covariances are shrunk, folds that choose one, and columns up to which they do.
SHARES, FOLDS, MOST = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0), 5, 256


def standard(x: Tensor) -> tuple[Tensor, Affine]:
    """Rows ``(N, *event)`` as ``(N, d)`` in float64 at mean 0 and deviation 1, and the map back.

    Far rows are moved by :func:`drawn_in`.  A constant column keeps its unit.  Raises ValueError for a single
    row.
    """
    if len(x) < 2:
        raise ValueError(f"x: expected at least two rows, got {len(x)}")
    rows = x.detach().reshape(len(x), -1).double().cpu()
    near = drawn_in(rows)
    loc, scale = near.mean(0), deviations(near)
    return (rows - loc) / scale, Affine(loc, scale)


def drawn_in(rows: Tensor) -> Tensor:
    """Rows ``(N, d)`` with rows far out moved closer, so that a single one does not set the scale.

    A row more than :data:`FENCE` quartile distances from the median of a column is moved towards the medians
    until it is that far.  The whole row is moved, so linear relations of columns are kept.
    """
    some = rows[:: max(1, len(rows) // 100_000)]
    lowest, low, middle, high, highest = torch.quantile(
        some, rows.new_tensor([0.05, 0.25, 0.5, 0.75, 0.95]), 0
    )
    reach = FENCE * (high - low)
    many = ((some - middle).abs() > reach).double().mean(0) > FEW_FAR
    reach = torch.where(many, FENCE * (highest - lowest), reach)
    # a column that is mostly one value has no such distance
    reach = torch.where(reach > 0, reach, torch.inf)
    far = ((rows - middle).abs() / reach).amax(1, keepdim=True)
    return torch.where(far > 1, middle + (rows - middle) / far, rows)


def isolated(rows: Tensor) -> Tensor:
    """Which of the standardised rows ``(N, d)`` are far from the middle and from other rows, ``(N,)``.

    :func:`drawn_in` moves them, and fewer than :data:`COMPANY` rows are within :data:`FENCE` deviations a
    column.  A component of a mixture on one such row would be as narrow as rounding allows.
    """
    far = (drawn_in(rows) != rows).any(1)
    alone = far.clone()
    reach = FENCE**2 * rows.shape[1]
    for index in far.nonzero()[:, 0].split(max(1, TABLE // len(rows))):
        alone[index] = (squared(rows[index], rows) <= reach).sum(1) < COMPANY
    return alone


def deviations(rows: Tensor, weight: Tensor | None = None) -> Tensor:
    """The deviation of every column of ``(N, d)``; 1 for a constant one."""
    # squares of numbers beyond 1e154 or below 1e-162 have no place in a double; powers of two round nothing
    _, power = rows.abs().amax(0).frexp()
    near = rows.ldexp(-power)
    scale = _mean((near - _mean(near, weight)).square(), weight).sqrt().ldexp(power)
    # the rounding of the mean is no deviation
    return torch.where(scale > 1e-12 * rows.abs().amax(0), scale, 1.0)


def in_units(source: Source, units: Affine) -> Source:
    """``source`` of standardised events in the units of the data, with its note."""
    event = source.event_shape
    mapped = Mapped(source, Affine(units.loc.reshape(event), units.scale.reshape(event)))
    mapped.note = source.note
    return mapped


def shrunk_covariance(z: Tensor, weight: Tensor | None = None) -> tuple[Tensor, float]:
    """The shrunk covariance of rows ``(N, d)`` at about unit scale, and the share by which it is shrunk.

    (1 - a) S + a v I, with the share a and the variance v, 1 or tr(S) / d, under which rows left out, a fifth
    at a time, have the highest Gaussian likelihood (Hoffbeck & Landgrebe 1996, doi 10.1109/34.506799).  The
    share of least squared error of the matrix (Ledoit & Wolf 2004, doi 10.1016/S0047-259X(03)00096-4) would
    dominate its smallest eigenvalues; it is fast, and is used beyond :data:`MOST` columns.
    """
    n, d = z.shape
    second = _second(z, weight)[1]
    share, aim = float(d > 1), second.trace() / d
    if d > MOST:
        from sklearn.covariance import ledoit_wolf_shrinkage

        share = float(ledoit_wolf_shrinkage((z - _mean(z, weight)).numpy(), assume_centered=True))
    elif d > 1 and n > 2 * FOLDS:
        share, unit = _likeliest(z, weight)
        aim = torch.ones_like(aim) if unit else aim
    if share < LEAST and is_singular(second):
        share = LEAST
    return (1 - share) * second + (share * aim + SINGULAR) * torch.eye(d, dtype=z.dtype), share


def _second(z: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and covariance of rows."""
    mean = _mean(z, weight)
    z = z - mean
    return mean, (z.T / len(z) if weight is None else z.T * (weight / weight.sum())) @ z


def _likeliest(z: Tensor, weight: Tensor | None) -> tuple[float, bool]:
    """The one of :data:`SHARES` with the highest likelihood of rows left out, and whether v is 1."""
    shares = torch.tensor(SHARES, dtype=z.dtype)[:, None]
    score = torch.zeros(2, len(shares), dtype=z.dtype)
    fold = torch.arange(len(z)) % FOLDS
    for k in range(FOLDS):
        held, rest = fold == k, fold != k
        mean, second = _second(z[rest], None if weight is None else weight[rest])
        values, axes = torch.linalg.eigh(second)
        squares = ((z[held] - mean) @ axes).square()
        mass = torch.ones_like(squares[:, 0]) if weight is None else weight[held]
        squares = (mass[:, None] * squares).sum(0)
        for number, aim in enumerate((values.mean(), 1.0)):
            # the variances along the axes, (shares, d)
            shrunk = (1 - shares) * values.clamp(min=0) + shares * aim + SINGULAR
            score[number] -= 0.5 * (mass.sum() * shrunk.log() + squares / shrunk).sum(1)
    best = int(score.argmax())
    return SHARES[best % len(SHARES)], best >= len(SHARES)


def _mean(z: Tensor, weight: Tensor | None) -> Tensor:
    return z.mean(0) if weight is None else (weight[:, None] * z).sum(0) / weight.sum()


def whitened(z: Tensor) -> tuple[Tensor, Whiten]:
    """Rows ``(N, d)`` with (nearly) uncorrelated columns of deviation 1, without far rows, and the map."""
    near = drawn_in(z)
    whiten = Whiten(near.mean(0), shrunk_covariance(near)[0])
    return whiten.inverse(z), whiten


def is_singular(covariance: Tensor) -> bool:
    """Whether a covariance of standardised rows has a direction of variance 0."""
    return bool(
        torch.linalg.eigvalsh(covariance)[0]
        < SINGULAR * max(1.0, float(covariance.trace()) / len(covariance))
    )
