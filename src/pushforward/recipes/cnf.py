"""Continuous normalizing flows: a velocity field trained by the likelihood of its flow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import nn

from .. import registry
from ..config import ModelConfig
from ..data import Schema
from ..flows import ContinuousFlow, Flow
from ..flows.shapes import condition_shape
from ..objectives import Batch, ContinuousLikelihood, Objective
from ..solvers import ODE, Adjoint, Checkpointed, Solver
from ..tensors import event_size
from ..training import Batches
from .base import NO_START, OF_PATHS, Recipe, Stage
from .likelihood import unpaired
from .parts import Parts

if TYPE_CHECKING:
    from .job import Job
    from .start import Start

#: Elements of an event up to which the divergence is exact by default.
EXACT = 8
#: Random directions that an estimate in training may take, however few numbers a row has.
LEAST_DIRECTIONS = 6
#: The solver of the training by default.  A likelihood can be raised by the error of few fixed steps, without
#: end: after 2,000 steps of training on two moons, 6 steps of RK4 called a flow 1.0 nats better than the true
#: density that was 1.4 nats worse.
SOLVER = "dopri5,rtol=1e-3,atol=1e-3"
#: Why its flows have no score in closed form.
NO_PATH = "a flow trained by its likelihood follows no known path"
#: How gradients go through the solver, by the names of `--gradient`.
GRADIENTS: dict[str, Callable[[Solver], Solver]] = {
    "backprop": lambda solver: solver,
    "checkpoint": Checkpointed,
    "adjoint": Adjoint,
}


class Continuous(Recipe):
    """Maximum likelihood of a neural ODE (Chen et al. 2018, arXiv 1806.07366; Grathwohl et al. 2019, arXiv
    1810.01367)."""

    needs = ("network", "divergence", "train_solver")
    ignores = ("flow", "base", "teacher", "reflow", "distil", *OF_PATHS)
    takes = ("train_solver", "gradient", "kinetic", "jacobian")
    descends_density = True
    compiles = False

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        model, divergence = parts.model, parts.divergence
        if model.jacobian and model.divergence is not None and not hasattr(divergence, "along"):
            raise ValueError(
                f"--jacobian {model.jacobian:g}: expected --divergence hutchinson, of random directions, "
                f"got {model.divergence}"
            )
        if parts.data.source == "baseline" and not parts.given.starts_at_zero:
            raise ValueError(NO_START)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (ContinuousStage(self),)

    @classmethod
    def refuse(cls, parts: Parts) -> None:
        method, source = f"--method {parts.model.method}", parts.data.source
        if source not in (None, "normal", "baseline"):
            raise ValueError(f"--source {source}: {method} needs a source of known density; leave it out")

    @classmethod
    def by_size(cls, schema: Schema, small: bool) -> dict[str, Any]:
        """Steps are dear, each a whole solve, and a likelihood takes fewer than a regression."""
        exact = event_size(schema.event_shape) <= EXACT
        common = {"divergence": "exact" if exact else "hutchinson", "train_solver": SOLVER}
        if schema.kind != "table":
            return {**common, "steps": 1_000}
        if small:
            return {**common, "network": "mlp,width=32,depth=2,activation=tanh"}
        steps = int(np.clip(20 * max(1, schema.rows_train) ** 0.5, 100, 3_000))
        # a smooth loss without noise, which few steps descend further at a high rate
        return {**common, "network": "mlp,width=64,depth=3,activation=tanh", "steps": steps, "lr": 1e-2}

    @classmethod
    def adapted(cls, model: ModelConfig, schema: Schema, small: bool) -> ModelConfig:
        """With the random directions that the penalty of the Jacobian takes.

        Raises ValueError for more directions than a row has numbers.
        """
        if model.divergence is not None:
            _check_directions(model.divergence, event_size(schema.event_shape))
        if model.jacobian and model.divergence is None:
            return dataclasses.replace(model, divergence="hutchinson")
        return model

    @classmethod
    def label(cls, model: ModelConfig) -> str | None:
        return model.method if model.divergence is None else _named(model.divergence)

    @cached_property
    def solver(self) -> Solver:
        """The solver of its flow.  Raises ValueError for one of another problem."""
        return _of_odes("solver", self.parts.solver, self.model.solver)

    @cached_property
    def train_solver(self) -> Solver:
        """The solver of its training, with the gradients that were asked for."""
        solver = _of_odes("train-solver", self.parts.build("train_solver"), self.model.train_solver)
        return GRADIENTS[self.model.gradient](solver)


def _named(divergence: str) -> str:
    """The method by whose name a divergence goes."""
    return "cnf" if divergence.partition(",")[0] == "exact" else "ffjord"


def _check_directions(divergence: str, size: int) -> None:
    """Raise ValueError for an estimate that costs more than the divergence itself."""
    given = registry.component("divergence", divergence).options.get("probes", 1)
    most = max(LEAST_DIRECTIONS, size)
    if isinstance(given, int) and given > most:
        raise ValueError(
            f"--divergence {divergence}: expected at most {most} probes in training on rows of {size} "
            "numbers, for whose divergence exact takes no more derivatives"
        )


def _of_odes(flag: str, solver: Solver, text: str | None) -> Solver:
    if solver.solves is not ODE:
        raise ValueError(f"--{flag} {text}: a continuous normalizing flow follows an ODE")
    return solver


class ContinuousStage(Stage):
    """Training from data."""

    name, from_data = "train", True

    def __init__(self, recipe: Continuous) -> None:
        self.recipe = recipe

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        recipe = self.recipe
        network = recipe.network(schema)
        if recipe.data.source == "baseline":
            network.start_at_zero()
        assert start.initial is not None
        flow = ContinuousFlow(
            network,
            recipe.train_solver,
            start.initial,
            condition_shape=condition_shape(schema.network_spec),
            divergence=recipe.parts.divergence,
            path=NO_PATH,
        )
        return nn.ModuleDict({"flow": flow}).to(recipe.dtype)

    def objective(self, start: Start) -> Objective:
        model = self.recipe.model
        return ContinuousLikelihood(model.kinetic, model.jacobian, model.drop_condition)

    def batches(self, job: Job, flow: Flow | None) -> tuple[Batches, Batch | None]:
        return unpaired(job)

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        trained = cast(ContinuousFlow, models["flow"])
        model = self.recipe.model
        hides = schema.condition is not None and model.drop_condition > 0
        trained = trained.replace(solver=self.recipe.solver, knows_absent=hides)
        return trained.replace(guidance=self.recipe.parts.guidance)
