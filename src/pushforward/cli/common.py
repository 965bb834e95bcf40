"""What all commands share: reading their flags, and what they say."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from . import COMMANDS

if TYPE_CHECKING:
    from ..recipes import Run

#: How flags are read, for the commands and for the completion of them.
CONFIG = (tyro.conf.OmitArgPrefixes,)

#: Where to compute, of every command that computes.
Device = Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda|mps")]


def parse(cls: type, arguments: list[str], command: str, default: Any = None) -> Any:
    """The arguments of ``command`` as ``cls``; exits with status 2 for a flag that is none of them."""
    return tyro.cli(
        cls,
        args=arguments,
        prog=f"pushforward {command}",
        description=COMMANDS[command][1],
        config=CONFIG,
        **({} if default is None else {"default": default}),
    )


def say(text: str) -> None:
    """One line on standard error."""
    print(f"pushforward: {text}", file=sys.stderr)


def show_warning(message: Any, category: type, filename: str, *_: Any) -> None:
    """A warning of this library's as one line; the first of several processes says it."""
    from ..training import is_first_process

    if issubclass(category, UserWarning) and "pushforward" in filename and is_first_process():
        print(f"pushforward: warning: {message}", file=sys.stderr)


def write_report(run: Run, samples: int | None = None) -> None:
    """Write the report, and say what it concludes and where it is."""
    from ..report import build, conclusion

    say("drawing samples and writing the report")
    path = build(run, samples=samples)
    for line in conclusion(run.path):
        say(line)
    print(path)
