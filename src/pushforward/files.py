"""Files of ours: written whole or not at all, never through a symbolic link, read within limits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .typed import shortened

__all__ = [
    "LARGEST_JSON",
    "append_line",
    "check_file",
    "check_sum",
    "check_writable",
    "checksum",
    "ensure_folder",
    "json_of",
    "read_facts",
    "read_header",
    "read_json",
    "read_tensors",
    "read_text",
    "remove",
    "replacing",
    "summed",
    "tidy",
    "write_json",
    "write_tensors",
    "write_text",
]

#: Bytes of a JSON file that are read at most, and how deep its lists and objects may be nested.
LARGEST_JSON, DEEPEST = 256 * 2**20, 64

#: The entry of a safetensors header that holds facts of ours, a JSON object, and there that of the checksum.
ENTRY, SUM = "pushforward", "sum"

#: Bytes of a name, without its suffix, that that of a file on its way to it keeps.
LONGEST_STEM = 160

#: What :func:`replacing` calls a file that it has not finished.
_LEAVING = re.compile(r"\..+\.[0-9a-f]{8}\.partial(\.[a-z]+)?")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside ``path`` to write to, which takes its place when the block ends.

    The file is new and no link, in the folder of ``path``, with its suffix.  Folders are made as needed.
    Where the block fails the file and these folders are removed, and ``path`` is as it was.  Raises OSError
    that names ``path`` where it cannot be written, such as on a full disk.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "rows.csv"
    >>> with replacing(path) as scratch:
    ...     _ = scratch.write_text("a,b")
    >>> path.read_text()
    'a,b'
    """
    new = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.stem.encode(errors="ignore")[:LONGEST_STEM].decode(errors="ignore")
    scratch = path.with_name(f".{stem}.{secrets.token_hex(4)}.partial{path.suffix}")
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
            for folder in new:
                folder.rmdir()
        if isinstance(error, SafetensorError) or (isinstance(error, OSError) and error.errno is None):
            raise OSError(f"{path}: cannot be written ({error})") from None
        if isinstance(error, OSError):
            raise OSError(
                error.errno, f"{path}: cannot be written ({os.strerror(error.errno or 0)})"
            ) from None
        raise


def check_writable(path: Path) -> None:
    """Raise ValueError or OSError, in words that name ``path``, where :func:`replacing` could not write it.

    A full disk is found while writing.
    """
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except OSError as error:  # such as a name that is too long
        raise OSError(error.errno, f"{path}: cannot be written ({error.strerror})") from None
    if path.is_dir() or (found is not None and not (path.is_file() or path.is_symlink())):
        raise ValueError(f"{path}: expected a file to write, found a {_kind(path)}")
    folder = next(place for place in (path.parent, *path.parent.parents) if os.path.lexists(place))
    if not folder.is_dir():
        raise ValueError(f"{path}: cannot be written ({folder} is no folder)")
    if not os.access(folder, os.W_OK | os.X_OK) or (path.is_file() and not os.access(path, os.W_OK)):
        raise ValueError(f"{path}: cannot be written (permission denied)")


#: Opening a symbolic link fails with this.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def tidy(folder: Path, stem: str = "") -> None:
    """Delete what writes that were cut off have left in ``folder`` itself, which nobody writes to now.

    stem: only of files whose names begin with it.  Folders and links of such a name are not ours and stay.
    """
    if folder.is_dir() and not folder.is_symlink():
        for entry in [*folder.iterdir()]:
            ours = _LEAVING.fullmatch(entry.name) and entry.name.startswith(f".{stem}")
            if ours and entry.is_file() and not entry.is_symlink():
                remove(entry)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, never a half."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", errors="replace")


def write_json(path: Path, data: Any) -> None:
    """Write plain ``data`` as JSON, as :func:`write_text` does."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def summed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with a checksum beside them, for :func:`check_sum`."""
    return {**data, SUM: checksum({}, data)}


def check_sum(data: Mapping[str, Any], where: str) -> None:
    """Raise ValueError, which says ``where``, for data that are not as :func:`summed` had them.

    Those without a checksum are taken as they are.

    >>> check_sum({**summed({"a": 1}), "a": 2}, "file.json")
    Traceback (most recent call last):
    ValueError: file.json: damaged or edited (its checksum does not fit; an edit that is meant deletes "sum")
    """
    rest = {name: value for name, value in data.items() if name != SUM}
    if SUM in data and data[SUM] != checksum({}, rest):
        told = f'its checksum does not fit; an edit that is meant deletes "{SUM}"'
        raise ValueError(f"{where}: damaged or edited ({told})")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> None:
    """Write tensors by name as safetensors, as :func:`write_text` does.

    The header holds the plain ``facts``, and a checksum of them and of the tensors, by which a damaged file
    is known.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    told = {**(facts or {}), SUM: checksum(plain, facts or {})}
    with replacing(path) as scratch:
        # one entry alone, since several are written in an order that changes
        save_file(plain, scratch, {ENTRY: json.dumps(told)})


def checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """A checksum of tensors on the CPU, their names, dtypes and shapes, and of plain facts beside them.

    >>> checksum({"x": torch.zeros(2)}, {}), checksum({"x": torch.zeros(1, 2)}, {})
    ('61425218', 'b7a29b1b')
    """
    found = zlib.crc32(json.dumps(facts, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        found = zlib.crc32(repr((name, str(value.dtype), tuple(value.shape))).encode(), found)
        if value.numel():
            found = zlib.crc32(value.contiguous().reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


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


def check_file(path: Path) -> int:
    """The bytes of a file.

    Raises FileNotFoundError where there is nothing, and ValueError for folders, and for pipes and devices,
    whose reading may never end.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFDIR: "folder"}
        kind = kinds.get(stat.S_IFMT(about.st_mode), "device")
        raise ValueError(f"{path}: expected a file, found a {kind}")
    return about.st_size


def read_json(path: Path) -> Any:
    """The plain data of a JSON file.  Raises errors of :func:`read_text` and of :func:`json_of`."""
    return json_of(read_text(path), str(path))


def read_text(path: Path, errors: str = "strict") -> str:
    """The text of a file in UTF-8; ``errors`` says what becomes of bytes that are none.

    Raises FileNotFoundError where there is none, and ValueError, which names the file, for what is no regular
    file, larger than :data:`LARGEST_JSON`, or cannot be read.
    """
    try:
        if (size := check_file(path)) > LARGEST_JSON:
            raise ValueError(f"{path}: damaged ({size / 2**20:,.0f} MiB of JSON)")
        return path.read_text(encoding="utf-8", errors=errors)
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None


def json_of(text: str, where: str) -> Any:
    """The plain data of JSON that stands ``where``.

    Raises ValueError, which says so, for what is no JSON, nested deeper than :data:`DEEPEST`, or has an entry
    twice in one object.

    >>> json_of('{"a": 1, "a": 2}', "file")
    Traceback (most recent call last):
    ValueError: file: damaged (entry a is given twice)
    """
    if _depth(text) > DEEPEST:
        raise ValueError(f"{where}: damaged (nested more than {DEEPEST} deep)")
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: damaged ({error})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"entry {shortened(twice)} is given twice")
    return found


#: A text of JSON, also one that does not end, or a bracket.
_TEXT_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _depth(text: str) -> int:
    """How deep brackets are nested at most, those inside texts left out.

    >>> _depth('{"a": [1, {"[": 2}]}')
    3
    """
    depth = most = 0
    for found in _TEXT_OR_BRACKET.finditer(text):
        bracket = found[0]
        if bracket[0] != '"':
            depth += 1 if bracket in "[{" else -1
            most = max(most, depth)
    return most


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name.

    Raises ValueError, which names the file, for one that is missing, or damaged by its checksum or otherwise.
    """
    with _opened(path) as (file, told):
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        found = told.pop(SUM, None)  # none in files of older versions
        if found is not None and found != checksum(tensors, told):
            raise ValueError(f"{path}: damaged (its checksum does not fit)")
        return tensors


def read_facts(path: Path) -> dict[str, Any]:
    """What :func:`write_tensors` wrote beside the tensors.  Raises ValueError as :func:`read_tensors`, but
    knows no damage to the tensors."""
    with _opened(path) as (_, told):
        return {name: value for name, value in told.items() if name != SUM}


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's tensors by name, none of which is read.  Raises ValueError as
    :func:`read_tensors`."""
    with _opened(path) as (file, _):
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    try:
        check_file(path)
        with safe_open(path, "pt") as file:
            told = json_of((file.metadata() or {}).get(ENTRY, "{}"), str(path))
            if not isinstance(told, dict):
                raise ValueError(f"{path}: damaged (its header holds no object)")
            yield file, told
    except FileNotFoundError:
        raise ValueError(f"{path}: is missing") from None
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
