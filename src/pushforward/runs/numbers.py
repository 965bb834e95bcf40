"""The numbers of a report, ``report.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..contents import Number, Numbers
from ..files import read_json
from ..typed import as_type, shown

__all__ = ["REPORT", "check_numbers", "read_numbers"]

#: Version of ``report.json``.
REPORT = 1


def read_numbers(file: Path) -> Numbers:
    """The numbers of a report.  Raises ValueError for one that is missing, damaged or of a newer version."""
    if not file.parent.is_dir():
        raise ValueError(f"{file.parent}: no such run folder")
    try:
        return check_numbers(read_json(file), str(file))
    except FileNotFoundError:
        raise ValueError(f"{file}: no such report; write it with `pushforward report`") from None


def check_numbers(data: Any, where: str) -> Numbers:
    """Plain data as the numbers of a report.  Raises ValueError, which says ``where``, for what is none."""
    found = as_type(data, Numbers, where)
    if found.get("format", 1) > REPORT:
        raise ValueError(f"{where}: written by a newer version (format {shown(found['format'])})")
    for i, line in enumerate(found["verdict"]):
        for key, value in line.items():
            if not isinstance(value, str):  # a baseline's, by its own name
                as_type(value, Number, where, f"verdict[{i}].{key}")
    return found
