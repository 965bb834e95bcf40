"""Columns of every kind: what they are, as a text that people edit, and as tokens and numbers."""

from .base import ColumnKind as ColumnKind
from .base import Given as Given
from .infer import infer as infer
from .names import KINDS as KINDS
from .names import kind_from_json as kind_from_json
from .read import read_table as read_table
from .table import Column as Column
from .table import TableKinds as TableKinds
from .toml import from_toml as from_toml
from .toml import to_toml as to_toml

__all__ = [
    "KINDS",
    "Column",
    "ColumnKind",
    "Given",
    "TableKinds",
    "from_toml",
    "infer",
    "kind_from_json",
    "read_table",
    "to_toml",
]
