"""The kinds of condition columns: labels or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from torch import Tensor

from .arrays import condition_values
from .condition_spec import ConditionSpec
from .mixed_condition import AnyConditionSpec, MixedConditionSpec
from .tables import series_values
from .text import label_text, natural_order

ConditionKind = Literal["auto", "labels", "continuous"]

#: An integer column with at most so many different values is read as labels.
FEW = 20


def fit_condition(source: str, columns: Mapping[str, np.ndarray], kind: ConditionKind) -> AnyConditionSpec:
    """The condition made of ``columns``, each ``(N,)``, its ranges still to be filled in.

    auto: a column of texts, truth values or at most 20 different integers is labels, others are numbers;
    labels, continuous: all columns are.  Labels are sorted, numbers by value.  Numbers alone and one column
    of labels alone make a :class:`~pushforward.data.ConditionSpec`, anything else one that is mixed.

    Raises ValueError for a column of texts among numbers, and for labels that hardly ever repeat.
    """
    names = tuple(columns)
    texts = [name for name, values in columns.items() if values.dtype == object]
    if kind == "continuous" and texts:
        raise ValueError(f"{source}: condition column {texts[0]!r} holds texts, expected numbers")
    few = [name for name, v in columns.items() if v.dtype.kind in "iu" and len(np.unique(v)) <= FEW]
    labels = {"auto": {*texts, *few}, "labels": {*names}, "continuous": set()}[kind]
    if not labels:
        return ConditionSpec(kind="continuous", columns=names)
    parts = tuple(
        _labels(source, name, values) if name in labels else ConditionSpec(kind="continuous", columns=(name,))
        for name, values in columns.items()
    )
    return parts[0] if len(parts) == 1 else MixedConditionSpec(parts=parts)


def _labels(source: str, name: str, values: np.ndarray) -> ConditionSpec:
    classes = natural_order(list({label_text(value) for value in values.tolist()}))
    if len(classes) > len(values) / 2:
        raise ValueError(
            f"{source}: condition column {name!r} has {len(classes)} different labels "
            f"in {len(values)} rows; labels must repeat"
        )
    return ConditionSpec(kind="labels", columns=(name,), classes=tuple(classes))


def pair_columns(y: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The columns of ``y`` ``(N,)`` or ``(N, k)``, called ``names``, as in pandas, or y, or y1 to yk.

    Of a mapping from names to columns, these.
    """
    if isinstance(y, Mapping):
        found = {name: condition_values(np.asarray(part)) for name, part in y.items()}
        if not found or any(part.shape != (len(part),) for part in found.values()):
            raise ValueError("y: expected a mapping from names to columns (rows,)")
        return found if not names else {name: found[name] for name in names if name in found}
    if hasattr(y, "isna"):
        series = [y] if y.ndim == 1 else [y.iloc[:, i] for i in range(y.shape[1])]
        names = names or (
            tuple(map(str, y.columns)) if y.ndim == 2 else (str(y.name),) * (y.name is not None)
        )
        parts = [series_values(one) for one in series]
    else:
        array = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
        # rows of a list may hold texts and numbers side by side, which should not all become texts
        mixed = array.dtype.kind == "U" and not isinstance(y, np.ndarray)
        y = np.asarray(y, dtype=object) if mixed else array
        if y.ndim not in (1, 2):
            raise ValueError(f"y: expected shape (rows,) or (rows, k), got {y.shape}")
        parts = [condition_values(part) for part in ([y] if y.ndim == 1 else y.T)]
    names = names or (("y",) if len(parts) == 1 else tuple(f"y{i + 1}" for i in range(len(parts))))
    if len(names) != len(parts):
        raise ValueError(f"condition: expected {len(parts)} names for the columns of y, got {len(names)}")
    return dict(zip(names, parts))
