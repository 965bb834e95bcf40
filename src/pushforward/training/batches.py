"""Training batches as a function of (seed, step, rows): the same whichever process asks."""

from __future__ import annotations

import torch
from torch import Tensor

from ..bijections import Bijection, is_stochastic
from ..couplings import Coupling, Independent, Rows
from ..objectives import Batch
from ..random import BLOCK, RowGenerator, seeded
from ..sources import Source
from ..tensors import event_size, map_condition

#: About how many numbers are drawn at once.
TOGETHER = 2**16


class PairedBatches:
    """Pairs of source draws and data rows, ``size`` per step over all processes.

    Data rows come in a fresh seeded order each epoch, without replacement.  ``preprocess`` maps the
    model's space to the units of ``target``; it is undone once, or at every step where it draws noise.
    A coupling that looks at the points pairs the whole batch, on every process alike.

    Raises ValueError for an empty target and a size below 1.
    """

    def __init__(
        self,
        source: Source,
        target: Rows,
        coupling: Coupling | None = None,
        *,
        size: int,
        seed: int = 0,
        preprocess: Bijection | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        if size < 1 or len(target) < 1:
            raise ValueError(
                f"expected a batch and a target of at least one row, got {size} and {len(target)}"
            )
        self.source, self.coupling, self.size, self.seed = source, coupling or Independent(), size, seed
        self.noisy = preprocess if preprocess is not None and is_stochastic(preprocess) else None
        self.dtype, self.device = dtype, torch.device(device)
        if preprocess is not None and self.noisy is None:
            x = preprocess.inverse(target.x)
            target = Rows(x, target.condition, target.mask, target.weight)
        keep = target.x if self.noisy is not None else target.x.to(dtype)
        self.target = Rows(keep, target.condition, target.mask, target.weight).to(self.device)
        if self.noisy is not None:
            self.noisy = self.noisy.to(self.device)
        self._orders: dict[int, Tensor] = {}
        elements = size * event_size(target.x.shape[1:])
        #: steps whose rows are drawn at once, which spares small batches most of their overhead
        self.together = max(1, min(32, TOGETHER // elements))
        self._drawn: tuple[tuple[int, int, int], Tensor, Rows] | None = None

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            generator = seeded(self.seed, "order", epoch)
            self._orders[epoch] = torch.randperm(len(self.target), generator=generator).to(self.device)
        return self._orders[epoch]

    def index(self, step: int, start: int, stop: int) -> Tensor:
        """Which data rows stand at places ``start`` to ``stop`` of the batch of ``step``."""
        rows = len(self.target)
        first, last = step * self.size + start, step * self.size + stop
        parts = []
        while first < last:
            epoch, place = divmod(first, rows)
            count = min(last - first, rows - place)
            parts.append(self._order(epoch)[place : place + count])
            first += count
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _group(self, group: int, start: int, stop: int) -> tuple[Tensor, Rows]:
        """Source points and data rows of ``self.together`` steps, each ``(steps, rows, ...)``.

        Drawn step by step within each row, so that a process needs only what belongs to its rows.
        """
        steps, count = self.together, stop - start
        index = torch.stack([self.index(group * steps + k, start, stop) for k in range(steps)], 1)
        target = self.target.take(index.flatten())

        def stream(name: str) -> RowGenerator:
            rows = (start * steps, stop * steps)
            block = min(BLOCK, self.size) * steps
            return RowGenerator(self.seed, name, group, rows=rows, block=block, device=self.device)

        def by_step(x: Tensor) -> Tensor:
            return x.reshape(count, steps, *x.shape[1:]).transpose(0, 1).contiguous()

        x = target.x
        if self.noisy is not None:
            x = self.noisy.inverse(x, target.condition, stream("preprocess")).to(self.dtype)
        x0 = self.source.sample(count * steps, target.condition, stream("source")).to(x)
        mask = None if target.mask is None else by_step(target.mask)
        return by_step(x0), Rows(by_step(x), map_condition(by_step, target.condition), mask)

    def _rows(self, step: int, start: int, stop: int) -> tuple[Rows, Rows]:
        group, place = divmod(step, self.together)
        if self._drawn is None or self._drawn[0] != (group, start, stop):
            self._drawn = ((group, start, stop), *self._group(group, start, stop))
        _, x0, target = self._drawn
        mask = None if target.mask is None else target.mask[place]
        return Rows(x0[place]), Rows(
            target.x[place], map_condition(lambda c: c[place], target.condition), mask
        )

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The part of the batch of ``step`` that belongs to process ``rank`` of ``world``."""
        start, stop = self.rows(rank, world)
        if self.coupling.looks:
            source, target = self._rows(step, 0, self.size)
            pairing = self.coupling.pair(source, target, seeded(self.seed, "pair", step))
            place = slice(start, stop)
            source = source.take(pairing.indices[place, 0])
            target = target.take(pairing.indices[place, 1])
            weight = pairing.weight
        else:
            source, target = self._rows(step, start, stop)
            place, weight = slice(None), None
        if weight is None and self.target.weight is not None and not self.coupling.looks:
            weight = self.target.weight[self.index(step, 0, self.size)]
            place = slice(start, stop)
        if weight is None:
            return Batch((source, target), None, self.size / world)
        return Batch((source, target), weight[place], weight.sum() / world)

    def rows(self, rank: int, world: int) -> tuple[int, int]:
        """First and last row of the global batch that process ``rank`` computes."""
        return self.size * rank // world, self.size * (rank + 1) // world
