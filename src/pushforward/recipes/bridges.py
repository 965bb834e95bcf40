"""Bridge matching: velocity and score of a Schroedinger bridge, as an ODE or an SDE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ..data import Schema
from ..fields import BridgeField
from ..flows import DiffusionFlow, Flow
from ..flows.shapes import condition_shape
from ..objectives import BridgeMatching, Objective
from ..solvers import ODE, SDE
from .base import Stage
from .matching import Matching, MatchingStage
from .parts import Parts

if TYPE_CHECKING:
    from .start import Start


class Bridges(Matching):
    """Simulation-free Schroedinger bridges (Tong et al. 2024, arXiv 2307.03672)."""

    ignores = (*Matching.ignores, "weighting", "prediction")
    problems = (ODE, SDE)

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        model, sigma = parts.model, self.path.bridge
        if sigma is None or model.path != "linear":
            raise ValueError(
                f"--method {model.method}: expected --path linear and --gamma brownian,sigma=..., "
                f"got {model.path} and {model.gamma}"
            )
        self.sigma = sigma

    @property
    def first(self) -> Stage:
        return BridgeStage(self)


class BridgeStage(MatchingStage):
    """Training from data along Brownian bridges."""

    recipe: Bridges

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        models = super().models(schema, start)
        models["score"] = self._network(schema, "score")
        return models.to(self.recipe.dtype)

    def objective(self, start: Start) -> Objective:
        return BridgeMatching(self.recipe.sigma, self.recipe.model.drop_condition, self.recipe.times)

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        recipe, solver = self.recipe, self.recipe.solver
        field, score, sigma = models["field"], models["score"], recipe.sigma
        if solver.solves is ODE:
            why = f"--method {recipe.model.method} knows its score, and no prediction of the data"
            return recipe.ode(BridgeField(field, score, sigma=sigma), schema, start, path=why)
        assert start.initial is not None
        drift = BridgeField(field, score, sigma=sigma, output="drift")
        shape = condition_shape(schema.network_spec)
        return DiffusionFlow(drift, sigma, solver, start.initial, condition_shape=shape)
