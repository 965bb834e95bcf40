"""The data and settings that all stages of a run share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..couplings import Coupling
from ..data import Dataset
from ..rows import Rows
from ..runs import RunFolder
from ..sources import Source
from ..training import Batches, ModelSpace, Plans, gather_objects, pairs
from .base import Recipe
from .start import Start

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Telling:
    """How a run is told of.

    command: what was typed, empty in Python.  say: takes a line of text.  show_progress: whether to show how
    far training is.
    """

    command: str
    say: Callable[[str], None]
    show_progress: bool


@dataclass(frozen=True)
class Job:
    """The data, settings and devices of a run, shared by its stages.

    dataset: its ``train`` rows are trained on.  validation: rows that choose the weights.  start: what the
    flow starts from.
    """

    recipe: Recipe
    dataset: Dataset
    validation: Rows
    start: Start
    fabric: Fabric
    folder: RunFolder
    telling: Telling
    #: that each fit may take, None for as many as it takes
    seconds: float | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.fabric.global_rank == 0

    @property
    def facts(self) -> dict[str, Any]:
        """What ``run.json`` says of the command and the devices."""
        fabric = self.fabric
        return {
            "command": self.telling.command,
            "processes": fabric.world_size,
            "device": str(fabric.device),
        }

    def say(self, text: str) -> None:
        """Tell the user."""
        self.telling.say(text)

    @property
    def size(self) -> int:
        """Rows of a step over all processes."""
        assert self.recipe.optim.batch is not None, "resolve the configuration first"
        return self.recipe.optim.batch

    def space(self, jitter: float | None = None) -> ModelSpace:
        """That of the model, in which rows of batches have normal noise of the deviation ``jitter``."""
        return ModelSpace(self.dataset.preprocess, self.recipe.dtype, self.fabric.device, jitter or 0.0)

    def pairs(self, source: Source | Rows, coupling: Coupling, jitter: float | None = None) -> Batches:
        """Batches of rows of ``source`` and training rows, paired by ``coupling`` with the plans that the
        configuration asks for; ``jitter`` as of :meth:`space`."""
        model, optim = self.recipe.model, self.recipe.optim
        assert optim.steps is not None and model.reuse is not None, "resolve the configuration first"
        return pairs(
            source,
            self.dataset.train,
            coupling,
            size=self.size,
            seed=self.recipe.seed,
            space=self.space(jitter),
            plans=Plans(model.plan, model.reuse, optim.steps, gather_objects(self.fabric)),
        )
