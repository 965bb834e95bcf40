"""What a model is conditioned on: columns of one kind, or of several."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..tensors import Condition, to_tensor
from .text import hint, label_text, number, plain_array, quoted


@dataclass(frozen=True, kw_only=True)
class ConditionSpec:
    """A condition of columns of one kind.

    kind: ``labels``, one column of texts or few integers; or ``continuous``, numbers.
    columns: their names.  One continuous column gives conditions of shape ``()``, k of them ``(k,)``.
    classes: the text of every label, its index being the label.
    low, high: the range of every continuous column on the training rows.

    Raises ValueError for an unknown kind, and columns, classes and ranges that do not go together.

    >>> spec = ConditionSpec(kind="labels", columns=("species",), classes=("setosa", "virginica"))
    >>> spec.encode(["virginica", "setosa"])
    tensor([1, 0])
    """

    kind: Literal["labels", "continuous"]
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("labels", "continuous"):
            raise ValueError(f"condition: kind: expected labels or continuous, got {self.kind!r}")
        if isinstance(self.columns, str) or not self.columns or len({*self.columns}) < len(self.columns):
            raise ValueError(f"condition: columns: expected a tuple of different names, got {self.columns!r}")
        if self.kind == "labels" and (
            len(self.columns) > 1 or not self.classes or len({*self.classes}) < len(self.classes)
        ):
            raise ValueError(
                f"condition: expected one column of different labels, got columns {self.columns} "
                f"and classes {self.classes}"
            )
        ranges = (*self.low, *self.high)
        if ranges and (
            not len(self.low) == len(self.high) == len(self.columns)
            or any(not low <= high for low, high in zip(self.low, self.high))
        ):
            raise ValueError(
                f"condition: expected a range for each of {len(self.columns)} columns, "
                f"got low {self.low} and high {self.high}"
            )

    @property
    def network_spec(self) -> int | tuple[int, ...]:
        """What a network wants to know: the number of labels, or the shape of a continuous condition."""
        if self.kind == "labels":
            return len(self.classes)
        return () if len(self.columns) == 1 else (len(self.columns),)

    @property
    def ndim(self) -> int:
        """Dimensions of one row's condition."""
        return int(len(self.columns) > 1)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold labels."""
        return self.columns if self.kind == "labels" else ()

    def parse(self, texts: Sequence[str]) -> Tensor:
        """:meth:`encode` of conditions as they are written on the command line, ``(B,)`` or ``(B, k)``.

        Of several columns the values stand between commas, in the order of :attr:`columns`.
        """
        return self.encode(list(texts) if len(self.columns) == 1 else cells(texts, self.columns))

    def encode(self, values: Any, warn: bool = True) -> Tensor:
        """A user's values as a tensor: int64 labels, or float64 numbers.

        values: one value gives no batch dimension, a list or array of B gives ``(B,)``; of k continuous
        columns ``(k,)`` or ``(B, k)``.  Numbers may be written as texts.  Where no label is a number,
        integers are taken for indices of labels.

        Raises ValueError for a label that was not trained on, for what is not a finite number and for a
        wrong number of columns; may ``warn`` for numbers outside the training range.
        """
        if self.kind == "labels":
            return self._labels(values)
        encoded = self._numbers(values)
        if warn:
            self.warn_outside(self.outside(encoded), encoded.numel() // len(self.columns))
        return encoded

    def outside(self, encoded: Tensor) -> dict[str, tuple[int, float]]:
        """How many of some encoded numbers lie outside the training range and the farthest, by column."""
        found = {}
        rows = encoded.reshape(-1, len(self.columns))
        for name, column, low, high in zip(self.columns, rows.T, self.low, self.high):
            beyond = column[(column < low) | (column > high)]
            if len(beyond):
                found[name] = len(beyond), self.farthest(name, beyond.tolist())
        return found

    def farthest(self, name: str, values: Sequence[float]) -> float:
        """The value that lies farthest from the middle of a column's training range."""
        i = self.columns.index(name)
        middle = (self.low[i] + self.high[i]) / 2
        return max(values, key=lambda value: abs(value - middle))

    def warn_outside(self, found: Mapping[str, tuple[int, float]], count: int) -> None:
        """Warn of what :meth:`outside` found among ``count`` values."""
        for name, low, high in zip(self.columns, self.low, self.high):
            if name in found:
                outside, worst = found[name]
                warnings.warn(
                    f"condition {name!r}: {outside} of {count} values lie outside "
                    f"the training range [{low:g}, {high:g}], the farthest is {worst:g}",
                    stacklevel=3,
                )

    def _labels(self, values: Any) -> Tensor:
        array = plain_array(values)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        index = {text: i for i, text in enumerate(self.classes)}
        indices_allowed = all(number(text) is None for text in self.classes)

        def encode(value: Any) -> int:
            text = label_text(value)
            known = index.get(text)
            if known is not None:
                return known
            value = number(text)
            if value is not None and value.is_integer():
                if str(int(value)) in index:
                    return index[str(int(value))]
                if indices_allowed and 0 <= value < len(self.classes):
                    return int(value)
            near = hint(text, self.classes)
            raise ValueError(f"condition {self.columns[0]!r}: no label {quoted(text)}{near}")

        return torch.tensor([encode(v) for v in array.ravel()], dtype=torch.int64).reshape(array.shape)

    def _numbers(self, values: Any) -> Tensor:
        array, k = plain_array(values), len(self.columns)
        names = ", ".join(self.columns)
        if k == 1 and array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim > (1 if k == 1 else 2) or (k > 1 and (array.ndim == 0 or array.shape[-1] != k)):
            raise ValueError(f"condition: expected values of {names}, got shape {array.shape}")

        def encode(value: Any) -> float:
            try:
                found = number(value) if isinstance(value, str) else float(value)
            except (TypeError, ValueError):
                found = None
            if found is None or not math.isfinite(found):
                raise ValueError(f"condition: expected finite numbers for {names}, got {quoted(value)}")
            return found

        if array.dtype == object or not np.isfinite(array).all():
            array = np.array([encode(v) for v in array.ravel()]).reshape(array.shape)
        return torch.tensor(array, dtype=torch.float64)

    def encode_columns(self, columns: Mapping[str, np.ndarray], warn: bool = True) -> Tensor:
        """:meth:`encode` of a table's columns, each ``(B,)``, by name; the inverse of
        :meth:`decode_columns`."""
        values = [columns[name] for name in self.columns]
        return self.encode(values[0] if len(values) == 1 else np.stack(values, 1), warn)

    def decode(self, condition: Tensor) -> np.ndarray:
        """The values that :meth:`encode` would take: texts, integers where all labels are, or floats.

        Raises ValueError for labels that are no integers in 0..K-1.
        """
        values = to_tensor(condition, "condition").detach().cpu().numpy()
        if self.kind == "continuous":
            return values
        if values.dtype.kind not in "iu":
            raise ValueError(f"condition: expected labels as integers, got {values.dtype}")
        if values.size and not (0 <= values.min() and values.max() < len(self.classes)):
            raise ValueError(f"condition: expected labels in 0..{len(self.classes) - 1}")
        whole = all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", text) for text in self.classes)
        table = np.asarray([int(t) for t in self.classes]) if whole else np.asarray(self.classes)
        return table[values]

    def decode_columns(self, condition: Condition) -> dict[str, np.ndarray]:
        """:meth:`decode` of ``(B,)`` or ``(B, k)`` by the name of the column."""
        if not isinstance(condition, Tensor):
            raise ValueError(f"condition: expected a tensor, got {type(condition).__name__}")
        values = self.decode(condition)
        if len(self.columns) == 1:
            return {self.columns[0]: values}
        return {name: values[:, i] for i, name in enumerate(self.columns)}

    def labels(self, condition: Condition) -> Tensor | None:
        """The labels of every row, ``(B,)``; None where numbers are the condition."""
        return condition if self.kind == "labels" and isinstance(condition, Tensor) else None

    def ranged(self, condition: Condition) -> ConditionSpec:
        """This, with the ranges of numbers that the training rows have."""
        if self.kind == "labels" or not isinstance(condition, Tensor):
            return self
        rows = condition.reshape(len(condition), -1)
        return dataclasses.replace(self, low=tuple(rows.amin(0).tolist()), high=tuple(rows.amax(0).tolist()))


@dataclass(frozen=True, kw_only=True)
class MixedConditionSpec:
    """A condition of labels and numbers, or of several columns of labels: a mapping from names to ``(B,)``.

    parts: one for every column, in the order in which the user names them.

    >>> species = ConditionSpec(kind="labels", columns=("species",), classes=("setosa", "virginica"))
    >>> spec = MixedConditionSpec(parts=(species, ConditionSpec(kind="continuous", columns=("age",))))
    >>> spec.parse(["virginica,1.5"])
    {'species': tensor([1]), 'age': tensor([1.5000], dtype=torch.float64)}
    """

    parts: tuple[ConditionSpec, ...]

    def __post_init__(self) -> None:
        names = [name for part in self.parts for name in part.columns]
        if not names or len(names) != len(self.parts) or len({*names}) < len(names):
            raise ValueError(f"condition: parts: expected specifications of one column each, got {names}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns."""
        return tuple(part.columns[0] for part in self.parts)

    @property
    def classes(self) -> tuple[str, ...]:
        """Empty: no column of labels is the whole condition."""
        return ()

    @property
    def network_spec(self) -> dict[str, int | tuple[int, ...]]:
        """What a network wants to know of every column."""
        return {part.columns[0]: part.network_spec for part in self.parts}

    @property
    def ndim(self) -> int:
        """Dimensions of each entry of one row's condition."""
        return 0

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold labels."""
        return tuple(name for part in self.parts for name in part.label_columns)

    def parse(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """:meth:`encode` of conditions as they are written on the command line: values between commas."""
        return self.encode(cells(texts, self.columns))

    def encode(self, values: Any) -> dict[str, Tensor]:
        """A user's values as a tensor for every column, int64 labels or float64 numbers.

        values: ``(k,)`` for one condition or ``(B, k)`` for B, in the order of :attr:`columns`; or a mapping
        (also a DataFrame) by their names.  Raises ValueError as :meth:`ConditionSpec.encode` and for a
        missing or unknown name.
        """
        if isinstance(values, Mapping) or hasattr(values, "columns"):
            for name in (*self.columns, *values):
                if name not in values or name not in self.columns:
                    state = "is missing" if name in self.columns else "is unknown"
                    raise ValueError(f"condition: {name!r} {state}{hint(str(name), self.columns)}")
            return self.encode_columns(values)
        array = plain_array(values)
        if array.ndim not in (1, 2) or array.shape[-1] != len(self.parts):
            raise ValueError(
                f"condition: expected values of {', '.join(self.columns)}, got shape {array.shape}"
            )
        return self.encode_columns({name: array[..., i] for i, name in enumerate(self.columns)})

    def encode_columns(self, columns: Mapping[str, Any], warn: bool = True) -> dict[str, Tensor]:
        """:meth:`encode` of a table's columns by name; the inverse of :meth:`decode_columns`."""
        return {part.columns[0]: part.encode(columns[part.columns[0]], warn) for part in self.parts}

    def decode_columns(self, condition: Condition) -> dict[str, np.ndarray]:
        """The values that :meth:`encode` would take, by the name of the column.

        Raises ValueError for a condition of other columns, and labels outside 0..K-1.
        """
        if isinstance(condition, Tensor) or {*condition} != {*self.columns}:
            got = "a tensor" if isinstance(condition, Tensor) else ", ".join(condition)
            raise ValueError(f"condition: expected a mapping of {', '.join(self.columns)}, got {got}")
        return {part.columns[0]: part.decode(condition[part.columns[0]]) for part in self.parts}

    def labels(self, condition: Condition) -> Tensor | None:
        """The labels of every row, ``(B,)`` or, of k columns of labels, ``(B, k)``."""
        assert isinstance(condition, Mapping)
        found = [condition[name] for name in self.label_columns]
        return found[0] if len(found) == 1 else torch.stack(found, 1)

    def ranged(self, condition: Condition) -> MixedConditionSpec:
        """This, with the ranges of numbers that the training rows have."""
        assert isinstance(condition, Mapping)
        parts = tuple(part.ranged(condition[part.columns[0]]) for part in self.parts)
        return MixedConditionSpec(parts=parts)


#: What :class:`~pushforward.data.Schema` holds.
AnyConditionSpec: TypeAlias = ConditionSpec | MixedConditionSpec


def check_condition(spec: AnyConditionSpec, condition: Condition | None) -> None:
    """Raise ValueError unless ``condition`` is of rows as ``spec`` says: its columns, labels and numbers."""
    parts = spec.parts if isinstance(spec, MixedConditionSpec) else (spec,)
    given = {"": condition} if isinstance(condition, Tensor) else condition or {}
    names = spec.columns if isinstance(spec, MixedConditionSpec) else ("",)
    if {*given} != {*names}:
        raise ValueError(f"expected a condition of {', '.join(spec.columns)}")
    for name, part in zip(names, parts):
        values, wanted = given[name], ", ".join(part.columns)
        shape = (len(part.columns),) if len(part.columns) > 1 else ()
        if values.ndim == 0 or len(values) == 0 or len(values) != len(next(iter(given.values()))):
            raise ValueError(f"expected rows of {wanted}, got shape {tuple(values.shape)}")
        if tuple(values.shape[1:]) != shape:
            raise ValueError(
                f"expected {len(part.columns)} columns, {wanted}, got shape {tuple(values.shape)}"
            )
        if part.kind == "labels":
            whole = not values.is_floating_point() and values.dtype != torch.bool
            if not whole or not 0 <= int(values.min()) <= int(values.max()) < len(part.classes):
                raise ValueError(f"expected labels of {wanted} in 0..{len(part.classes) - 1}")
        elif not values.is_floating_point() or not bool(values.isfinite().all()):
            raise ValueError(f"expected finite numbers of {wanted}")


def cells(texts: Sequence[str], columns: Sequence[str]) -> list[list[str]]:
    """Conditions of several ``columns`` written between commas; quotes hold a label with a comma together.

    >>> cells(['"Paris, France",1.5'], ("city", "age"))
    [['Paris, France', '1.5']]

    Raises ValueError for another number of values.
    """
    rows = list(csv.reader(texts, skipinitialspace=True))
    for text, row in zip(texts, rows):
        if len(row) != len(columns):
            raise ValueError(
                f"condition: expected {len(columns)} values with commas between them "
                f"({','.join(columns)}), got {text!r}"
            )
    return rows
