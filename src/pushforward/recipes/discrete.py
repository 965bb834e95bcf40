"""Discrete flow matching: tokens that jump from masks or noise to the data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, cast

from torch import nn

from .. import registry
from ..config import ModelConfig
from ..couplings import Coupling
from ..data import Schema
from ..entries import TOKENS
from ..fields import TokenPosterior
from ..flows import DiscreteFlow, Flow, RoundedFlow
from ..flows.shapes import condition_shape
from ..nn import Network
from ..objectives import Batch, DiscreteMatching, Objective, TokenLoss
from ..solvers import Jump
from ..sources import TokenSource
from ..training import Batches
from .base import OF_PATHS, Recipe, Stage
from .likelihood import unpaired
from .parts import Parts, is_given

if TYPE_CHECKING:
    from .job import Job
    from .start import Start

#: What a configuration says where it says nothing of the solver.
UNSAID = ModelConfig().solver


class Discrete(Recipe):
    """Discrete flow matching (Campbell et al. 2024, arXiv 2402.04997; Gat et al. 2024, arXiv 2407.15595)."""

    needs = ("network", "tokens")
    ignores = (
        *("flow", "base", "divergence", "reflow", "distil"),
        *(key for key in OF_PATHS if key not in ("path", "coupling")),
    )
    takes = ("tokens", "loss")
    takes_tokens: ClassVar[bool] = True
    preprocess: ClassVar[str] = "tokens"
    own_source = True
    #: what follows the flow where nothing else is said
    solver: ClassVar[str] = "tau-leaping,steps=64"
    #: whether tokens jump along its paths
    jumps: ClassVar[bool] = True

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (self.first,)

    @property
    def first(self) -> Stage:
        """The stage that is trained on data."""
        return DiscreteStage(self)

    @classmethod
    def refuse(cls, parts: Parts) -> None:
        model, data = parts.model, parts.data
        if data.preprocess != "auto":
            raise ValueError(
                f"--preprocess {data.preprocess}: --method {model.method} takes levels as tokens"
            )
        if data.source not in (None, "normal"):
            raise ValueError(f"--source {data.source}: --method {model.method} has its own; see --tokens")
        if parts.optim.jitter:
            raise ValueError(
                f"--jitter {parts.optim.jitter:g}: --method {model.method} takes no noise; leave it out"
            )
        if model.teacher is not None:
            raise ValueError(f"--teacher: does not go with --method {model.method}; leave it out")
        parts.loss(TokenLoss)
        _check_path(parts, cls.jumps)
        _check_coupling(parts)
        if model.solver != UNSAID:
            cls.refuse_solver(parts)

    @classmethod
    def refuse_solver(cls, parts: Parts) -> None:
        """Raise ValueError for a solver of another problem."""
        if parts.build("solver").solves is not Jump:
            raise ValueError(
                f"--solver {parts.model.solver}: tokens jump; take tau-leaping, jump-euler or single-jumps"
            )

    @classmethod
    def by_size(cls, schema: Schema, small: bool) -> dict[str, Any]:
        """A transformer, of the size that it has by default."""
        network = _seeing(schema, "transformer")
        return {"network": network, "steps": 3000, "batch": 64, "lr": 2e-3, "weight_decay": 0.01}

    @classmethod
    def adapted(cls, model: ModelConfig, schema: Schema, small: bool) -> ModelConfig:
        changes = {"solver": cls.solver} if model.solver == UNSAID else {}
        if model.network is not None and not is_given(model.network):
            changes["network"] = _seeing(schema, model.network)
        return dataclasses.replace(model, **changes)

    @classmethod
    def label(cls, model: ModelConfig) -> str | None:
        tokens = (model.tokens or "masked").partition(",")[0]
        told = [] if tokens == "masked" else [tokens]
        if model.coupling not in (None, "independent"):
            told.append(f"coupling {model.coupling}")
        if model.loss not in (None, "elbo"):
            told.append(f"loss {model.loss}")
        return f"{model.method} ({', '.join(told)})" if told else model.method

    def network(self, schema: Schema, seed: str = "network", **options: Any) -> Network:
        return super().network(schema, seed, **({} if self.parts.given.network else options))

    @property
    def coupling(self) -> Coupling:
        return _coupling(self.parts)

    def path(self, schema: Schema) -> Any:
        """The path of the tokens.

        Raises ValueError for data without levels, and for a schedule that it cannot follow.
        """
        if schema.levels is None:
            raise ValueError(
                f"--method {self.model.method}: tokens are whole levels, such as those of images, or the "
                f"characters of a text; {schema.name} has none"
            )
        low, high, step = schema.levels
        component, path = self.parts.components["tokens"], self.model.path
        if path != "linear" and not getattr(component.make, "scheduled", True):
            raise ValueError(f"--path {path}: --tokens {self.model.tokens} follows no schedule; leave it out")
        try:
            schedule = {} if path == "linear" else {"schedule": self.parts.build("path")}
            return component.build(round((high - low) / step) + 1, **schedule)
        except ValueError as error:
            raise ValueError(f"--path {path}: {error}" if path != "linear" else str(error)) from None


class DiscreteStage(Stage):
    """Training from data."""

    name, from_data = "train", True
    #: the flow along its paths
    carries: ClassVar[type[DiscreteFlow | RoundedFlow]] = DiscreteFlow

    def __init__(self, recipe: Discrete) -> None:
        self.recipe = recipe

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        path = self.recipe.path(schema)
        network = self.recipe.network(schema, size=path.size, values=path.values)
        return nn.ModuleDict({"field": TokenPosterior(network, path)}).to(self.recipe.dtype)

    def objective(self, start: Start) -> Objective:
        recipe = self.recipe
        return DiscreteMatching(None, recipe.parts.loss(TokenLoss), recipe.model.drop_condition)

    def batches(self, job: Job, flow: Flow | None) -> tuple[Batches, Batch | None]:
        recipe, coupling = self.recipe, self.recipe.coupling
        if not coupling.looks:
            return unpaired(job)
        schema = job.dataset.schema
        if schema.condition is not None:
            job.say(f"note: --coupling {recipe.model.coupling} ignores the condition, which biases it")
        source = TokenSource(schema.event_shape, recipe.path(schema).start)
        # the bound of held-out rows is that of the flow, whose source is independent of them
        return job.pairs(source, coupling), unpaired(job)[1]

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        field = cast(TokenPosterior, models["field"])
        flow = self.carries(
            field,
            cast(Any, field.path),
            schema.event_shape,
            self.recipe.parts.solver,
            condition_shape=condition_shape(schema.network_spec),
        )
        hides = schema.condition is not None and self.recipe.model.drop_condition > 0
        coupled = {"coupled": True} if self.recipe.coupling.looks else {}
        return flow.replace(knows_absent=hides, guidance=self.recipe.parts.guidance, **coupled)


def _seeing(schema: Schema, network: str) -> str:
    """The network as it is told, or of text that which takes its place there, with the same options."""
    if schema.kind != "text":
        return network
    other = getattr(registry.component("network", network).make, "of_text", None)
    if other is None:
        return network
    _, comma, options = network.partition(",")
    return f"{other}{comma}{options}"


def _coupling(parts: Parts) -> Coupling:
    """How tokens of source and data are paired.  Raises ValueError for a coupling that compares numbers."""
    component = parts.components["coupling"]
    of_tokens = getattr(component.make, "of_tokens", None)  # a function of the user's own has none
    options = None if of_tokens is None else of_tokens()
    if options is None:
        raise ValueError(
            f"--coupling {parts.model.coupling}: compares numbers; tokens take independent or ot"
        )
    return component.build(**options)


def _check_path(parts: Parts, jumps: bool) -> None:
    """Raise ValueError for paths along which tokens jump, where vectors move, or the other way round."""
    tokens = parts.components["tokens"]
    if getattr(tokens.make, "jumps", jumps) != jumps:
        makes = {name: registry.component("tokens", name).make for name in TOKENS}
        names = " or ".join(name for name, make in makes.items() if getattr(make, "jumps", None) == jumps)
        raise ValueError(f"--tokens {parts.model.tokens}: --method {parts.model.method} takes {names}")


def _check_coupling(parts: Parts) -> None:
    """Raise ValueError for pairs that would change nothing, or that tokens do not have."""
    tokens = parts.components["tokens"]
    if not _coupling(parts).looks or getattr(tokens.make, "starts_differ", True):
        return
    raise ValueError(
        f"--coupling {parts.model.coupling}: along --tokens {parts.model.tokens} it changes nothing, as x_t "
        "depends on the data alone; take --tokens uniform"
    )
