"""Training batches as a function of (seed, step, rows): the same whichever process asks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..bijections import Bijection, is_stochastic
from ..couplings import Coupling, Independent
from ..nn.checks import check_count
from ..objectives import Batch
from ..random import BLOCK, RowGenerator, seeded
from ..rows import Rows
from ..sources import Source
from ..tensors import condition_length, event_size, map_condition, to_tensor
from .pools import Gather, Planned, PlansAhead, Pool

#: About how many numbers are drawn at once.
TOGETHER = 2**16

#: Rows of a transport plan, plans mixed with each other, and numbers a pool of source points may hold.
PLAN, PLANS, POOL = 2048, 8, 2**24


def in_model_space(
    target: Rows,
    preprocess: Bijection | None,
    dtype: torch.dtype,
    seed: int,
    device: torch.device | str = "cpu",
) -> Rows:
    """Data rows in the model's space, ``preprocess`` undone; the noise that it may draw depends on ``seed``.

    What :meth:`PairedBatches.whole_target` shows to couplings of whole data sets.
    """
    if preprocess is None:
        x = target.x
    else:
        generator = seeded(seed, "preprocess", "whole", device=target.x.device)
        x = preprocess.inverse(target.x, target.condition, generator)
    return Rows(x.to(dtype), target.condition, target.mask, target.weight).to(device)


def _as_rows(given: Any, name: str) -> Rows:
    """At least one row of finite numbers, and as many of all that belongs to them."""
    rows = given if isinstance(given, Rows) else Rows(to_tensor(given, name))
    x = rows.x
    if x.ndim < 2:
        raise ValueError(f"{name}: expected rows (N, *event), got shape {tuple(x.shape)}")
    if len(x) == 0:
        raise ValueError(f"{name}: expected at least one row, got none")
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name}: expected finite numbers, got {int((~x.isfinite()).sum())} that are not")
    beside = {"mask": rows.mask, "weight": rows.weight}
    counts = {key: len(part) for key, part in beside.items() if part is not None}
    if rows.condition is not None:
        counts["condition"] = condition_length(rows.condition)
    for key, count in counts.items():
        if count != len(x):
            raise ValueError(f"{name}: expected a {key} for each of {len(x)} rows, got {count}")
    return rows


class PairedBatches:
    """Pairs of source draws and data rows, ``size`` per step over all processes.

    Without a source (None) there are data rows alone, which is what maximum likelihood takes.

    Data rows come in a fresh seeded order each epoch, without replacement.  ``preprocess`` maps the
    model's space to the units of ``target``; it is undone once, or at every step where it draws noise.

    Where the coupling looks at the points its plans are made ahead, in the background: plans of ``plan``
    rows (at least one batch; by default 2,048, or all rows where there are fewer), eight mixed with each
    other, and every pair is used ``reuse`` times before new plans replace it.  Objectives draw fresh times
    and noise at each use.  ``steps`` says how many will be asked for, so that no plan is made in vain.
    ``gather`` exchanges objects between processes, which then share the plans out; without it each makes
    all of them.
    A coupling that holds its pairs (:attr:`Coupling.pairing`) takes them from ``source``, then given as
    rows, and ``target`` in fresh orders.

    Rows may be plain tensors, arrays and DataFrames; all are taken in ``dtype``, that of the model.

    Raises ValueError for a target without rows or with values that are not finite, a size, plan or reuse
    below 1, a plan of more rows than there are, and sources that do not fit.
    """

    def __init__(
        self,
        source: Source | Rows | Tensor | None,
        target: Rows | Tensor,
        coupling: Coupling | None = None,
        *,
        size: int,
        seed: int = 0,
        preprocess: Bijection | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        plan: int | None = None,
        reuse: int = 16,
        steps: int | None = None,
        gather: Gather | None = None,
    ):
        target = _as_rows(target, "target")
        if source is not None and not isinstance(source, Source):
            source = _as_rows(source, "source")
        if coupling is not None and not isinstance(coupling, Coupling):
            raise ValueError(f"coupling: expected a Coupling or None, got {coupling!r}")
        for name, value in (("size", size), ("plan", plan), ("reuse", reuse), ("steps", steps)):
            if value is not None:
                check_count(name, value)
        if not dtype.is_floating_point:
            raise ValueError(f"dtype: expected floats, got {dtype}")
        self.source, self.coupling, self.size, self.seed = source, coupling or Independent(), size, seed
        self.noisy = preprocess if preprocess is not None and is_stochastic(preprocess) else None
        self.dtype, self.device = dtype, torch.device(device)
        self._given_rows = target
        if self.noisy is None:
            self.target = in_model_space(target, preprocess, dtype, seed, self.device)
        else:
            self.target, self.noisy = target.to(self.device), self.noisy.to(self.device)
        if source is not None:
            given = tuple(source.x.shape[1:] if isinstance(source, Rows) else source.event_shape)
            wanted = tuple(self.target.x.shape[1:])
            if given != wanted:
                raise ValueError(f"source, target: expected equal events, got {given} and {wanted}")
        elif self.coupling.looks or self.coupling.pairing is not None:
            raise ValueError("source: a coupling needs a source to pair with, got None")
        self._orders: dict[int, Tensor] = {}
        elements = event_size(target.x.shape[1:])
        #: steps whose rows are drawn at once, which spares small batches most of their overhead
        self.together = max(1, min(32, TOGETHER // (size * elements)))
        self._drawn: tuple[tuple[int, int, int], Tensor | None, Rows] | None = None
        most = max(size, len(target))
        if plan is not None and plan > most:
            raise ValueError(f"plan: expected at most the {len(target)} rows of the target, got {plan}")
        self.plan, self.reuse = max(size, min(PLAN, most) if plan is None else plan), reuse
        self._plans: PlansAhead | None = None
        self._given: Pool | None = None
        self._whole: Rows | None = None
        if self.coupling.pairing is not None:
            self._given = self._hold()
        elif isinstance(source, Rows):
            raise ValueError("source: rows are for couplings that hold their pairs; others take a Source")
        elif self.coupling.looks:
            plans = max(1, min(PLANS, POOL // (self.plan * elements)))
            #: draws that one pool serves
            self.served = plans * self.plan * reuse
            last = None if steps is None else (steps * size - 1) // self.served
            self._plans = PlansAhead(self._planned, self.coupling, plans, seed, last=last, gather=gather)

    # -- data rows in fresh orders ---------------------------------------------------------------------

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            generator = seeded(self.seed, "order", epoch)
            self._orders[epoch] = torch.randperm(len(self.target), generator=generator).to(self.device)
        return self._orders[epoch]

    def index(self, first: int, last: int) -> Tensor:
        """Which data rows are drawn ``first`` to ``last - 1``, counted from the start of training."""
        rows = len(self.target)
        parts = []
        while first < last:
            epoch, place = divmod(first, rows)
            count = min(last - first, rows - place)
            parts.append(self._order(epoch)[place : place + count])
            first += count
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _model_space(self, target: Rows, generator: torch.Generator) -> Rows:
        """Rows in the model's space, with fresh noise where preprocessing draws it."""
        if self.noisy is None:
            return target
        x = self.noisy.inverse(target.x, target.condition, generator).to(self.dtype)
        return Rows(x, target.condition, target.mask, target.weight)

    # -- rows drawn independently ----------------------------------------------------------------------

    def _group(self, group: int, start: int, stop: int) -> tuple[Tensor | None, Rows]:
        """Source points, where there is a source, and data rows of ``self.together`` steps, each
        ``(steps, rows, ...)``.

        Drawn step by step within each row, so that a process needs only what belongs to its rows.
        """
        steps, count = self.together, stop - start
        at = [(group * steps + k) * self.size for k in range(steps)]
        index = torch.stack([self.index(first + start, first + stop) for first in at], 1)
        target = self.target.take(index.flatten())

        def stream(name: str) -> RowGenerator:
            rows = (start * steps, stop * steps)
            block = min(BLOCK, self.size) * steps
            return RowGenerator(self.seed, name, group, rows=rows, block=block, device=self.device)

        def by_step(x: Tensor) -> Tensor:
            return x.reshape(count, steps, *x.shape[1:]).transpose(0, 1).contiguous()

        target = self._model_space(target, stream("preprocess"))
        x0 = None
        if self.source is not None:
            assert isinstance(self.source, Source)
            x0 = by_step(self.source.sample(count * steps, target.condition, stream("source")).to(target.x))
        mask, weight = (None if v is None else by_step(v) for v in (target.mask, target.weight))
        return x0, Rows(by_step(target.x), map_condition(by_step, target.condition), mask, weight)

    def _independent(self, step: int, rank: int, world: int) -> Batch:
        start, stop = self.rows(rank, world)
        group, place = divmod(step, self.together)
        if self._drawn is None or self._drawn[0] != (group, start, stop):
            self._drawn = ((group, start, stop), *self._group(group, start, stop))
        _, x0, rows = self._drawn
        mask, weight = (None if v is None else v[place] for v in (rows.mask, rows.weight))
        target = Rows(rows.x[place], map_condition(lambda c: c[place], rows.condition), mask)
        normaliser: Tensor | float = self.size / world
        if weight is not None:
            assert self.target.weight is not None
            first = step * self.size
            normaliser = self.target.weight[self.index(first, first + self.size)].sum() / world
        marginals = (target,) if x0 is None else (Rows(x0[place]), target)
        return Batch(marginals, weight, normaliser)

    # -- rows paired by a plan -------------------------------------------------------------------------

    def _planned(self, k: int) -> Planned:
        """The rows of plan ``k``."""
        assert isinstance(self.source, Source)
        if self.coupling.whole:
            places, target, condition = None, self.whole_target(), None
        else:
            places = self.index(k * self.plan, (k + 1) * self.plan)
            target = self.target.take(places)
            target = self._model_space(target, seeded(self.seed, "preprocess", k, device=self.device))
            condition = target.condition
        generator = seeded(self.seed, "source", k, device=self.device)
        x0 = self.source.sample(self.plan, condition, generator).to(target.x)
        return Planned(Rows(x0, condition), target, places)

    def whole_target(self) -> Rows:
        """All data rows in the model's space, as couplings of whole data sets see them.

        Noise of the preprocessing is drawn once, so that a coupling fitted on these rows knows them again.
        """
        if self.noisy is None:
            return self.target
        if self._whole is None:
            self._whole = in_model_space(self._given_rows, self.noisy, self.dtype, self.seed, self.device)
        return self._whole

    def _hold(self) -> Pool:
        if not isinstance(self.source, Rows):
            raise ValueError("source: expected the rows that the coupling pairs, got a distribution")
        x0 = Rows(self.source.x.to(self.device, self.dtype))
        pairing = self.coupling.pair(x0, self.whole_target())  # which checks that the rows are its own
        weight = None if pairing.weight is None else pairing.weight.to(self.device)
        return Pool(x0.x, pairing.indices.to(self.device), weight)

    def _paired(self, step: int, rank: int, world: int) -> Batch:
        start, stop = self.rows(rank, world)
        first, last = step * self.size, (step + 1) * self.size
        x0, places, weights = [], [], []
        while first < last:
            if self._given is not None:
                pool, number, begin, served = self._given, 0, 0, last
            else:
                assert self._plans is not None
                served = self.served
                number = first // served
                pool, begin = self._plans.pool(number, rank, world), number * served
            turn, place = divmod(first - begin, len(pool.indices))
            count = min(last - first, len(pool.indices) - place, begin + served - first)
            pairs = pool.order(self.seed, number, turn)[place : place + count]
            at = pool.indices[pairs]
            x0.append(pool.source[at[:, 0]])
            places.append(at[:, 1])
            weights.append(pool.weight[pairs] if pool.weight is not None else None)
            first += count
        x0, index = torch.cat(x0)[start:stop], torch.cat(places)[start:stop]
        block = min(BLOCK, self.size)
        generator = RowGenerator(
            self.seed, "preprocess", step, rows=(start, stop), block=block, device=self.device
        )
        target = self._model_space(self.target.take(index), generator)
        target = Rows(target.x, target.condition, target.mask)
        if all(weight is None for weight in weights):
            return Batch((Rows(x0), target), None, self.size / world)
        weight = torch.cat([w for w in weights if w is not None])
        assert len(weight) == self.size, "pools of one coupling either all have weights or none does"
        return Batch((Rows(x0), target), weight[start:stop], weight.sum() / world)

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The part of the batch of ``step`` that belongs to process ``rank`` of ``world``."""
        if self._plans is None and self._given is None:
            return self._independent(step, rank, world)
        return self._paired(step, rank, world)

    def rows(self, rank: int, world: int) -> tuple[int, int]:
        """First and last row of the global batch that process ``rank`` computes."""
        return self.size * rank // world, self.size * (rank + 1) // world

    @property
    def info(self) -> dict[str, object]:
        """What the newest plan said about itself, such as its cost; empty without plans."""
        return {} if self._plans is None else self._plans.info

    def close(self) -> None:
        """Stop making plans in the background."""
        if self._plans is not None:
            self._plans.close()
