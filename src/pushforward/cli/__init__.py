"""The command line: ``pushforward train``, ``sample``, ``push``, ``score``, ``report``, ``info``, ..."""

from __future__ import annotations

import importlib
import shlex
import sys
import warnings
from collections.abc import Sequence

from .. import registry
from .._version import __version__

#: Every command: the file that holds the function of its name, and what it does.
COMMANDS = {
    "train": ("train", "learn a flow from data: pushforward train data.csv"),
    "sample": ("use", "draw from a trained flow: pushforward sample RUN -n 1000 -o samples.csv"),
    "push": (
        "use",
        "carry given points: pushforward push RUN points.csv -o moved.csv (--back: the other way)",
    ),
    "score": ("use", "log-density of new rows: pushforward score RUN new.csv -o scores.csv"),
    "report": ("look", "write RUN/report.html again"),
    "info": ("look", "what a run is: data, model, steps, what it learnt, and what to do with it"),
    "compare": ("look", "two runs side by side: pushforward compare RUN RUN"),
    "methods": ("look", "the recipes, with their papers"),
    "datasets": ("look", "the built-in data"),
}

HELP = f"""pushforward {__version__}: carry one distribution into another

usage: pushforward COMMAND [OPTIONS]     (pushforward COMMAND --help for its options)

commands:
{chr(10).join(f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items())}

pushforward --print-completion bash|zsh writes what completes commands and flags in that shell.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on standard error and exit status 2."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] in ("-V", "--version"):
        print(__version__)
        return 0
    name, *rest = args
    try:
        if name == "--print-completion":
            from .completion import script

            print(script(rest), end="")
            return 0
        if name not in COMMANDS:
            raise ValueError(f"unknown command {name!r}{registry.suggest(name, COMMANDS)}")
        if "" not in sys.path:
            sys.path.append("")  # so that `--path my_paths:Curved` finds a file in this folder
        from .common import show_warning

        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = show_warning
            command = getattr(importlib.import_module(f".{COMMANDS[name][0]}", __name__), name)
            return command(rest, f"pushforward {shlex.join(args)}") or 0
    except (ValueError, OSError) as error:
        print(f"pushforward: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if type(error).__module__.startswith("pushforward"):
            print(f"pushforward: {error}", file=sys.stderr)
            return 1
        raise
    except KeyboardInterrupt:
        print("pushforward: interrupted", file=sys.stderr)
        return 130
