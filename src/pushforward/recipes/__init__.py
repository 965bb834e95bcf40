"""Recipes: from a configuration and data to a trained flow in a run folder, and back."""

from .build import build_coupling as build_coupling
from .build import build_flow as build_flow
from .build import build_models as build_models
from .build import build_objective as build_objective
from .build import build_path as build_path
from .defaults import by_method as by_method
from .defaults import check as check
from .defaults import label as label
from .defaults import resolve as resolve
from .open import Run as Run
from .open import load as load
from .open import load_dataset as load_dataset
from .open import open_run as open_run
from .train import train as train

__all__ = [
    "Run",
    "build_coupling",
    "build_flow",
    "build_models",
    "build_objective",
    "build_path",
    "by_method",
    "check",
    "label",
    "load",
    "load_dataset",
    "open_run",
    "resolve",
    "train",
]
