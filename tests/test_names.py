"""What ``from pushforward... import *`` brings: the public names, and nothing that hides the user's own."""

from __future__ import annotations

import importlib
import pkgutil
import types

import pytest

import pushforward

PACKAGES = [
    module.name
    for module in pkgutil.walk_packages(pushforward.__path__, "pushforward.")
    if module.ispkg and "cli" not in module.name
]
SINGLE = [
    "config",
    "inference",
    "inputs",
    "random",
    "settings",
    "tensors",
]
MODULES = ["pushforward", *PACKAGES, *(f"pushforward.{name}" for name in SINGLE), "pushforward.data.toys"]


@pytest.mark.parametrize("name", MODULES)
def test_a_star_brings_the_public_names_and_no_modules(name: str) -> None:
    module = importlib.import_module(name)
    assert hasattr(module, "__all__"), f"{name} does not say which of its names are public"
    space: dict[str, object] = {}
    exec(f"from {name} import *", space)
    brought = set(space) - {"__builtins__"}
    assert brought == set(module.__all__)
    assert len(module.__all__) == len(brought), "a name stands twice"
    assert not [
        key for key, value in space.items() if isinstance(value, types.ModuleType) and key != "__builtins__"
    ]
    assert not brought & {"nn", "torch", "np", "Any", "Tensor", "random", "math"}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_class_and_function_that_a_package_shows_is_public(name: str) -> None:
    """A new line in a package's ``__init__`` needs one in its ``__all__``."""
    module = importlib.import_module(name)
    ours = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and isinstance(value, type | types.FunctionType)
        and value.__module__.startswith("pushforward")
    }
    assert ours <= set(module.__all__)


def test_the_users_own_names_survive_a_star() -> None:
    space: dict[str, object] = {"random": 1, "nn": 2, "Any": 3}
    exec("from pushforward import *", space)
    assert (space["random"], space["nn"], space["Any"]) == (1, 2, 3)
    assert {"Interpolant", "ContinuousFlow", "Trainer", "train", "load", "save"} <= set(space)


def test_public_names_are_those_that_type_checkers_see() -> None:
    """The lines under TYPE_CHECKING are written by hand, the rest follows from one table."""
    assert pushforward.__file__ is not None
    with open(pushforward.__file__) as file:
        lines = [line for line in file if line.startswith("    from .") and " as " in line]
    told = {line.split(" as ")[1].strip() for line in lines}
    assert told == set(pushforward.__all__) - {"__version__"}
