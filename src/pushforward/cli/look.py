"""Commands that show runs and lists: ``report``, ``info``, ``compare``, ``methods``, ``datasets``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..entries import DATASETS, KINDS, METHODS, Entry, Method
from .common import Opening, RunPlace, Trusted, write_report
from .words import printable


@dataclass(frozen=True, kw_only=True)
class Report:
    """Flags of ``report``."""

    opening: Opening
    samples: int | None = None
    """Samples that the report uses; default: a number that takes little time."""


def report(args: Report, command: str) -> int:
    """Write the report of a run, RUN/report.html, again."""
    write_report(args.opening.open(), args.samples)
    return 0


@dataclass(frozen=True, kw_only=True)
class Info:
    """Arguments of ``info``."""

    run: RunPlace
    """Run folder."""
    trust: Trusted = ()
    """A class of your own that the run may name; without this flag such a run is refused."""


def info(args: Info, command: str) -> int:
    """Describe a run: data, model, steps, what it learnt, and commands that can follow."""
    from ..recipes.info import lines

    rows = lines(args.run, args.trust)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(printable(f"{name:<{width}}  {text}").rstrip())
    return 0


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Flags of ``compare``."""

    first: RunPlace
    """Run folder with a report."""
    second: RunPlace
    """Another run folder with a report."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("comparison.html")
    """Page to write."""


def compare(args: Compare, command: str) -> int:
    """Compare two runs side by side: pushforward compare RUN RUN"""
    from ..data.write import check_output
    from ..report import compare, compare_text
    from ..runs import read_numbers

    check_output(args.out, (".html", ".htm"))
    numbers = [read_numbers(path / "report.json") for path in (args.first, args.second)]
    print(printable(compare_text(*numbers)))
    print(compare(args.first, args.second, args.out))
    return 0


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """``methods`` and ``datasets`` take nothing."""


def methods(args: Nothing, command: str) -> int:
    """List the methods and components, with their papers."""
    _table(METHODS)
    for kind in KINDS.values():
        if kind.abstract:
            print(f"\n{kind.flag}")
            _table(kind.entries)
    return 0


def datasets(args: Nothing, command: str) -> int:
    """List the built-in data."""
    _table(DATASETS)
    return 0


def _table(entries: Mapping[str, Entry | Method]) -> None:
    rows = [(name, entry.summary, entry.paper) for name, entry in entries.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for name, summary, paper in rows:
        print(f"{name:<{widths[0]}}  {summary:<{widths[1]}}  {paper}".rstrip())
