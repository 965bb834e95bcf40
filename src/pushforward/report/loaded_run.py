"""What a report is about: a run, seen as the report's other parts need it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..bijections import Bijection, is_stochastic
from ..flows import ContinuousFlow, InvertibleFlow, Transformed
from ..metrics import energy_distance
from ..random import seeded, uniform
from ..rows import Rows
from ..solvers import ODE, Solver, Tsit5
from ..tensors import Condition, condition_length, condition_to, event_size, join_conditions, take_condition
from .left_out import LeftOut
from .run_like import RunLike

#: What is drawn: a scatter, columns, lines over positions, or pictures.
Look = Literal["plane", "table", "series", "image"]
#: Rows carried at once.
CHUNK = 1024
#: Seconds that one report may spend in its network, and the share of the training's where that is more.
BUDGET, SHARE = 15.0, 0.03
#: Seconds and evaluations that the speed of the network is measured for, and rows carried at once meanwhile.
MEASURED, TRIES, TRIAL = 0.1, 6, (8, 64, 512)
#: Seconds that an evaluation of a row is taken for where it cannot be measured.
SLOW = 1e-3
#: Deviations from the median beyond which values of a table count as if they were there.
OUT = 20.0
#: Evaluations that a loose adaptive solver needs.
LOOSE_EVALUATIONS = 40


@dataclass(frozen=True)
class Drawn:
    """Samples and how they came about.

    x: ``(n, *event)`` in data units.  start, end: the source points and where they arrive, in the space of
    the model (None where the flow has no such space).  nfe: mean evaluations of a row.
    """

    x: Tensor
    start: Tensor | None
    end: Tensor | None
    nfe: float


class LoadedRun:
    """A run with its rows, its columns' names, and the sizes that its cost allows.

    ``samples`` is how many the model is asked for (None: chosen from the kind of data).
    """

    def __init__(self, run: RunLike, seed: int | None = None, samples: int | None = None):
        self.run, self.schema, self.flow = run, run.schema, run.flow
        #: What failed, and what a slow network is asked less of: how much is taken, and of how much.
        self.left_out, self.cuts = LeftOut(), dict[str, tuple[int, int]]()
        self.seed = run.config.seed if seed is None else seed
        self.spec = run.schema.condition
        #: Of weighted rows those that a draw by their weights leaves: what the model is to be like.
        self.train, self.test = (
            rows.to("cpu").thinned(self.generator("thinned", part))
            for part, rows in (("train", run.dataset.train), ("test", run.dataset.test))
        )
        #: Without enough held-out rows half of the training rows stand in for them, and the report says so.
        have, held = self.labels(self.train), self.labels(self.test)
        if have is not None and held is not None:
            # nothing can be said of a label that training has not seen
            self.test = self.test.take(torch.isin(held, have).nonzero()[:, 0])
        self.unseen = len(self.test)
        self.held_out = self.unseen >= 10
        if not self.held_out:
            order = uniform((len(self.train),), self.generator("halves"), torch.float64).argsort()
            half = len(order) // 2
            self.train, self.test = self.train.take(order[half:]), self.train.take(order[:half])
        self.size = event_size(self.event)
        most = 1000 if self.size <= 100 else 400
        #: Rows on either side of a comparison; draws of so many training rows differ from each other.
        self.rows = min(len(self.test), len(self.train) // 3, most)
        if samples is not None and samples < 5:
            raise ValueError(f"samples: expected at least 5, got {samples}")
        if self.rows < 5:
            raise ValueError("run: a report needs 5 held-out rows and three times as many to train on")
        #: Draws of training rows that the floor is measured on: how often for cheap and for dear measures.
        self.repeats = (8, 5) if self.size <= 100 else (3, 3)
        wanted = 1000 if self.look == "image" else 2000
        self.samples = self.affordable("samples", wanted, 0.4, least=100) if samples is None else samples
        self.rows = min(self.rows, self.samples)

    # -- the run -------------------------------------------------------------------------------------

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.schema.event_shape)

    @property
    def total(self) -> int:
        """All rows, training and held out."""
        return len(self.run.dataset.train) + len(self.run.dataset.test)

    @property
    def inner(self) -> ContinuousFlow | None:
        """The continuous flow inside the preprocessing, None where there is none."""
        flow = self.flow.flow if isinstance(self.flow, Transformed) else self.flow
        return flow if isinstance(flow, ContinuousFlow) else None

    @property
    def invertible(self) -> bool:
        """Whether the flow also runs backwards."""
        return isinstance(self.flow.flow if isinstance(self.flow, Transformed) else self.flow, InvertibleFlow)

    @property
    def bijection(self) -> Bijection | None:
        """The preprocessing, from the space of the model to data units."""
        return self.flow.bijection if isinstance(self.flow, Transformed) else None

    @property
    def dequantised(self) -> bool:
        """Whether the data are whole levels that the model sees with noise added."""
        return self.bijection is not None and is_stochastic(self.bijection) and self.schema.levels is not None

    @cached_property
    def device(self) -> torch.device:
        """Where the flow computes."""
        tensors = [*self.flow.parameters(), *self.flow.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    @cached_property
    def look(self) -> Look:
        """How rows are drawn."""
        if self.schema.kind == "image" or len(self.event) == 3:
            return "image"
        if len(self.event) > 1:
            return "series"
        return "plane" if self.size == 2 else "table"

    @cached_property
    def names(self) -> list[str]:
        """A name for every element of a row."""
        if len(self.schema.columns) == self.size:
            return [str(name) for name in self.schema.columns]
        return [f"x{i}" for i in range(self.size)]

    @property
    def unit(self) -> str:
        """In what the data are."""
        return "grey levels" if self.schema.levels is not None else "data units"

    @property
    def tabular(self) -> bool:
        """Whether a row is a list of numbers, each a column of its own."""
        return len(self.event) == 1

    @cached_property
    def span(self) -> tuple[Tensor, Tensor]:
        """The least and largest that a value of a column counts as: :data:`OUT` deviations off the median.

        Without that a single row far out has the deviation of its column to itself.
        """
        low, middle, high = (
            torch.from_numpy(row)
            for row in np.quantile(self.train.x.double().numpy(), [0.25, 0.5, 0.75], axis=0)
        )
        wide = torch.where(high > low, OUT * (high - low) / 1.349, torch.inf)
        return middle - wide, middle + wide

    @cached_property
    def deviation(self) -> Tensor | None:
        """Deviations of the columns of a table, in which its distances are; 1 for constant columns."""
        if not self.tabular:
            return None
        x = self.train.x.double().clamp(*self.span)
        # powers of two round nothing, and squares of what is left do not overflow
        _, power = x.abs().amax(0).frexp()
        found = x.ldexp(-power).std(0).ldexp(power)
        # the rounding of the mean is no deviation
        return torch.where(found > 1e-12 * x.abs().amax(0), found, 1.0)

    @property
    def distance_unit(self) -> str:
        """In what distances are measured."""
        return self.unit if self.deviation is None else "deviations"

    def scaled(self, x: Tensor) -> Tensor:
        """Rows in float64 whose columns, for tables, are in their deviations, values far out drawn in."""
        return x.double() if self.deviation is None else x.double().clamp(*self.span) / self.deviation

    def energy(self, x: Tensor, y: Tensor) -> float:
        """Energy distance of :meth:`scaled` rows."""
        return energy_distance(self.scaled(x), self.scaled(y))

    @property
    def labelled(self) -> bool:
        """Whether labels are the condition of rows: one column of them and nothing else."""
        return bool(self.classes)

    @property
    def classes(self) -> Sequence[str]:
        """The texts of the labels."""
        return () if self.spec is None else self.spec.classes

    def generator(self, *parts: int | str) -> torch.Generator:
        """A generator of its own for every purpose, so that one part does not move another's draws."""
        return seeded(self.seed, "report", *parts)

    def condition(self, rows: Rows, count: int | None = None) -> Condition | None:
        """The conditions of ``rows``, repeated in turn until there are ``count``."""
        c = rows.condition
        if self.spec is None or c is None:
            return None
        return c if count is None else take_condition(c, torch.arange(count) % condition_length(c))

    def labels(self, rows: Rows) -> Tensor | None:
        """The labels of ``rows``, None where these are not :attr:`labelled`."""
        return rows.condition if self.labelled and isinstance(rows.condition, Tensor) else None

    # -- subsets -------------------------------------------------------------------------------------

    @cached_property
    def reference(self) -> Rows:
        """The held-out rows that everything is compared with, at random where there are more."""
        return self.some(self.test, self.rows, "reference")

    def some(self, rows: Rows, count: int, *parts: int | str) -> Rows:
        """``count`` of ``rows``, drawn without replacement."""
        order = uniform((len(rows),), self.generator(*parts), torch.float64).argsort()
        return rows.take(order[:count])

    def like_reference(self, index: int) -> Tensor:
        """As many training rows, row by row of the same label where there are enough."""
        order = uniform((len(self.train),), self.generator("floor", index), torch.float64).argsort()
        have, want = self.labels(self.train), self.labels(self.reference)
        if have is not None and want is not None:
            chosen = torch.full_like(order[: self.rows], -1)
            for label in want.unique():
                places = (want == label).nonzero()[:, 0]
                rows = order[have[order] == label][: len(places)]
                chosen[places[: len(rows)]] = rows
            if bool((chosen >= 0).all()):
                order = chosen
        return self.train.x[order[: self.rows]]

    # -- what it costs -------------------------------------------------------------------------------

    @cached_property
    def cost(self) -> float:
        """Seconds of one field evaluation of one row, guidance included, where many are carried at once.

        Rounded up to a power of 2, so that a report made again on the same machine mostly takes as many rows.
        """
        if self.inner is None:
            return 0.0
        return self.left_out.attempt("speed of the network", SLOW, self._speed)

    def _speed(self) -> float:
        assert self.inner is not None
        found = 0.0
        for rows in TRIAL:
            condition = condition_to(self.condition(self.train, rows), self.device)
            x = self.inner.source.sample(rows, condition, self.generator("cost")).to(self.device)
            velocity = self.problem(condition).velocity
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
        if self.inner is None:
            return 1.0
        probe = self.left_out.attempt(
            "evaluations of the solver", None, self.draw, 8, "probe", solver=self.inner.solver
        )
        return LOOSE_EVALUATIONS if probe is None else probe.nfe

    @cached_property
    def solver(self) -> Solver | None:
        """The run's solver, or, where an adaptive one would take too long, the same at a loose tolerance."""
        if self.inner is None:
            return None
        own = self.inner.solver
        dear = self.cost * self.evaluations * 1000 > 0.35 * self.budget
        return Tsit5(rtol=1e-3, atol=1e-3) if dear and own.adaptive else own

    @property
    def gauge(self) -> Solver | None:
        """The solver of log-densities: an adaptive one at a tolerance far below their standard error."""
        return Tsit5(rtol=1e-4, atol=1e-4) if self.solver and self.solver.adaptive else self.solver

    @property
    def budget(self) -> float:
        """Seconds that the report may spend in its network."""
        seconds = self.run.summary.get("seconds")
        return max(BUDGET, SHARE * seconds) if isinstance(seconds, int | float) else BUDGET

    def affordable(
        self, name: str, wanted: int, share: float, per_row: float | None = None, least: int = 16
    ) -> int:
        """How many of ``wanted`` rows a ``share`` of the budget pays for, but not fewer than ``least``.

        ``per_row`` counts field evaluations of a row (None: those of one pass of the solver).  Where it is
        fewer, :attr:`cuts` holds it under ``name``.
        """
        if self.inner is None:
            return wanted
        if per_row is None:
            per_row = LOOSE_EVALUATIONS if self.solver is not self.inner.solver else self.evaluations
        count = min(wanted, max(least, int(share * self.budget / (self.cost * per_row))))
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
            if done < count and time.perf_counter() - begin > share * self.budget:
                self.cuts[name] = (done, count)
                return

    # -- the flow ------------------------------------------------------------------------------------

    def problem(self, condition: Condition | None) -> ODE:
        """The inner flow's ODE."""
        assert self.inner is not None
        return self.inner.problem(condition)

    def outwards(self, y: Tensor) -> Tensor:
        """From the space of the model to data units, ``(n, *event)`` on the CPU."""
        if isinstance(self.flow, Transformed):
            y = self.flow.bijection.forward(y.to(self.flow.dtype))
        return y.cpu()

    def inwards(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Data units to the space of the model on its device, with the log-determinant."""
        if not isinstance(self.flow, Transformed):
            return x.to(self.device), torch.zeros(len(x), device=self.device)
        x = x.to(self.device, self.flow.dtype)
        y, log_det = self.flow.bijection.inverse_and_log_det(x, None, generator)
        return y.to(self.flow.model_dtype), log_det

    @torch.no_grad()
    def draw(
        self,
        count: int,
        *parts: int | str,
        condition: Condition | None = None,
        solver: Solver | None = None,
    ) -> Drawn:
        """``count`` samples, under ``condition`` ``(count, ...)`` or that of held-out rows in turn."""
        generator = self.generator("draw", *parts)
        if condition is None:
            condition = self.condition(self.test, count)
        condition = condition_to(condition, self.device)
        if self.inner is None:
            one = condition is not None
            x = (
                self.flow.sample(1, condition, generator)[0]
                if one
                else self.flow.sample(count, None, generator)
            )
            return Drawn(x.cpu(), None, None, 0.0)
        start = self.inner.source.sample(count, condition, generator).to(self.device)
        end, total = [], 0.0
        solver = solver or self.solver
        assert solver is not None
        for rows in torch.arange(count).split(CHUNK):
            given = take_condition(condition, rows)
            solution = solver.solve(self.problem(given), start[rows], *self.inner.interval).check()
            end.append(solution.x)
            total += float(solution.nfe.double().sum())
        arrived = torch.cat(end)
        return Drawn(self.outwards(arrived), start.cpu(), arrived.cpu(), total / count)

    @cached_property
    def drawn(self) -> Drawn:
        """The report's samples; the first ones have the conditions of :attr:`reference`, row by row.

        Raises ValueError for samples that are not finite.
        """
        drawn = self.draw(self.samples, "samples", condition=self.sampled_condition)
        wild = int((~drawn.x.reshape(self.samples, -1).isfinite().all(1)).sum())
        if wild:
            raise ValueError(f"{wild:,} of {self.samples:,} samples are not finite")
        return drawn

    @cached_property
    def sampled_condition(self) -> Condition | None:
        """The condition of every row of :attr:`drawn`."""
        first, more = self.condition(self.reference), self.condition(self.test, self.samples - self.rows)
        return None if first is None or more is None else join_conditions(first, more)
