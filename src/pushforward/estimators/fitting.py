"""One flow of a table of numbers, trained as by the command line, but also with few rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import registry
from ..config import RunConfig
from ..data import Dataset, Schema
from ..data.dataset import fit_preprocess
from ..flows import Transformed
from ..recipes import Run, train
from ..rows import Rows

#: Rows scored at once.
CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a fit; None is chosen as on the command line."""

    method: str = "fm"
    options: Mapping[str, Any] | None = None
    noise: float | str = "auto"
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    patience: int | None = None
    folds: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """A flow in data units and float64, its run, and log-densities ``(n,)`` of training rows under flows that
    were trained without them (None without cross-validation)."""

    flow: Transformed
    run: Run
    crossed: np.ndarray | None


def learn(
    x: np.ndarray, weight: np.ndarray | None, parts: tuple[Tensor, Tensor], settings: Settings
) -> Fitted:
    """A flow of the rows of ``x`` ``(n, d)``, ready to score.

    ``parts`` are the indices of rows to train on and of rows that are held out.  Raises ValueError for
    settings that do not fit and a method whose flow has no density.
    """
    config = configuration(settings)

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
    preprocess = fit_preprocess(kept.x, schema, "auto", config.data.noise, kept.weight)
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
        raise ValueError(f"method: {settings.method!r} makes a {type(flow).__name__}, which has no density")
    scores = run.crossed()
    whole = Transformed(flow, run.flow.bijection, torch.float64).eval()
    return Fitted(whole, run, None if scores is None else scores.numpy())


def configuration(settings: Settings) -> RunConfig:
    """The configuration for :func:`pushforward.train`, which chooses what is None.

    Raises ValueError for an unknown method or option.
    """
    name, _, rest = settings.method.partition(",")
    method = registry.lookup("method", name)
    given: dict[str, Any] = {
        "method": name,
        "noise": settings.noise,
        "steps": settings.steps,
        "batch": settings.batch_size,
        "lr": settings.lr,
        "weight_decay": settings.weight_decay,
        "patience": settings.patience,
        "folds": settings.folds,
        "seed": settings.seed,
    }
    if rest:
        if "flow" not in method.defaults:
            raise ValueError(
                f"method: only normalizing flows take options in their name, got {settings.method!r}; "
                "see the argument options"
            )
        given["flow"] = settings.method
    try:
        return RunConfig.of("table", **{**given, **(settings.options or {})})
    except ValueError as error:
        raise ValueError(f"options: {error}") from None


def by_chunks(function: Any, x: np.ndarray) -> np.ndarray:
    """``function`` of tensors applied to the rows of ``x``, many at a time."""
    if len(x) == 0:
        return np.empty(0)
    with torch.inference_mode():
        parts = [function(torch.from_numpy(x[i : i + CHUNK])) for i in range(0, len(x), CHUNK)]
        return torch.cat(parts).numpy().astype(np.float64)
