"""Sources of data: a built-in name, a path, a table or array in memory, or a pair (x, y)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor

from ..entries import DATASETS
from ..files import check_file
from ..registry import found
from .arrays import raw_array, read_npy, read_npz
from .images import read_folder
from .limits import MAX_SIZE
from .parquet import open_parquet
from .raw import Raw
from .stretches import Stretched, whole
from .tables import read_frame
from .text import hint
from .text_tables import open_text
from .toys import LABELS, draw_labels

if TYPE_CHECKING:
    import pandas as pd

#: What data can be read from.
Source: TypeAlias = "str | Path | pd.DataFrame | np.ndarray | Tensor | tuple[Any, Any]"

#: Rows a toy draws where nothing is said.
TOY_ROWS = 10_000
#: How a table is opened, by its suffix.
OPENERS: dict[str, Callable[[Path, float], Stretched]] = {
    ".csv": open_text,
    ".tsv": open_text,
    ".txt": open_text,
    ".parquet": open_parquet,
}
#: Suffixes of files that can be read.
SUFFIXES = (*OPENERS, ".npy", ".npz")


def open_source(
    source: Any,
    rows: int | None,
    generator: torch.Generator,
    tested: bool,
    resize: int | None = None,
    max_size: float = MAX_SIZE,
) -> tuple[Raw, Any]:
    """The contents of ``source``, and y if it is a pair (x, y); ``resize`` is for a folder of images.

    Files that need more than ``max_size`` gigabytes are refused before memory is allocated.
    """
    if isinstance(source, tuple):
        if len(source) != 2:
            raise ValueError(f"source: expected a pair (x, y), got a tuple of {len(source)}")
        return open_source(source[0], rows, generator, tested, resize, max_size)[0], source[1]
    if resize is not None and not (isinstance(source, str | Path) and Path(source).expanduser().is_dir()):
        raise ValueError("resize: only images of a folder are resized; leave it out")
    if isinstance(source, str) and source in DATASETS:
        return _named(source, rows, generator, tested)
    if rows is not None:
        raise ValueError("rows: only a built-in toy draws as many rows as asked; leave it out")
    if isinstance(source, str | Path):
        return _open_path(source, resize, max_size), None
    if is_frame(source):
        return read_frame(source), None
    return raw_array(source), None


def _named(name: str, rows: int | None, generator: torch.Generator, tested: bool) -> tuple[Raw, Any]:
    """A registered data set, and y where it is one of the user's own that returns a pair (x, y).

    Raises ValueError, which names it, for one of the user's own that fails or returns no data.
    """
    if DATASETS[name].target.startswith("pushforward."):
        return _builtin(name, rows, generator, tested), None
    if rows is not None:
        raise ValueError(f"rows: {name!r} has a fixed number of rows; leave it out")
    try:
        raw, y = open_source(found("data", name)(), None, generator, tested)
    except Exception as error:  # whatever a function of the user's own raises
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"data set {name!r}: {told}") from error
    return replace(raw, name=name, source=name), y


def _builtin(name: str, rows: int | None, generator: torch.Generator, tested: bool) -> Raw:
    function = found("data", name)
    if not DATASETS[name].drawn:
        if rows is not None:
            raise ValueError(f"rows: {name!r} has a fixed number of rows; leave it out")
        return function()
    count = rows or TOY_ROWS
    n = 2 * count if tested else count
    extra, options = {}, {}
    if function.__name__ in LABELS:
        options["label"] = draw_labels(n, LABELS[function.__name__], generator)
        extra = {"label": options["label"].numpy()}
    x = function(n, generator=generator, dtype=torch.float64, **options).numpy()
    columns = {"x1": x[:, 0], "x2": x[:, 1]}
    return Raw(name=name, source=name, kind="table", columns=columns, extra=extra, train_rows=count)


def _open_path(source: str | Path, resize: int | None, max_size: float) -> Raw:
    path, key = find_path(source)
    try:
        if path.is_dir():
            return read_folder(path, resize, max_size)
        suffix = path.suffix.lower()
        if suffix in OPENERS:
            return whole(OPENERS[suffix](path, max_size), path.stem, max_size)
        return read_npz(path, key, max_size) if suffix == ".npz" else read_npy(path, max_size)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None


def find_path(source: str | Path) -> tuple[Path, str | None]:
    """The folder or file that is there, and the key of ``file.npz:key``.

    Raises ValueError where there is none, for a suffix that is not known, and for what is no file.
    """
    path, key = Path(source).expanduser(), None
    head, colon, tail = str(path).rpartition(":")
    if colon and head.lower().endswith(".npz") and not path.exists():
        path, key = Path(head), tail
    if not path.exists():
        text = str(source)
        if path.suffix.lower() in SUFFIXES or os.sep in text:
            raise ValueError(f"no such file or folder: {text}")
        raise ValueError(f"no data set {text!r}, and no such file or folder{hint(text, DATASETS)}")
    if not path.is_dir():
        if (suffix := path.suffix.lower()) not in SUFFIXES:
            raise ValueError(
                f"{path}: cannot read {suffix or 'a file without suffix'}; known: {', '.join(SUFFIXES)}"
            )
        check_file(path)
    return path, key


def is_path(source: Any) -> TypeGuard[str | Path]:
    """Whether it is a path, and no built-in name."""
    return isinstance(source, str | Path) and source not in DATASETS


def is_frame(source: Any) -> TypeGuard[pd.DataFrame]:
    pandas = cast("Any", sys.modules.get("pandas"))
    return pandas is not None and isinstance(source, pandas.DataFrame)
