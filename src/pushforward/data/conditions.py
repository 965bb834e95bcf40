"""Which condition columns are labels and which are numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from torch import Tensor

from .arrays import condition_values
from .schema import ConditionSpec
from .tables import series_values
from .text import label_text, natural_order

ConditionKind = Literal["auto", "labels", "continuous"]

#: An integer column with at most so many different values is read as labels.
FEW = 20


def fit_condition(source: str, columns: Mapping[str, np.ndarray], kind: ConditionKind) -> ConditionSpec:
    """The condition made of ``columns``, each ``(N,)``, its ranges still to be filled in.

    auto: one column of texts, truth values or at most 20 different integers is labels; others are
    continuous.  Labels are sorted, numbers by value.

    Raises ValueError for several columns of which one is text, for a column that takes one value, and for
    labels that hardly ever repeat.
    """
    names, (name, values) = tuple(columns), next(iter(columns.items()))
    texts = [key for key, column in columns.items() if column.dtype == object]
    for key, column in columns.items():
        if len({*column.tolist()}) == 1:
            raise ValueError(
                f"{source}: condition column {key!r} is constant (always {label_text(column[0])})"
            )
    few = values.dtype.kind in "iu" and len(np.unique(values)) <= FEW
    if kind == "labels" or (kind == "auto" and len(names) == 1 and (texts or few)):
        if len(names) > 1:
            raise ValueError(f"{source}: condition: expected one column of labels, got {', '.join(names)}")
        classes = natural_order(list({label_text(value) for value in values.tolist()}))
        if len(classes) > len(values) / 2:
            raise ValueError(
                f"{source}: condition column {name!r} has {len(classes)} different labels "
                f"in {len(values)} rows; labels must repeat"
            )
        return ConditionSpec(kind="labels", columns=names, classes=tuple(classes))
    if texts:
        raise ValueError(f"{source}: condition column {texts[0]!r} holds texts, expected numbers")
    return ConditionSpec(kind="continuous", columns=names)


def stacked(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Columns as the values that ``ConditionSpec.encode`` takes: ``(N,)`` of one, ``(N, k)`` of k."""
    values = list(columns.values())
    return values[0] if len(values) == 1 else np.stack(values, 1)


def pair_columns(y: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The columns of ``y`` ``(N,)`` or ``(N, k)``, called ``names``, as in pandas, or y, or y1 to yk."""
    if hasattr(y, "isna"):
        series = [y] if y.ndim == 1 else [y.iloc[:, i] for i in range(y.shape[1])]
        names = names or (
            tuple(map(str, y.columns)) if y.ndim == 2 else (str(y.name),) * (y.name is not None)
        )
        parts = [series_values(one) for one in series]
    else:
        y = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
        if y.ndim not in (1, 2):
            raise ValueError(f"y: expected shape (rows,) or (rows, k), got {y.shape}")
        parts = [condition_values(part) for part in ([y] if y.ndim == 1 else y.T)]
    names = names or (("y",) if len(parts) == 1 else tuple(f"y{i + 1}" for i in range(len(parts))))
    if len(names) != len(parts):
        raise ValueError(f"condition: expected {len(parts)} names for the columns of y, got {len(names)}")
    return dict(zip(names, parts))
