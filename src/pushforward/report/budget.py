"""What a report may cost: how many rows a slow network is asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..solvers import Solver, Tsit5
from ..tensors import condition_to

if TYPE_CHECKING:
    from .loaded_run import LoadedRun

#: Seconds that one report may spend in its network, and the share of the training's where that is more.
BUDGET, SHARE = 15.0, 0.03
#: Seconds and evaluations that the speed of the network is measured for, and rows carried at once meanwhile.
MEASURED, TRIES, TRIAL = 0.1, 6, (8, 64, 512)
#: Seconds that an evaluation of a row is taken for where it cannot be measured.
SLOW = 1e-3
#: Evaluations that a loose adaptive solver needs.
LOOSE_EVALUATIONS = 40


class Budget:
    """The seconds that a report may spend in the network of ``loaded``, and what they pay for.

    cuts: what a slow network is asked less of: how much is taken, and of how much.
    """

    def __init__(self, loaded: LoadedRun):
        self.loaded = loaded
        self.cuts = dict[str, tuple[int, int]]()

    @cached_property
    def cost(self) -> float:
        """Seconds of one field evaluation of one row, guidance included, where many are carried at once.

        Rounded up to a power of 2, so that a report made again on the same machine mostly takes as many rows.
        """
        if self.loaded.inner is None:
            return 0.0
        return self.loaded.left_out.attempt("speed of the network", SLOW, self._speed)

    def _speed(self) -> float:
        loaded, found = self.loaded, 0.0
        assert loaded.inner is not None
        for rows in TRIAL:
            condition = condition_to(loaded.condition(loaded.train, rows), loaded.device)
            x = loaded.inner.source.sample(rows, condition, loaded.generator("cost")).to(loaded.device)
            velocity = loaded.inner.problem(condition).velocity
            t = torch.tensor(0.5, dtype=x.dtype, device=x.device)
            took, begin = math.inf, time.perf_counter()
            # the first evaluation of a shape takes longer, and other work on the machine may come between
            for _ in range(TRIES):
                last = time.perf_counter()
                velocity(t, x).sum().item()
                took = min(took, time.perf_counter() - last)
                if last - begin > MEASURED:
                    break
            found = took / rows
            if took > MEASURED:
                break
        return 2.0 ** math.ceil(math.log2(max(found, 1e-12)))

    @cached_property
    def evaluations(self) -> float:
        """Evaluations that the run's own solver needs for a row."""
        inner, draw = self.loaded.inner, self.loaded.sampler.draw
        if inner is None:
            return 1.0
        attempt = self.loaded.left_out.attempt
        probe = attempt("evaluations of the solver", None, draw, 8, "probe", solver=inner.solver)
        return LOOSE_EVALUATIONS if probe is None else probe.nfe

    @cached_property
    def solver(self) -> Solver | None:
        """The run's solver, or, where an adaptive one would take too long, the same at a loose tolerance."""
        if self.loaded.inner is None:
            return None
        own = self.loaded.inner.solver
        costly = self.cost * self.evaluations * 1000 > 0.35 * self.seconds
        return Tsit5(rtol=1e-3, atol=1e-3) if costly and own.adaptive else own

    @property
    def adaptive(self) -> bool:
        """Whether the solver chooses its steps."""
        return self.solver is not None and self.solver.adaptive

    @property
    def density_solver(self) -> Solver | None:
        """The solver of log-densities: an adaptive one at a tolerance far below their standard error."""
        return Tsit5(rtol=1e-4, atol=1e-4) if self.adaptive else self.solver

    @property
    def seconds(self) -> float:
        """Seconds that the report may spend in its network."""
        trained = self.loaded.run.summary.get("seconds")
        return max(BUDGET, SHARE * trained) if isinstance(trained, int | float) else BUDGET

    def affordable(
        self, name: str, wanted: int, share: float, per_row: float | None = None, least: int = 16
    ) -> int:
        """How many of ``wanted`` rows a ``share`` of the budget pays for, but not fewer than ``least``.

        ``per_row`` counts field evaluations of a row (None: those of one pass of the solver).  Where it is
        fewer, :attr:`cuts` holds it under ``name``.
        """
        if self.loaded.inner is None:
            return wanted
        if per_row is None:
            per_row = LOOSE_EVALUATIONS if self.solver is not self.loaded.inner.solver else self.evaluations
        count = min(wanted, max(least, int(share * self.seconds / (self.cost * per_row))))
        if count < wanted:
            self.cuts[name] = (count, wanted)
        return count

    def parts(self, name: str, count: int, size: int, share: float) -> Iterator[Tensor]:
        """Indices of ``count`` rows, ``size`` at a time, until a ``share`` of the budget is spent on them.

        Where that is before the last of them, :attr:`cuts` holds it under ``name``.
        """
        begin = time.perf_counter()
        for index in torch.arange(count).split(size):
            yield index
            done = int(index[-1]) + 1
            if done < count and time.perf_counter() - begin > share * self.seconds:
                self.cuts[name] = (done, count)
                return
