"""Outlier and novelty detection as a scikit-learn estimator."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if

from ..data.split import split
from .checks import check_rows, check_table
from .fitting import Settings, by_chunks, learn, resolution

#: Up to this many rows are cross-fitted; beyond, one flow with a fifth of the rows held out does.
CROSSED = 2000

#: Fewer rows than this give no held-out scores that a threshold could be read off.
FEW = 20


def _for_outliers(detector: FlowOutlierDetector) -> bool:
    if detector.novelty:
        raise AttributeError("fit_predict needs novelty=False; with novelty=True predict is for new rows")
    return True


class FlowOutlierDetector(OutlierMixin, BaseEstimator):
    """Rows of low density under flows are outliers.

    The rows are divided into ``folds``; each of as many flows learns from all but one fold and keeps the
    weights that give this one the highest likelihood.  The score is the log-density of their mixture,
    log (1/K) sum_k p_k(x), of the data blurred by ``noise``: what the rows are too few to tell apart counts
    as the same.  Low density is not the same as unlike: see the guide on estimators.

    Arguments:
        method, options, steps, batch_size, lr, weight_decay, patience, random_state: see
            :class:`FlowDensity`.
        contamination: share of rows below the threshold, in (0, 0.5).
        novelty: True: rows in training are normal, new rows are judged, and the threshold is the quantile
            of the scores of rows by the flow that has not seen them, so that about this share of
            new normal rows is flagged.  False: outliers are looked for among the training rows themselves,
            and exactly this share is flagged; only then is there ``fit_predict``.
        noise: as for :class:`FlowDensity`; by default ``scott``, n^(-1/(d+4)) deviations.
        folds: 1 for a single flow with a fifth of the rows held out; None: 5 up to 2,000 rows, else 1.

    Attributes: ``offset_`` and ``threshold_`` (the same number: the log-density below which a row is an
    outlier), ``flows_``, ``held_out_scores_``, ``n_features_in_``, ``feature_names_in_``.

    Few rows, atoms and constant columns are accepted with a warning; below 20 rows the threshold is taken
    from training scores, with a warning.  Raises ValueError as :class:`FlowDensity` does, and for a
    contamination outside (0, 0.5).

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(5.0, 2.0, (100, 2))
    >>> FlowOutlierDetector(steps=20, folds=2, random_state=0).fit(X).predict([[5.0, 5.0], [50.0, 5.0]])
    array([ 1, -1])
    """

    def __init__(
        self,
        method: str = "nsf",
        *,
        contamination: float = 0.05,
        novelty: bool = True,
        options: Mapping[str, Any] | None = None,
        noise: float | str = "scott",
        folds: int | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        weight_decay: float = 0.0,
        patience: int | None = 6,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.method = method
        self.contamination = contamination
        self.novelty = novelty
        self.options = options
        self.noise = noise
        self.folds = folds
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.patience = patience
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn what is normal from the rows of ``X`` ``(n, d)``; ``y`` is ignored."""
        if not 0 < self.contamination < 0.5:
            raise ValueError(f"contamination: expected a share in (0, 0.5), got {self.contamination}")
        if self.folds is not None and self.folds < 1:
            raise ValueError(f"folds: expected at least 1, got {self.folds}")
        x, weight = check_rows(self, X, sample_weight)
        n = len(x)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        noise = resolution(self.noise, x)
        self.flows_: list[Any] = []
        index, scores = [], []
        for number, parts in enumerate(self._parts(n, seed)):
            settings = Settings(
                method=self.method,
                options=self.options,
                noise=noise,
                steps=self.steps,
                batch_size=self.batch_size,
                lr=self.lr,
                weight_decay=self.weight_decay,
                patience=self.patience,
                seed=seed + number,
            )
            flow = learn(x, weight, parts, settings)
            self.flows_.append(flow)
            index.append(parts[1].numpy())
            scores.append(by_chunks(flow.log_prob, x[index[-1]]))
        self.held_out_scores_ = np.concatenate(scores)
        judged, w = self.held_out_scores_, None if weight is None else weight[np.concatenate(index)]
        if self.novelty and n < FEW:
            warnings.warn(
                f"{n} rows leave no held-out scores; the threshold comes from training scores",
                UserWarning,
                stacklevel=2,
            )
        if not self.novelty or n < FEW:
            judged, w = self._scores(x), weight
        self.offset_ = _quantile(judged, self.contamination, w)
        self.threshold_ = self.offset_
        return self

    def _parts(self, n: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Indices to train on and to hold out, once for each flow."""
        if n < FEW:
            return [split(n, 0.0, seed)]
        folds = self.folds or (5 if n <= CROSSED else 1)
        if folds == 1:
            return [split(n, 0.2, seed)]
        order = split(n, 0.0, seed)[0]
        held = order.chunk(min(folds, n // 2))
        return [(torch.cat([h for h in held if h is not part]), part) for part in held]

    def _scores(self, x: np.ndarray) -> NDArray[np.float64]:
        each = np.stack([by_chunks(flow.log_prob, x) for flow in self.flows_])
        return logsumexp(each, axis=0) - np.log(len(each))

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """The log-density of each row in nats, ``(n,)``; the lower, the more of an outlier."""
        return self._scores(check_table(self, X))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores above the threshold, ``(n,)``: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """1 for normal rows, -1 for outliers, ``(n,)``."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    @available_if(_for_outliers)  # a descriptor, unlike the method it stands for
    def fit_predict(  # type: ignore[reportIncompatibleMethodOverride]
        self, X: ArrayLike, y: Any = None, **fit_params: Any
    ) -> NDArray[np.int64]:
        """Find the outliers among the rows of ``X``; there only with ``novelty=False``."""
        return self.fit(X, y, **fit_params).predict(X)


def _quantile(scores: np.ndarray, share: float, weight: np.ndarray | None) -> float:
    """The ``share`` quantile of ``scores``, of weighted ones by the inverse of their distribution."""
    if weight is None:
        return float(np.quantile(scores, share))
    return float(np.quantile(scores, share, weights=weight, method="inverted_cdf"))
