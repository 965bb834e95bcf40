"""Writing tables without a schema: a few columns alone, or beside those of the rows that they are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import random
from .sources import READERS, open_source
from .text_tables import read_cells, read_csv
from .write import TABLES, checked_suffix, write_text

#: Decimals of floats that are written as text.
DECIMALS = 6


def write_columns(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns as a table, text or Parquet by the suffix; floats in text have six decimals.

    Raises ValueError for a suffix that is no table's.
    """
    if checked_suffix(path, TABLES) == ".parquet":
        import pandas as pd

        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({name: list(values) for name, values in columns.items()}).to_parquet(path, index=False)
    else:
        write_text(path, list(columns), zip(*map(_texts, columns.values())))


def write_beside(path: Path, source: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """All columns of the table ``source``, row by row, with further ``columns`` at the right.

    Cells of a text table are written into another as they stand; a Parquet file keeps its types in another.
    Raises ValueError for a source that is no table, and for a name that it has already.
    """
    file, text = Path(source).expanduser(), checked_suffix(path, TABLES) != ".parquet"
    if text and file.is_file() and READERS.get(file.suffix.lower()) is read_csv:
        names, rows = read_cells(file)
        _check_new(source, names, columns)
        added = zip(*map(_texts, columns.values()))
        write_text(path, [*names, *columns], ([*cells, *new] for cells, new in zip(rows, added)))
        return
    import pandas as pd

    if file.suffix.lower() == ".parquet" and file.is_file():
        table = pd.read_parquet(file)
    else:
        raw = open_source(source, None, random.seeded("read"), tested=False)[0]
        if raw.kind != "table":
            raise ValueError(f"--keep: {raw.source} holds {raw.kind}s, which have no columns to keep")
        table = pd.DataFrame({**raw.columns, **raw.extra})
    _check_new(source, map(str, table.columns), columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    if text:
        table = table.assign(**{name: _texts(values) for name, values in columns.items()})
        table.to_csv(path, index=False, sep="\t" if path.suffix.lower() == ".tsv" else ",")
    else:
        table.assign(**{name: list(values) for name, values in columns.items()}).to_parquet(path, index=False)


def _check_new(source: str, known: Iterable[str], names: Iterable[str]) -> None:
    known = set(known)
    for name in names:
        if name in known:
            raise ValueError(f"--keep: {source} has a column {name!r} already; rename it")


def _texts(values: Sequence[Any]) -> list[str]:
    return [f"{value:.{DECIMALS}f}" if isinstance(value, float) else str(value) for value in values]
