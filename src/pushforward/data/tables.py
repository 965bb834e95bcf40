"""Tables: CSV and its relatives, Parquet, DataFrames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .raw import MISSING, Raw, repeated_names
from .text import number

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def default_names(d: int) -> tuple[str, ...]:
    """Names of columns that have none: x1 to xd."""
    return tuple(f"x{i + 1}" for i in range(d))


class _Text(NamedTuple):
    """A text table taken apart: ``body`` are its lines below the header, after ``skipped`` others."""

    separator: str
    names: tuple[str, ...]
    headed: bool
    body: str
    skipped: int


def read_csv(path: Path) -> Raw:
    """A text table: separator comma, semicolon or tab, found from the first line.

    Blank lines and lines that begin with ``#`` are skipped ahead of the header.  A first line of numbers
    is data, and the columns are then called x1, x2, ...

    Raises ValueError for a file that is empty, not UTF-8, or ragged, and for bad column names.
    """
    separator, names, headed, body, skipped = _open_text(path)
    repeated = repeated_names(str(path), names)

    def where(row: int) -> str:
        for i, (line, _) in enumerate(_records(body, separator)):
            if i == row:
                return f"line {line + skipped}"
        return f"row {row + 1}"

    table = _parse(path, body, separator, len(names), skipped)
    columns = {name: _column(table.column(names.index(name))) for name in names}
    return Raw(
        name=path.stem,
        source=str(path),
        kind="table",
        columns=columns,
        named=headed,
        repeated=repeated,
        where=where,
    )


def read_cells(path: Path) -> tuple[tuple[str, ...], Iterator[list[str]]]:
    """The names of a text table's columns and its rows, cell by cell as they stand in the file.

    Raises ValueError for a file that is empty or not UTF-8.
    """
    separator, names, _, body, _ = _open_text(path)
    return names, (cells for _, cells in _records(body, separator))


def _open_text(path: Path) -> _Text:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
    if not text.strip():
        raise ValueError(f"{path}: the file is empty")
    start, skipped, first = _first_line(text)
    if not first:
        raise ValueError(f"{path}: the file holds comments only")
    separator = max(",;\t", key=first.count)
    cells = [cell.strip() for cell in next(csv.reader([first], delimiter=separator))]
    values = [number(cell) for cell in cells]
    headed = any(v is None and cell not in MISSING for v, cell in zip(values, cells)) or all(
        v is None for v in values
    )
    if headed:
        decimals = [cell for cell, v in zip(cells, values) if v is not None and "." in cell]
        if decimals:
            raise ValueError(
                f"{path}: line {skipped + 1} should name the columns, but holds the number {decimals[0]!r}; "
                "add a line of names"
            )
        start, skipped = start + len(first), skipped + 1
    body = text[start:]
    if not body.strip():
        raise ValueError(f"{path}: a header and no rows")
    return _Text(separator, tuple(cells) if headed else default_names(len(cells)), headed, body, skipped)


def _first_line(text: str) -> tuple[int, int, str]:
    """Where the first line stands that is neither blank nor a comment, the lines before it, and itself."""
    start = 0
    for skipped, line in enumerate(io.StringIO(text, newline="")):
        if line.strip() and not line.lstrip().startswith("#"):
            return start, skipped, line
        start += len(line)
    return start, 0, ""


def _records(body: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Every record that is not blank, with the number of its first line in ``body``."""
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator)
    line = 1
    for cells in reader:
        if cells:
            yield line, cells
        line = reader.line_num + 1


def _parse(path: Path, body: str, separator: str, width: int, skipped: int) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv as pacsv

    content, names = body.encode(), [str(i) for i in range(width)]
    try:
        return pacsv.read_csv(
            pa.BufferReader(content),
            # One block at least as long as a line, and one thread: the same table everywhere.
            pacsv.ReadOptions(column_names=names, use_threads=False, block_size=min(len(content) + 1, 2**26)),
            pacsv.ParseOptions(delimiter=separator, newlines_in_values=True),
            pacsv.ConvertOptions(column_types={name: pa.string() for name in names}),
        )
    except pa.ArrowInvalid as error:
        for line, cells in _records(body, separator):
            if len(cells) != width:
                count = f"{len(cells)} cell" + "s" * (len(cells) != 1)
                raise ValueError(
                    f"{path}: line {line + skipped} has {count}, expected {width} (a ragged table)"
                ) from None
        raise ValueError(f"{path}: not a table: {str(error).splitlines()[0]}") from None


def _column(texts: pa.ChunkedArray) -> np.ndarray:
    """Integers or floats where every cell is a number or missing, else texts with None where empty."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    texts = pc.utf8_trim_whitespace(texts)
    missing = pc.is_in(texts, value_set=_array_of_texts(MISSING))
    nothing = pa.nulls(1, pa.string())[0]
    numeric = pc.if_else(missing, nothing, texts)
    for dtype in (pa.int64(), pa.float64()):
        try:
            column = pc.cast(numeric, dtype)
        except pa.ArrowInvalid:
            continue
        if column.null_count == 0:
            return _numbers(column, np.int64 if dtype == pa.int64() else np.float64)
        if column.null_count < len(column):
            filled = pc.if_else(missing, _array_of_texts(["nan"])[0], texts)
            return _numbers(pc.cast(filled, pa.float64()), np.float64)
    values = np.empty(len(texts), dtype=object)
    values[:] = pc.if_else(pc.equal(texts, _array_of_texts([""])[0]), nothing, texts).to_pylist()
    return values


# pyarrow's own ways from Python's values and to NumPy's arrays load pandas, which takes half a second.


def _array_of_texts(texts: Sequence[str]) -> pa.Array:
    import pyarrow as pa

    parts = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, parts)]).astype(np.int32)
    return pa.StringArray.from_buffers(len(parts), pa.py_buffer(ends), pa.py_buffer(b"".join(parts)))


def _numbers(column: pa.ChunkedArray, dtype: type[np.number[Any]]) -> np.ndarray:
    """Numbers without a missing one."""
    parts = [np.frombuffer(c.buffers()[1], dtype, len(c) + c.offset)[c.offset :] for c in column.chunks]
    return np.concatenate(parts)


def read_parquet(path: Path) -> Raw:
    """A Parquet file.  Raises ValueError where it is none, or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
        frame = table.to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    return read_frame(frame, path.stem, str(path))


def read_frame(frame: pd.DataFrame, name: str = "DataFrame", source: str = "DataFrame") -> Raw:
    """A pandas DataFrame; its index is no column."""
    names = [str(column) for column in frame.columns]
    repeated = repeated_names(source, names)
    columns = {key: series_values(frame.iloc[:, names.index(key)]) for key in names}
    return Raw(name=name, source=source, kind="table", columns=columns, repeated=repeated)


def series_values(series: pd.Series) -> np.ndarray:
    """A column of a DataFrame as integers, as float64, or as objects (texts, None where missing)."""
    from pandas.api import types

    if types.is_numeric_dtype(series.dtype) and not (
        types.is_bool_dtype(series.dtype) or types.is_complex_dtype(series.dtype)
    ):
        if types.is_integer_dtype(series.dtype) and not series.hasnans:
            return series.to_numpy(
                dtype=np.int64 if types.is_signed_integer_dtype(series.dtype) else np.uint64
            )
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    missing = series.isna().to_numpy()
    values = np.empty(len(series), dtype=object)
    values[:] = [None if gone else _plain(v) for v, gone in zip(series.tolist(), missing)]
    return plain_numbers(values)


def plain_numbers(values: np.ndarray) -> np.ndarray:
    """A column of Python objects as integers or floats where all are such numbers."""
    for kind, dtype in ((Integral, np.int64), (Real, np.float64)):
        if len(values) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values):
            try:
                return values.astype(dtype)
            except OverflowError:  # beyond 64 bits
                continue
    return values


def _plain(value: Any) -> Any:
    """Numbers in a column of objects stay numbers; everything else is known by its text."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return value
    return str(value)
