"""The condition of a model: columns of one kind."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
    def entries(self) -> dict[str, ConditionSpec]:
        """The specification of every entry of a condition, by its key; that of a tensor has none."""
        return {"": self}

    @property
    def network_spec(self) -> int | tuple[int, ...]:
        """The specification for a network: the number of labels, or the shape of a continuous condition."""
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

        The values of several columns are separated by commas, in the order of :attr:`columns`.
        """
        return self.encode(list(texts) if len(self.columns) == 1 else cells(texts, self.columns))

    def encode(self, values: Any, warn: bool = True) -> Tensor:
        """A user's values as a tensor: int64 labels, or float64 numbers.

        values: one value gives no batch dimension, a list or array of B gives ``(B,)``; of k continuous
        columns ``(k,)`` or ``(B, k)``.  Numbers may be written as texts.  If no label is a number, integers
        are indices of labels.

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
