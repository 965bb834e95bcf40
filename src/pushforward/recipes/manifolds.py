"""Riemannian flow matching: flow matching along the geodesics of a manifold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
from torch import nn

from .. import registry
from ..config import ModelConfig
from ..data import Schema
from ..fields import OnManifold
from ..flows import Flow
from ..manifolds import Euclidean, Manifold
from ..objectives import GeodesicMatching, Objective
from ..paths import End
from ..paths.geodesic import MOVED
from ..solvers import RK4
from ..sources import ManifoldBase, Source
from ..spaces import Space
from ..tensors import event_size
from .base import NO_START, OF_PATHS, Stage
from .matching import Matching, MatchingStage
from .parts import Parts
from .start import Start

#: Settings that geodesics leave nothing to.
FIXED = tuple(key for key in OF_PATHS if key != "times")


class Manifolds(Matching):
    """Riemannian flow matching (Chen & Lipman 2024, arXiv 2302.03660); of vectors where no space is named."""

    needs = ("network",)
    ignores = (*FIXED, "flow", "base", "teacher", "reflow", "distil")
    on_manifolds = True
    #: places lie on lines and in spots, whose fields are steep near the data: from there steps grow from
    #: 1/1728 on, which is four times as exact as as many equal ones, that ranked weights of 1,000 steps above
    #: those of 5,000
    ranks_by = RK4(grid=[(i / 12) ** 3 for i in range(13)])

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        if not parts.given.starts_at_zero:
            raise ValueError(NO_START.replace("--source baseline", f"--method {parts.model.method}"))

    @property
    def first(self) -> Stage:
        return ManifoldStage(self)

    @property
    def ends(self) -> tuple[End, End] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """None: what lies between source and data is no mixture of the two."""
        return None

    @property
    def normal_source(self) -> bool:
        return False

    @property
    def marginals(self) -> str:
        return "geodesics of a manifold are no affine path"

    @cached_property
    def space(self) -> Space | None:
        """What the columns stand for; None for vectors."""
        text = self.data.space
        return None if text is None else registry.component("space", text).build()

    def source(self, event_shape: tuple[int, ...]) -> Source:
        """The base distribution of the manifold of which rows of this shape are points."""
        (columns,) = event_shape if len(event_shape) == 1 else (0,)
        if not columns:
            raise ValueError(f"--method {self.model.method}: is for tables, got rows of shape {event_shape}")
        manifold = Euclidean(columns) if self.space is None else self.space.manifold(columns)
        return ManifoldBase(manifold).to(self.dtype)

    @property
    def per(self) -> str:
        return "" if self.space is None else self.space.per

    def start_note(self, source: Source) -> str:
        space = cast(ManifoldBase, source).space
        kind = "a wrapped normal" if space.log_volume is None else "the uniform"
        return f"{kind} distribution on {space}"

    @classmethod
    def by_size(cls, schema: Schema, small: bool) -> dict[str, Any]:
        """Small tables take longer than from a baseline near the data, and features that draw edges."""
        if not small:
            return {}
        n = schema.rows_train
        # as fine as rows can show: 3 octaves of 100 rows, 5 of 400
        octaves = min(5, max(0, round(math.log2(n)) - 4))
        steps = int(np.clip(80 * n**0.5, 100, 8_000))
        return {"network": f"resmlp,width=64,depth=2,frequencies={octaves}", "steps": steps}

    @classmethod
    def refuse(cls, parts: Parts) -> None:
        method, source = f"--method {parts.model.method}", parts.data.source
        if source not in (None, "normal"):
            raise ValueError(
                f"--source {source}: {method} starts from the base distribution of its manifold; leave it out"
            )

    @classmethod
    def label(cls, model: ModelConfig) -> str | None:
        return model.method


class ManifoldStage(MatchingStage):
    """Training from data, along geodesics."""

    recipe: Manifolds

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        space = _space(start)
        seen = dataclasses.replace(schema, event_shape=space.embedded_shape, columns=())
        network = self.recipe.network(seen)
        network.start_at_zero()
        return nn.ModuleDict({"field": OnManifold(network, space)}).to(self.recipe.dtype)

    def objective(self, start: Start) -> Objective:
        return GeodesicMatching(_space(start), self.recipe.model.drop_condition, self.recipe.times)

    def counted(self, history: Sequence[Mapping[str, Any]], processes: int) -> tuple[dict[str, int], str]:
        """Pairs that were moved because they have no single geodesic."""
        rows = [row for row in history if "train/moved" in row]
        steps = np.diff([0, *(row["step"] for row in rows)])
        moved = round(processes * float(sum(row["train/moved"] * n for row, n in zip(rows, steps))))
        if not moved:
            return {}, ""
        pairs = "1 pair" if moved == 1 else f"{moved:,} pairs"
        return {"moved": moved}, (
            f"note: {pairs} of source and data had no single geodesic, as antipodes have none; the point of "
            f"the source was moved by {MOVED:g}"
        )

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        return self.recipe.ode(models["field"], schema, start, path=self.recipe.marginals)


def _space(start: Start) -> Manifold:
    assert start.initial is not None
    return start.initial.manifold or Euclidean(event_size(start.initial.event_shape))
