"""Batches of pairs: from transport plans made ahead in the background, or from given pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..couplings import Coupling, Pairing
from ..nn.checks import check_count
from ..random import of_rows, seeded
from ..rows import Batch, Rows
from ..sources import Source
from ..tensors import event_size
from .batches import Batches, DataRows

#: Hands every process's object to every process, in the order of ranks.
Gather = Callable[[Any], Sequence[Any]]
#: Source points, places in the target, and weights, of pairs.
Piece = tuple[Tensor, Tensor, Tensor | None]

#: Rows of a transport plan, plans mixed with each other, and numbers a pool of source points may hold.
PLAN, PLANS, POOL = 2048, 8, 2**24


@dataclass(frozen=True)
class Plans:
    """How transport plans are made ahead, and how often they are used.

    rows: those of each plan, at least one batch; None for 2,048, or all rows where there are fewer.
    reuse: how often each pair is used before new plans replace it, each time with new times and noise.
    steps: the number of batches of the training, so that no superfluous plan is made; None if unknown.
    gather: exchanges objects between processes, which then divide the plans; None if each makes all.

    Raises ValueError for a number below 1.
    """

    rows: int | None = None
    reuse: int = 16
    steps: int | None = None
    gather: Gather | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "reuse", "steps"):
            if getattr(self, name) is not None:
                check_count(f"plans.{name}", getattr(self, name))


@dataclass(frozen=True)
class Planned:
    """The rows of one plan: source rows, target rows, and the places of these in the whole target."""

    source: Rows
    target: Rows
    places: Tensor | None


@dataclass(frozen=True)
class Pool:
    """Pairs ready for use: ``source`` ``(n, *event)``, ``indices`` ``(P, 2)`` into it and the target."""

    source: Tensor
    indices: Tensor
    weight: Tensor | None
    #: the orders in which passes go through the pairs, kept for the pass in use
    orders: dict[int, Tensor] = field(default_factory=dict)

    def order(self, seed: int, number: int, turn: int) -> Tensor:
        """A seeded permutation of the pairs for pass ``turn``."""
        if turn not in self.orders:
            for old in [t for t in self.orders if t < turn - 1]:
                del self.orders[old]
            generator = seeded(seed, "pairs", number, turn)
            order = torch.randperm(len(self.indices), generator=generator)
            self.orders[turn] = order.to(self.indices.device)
        return self.orders[turn]

    def pieces(self, seed: int, number: int, first: int, last: int) -> Iterator[Piece]:
        """Draws ``first`` to ``last - 1`` from pool ``number``, counted from its first use."""
        while first < last:
            turn, place = divmod(first, len(self.indices))
            pairs = self.order(seed, number, turn)[place : place + last - first]
            at = self.indices[pairs]
            yield self.source[at[:, 0]], at[:, 1], None if self.weight is None else self.weight[pairs]
            first += len(pairs)


def merge(planned: Sequence[Planned], pairings: Sequence[Pairing]) -> Pool:
    """One pool of several plans."""
    indices, offset = [], 0
    for plan, pairing in zip(planned, pairings, strict=True):
        first, second = pairing.indices.unbind(1)
        second = second if plan.places is None else plan.places[second]
        indices.append(torch.stack([first + offset, second], 1))
        offset += len(plan.source)
    weights = [pairing.weight for pairing in pairings]
    weight = None
    if any(w is not None for w in weights):
        weight = torch.cat(
            [torch.ones(len(i), device=i.device) if w is None else w for w, i in zip(weights, indices)]
        )
    return Pool(torch.cat([plan.source.x for plan in planned]), torch.cat(indices), weight)


class PlansAhead:
    """Pool j holds the plans ``j * plans`` to ``(j + 1) * plans - 1``; plan k is a function of (seed, k).

    ``draw(k)`` gives the rows of plan k.  While pool j is used a thread makes pool j + 1, up to ``last``
    (None: no end).  With ``gather`` each process solves its share of the plans and all exchange the results;
    without it every process solves all.
    """

    def __init__(
        self,
        draw: Callable[[int], Planned],
        coupling: Coupling,
        plans: int,
        seed: int,
        *,
        last: int | None = None,
        gather: Gather | None = None,
    ):
        self.draw, self.coupling, self.plans, self.seed = draw, coupling, plans, seed
        self.last, self.gather = last, gather
        self._worker: ThreadPoolExecutor | None = None
        self._coming: dict[int, Future[tuple[list[Planned], dict[int, Pairing]]]] = {}
        self._pools: dict[int, Pool] = {}
        #: what the plans said about themselves, the newest pool's last plan
        self.info: dict[str, Any] = {}

    def _solve(self, number: int, rank: int, world: int) -> tuple[list[Planned], dict[int, Pairing]]:
        numbers = range(number * self.plans, (number + 1) * self.plans)
        planned = [self.draw(k) for k in numbers]
        share = 1 if self.gather is None else world
        mine = [i for i in range(self.plans) if i % share == (rank if share > 1 else 0)]
        pairings = self.coupling.pair_many(
            [planned[i].source for i in mine],
            [planned[i].target for i in mine],
            [seeded(self.seed, "pair", numbers[i]) for i in mine],
        )
        return planned, dict(zip(mine, pairings, strict=True))

    def _start(self, number: int, rank: int, world: int) -> None:
        if self._worker is None:
            # a new thread would take all cores for itself
            threads = (torch.get_num_threads(),)
            self._worker = ThreadPoolExecutor(1, "plans", torch.set_num_threads, threads)
        self._coming[number] = self._worker.submit(self._solve, number, rank, world)

    def pool(self, number: int, rank: int = 0, world: int = 1) -> Pool:
        """Pool ``number``, after waiting until it is ready; starts to make the next one."""
        if number not in self._pools:
            if number not in self._coming:
                self._start(number, rank, world)
            planned, pairings = self._coming.pop(number).result()
            if self.gather is not None and world > 1:
                pairings = {i: p for part in self.gather(pairings) for i, p in part.items()}
            device = planned[0].source.x.device
            whole = [_to(pairings[i], device) for i in range(self.plans)]
            self.info = dict(whole[-1].info)
            self._pools = {n: p for n, p in self._pools.items() if n == number - 1}
            self._pools[number] = merge(planned, whole)
            coming = number + 1
            if coming not in self._coming and (self.last is None or coming <= self.last):
                self._start(coming, rank, world)
        return self._pools[number]

    def close(self) -> None:
        """Make no more plans."""
        self._coming.clear()
        if self._worker is not None:
            self._worker.shutdown(wait=False, cancel_futures=True)
            self._worker = None

    def __del__(self) -> None:
        self.close()


def _to(pairing: Pairing, device: torch.device) -> Pairing:
    weight = None if pairing.weight is None else pairing.weight.to(device)
    return Pairing(pairing.indices.to(device), weight, pairing.info)


class PlannedPairs(Batches):
    """Pairs of plans made ahead, several mixed with each other, until new plans replace them."""

    def __init__(self, source: Source, data: DataRows, coupling: Coupling, size: int, plans: Plans):
        self.source, self.data, self.coupling, self.size = source, data, coupling, size
        rows = len(data.kept)
        most = max(size, rows)
        if plans.rows is not None and plans.rows > most:
            raise ValueError(f"plans.rows: expected at most the {rows} rows of the target, got {plans.rows}")
        #: rows of a plan
        self.plan = max(size, min(PLAN, most) if plans.rows is None else plans.rows)
        count = max(1, min(PLANS, POOL // (self.plan * event_size(data.kept.x.shape[1:]))))
        #: draws that one pool serves
        self.served = count * self.plan * plans.reuse
        last = None if plans.steps is None else (plans.steps * size - 1) // self.served
        self.ahead = PlansAhead(self._planned, coupling, count, data.seed, last=last, gather=plans.gather)

    def _planned(self, k: int) -> Planned:
        """The rows of plan ``k``."""
        data = self.data
        if self.coupling.whole:
            places, target, condition = None, data.whole, None
        else:
            places = data.index(k * self.plan, (k + 1) * self.plan)
            target = data.take(places, seeded(data.seed, "preprocess", k, device=data.device))
            condition = target.condition
        generator = seeded(data.seed, "source", k, device=data.device)
        x0 = self.source.sample(self.plan, condition, generator).to(target.x)
        return Planned(Rows(x0, condition), target, places)

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        first, last = step * self.size, (step + 1) * self.size
        pieces: list[Piece] = []
        while first < last:
            number = first // self.served
            begin = number * self.served
            stop = min(last, begin + self.served)
            pool = self.ahead.pool(number, rank, world)
            pieces += pool.pieces(self.data.seed, number, first - begin, stop - begin)
            first = stop
        return _joined(pieces, self.data, step, self.rows(rank, world), world)

    @property
    def info(self) -> dict[str, Any]:
        """Figures of the newest plan, such as its cost."""
        return self.ahead.info

    def close(self) -> None:
        """Stop making plans in the background."""
        self.ahead.close()


class HeldPairs(Batches):
    """Pairs that a coupling holds, in new orders: ``source`` rows with those of the data."""

    def __init__(self, source: Rows, data: DataRows, coupling: Coupling, size: int):
        self.data, self.size = data, size
        x0 = source.x.to(data.device, data.space.dtype)
        # which checks that the rows are the coupling's own
        pairing = _to(coupling.pair(Rows(x0), data.whole), data.device)
        self._pool = Pool(x0, pairing.indices, pairing.weight)

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        pieces = self._pool.pieces(self.data.seed, 0, step * self.size, (step + 1) * self.size)
        return _joined(list(pieces), self.data, step, self.rows(rank, world), world)


def _joined(pieces: list[Piece], data: DataRows, step: int, rows: tuple[int, int], world: int) -> Batch:
    """The ``rows``, from the first to before the last, of the batch that ``pieces`` make up."""
    sources, places, weights = zip(*pieces)
    part, size = slice(*rows), sum(map(len, places))
    target, at = data.kept, torch.cat(places)[part]
    if data.noisy is not None:
        generator = of_rows(data.seed, "preprocess", step, rows=rows, size=size, device=data.device)
        target, at = data.take(at, generator), slice(None)
    known = [weight for weight in weights if weight is not None]
    if not known:
        return Batch.gathered(torch.cat(sources)[part], target, at, None, size / world)
    assert len(known) == len(weights), "pools of one coupling either all have weights or none does"
    weight = torch.cat(known)
    return Batch.gathered(torch.cat(sources)[part], target, at, weight[part], weight.sum() / world)
