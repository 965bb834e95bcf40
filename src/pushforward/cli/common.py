"""Common parts of all commands: their flags and their messages."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import re
import shutil
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..registry import own_classes
from ..settings import check_place, check_settings, check_text, shown
from .words import printable

if TYPE_CHECKING:
    from ..recipes import Run

#: How flags are read, for the commands and for the completion of them.
CONFIG = (tyro.conf.OmitArgPrefixes,)

#: A run folder, which is no flag.
RunPlace = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
#: Classes of the user that an opened run may name; `--trust` may be given several times.
Trusted = Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODULE:CLASS"), tyro.conf.UseAppendAction]

#: Columns of help at least and at most.
NARROWEST, WIDEST = 60, 200


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The run, and how it is opened."""

    run: RunPlace
    """Run folder."""
    trust: Trusted = ()
    """A class of your own that the run may name; without this flag such a run is refused."""
    device: Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda|mps")] = "auto"
    """Device; auto: a CUDA device if there is one, else the CPU."""

    def open(self, *flags: float | str | None, averaged: bool = True) -> Run:
        """The run.  A class of the user's own that one of the ``flags`` names is trusted too."""
        from ..recipes import open_run

        trust = (*self.trust, *own_classes(*flags))
        return open_run(self.run, averaged=averaged, device=self.device, trust=trust)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The solver of the flow and the seed of its draws."""

    solver: str | None = None
    """Solver, for example `heun,steps=20` or `dopri5,rtol=1e-7,atol=1e-7`; default that of the run."""
    seed: int = 0
    """Seed of the draws, and of the noise of stochastic flows and of images."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Rows that are read."""

    rows: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Rows with the columns of the training data."""
    max_size: float = 2.0
    """Gigabytes that the numbers of DATA may take; for tables and .npy files, those of one piece."""


def parse(cls: type, arguments: list[str], command: str, summary: str) -> Any:
    """The arguments of ``command`` as ``cls``.  Raises ValueError, in one line, for any other argument.

    Every value is within the bounds of :mod:`pushforward.settings`.
    """
    _check_texts(arguments)
    _check_repeats(cls, arguments)
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), _columns(arguments):
            args = tyro.cli(
                cls,
                args=arguments,
                prog=f"pushforward {command}",
                description=summary,
                config=CONFIG,
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        raise ValueError(f"{_one_line(told.getvalue())} (pushforward {command} --help)") from None
    check_settings(args, functools.partial(_spelt, cls))
    if getattr(args, "out", None) is not None:
        check_place("--out", args.out, folder=command in ("train", "distil"))
    return args


def _spelt(cls: type, name: str) -> str:
    """A setting as the command line has it: ``--lr``, ``-n``, or what stands for it, such as ``DATA``."""
    marks = getattr(_flags(cls).get(name), "__metadata__", ())
    if tyro.conf.Positional in marks:
        return next(mark.metavar for mark in marks if hasattr(mark, "metavar"))
    return "-n" if name == "n" else f"--{name.replace('_', '-')}"


def _flags(cls: Any) -> dict[str, Any]:
    """The types of all flags by name, with those of nested dataclasses."""
    hints = typing.get_type_hints(cls, include_extras=True)
    parts = [hint for hint in hints.values() if dataclasses.is_dataclass(hint)]
    return hints | {name: hint for part in parts for name, hint in _flags(part).items()}


def _check_texts(arguments: list[str]) -> None:
    """Raise ValueError, which names the flag, for a text that no flag can take."""
    flag = "the first argument"
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("--") and equals:
            check_text(name, value)
        check_text(flag, argument)
        flag = (
            name
            if argument.startswith("-") and len(argument) > 1
            else f"the argument after {shown(argument)}"
        )


def _check_repeats(cls: type, arguments: list[str]) -> None:
    """Raise ValueError if a flag of several values is given twice, because the first would be ignored."""
    given = [argument.partition("=")[0].replace("_", "-") for argument in arguments]
    for name, hint in _flags(cls).items():
        flag = f"--{name.replace('_', '-')}"
        if typing.get_origin(hint) is tuple and given.count(flag) > 1:
            raise ValueError(f"{flag}: given twice; expected all values after one, as {flag} a b")


@contextlib.contextmanager
def _columns(arguments: list[str]) -> Iterator[None]:
    """Help has a readable width, and the line of a mistake is not broken."""
    asked = any(argument in ("-h", "--help") for argument in arguments)
    width = min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST) if asked else 100_000
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _one_line(box: str) -> str:
    """The message of tyro about a mistake, without its frame and all after the first paragraph.

    The frame is of other characters where standard output has no UTF-8.

    >>> _one_line("╭─ Error ─╮\\n│ Error parsing │\\n│ --n: no number │\\n│ ───── │\\n│ Help: │\\n╰──╯")
    'Error parsing --n: no number'
    """
    words: list[str] = []
    for line in box.strip().splitlines()[1:]:
        text = line.strip(" │|")
        if not text or set(text) <= set("─-+╰╯"):
            if words:
                break
            continue
        words += text.split()
    line = " ".join(words).rstrip(".") or "arguments that fit no flag"
    for pattern in _NOT_OF_A_KIND:
        found = re.fullmatch(rf"Error parsing (\S+?)(?:/--\w+)?: {pattern}", line)
        if found is not None:
            flag, kind, came = found.groups()
            wanted = _KINDS.get(kind.removeprefix("{None}|"), kind)
            return f"{flag}: expected {wanted}, got {came.strip('[]')}"
    return line


#: What tyro says of a value of another kind: the kind, and what came.
_NOT_OF_A_KIND = (
    r"no type matching (\S+) could be instantiated from (.*)",
    r"invalid literal for (int)\(\) with base 10: (.*)",
    r"could not convert string to (float): (.*)",
)
_KINDS = {"INT": "a whole number", "int": "a whole number", "FLOAT": "a number", "float": "a number"}


def say(text: str) -> None:
    """One line on standard error."""
    print(f"pushforward: {printable(text)}", file=sys.stderr)


def show_warning(message: Any, category: type, filename: str, *_: Any) -> None:
    """Print a warning of this library as one line, on the first of several processes."""
    from ..training import is_first_process

    if issubclass(category, UserWarning) and "pushforward" in filename and is_first_process():
        print(f"pushforward: warning: {printable(str(message))}", file=sys.stderr)


def write_report(run: Run, samples: int | None = None) -> None:
    """Write the report, and print its conclusion and its path."""
    from ..report import build, conclusion

    say("drawing samples and writing the report")
    path = build(run, samples=samples)
    for line in conclusion(run.path):
        say(line)
    print(path)
