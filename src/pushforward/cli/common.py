"""What all commands share: reading their flags, and what they say."""

from __future__ import annotations

import contextlib
import io
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
    """The arguments of ``command`` as ``cls``.  Raises ValueError, in one line, for what is none of them."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(
                cls,
                args=arguments,
                prog=f"pushforward {command}",
                description=COMMANDS[command][1],
                config=CONFIG,
                **({} if default is None else {"default": default}),
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
    raise ValueError(f"{_one_line(told.getvalue())} (pushforward {command} --help)")


def _one_line(box: str) -> str:
    """What tyro says of a mistake, without its frame and what follows the first paragraph.

    >>> _one_line("╭─ Error ─╮\\n│ Error parsing │\\n│ --n: no number │\\n│ ───── │\\n│ Help: │\\n╰──╯")
    'Error parsing --n: no number'
    """
    words: list[str] = []
    for line in box.splitlines():
        text = line.strip(" │╭╮╰╯")
        if line.startswith(("╭", "╰")):
            continue
        if not text or set(text) == {"─"}:
            break
        words += text.split()
    return " ".join(words).rstrip(".") or "arguments that fit no flag"


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
