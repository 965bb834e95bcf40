"""The density of a table as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..data.split import split
from ..random import seeded
from ..tensors import event_size
from .checks import check_rows, check_table, seed_of
from .fitting import Learner, by_chunks

#: Below this many rows none is held out.
FEW = 20


class FlowDensity(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, Learner):
    """The density of a table of numbers, learnt by a flow.

    log p(x) = log p_source(z) + log|det dz/dx| with z the latent point of x, in nats and the units of ``X``;
    scores are float64.  Model and figures are those of ``pushforward train`` for the same data and seed.  A
    share of the rows is held out of the fit; of the others some, or each in turn, choose the weights.  Below
    2,000 rows the source is a mixture of baselines that are fitted first; otherwise it is standard normal.

    Arguments:
        method: name of a recipe that has a density (``pushforward methods``): a normalizing flow, with
            options as in ``nsf,layers=4``, or flow matching such as ``fm`` and ``ot-cfm``.  For a single
            column ``nsf-ar`` replaces flows of coupling layers, which need two.
        options: more settings by the names of the flags: ``{"solver": "rk4,steps=20", "lr": 1e-3, "batch":
            64, "patience": 0}``; what is not given is chosen by the numbers of rows and columns.  With
            ``{"space": "sphere,lat=0,lon=1"}`` rows are points of a manifold.
        noise: deviations of the normal noise added to rows in training; the density is then that of data with
            noise.  ``auto``: a little noise in columns where one value repeats, see the flag ``--noise``.
        holdout: share of rows held out, for ``held_out_scores_``; none with 0, or below 20 rows.
        steps: of the training; None: chosen by the numbers of rows and columns.
        random_state: seed of the split, the weights and the batches; an integer means what ``--seed`` means.

    Attributes: ``flow_`` (a :class:`~pushforward.flows.Transformed`), ``run_`` (the summary of the training),
    ``held_out_scores_`` (the log-densities of the rows held out), ``n_features_in_``, ``feature_names_in_``.

    Few rows, atoms and constant columns are accepted with a warning.  Raises ValueError for empty or
    non-finite ``X``, one row, negative weights, and values that do not fit.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(5.0, 2.0, (200, 2))
    >>> density = FlowDensity(steps=20, random_state=0).fit(X)
    >>> density.score_samples(X[:3]).shape, density.sample(4).shape
    ((3,), (4, 2))
    """

    n_features_in_: int

    def __init__(
        self,
        method: str = "fm",
        *,
        options: Mapping[str, Any] | None = None,
        noise: float | str = "auto",
        holdout: float = 0.2,
        steps: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.method = method
        self.options = options
        self.noise = noise
        self.holdout = holdout
        self.steps = steps
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the density of the rows of ``X`` ``(n, d)``; ``y`` is ignored, as scikit-learn asks."""
        x, weight = check_rows(self, X, sample_weight)
        seed = seed_of(self.random_state)
        share = 0.0 if len(x) < FEW else self.holdout
        parts = split(len(x), share, seed)
        self._learn(x, weight, parts, noise=self.noise, seed=seed)
        self.held_out_scores_ = by_chunks(self.flow_.log_prob, x[parts[1].numpy()])
        self._n_features_out = event_size(self.flow_.flow.event_shape)
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """The log-density of each row in nats, ``(n,)``."""
        return by_chunks(self.flow_.log_prob, check_table(self, X))

    # DensityMixin declares a score that returns None
    def score(  # type: ignore[reportIncompatibleMethodOverride]
        self, X: ArrayLike, y: Any = None
    ) -> float:
        """The mean log-density of the rows in nats, which ``GridSearchCV`` then maximises."""
        return float(self.score_samples(X).mean())

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> NDArray[np.float64]:
        """``n_samples`` draws ``(n_samples, d)``, by default with the estimator's own ``random_state``."""
        check_is_fitted(self)
        state = check_random_state(self.random_state if random_state is None else random_state)
        generator = seeded(int(state.randint(2**31 - 1)), "sample")
        with torch.inference_mode():
            return self.flow_.sample(n_samples, None, generator).numpy()

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """The latent points of the rows, distributed like the flow's source, ``(n, d)``.

        Of places on earth, which are two numbers, these are unit vectors of three.
        """
        return by_chunks(lambda x: self.flow_.pull(x).flatten(1), check_table(self, X))

    def inverse_transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Latent points ``(n, d)`` back to rows."""
        check_is_fitted(self)
        z, event = np.asarray(X, dtype=np.float64), self.flow_.flow.event_shape
        if z.ndim != 2 or z.shape[1] != self._n_features_out:
            raise ValueError(f"X: expected latent points of shape (n, {self._n_features_out}), got {z.shape}")
        return by_chunks(lambda z: self.flow_.push(z.reshape(-1, *event)), z)
