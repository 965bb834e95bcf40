"""New data held against a known schema: which column is which, and what does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .mixed_condition import AnyConditionSpec
from .raw import Raw, cells_missing
from .schema import Schema
from .text import hint


def matched(source: str, kind: str, names: Sequence[str], named: bool, schema: Schema) -> dict[str, str]:
    """What the columns of a source are called in ``schema``: by name or, without names, by position.

    Raises ValueError for what is no table, and for missing columns.
    """
    wanted = ", ".join(schema.columns[:8]) + ", ..." * (len(schema.columns) > 8)
    if kind != "table":
        raise ValueError(f"{source}: expected a table with columns {wanted}, got an {kind}")
    extra = {*(() if schema.condition is None else schema.condition.columns), schema.sample_weight} - {None}
    whole = {*schema.columns, *extra}
    if not named and set(names) not in (whole, whole | {*schema.excluded}):
        if len(names) != len(schema.columns):
            raise ValueError(f"{source}: expected {len(schema.columns)} columns ({wanted}), got {len(names)}")
        return dict(zip(schema.columns, names))
    known = set(names)
    for name in schema.columns:
        if name not in known:
            raise ValueError(f"{source}: column {name!r} is missing{hint(name, names)}")
    return {name: name for name in names}


def has_condition(source: str, known: Mapping[str, Any], named: bool, schema: Schema, needed: bool) -> bool:
    """Whether the condition is among the ``known`` columns.

    Raises ValueError where it is not and is ``needed``.
    """
    if schema.condition is None:
        return False
    missing = [name for name in schema.condition.columns if name not in known]
    if missing and needed:
        advice = "" if named else "; give a pair (x, y), or a table with names"
        raise ValueError(f"{source}: the condition {missing[0]!r} is missing{advice}")
    return not missing


def events(raw: Raw, schema: Schema) -> np.ndarray:
    """The points of ``raw``, arrays or images.  Raises ValueError for another shape than in ``schema``."""
    x, shape = raw.x, schema.event_shape
    if x is None and schema.kind == "text":  # numbers of characters, which look like a table
        x = raw.matrix(tuple(raw.columns))
    if x is not None and (1, *x.shape[1:]) == shape:
        x = x[:, None]
    if x is None or x.shape[1:] != shape:
        got = (len(raw.columns),) if x is None else x.shape[1:]
        if schema.kind == "text":
            told = f"{shape[0]} characters that the flow was trained for"
            raise ValueError(f"{raw.source}: expected windows of the {told}, got shape {tuple(got)}")
        raise ValueError(f"{raw.source}: expected {schema.kind}s of shape {shape}, got {tuple(got)}")
    return x


class LevelTally:
    """Whether pixels have values that a schema knows, gathered over pieces."""

    def __init__(self, source: str, schema: Schema):
        self.source, self.levels = source, schema.levels
        self.noun = "characters by their numbers" if schema.kind == "text" else "pixels"
        self._low, self._high, self._between = math.inf, -math.inf, False

    def add(self, x: np.ndarray) -> None:
        """Look at the next images."""
        if self.levels is not None:
            low, _, step = self.levels
            self._low, self._high = min(self._low, float(x.min())), max(self._high, float(x.max()))
            self._between = self._between or bool((np.mod(x - low, step) != 0).any())

    def check(self) -> None:
        """Raise ValueError for values that the pixels of the schema cannot take."""
        if self.levels is None:
            return
        low, high, step = self.levels
        if self._low < low or self._high > high or self._between:
            raise ValueError(
                f"{self.source}: expected {self.noun} from {low:g} to {high:g} in steps of {step:g}, "
                f"got values from {self._low:g} to {self._high:g}"
            )


class ConditionTally:
    """Faults of the columns of a condition, collected over pieces."""

    def __init__(self, source: str, spec: AnyConditionSpec, where: Callable[[int], str]):
        self.source, self.where, self.rows = source, where, 0
        self.parts = tuple(spec.entries.values())
        self._empty: dict[str, tuple[int, int]] = {}
        self._errors: dict[int, ValueError] = {}
        self._outside: dict[str, tuple[int, float]] = {}

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Look at the columns of the next piece."""
        for number, part in enumerate(self.parts):
            whole = [self._has_all(name, columns[name]) for name in part.columns]
            if not all(whole) or number in self._errors:
                continue
            try:
                encoded = part.encode_columns(columns, warn=False)
            except ValueError as error:
                self._errors[number] = error
                continue
            for name, (count, worst) in part.outside(encoded).items():
                before, farthest = self._outside.get(name, (0, worst))
                self._outside[name] = before + count, part.farthest(name, (farthest, worst))
        self.rows += len(columns[self.parts[0].columns[0]])

    def _has_all(self, name: str, column: np.ndarray) -> bool:
        empty = cells_missing(column)
        if not empty.any():
            return True
        count, first = self._empty.get(name, (0, self.rows + int(empty.argmax())))
        self._empty[name] = count + int(empty.sum()), first
        return False

    def check(self) -> None:
        """Raise ValueError for missing cells, and for what cannot be encoded; warn of what lies outside."""
        for name in (name for part in self.parts for name in part.columns):
            if name in self._empty:
                count, first = self._empty[name]
                raise ValueError(
                    f"{self.source}: condition column {name!r} has {count} missing cells, "
                    f"the first at {self.where(first)}"
                )
        if self._errors:
            raise self._errors[min(self._errors)]
        for part in self.parts:
            part.warn_outside(self._outside, self.rows)
