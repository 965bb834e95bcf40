"""Flows of vectors to the points of tokens: embeddings that are learnt, or the corners of the simplex."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from ..config import ModelConfig
from ..data import Schema
from ..fields import TokenPosterior
from ..flows import RoundedFlow
from ..objectives import CrossEntropy, DiscreteMatching, Objective
from ..random import derive_seed
from ..solvers import ODE
from .base import OF_PATHS, Stage
from .discrete import Discrete, DiscreteStage
from .parts import Parts
from .start import Start


class Points(Discrete):
    """The posterior of tokens along paths of vectors to their points, by its cross entropy."""

    takes = ("tokens",)
    ignores = (*Discrete.ignores, *(key for key in OF_PATHS if key == "coupling"))
    solver: ClassVar[str] = "euler,steps=64"
    jumps: ClassVar[bool] = False

    @property
    def first(self) -> Stage:
        return PointsStage(self)

    @classmethod
    def refuse_solver(cls, parts: Parts) -> None:
        if parts.build("solver").solves is not ODE:
            raise ValueError(
                f"--solver {parts.model.solver}: vectors follow velocities; take euler, midpoint or heun"
            )

    @classmethod
    def label(cls, model: ModelConfig) -> str | None:
        return model.method


class PointsStage(DiscreteStage):
    """Training from data."""

    recipe: Points
    carries = RoundedFlow

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        recipe = self.recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(recipe.seed, "points"))
            path = recipe.path(schema)
        network = recipe.network(schema, size=path.size)
        return nn.ModuleDict({"field": TokenPosterior(network, path)}).to(recipe.dtype)

    def objective(self, start: Start) -> Objective:
        return DiscreteMatching(None, CrossEntropy(), self.recipe.model.drop_condition)
