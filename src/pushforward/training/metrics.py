"""``metrics.jsonl``: rows of losses and rates, one JSON object a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..contents import Row
from ..files import LARGEST_JSON, check_file, json_of
from ..typed import as_type

#: The file of a run folder.
METRICS = "metrics.jsonl"


def read_metrics(folder: Path, most: int | None = None) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``, none without the file; a last line cut short by a crash and empty
    ones are left out.

    most: as many as a checkpoint tells of; what comes after them is not looked at.

    Raises ValueError, which says the line, for a damaged one.
    """
    path = folder / METRICS
    try:
        check_file(path)
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"{path}: damaged ({path.stat().st_size / 2**20:,.0f} MiB)")
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    if most is not None and len(lines) > most:
        lines = [*lines[:most], ""]
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        where = f"{path}: line {number}"
        try:
            if line.strip():
                rows.append(as_type(json_of(line, where), Row, where))
        except ValueError:
            if number < len(lines):
                raise
    return rows
