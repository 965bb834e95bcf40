"""What the data are: columns, event shape, condition.  Stored with a run as JSON."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..couplings import Rows
from .text import hint, label_text, number, plain_array

Kind = Literal["table", "image", "array"]


@dataclass(frozen=True, kw_only=True)
class ConditionSpec:
    """What a model is conditioned on.

    kind: ``labels``, one column of texts or few integers; or ``continuous``, numbers.
    columns: their names.  One continuous column gives conditions of shape ``()``, k of them ``(k,)``.
    classes: the text of every label, its index being the label.
    low, high: the range of every continuous column on the training rows.

    >>> spec = ConditionSpec(kind="labels", columns=("species",), classes=("setosa", "virginica"))
    >>> spec.encode(["virginica", "setosa"])
    tensor([1, 0])
    """

    kind: Literal["labels", "continuous"]
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def network_spec(self) -> int | tuple[int, ...]:
        """What a network wants to know: the number of labels, or the shape of a continuous condition."""
        if self.kind == "labels":
            return len(self.classes)
        return () if len(self.columns) == 1 else (len(self.columns),)

    def encode(self, values: Any) -> Tensor:
        """A user's values as a tensor: int64 labels, or float64 numbers.

        values: one value gives no batch dimension, a list or array of B gives ``(B,)``; of k continuous
        columns ``(k,)`` or ``(B, k)``.  Numbers may be written as texts.  Where no label is a number,
        integers are taken for indices of labels.

        Raises ValueError for a label that was not trained on, for what is not a finite number and for a
        wrong number of columns; warns for numbers outside the training range.
        """
        if self.kind == "labels":
            return self._labels(values)
        encoded = self.numbers(values)
        rows = encoded.reshape(-1, len(self.columns))
        for name, column, low, high in zip(self.columns, rows.T, self.low, self.high):
            outside = column[(column < low) | (column > high)]
            if len(outside):
                worst = outside[(outside - (low + high) / 2).abs().argmax()].item()
                warnings.warn(
                    f"condition {name!r}: {len(outside)} of {len(column)} values lie outside "
                    f"the training range [{low:g}, {high:g}], the farthest is {worst:g}",
                    stacklevel=2,
                )
        return encoded

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
            raise ValueError(f"condition {self.columns[0]!r}: no label {text!r}{hint(text, self.classes)}")

        return torch.tensor([encode(v) for v in array.ravel()], dtype=torch.int64).reshape(array.shape)

    def numbers(self, values: Any) -> Tensor:
        """:meth:`encode` for continuous columns, without the look at the training range."""
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
                raise ValueError(f"condition: expected finite numbers for {names}, got {value!r}")
            return found

        if array.dtype == object or not np.isfinite(array).all():
            array = np.array([encode(v) for v in array.ravel()]).reshape(array.shape)
        return torch.tensor(array, dtype=torch.float64)

    def decode(self, condition: Tensor) -> np.ndarray:
        """The values that :meth:`encode` would take: texts, integers where all labels are, or floats.

        Raises ValueError for labels outside 0..K-1.
        """
        values = condition.detach().cpu().numpy()
        if self.kind == "continuous":
            return values
        if values.size and not (0 <= values.min() and values.max() < len(self.classes)):
            raise ValueError(f"condition: expected labels in 0..{len(self.classes) - 1}")
        whole = all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", text) for text in self.classes)
        table = np.asarray([int(t) for t in self.classes]) if whole else np.asarray(self.classes)
        return table[values]

    def decode_columns(self, condition: Tensor) -> dict[str, np.ndarray]:
        """:meth:`decode` of ``(B,)`` or ``(B, k)`` by the name of the column."""
        values = self.decode(condition)
        if len(self.columns) == 1:
            return {self.columns[0]: values}
        return {name: values[:, i] for i, name in enumerate(self.columns)}


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What is known of a data set, enough to read more of it and to write samples like it.

    columns: names of a table's columns, as in its header.
    sample_weight: the column of weights that left the data, None without.
    levels: (low, high, step) of data that are whole steps and need dequantising (images), else None.
    source: the name or path it came from.
    duplicates: rows that repeat an earlier row exactly, over the whole table before the split.

    >>> schema = Schema(name="demo", kind="table", event_shape=(2,), columns=("a", "b"))
    >>> Schema.from_json(schema.to_json()) == schema
    True
    """

    name: str
    kind: Kind
    event_shape: tuple[int, ...]
    columns: tuple[str, ...] = ()
    condition: ConditionSpec | None = None
    sample_weight: str | None = None
    levels: tuple[float, float, float] | None = None
    source: str = ""
    rows_train: int = 0
    rows_test: int = 0
    duplicates: int = 0

    def labels(self, rows: Rows) -> Tensor | None:
        """The labels of ``rows``, by which a split takes its share of each; None without labels."""
        spec, condition = self.condition, rows.condition
        return (
            condition
            if spec is not None and spec.kind == "labels" and isinstance(condition, Tensor)
            else None
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of :meth:`from_json`."""
        return _listed(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """Rebuild from :meth:`to_json`.  Raises ValueError for unknown or missing entries."""
        try:
            values = {key: _tupled(value) for key, value in data.items()}
            if values.get("condition") is not None:
                spec = {key: _tupled(value) for key, value in data["condition"].items()}
                values["condition"] = ConditionSpec(**spec)
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"schema: {error}") from None


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value
