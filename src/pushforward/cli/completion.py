"""Scripts that complete commands and flags in a shell: ``pushforward --print-completion bash``."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import operator
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from . import COMMANDS
from .common import CONFIG

#: Shells for which there are scripts.
SHELLS = ("bash", "zsh")


@dataclass
class _Nothing:
    """Of a command without flags."""


def script(arguments: list[str]) -> str:
    """The script of the shell that ``arguments`` name.  Raises ValueError for another shell."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        got = " ".join(arguments) or "nothing"
        raise ValueError(f"--print-completion: expected {' or '.join(SHELLS)}, got {got}")
    flags: list[Any] = []
    for name, (where, text) in COMMANDS.items():
        module = importlib.import_module(f".{where}", __package__)
        cls = getattr(module, name.capitalize(), _Nothing)
        flags.append(Annotated[cls, tyro.conf.subcommand(name=name, description=text, prefix_name=False)])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(
            functools.reduce(operator.or_, flags),
            args=["--tyro-print-completion", arguments[0]],
            prog="pushforward",
            config=CONFIG,
        )
    return printed.getvalue()
