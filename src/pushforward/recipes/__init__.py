"""Recipes: from a configuration and data to a trained flow in a run folder, and back."""

from .base import Recipe as Recipe
from .base import Stage as Stage
from .defaults import by_method as by_method
from .defaults import check as check
from .defaults import label as label
from .defaults import label_of as label_of
from .defaults import recipe_of as recipe_of
from .defaults import resolve as resolve
from .open import Run as Run
from .open import load as load
from .open import load_dataset as load_dataset
from .open import open_run as open_run
from .train import train as train

__all__ = [
    "Recipe",
    "Run",
    "Stage",
    "by_method",
    "check",
    "label",
    "label_of",
    "load",
    "load_dataset",
    "open_run",
    "recipe_of",
    "resolve",
    "train",
]
