"""Parquet files, read in pieces and within limits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import check_file
from .limits import MAX_SIZE, check_columns, check_size
from .tables import series_values

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

#: Bytes that are read from the file at once.
BUFFER = 2**20


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file: the names of its columns, and where they stand in it.  An index is no column."""

    path: Path
    names: tuple[str, ...]
    positions: tuple[int, ...]
    unfolded: int
    """Bytes of all values, with every entry of lists."""

    named = True
    #: Texts are shared by the rows that have them.
    size = 0

    @property
    def source(self) -> str:
        """What messages call it."""
        return str(self.path)

    def stretches(
        self, names: Sequence[str], rows: int, kinds: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """The columns ``names``, at most ``rows`` at a time, of the ``kinds`` where these are known."""
        places = {name: i for name, i in reversed([*zip(self.names, self.positions)])}  # the first of each
        positions = {name: places[name] for name in names}
        with _readable(self.path), _opened(self.path) as file:
            for batch in file.iter_batches(rows):
                columns = {name: _values(batch.column(i)) for name, i in positions.items()}
                yield {
                    name: column if kinds is None else _of_kind(column, kinds[name])
                    for name, column in columns.items()
                }

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """All columns with their types, at most ``rows`` at a time."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with _readable(self.path), pq.ParquetFile(self.path, buffer_size=BUFFER) as file:
            for batch in file.iter_batches(rows):
                yield pa.Table.from_batches([batch]).select(list(self.positions))

    def where(self, row: int) -> str:
        """The number of row ``row``, which counts from 0."""
        return f"row {row + 1}"


def open_parquet(path: Path, max_size: float = MAX_SIZE) -> ParquetTable:
    """A Parquet file, of which the end is read, where its columns and sizes are told.

    Raises ValueError where it is none, damaged, has too many columns, or values that unfold to too much.
    """
    check_file(path)
    with _readable(path), _opened(path) as file:
        about, schema = file.metadata, file.schema_arrow
        check_columns(str(path), about.num_columns, max_size)
        frame = schema.empty_table().to_pandas()
        kept = [i for i, name in enumerate(schema.names) if name not in frame.index.names]
        if len(kept) != len(frame.columns):
            kept = list(range(len(schema.names)))
            frame = schema.empty_table().to_pandas(ignore_metadata=True)
        names = tuple(str(column) for column in frame.columns)
        unfolded = 0
        for i in range(about.num_row_groups):
            group = about.row_group(i)
            chunks = [group.column(j) for j in range(group.num_columns)]
            lists = sum(8 * chunk.num_values for chunk in chunks if chunk.num_values > group.num_rows)
            texts = sum(c.total_uncompressed_size for c in chunks if c.physical_type.endswith("BYTE_ARRAY"))
            check_size(str(path), lists + texts, max_size, "values in one group of rows")
            unfolded += sum(8 * chunk.num_values for chunk in chunks) + texts
    return ParquetTable(path, names, tuple(kept), unfolded)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """The file; a text that many rows have is held once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    texts = [field.name for field in schema if field.type in (pa.string(), pa.large_string(), pa.binary())]
    with pq.ParquetFile(path, read_dictionary=texts, buffer_size=BUFFER) as file:
        yield file


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Errors of pyarrow, and of what pandas makes of descriptions in the file, as one ValueError."""
    import pyarrow as pa

    try:
        yield
    except (
        pa.ArrowException,
        OSError,
        AttributeError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise _unreadable(path, error) from None
    except ValueError as error:
        raise error if str(error).startswith(f"{path}: ") else _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ValueError:
    text = (str(error).splitlines() or [""])[0][:200]
    return ValueError(f"{path}: not a readable Parquet file: {text}")


def _values(column: pa.Array) -> np.ndarray:
    """A column as integers, as float64, or as objects (texts, None where missing)."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind) and kind.value_type in (pa.string(), pa.large_string()):
        texts: Any = np.array([*column.dictionary.to_pylist(), None], dtype=object)
        codes = column.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
        return texts[codes]
    return series_values(column.to_pandas())


def _of_kind(column: np.ndarray, kind: str) -> np.ndarray:
    """A part of a column of whatever kind as one of the kind of the whole column."""
    if column.dtype.kind == kind:
        return column
    if kind == "f" and column.dtype == object:
        return np.full(len(column), np.nan)
    return column.astype({"i": np.int64, "u": np.uint64, "f": np.float64, "O": object}[kind])
