"""The columns of a table that are data, and those of them that look like identifiers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np

from .raw import Raw
from .text import flag

#: Names of identifiers: id, ID, index, customer_id, customerId.
NAMES = re.compile(r"(?i:(.*[_\W])?id|index)|.*[a-z]I[dD]")


def choose(
    raw: Raw, columns: Sequence[str], exclude: Sequence[str], taken: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that are data, in their order, and those left out.

    columns: only these (empty: all).  exclude: not these.  taken: the condition's and the weights'.
    Raises ValueError for an unknown name, one that is named twice or is taken, data without columns, and
    where none is left.
    """
    known = raw.columns
    for use, names in (("columns", columns), ("exclude", exclude)):
        if names and not known:
            raise ValueError(f"{raw.source}: {use}: {raw.kind}s have no columns to choose from")
        for i, name in enumerate(names):
            raw.known(name, use, known)
            if name in names[:i]:
                raise ValueError(f"{use}: a column is named twice in {', '.join(names)}")
            if name in taken:
                raise ValueError(f"{use}: {name!r} is the condition or the sample_weight already")
    kept = tuple(name for name in columns or known if name not in exclude and name not in taken)
    if known and not kept:
        raise ValueError(f"{raw.source}: every column is excluded, the condition or a weight; none is data")
    return kept, tuple(name for name in known if name not in kept and name not in taken)


def warn_of_identifiers(raw: Raw, kept: Sequence[str], exclude: Sequence[str]) -> None:
    """Warn of columns that number the rows, whose density means nothing; ``exclude`` are left out already."""
    found = [name for name in kept if is_identifier(name, raw.columns[name])]
    if found:
        named = ", ".join(map(repr, found))
        verb = "looks like an identifier" if len(found) == 1 else "look like identifiers"
        advice = flag("--exclude", [*exclude, *found])
        text = f"{raw.source}: {named} {verb} of the rows; leave out with {advice}"
        warnings.warn(text, UserWarning, stacklevel=3)


def is_identifier(name: str, column: np.ndarray) -> bool:
    """Whether all values differ and are integers without a gap, or integers in equal steps from row to row,
    or whole numbers of a column that is named as identifiers are.

    >>> is_identifier("x", np.arange(50)), is_identifier("x", np.arange(50) ** 2)
    (True, False)
    """
    named, integers = NAMES.fullmatch(name) is not None, column.dtype.kind in "iu"
    if column.dtype == object or not (named or integers) or len(np.unique(column)) < len(column):
        return False
    values = column.astype(np.float64)
    if named and bool((values == np.rint(values)).all()):
        return True
    steps = np.diff(values)
    return integers and bool(np.ptp(values) == len(values) - 1 or (steps == steps[0]).all())
