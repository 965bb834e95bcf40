"""The check of an output folder, before anything is written."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from ..config import RunConfig, changes
from .folder import RunFolder

__all__ = ["MAY_CHANGE", "check_out"]

#: Entries that may change when a run goes on.
MAY_CHANGE = (
    "target",
    "compute.",
    "data.max_size",
    "optim.steps",
    "optim.minutes",
    "optim.log_every",
    "optim.checkpoint_every",
    "optim.validate_every",
)


def check_out(path: Path, config: RunConfig, overwrite: bool) -> str:
    """The effect of training into ``path``: "new", "resume" or "extend"; writes nothing.

    Raises ValueError where files of somebody else or a finished run are in the way, and for a changed
    entry other than steps, devices and paths, which it names.
    """
    folder = RunFolder(path)
    if path.is_symlink() and not path.exists():
        raise ValueError(f"--out {path}: is a symbolic link that leads nowhere")
    if path.exists() and not path.is_dir():
        raise ValueError(f"--out {path}: is a file")
    if not path.exists() or not any(path.iterdir()):
        return "new"
    if not folder.is_ours():
        if overwrite:
            raise ValueError(f"--out {path}: is not a run folder, and --overwrite replaces nothing else")
        if (path / "config.json").exists():
            folder.config()  # says why it cannot be read
        raise ValueError(f"--out {path}: holds other files and is not a run folder")
    if overwrite or not (path / "config.json").exists():  # none: it was killed before it had begun
        return "new"
    old = folder.config()
    differences = changes(old, config)
    for name, (before, now) in differences.items():
        if not name.startswith(MAY_CHANGE):
            raise ValueError(
                f"{path}: {name} was {before!r} and is now {now!r}; a run continues only with the same "
                "values (use another --out, or --overwrite)"
            )
    before, now = old.optim.steps or 0, config.optim.steps or 0
    if now < before:
        raise ValueError(f"{path}: --steps was {before} and is now {now}; a run cannot be shortened")
    if (path / "state").is_dir():
        raise ValueError(f"{path}: state/ is of an older version, which alone can go on; use --overwrite")
    longer = (config.optim.minutes or math.inf) > (old.optim.minutes or math.inf)
    finished = folder.finished(old.optim)
    if now > before or (finished and longer):
        return "extend"
    if finished and not (path / "report.html").exists():
        raise ValueError(
            f"{path}: trained; `pushforward report {shlex.quote(str(path))}` makes its report; "
            "to train again: --overwrite, another --out or more --steps"
        )
    if finished:
        raise ValueError(f"{path}: a finished run is there; use --overwrite, another --out or more --steps")
    return "resume"
