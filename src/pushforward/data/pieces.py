"""New rows of a known schema, read some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ..couplings import Rows
from .limits import MAX_SIZE
from .load import read_rows
from .schema import Schema
from .sources import Source
from .text_tables import read_cells

#: Rows of a piece at most.
PIECE = 65_536


def read_pieces(
    source: Source,
    schema: Schema,
    need_condition: bool = True,
    rows: int = PIECE,
    max_size: float = MAX_SIZE,
) -> Iterator[Rows]:
    """What :func:`~pushforward.data.read_rows` reads, at most ``rows`` at a time: the same values and errors."""
    whole = read_rows(source, schema, need_condition)
    for start in range(0, len(whole), rows):
        yield whole.take(torch.arange(start, min(start + rows, len(whole))))


def cells_in_pieces(
    path: Path, rows: int = PIECE, max_size: float = MAX_SIZE
) -> tuple[tuple[str, ...], Iterator[list[list[str]]]]:
    """The names of a text table's columns, and its rows cell by cell as they stand in the file."""
    names, cells = read_cells(path)

    def pieces() -> Iterator[list[list[str]]]:
        piece: list[list[str]] = []
        for row in cells:
            piece.append(row)
            if len(piece) == rows:
                yield piece
                piece = []
        if piece:
            yield piece

    return names, pieces()
