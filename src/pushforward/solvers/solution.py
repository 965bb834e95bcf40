"""The solution that a solver returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Generic

import torch
from torch import Tensor

from ..tensors import every
from .problems import StateT


class SolverFailure(RuntimeError):
    """The solver failed on some rows."""


class Status(IntEnum):
    """The outcome of the integration of one row."""

    OK = 0
    MAX_STEPS = 1
    STEP_TOO_SMALL = 2
    NON_FINITE = 3


@dataclass(frozen=True)
class Solution(Generic[StateT]):
    """The result of a solver.

    x: final state, shaped like the initial one.  A row on which an adaptive solver failed has its last
        accepted state.
    nfe: ``(B,)`` int64, evaluations of the velocity that each row needed.
    calls: batched evaluations made.
    status: ``(B,)`` int64, values of :class:`Status`.
    times: ``(S,)`` the times asked for with ``save_at`` (None without).
    path: the state at ``times``, stacked in front: ``(S, B, *event)``, or a tuple of such.  NaN if an
        adaptive solver failed on a row before that time.
    """

    x: StateT
    nfe: Tensor
    calls: int
    status: Tensor
    times: Tensor | None = None
    path: StateT | None = None

    @property
    def ok(self) -> bool:
        """Whether no row failed."""
        return every(self.status == Status.OK)

    def check(self) -> Solution[StateT]:
        """Return self, or raise SolverFailure that says how many rows failed and why.

        While ``torch.compile`` traces it nothing is checked, because a graph cannot depend on what it finds:
        rows that failed are not finite, and ``status`` says which they are.
        """
        if not (torch.compiler.is_compiling() or self.ok):
            worst = Status(int(self.status.max()))
            failed = int((self.status != Status.OK).sum())
            raise SolverFailure(
                f"the solver failed on {failed} of {self.status.numel()} rows: {worst.name.lower()}; "
                "loosen the tolerance, allow more steps, or look at the field"
            )
        return self
