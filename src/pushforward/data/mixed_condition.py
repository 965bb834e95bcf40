"""The condition of a model: columns of several kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..tensors import Condition
from .condition_spec import ConditionSpec, cells
from .text import hint, plain_array


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
    def entries(self) -> dict[str, ConditionSpec]:
        """The specification of every entry of a condition, by its key."""
        return dict(zip(self.columns, self.parts))

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
        """The specification for a network, by column."""
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
    given = {"": condition} if isinstance(condition, Tensor) else condition or {}
    if {*given} != {*spec.entries}:
        raise ValueError(f"expected a condition of {', '.join(spec.columns)}")
    for name, part in spec.entries.items():
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
