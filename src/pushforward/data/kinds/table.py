"""The columns of a mixed table: as tokens and numbers, and as a table again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...typed import as_type
from ..raw import Raw
from ..sources import is_frame
from ..tables import read_frame
from ..text import hint
from .base import ColumnKind
from .cells import Cells
from .names import kind_from_json
from .numeric import share_text

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column and what was seen of it.

    seen: range or levels.  absent: the share of empty cells.  doubt: what a user should look at, else None.
    dtype: of a column of a DataFrame; "" of others.
    """

    kind: ColumnKind
    seen: str
    absent: float
    doubt: str | None = None
    dtype: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of :meth:`from_json`."""
        return {**vars(self), "kind": self.kind.to_json()}

    @classmethod
    def from_json(cls, data: Any, where: str) -> Column:
        """Rebuild from :meth:`to_json`.  Raises ValueError, which says ``where``, for what is none."""
        told = as_type(data, dict[str, Any], where)
        kind = kind_from_json(told.get("kind", {}), f"{where}: kind")
        rest = as_type({name: told[name] for name in told if name != "kind"}, _Seen, where)
        return cls(kind=kind, **vars(rest))


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The entries of a :class:`Column` beside its kind."""

    seen: str
    absent: float
    doubt: str | None = None
    dtype: str = ""


@dataclass(frozen=True, kw_only=True)
class TableKinds:
    """The columns of a table in their order.

    source: what the table is called.  rows: how many it had.

    >>> import pandas as pd
    >>> from pushforward.data.kinds import infer
    >>> frame = pd.DataFrame({"age": [31, 44, 27], "city": ["Rome", None, "Rome"]})
    >>> kinds = infer(frame)
    >>> tokens, numbers = kinds.encode(frame)
    >>> tokens.shape, numbers.shape, kinds.decode(tokens, numbers).equals(frame)
    ((3, 1), (3, 1), True)
    """

    columns: tuple[Column, ...]
    source: str = ""
    rows: int = 0

    @property
    def kinds(self) -> tuple[ColumnKind, ...]:
        """The kinds of the columns."""
        return tuple(column.kind for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(kind.name for kind in self.kinds)

    @property
    def token_columns(self) -> tuple[int, ...]:
        """Which column each of the T tokens belongs to."""
        return tuple(i for i, kind in enumerate(self.kinds) if kind.tokens)

    @property
    def number_columns(self) -> tuple[int, ...]:
        """Which column each of the M numbers belongs to."""
        return tuple(i for i, kind in enumerate(self.kinds) for _ in range(kind.numbers))

    @property
    def levels(self) -> tuple[int, ...]:
        """How many levels each of the T tokens has."""
        return tuple(kind.tokens for kind in self.kinds if kind.tokens)

    @property
    def numbered(self) -> tuple[int, ...]:
        """For each of the T tokens how many of its levels, the first ones, have numbers beside them."""
        return tuple(kind.numbered for kind in self.kinds if kind.tokens)

    @property
    def bound(self) -> bool:
        """Whether decoding rounds a column, so that densities give bounds."""
        return any(kind.bound for kind in self.kinds)

    def encode(
        self, table: pd.DataFrame | Raw, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int64 ``(n, T)`` and numbers float64 ``(n, M)``, NaN where a token says there is none.

        Columns are found by name, in any order, and others are not looked at.  Raises ValueError for a column
        that is not there, and for the first cell of a column that does not fit.
        """
        raw = raw_of(table)
        known = {name: cells_of(raw, self._there(raw, name)) for name in self.names}
        parts = [kind.encode(known[kind.name], generator) for kind in self.kinds]
        n = len(raw)
        tokens = [found for found, _ in parts if found is not None]
        return (
            np.stack(tokens, 1) if tokens else np.zeros((n, 0), dtype=np.int64),
            np.concatenate([np.zeros((n, 0)), *(numbers for _, numbers in parts)], 1),
        )

    def decode(self, tokens: np.ndarray, numbers: np.ndarray) -> pd.DataFrame:
        """The table of such tokens and numbers, in the types of the table that it was inferred from.

        Raises ValueError for other shapes, and for what stands for no cell.
        """
        import pandas as pd

        for name, found, count in (
            ("tokens", tokens, len(self.token_columns)),
            ("numbers", numbers, len(self.number_columns)),
        ):
            if found.shape != (len(numbers), count):
                raise ValueError(f"{name}: expected ({len(numbers)}, {count}), got {found.shape}")
        columns, t, m = {}, 0, 0
        for column in self.columns:
            kind = column.kind
            token = tokens[:, t] if kind.tokens else None
            cells = kind.decode(token, numbers[:, m : m + kind.numbers])
            columns[kind.name] = _typed(pd.Series(cells), column)
            t, m = t + bool(kind.tokens), m + kind.numbers
        return pd.DataFrame(columns)

    def log_det(self, numbers: np.ndarray) -> np.ndarray:
        """The sum over columns of what :meth:`ColumnKind.log_det` is: ``(n,)`` for numbers ``(n, M)``."""
        total, m = np.zeros(len(numbers)), 0
        for kind in self.kinds:
            total += kind.log_det(numbers[:, m : m + kind.numbers])
            m += kind.numbers
        return total

    def lines(self) -> list[tuple[str, ...]]:
        """A head and a line for every column: name, kind, missing, range or levels, treatment, doubt."""
        head = ("column", "kind", "missing", "range or levels", "treatment", "doubt")
        return [
            head,
            *(
                (c.kind.name, c.kind.word, share_text(c.absent), c.seen, c.kind.treatment, c.doubt or "")
                for c in self.columns
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of :meth:`from_json`."""
        return {**vars(self), "columns": [column.to_json() for column in self.columns]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "kinds") -> TableKinds:
        """Rebuild from :meth:`to_json`.  Raises ValueError, which says ``where``, for what is none."""
        told = as_type(dict(data), dict[str, Any], where)
        listed = as_type(told.get("columns"), list[Any], where, "columns")
        columns = tuple(Column.from_json(each, f"{where}: columns[{i}]") for i, each in enumerate(listed))
        return cls(
            columns=columns,
            source=as_type(told.get("source", ""), str, where, "source"),
            rows=as_type(told.get("rows", 0), int, where, "rows"),
        )

    def _there(self, raw: Raw, name: str) -> str:
        if name not in raw.columns:
            raise ValueError(f"{raw.source}: no column {name!r}{hint(name, raw.columns)}")
        return name


def raw_of(table: Any) -> Raw:
    """A table as it was read.  Raises ValueError for what is none, and for names that occur twice."""
    raw = read_frame(table) if is_frame(table) else table
    if not isinstance(raw, Raw) or raw.kind != "table":
        raise ValueError(
            f"expected a table, got {raw.kind if isinstance(raw, Raw) else type(table).__name__}"
        )
    if raw.repeated:
        raise ValueError(f"{raw.source}: several columns are called {', '.join(map(repr, raw.repeated))}")
    return raw


def cells_of(raw: Raw, name: str) -> Cells:
    """The cells of a column."""
    return Cells(name, raw.columns[name], raw.source, raw.where)


def _typed(series: pd.Series, column: Column) -> pd.Series:
    """A decoded column in its type: that of the DataFrame, else integers that may be missing as such."""
    kind, dtype = column.kind, column.dtype
    if dtype in ("bool", "boolean"):
        return (series == "True").astype(dtype).where(series.notna()) if kind.missing else series == "True"
    if dtype:
        return series.astype(dtype)
    whole = getattr(kind, "whole", False) or getattr(kind, "form", "") == "integer"
    return series.astype("Int64") if whole and kind.missing else series
