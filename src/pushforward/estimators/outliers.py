"""Outlier and novelty detection as a scikit-learn estimator."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OutlierMixin
from sklearn.utils.metaestimators import available_if

from ..data.noise import SMALL
from ..data.split import split
from ..recipes.sizes import FOLDS
from .checks import check_rows, check_table, seed_of
from .fitting import Learner, by_chunks
from .tails import Columns, Combined

#: Fewer rows than this give no held-out scores that a threshold could be read off.
FEW = 20


def _for_outliers(detector: FlowOutlierDetector) -> bool:
    if detector.novelty:
        raise AttributeError("fit_predict needs novelty=False; with novelty=True predict is for new rows")
    return True


class FlowOutlierDetector(OutlierMixin, Learner):
    """Find outliers: rows of low density under a flow.

    The density is that of a flow of all rows.  Below 2,000 rows cross-validation chooses its steps and gives
    the density of each row under a flow that was trained without it; otherwise a fifth of the rows is held
    out for that.  Not every outlier has a low density: see the guide on estimators.

    Arguments:
        method, options, steps, random_state: see :class:`FlowDensity`; ``options`` have its ``noise``, too.
            With ``{"space": "sphere,lat=0,lon=1"}`` rows are points of a manifold, and densities are per
            volume of it.
        criterion: ``density``, the log-density in nats; ``combined``, the log of a share of normal rows that
            are as far out, by density and by single columns together; ``auto``, combined with ``novelty``
            below 2,000 rows, where a joint density is uncertain, except on a manifold, where columns alone
            mean nothing.
        contamination: share of rows below the threshold, in (0, 0.5).
        novelty: True: all training rows are normal and new rows are classified.  The threshold is a quantile
            of the scores of rows under models that were trained without them, so that about the share
            ``contamination`` of new normal rows is flagged.  False: outliers are among the training rows, and
            exactly this share is flagged; only then is there ``fit_predict``.
        folds: of the cross-validation; with 0 a fifth of the rows is held out; None: 5 below 2,000 rows.

    Attributes: ``offset_`` and ``threshold_`` (the same number: the score below which a row is an outlier),
    ``criterion_`` (``density`` or ``combined``), ``flow_``, ``held_out_scores_``, ``n_features_in_``,
    ``feature_names_in_``.

    Few rows, atoms and constant columns are accepted with a warning; below 20 rows the threshold is taken
    from training scores, with a warning.  Raises ValueError as :class:`FlowDensity` does, and for a
    contamination outside (0, 0.5), an unknown criterion, and ``combined`` beside a space.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(5.0, 2.0, (100, 2))
    >>> FlowOutlierDetector(steps=20, folds=2, random_state=0).fit(X).predict([[5.0, 5.0], [50.0, 5.0]])
    array([ 1, -1])
    """

    def __init__(
        self,
        method: str = "fm",
        *,
        criterion: Literal["auto", "density", "combined"] = "auto",
        contamination: float = 0.05,
        novelty: bool = True,
        options: Mapping[str, Any] | None = None,
        folds: int | None = None,
        steps: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.method = method
        self.criterion = criterion
        self.contamination = contamination
        self.novelty = novelty
        self.options = options
        self.folds = folds
        self.steps = steps
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn what is normal from the rows of ``X`` ``(n, d)``; ``y`` is ignored."""
        if not 0 < self.contamination < 0.5:
            raise ValueError(f"contamination: expected a share in (0, 0.5), got {self.contamination}")
        if self.criterion not in ("auto", "density", "combined"):
            raise ValueError(f"criterion: expected auto, density or combined, got {self.criterion!r}")
        if self.folds is not None and (self.folds < 0 or self.folds == 1):
            raise ValueError(f"folds: expected 0 or at least 2, got {self.folds}")
        if self.criterion == "combined" and self._space is not None:
            raise ValueError(
                f"criterion: combined judges columns, which alone mean nothing with space {self._space}; "
                "expected auto or density"
            )
        x, weight = check_rows(self, X, sample_weight)
        n = len(x)
        seed = seed_of(self.random_state)
        folds = (FOLDS if n < SMALL else 0) if self.folds is None else self.folds
        crossed = folds > 0 and n >= FEW
        parts = split(n, 0.0 if crossed or n < FEW else 0.2, seed)
        # kernels would sit on outliers among the training rows themselves
        apart = {} if self.novelty else {"source": "normal"}
        fitted = self._learn(x, weight, parts, **apart, folds=folds if crossed else 0, seed=seed)
        kept, index = (part.numpy() for part in parts)
        if fitted.crossed is not None:
            held_out, index = fitted.crossed, kept
        else:
            held_out = by_chunks(self.flow_.log_prob, x[index])
        w = None if weight is None else weight[index]
        few = self.novelty and FEW <= n < SMALL and self._space is None
        auto = "combined" if few else "density"
        self.criterion_ = auto if self.criterion == "auto" else self.criterion
        if self.criterion_ == "combined" and len(held_out) == 0:
            raise ValueError(f"criterion: combined takes {FEW} rows or more, got {n}")
        if self.criterion_ == "combined":
            self._columns = Columns(x[kept], None if weight is None else weight[kept])
            scores = [held_out, *self._by_columns(None if fitted.crossed is not None else x[index])]
            seen = np.isfinite(held_out)
            normal = [values[seen] for values in scores]
            self._combined = Combined(normal, None if w is None else w[seen])
            held_out = np.where(seen, self._combined(scores), np.nan)
        self.held_out_scores_ = judged = held_out
        if self.novelty and n < FEW:
            warnings.warn(
                f"{n} rows leave no held-out scores; the threshold comes from training scores",
                UserWarning,
                stacklevel=2,
            )
        if not self.novelty or n < FEW:
            judged, w = self._scores(x), weight
        seen = np.isfinite(judged)
        self.offset_ = _quantile(judged[seen], self.contamination, None if w is None else w[seen])
        self.threshold_ = self.offset_
        return self

    @property
    def _space(self) -> str | None:
        """The manifold of which rows are points, as ``options`` say."""
        return (self.options or {}).get("space")

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """The score of each row, ``(n,)``; the lower, the more of an outlier.

        It is the log-density in nats, or the log of a tail share if ``criterion_`` is ``combined``.
        """
        return self._scores(check_table(self, X))  # which also says where there is no fit yet

    def _scores(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        density = by_chunks(self.flow_.log_prob, x)
        return self._combined([density, *self._by_columns(x)]) if self.criterion_ == "combined" else density

    def _by_columns(self, x: NDArray[np.float64] | None) -> list[NDArray[np.float64]]:
        """Densities and tails of single columns, of ``x`` or (None) of the rows, each among the others."""
        density = self._columns.left_out() if x is None else self._columns(x)
        return [density, self._columns.tails(x)]

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores above the threshold, ``(n,)``: negative for outliers."""
        scores = self.score_samples(X)
        return scores - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """1 for normal rows, -1 for outliers, ``(n,)``."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    @available_if(_for_outliers)  # a descriptor, unlike the method it stands for
    def fit_predict(  # type: ignore[reportIncompatibleMethodOverride]
        self, X: ArrayLike, y: Any = None, **fit_params: Any
    ) -> NDArray[np.int64]:
        """Find the outliers among the rows of ``X``; only with ``novelty=False``."""
        return self.fit(X, y, **fit_params).predict(X)


def _quantile(scores: np.ndarray, share: float, weight: np.ndarray | None) -> float:
    """The ``share`` quantile of ``scores``, of weighted ones by the inverse of their distribution."""
    if weight is None:
        return float(np.quantile(scores, share))
    return float(np.quantile(scores, share, weights=weight, method="inverted_cdf"))
