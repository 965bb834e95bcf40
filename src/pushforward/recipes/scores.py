"""Score-based models: diffusions in discrete and continuous time, learnt from noise or from slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from .. import registry
from ..config import ModelConfig
from ..data import Schema
from ..fields import Parameterised
from ..flows import Flow
from ..objectives import Objective, SlicedScoreMatching
from ..paths import check_rising
from .base import Stage
from .matching import MARGIN, Matching, MatchingStage
from .parts import Parts

if TYPE_CHECKING:
    from .start import Start


class Scores(Matching):
    """Diffusion models by denoising score matching (Song et al. 2021, arXiv 2011.13456).

    What the network predicts is regressed along the path of a diffusion, reversed in time, and the flow is
    that of the probability-flow ODE; with a stochastic solver it is the reverse diffusion.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        model = parts.model
        if self.looks:
            raise ValueError(
                f"--coupling {model.coupling}: --method {model.method} learns a score, which asks for "
                "--coupling independent"
            )
        try:
            check_rising(self.path)
        except ValueError as error:
            raise ValueError(f"--path {model.path}: {str(error).removeprefix('path: ')}") from None

    @property
    def first(self) -> Stage:
        return ScoreStage(self)

    @property
    def normal_source(self) -> bool:
        return True

    @classmethod
    def label(cls, model: ModelConfig) -> str | None:
        defaults = registry.lookup("method", model.method).defaults
        plain = {"coupling": "independent", "gamma": "0", "reflow": 0, "times": model.times, **defaults}
        return model.method if all(getattr(model, key) == value for key, value in plain.items()) else None


class ScoreStage(MatchingStage):
    """Training from data along the path of a diffusion."""

    recipe: Scores

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        recipe, path, kind = self.recipe, self.recipe.path, self.recipe.prediction
        first, last = recipe.ends
        # a divisor of the conversion that is (nearly) 0 at an end, or an infinite slope
        no_start = path.open_ends[0] or (kind in ("noise", "score") and first.target_scale < MARGIN)
        no_end = path.open_ends[1] or (kind == "data" and last.source_scale == last.noise_scale == 0)
        interval = (MARGIN if no_start else 0.0, 1.0 - MARGIN if no_end else 1.0)
        return recipe.ode(
            Parameterised(models["field"], kind, path), schema, start, interval, recipe.marginals
        )


class Slices(Scores):
    """Diffusion models by sliced score matching (Song et al. 2019, arXiv 1905.07088)."""

    ignores = (*Scores.ignores, "weighting")
    compiles = False

    @property
    def first(self) -> Stage:
        return SlicedStage(self)


class SlicedStage(ScoreStage):
    """Training from data by the derivatives of the network along random directions."""

    def objective(self, start: Start) -> Objective:
        recipe = self.recipe
        return SlicedScoreMatching(recipe.path, recipe.prediction, recipe.model.drop_condition, recipe.times)
