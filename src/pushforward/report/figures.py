"""The figures of a report as files: only those that a report has made are replaced and deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..files import ensure_folder, read_json, replacing
from .style import NARROW_FOLDER

#: What the files of figures are called, in the folder of figures.
NAME = re.compile(rf"({NARROW_FOLDER}/)?[a-z0-9][a-z0-9_-]{{0,60}}\.png", re.ASCII)


class Figures:
    """``figures/`` of the run folder ``path``.

    Raises ValueError where it, or ``figures/narrow/``, is no folder but a file or a link, which would lead
    out of the run folder.
    """

    def __init__(self, path: Path):
        self.path = path / "figures"
        self.report = path / "report.json"
        for folder in (self.path, self.path / NARROW_FOLDER):
            if folder.is_symlink() or folder.exists():
                ensure_folder(folder)

    def replace(self, figures: Mapping[str, bytes]) -> None:
        """Write ``figures`` and delete those of the report before that are not among them."""
        for name in self._made():
            old = self.path / name
            if name not in figures and old.is_file() and not old.is_symlink():
                old.unlink()
        for name, content in figures.items():
            assert NAME.fullmatch(name), name
            file = self.path / name
            ensure_folder(self.path)
            ensure_folder(file.parent)
            with replacing(file) as scratch:
                scratch.write_bytes(content)

    def _made(self) -> list[str]:
        """What the report that is there says it has made; nothing where it cannot be read."""
        try:
            told = read_json(self.report)
        except (OSError, ValueError):
            return []
        names = told.get("figures") if isinstance(told, dict) else None
        names = names if isinstance(names, list) else []
        return [name for name in names if isinstance(name, str) and NAME.fullmatch(name)]
