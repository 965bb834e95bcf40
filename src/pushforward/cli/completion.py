"""Scripts that complete commands and flags in a shell: ``pushforward --print-completion bash``."""

from __future__ import annotations

import contextlib
import functools
import io
import operator
from typing import Annotated, Any

import tyro

from .commands import COMMANDS, flags_of, summary_of
from .common import CONFIG

#: Shells for which there are scripts.
SHELLS = ("bash", "zsh")


def script(arguments: list[str]) -> str:
    """The script of the shell that ``arguments`` name.  Raises ValueError for another shell."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        got = " ".join(arguments) or "nothing"
        raise ValueError(f"--print-completion: expected {' or '.join(SHELLS)}, got {got}")
    flags: list[Any] = []
    for name in COMMANDS:
        named = tyro.conf.subcommand(name=name, description=summary_of(name), prefix_name=False)
        flags.append(Annotated[flags_of(name), named])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(
            functools.reduce(operator.or_, flags),
            args=["--tyro-print-completion", arguments[0]],
            prog="pushforward",
            config=CONFIG,
        )
    return printed.getvalue()
