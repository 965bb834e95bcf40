"""The coordinates in which baselines are fitted: columns at unit deviation, or uncorrelated."""

from __future__ import annotations

import torch
from torch import Tensor

from ...bijections import Affine, Whiten
from ...sources import Mapped, Source

#: A correlation matrix with an eigenvalue below this is singular to double precision.
SINGULAR = 1e-10


def standard(x: Tensor) -> tuple[Tensor, Affine]:
    """Rows ``(N, *event)`` as ``(N, d)`` in float64 at mean 0 and deviation 1, and the map back.

    A constant column keeps its unit.  Raises ValueError for fewer than two rows.
    """
    if len(x) < 2:
        raise ValueError(f"x: expected at least two rows, got {len(x)}")
    rows = x.detach().reshape(len(x), -1).double().cpu()
    loc = rows.mean(0)
    scale = (rows - loc).square().mean(0).sqrt()
    # the rounding of the mean is no deviation
    scale = torch.where(scale > 1e-12 * rows.abs().amax(0), scale, 1.0)
    return (rows - loc) / scale, Affine(loc, scale)


def in_units(source: Source, units: Affine) -> Source:
    """``source`` of standardised events in the units of the data, with its note."""
    event = source.event_shape
    mapped = Mapped(source, Affine(units.loc.reshape(event), units.scale.reshape(event)))
    mapped.note = source.note
    return mapped


def shrunk_covariance(z: Tensor, weight: Tensor | None = None) -> tuple[Tensor, float]:
    """The covariance of rows ``(N, d)`` shrunk towards its mean variance, and by which share.

    The share is that of Ledoit & Wolf 2004, doi 10.1016/S0047-259X(03)00096-4, which makes the squared error
    least; it is 0 in one dimension.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    n, d = z.shape
    z = z - _mean(z, weight)
    second = (z.T if weight is None else z.T * (weight / weight.sum() * n)) @ z / n
    share = float(ledoit_wolf_shrinkage(z.numpy(), assume_centered=True)) if n > 1 and d > 1 else 0.0
    eye = torch.eye(d, dtype=z.dtype)
    return (1 - share) * second + (share * second.trace() / d + SINGULAR) * eye, share


def _mean(z: Tensor, weight: Tensor | None) -> Tensor:
    return z.mean(0) if weight is None else (weight[:, None] * z).sum(0) / weight.sum()


def whitened(z: Tensor) -> tuple[Tensor, Whiten]:
    """Rows ``(N, d)`` with (nearly) uncorrelated columns of deviation 1, and the map back."""
    law = Whiten(z.mean(0), shrunk_covariance(z)[0])
    return law.inverse(z), law


def is_singular(covariance: Tensor) -> bool:
    """Whether a covariance of standardised rows has a direction without spread."""
    return bool(
        torch.linalg.eigvalsh(covariance)[0]
        < SINGULAR * max(1.0, float(covariance.trace()) / len(covariance))
    )
