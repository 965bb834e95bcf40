"""Rows written in pieces: text at once, arrays and Parquet by way of a temporary file without a name."""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np

from ..files import replacing
from .text import number

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

#: Values that are held at once of what is written, and rows at most.
HELD, ROWS = 2**20, 2**18
#: What a spreadsheet takes for the beginning of a formula, in the widths of East Asia too.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: The time that members of an npz file bear: equal arrays make equal files.
EPOCH = (1980, 1, 1, 0, 0, 0)


class _Elsewhere(Exception):
    """An error of the operating system that is none of the file being written."""


@contextlib.contextmanager
def writing(path: Path, rows: Iterable[T]) -> Iterator[tuple[Path, Iterator[T]]]:
    """A file beside ``path`` that takes its place at the end, and ``rows``, computed while it is written.

    Raises OSError that names ``path`` for what fails in writing; what fails in the making of ``rows`` is
    raised as it is.
    """

    def apart() -> Iterator[T]:
        try:
            yield from rows
        except OSError as error:
            raise _Elsewhere from error

    try:
        with replacing(path) as scratch:
            yield scratch, apart()
    except _Elsewhere as error:
        assert error.__cause__ is not None
        raise error.__cause__ from None


def escaped(text: str) -> str:
    """``text`` after an apostrophe where a spreadsheet would take it for a formula; numbers stay.

    >>> [escaped(text) for text in ("=1+1", "-x", "-1.5", "setosa")]
    ["'=1+1", "'-x", '-1.5', 'setosa']
    """
    return f"'{text}" if text.startswith(FORMULA) and number(text) is None else text


def write_text(
    path: Path, target: Path, names: Sequence[str], rows: Iterable[Sequence[str]], escape: bool = False
) -> None:
    """A text table at ``path``: cells with commas between them, or tabs where ``target`` ends in ``.tsv``.

    escape: what a spreadsheet would take for a formula begins with an apostrophe.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        delimiter = "\t" if target.suffix.lower() == ".tsv" else ","
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        if escape:
            names, rows = list(map(escaped, names)), (list(map(escaped, cells)) for cells in rows)
        writer.writerow(names)
        writer.writerows(rows)


class Spool:
    """Rows of one array, kept in a file without a name until all are there, then read in their order.

    >>> with Spool(Path(tempfile.mkdtemp())) as spool:
    ...     spool.add(np.ones((2, 3)))
    ...     spool.add(np.zeros((1, 3)))
    ...     spool.count, [part.shape for part in spool.parts(2)]
    (3, [(2, 3), (1, 3)])
    """

    def __init__(self, folder: Path):
        self.count, self.dtype, self.shape = 0, np.dtype(np.float32), ()
        self.file: BinaryIO = tempfile.TemporaryFile(dir=folder)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: Any) -> None:
        with contextlib.suppress(OSError):  # what is left in its buffer has nowhere to go on a full disk
            self.file.close()

    def add(self, part: np.ndarray) -> None:
        """Add rows, of the shape and the dtype of the first ones."""
        if not self.count:
            self.dtype, self.shape = part.dtype, part.shape[1:]
        self.file.write(part.tobytes())
        self.count += len(part)

    def parts(self, rows: int) -> Iterator[np.ndarray]:
        """All rows, ``rows`` at a time."""
        self.file.seek(0)
        for start in range(0, self.count, rows):
            shape = (min(rows, self.count - start), *self.shape)
            size = math.prod(shape) * self.dtype.itemsize
            yield np.frombuffer(bytearray(self.file.read(size)), self.dtype).reshape(shape)


def stretch(width: int) -> int:
    """How many rows of ``width`` values are held at once.

    >>> stretch(4), stretch(10**9)
    (262144, 1)
    """
    return max(1, min(ROWS, HELD // max(1, width)))


def write_npy(file: BinaryIO | Any, parts: Iterable[np.ndarray], count: int) -> None:
    """An array of ``count`` rows, at least one, in NumPy's format; its parts are of one dtype."""
    parts = iter(parts)
    first = next(parts)
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, {**header, "shape": (count, *first.shape[1:])})
    for part in itertools.chain([first], parts):
        file.write(part.tobytes())


def write_npz(path: Path, arrays: Mapping[str, tuple[Iterable[np.ndarray], int]]) -> None:
    """Arrays by name, each as its parts and the number of its rows, compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, (parts, count) in arrays.items():
            about = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            about.compress_type = zipfile.ZIP_DEFLATED
            with file.open(about, "w", force_zip64=True) as member:
                write_npy(member, parts, count)


def write_parquet(path: Path, tables: Iterable[pa.Table]) -> None:
    """Tables of one schema, at least one, one below the other."""
    import pyarrow.parquet as pq

    tables = iter(tables)
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)


def as_table(columns: Mapping[str, np.ndarray]) -> pa.Table:
    """Columns of numbers or texts by name; None among texts is a missing one."""
    import pyarrow as pa

    arrays = [
        pa.array([None if value is None else str(value) for value in values], pa.string())
        if values.dtype == object
        else pa.array(values)
        for values in columns.values()
    ]
    return pa.Table.from_arrays(arrays, names=list(columns))
