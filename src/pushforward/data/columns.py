"""Which columns of a table are data, and which of these look like identifiers."""

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
    Raises ValueError for an unknown name, one that is named twice or for two uses, data without columns, and
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
    both = [name for name in columns if name in exclude]
    if both:
        raise ValueError(f"exclude: {both[0]!r} is among the columns as well")
    kept = tuple(name for name in columns or known if name not in exclude and name not in taken)
    if known and not kept:
        raise ValueError(f"{raw.source}: every column is excluded, the condition or a weight; none is data")
    return kept, tuple(name for name in known if name not in kept and name not in taken)


def warn_of_identifiers(raw: Raw, kept: Sequence[str]) -> None:
    """Warn of columns that number the rows: a density of them means nothing."""
    found = [name for name in kept if is_identifier(name, raw.columns[name])]
    if found:
        named = ", ".join(map(repr, found))
        verb = "looks like an identifier" if len(found) == 1 else "look like identifiers"
        text = f"{raw.source}: {named} {verb} of the rows; leave out with {flag('--exclude', found)}"
        warnings.warn(text, UserWarning, stacklevel=3)


def is_identifier(name: str, column: np.ndarray) -> bool:
    """Whether all values differ and are integers without a gap, or integers in equal steps from row to row,
    or whole numbers of a column that is named as identifiers are.

    >>> is_identifier("x", np.arange(50)), is_identifier("x", np.arange(50) ** 2)
    (True, False)
    """
    if column.dtype == object or len(np.unique(column)) < len(column):
        return False
    if NAMES.fullmatch(name) and bool((column == np.rint(column)).all()):
        return True
    if column.dtype.kind not in "iu":
        return False
    steps = np.diff(column.astype(np.float64))
    return bool(np.ptp(column.astype(np.float64)) == len(column) - 1 or (steps == steps[0]).all())
