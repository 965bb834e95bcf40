"""The files of a run folder, and how they are deleted."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

from ..files import read_json, remove, tidy
from ..training import STATE

__all__ = ["CONTENTS", "FIGURE", "REPORT_FILES", "clear", "clear_report", "remove_figures", "tidy_run"]

#: Everything a run writes besides its lock; ``--overwrite`` removes these and nothing else.  The first is
#: written last and removed first: a folder with it is whole.
CONTENTS = (
    "config.json",
    "data.json",
    "run.json",
    "conditions.safetensors",
    "source.safetensors",
    "coupling.safetensors",
    "choice.json",
    "choice.safetensors",
    "sampler.json",
    "stages",
    "metrics.jsonl",
    "model.safetensors",
    "ema.safetensors",
    STATE,
)
#: What its report writes, besides the figures that the first of them names.
REPORT_FILES = ("report.json", "report.html")
#: What a figure of a report may be called, in ``figures/``.
FIGURE = re.compile(r"(narrow/)?[a-z0-9][a-z0-9_-]{0,60}\.png", re.ASCII)
#: Where the figures of a report are, the inner folder first.
FIGURES = ("figures/narrow", "figures")


def clear(run: Path) -> None:
    """Delete what a run has written, but for its lock, and what writes that were cut off have left."""
    remove(run / CONTENTS[0])
    clear_report(run)
    for name in CONTENTS:
        remove(run / name)
    tidy_run(run)


def clear_report(run: Path) -> None:
    """Delete the report of a run and its figures."""
    remove_figures(run)
    for name in REPORT_FILES:
        remove(run / name)


def remove_figures(run: Path, keep: Container[str] = ()) -> None:
    """Delete the figures that the report says it has made, but those to ``keep``, and none by a link.

    What reports that were cut off have left goes too.
    """
    tidy(run, "report.")
    try:
        told = read_json(run / REPORT_FILES[0])
    except (OSError, ValueError):
        told = None
    names = told.get("figures") if isinstance(told, dict) else None
    figures = run / "figures"
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and FIGURE.fullmatch(name) and name not in keep:
            file = figures / name
            if not any(place.is_symlink() for place in (figures, file.parent, file)) and file.is_file():
                file.unlink()
    for folder in (run / name for name in FIGURES):
        tidy(folder)
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()


def tidy_run(run: Path) -> None:
    """Delete what writes that were cut off have left, in a run and its folders of stages and figures."""
    stages = run / "stages"
    inner = stages.iterdir() if stages.is_dir() and not stages.is_symlink() else ()
    for folder in (run, stages, *inner, *(run / name for name in FIGURES)):
        tidy(folder)
