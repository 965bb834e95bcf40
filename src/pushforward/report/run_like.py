"""What a report asks of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..config import RunConfig
from ..data import Schema
from ..flows import Flow
from ..recipes import by_method, label
from ..registry import Trust
from ..rows import Rows


class RunRows(Protocol):
    """The rows of a run in data units."""

    @property
    def train(self) -> Rows: ...
    @property
    def test(self) -> Rows: ...


class RunLike(Protocol):
    """What a report asks of a run."""

    @property
    def path(self) -> Path: ...
    @property
    def config(self) -> RunConfig: ...
    @property
    def command(self) -> str: ...
    @property
    def schema(self) -> Schema: ...
    @property
    def dataset(self) -> RunRows: ...
    @property
    def flow(self) -> Flow: ...
    @property
    def history(self) -> list[dict[str, Any]]: ...
    @property
    def trust(self) -> Sequence[Trust]: ...
    @property
    def summary(self) -> dict[str, Any]: ...


def label_of(config: RunConfig) -> str:
    """What a run has trained, by the parts of its configuration; see :func:`pushforward.recipes.label`.

    >>> label_of(RunConfig.of("moons", method="ot-cfm", coupling="independent"))
    'fm'
    """
    return label(by_method(config))
