"""The schema of data: columns, event shape, condition.  Stored with a run as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from ..rows import Rows
from ..typed import as_type
from .mixed_condition import AnyConditionSpec
from .text import is_whole

Kind = Literal["table", "image", "array", "text"]

#: Numbers of a row at most.
LARGEST = 2**28


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The schema of a data set, by which more of it is read and samples like it are written.

    columns: names of a table's columns, as in its header.
    excluded: columns of that table that were left out.
    integers: columns, of the data or the condition, that held integers; samples are rounded to them.
    sample_weight: the column of weights that left the data, None without.
    levels: (low, high, step) of data that are whole steps and need dequantising (images), else None.
    alphabet: the characters of a text, whose numbers in it the data are; empty without.
    resize: pixels of the sides that images of a folder are brought to, None where they are taken as they are.
    source: the name or path it came from.
    duplicates: rows that repeat an earlier row exactly, over the whole table before the split.

    Raises ValueError for an unknown kind, and sizes, columns and levels that do not go together.

    >>> schema = Schema(name="demo", kind="table", event_shape=(2,), columns=("a", "b"))
    >>> Schema.from_json(schema.to_json()) == schema
    True
    """

    name: str
    kind: Kind
    event_shape: tuple[int, ...]
    columns: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    condition: AnyConditionSpec | None = None
    sample_weight: str | None = None
    levels: tuple[float, float, float] | None = None
    alphabet: str = ""
    resize: int | None = None
    source: str = ""
    rows_train: int = 0
    rows_test: int = 0
    duplicates: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"schema: kind: expected one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        shape = self.event_shape
        if not shape or any(not is_whole(size) or size < 1 for size in shape):
            raise ValueError(f"schema: event_shape: expected sizes of at least 1, got {shape}")
        if math.prod(shape) > LARGEST:
            raise ValueError(f"schema: event_shape: expected at most {LARGEST:,} numbers a row, got {shape}")
        if len({*self.columns}) < len(self.columns):
            raise ValueError(f"schema: columns: expected different names, got {', '.join(self.columns)}")
        for name in ("rows_train", "rows_test", "duplicates"):
            if not is_whole(getattr(self, name)) or getattr(self, name) < 0:
                raise ValueError(f"schema: {name}: expected a number of rows, got {getattr(self, name)!r}")
        if self.resize is not None and (not is_whole(self.resize) or self.resize < 1):
            raise ValueError(f"schema: resize: expected a number of pixels, got {self.resize!r}")
        if self.columns and shape != (len(self.columns),):
            raise ValueError(
                f"schema: event_shape: expected ({len(self.columns)},), the number of columns, got {shape}"
            )
        if self.levels is not None and not (self.levels[0] < self.levels[1] and self.levels[2] > 0):
            raise ValueError(f"schema: levels: expected (low, high, step) that rise, got {self.levels}")
        if self.kind == "text" or self.alphabet:
            self._check_alphabet()

    def _check_alphabet(self) -> None:
        count = len(self.alphabet)
        if self.kind != "text" or len({*self.alphabet}) < count or self.levels != (0, count - 1, 1):
            raise ValueError(
                f"schema: alphabet: expected different characters, as many as levels, of a text; got {count} "
                f"and levels {self.levels}"
            )

    @property
    def row(self) -> str:
        """What a row is, in words.

        >>> Schema(name="demo", kind="table", event_shape=(3,)).row
        'row of 3 numbers'
        """
        count = math.prod(self.event_shape)
        if self.kind == "text":
            return f"window of {count:,} characters ({len(self.alphabet)} different)"
        return f"row of {count:,} numbers"

    @property
    def network_spec(self) -> Any:
        """The specification of the condition for a network, None without one."""
        return None if self.condition is None else self.condition.network_spec

    def labels(self, rows: Rows) -> Tensor | None:
        """The labels of ``rows``, by which a split takes its share of each; None without labels."""
        if self.condition is None or rows.condition is None:
            return None
        return self.condition.labels(rows.condition)

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of :meth:`from_json`."""
        return _listed(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "schema") -> Schema:
        """Rebuild from :meth:`to_json`.

        Raises ValueError, which says ``where`` the data stand, for unknown or missing entries, and values of
        another type.
        """
        return as_type(data, cls, where)


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple) else value
