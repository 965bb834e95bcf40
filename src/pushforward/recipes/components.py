"""The components that a configuration names: registered, or the user's own and trusted."""

from __future__ import annotations

from pathlib import Path

from .. import registry
from ..config import RunConfig
from .base import family

#: Settings of a model that name a component, each called as its kind is in the registry.
COMPONENTS = ("flow", "base", "network", "coupling", "path", "gamma", "times", "weighting", "solver")


def own_classes(config: RunConfig) -> tuple[str, ...]:
    """The ``module:Class`` of every class of the user's own that a configuration names."""
    return registry.own_classes(*(getattr(config.model, key) for key in COMPONENTS))


def check_components(config: RunConfig, file: Path) -> None:
    """Raise ValueError, by ``file`` and key, for what no flow can be built from.

    That is a component which is neither registered nor trusted, options that it does not take, and null where
    the configuration has not been resolved.
    """
    model = config.model
    try:
        recipe = family(config)
    except ValueError as error:
        raise ValueError(f"{file}: model.method: {error}{_hint(error)}") from None
    if model.teacher is not None and not (model.reflow or model.distil):
        raise ValueError(f"{file}: model.teacher: goes with reflow or distil, got neither")
    for key in recipe.needs:
        if getattr(model, key) is None:
            raise ValueError(f"{file}: model.{key}: expected a text, got null")
    for key in COMPONENTS:
        text = getattr(model, key)
        if text is None or (key == "gamma" and registry.is_number(text)):
            continue
        try:
            registry.check(key, text)
        except ValueError as error:
            raise ValueError(f"{file}: model.{key}: {error}{_hint(error)}") from None


def _hint(error: ValueError) -> str:
    """A hint to the flag that opens a run with parts of the user."""
    return "; a part of your own needs its --plugin FILE" if str(error).startswith("unknown ") else ""
