"""Variational rectified flow: flow matching with a latent that is drawn once for each point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from ..config import ModelConfig
from ..data import Schema
from ..fields import latent_spec
from ..flows import ContinuousFlow, Flow, LatentFlow
from ..nn import PairEncoder
from ..objectives import FlowMatching, Objective, VariationalMatching
from ..random import derive_seed
from ..sources import LearntMixture, Source
from ..tensors import event_size
from .base import Stage
from .matching import Matching, MatchingStage
from .parts import Parts

if TYPE_CHECKING:
    from .start import Start

#: Numbers of a latent at most by default, the weight of its KL divergence, and the components of its prior.
LATENT, BETA, PRIOR = 16, 0.1, 16
#: How far the components are apart at first where the flow starts from a baseline, whose density it then has.
NEAR = 0.05
#: Solves of the ODE for a density, and numbers of an event up to which there is one: each solve takes a
#: derivative for every number.
SAMPLES, SCORED = 8, 32


class Variational(Matching):
    """Variational rectified flow (Guo & Schwing 2025, arXiv 2502.09616)."""

    needs = (*Matching.needs, "latent", "beta", "encoder", "prior")
    # an encoder of planned pairs would know the source point from the data
    ignores = ("coupling", "prediction", "around", "reflow", "distil", "teacher")
    takes = ("latent", "beta", "encoder", "prior")

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        if self.data.source == "baseline" and self.normal_source:
            raise ValueError(
                f"--source baseline: --method {self.model.method} starts from baselines along paths from "
                f"noise alone, got --path {self.model.path}"
            )

    @property
    def first(self) -> Stage:
        return VariationalStage(self)

    @property
    def closed_forms(self) -> bool:
        """None that know a latent."""
        return False

    @property
    def marginals(self) -> str:
        return f"--method {self.model.method} has the distributions of its path with all latents together"

    @classmethod
    def by_size(cls, schema: Schema, small: bool) -> dict[str, Any]:
        """A latent of as many numbers as an event, up to :data:`LATENT`."""
        latent = min(LATENT, event_size(schema.event_shape))
        return {"latent": latent, "beta": BETA, "encoder": "data", "prior": PRIOR}

    @classmethod
    def label(cls, model: ModelConfig) -> str | None:
        return model.method

    def network_spec(self, schema: Schema) -> Any:
        assert self.model.latent is not None, "resolve the configuration first"
        return latent_spec(schema.network_spec, self.model.latent)


class VariationalStage(MatchingStage):
    """Training from data."""

    recipe: Variational

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        models, model = super().models(schema, start), self.recipe.model
        assert model.latent is not None and model.encoder is not None, "resolve the configuration first"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.recipe.seed, "encoder"))
            models["encoder"] = PairEncoder(schema.event_shape, model.latent, model.encoder)
            if model.prior:
                models["prior"] = prior = LearntMixture(model.latent, model.prior)
                if self._from_baseline:
                    _near_normal(prior)
        return models.to(self.recipe.dtype)

    def objective(self, start: Start) -> Objective:
        beta = self.recipe.model.beta
        assert beta is not None, "resolve the configuration first"
        return VariationalMatching(cast(FlowMatching, super().objective(start)), beta)

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        inner, latent = cast(ContinuousFlow, super().flow(models, schema, start)), self.recipe.model.latent
        assert latent is not None, "resolve the configuration first"
        samples = SAMPLES if event_size(schema.event_shape) <= SCORED else 0
        prior = cast(Source, models["prior"]) if "prior" in models else None
        return LatentFlow(inner, latent, models["encoder"], prior, samples)


@torch.no_grad()
def _near_normal(prior: LearntMixture) -> None:
    """Bring a mixture near the N(0, I) that encoders start with, so that weights of densities start at 1."""
    prior.means.sub_(prior.means.mean(0)).mul_(NEAR)
