"""Shortcut models: leaps over the cells of dyadic grids, each two leaps of half its length."""

from __future__ import annotations

from torch import Tensor

from ..base import Step
from .base import At, MapLoss, MapRows, check_between
from .semigroup import Semigroup

#: Halvings of the shortest leap that is composed: from 1 / 128 come leaps of 1 / 64, and so on up to 1.
HALVINGS = 7


class Shortcut(MapLoss):
    r"""Leaps of 2d over the cells of a grid are two leaps of d, for d of 1/128, 1/64, ..., 1/2:

    .. math:: \operatorname{E} |v(s, s + 2d, x) - \operatorname{sg}[\tfrac12 v(s, s + d, x)
        + \tfrac12 v(s + d, s + 2d, X_{s,s+d}(x))]|^2, \qquad s \in \{0, 2d, 4d, ..., 1 - 2d\}

    Targets are those of the averaged weights.  Samples take 1, 2, 4, ..., 128 equal steps (Frans et al. 2024,
    arXiv 2410.12557, with noise at time 0 as here; there a network is told 0 for the shortest d, whose error
    is that of an Euler step, here spans stay what they are).

    diagonal: the share of rows that regress the velocity itself.

    Raises ValueError for a share outside [0, 1].

    >>> Shortcut().steps
    (1, 2, 4, 8, 16, 32, 64, 128)
    """

    derivative = False
    averaged = True
    steps = tuple(2**k for k in range(HALVINGS + 1))

    def __init__(self, diagonal: float = 0.75):
        self.diagonal = check_between("diagonal", diagonal)
        self.halves = Semigroup(self.diagonal)

    def times(self, a: Tensor, b: Tensor, at: At, step: Step) -> tuple[Tensor, Tensor]:
        """``a`` says in which cell a leap is, ``b`` how long it is."""
        cells = 2 ** (b * HALVINGS).floor().clamp(max=HALVINGS - 1)
        cell = (a * cells).floor().minimum(cells - 1)
        return cell / cells, (cell + 1) / cells

    def errors(self, rows: MapRows) -> Tensor:
        return self.halves.errors(rows)
