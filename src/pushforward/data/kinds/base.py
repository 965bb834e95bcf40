"""What a column of a mixed table is, and how its cells become a token and numbers, and these cells again."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from ...typed import as_type
from .cells import Cells


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a user says of a column; None is inferred.

    kind: its name.  levels: in their order, with all that occur.  limits: what values lie between.
    lowest: what values are not below, -inf for nothing.  atoms: values with a probability of their own.
    format: of dates and times, such as ``%Y-%m-%d``.  unit: what dates are counted in.
    missing: whether cells may be empty.
    """

    kind: str | None = None
    levels: tuple[Any, ...] | None = None
    limits: tuple[float, float] | None = None
    lowest: float | None = None
    atoms: tuple[float, ...] | None = None
    format: str | None = None
    unit: Literal["week", "month", "year"] | None = None
    missing: bool | None = None

    def named(self) -> dict[str, Any]:
        """What is said, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class ColumnKind(ABC):
    """A column: how cells become a token and numbers, and these cells again.

    name: of the column.  missing: whether an empty cell is one of its values.

    A row has one token, unless ``tokens`` is 0, and ``numbers`` real coordinates, which are NaN unless its
    token is below ``numbered``.
    """

    word: ClassVar[str]
    """What users call the kind."""
    options: ClassVar[tuple[str, ...]] = ()
    """What a user may say of it beside the kind and whether cells may be empty: fields of :class:`Given`."""

    name: str
    missing: bool = False

    @property
    def tokens(self) -> int:
        """Levels of its token, 0 where it has none."""
        return 0

    @property
    def numbers(self) -> int:
        """Real coordinates."""
        return 0

    @property
    def numbered(self) -> int:
        """How many levels of its token, the first ones, have coordinates beside them."""
        return 1

    @property
    def bound(self) -> bool:
        """Whether decoding rounds, so that the density of the coordinates gives a bound."""
        return False

    @classmethod
    @abstractmethod
    def claim(cls, cells: Cells) -> str | None:
        """Whether a column is of this kind, unless an earlier one claims it: what is doubtful, or no word
        ("") where nothing is; None where it is not."""

    @classmethod
    @abstractmethod
    def fit(cls, cells: Cells, given: Given) -> Self:
        """The kind for a column, as far as ``given`` says nothing else.

        Raises ValueError, with the first row and value, for cells that it cannot be.
        """

    @abstractmethod
    def encode(
        self, values: np.ndarray | Cells, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Tokens int64 ``(n,)``, None where it has none, and float64 ``(n, numbers)``, of a column ``(n,)``.

        values: integers, floats, or objects (texts, None where empty); or cells, which know where rows are.
        generator: where coordinates stand for cells that decoding rounds to, they are drawn evenly in these;
        without one they are the middles.  Raises ValueError, with the first row, for what does not fit.
        """

    @abstractmethod
    def decode(self, tokens: np.ndarray | None, numbers: np.ndarray) -> np.ndarray:
        """The cells ``(n,)``, the inverse of :meth:`encode`: integers, float64 with NaN where missing, or
        objects with None.  Raises ValueError for tokens and numbers that stand for nothing."""

    def log_det(self, numbers: np.ndarray) -> np.ndarray:
        """log |d value / d coordinates| ``(n,)`` in nats, which is subtracted from a log-density of the
        coordinates for one in units of the data; 0 where there is no number."""
        return np.zeros(len(numbers))

    @abstractmethod
    def seen(self, cells: Cells) -> str:
        """Range or levels of the cells that it was made for, in a few words."""

    @property
    @abstractmethod
    def treatment(self) -> str:
        """What becomes of it, in a few words."""

    def given(self) -> dict[str, Any]:
        """What a user may correct, as :class:`Given` has it, without the kind."""
        return {"missing": True} if self.missing else {}

    def read(self, values: np.ndarray | Cells) -> Cells:
        """The cells of new ``values``.  Raises ValueError for an empty one where none may be."""
        cells = values if isinstance(values, Cells) else Cells(self.name, values)
        if not self.missing:
            cells.refuse(cells.missing, f"kind {self.word} without missing cells")
        return cells

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of :meth:`from_json`."""
        return {"kind": self.word, **_plain(dataclasses.asdict(self))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> Self:
        """Rebuild from :meth:`to_json`; ``data`` without the kind.

        Raises ValueError, which says ``where``, for unknown or missing entries, and values of another type.
        """
        return as_type(dict(data), cls, where)

    @classmethod
    def allows_missing(cls, cells: Cells, given: Given) -> bool:
        """Whether cells may be empty.  Raises ValueError if the user says no and one is."""
        if given.missing is False:
            cells.refuse(cells.missing, "missing = false says that no cell is empty")
        return bool(cells.missing.any()) if given.missing is None else given.missing


def check_tokens(kind: ColumnKind, tokens: np.ndarray | None, numbers: np.ndarray) -> None:
    """Raise ValueError unless tokens are levels of ``kind``, and numbers as many as its coordinates."""
    if numbers.ndim != 2 or numbers.shape[1] != kind.numbers:
        raise ValueError(f"column {kind.name!r}: numbers: expected (n, {kind.numbers}), got {numbers.shape}")
    if (tokens is None) != (kind.tokens == 0):
        raise ValueError(f"column {kind.name!r}: tokens: expected {'none' if tokens is not None else 'some'}")
    if tokens is None:
        return
    if tokens.shape != (len(numbers),) or tokens.dtype.kind not in "iu":
        raise ValueError(
            f"column {kind.name!r}: tokens: expected integers ({len(numbers)},), got {tokens.shape}"
        )
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < kind.tokens:
        raise ValueError(
            f"column {kind.name!r}: tokens: expected 0 to {kind.tokens - 1}, "
            f"got {tokens.min()} to {tokens.max()}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
