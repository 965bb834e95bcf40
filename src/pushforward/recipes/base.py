"""The abstract recipe: a family of methods with the stages that it trains and the flow of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from .. import registry
from ..config import ModelConfig
from ..couplings import Coupling
from ..data import Schema
from ..flows import Flow
from ..nn import Network
from ..objectives import Batch, Objective
from ..paths import End
from ..random import derive_seed
from ..rows import Rows
from ..solvers import RK4
from ..sources import Normal, Source
from ..training import Batches
from .parts import Parts

if TYPE_CHECKING:
    from .job import Job
    from .start import Start

__all__ = ["Recipe", "Stage", "family"]

#: Rows whose loss is taken at each validation.
VALIDATION_ROWS = 2000
#: Settings of couplings, of the paths between pairs and of regression along these, for ``ignores``.
OF_PATHS = ("coupling", "path", "gamma", "times", "weighting", "prediction", "around")
#: Settings that only some families have, which say so by ``takes``; all others refuse them.
SPECIAL = (
    *("train_solver", "gradient", "kinetic", "jacobian"),
    *("blocks", "horizon", "growth"),
    *("loss", "two_sided", "head", "volume", "curvature"),
    *("latent", "beta", "encoder", "prior"),
    "tokens",
)
#: Why a flow cannot start from baselines.
NO_START = "--source baseline: a network of your own that starts there has a method start_at_zero"


class Stage(ABC):
    """One training of a recipe: its networks, its objective, its batches, and the resulting flow.

    name: that of its folder under ``stages/``.
    """

    name: str
    #: whether it learns from data, and not from what the stage before has learnt
    from_data: ClassVar[bool] = False

    @abstractmethod
    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        """New networks, under the names that the objective uses, with weights drawn from the seed."""

    @abstractmethod
    def objective(self, start: Start) -> Objective:
        """The loss of the training."""

    @abstractmethod
    def batches(self, job: Job, flow: Flow | None) -> tuple[Batches, Batch | None]:
        """Batches to train on and one to validate with, None without validation rows.

        flow: the flow of the stage before, or of a teacher; None for a stage that learns from data.
        """

    @abstractmethod
    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        """The flow of the trained ``models``, in the space of the model."""

    def counted(self, history: Sequence[Mapping[str, Any]], processes: int) -> tuple[dict[str, int], str]:
        """What its training has counted, for ``run.json``, and a line that tells of it; mostly nothing.

        history: the rows of ``metrics.jsonl``, whose terms are means over steps and ``processes``.
        """
        return {}, ""

    def initialise(self, models: nn.ModuleDict, rows: Rows) -> None:
        """Initialise the parts of ``models`` that depend on data from the first training rows, in their
        space."""
        return


class Recipe(ABC):
    """A family of methods: from a configuration to stages of training.

    The class resolves and checks configurations; an instance holds the components of a resolved one.  A new
    family is a subclass and one line in the registry.
    """

    #: settings of the model that no configuration may leave open
    needs: ClassVar[tuple[str, ...]] = ()
    #: settings of the model that mean nothing to these methods, and are refused where they are given
    ignores: ClassVar[tuple[str, ...]] = ()
    #: those of :data:`SPECIAL` that mean something to them
    takes: ClassVar[tuple[str, ...]] = ()
    #: whether training descends minus a log-density, which ranks weights and has no bound at atoms
    descends_density: ClassVar[bool] = False
    #: whether its networks can be compiled: where a training takes their derivatives, they run as they are
    compiles: ClassVar[bool] = True
    #: whether its networks take the weight of guidance as an input, where a range is asked for
    ranged: ClassVar[bool] = False
    #: whether rows are points of the manifold that --space names
    on_manifolds: ClassVar[bool] = False
    #: whether flows have a source of their own, and take none
    own_source: ClassVar[bool] = False
    #: the solver of densities that rank weights: in fixed steps a field gone wild costs no more than another
    ranks_by: ClassVar[RK4] = RK4(steps=6)
    #: what ``--preprocess auto`` stands for
    preprocess: ClassVar[str] = "auto"
    #: whether its networks take tokens
    takes_tokens: ClassVar[bool] = False

    def __init__(self, parts: Parts) -> None:
        self.parts, self.seed, self.dtype = parts, parts.seed, parts.dtype
        self.data, self.model, self.optim = parts.data, parts.model, parts.optim

    @property
    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """The stages, in order."""

    def stage(self, name: str) -> Stage:
        """The stage of that name.  Raises ValueError for another."""
        known = {stage.name: stage for stage in self.stages}
        if name not in known:
            raise ValueError(f"expected one of the stages {', '.join(known)}, got {name}")
        return known[name]

    def objective(self, stage: Stage, start: Start) -> Objective:
        """What the training of ``stage`` descends: one that was given serves where it learns from data."""
        given = self.parts.given.objective
        return stage.objective(start) if given is None or not stage.from_data else given

    @property
    def coupling(self) -> Coupling | None:
        """A new coupling of source and data; None for methods without pairs."""
        return None

    @property
    def normal_source(self) -> bool:
        """Whether the formulas of the path hold for a normal source only."""
        return False

    @property
    def closed_forms(self) -> bool:
        """Whether these formulas are known along its path."""
        return True

    @property
    def ends(self) -> tuple[End, End] | None:
        """The distributions at both ends of the path; None without a path."""
        return None

    def source(self, event_shape: tuple[int, ...]) -> Source:
        """What `--source normal` is for rows of this shape, in the space of the model."""
        return Normal(event_shape).to(self.dtype)

    @property
    def per(self) -> str:
        """What densities are per, in words, where it is not the unit of each column."""
        return ""

    def start_note(self, source: Source) -> str:
        """What a flow begins as where a network that is nothing leaves its source as it is, as a baseline."""
        return ""

    @classmethod
    def refused(cls) -> tuple[str, ...]:
        """All settings that are refused where they are given."""
        return (*cls.ignores, *(key for key in SPECIAL if key not in cls.takes))

    @classmethod
    def uses_teacher(cls, model: ModelConfig) -> bool:
        """Whether these settings train from a teacher's flow where there is one."""
        return False

    def taught_by(self, teacher: Flow) -> Flow:
        """What is learnt from, given a teacher's flow.  Raises ValueError for one that teaches nothing."""
        return teacher

    @classmethod
    def refuse(cls, parts: Parts) -> None:
        """Raise ValueError, which names the flag, for settings that do not go with these methods."""
        return

    @classmethod
    def by_size(cls, schema: Schema, small: bool) -> dict[str, Any]:
        """Settings for the data at hand, other than :func:`~pushforward.recipes.sizes.by_size` has them."""
        return {}

    @classmethod
    def adapted(cls, model: ModelConfig, schema: Schema, small: bool) -> ModelConfig:
        """``model`` for the data at hand."""
        return model

    @classmethod
    def label(cls, model: ModelConfig) -> str | None:
        """The name of what these settings train, if coupling, path and prediction do not determine it."""
        return None

    def network(self, schema: Schema, seed: str = "network", **options: Any) -> Network:
        """A network for events and conditions of ``schema``, its weights drawn from both seeds."""
        self._check_network()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, seed))
            return self.parts.module("network", schema.event_shape, self.network_spec(schema), **options)

    def _check_network(self) -> None:
        """Raise ValueError for a network of tokens where there are none, and for another where there are."""
        given, named = self.parts.given.network, self.parts.components.get("network")
        made = given if named is None else named.make
        # a network of the user's own may be any module
        if getattr(made, "takes_tokens", self.takes_tokens) != self.takes_tokens:
            kind = "is not for tokens" if self.takes_tokens else "is for tokens alone"
            raise ValueError(f"--network {self.model.network}: {kind}, got --method {self.model.method}")

    def network_spec(self, schema: Schema) -> Any:
        """The specification of the conditions that the network sees."""
        return schema.network_spec


def family(method: str) -> type[Recipe]:
    """The recipe of a method.  Raises ValueError for an unknown method."""
    return registry.found("recipe", registry.lookup("method", method).recipe)
