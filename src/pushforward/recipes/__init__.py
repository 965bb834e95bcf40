"""Recipes: from a configuration and data to a trained flow in a run folder, and back."""

from .base import OF_PATHS, SPECIAL, Recipe, Stage
from .defaults import by_method, check, label, label_of, recipe_of, resolve
from .distil import distil
from .open import Run, load, load_dataset, open_run
from .train import train

__all__ = [
    "OF_PATHS",
    "SPECIAL",
    "Recipe",
    "Run",
    "Stage",
    "by_method",
    "check",
    "distil",
    "label",
    "label_of",
    "load",
    "load_dataset",
    "open_run",
    "recipe_of",
    "resolve",
    "train",
]
