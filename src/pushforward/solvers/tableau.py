"""Runge-Kutta methods as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import Solver


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method (Butcher 1964; Hairer, Norsett & Wanner 1993, section II.1).

    k_i = f(t + c_i h, x + h sum_{j<i} a_ij k_j),   x' = x + h sum_i b_i k_i.

    order: of x'.
    c: s nodes; the first is 0.
    a: s rows, row i with i entries.
    b: s weights.
    error: b minus the weights of the embedded method, or empty.
    dense: row i holds the coefficients of theta, theta^2, ... in b_i(theta), with
        x(t + theta h) = x + h sum_i b_i(theta) k_i, or empty.
    passed_over: of each stage, whether no result of a step contains it.  Other stages may depend on it.

    >>> Tableau(order=2, c=(0.0, 0.5), a=((), (0.5,)), b=(0.0, 1.0)).passed_over
    (True, False)
    """

    order: int
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    error: tuple[float, ...] = ()
    dense: tuple[tuple[float, ...], ...] = ()
    passed_over: tuple[bool, ...] = field(init=False)

    def __post_init__(self) -> None:
        rows = zip_longest(self.b, self.error, self.dense, fillvalue=())
        over = tuple(not (b or error or any(dense)) for b, error, dense in rows)
        object.__setattr__(self, "passed_over", over)


class TableauSolver(Solver):
    """A solver whose method is a :class:`Tableau`, from which it has its order and its counts."""

    tableau: ClassVar[Tableau]

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "tableau" in cls.__dict__:
            cls.order, cls.stages = cls.tableau.order, len(cls.tableau.b)
            cls.evaluations = cls.stages - cls.adaptive  # the last stage of a pair is the next step's first


def combine(weights: Sequence[float], stages: Sequence[Tensor]) -> tuple[float, Tensor]:
    """sum_i weights_i stages_i as a factor and a tensor, leaving out the zeros.

    The caller multiplies by the factor together with the step, which saves one operation.

    >>> combine((0.5, 0.0, 2.0), torch.tensor([1.0, 5.0, 10.0]))
    (0.5, tensor(41.))
    """
    factor = 0.0
    total: Tensor | None = None
    for weight, stage in zip(weights, stages):
        if weight == 0.0:
            continue
        if total is None:
            factor, total = weight, stage
        else:
            total = torch.add(total, stage, alpha=weight / factor)
    assert total is not None
    return factor, total
