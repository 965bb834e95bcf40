"""What a report is about: a run, seen as the report's other parts need it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, cast

import torch
from torch import Tensor

from ..flows import ContinuousFlow, Flow, FlowMapFlow, Transformed
from ..manifolds import Manifold
from ..metrics import energy_distance
from ..random import seeded, uniform
from ..recipes import Run
from ..rows import Rows
from ..solvers import ODE
from ..tensors import Condition, condition_length, event_size, join_conditions, take_condition
from .budget import Budget
from .left_out import LeftOut
from .sampler import Drawn, Sampler
from .scale import Chords, Scale

#: What is drawn: a scatter, columns, lines over positions, or pictures; text is shown as it is.
Look = Literal["plane", "table", "series", "image", "text"]


class LoadedRun:
    """A run with its rows, its columns' names, and the sizes that its cost allows.

    ``samples`` is how many the model is asked for (None: chosen from the kind of data).
    """

    def __init__(self, run: Run, seed: int | None = None, samples: int | None = None):
        self.run, self.schema, self.flow = run, run.schema, run.flow
        #: What failed.
        self.left_out = LeftOut()
        self.sampler, self.budget = Sampler(self), Budget(self)
        self.seed = run.config.seed if seed is None else seed
        self.spec = run.schema.condition
        #: Of weighted rows those that a draw by their weights leaves: what the model is to be like.
        self.train, self.test = (
            rows.to("cpu").thinned(self.generator("thinned", part))
            for part, rows in (("train", run.dataset.train), ("test", run.dataset.test))
        )
        #: Without enough held-out rows half of the training rows replace them, and the report says so.
        have, held = self.labels(self.train), self.labels(self.test)
        if have is not None and held is not None:
            # nothing can be said of a label that training has not seen
            self.test = self.test.take(torch.isin(held, have).nonzero()[:, 0])
        if run.dataset.stretches is not None:  # windows that overlap are no rows of their own
            beside = run.dataset.stretches.beside(len(self.train), event_size(self.event))
            self.train = self.train.take(beside)
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
        #: Draws of real rows, for measures that are quick and for measures that take long.
        self.repeats = (8, 5) if self.size <= 100 else (3, 3)
        wanted = {"image": 1000, "text": 400}.get(self.look, 2000)
        self.samples = (
            self.budget.affordable("samples", wanted, 0.4, least=100) if samples is None else samples
        )
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
    def outer(self) -> Transformed | None:
        """The flow as far as it has preprocessing, None where there is none."""
        return None if self.flow.preprocess is None else cast(Transformed, self.flow)

    @property
    def core(self) -> Flow:
        """The flow inside the preprocessing."""
        return self.flow.core

    @property
    def map(self) -> FlowMapFlow | None:
        """The flow map inside the preprocessing, None where there is none."""
        return cast(FlowMapFlow, self.core) if hasattr(self.core, "jump") else None

    @cached_property
    def inner(self) -> ContinuousFlow | None:
        """The continuous flow inside the preprocessing, None where there is none.

        That of a flow map follows the map's velocity.
        """
        if self.map is not None:
            return self.map.continuous()
        return cast(ContinuousFlow, self.core) if self.core.equation is ODE else None

    @property
    def density(self) -> str:
        """What log-densities are, see :class:`~pushforward.flows.Flow`; of a map those of its velocity."""
        return (self.flow if self.map is None else self.flow.replace(flow=self.inner)).density

    @property
    def manifold(self) -> Manifold | None:
        """The manifold of which rows are points; None for vectors."""
        return None if self.run.config.data.space is None else self.core.source.manifold

    @property
    def box(self) -> list[tuple[float, float]] | None:
        """The whole range of every column, where the space has one."""
        return getattr(self.flow.preprocess, "box", None)

    @property
    def invertible(self) -> bool:
        """Whether the flow also runs backwards."""
        return self.flow.invertible

    @property
    def dequantised(self) -> bool:
        """Whether the data are whole levels that the model sees as tokens, or with noise added; characters
        of a text, whose order means nothing, are no levels."""
        if self.outer is None or not self.schema.levels or self.look == "text":
            return False
        return self.outer.bijection.stochastic or self.core.discrete

    @cached_property
    def device(self) -> torch.device:
        """Where the flow computes."""
        tensors = [*self.flow.parameters(), *self.flow.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    @cached_property
    def look(self) -> Look:
        """How rows are drawn."""
        if self.schema.kind == "text":
            return "text"
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

    @cached_property
    def shade_ends(self) -> tuple[float, float]:
        """The values that the darkest and the lightest shade of an image stand for."""
        if self.schema.levels is not None:
            return self.schema.levels[:2]
        x = self.train.x.double()
        return float(x.quantile(0.001)), float(x.quantile(0.999))

    @property
    def unit(self) -> str:
        """In what the data are."""
        return "grey levels" if self.schema.levels is not None else "data units"

    @property
    def tabular(self) -> bool:
        """Whether a row is a list of numbers, each a column of its own."""
        return len(self.event) == 1 and self.look != "text"

    @property
    def element(self) -> str:
        """What bits are per."""
        return "character" if self.look == "text" else "dimension"

    @cached_property
    def scale(self) -> Scale | Chords:
        """What puts rows into the units of distances."""
        if self.manifold is not None and self.outer is not None:
            return Chords(self.train.x, self.manifold, self.outer.bijection)
        return Scale(self.train.x, self.tabular)

    @property
    def distance_unit(self) -> str:
        """In what distances are measured."""
        if self.manifold is not None:
            return "chord units"
        return "deviations" if self.tabular else self.unit

    def energy(self, x: Tensor, y: Tensor) -> float:
        """Energy distance of rows in the units of distances."""
        return energy_distance(self.scale(x), self.scale(y))

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
        return self.subset(self.test, self.rows, "reference")

    def subset(self, rows: Rows, count: int, *parts: int | str) -> Rows:
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

    @cached_property
    def drawn(self) -> Drawn:
        """The report's samples; the first ones have the conditions of :attr:`reference`, row by row.

        Raises ValueError for samples that are not finite.
        """
        drawn = self.sampler.draw(self.samples, "samples", condition=self.sampled_condition)
        wild = int((~drawn.x.reshape(self.samples, -1).isfinite().all(1)).sum())
        if wild:
            raise ValueError(f"{wild:,} of {self.samples:,} samples are not finite")
        return drawn

    @cached_property
    def sampled_condition(self) -> Condition | None:
        """The condition of every row of :attr:`drawn`."""
        first, more = self.condition(self.reference), self.condition(self.test, self.samples - self.rows)
        return None if first is None or more is None else join_conditions(first, more)

    @property
    def sampled_labels(self) -> Tensor | None:
        """The label of every row of :attr:`drawn`, None where these are not :attr:`labelled`."""
        asked = self.sampled_condition
        return asked if self.labelled and isinstance(asked, Tensor) else None
