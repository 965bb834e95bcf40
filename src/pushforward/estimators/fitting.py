"""One flow of a table of numbers, trained as by the command line, but also with few rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from .. import registry
from ..bijections import Bijection
from ..config import RunConfig
from ..data import Dataset, Schema
from ..data.charts import check_alone, fit_chart
from ..data.dataset import fit_preprocess
from ..flows import Transformed
from ..recipes import Run, train
from ..recipes.spelling import as_keywords
from ..rows import Rows

#: Rows scored at once.
CHUNK = 4096


@dataclass(frozen=True)
class Fitted:
    """A flow in data units and float64, its run, and log-densities ``(n,)`` of training rows under flows that
    were trained without them (None without cross-validation)."""

    flow: Transformed
    run: Run
    crossed: np.ndarray | None


class Learner(BaseEstimator):
    """What estimators made of a flow share: their settings, and how the flow is learnt.

    Attributes: ``flow_`` and ``run_``, the flow and the summary of its training.
    """

    flow_: Any
    method: str
    options: Mapping[str, Any] | None
    steps: int | None

    def _learn(
        self, x: np.ndarray, weight: np.ndarray | None, parts: tuple[Tensor, Tensor], **settings: Any
    ) -> Fitted:
        """Fit ``flow_`` to rows as :func:`learn` does; ``options`` override ``settings``."""
        config = configuration(self.method, {"steps": self.steps, **settings}, self.options or {})
        fitted = learn(x, weight, parts, config)
        self.flow_, self.run_ = fitted.flow, fitted.run.summary
        return fitted


def learn(
    x: np.ndarray, weight: np.ndarray | None, parts: tuple[Tensor, Tensor], config: RunConfig
) -> Fitted:
    """A flow of the rows of ``x`` ``(n, d)``, ready to score.

    ``parts`` are the indices of rows to train on and of rows that are held out.  Raises ValueError for
    settings that do not fit and a method whose flow has no density.
    """

    def chosen(index: Tensor) -> Rows:
        rows = index.numpy()
        given = None if weight is None else torch.from_numpy(weight[rows])
        return Rows(torch.from_numpy(x[rows]), None, None, given)

    kept, held = map(chosen, parts)
    schema = Schema(
        name="table",
        kind="table",
        event_shape=(x.shape[1],),
        columns=tuple(f"x{i + 1}" for i in range(x.shape[1])),
        rows_train=len(kept),
        rows_test=len(held),
    )
    preprocess = _preprocess(torch.from_numpy(x), parts[0], schema, config, kept.weight)
    dataset = Dataset(schema, kept, held, preprocess)
    threads = torch.get_num_threads()
    try:
        run = train(config, target=dataset, show_progress=False)
    finally:
        torch.set_num_threads(threads)
    if not run.summary["finished"]:
        raise KeyboardInterrupt
    flow = run.flow.flow.double()
    if not flow.invertible:
        raise ValueError(
            f"method: {config.model.method!r} makes a {type(flow).__name__}, which has no density"
        )
    scores = run.crossed()
    whole = Transformed(flow, run.flow.bijection, torch.float64).eval()
    return Fitted(whole, run, None if scores is None else scores.numpy())


def _preprocess(
    x: Tensor, kept: Tensor, schema: Schema, config: RunConfig, weight: Tensor | None
) -> Bijection:
    """From the space of the model to the rows ``x``, chosen by the ``kept`` ones."""
    space, noise = config.data.space, config.data.noise
    if space is None:
        return fit_preprocess(x[kept], schema, "auto", noise, weight)
    try:
        with as_keywords():
            check_alone(config.data.preprocess, noise)
            return fit_chart(Rows(x), kept, schema, space)
    except ValueError as error:
        raise ValueError(f"options: {error}") from None


def configuration(method: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> RunConfig:
    """What :func:`pushforward.train` is asked for; what is None is left to it.

    Raises ValueError for an unknown method or option.
    """
    name, _, rest = method.partition(",")
    known, given = registry.lookup("method", name), {"method": name, "noise": "auto", **settings}
    if rest:
        if "flow" not in known.defaults:
            raise ValueError(
                f"method: only normalizing flows take options in their name, got {method!r}; "
                "see the argument options"
            )
        given["flow"] = method
    try:
        return RunConfig.of("table", **{**given, **options})
    except ValueError as error:
        raise ValueError(f"options: {error}") from None


def by_chunks(function: Any, x: np.ndarray) -> np.ndarray:
    """``function`` of tensors applied to the rows of ``x``, many at a time."""
    if len(x) == 0:
        return np.empty(0)
    with torch.inference_mode():
        parts = [function(torch.from_numpy(x[i : i + CHUNK])) for i in range(0, len(x), CHUNK)]
        return torch.cat(parts).numpy().astype(np.float64)
