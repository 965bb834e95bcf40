"""Rows of figures that a benchmark adds one by one, so that it can be stopped and gone on with."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def read(name: str) -> list[dict[str, Any]]:
    """The rows of ``results/rows/<name>.jsonl``."""
    path = RESULTS / "rows" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, row: dict[str, Any]) -> None:
    """Add a row and show it."""
    path = RESULTS / "rows" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def known(name: str, **wanted: Any) -> bool:
    """Whether there is a row with these entries."""
    return any(all(row.get(key) == value for key, value in wanted.items()) for row in read(name))


def write_page(name: str, title: str, note: str, command: str, rows: list[dict[str, Any]]) -> None:
    """Write ``results/<name>.json``, which becomes a section of docs/benchmarks.md."""
    page = {
        "title": title,
        "note": note,
        "command": command,
        "torch": torch.__version__,
        "threads": 1,
        "rows": rows,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(page, indent=2) + "\n")


def spread(values: list[float], digits: int = 3, error: bool = True) -> str:
    """Mean and standard error, or deviation."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    scale = math.sqrt(len(values)) if error else 1.0
    return f"{mean} +- {statistics.stdev(values) / scale:.{digits}f}"
