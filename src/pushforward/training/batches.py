"""Training batches, which depend only on (seed, step, rows) and not on the process."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ..bijections import Bijection, Blur, Chain
from ..random import RowGenerator, of_rows, seeded
from ..rows import Batch, Rows
from ..sources import Source
from ..tensors import event_size, map_condition

#: About how many numbers are drawn at once.
TOGETHER = 2**16


class Batches(Protocol):
    """The batches of a training; :func:`~pushforward.training.pairs` makes them from a source and data.

    Batches of your own need :attr:`size` and a call; a subclass has the rest.
    """

    #: rows of the global batch
    size: int

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The part of the batch of ``step`` that belongs to process ``rank`` of ``world``."""
        ...

    def rows(self, rank: int, world: int) -> tuple[int, int]:
        """First and last row of the global batch that process ``rank`` computes."""
        return self.size * rank // world, self.size * (rank + 1) // world

    def close(self) -> None:
        """Stop what makes batches in the background."""
        return


@dataclass(frozen=True)
class ModelSpace:
    """The space in which a model is trained; ``preprocess`` maps it to the units of the data.

    preprocess: inverted once, or at every step if it draws noise; None for the units of the data.
    dtype, device: those of the model.
    jitter: deviation of normal noise that rows of batches have in this space.

    Raises ValueError for a ``dtype`` that is not floating.
    """

    preprocess: Bijection | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not self.dtype.is_floating_point:
            raise ValueError(f"dtype: expected floats, got {self.dtype}")

    def rows(self, rows: Rows, seed: int) -> Rows:
        """``rows`` in this space, without jitter; the noise that ``preprocess`` draws depends on ``seed``."""
        x = rows.x
        if self.preprocess is not None:
            generator = seeded(seed, "preprocess", "whole", device=x.device)
            x = self.preprocess.inverse(x, rows.condition, generator)
        return Rows(x.to(self.dtype), rows.condition, rows.mask, rows.weight).to(self.device)

    @property
    def noisy(self) -> Bijection | None:
        """The preprocessing to invert at every step; None if once is enough."""
        link = self.preprocess
        if self.jitter:
            link = Chain(Blur(self.jitter), *(() if link is None else (link,)))
        return copy.deepcopy(link).to(self.device) if link is not None and link.stochastic else None


class DataRows:
    """Rows of a data set in the space of the model, in a new seeded order each epoch."""

    def __init__(self, given: Rows, space: ModelSpace, seed: int):
        self.given, self.space, self.seed, self.noisy = given, space, seed, space.noisy
        self.kept = space.rows(given, seed) if self.noisy is None else given.to(space.device)
        self._orders: dict[int, Tensor] = {}

    @property
    def device(self) -> torch.device:
        return self.kept.x.device

    @cached_property
    def whole(self) -> Rows:
        """All rows, as given to couplings of whole data sets.

        Noise of the preprocessing is drawn once, so that a coupling fitted on these rows recognises them.
        """
        return self.kept if self.noisy is None else self.space.rows(self.given, self.seed)

    def take(self, places: Tensor, generator: torch.Generator | None) -> Rows:
        """The rows at ``places``, with fresh noise from ``generator`` where there is some."""
        rows = self.kept.take(places)
        if self.noisy is None:
            return rows
        x = self.noisy.inverse(rows.x, rows.condition, generator).to(self.space.dtype)
        return Rows(x, rows.condition, rows.mask, rows.weight)

    def index(self, first: int, last: int) -> Tensor:
        """Which rows are drawn ``first`` to ``last - 1``, counted from the start of training."""
        rows = len(self.kept)
        parts = []
        while first < last:
            epoch, place = divmod(first, rows)
            count = min(last - first, rows - place)
            parts.append(self._order(epoch)[place : place + count])
            first += count
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            generator = seeded(self.seed, "order", epoch)
            self._orders[epoch] = torch.randperm(len(self.kept), generator=generator).to(self.device)
        return self._orders[epoch]


class IndependentDraws(Batches):
    """Data rows, and source points drawn for them; data rows alone where there is no source."""

    def __init__(self, source: Source | None, data: DataRows, size: int):
        self.source, self.data, self.size = source, data, size
        elements = event_size(data.kept.x.shape[1:])
        #: steps whose rows are drawn at once, which spares small batches most of their overhead
        self.together = max(1, min(32, TOGETHER // (size * elements)))
        self._drawn: tuple[tuple[int, int, int], tuple[Rows, ...]] | None = None

    def _group(self, group: int, start: int, stop: int) -> tuple[Rows, ...]:
        """Source points, where there is a source, and data rows of ``self.together`` steps, each
        ``(steps, rows, ...)``.

        Drawn step by step within each row, so that a process needs only what belongs to its rows.
        """
        data, steps, count = self.data, self.together, stop - start
        at = [(group * steps + k) * self.size for k in range(steps)]
        index = torch.stack([data.index(first + start, first + stop) for first in at], 1)

        def stream(name: str) -> RowGenerator:
            rows, size = (start, stop), self.size
            return of_rows(data.seed, name, group, rows=rows, size=size, device=data.device, steps=steps)

        def by_step(x: Tensor) -> Tensor:
            return x.reshape(count, steps, *x.shape[1:]).transpose(0, 1).contiguous()

        target = data.take(index.flatten(), stream("preprocess"))
        mask, weight = (None if v is None else by_step(v) for v in (target.mask, target.weight))
        rows = Rows(by_step(target.x), map_condition(by_step, target.condition), mask, weight)
        if self.source is None:
            return (rows,)
        x0 = self.source.sample(count * steps, target.condition, stream("source")).to(target.x)
        return Rows(by_step(x0)), rows

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        start, stop = self.rows(rank, world)
        group, place = divmod(step, self.together)
        if self._drawn is None or self._drawn[0] != (group, start, stop):
            self._drawn = ((group, start, stop), self._group(group, start, stop))
        normaliser: Tensor | float = self.size / world
        if self.data.kept.weight is not None:
            first = step * self.size
            normaliser = self.data.kept.weight[self.data.index(first, first + self.size)].sum() / world
        return Batch.at(place, self._drawn[1], normaliser)
