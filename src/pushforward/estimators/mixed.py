"""Tables of any columns as a scikit-learn estimator: synthetic rows, scores, imputations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..config import OptimConfig
from ..data.kinds import Given, infer
from ..data.kinds.table import cells_of, raw_of
from ..data.split import split
from ..data.text import hint
from ..flows import ColumnFlow
from ..nn import ColumnLayout, ColumnNetwork
from ..objectives import Batch, ColumnMatching
from ..random import derive_seed, seeded
from ..rows import Rows
from ..training import Trainer, Validation, pairs
from .checks import seed_of

if TYPE_CHECKING:
    import pandas as pd

#: Rows of a table at least, and the share of them that chooses the weights.
LEAST, VALIDATION = 32, 0.15
#: Rows that are computed at once.
PART = 8192


class FlowTable(BaseEstimator):
    r"""Synthetic rows, scores and imputations from a table of any columns: numbers, categories, dates, gaps.

    What a column is, is inferred, see :func:`~pushforward.data.kinds.infer`; ``kinds`` says otherwise.  One
    network learns every column given any others (:class:`~pushforward.objectives.ColumnMatching`); a gap is a
    value of its own.  Scores are exact: categories one by one, then numbers by an ODE
    (:class:`~pushforward.flows.ColumnFlow`).

    Arguments:
        kinds: what is known of some columns, by name: ``{"zip": "category"}`` or a :class:`Given`.
        width, depth: of the network.
        steps: of training at most; the weights of the best validation are kept.
        random_state: an integer for equal results, a NumPy random state, or None.

    Attributes: ``kinds_`` (:class:`~pushforward.data.kinds.TableKinds`), ``flow_``, ``n_features_in_``,
    ``feature_names_in_``.

    Raises ValueError for fewer than 32 rows, columns that cannot be read, see there, and a table of constants
    and identifiers alone.

    >>> import pandas as pd
    >>> x = np.random.default_rng(0).normal(size=64)
    >>> frame = pd.DataFrame({"height": x, "tall": np.where(x > 0, "yes", "no"), "age": np.arange(64) % 7})
    >>> model = FlowTable(width=16, depth=1, steps=20, random_state=0).fit(frame)
    >>> drawn = model.sample(5, given={"tall": "yes"})
    >>> drawn["tall"].tolist(), list(drawn.columns)
    (['yes', 'yes', 'yes', 'yes', 'yes'], ['height', 'tall', 'age'])
    """

    def __init__(
        self,
        *,
        kinds: Mapping[str, str | Given] | None = None,
        width: int = 256,
        depth: int = 3,
        steps: int = 4000,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.kinds = kinds
        self.width = width
        self.depth = depth
        self.steps = steps
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Learn the distribution of the rows of a DataFrame; ``y`` is ignored."""
        said = {
            name: value if isinstance(value, Given) else Given(kind=value)
            for name, value in (self.kinds or {}).items()
        }
        kinds = infer(X, said)
        n, seed = len(X), seed_of(self.random_state)
        if n < LEAST:
            raise ValueError(f"X: expected at least {LEAST} rows, got {n}")
        if not kinds.token_columns and not kinds.number_columns:
            raise ValueError("X: no column to learn from; all are constant or identifiers")
        layout = ColumnLayout(kinds.levels, kinds.token_columns, kinds.number_columns, kinds.numbered)
        tokens, numbers = kinds.encode(X, np.random.default_rng(derive_seed(seed, "cells")))
        rows = torch.from_numpy(np.concatenate([tokens, np.nan_to_num(numbers)], 1)).float()
        train, held = split(n, VALIDATION, seed)
        size = min(256, len(train))
        optim = OptimConfig(steps=self.steps, batch=size, lr=2e-3, ema=0.995, weight_decay=0.01, patience=8)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "network"))
            net = ColumnNetwork(layout, self.width, self.depth)
        batches = pairs(None, Rows(rows[train]), size=size, seed=seed)
        validation = Validation(Batch((Rows(rows[held]),)))
        trainer = Trainer(ColumnMatching(), net, batches, optim, seed=seed, validation=validation)
        if not trainer.fit(title=None).finished:
            raise KeyboardInterrupt
        found = trainer.models if trainer.ema is None else trainer.ema.models
        self.flow_ = ColumnFlow(cast(ColumnNetwork, found["field"])).eval()
        self.kinds_ = kinds
        self.n_features_in_ = len(kinds.names)
        self.feature_names_in_ = np.array(kinds.names, dtype=object)
        return self

    def sample(
        self,
        n_samples: int = 1,
        *,
        given: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> pd.DataFrame:
        """Synthetic rows in the types and formats of the table; the columns ``given`` have these values.

        Raises ValueError for a column that is not there, and a value that does not fit it.
        """
        check_is_fitted(self)
        import pandas as pd

        cells = {name: pd.Series([value] * n_samples) for name, value in (given or {}).items()}
        rows, observed = self._encoded(cells, n_samples)
        drawn = self._decoded(self._completed(rows, observed, None, random_state))
        # as they were given, and not as single precision has them
        return drawn.assign(**{name: values.astype(drawn[name].dtype) for name, values in cells.items()})

    def score_samples(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """log p of each row ``(n,)`` in nats: probabilities of categories, gaps and atoms, times the density
        of the numbers in their own units; a whole number has the probability of its unit, about."""
        check_is_fitted(self)
        tokens, numbers = self.kinds_.encode(X)
        rows = torch.from_numpy(np.concatenate([tokens, numbers], 1)).float()
        with torch.inference_mode():
            found = [self.flow_.log_prob(part).double() for part in rows.split(PART)]
        return torch.cat(found).numpy() - self.kinds_.log_det(numbers)

    def score(self, X: pd.DataFrame, y: Any = None) -> float:
        """The mean of :meth:`score_samples`."""
        return float(self.score_samples(X).mean())

    def impute(
        self, X: pd.DataFrame, *, random_state: int | np.random.RandomState | None = None
    ) -> pd.DataFrame:
        """A copy of ``X`` whose empty cells are drawn given the others of their row."""
        check_is_fitted(self)
        table, n = self.kinds_, len(X)
        cells, empty = {}, np.zeros((n, len(table.names)), dtype=bool)
        for i, (name, column) in enumerate(zip(table.names, table.columns)):
            if name not in X:
                raise ValueError(f"X: no column {name!r}{hint(name, list(X.columns))}")
            empty[:, i] = X[name].isna()
            if not empty[:, i].all():
                # any value of the column stands in the gaps, which are hidden
                values: Any = X[name]
                filled = values.where(~empty[:, i], values[~empty[:, i]].iloc[0])
                cells[name] = (filled.astype(column.dtype) if column.dtype else filled).to_numpy()
        rows, observed = self._encoded(cells, n)
        observed &= torch.from_numpy(~empty[:, : observed.shape[1]])
        drawn = self._decoded(self._completed(rows, observed, self._gaps(), random_state)).set_axis(X.index)
        found = X.copy()
        for i, name in enumerate(table.names):
            if empty[:, i].any():
                found[name] = drawn[name].where(empty[:, i], cells.get(name))
        return found

    def _encoded(self, cells: Mapping[str, Any], n: int) -> tuple[Tensor, Tensor]:
        """Rows of the columns ``cells``, zero elsewhere, and which columns are observed."""
        import pandas as pd

        table, layout = self.kinds_, self.flow_.layout
        for name in cells:
            if name not in table.names:
                raise ValueError(f"given: no column {name!r}{hint(name, table.names)}")
        raw = raw_of(pd.DataFrame(dict(cells), index=range(n)))
        rows, observed = np.zeros((n, layout.tokens + layout.numbers)), np.zeros((n, layout.columns), bool)
        token, number = 0, layout.tokens
        for i, kind in enumerate(table.kinds):
            if kind.name in cells and i < layout.columns:
                tokens, numbers = kind.encode(cells_of(raw, kind.name))
                rows[:, number : number + kind.numbers] = numbers
                observed[:, i] = True
                if tokens is not None:
                    rows[:, token] = tokens
            token, number = token + bool(kind.tokens), number + kind.numbers
        return torch.from_numpy(rows).float(), torch.from_numpy(observed)

    def _completed(
        self, rows: Tensor, observed: Tensor, never: Sequence[int | None] | None, random_state: Any
    ) -> Tensor:
        generator = seeded(seed_of(self.random_state if random_state is None else random_state), "sample")
        parts = zip(rows.split(PART), observed.split(PART))
        with torch.inference_mode():
            return torch.cat([self.flow_.complete(x, known, generator, never) for x, known in parts])

    def _decoded(self, rows: Tensor) -> pd.DataFrame:
        count = self.flow_.layout.tokens
        return self.kinds_.decode(rows[:, :count].long().numpy(), rows[:, count:].double().numpy())

    def _gaps(self) -> list[int | None]:
        """The level of each token that stands for an empty cell, None where there is none."""
        return [kind.tokens - 1 if kind.missing else None for kind in self.kinds_.kinds if kind.tokens]
