"""The entry of the command line: one command, its streams, signals and exit status."""

from __future__ import annotations

import functools
import io
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from .. import registry
from .._version import __version__
from ..settings import shown
from .commands import COMMANDS, flags_of, summary_of
from .common import parse, show_warning
from .program import Signals, guarded, set_streams
from .words import printable

HELP = f"""pushforward {__version__}: carry one distribution into another

usage: pushforward COMMAND [OPTIONS]     (pushforward COMMAND --help for its options)

commands:
{chr(10).join(f"  {name:<10}{summary_of(name)}" for name in COMMANDS)}

--plugin FILE, with any command, runs a Python file that registers parts of your own.
pushforward --print-completion bash|zsh prints a script that completes commands and flags in that shell.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on standard error and exit status 2.

    Without ``arguments`` it is the process that is run: those of the command line, its streams and signals.
    """
    if arguments is not None:
        return guarded(functools.partial(_run, list(arguments)), _tell)
    set_streams()
    signals = Signals()
    try:
        signals.watch()
        status = guarded(functools.partial(_run, sys.argv[1:]), _tell)
        signals.forget()
        return status
    except KeyboardInterrupt:
        _interrupted(signals)
    except Exception:
        if signals.received is None:
            raise
        _interrupted(signals)  # an import that was interrupted fails in its own way


def _interrupted(signals: Signals) -> NoReturn:
    """End the process, at once: libraries that were interrupted do not always come to an end of their own."""
    number = signals.received or signal.SIGINT
    if number == signal.SIGINT and os.environ.get("LOCAL_RANK", "0") == "0":
        _tell("interrupted")
    os._exit(128 + number)


def _tell(text: str) -> None:
    """One line on standard error, and nowhere else where that is closed."""
    print(f"pushforward: {printable(text)}", file=sys.stderr or io.StringIO())


def _run(args: list[str]) -> int:
    command_line, args = args, _plugged(args)
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] in ("-V", "--version"):
        print(__version__)
        return 0
    name, *rest = args
    if name == "--print-completion":
        from .completion import script

        print(script(rest), end="")
        return 0
    if name not in COMMANDS:
        raise ValueError(f"unknown command {shown(name)}{registry.suggest(name[:80], COMMANDS)}")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = show_warning
        flags = parse(flags_of(name), rest, name, summary_of(name))
        return COMMANDS[name](flags, f"pushforward {shlex.join(command_line)}")


def _plugged(args: list[str]) -> list[str]:
    """The arguments without ``--plugin FILE``, each of which has been loaded."""
    rest, files = [], []
    given = iter(args)
    for argument in given:
        name, equals, value = argument.partition("=")
        if name != "--plugin":
            rest.append(argument)
            continue
        file = value if equals else next(given, None)
        if not file:
            raise ValueError("--plugin: expected a file of Python, such as my_parts.py")
        files.append(file)
    if files:
        from ..plugins import load_plugin

        for file in files:
            load_plugin(file)
    return rest
