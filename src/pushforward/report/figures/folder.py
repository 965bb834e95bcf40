"""The figures of a report as files: only those that a report has made are replaced and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...files import ensure_folder, replacing
from ...runs import FIGURE, remove_figures
from .style import NARROW_FOLDER


class FigureFolder:
    """``figures/`` of the run folder ``path``.

    Raises ValueError where it, or ``figures/narrow/``, is no folder but a file or a link, which would lead
    out of the run folder.
    """

    def __init__(self, path: Path):
        self.path = path / "figures"
        self.run = path
        for folder in (self.path, self.path / NARROW_FOLDER):
            if folder.is_symlink() or folder.exists():
                ensure_folder(folder)

    def replace(self, figures: Mapping[str, bytes]) -> None:
        """Write ``figures`` and delete those of the report before that are not among them."""
        remove_figures(self.run, keep=figures)
        for name, content in figures.items():
            assert FIGURE.fullmatch(name), name
            file = self.path / name
            ensure_folder(self.path)
            ensure_folder(file.parent)
            with replacing(file) as scratch:
                scratch.write_bytes(content)
