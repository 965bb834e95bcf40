"""What the columns of a table are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from ..raw import Raw
from ..sources import is_frame
from ..text import flag, hint
from .base import ColumnKind, Given
from .cells import Cells
from .names import KINDS, kind_named
from .table import Column, TableKinds, cells_of, raw_of

if TYPE_CHECKING:
    import pandas as pd

#: Share of numbers in a column from which on a text among them is a mistake, if so many different numbers
#: occur.
NUMBERS, DIFFERENT = 0.8, 20


def infer(
    table: Raw | pd.DataFrame, given: Mapping[str, Given] | None = None, exclude: Sequence[str] = ()
) -> TableKinds:
    """The kinds of the columns of a table but those in ``exclude``.

    given: what is known of some columns, by name.

    Raises ValueError for names that are twice in the table, or given and not in it; for a column that is
    empty, holds texts among numbers, numbers that are not finite, or two formats of dates; and for what is
    given and contradicts the cells.

    >>> import pandas as pd
    >>> kinds = infer(pd.DataFrame({"a": [0.5, 1.25, 7.0], "b": ["no", "yes", "no"]}))
    >>> [kind.word for kind in kinds.kinds]
    ['real', 'boolean']
    """
    raw, given = raw_of(table), given or {}
    if not raw.columns or not len(raw):
        raise ValueError(f"{raw.source}: a table without rows")
    for use, names in (("schema", given), ("exclude", exclude)):
        for name in names:
            if name not in raw.columns:
                raise ValueError(f"{raw.source}: {use}: no column {name!r}{hint(name, raw.columns)}")
    kept = [name for name in raw.columns if name not in exclude]
    if not kept:
        raise ValueError(f"{raw.source}: exclude: every column is left out")
    dtypes = {str(name): str(dtype) for name, dtype in table.dtypes.items()} if is_frame(table) else {}
    columns = []
    for name in kept:
        cells = cells_of(raw, name)
        kind, doubt = _kind(cells, given.get(name, Given()), exclude)
        columns.append(
            Column(
                kind=kind,
                seen=kind.seen(cells),
                absent=float(cells.missing.mean()),
                doubt=doubt or None,
                dtype=dtypes.get(name, ""),
            )
        )
    return TableKinds(columns=tuple(columns), source=raw.source, rows=len(raw))


def _kind(cells: Cells, given: Given, exclude: Sequence[str]) -> tuple[ColumnKind, str]:
    """The kind of a column, and what is doubtful."""
    if not cells.seen:
        raise cells.error(f"every cell is empty; leave out with {flag('--exclude', [*exclude, cells.name])}")
    if given.kind is not None:
        kind, doubt = kind_named(given.kind, str(cells.error("kind"))), ""
    else:
        kind, doubt = _claimed(cells, given)
    unused = [name for name in given.named() if name not in ("kind", "missing", *kind.options)]
    if unused:
        takes = [name for name in (field.name for field in fields(Given)) if name in kind.options]
        raise cells.error(
            f"kind {kind.word} takes {', '.join(takes) if takes else 'nothing'} from a user, got {unused[0]}"
        )
    return kind.fit(cells, given), doubt


def _claimed(cells: Cells, given: Given) -> tuple[type[ColumnKind], str]:
    """The first kind that claims the column and takes what is ``given``."""
    _check_mixed(cells)
    if not cells.textual:
        cells.refuse(np.isinf(cells.values), "a number has to be finite")
    fitting = [kind for kind in KINDS.values() if {*given.named()} <= {"missing", *kind.options}]
    for kind in fitting:
        if (doubt := kind.claim(cells)) is not None:
            return kind, doubt
    if len(fitting) == 1:
        return fitting[0], ""
    raise cells.error(f"no kind takes {', '.join(given.named())} and such cells; say which, as kind")


def _check_mixed(cells: Cells) -> None:
    """Raise ValueError for a text among numbers."""
    if not cells.textual:
        return
    numeric = cells.is_numeric
    count = int(numeric.sum())
    if NUMBERS * cells.seen <= count < cells.seen and len({*cells.texts[numeric].tolist()}) > DIFFERENT:
        told = 'most cells are numbers; mend or empty it, or say kind = "category" in a schema'
        cells.refuse(~numeric & ~cells.missing, told)
