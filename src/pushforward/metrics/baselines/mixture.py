"""The Gaussian-mixture baseline, its number of components by BIC."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...bijections import Affine, Bijection, Whiten
from ...sources import GaussianMixture, LinearShift, Source
from ...tensors import Condition
from .coordinates import in_units, standard, whitened
from .gaussian import regress

#: Numbers of components that are tried, one after the other, until so many in a row are worse than the best.
COUNTS, WORSE = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64), 2
#: Most rows that a mixture is fitted to, fewest rows for a component.
MOST, LEAST = 20_000, 8
#: Variance that is added in every direction, in shares of the columns' own.
FLOOR = 1e-6


def fit_mixture(x: Tensor, condition: Condition | None = None, seed: int = 0) -> Source:
    """A mixture of Gaussians fitted to rows ``x`` ``(N, *event)`` by expectation-maximisation, in float64.

    The number of components (64 at most) and whether their covariances are full, equal or diagonal are those
    of least BIC, among fits to standardised and to whitened columns.  With a ``condition`` the mean is linear
    in it, as for :func:`fit_gaussian`, and the mixture is that of the residuals.  ``note`` says what was
    chosen.  scikit-learn fits; at most 20,000 rows, drawn by ``seed``, are looked at.

    Raises ValueError for conditions that do not fit and fewer than 16 rows.

    >>> x = torch.cat([torch.randn(200, 1), torch.randn(200, 1) + 20])
    >>> fit_mixture(x).note
    '2 components'
    """
    z, units = standard(x)
    return in_units(mixture(z.reshape(x.shape), condition, seed), units)


def mixture(z: Tensor, condition: Condition | None, seed: int) -> Source:
    """:func:`fit_mixture` of rows ``(N, *event)`` that are standardised already."""
    if len(z) < 2 * LEAST:
        raise ValueError(f"x: expected at least {2 * LEAST} rows for a mixture, got {len(z)}")
    event, rows = z.shape[1:], z.reshape(len(z), -1)
    if condition is not None:
        residual, slope, classes, known = regress(rows, condition)
        law = mixture(residual.reshape(z.shape), None, seed)
        shifted = LinearShift(law, slope, classes, known)
        shifted.note = law.note
        return shifted
    if len(rows) > MOST:
        rows = rows[torch.from_numpy(np.random.default_rng(seed).permutation(len(rows))[:MOST])]
    _, model, back = min(_fits(rows, seed), key=lambda found: found[0])
    means, covariances = _moments(model, rows.shape[1])
    root = back.root if isinstance(back, Whiten) else torch.eye(rows.shape[1], dtype=rows.dtype)
    law = GaussianMixture(
        back.forward(means).reshape(-1, *event), root @ covariances @ root.T, torch.from_numpy(model.weights_)
    )
    law.note = f"{len(means)} component" + "s" * (len(means) != 1)
    return law


def _fits(rows: Tensor, seed: int) -> Iterator[tuple[float, Any, Bijection]]:
    """BIC, fitted model and the map from its coordinates, of everything that is tried."""
    n, d = rows.shape
    columns = Affine(torch.zeros(d, dtype=rows.dtype), torch.ones(d, dtype=rows.dtype))
    spaces: list[tuple[Tensor, Bijection, tuple[str, ...]]] = [(rows, columns, ("diag",))]
    if d > 1:
        spaces = [(rows, columns, ("full", "diag")), (*whitened(rows), ("full", "tied", "diag"))]
    for y, back, kinds in spaces:
        # the same likelihood in other coordinates: BIC is -2 log-likelihood, plus what parameters cost
        stretch = float(back.forward_and_log_det(y[:1])[1])
        for kind in kinds:
            best, worse = np.inf, 0
            for count in COUNTS:
                if (count > 1 and n < LEAST * count) or worse >= WORSE:
                    break
                model, bic = _em(y.numpy(), count, kind, seed)
                bic += 2 * n * stretch
                worse = 0 if bic < best else worse + 1
                best = min(best, bic)
                yield bic, model, back


def _em(y: np.ndarray, count: int, kind: str, seed: int) -> tuple[Any, float]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as ScikitMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = ScikitMixture(count, covariance_type=kind, reg_covar=FLOOR, random_state=seed).fit(y)
    return model, float(model.bic(y))


def _moments(model: Any, d: int) -> tuple[Tensor, Tensor]:
    """Means ``(K, d)`` and covariances ``(K, d, d)`` of a fitted model."""
    means, given = torch.from_numpy(model.means_), torch.from_numpy(np.asarray(model.covariances_))
    if model.covariance_type == "diag":
        return means, torch.diag_embed(given)
    return means, given.expand(len(means), d, d)
