"""Checks of the input of estimators."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

#: Fewer rows than this draw a warning.
FEW = 32


def check_rows(
    estimator: BaseEstimator, X: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Training rows in float64 and their weights; rows of weight 0 are left out.

    Raises ValueError for anything but a finite table of at least two rows, and for negative weights; warns of
    few rows and of constant columns.
    """
    x = _validated(estimator, X, ensure_min_samples=2)
    weight = None
    if sample_weight is not None:
        weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        kept = weight > 0
        if kept.sum() < 2:
            raise ValueError(f"sample_weight: expected at least two positive weights, got {kept.sum()}")
        x, weight = x[kept], weight[kept]
    if len(x) < FEW:
        warnings.warn(f"{len(x)} rows are few for a density", UserWarning, stacklevel=3)
    constant = np.flatnonzero(x.min(0) == x.max(0))
    if len(constant):
        names = ", ".join(str(i) for i in constant[:5]) + ", ..." * (len(constant) > 5)
        warnings.warn(f"constant columns: {names}", UserWarning, stacklevel=3)
    return x, weight


def check_table(estimator: Any, X: ArrayLike) -> np.ndarray:
    """Rows of a fitted estimator's columns, in float64.  Raises ValueError for others."""
    check_is_fitted(estimator)
    return _validated(estimator, X, reset=False)


def _validated(estimator: Any, X: ArrayLike, **options: Any) -> np.ndarray:
    # scikit-learn's own hints are taken from default values: a table would be a str
    validate: Any = validate_data
    return np.ascontiguousarray(validate(estimator, X, dtype=np.float64, **options))


def seed_of(random_state: Any) -> int:
    """An integer unchanged, so that it means the same as ``--seed``; otherwise one drawn from the state."""
    if (
        isinstance(random_state, int | np.integer)
        and not isinstance(random_state, bool)
        and random_state >= 0
    ):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
