"""What looks at runs and at what there is: ``report``, ``info``, ``compare``, ``methods``, ``datasets``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..entries import DATASETS, KINDS, METHODS, Entry, Method
from .common import Device, Trusted, parse, write_report
from .words import printable


@dataclass(frozen=True, kw_only=True)
class Report:
    """Flags of ``report``."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    samples: int | None = None
    """Samples to judge by; default: as many as take little time."""
    trust: Trusted = ()
    """Your own class that the run may name; without it a run that names one is refused."""
    device: Device = "auto"
    """Where to compute; auto: on a CUDA device where there is one, else on the CPU."""


def report(arguments: list[str], command: str) -> int:
    """Write the report of a run again."""
    args = parse(Report, arguments, "report")

    from ..recipes import open_run

    write_report(open_run(args.run, device=args.device, trust=args.trust), args.samples)
    return 0


@dataclass(frozen=True, kw_only=True)
class Info:
    """Arguments of ``info``."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    trust: Trusted = ()
    """Your own class that the run may name; without it a run that names one is refused."""


def info(arguments: list[str], command: str) -> int:
    """Say what a run is."""
    args = parse(Info, arguments, "info")

    from ..recipes.info import lines

    rows = lines(args.run, args.trust)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(printable(f"{name:<{width}}  {text}").rstrip())
    return 0


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Flags of ``compare``."""

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder with a report."""
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Another."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("comparison.html")
    """Page to write."""


def compare(arguments: list[str], command: str) -> int:
    """Print two runs side by side and write a page of it."""
    args = parse(Compare, arguments, "compare")

    from ..data.write import check_output
    from ..report import compare, compare_text
    from ..runs import RunFolder

    check_output(args.out, (".html", ".htm"))
    numbers = [RunFolder(path).numbers() for path in (args.first, args.second)]
    print(printable(compare_text(*numbers)))
    print(compare(args.first, args.second, args.out))
    return 0


@dataclass(frozen=True, kw_only=True)
class Methods:
    """``methods`` takes nothing."""


def methods(arguments: list[str], command: str) -> int:
    """Print every component by name."""
    parse(Methods, arguments, "methods")
    _table(METHODS)
    for kind in KINDS.values():
        if kind.abstract:
            print(f"\n{kind.flag}")
            _table(kind.entries)
    return 0


@dataclass(frozen=True, kw_only=True)
class Datasets:
    """``datasets`` takes nothing."""


def datasets(arguments: list[str], command: str) -> int:
    """Print the built-in data."""
    parse(Datasets, arguments, "datasets")
    _table(DATASETS)
    return 0


def _table(entries: Mapping[str, Entry | Method]) -> None:
    rows = [(name, entry.summary, entry.paper) for name, entry in entries.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for name, summary, paper in rows:
        print(f"{name:<{widths[0]}}  {summary:<{widths[1]}}  {paper}".rstrip())
