"""Files of ours: written whole or not at all, never through a symbolic link, read within limits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = [
    "LARGEST_JSON",
    "append_line",
    "ensure_folder",
    "is_leaving",
    "read_json",
    "read_tensors",
    "remove",
    "replacing",
    "write_json",
    "write_tensors",
    "write_text",
]

#: Bytes of a JSON file that are read at most, and how deep its lists and objects may be nested.
LARGEST_JSON, DEEPEST = 256 * 2**20, 64

_LEAVING = re.compile(r"\..+\.[0-9a-f]{8}\.partial(\.[a-z]+)?")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside ``path`` to write to, which takes its place when the block ends.

    The file is new and no link, in the folder of ``path``, with its suffix.  Where the block fails it is
    removed and ``path`` is as it was.  Folders are made as needed.  Raises OSError that names ``path`` where
    it cannot be written, such as on a full disk.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "rows.csv"
    >>> with replacing(path) as scratch:
    ...     _ = scratch.write_text("a,b")
    >>> path.read_text()
    'a,b'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        os.close(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666))
        mode = scratch.stat().st_mode
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.chmod(mode)  # some writers leave files that only their owner can read
        os.replace(scratch, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        if isinstance(error, SafetensorError) or (isinstance(error, OSError) and error.errno is None):
            raise OSError(f"{path}: cannot be written ({error})") from None
        if isinstance(error, OSError):
            raise OSError(error.errno, f"{path}: cannot be written ({os.strerror(error.errno)})") from None
        raise


#: Opening a symbolic link fails with this.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def is_leaving(name: str) -> bool:
    """Whether ``name`` is that of a file which :func:`replacing` had not finished when it was killed.

    >>> is_leaving(".config.0a1b2c3d.partial.json"), is_leaving("config.json")
    (True, False)
    """
    return _LEAVING.fullmatch(name) is not None


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, never a half."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write plain ``data`` as JSON, as :func:`write_text` does."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors by name as safetensors, as :func:`write_text` does."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as scratch:
        save_file(plain, scratch, metadata)


def append_line(path: Path, text: str) -> None:
    """Add a line to a file that is no link."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _NO_LINK, 0o666)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise OSError(error.errno, f"{path}: cannot be written ({error.strerror})") from None


def ensure_folder(path: Path) -> Path:
    """Make the folder ``path`` where it is missing.  Raises ValueError where it is a file or a link."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ValueError(f"{path}: expected a folder of the run, found a {_kind(path)}")
    path.mkdir(parents=True, exist_ok=True)
    return path


def remove(path: Path) -> None:
    """Delete a file, a folder with all that is in it, or a link but not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _kind(path: Path) -> str:
    return "symbolic link" if path.is_symlink() else "folder" if path.is_dir() else "file"


def read_json(path: Path) -> Any:
    """The plain data of a JSON file.

    Raises FileNotFoundError where there is none, and ValueError, which names the file, for one that is larger
    than :data:`LARGEST_JSON`, nested deeper than :data:`DEEPEST`, or no JSON.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"{path}: damaged ({path.stat().st_size / 2**20:,.0f} MiB of JSON)")
        text = path.read_text(encoding="utf-8")
        if _depth(text) > DEEPEST:
            raise ValueError(f"{path}: damaged (nested more than {DEEPEST} deep)")
        return json.loads(text)
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None


def _depth(text: str) -> int:
    """How deep brackets are nested at most; those in texts count too, which JSON of ours hardly has.

    >>> _depth('{"a": [1, {"b": 2}]}')
    3
    """
    depth = most = 0
    for bracket in re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        depth += 1 if bracket in "[{" else -1
        most = max(most, depth)
    return most


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name.  Raises ValueError, which names the file, for one that is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: missing or damaged ({error})") from None
