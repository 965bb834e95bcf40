"""The Gaussian-mixture baseline, with the number of components of least BIC."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...bijections import Affine, Bijection
from ...sources import GaussianMixture, LinearShift, Source
from ...tensors import Condition
from .coordinates import in_units, isolated, standard, whitened
from .gaussian import regress

#: Numbers of components that are tried, one after the other, until so many in a row are worse than the best.
COUNTS, WORSE = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64), 2
#: Most rows that a mixture is fitted to, fewest rows for a component.
MOST, LEAST = 20_000, 8
#: Difference of two BIC that may be rounding.
ROUNDING = 1e-3
#: Levels of a column that are few, the grain in deviations in which they are told apart, and by how much
#: such a column is stretched before rows are clustered.
LEVELS, GRAIN, STRETCH = 12, 0.02, 4.0
#: Variance that is added in every direction, in shares of the columns' own.
FLOOR = 1e-6
#: The least variance of the component of far rows, in shares of its largest.
NARROW = 1e-13


@dataclass(frozen=True)
class Shape:
    """The choices for a mixture: the coordinates, the kind of covariances, the number of components."""

    whitened: bool
    kind: str
    count: int


def fit_mixture(x: Tensor, condition: Condition | None = None, seed: int = 0) -> Source:
    """A mixture of Gaussians fitted to rows ``x`` ``(N, *event)`` by expectation-maximisation, in float64.

    The number of components (64 at most) and whether their covariances are full, equal or diagonal are those
    of least BIC, among fits to standardised and to whitened columns.  With a ``condition`` the mean is linear
    in it, as for :func:`fit_gaussian`, and the mixture is that of the residuals.  ``note`` states the choice.
    Rows far out and alone, see :func:`~.coordinates.isolated`, share one wide component around the middle
    (as noise does in Banfield & Raftery 1993, doi 10.2307/2532201).  scikit-learn fits it to at most 20,000
    rows, drawn by ``seed``.

    Raises ValueError for conditions that do not fit and fewer than 16 rows.

    >>> x = torch.cat([torch.randn(200, 1), torch.randn(200, 1) + 20])
    >>> fit_mixture(x).note
    '2 components'
    """
    z, units = standard(x)
    if condition is None:
        distribution: Source = mixture(z.reshape(x.shape), choose_shape(z, seed), seed)
    else:
        residual, slope, classes, known = regress(z, condition)
        distribution = mixture(residual.reshape(x.shape), choose_shape(residual, seed), seed)
        distribution, note = LinearShift(distribution, slope, classes, known), distribution.note
        distribution.note = note
    return in_units(distribution, units)


def mixture(z: Tensor, shape: Shape, seed: int) -> GaussianMixture:
    """A mixture of given ``shape`` for rows ``(N, *event)`` at about unit scale."""
    event, every = z.shape[1:], _some(z.reshape(len(z), -1), seed)
    alone = isolated(every)
    rows = every[~alone]
    y, back, root = _space(rows, shape.whitened)
    model = _em(y, min(shape.count, len(y) // 2), shape.kind, seed, levels_first(rows))
    means, covariances = _moments(model, rows.shape[1])
    means, covariances = back.forward(means), root.T @ covariances @ root
    weights, note = torch.from_numpy(model.weights_), f"{len(means)} component" + "s" * (len(means) != 1)
    if bool(alone.any()):
        # one wide component around the middle for all that lies far off and alone
        middle, far = rows.mean(0), every[alone]
        variances = (far - middle).square().mean(0) + 1.0
        # in other coordinates the variance of a row at 1e8 would leave no digits for those beside it
        wide = torch.diag(variances.clamp(min=NARROW * float(variances.max())))
        means, covariances = torch.cat([means, middle[None]]), torch.cat([covariances, wide[None]])
        weights = torch.cat([weights * len(rows), weights.new_tensor([len(far)])])
        note += f" and {len(far)} far row" + "s" * (len(far) != 1)
    found = GaussianMixture(means.reshape(-1, *event), covariances, weights)
    found.note = note
    return found


def choose_shape(z: Tensor, seed: int) -> Shape:
    """The shape of least BIC for rows ``(N, *event)``.  Raises ValueError for fewer than 16 rows."""
    if len(z) < 2 * LEAST:
        raise ValueError(f"x: expected at least {2 * LEAST} rows for a mixture, got {len(z)}")
    rows = _some(z.reshape(len(z), -1), seed)
    rows = rows[~isolated(rows)]
    least, best = np.inf, Shape(False, "diag", 1)
    for bic, shape in _tried(rows, seed):
        if bic < least - ROUNDING:  # of two that are equal but for rounding, always the first
            least, best = bic, shape
    return best


def _tried(rows: Tensor, seed: int) -> Iterator[tuple[float, Shape]]:
    """BIC of everything that is tried."""
    n, d = rows.shape
    spaces = [(False, ("full", "diag")), (True, ("full", "tied", "diag"))] if d > 1 else [(False, ("diag",))]
    first = levels_first(rows)
    for white, kinds in spaces:
        y, back, _ = _space(rows, white)
        # the same likelihood in other coordinates: BIC is -2 log-likelihood, plus what parameters cost
        stretch = float(back.forward_and_log_det(y[:1])[1])
        for kind in kinds:
            best, worse = np.inf, 0
            for count in COUNTS:
                if (count > 1 and n < LEAST * count) or worse >= WORSE:
                    break
                bic = float(_em(y, count, kind, seed, first).bic(y.numpy())) + 2 * n * stretch
                worse = 0 if bic < best else worse + 1
                best = min(best, bic)
                yield bic, Shape(white, kind, count)


def _some(rows: Tensor, seed: int) -> Tensor:
    """At most :data:`MOST` of the rows."""
    if len(rows) <= MOST:
        return rows
    return rows[torch.from_numpy(np.random.default_rng(seed).permutation(len(rows))[:MOST])]


def _space(rows: Tensor, white: bool) -> tuple[Tensor, Bijection, Tensor]:
    """Rows in the coordinates of a shape, the map back, and its matrix ``(d, d)``."""
    if white:
        y, back = whitened(rows)
        return y, back, back.root
    one = torch.eye(rows.shape[1], dtype=rows.dtype)
    return rows, Affine(torch.zeros_like(one[0]), torch.ones_like(one[0])), one


def levels_first(rows: Tensor) -> np.ndarray | None:
    """Rows ``(N, d)`` for k-means, with columns of few levels stretched; None if there are no such columns.

    A component for each level gains many nats, and k-means with equal scales finds it only by chance.
    """
    levels = [len(column.unique()) for column in rows.div(GRAIN).round().T]
    few = torch.tensor([1 < count <= LEVELS for count in levels])
    return torch.where(few, STRETCH * rows, rows).numpy() if bool(few.any()) else None


def _em(y: Tensor, count: int, kind: str, seed: int, first: np.ndarray | None) -> Any:
    """scikit-learn's fit to rows ``y``, from k-means of ``first`` where that is not None."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as ScikitMixture

    rows = y.numpy()
    options = {} if first is None else _initial(rows, count, kind, seed, first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = ScikitMixture(count, covariance_type=kind, reg_covar=FLOOR, random_state=seed, **options)
        return model.fit(rows)


def _initial(rows: np.ndarray, count: int, kind: str, seed: int, first: np.ndarray) -> dict[str, Any]:
    """Weights, means and precisions of clusters."""
    from sklearn.cluster import KMeans

    belongs = np.eye(count)[KMeans(count, n_init="auto", random_state=seed).fit(first).labels_]
    sizes = belongs.sum(0) + 1e-9
    means = belongs.T @ rows / sizes[:, None]
    left = rows - belongs @ means
    floor = FLOOR * np.eye(rows.shape[1])
    if kind == "tied":
        precisions = np.linalg.inv(left.T @ left / len(rows) + floor)
    elif kind == "diag":
        precisions = 1 / (belongs.T @ left**2 / sizes[:, None] + FLOOR)
    else:
        covariances = np.einsum("nk,nd,ne->kde", belongs, left, left, optimize=True)
        precisions = np.linalg.inv(covariances / sizes[:, None, None] + floor)
        precisions = (precisions + precisions.swapaxes(1, 2)) / 2
    return {"weights_init": sizes / sizes.sum(), "means_init": means, "precisions_init": precisions}


def _moments(model: Any, d: int) -> tuple[Tensor, Tensor]:
    """Means ``(K, d)`` and covariances ``(K, d, d)`` of a fitted model."""
    means, given = torch.from_numpy(model.means_), torch.from_numpy(np.asarray(model.covariances_))
    if model.covariance_type == "diag":
        return means, torch.diag_embed(given)
    return means, given.expand(len(means), d, d)
