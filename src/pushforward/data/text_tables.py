"""Text tables such as CSV, read in pieces and within limits."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..files import check_file
from .limits import LINE, MAX_SIZE, check_columns, longest_line, raise_to
from .raw import MISSING
from .tables import default_names
from .text import number, quoted
from .text_columns import parsed

if TYPE_CHECKING:
    import pyarrow as pa

#: Lines that are blank or comments at most, ahead of a table.
MOST_COMMENTS = 1_000_000
#: Bytes that pyarrow parses at once, where no line is longer, and that one piece of a table holds at most.
BLOCK, PIECE_BYTES = 2**20, 2**26
#: Bytes of each column that are parsed at once, at least.
COLUMN_BYTES = 400


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A text table whose rows begin after ``start`` bytes and ``skipped`` lines of the file."""

    #: No value takes more than it does in the file.
    unfolded = 0

    path: Path
    separator: str
    names: tuple[str, ...]
    named: bool
    start: int
    skipped: int
    longest: int
    """Bytes of a line, and of a cell."""

    @property
    def source(self) -> str:
        """What messages call it."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Bytes of the file, the least that texts of it take."""
        return self.path.stat().st_size

    def stretches(
        self, names: Sequence[str], rows: int, kinds: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """The columns ``names``, at most ``rows`` at a time: integers or floats where every cell is a number
        or missing, else texts with None where empty; or of the ``kinds`` that are known."""
        places = {name: i for i, name in reversed([*enumerate(self.names)])}  # the first of each name
        index = {name: places[name] for name in names}
        for piece in self.pieces(rows, sorted({*index.values()})):
            yield {
                name: parsed(piece.column(str(i)), None if kinds is None else kinds[name])
                for name, i in index.items()
            }

    def cells(self, rows: int) -> Iterator[list[list[str]]]:
        """All rows as they stand in the file, at most ``rows`` at a time."""
        for piece in self.pieces(rows, range(len(self.names))):
            yield [list(row) for row in zip(*(column.to_pylist() for column in piece.columns))]

    def pieces(self, rows: int, columns: Sequence[int]) -> Iterator[pa.Table]:
        """Texts of the columns at these positions, at most ``rows`` at a time and fewer of long ones."""
        import pyarrow as pa

        waiting: list[Any] = []
        count = size = 0
        for batch, block in self._batches(columns):
            start = 0
            while start < len(batch):
                whole = start == 0 and len(batch) <= rows - count
                waiting.append(batch if whole else batch.slice(start, rows - count))
                taken = len(waiting[-1])
                start, count, size = start + taken, count + taken, size + block * taken // len(batch)
                if count == rows or size > PIECE_BYTES:
                    yield pa.Table.from_batches(waiting)
                    waiting, count, size = [], 0, 0
        if waiting:
            yield pa.Table.from_batches(waiting)

    def where(self, row: int) -> str:
        """The line of row ``row``, counted from 0."""
        for i, (line, _) in enumerate(self._records()):
            if i == row:
                return f"line {line + self.skipped}"
        return f"row {row + 1}"

    def _batches(self, columns: Sequence[int]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Blocks of rows as pyarrow parses them, and their bytes: few, but more than the longest record."""
        done = 0
        block = min(self.longest, max(BLOCK, COLUMN_BYTES * len(self.names)))
        while True:
            try:
                for batch, end in self._parsed(columns, block):
                    if end - done >= len(batch):
                        yield batch, block
                    elif end > done:
                        yield batch.slice(len(batch) - (end - done)), block
                    done = max(end, done)
                return
            except _Straddles:
                if block >= self.longest:
                    raise ValueError(
                        f"{self.path}: a quoted cell is longer than {self.longest / 1e6:,.3g} MB, "
                        "or does not end"
                    ) from None
                block = self.longest

    def _parsed(self, columns: Sequence[int], block: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        import pyarrow as pa
        from pyarrow import csv as pacsv

        names, end = [str(i) for i in range(len(self.names))], 0
        chosen = [names[i] for i in columns]
        with self.path.open("rb") as file:
            file.seek(self.start)
            try:
                with pacsv.open_csv(
                    _Body(file, self),
                    # One thread: the same blocks everywhere.
                    pacsv.ReadOptions(column_names=names, use_threads=False, block_size=block),
                    pacsv.ParseOptions(delimiter=self.separator, newlines_in_values=True),
                    pacsv.ConvertOptions(
                        column_types={name: pa.string() for name in names},
                        include_columns=chosen,
                        check_utf8=False,
                    ),
                ) as reader:
                    for batch in reader:
                        end += len(batch)
                        yield batch, end
            except pa.ArrowInvalid as error:
                if "straddl" in str(error):
                    raise _Straddles from None
                raise self._ragged(error) from None

    def _ragged(self, error: Exception) -> ValueError:
        width = len(self.names)
        for line, cells in self._records():
            if len(cells) != width:
                count = f"{len(cells)} cell" + "s" * (len(cells) != 1)
                return ValueError(
                    f"{self.path}: line {line + self.skipped} has {count}, expected {width} (a ragged table)"
                )
        return ValueError(f"{self.path}: not a table: {str(error).splitlines()[0][:100]}")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Every record that is not blank, with the number of its first line after the header."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
            reader = csv.reader(iter(lambda: text.readline(self.longest + 1), ""), delimiter=self.separator)
            line = 1
            while True:
                cells = _next(reader, self.longest)
                if cells is None:
                    return
                if cells:
                    yield line, cells
                line = reader.line_num + 1


class _Straddles(Exception):
    """A record is longer than a block."""


def _next(reader: Any, longest: int) -> list[str] | None:
    """The next record of a reader of the standard library, whose limit of a cell is for the moment ours."""
    before = csv.field_size_limit(longest)
    try:
        return next(reader, None)
    except csv.Error:
        return None
    finally:
        csv.field_size_limit(before)


class _Body:
    """The bytes below the header for pyarrow, which are checked on their way: UTF-8, and no endless line."""

    closed = False

    def __init__(self, file: BinaryIO, table: TextTable):
        self.file, self.table = file, table
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.newline: bytes | None = None
        self.lines, self.begun = table.skipped, 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes.  Raises ValueError for what is no text, or a line that is too long."""
        data = self.file.read(size)
        try:
            self.decoder.decode(data, final=not data)
        except UnicodeDecodeError:
            raise ValueError(f"{self.table.path}: not a text file in UTF-8") from None
        if self.newline is None and data:
            self.newline = b"\r" if b"\r" in data and b"\n" not in data else b"\n"
        longest, newline = self.table.longest, self.newline or b"\n"
        first = data.find(newline)
        if self.begun + (first if first >= 0 else len(data)) > longest:
            raise _too_long(self.table.path, self.lines + 1, longest)
        self.begun = len(data) - data.rfind(newline) - 1 if first >= 0 else self.begun + len(data)
        self.lines += data.count(newline)
        return data

    def readable(self) -> bool:
        """Yes."""
        return True

    def close(self) -> None:
        """The file is closed by who opened it."""


def _too_long(path: Path, line: int, longest: int) -> ValueError:
    return ValueError(
        f"{path}: line {line} is longer than {longest / 1e6:,.3g} MB, expected a row of a table"
        f"{raise_to(1.9 * longest / 1e9 / LINE)}"
    )


def open_text(path: Path, max_size: float = MAX_SIZE) -> TextTable:
    """A text table, of which the first lines are read: separator comma, semicolon or tab, found from these.

    Blank lines and lines that begin with ``#`` are skipped ahead of the header.  A first line of numbers
    is data, and the columns are then called x1, x2, ...

    Raises ValueError for a file that is empty, not UTF-8 or holds no rows, a first line that is longer than
    a row may be, and names of columns that are numbers.
    """
    check_file(path)
    longest = longest_line(max_size)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            skipped, above, first = _first_line(path, file, longest)
            check_columns(str(path), max(first.count(c) for c in ",;\t") + 1, max_size)
            separator = max(",;\t", key=first.count)
            record = _next(csv.reader([first], delimiter=separator), longest) or [""]
            cells = [cell.strip() for cell in record]
            headed = _is_header(path, cells, skipped + 1)
            if headed:
                skipped, above = skipped + 1, above + len(first.encode())
            body = "" if headed else first
            while not body.strip():
                body = file.read(2**16)
                if not body:
                    raise ValueError(f"{path}: a header and no rows")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
    with path.open("rb") as binary:
        mark = len(codecs.BOM_UTF8) if binary.read(3) == codecs.BOM_UTF8 else 0
    return TextTable(
        path=path,
        separator=separator,
        names=tuple(cells) if headed else default_names(len(cells)),
        named=headed,
        start=mark + above,
        skipped=skipped,
        longest=longest,
    )


def _first_line(path: Path, file: io.TextIOWrapper, longest: int) -> tuple[int, int, str]:
    """How many lines and bytes there are above the first line that is neither blank nor a comment, and it."""
    above, comments = 0, False
    for skipped in range(MOST_COMMENTS):
        line = file.readline(longest + 1)
        if not line:
            raise ValueError(f"{path}: the file {'holds comments only' if comments else 'is empty'}")
        if len(line) > longest:
            raise _too_long(path, skipped + 1, longest)
        if line.strip() and not line.lstrip().startswith("#"):
            return skipped, above, line
        comments = comments or bool(line.strip())
        above += len(line.encode())
    raise ValueError(f"{path}: no table in the first {MOST_COMMENTS:,} lines")


def _is_header(path: Path, cells: Sequence[str], line: int) -> bool:
    """Whether the cells of the first line name the columns."""
    values = [number(cell) for cell in cells]
    headed = any(v is None and cell not in MISSING for v, cell in zip(values, cells)) or all(
        v is None for v in values
    )
    decimals = [cell for cell, v in zip(cells, values) if v is not None and "." in cell]
    if headed and decimals:
        raise ValueError(
            f"{path}: line {line} should name the columns, but holds the number {quoted(decimals[0])}; "
            "add a line of names"
        )
    return headed
