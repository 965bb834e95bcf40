"""The parts of a run: its settings, and the components that they name, each text parsed once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch

from .. import registry
from ..config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from ..couplings import Coupling
from ..objectives import Times, Weighting
from ..paths import Interpolant, Path
from ..registry import Component
from ..solvers import Solver
from .limits import create_module

__all__ = ["COMPONENTS", "Parts", "hint", "own_classes"]

#: Settings of a model that name a component, each called as its kind is in the registry.
COMPONENTS = ("flow", "base", "network", "coupling", "path", "gamma", "times", "weighting", "solver")


def own_classes(model: ModelConfig) -> tuple[str, ...]:
    """The ``module:Class`` of every class of the user's own that the settings of a model name."""
    return registry.own_classes(*(getattr(model, key) for key in COMPONENTS))


def _named(model: ModelConfig) -> dict[str, str]:
    """The texts that name components, by setting; a number is a gamma as it is."""
    texts = {key: getattr(model, key) for key in COMPONENTS}
    return {k: t for k, t in texts.items() if t is not None and not (k == "gamma" and registry.is_number(t))}


def hint(error: ValueError) -> str:
    """What opens a run that names parts of the user's own, for the end of an error."""
    return "; a part of your own needs its --plugin FILE" if str(error).startswith("unknown ") else ""


@dataclass(frozen=True)
class Parts:
    """What recipes are made of: settings, and components that are built when they are asked for.

    components: by the setting that names them.
    """

    seed: int
    data: DataConfig
    model: ModelConfig
    optim: OptimConfig
    compute: ComputeConfig
    components: Mapping[str, Component] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, config: RunConfig, known: Parts | None = None, file: str = "") -> Parts:
        """The parts of a configuration; texts that ``known`` parts have too are not parsed again.

        file: where the configuration was read, for errors.  Raises ValueError for a component that is neither
        registered nor trusted, and for options that it does not take.
        """
        before = {} if known is None else known.components
        found = {}
        for key, text in _named(config.model).items():
            component = before.get(key)
            if component is None or component.text != text:
                try:
                    component = registry.component(key, text)
                except ValueError as error:
                    raise ValueError(
                        f"{file}: model.{key}: {error}{hint(error)}" if file else str(error)
                    ) from None
            found[key] = component
        return cls(config.seed, config.data, config.model, config.optim, config.compute, found)

    @property
    def dtype(self) -> torch.dtype:
        """That of the networks."""
        return torch.float64 if self.compute.precision == "64-true" else torch.float32

    def build(self, key: str) -> Any:
        """The component of a setting; None where the setting is open."""
        return self.components[key].build() if key in self.components else None

    def module(self, key: str, *arguments: Any) -> Any:
        """The network, flow or base of a setting, for events and conditions; see :func:`create_module`."""
        assert key in self.components, "resolve the configuration first"
        return create_module(self.components[key], *arguments)

    @cached_property
    def path(self) -> Path:
        """An interpolant of a schedule and noise, or a path as it is.

        Raises ValueError for noise along a path that is complete without.
        """
        made, text = self.build("path"), self.model.gamma
        gamma = self.build("gamma")
        if gamma is None and text is not None:
            gamma = float(text)
        if not made.complete:
            return Interpolant(made, gamma)
        if gamma != 0:
            raise ValueError(
                f"--gamma {text}: is added along schedules; --path {self.model.path} is a path as it is"
            )
        return made

    @property
    def coupling(self) -> Coupling:
        """How source and data are paired, a new one for each caller.

        One that knows Schroedinger bridges is that of the bridge along the path, where nothing else is said.
        """
        return copy.deepcopy(self._coupling)

    @cached_property
    def _coupling(self) -> Coupling:
        component = self.components["coupling"]
        along = getattr(component.make, "along_bridge", None)  # a function of the user's own has none
        defaults = (
            {} if along is None or self.path.bridge is None else along(self.path.bridge, component.options)
        )
        return component.build(**defaults)

    @cached_property
    def times(self) -> Times | None:
        """How training times are drawn; None for uniform ones."""
        return self.build("times")

    @cached_property
    def weighting(self) -> Weighting | None:
        """Weights of the loss by time; None for equal ones: a factor of 1 costs a hundredth of a step."""
        return None if self.model.weighting == "uniform" else self.build("weighting")

    @cached_property
    def solver(self) -> Solver:
        """What follows the flow."""
        return self.build("solver")
