"""Reading data: from a built-in name, a path, or what is already in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .. import random
from ..rows import Rows
from ..tensors import Condition
from .columns import choose, warn_of_identifiers
from .conditions import ConditionKind, fit_condition, pair_columns
from .dataset import Dataset, Preprocess, fit_preprocess
from .limits import MAX_SIZE, checked_max_size
from .problems import check_columns
from .raw import check_varies
from .schema import Schema
from .sources import Source, open_source
from .split import check_share, repeats, split
from .text import is_whole

#: Fewer rows than this are not enough to train on.
LEAST = 32


def load(
    source: Source,
    *,
    condition: Sequence[str] = (),
    condition_kind: ConditionKind = "auto",
    columns: Sequence[str] = (),
    exclude: Sequence[str] = (),
    sample_weight: str | None = None,
    holdout: float = 0.2,
    seed: int = 0,
    deduplicate: bool = False,
    preprocess: Preprocess = "auto",
    noise: str | None = None,
    rows: int | None = None,
    resize: int | None = None,
    max_size: float = MAX_SIZE,
) -> Dataset:
    """Read data, split off test rows, and fit the preprocessing on the training rows.

    source: a built-in name (``pushforward.entries.DATASETS``); the path of a table (CSV, TSV, Parquet), of
        an array (``.npy``, ``.npz``, ``file.npz:key``) or of a folder of images; a DataFrame, array or
        tensor; or a pair (x, y) with y the condition.
    condition: columns that become the condition and leave the data.  Built-in data and image folders
        with classes offer ``label``, an npz file its other arrays.  Labels beside numbers or other labels
        become a mapping from their names to tensors ``(B,)``.
    condition_kind: how to read them, see :func:`pushforward.data.conditions.fit_condition`.
    columns: the columns of a table that are data, and no others; empty: all.
    exclude: columns that are no data.
    sample_weight: column of weights, non-negative numbers, which leaves the data; an npz file offers its
        other arrays.  Rows of weight 0 are left out.
    holdout: share of rows to test on, drawn by ``seed`` label by label.  A toy draws test rows afresh, as
        many as training rows, unless the share is 0.
    deduplicate: drop rows that repeat an earlier row exactly.
    preprocess, noise: see :func:`pushforward.data.dataset.fit_preprocess`.
    rows: how many rows a toy draws, 10,000 by default.
    resize: pixels of the shorter side of a folder's images, of which the central square is kept.
    max_size: gigabytes that the numbers of a file or of a folder of images may take; it is checked before
        they take it.

    Points are float64 in tables and wherever they come as float64, else float32.  Labels are int64,
    continuous conditions float64.  Raises ValueError for anything that cannot be read or learnt from, of a
    table's columns everything at once; warns of columns that look like identifiers.

    >>> data = load("moons", rows=100, condition=["label"])
    >>> data.schema.rows_train, data.schema.condition.classes, data.train.x.shape
    (100, ('0', '1'), torch.Size([100, 2]))
    """
    names, columns, exclude = map(_names, (condition, columns, exclude))
    if len(set(names)) < len(names):
        raise ValueError(f"condition: a column is named twice in {', '.join(names)}")
    if condition_kind not in ("auto", "labels", "continuous"):
        raise ValueError(f"condition_kind: expected auto, labels or continuous, got {condition_kind!r}")
    if rows is not None and (not is_whole(rows) or rows < LEAST):
        raise ValueError(f"rows: expected a whole number of at least {LEAST}, got {rows!r}")
    if not is_whole(seed):
        raise ValueError(f"seed: expected a whole number, got {seed!r}")
    check_share(holdout)
    raw, y = open_source(
        source,
        rows,
        random.seeded(seed, "toy"),
        tested=holdout > 0,
        resize=resize,
        max_size=checked_max_size(max_size),
    )
    if y is not None:
        pairs = pair_columns(y, names)
        raw, names = dataclasses.replace(raw, extra=pairs), tuple(pairs)
        if len(next(iter(pairs.values()))) != len(raw):
            raise ValueError(f"x, y: expected equal lengths, got {len(raw)} and {len(pairs[names[0]])}")
    if len(raw) < LEAST:
        count = "1 row" if len(raw) == 1 else f"{len(raw)} rows"
        raise ValueError(f"{raw.source}: {count}, expected at least {LEAST}")
    weight = None if sample_weight is None else torch.from_numpy(raw.weights(sample_weight))
    if sample_weight in names:
        raise ValueError(f"{raw.source}: sample_weight: {sample_weight!r} is the condition already")
    taken = (*(names if y is None else ()), *(() if sample_weight is None else (sample_weight,)))
    kept, left_out = choose(raw, columns, exclude, taken)
    check_columns(raw, kept, names, exclude)
    warn_of_identifiers(raw, kept, exclude)
    given = {name: raw.known(name, "condition") for name in names}
    spec = fit_condition(raw.source, given, condition_kind) if given else None
    array = raw.matrix(kept) if raw.x is None else raw.x
    c = None if spec is None else spec.encode_columns(given)
    again = repeats(array, *(part.numpy() for part in (*_tensors(c), weight) if part is not None))
    stays = ~again if deduplicate else np.ones(len(array), dtype=bool)
    if weight is not None:
        stays &= weight.numpy() > 0
    kept_rows = torch.from_numpy(np.flatnonzero(stays))
    if len(kept_rows) < LEAST:
        what = "distinct rows" if deduplicate else "rows of positive weight"
        raise ValueError(f"{raw.source}: {len(kept_rows)} {what}, expected at least {LEAST}")

    if raw.train_rows is not None:
        in_train = kept_rows < raw.train_rows
        train, test = kept_rows[in_train], kept_rows[~in_train]
    else:
        labels = None if spec is None or c is None else spec.labels(c)
        labels = None if labels is None else labels[kept_rows]
        train, test = (kept_rows[part] for part in split(len(kept_rows), holdout, seed, labels))
    if len(train) < LEAST // 2:
        raise ValueError(
            f"holdout: {holdout} leaves {len(train)} rows to train on, at least {LEAST // 2} needed"
        )
    x = torch.from_numpy(np.ascontiguousarray(array))
    whole = Rows(x, c, weight=weight)
    train_rows = whole.take(train)
    check_varies(raw.source, train_rows.x.numpy(), kept)
    if spec is not None and train_rows.condition is not None:
        spec = spec.ranged(train_rows.condition)
    numbers = {name: raw.columns[name] for name in kept}
    numbers |= {name: given[name] for name in names if spec and name not in spec.label_columns}
    schema = Schema(
        name=raw.name,
        kind=raw.kind,
        event_shape=tuple(x.shape[1:]),
        columns=kept,
        excluded=left_out,
        integers=tuple(name for name, column in numbers.items() if column.dtype.kind in "iu"),
        condition=spec,
        sample_weight=sample_weight,
        levels=raw.levels,
        resize=resize,
        source=raw.source,
        rows_train=len(train),
        rows_test=len(test),
        duplicates=int(again.sum()),
    )
    return Dataset(
        schema,
        train_rows,
        whole.take(test),
        fit_preprocess(train_rows.x, schema, preprocess, noise, train_rows.weight),
    )


def _names(names: Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _tensors(condition: Condition | None) -> list[Tensor]:
    if condition is None or isinstance(condition, Tensor):
        return [] if condition is None else [condition]
    return list(condition.values())
