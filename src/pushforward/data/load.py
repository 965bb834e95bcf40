"""Reading data: from a built-in name, a path, or what is already in memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import random
from ..rows import Rows
from ..tensors import Condition
from .charts import check_alone, fit_chart
from .columns import choose, warn_of_identifiers
from .conditions import fit_condition, pair_columns
from .dataset import Dataset, fit_preprocess
from .mixed_condition import AnyConditionSpec
from .problems import check_columns
from .prose import is_prose, load_prose
from .raw import Raw, check_varies
from .schema import Schema
from .settings import LEAST, LoadSettings
from .sources import Source, find_path, is_path, open_source
from .split import repeats, split


def load(source: Source, **options: Any) -> Dataset:
    """Read data, split off test rows, and fit the preprocessing on the training rows.

    source: a built-in name (``pushforward.entries.DATASETS``); the path of a table (CSV, TSV, Parquet), of
        an array (``.npy``, ``.npz``, ``file.npz:key``), of a text (``.txt``) or of a folder of images; a
        DataFrame, array or tensor; or a pair (x, y) with y the condition.
    options: those of :class:`LoadSettings`, by name.

    Points are float64 in tables and wherever they come as float64, else float32.  Labels are int64,
    continuous conditions float64.  Raises ValueError for anything that cannot be read or learnt from, of a
    table's columns everything at once; warns of columns that look like identifiers.

    >>> data = load("moons", rows=100, condition=["label"])
    >>> data.schema.rows_train, data.schema.condition.classes, data.train.x.shape
    (100, ('0', '1'), torch.Size([100, 2]))
    """
    settings = LoadSettings(**options)
    if is_path(source) and is_prose(path := find_path(source)[0]):
        return load_prose(path, settings)
    if settings.window is not None:
        raise ValueError("window: only a text has windows; leave it out")
    raw, names, taken = _opened(source, settings)
    weight = _weights(raw, settings, names)
    taken = (*taken, *(() if settings.sample_weight is None else (settings.sample_weight,)))
    kept, left_out = choose(raw, settings.columns, settings.exclude, taken)
    check_columns(raw, kept, names, settings.exclude, free=settings.space is None)
    warn_of_identifiers(raw, kept, settings.exclude)
    given = {name: raw.known(name, "condition") for name in names}
    spec = fit_condition(raw.source, given, settings.condition_kind) if given else None
    array = raw.matrix(kept) if raw.x is None else raw.x
    condition = None if spec is None else spec.encode_columns(given)
    again = repeats(array, *(part.numpy() for part in (*_tensors(condition), weight) if part is not None))
    whole = Rows(torch.from_numpy(np.ascontiguousarray(array)), condition, weight=weight)
    train, test = _parts(raw, whole, again, spec, settings)
    rows = whole.take(train)
    check_varies(raw.source, rows.x.numpy(), kept)
    if spec is not None and rows.condition is not None:
        spec = spec.ranged(rows.condition)
    numbers = {name: raw.columns[name] for name in kept}
    numbers |= {name: given[name] for name in names if spec and name not in spec.label_columns}
    schema = Schema(
        name=raw.name,
        kind=raw.kind,
        event_shape=tuple(array.shape[1:]),
        columns=kept,
        excluded=left_out,
        integers=tuple(name for name, column in numbers.items() if column.dtype.kind in "iu"),
        condition=spec,
        sample_weight=settings.sample_weight,
        levels=raw.levels,
        resize=settings.resize,
        source=raw.source,
        rows_train=len(train),
        rows_test=len(test),
        duplicates=int(again.sum()),
    )
    if settings.space is not None:
        check_alone(settings.preprocess, settings.noise)
        return Dataset(schema, rows, whole.take(test), fit_chart(whole, train, schema, settings.space))
    preprocess = fit_preprocess(rows.x, schema, settings.preprocess, settings.noise, rows.weight)
    return Dataset(schema, rows, whole.take(test), preprocess)


def _opened(source: Source, settings: LoadSettings) -> tuple[Raw, tuple[str, ...], tuple[str, ...]]:
    """The data, the names of the condition's columns, and those of them that are taken from the data."""
    generator, tested = random.seeded(settings.seed, "toy"), settings.holdout > 0
    raw, y = open_source(source, settings.rows, generator, tested, settings.resize, settings.max_size)
    names = taken = tuple(settings.condition)
    if y is not None:
        pairs = pair_columns(y, names)
        raw, names, taken = dataclasses.replace(raw, extra=pairs), tuple(pairs), ()
        if len(next(iter(pairs.values()))) != len(raw):
            raise ValueError(f"x, y: expected equal lengths, got {len(raw)} and {len(pairs[names[0]])}")
    if len(raw) < LEAST:
        count = "1 row" if len(raw) == 1 else f"{len(raw)} rows"
        raise ValueError(f"{raw.source}: {count}, expected at least {LEAST}")
    return raw, names, taken


def _weights(raw: Raw, settings: LoadSettings, names: tuple[str, ...]) -> Tensor | None:
    """The weight of every row, None without."""
    if settings.sample_weight is None:
        return None
    weight = torch.from_numpy(raw.weights(settings.sample_weight))
    if settings.sample_weight in names:
        told = f"{settings.sample_weight!r} is the condition already"
        raise ValueError(f"{raw.source}: sample_weight: {told}")
    return weight


def _parts(
    raw: Raw, whole: Rows, again: np.ndarray, spec: AnyConditionSpec | None, settings: LoadSettings
) -> tuple[Tensor, Tensor]:
    """The numbers of the rows to train on and to test on; ``again`` are those that repeat earlier ones."""
    stays = ~again if settings.deduplicate else np.ones(len(again), dtype=bool)
    if whole.weight is not None:
        stays &= whole.weight.numpy() > 0
    kept = torch.from_numpy(np.flatnonzero(stays))
    if len(kept) < LEAST:
        what = "distinct rows" if settings.deduplicate else "rows of positive weight"
        raise ValueError(f"{raw.source}: {len(kept)} {what}, expected at least {LEAST}")
    if raw.train_rows is not None:
        in_train = kept < raw.train_rows
        train, test = kept[in_train], kept[~in_train]
    else:
        labels = None if spec is None or whole.condition is None else spec.labels(whole.condition)
        labels = None if labels is None else labels[kept]
        train, test = (kept[part] for part in split(len(kept), settings.holdout, settings.seed, labels))
    if len(train) < LEAST // 2:
        raise ValueError(
            f"holdout: {settings.holdout} leaves {len(train)} rows to train on, at least {LEAST // 2} needed"
        )
    return train, test


def _tensors(condition: Condition | None) -> list[Tensor]:
    if condition is None or isinstance(condition, Tensor):
        return [] if condition is None else [condition]
    return list(condition.values())
