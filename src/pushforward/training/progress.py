"""Progress: a bar on a terminal, and a line every few seconds in files and pipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

#: Seconds between lines, or this share of the time so far where that is more.
EVERY, SHARE = 5.0, 0.01


class Report(Protocol):
    """Called after each step, with the number of steps that there will be where it has changed."""

    def __call__(self, step: int, loss: float | None = None, total: int | None = None) -> None: ...


@contextmanager
def progress(
    title: str, start: int, total: int | None, enabled: bool = True, unit: str = "step"
) -> Iterator[Report]:
    """Show the progress from ``start`` to ``total`` steps on standard error while the block runs.

    total: None where it is not known.  unit: what is counted.
    """
    if not enabled:
        yield lambda step, loss=None, total=None: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with _bar(title, start, total, Console(stderr=True), unit) as report:
            yield report
    else:
        yield _lines(title, start, total, unit)


def _lines(title: str, start: int, total: int | None, unit: str) -> Report:
    began = last = time.monotonic()
    most, shown = total, ""

    def report(step: int, loss: float | None = None, total: int | None = None) -> None:
        nonlocal last, most, shown
        most = most if total is None else total
        shown = shown if loss is None else f", loss {loss:.4g}"
        now = time.monotonic()
        if now - last < max(EVERY, SHARE * (now - began)) or step <= start:
            return
        last = now
        of = left = ""
        if most is not None:
            of = f" of {most:,}"
            left = f", {duration((now - began) / (step - start) * max(0, most - step))} left"
        print(f"pushforward: {title}: {unit} {step:,}{of}{shown}{left}", file=sys.stderr, flush=True)

    return report


def duration(seconds: float) -> str:
    """A number of seconds as text.

    >>> duration(5.2), duration(65), duration(7325)
    ('5 s', '1 min 5 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def _bar(title: str, start: int, total: int | None, console: Console, unit: str) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, completed=start, rate="", loss="")
        began = last = time.monotonic()

        def report(step: int, loss: float | None = None, total: int | None = None) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < 0.1 and step != bar.tasks[task].total:
                return
            last = now
            shown = bar.tasks[task].fields["loss"] if loss is None else f"loss {loss:.4g}"
            rate = f"{(step - start) / max(now - began, 1e-9):,.0f} {unit}s/s"
            most = bar.tasks[task].total if total is None else total
            bar.update(task, completed=step, total=most, rate=rate, loss=shown)

        yield report
