"""The commands by name: functions of their flags, whose first lines are the summaries in the help."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from .distil import distil
from .look import compare, datasets, info, methods, report
from .schema import schema
from .train import train
from .use import push, sample, score, tune

__all__ = ["COMMANDS", "flags_of", "summary_of"]

#: A command is called with its flags and the whole command line, and returns the exit status.
COMMANDS: dict[str, Callable[[Any, str], int]] = {
    "schema": schema,
    "train": train,
    "distil": distil,
    "sample": sample,
    "push": push,
    "tune": tune,
    "score": score,
    "report": report,
    "info": info,
    "compare": compare,
    "methods": methods,
    "datasets": datasets,
}


def flags_of(name: str) -> type:
    """The dataclass of the flags that a command takes."""
    return typing.get_type_hints(COMMANDS[name])["args"]


def summary_of(name: str) -> str:
    """The summary of a command, in one line."""
    return (inspect.getdoc(COMMANDS[name]) or "").partition("\n")[0]
