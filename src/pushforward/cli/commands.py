"""Every command: its flags, the function that runs it, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from . import look, use
from .train import Train, train

__all__ = ["COMMANDS", "Command"]

F = TypeVar("F")


@dataclass(frozen=True)
class Command(Generic[F]):
    """A command.

    flags: a dataclass, of which tyro makes flags.  run: is called with these and the whole command line, and
    returns the exit status.
    """

    flags: type[F]
    run: Callable[[F, str], int]
    summary: str


COMMANDS: dict[str, Command[Any]] = {
    "train": Command(Train, train, "learn a flow from data: pushforward train data.csv"),
    "sample": Command(
        use.Sample, use.sample, "draw from a trained flow: pushforward sample RUN -n 1000 -o samples.csv"
    ),
    "push": Command(
        use.Push,
        use.push,
        "carry given points: pushforward push RUN points.csv -o moved.csv (--back: the other way)",
    ),
    "score": Command(
        use.Score, use.score, "log-density of new rows: pushforward score RUN new.csv -o scores.csv"
    ),
    "report": Command(look.Report, look.report, "write RUN/report.html again"),
    "info": Command(
        look.Info, look.info, "what a run is: data, model, steps, what it learnt, and what to do with it"
    ),
    "compare": Command(look.Compare, look.compare, "two runs side by side: pushforward compare RUN RUN"),
    "methods": Command(look.Nothing, look.methods, "the recipes, with their papers"),
    "datasets": Command(look.Nothing, look.datasets, "the built-in data"),
}
