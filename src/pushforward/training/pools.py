"""Transport plans made ahead: pools of paired rows, made in the background while the last one is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..couplings import Coupling, Pairing
from ..random import seeded
from ..rows import Rows

#: Hands every process's object to every process, in the order of ranks.
Gather = Callable[[Any], Sequence[Any]]


@dataclass(frozen=True)
class Planned:
    """What one plan is made of: source rows, target rows, and where these stand in the whole target."""

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
    (None: no end).  Where ``gather`` is given each process solves its share of the plans and all of them
    exchange the results; otherwise every process solves all.
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
        """Pool ``number``, waiting for it where it is not ready, and set off the making of the next."""
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
