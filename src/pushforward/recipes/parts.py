"""The parts of a run: its settings, and the components that they name, each text parsed once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from .. import registry
from ..config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from ..couplings import Coupling
from ..entries import LOSSES
from ..fields import Guidance
from ..flows import Divergence
from ..objectives import Objective, Times, Weighting
from ..paths import Interpolant, Path
from ..registry import Component
from ..solvers import Solver
from .limits import create_module

__all__ = ["COMPONENTS", "Given", "Parts", "hint", "own_classes"]

#: Settings of a model that name a component, and the kind that it has in the registry.
COMPONENTS = {
    **{key: key for key in ("flow", "base", "network", "coupling", "path", "gamma", "times", "weighting")},
    "tokens": "tokens",
    "guidance": "guidance",
    "loss": "loss",
    "solver": "solver",
    "train_solver": "solver",
    "divergence": "divergence",
}


def own_classes(model: ModelConfig) -> tuple[str, ...]:
    """The ``module:Class`` of every class of the user's own that the settings of a model name."""
    return registry.own_classes(*(getattr(model, key) for key in COMPONENTS))


def _named(model: ModelConfig) -> dict[str, str]:
    """The texts that name components, by setting; a number is a gamma or a weight of guidance as it is."""
    texts = {key: getattr(model, key) for key in COMPONENTS}
    numbers = [key for key in ("gamma", "guidance") if is_plain(texts[key])]
    if weights_of(model) is not None:
        numbers.append("guidance")
    return {
        key: text
        for key, text in texts.items()
        if text is not None and key not in numbers and not is_given(text)
    }


def is_plain(value: float | str | None) -> bool:
    """Whether a setting that may name a component is a number."""
    return isinstance(value, int | float) or registry.is_number(value)


def weights_of(model: ModelConfig) -> tuple[float, float] | None:
    """The ends of a range of weights of guidance, such as ``1:4``; None where there is no range.

    Raises ValueError for one that does not rise.

    >>> weights_of(ModelConfig(guidance="1:4"))
    (1.0, 4.0)
    """
    low, colon, high = str(model.guidance).partition(":")
    if not (colon and registry.is_number(low) and registry.is_number(high)):
        return None
    if not float(low) < float(high):
        raise ValueError(f"--guidance {model.guidance}: expected a range that rises, such as 1:4")
    return float(low), float(high)


def hint(error: ValueError) -> str:
    """What opens a run that names parts of the user's own, for the end of an error."""
    return "; a part of your own needs its --plugin FILE" if str(error).startswith("unknown ") else ""


@dataclass(frozen=True)
class Given:
    """Parts that were given as they are, in Python.

    A configuration holds their classes' names, ``<MyNetwork>``, by which nothing is imported.
    """

    network: nn.Module | None = None
    objective: Objective | None = None

    @property
    def any(self) -> bool:
        """Whether anything was given."""
        return self.network is not None or self.objective is not None

    def named(self, config: RunConfig) -> RunConfig:
        """The configuration with the names of what is given."""
        if self.network is not None:
            config = replace(config, model=replace(config.model, network=name_of(self.network)))
        return config if self.objective is None else replace(config, objective=name_of(self.objective))

    @property
    def starts_at_zero(self) -> bool:
        """Whether the network can be told to be zero at first, as one that starts from baselines is."""
        return self.network is None or callable(getattr(self.network, "start_at_zero", None))

    def check(self, text: str | None, where: str) -> None:
        """Raise ValueError, which says ``where``, unless this is the network that a configuration names."""
        mine, theirs = self.network is not None, is_given(text)
        if theirs and not mine:
            raise ValueError(f"{where}: {text} was given in Python; open the run by load(RUN, network=...)")
        if mine and name_of(self.network) != text:
            raise ValueError(f"network: expected {text} as {where} says, got {name_of(self.network)}")


def name_of(part: Any) -> str:
    """What a configuration calls a part that was given."""
    return f"<{type(part).__name__}>"


def is_given(text: str | None) -> bool:
    """Whether ``text`` names a part that was given."""
    return text is not None and text.startswith("<")


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
    given: Given = Given()

    @classmethod
    def of(
        cls, config: RunConfig, known: Parts | None = None, file: str = "", given: Given | None = None
    ) -> Parts:
        """The parts of a configuration; texts that ``known`` parts have too are not parsed again.

        given: what the configuration names and does not hold; that of ``known`` where there is such.

        file: where the configuration was read, for errors.  Raises ValueError for a component that is neither
        registered nor trusted, and for options that it does not take.
        """
        known = known or cls(config.seed, config.data, config.model, config.optim, config.compute)
        before, given = known.components, given or known.given
        found = {}
        for key, text in _named(config.model).items():
            component = before.get(key)
            if component is None or component.text != text:
                try:
                    component = registry.component(COMPONENTS[key], text, f"--{key.replace('_', '-')}")
                except ValueError as error:
                    raise ValueError(
                        f"{file}: model.{key}: {error}{hint(error)}" if file else str(error)
                    ) from None
            found[key] = component
        return cls(config.seed, config.data, config.model, config.optim, config.compute, found, given)

    @property
    def dtype(self) -> torch.dtype:
        """That of the networks."""
        return torch.float64 if self.compute.precision == "64-true" else torch.float32

    def build(self, key: str) -> Any:
        """The component of a setting; None where the setting is open."""
        return self.components[key].build() if key in self.components else None

    def loss(self, kind: type) -> Any:
        """The loss of the configuration; None where it is open.

        Raises ValueError for one of another ``kind``, with the names of those that are of it.
        """
        made = self.build("loss")
        if made is None or isinstance(made, kind):
            return made
        classes = {name: registry.found("loss", name) for name in LOSSES}
        names = [name for name, cls in classes.items() if isinstance(cls, type) and issubclass(cls, kind)]
        others = f"{', '.join(names[:-1])} or {names[-1]}"
        raise ValueError(f"--loss {self.model.loss}: --method {self.model.method} takes {others}")

    def module(self, key: str, *arguments: Any, **defaults: Any) -> Any:
        """The network, flow or base of a setting, for events and conditions; see :func:`create_module`."""
        if key == "network" and self.given.network is not None:
            return copy.deepcopy(self.given.network)
        assert key in self.components, "resolve the configuration first"
        return create_module(self.components[key], *arguments, **defaults)

    @cached_property
    def path(self) -> Path:
        """An interpolant of a schedule and noise, or a path as it is.

        Raises ValueError for noise along a path that is complete without.
        """
        made, text = self.build("path"), self.model.gamma
        gamma = self.build("gamma")
        if gamma is None:
            gamma = float(text or 0)
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
    def weights(self) -> tuple[float, float] | None:
        """The range of weights of guidance that a flow map takes as an input, None for one guidance."""
        return weights_of(self.model)

    @cached_property
    def guidance(self) -> float | Guidance:
        """What samples are drawn with: the weight of classifier-free guidance, or a guidance as it is.

        Raises ValueError for a range of weights.
        """
        if self.weights is not None:
            raise ValueError(
                f"--guidance {self.model.guidance}: a range is for flow maps, where it is an input"
            )
        made = self.build("guidance")
        return float(self.model.guidance) if made is None else made

    @cached_property
    def solver(self) -> Solver:
        """What follows the flow."""
        return self.build("solver")

    @property
    def divergence(self) -> Divergence | None:
        """How the density of a continuous flow is found; None where an older run does not say."""
        return self.build("divergence")
