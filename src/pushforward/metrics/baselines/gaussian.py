"""The Gaussian baseline, with any condition."""

from __future__ import annotations

import torch
from torch import Tensor

from ...sources import GaussianMixture, LinearShift, Source
from ...sources.linear_shift import count_classes, features
from ...tensors import Condition
from .coordinates import in_units, is_singular, shrunk_covariance, standard

#: Rows of conditions that are kept for draws without one.
KEPT = 256


def linear_gaussian(mean: Tensor, slope: Tensor, covariance: Tensor) -> LinearShift:
    """x | c ~ N(mean + slope c, covariance): the Gaussian whose mean is linear in a continuous condition.

    mean: ``(*event)``; slope: ``(d, k)``; covariance: ``(d, d)``; conditions are ``(B,)`` or ``(B, k)``.

    >>> distribution = linear_gaussian(torch.zeros(1), torch.ones(1, 1), torch.eye(1))
    >>> distribution.log_prob(torch.tensor([[2.0]]), torch.tensor([2.0]))
    tensor([-0.9189])
    """
    return LinearShift(GaussianMixture(mean[None], covariance[None]), slope)


def fit_gaussian(x: Tensor, condition: Condition | None = None, shrink: bool = False) -> Source:
    """The full-covariance Gaussian of maximum likelihood for rows ``x`` ``(N, *event)``, a source in float64.

    condition: None gives one Gaussian; labels ``(N,)`` (integers) one per label, weighted by their shares;
    numbers ``(N,)`` or ``(N, k)``, or a mapping of such and of labels, one whose mean is linear in them.
    shrink: shrink covariances by the likelihood of rows left out, which helps if rows are few.

    Columns are standardised first, so that their units do not matter.  A singular covariance (fewer rows than
    columns, linearly dependent columns) is also shrunk, and ``note`` says so.

    Raises ValueError for conditions that do not fit and fewer than two rows.

    >>> distribution = fit_gaussian(torch.tensor([[1.0], [3.0], [11.0], [13.0]]), torch.tensor([0, 0, 1, 1]))
    >>> distribution.log_prob(torch.tensor([[2.0]]), torch.tensor([0]))
    tensor([-0.9189])
    """
    z, units = standard(x)
    return in_units(gaussian(z.reshape(x.shape), condition, shrink), units)


def gaussian(z: Tensor, condition: Condition | None, shrink: bool) -> Source:
    """:func:`fit_gaussian` of standardised rows ``(N, *event)``."""
    event, rows = z.shape[1:], z.reshape(len(z), -1)
    if condition is None:
        mean, covariance, note = _moments(rows, shrink)
        distribution: Source = GaussianMixture(mean.reshape(1, *event), covariance[None])
    elif isinstance(condition, Tensor) and not condition.is_floating_point():
        labels, counts = _labels(condition, len(z)).unique(return_counts=True)
        own = torch.stack([rows[condition == k].mean(0) for k in labels])
        pooled = _moments(rows - own[torch.searchsorted(labels, condition)], shrink)
        parts = [_moments(rows[condition == k], shrink, pooled[1]) for k in labels]
        means = torch.stack([part[0] for part in parts]).reshape(-1, *event)
        note = next((part[2] for part in parts if part[2]), "")
        distribution = GaussianMixture(
            means, torch.stack([part[1] for part in parts]), counts.double(), labels
        )
    else:
        residual, slope, classes, known = regress(rows, condition)
        mean, covariance, note = _moments(residual, shrink)
        distribution = LinearShift(
            GaussianMixture(mean.reshape(1, *event), covariance[None]), slope, classes, known
        )
    distribution.note = note
    return distribution


def _labels(condition: Tensor, rows: int) -> Tensor:
    if condition.shape != (rows,):
        raise ValueError(f"condition: expected {rows} labels, got shape {tuple(condition.shape)}")
    return condition.cpu()


def _moments(rows: Tensor, shrink: bool, pooled: Tensor | None = None) -> tuple[Tensor, Tensor, str]:
    """Mean, covariance (shrunk towards ``pooled`` if given), and a note if it was singular."""
    mean = rows.mean(0)
    covariance = (rows - mean).T @ (rows - mean) / len(rows)
    singular = is_singular(covariance)
    if not (shrink or singular):
        return mean, covariance, ""
    n, d = rows.shape
    if pooled is not None:
        # a label with few rows borrows from the others; d rows count as much as the pool
        share = d / (d + n)
        return mean, (1 - share) * covariance + share * pooled, "singular covariances shrunk" * singular
    covariance, share = shrunk_covariance(rows)
    return mean, covariance, f"singular covariance, shrunk by {share:.2g}" * singular


def regress(rows: Tensor, condition: Condition) -> tuple[Tensor, Tensor, tuple[int, ...], Tensor]:
    """Least squares of ``rows`` ``(N, d)`` on the condition as numbers f(c).

    Returns rows less B f(c), B ``(d, k)``, the ``classes`` of
    :func:`~pushforward.sources.linear_shift.features`, and some f(c).  The constant stays in the residual.
    """
    classes = count_classes(condition)
    f = features(condition, classes).cpu()
    if len(f) != len(rows) or not bool(f.isfinite().all()):
        raise ValueError(f"condition: expected {len(rows)} rows of finite numbers or labels")
    centred = f - f.mean(0)
    scale = torch.where(centred.abs().amax(0) > 0, centred.square().mean(0).sqrt(), 1.0)
    slope = torch.linalg.lstsq(centred / scale, rows - rows.mean(0), driver="gelsd").solution.T / scale
    keep = f[:: max(1, len(f) // KEPT)][:KEPT]
    return rows - f @ slope.T, slope, classes, keep
