"""The noise on rows of a table in training, and the warning about values that repeat."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from .atoms import ATOM_COLUMN, atoms, describe

#: Deviations by which columns with atoms are blurred where nothing else is said; less in small tables, whose
#: flows start from fitted baselines and are not drawn into the atoms by training.
ATOM_NOISE, ATOM_NOISE_SMALL = 0.05, 0.0003
#: Tables of fewer rows are small.
SMALL = 2000
#: Share of a small table's rows from which on a repeated value is spoken of: where rows are few, rounded
#: measurements repeat too.
SPOKEN_OF = 0.2


def notable(x: np.ndarray) -> tuple[np.ndarray, bool]:
    """What :func:`~pushforward.data.atoms.atoms` finds that is worth a word: in few rows, of rounded
    measurements, a value has to hold a fifth of its column.

    >>> notable(np.arange(40.0).repeat(2)[:, None])[0]
    array([False])
    """
    return atoms(x, SPOKEN_OF if len(x) < SMALL else ATOM_COLUMN)


def resolution(
    noise: float | str, x: np.ndarray, source: str = "", columns: Sequence[str] = ()
) -> np.ndarray:
    """The blur of each column of ``x`` ``(n, d)`` in its deviations, ``(d,)``; warns of atoms.

    A number is taken as it is; ``scott`` is n^(-1/(d+4)) (Scott 1992); ``auto`` is 0.05 in columns where one
    value holds over 5 % of the rows (0.0003 below 2,000 rows), in all columns where one row holds over 1 % of
    the table, and 0 elsewhere.  Raises ValueError for anything else.
    """
    found, repeated = atoms(x)
    n, d = x.shape
    touched = found | repeated
    if noise == "scott":
        chosen = np.full(d, n ** (-1 / (d + 4)))
    elif noise == "auto":
        chosen = np.where(touched, ATOM_NOISE if n >= SMALL else ATOM_NOISE_SMALL, 0.0)
    else:
        chosen = np.full(d, _number(noise))
    found, repeated = notable(x)
    touched = found | repeated
    if touched.any() and isinstance(noise, str) and noise in ("auto", "scott"):
        narrow = not bool((chosen[touched] >= ATOM_NOISE).all())
        what = describe(x, found, repeated, columns)
        how = (
            f"blurred by {chosen[touched].max():.2g} deviations there"
            if chosen[touched].all()
            else "not blurred"
        )
        advice = "; log-densities mean little there, see --noise" if narrow else ""
        warnings.warn(f"{source + ': ' if source else ''}{what}: {how}{advice}", UserWarning, stacklevel=3)
    return chosen


def _number(noise: float | str) -> float:
    try:
        value = float(noise)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"noise: expected a number >= 0, auto or scott, got {noise!r}")
    return value
