"""Tables for schemas: read as every table, with leading zeros kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ... import random
from ..limits import MAX_SIZE
from ..raw import Raw
from ..sources import Source, find_path, is_path, open_source
from ..text_tables import TextTable, open_text
from .table import raw_of

#: Whole numbers with leading zeros, such as codes of places.
_ZEROS = r"^[-+]?0[0-9]+$"
_ROWS = 65_536


def read_table(source: Source, max_size: float = MAX_SIZE) -> Raw:
    """A table from wherever data come; whole numbers with leading zeros of a text table are texts.

    Raises ValueError for what is no table, or cannot be read.
    """
    raw = raw_of(open_source(source, None, random.seeded("schema"), tested=False, max_size=max_size)[0])
    if not is_path(source) or find_path(source)[0].suffix.lower() not in (".csv", ".tsv", ".txt"):
        return raw
    table = open_text(Path(find_path(source)[0]), max_size)
    whole = [name for name, column in raw.columns.items() if column.dtype.kind in "iu"]
    coded = [name for name in whole if _has_zeros(table, name)]
    if not coded:
        return raw
    pieces = [*table.stretches(coded, _ROWS, dict.fromkeys(coded, "O"))]
    texts = {name: np.concatenate([piece[name] for piece in pieces]) for name in coded}
    return dataclasses.replace(raw, columns={**raw.columns, **texts})


def _has_zeros(table: TextTable, name: str) -> bool:
    import pyarrow.compute

    pc: Any = pyarrow.compute
    index = table.names.index(name)
    return any(
        pc.any(pc.match_substring_regex(pc.utf8_trim_whitespace(piece.column(str(index))), _ZEROS)).as_py()
        for piece in table.pieces(_ROWS, [index])
    )
