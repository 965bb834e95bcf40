"""Data: built-in sets, tables, arrays, images; their schema, their split and their preprocessing."""

from .condition_spec import ConditionSpec as ConditionSpec
from .dataset import Dataset as Dataset
from .load import load as load
from .mixed_condition import MixedConditionSpec as MixedConditionSpec
from .pieces import read_rows as read_rows
from .schema import Schema as Schema
from .settings import LoadSettings as LoadSettings
from .write import write_rows as write_rows

__all__ = [
    "ConditionSpec",
    "Dataset",
    "LoadSettings",
    "MixedConditionSpec",
    "Schema",
    "load",
    "read_rows",
    "write_rows",
]
