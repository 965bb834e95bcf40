"""Progress on a terminal: rate and time left, nothing when the output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Report(Protocol):
    """Called after each step."""

    def __call__(self, step: int, loss: float | None = None) -> None: ...


@contextmanager
def progress(title: str, start: int, total: int, enabled: bool = True) -> Iterator[Report]:
    """Show a bar from ``start`` to ``total`` steps while the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (enabled and console.is_terminal):
        yield lambda step, loss=None: None
        return
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

        def report(step: int, loss: float | None = None) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < 0.1 and step != total:
                return
            last = now
            shown = bar.tasks[task].fields["loss"] if loss is None else f"loss {loss:.4g}"
            rate = f"{(step - start) / max(now - began, 1e-9):,.0f} steps/s"
            bar.update(task, completed=step, rate=rate, loss=shown)

        yield report
