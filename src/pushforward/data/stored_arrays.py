"""Arrays in npy and npz files, whose sizes are known before they are read."""

from __future__ import annotations

import contextlib
import io
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..files import check_file

#: Bytes of a header of an array, and of the list of members of an npz file, that are read at most.
HEADER, DIRECTORY = 10_000, 4_000_000
#: Bytes that one byte of a compressed member can unfold to.
UNFOLDS = 1100
#: Bytes that are read at once.
BUFFER = 2**20


@dataclass(frozen=True)
class StoredArray:
    """An array of which the header was read; its values begin after ``start`` bytes of what opens."""

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int
    opened: Callable[[], IO[bytes]]

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def memory(self) -> int:
        """Bytes that the values take as they are computed with: floats, or texts."""
        count, kind, size = math.prod(self.shape), self.dtype.kind, self.dtype.itemsize
        if kind in "US":
            return count * (size + 72)
        least = 4 if self.ndim > 2 or (kind == "f" and size <= 4) else 8
        return count * max(size, least)

    def read(self) -> np.ndarray:
        """All values.  Raises ValueError where there are fewer than the header says."""
        with _sound(self.where), self.opened() as file:
            _skip(file, self.start)
            values = _filled(file, math.prod(self.shape), self.dtype, self.where)
        return values.reshape(self.shape[::-1]).T if self.fortran else values.reshape(self.shape)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """The rows from ``start`` to ``stop`` of an npy file."""
        event = self.shape[1:]
        width, count = math.prod(event), stop - start
        with _sound(self.where), self.opened() as file:
            if not self.fortran:
                file.seek(self.start + start * width * self.dtype.itemsize)
                return _filled(file, count * width, self.dtype, self.where).reshape(count, *event)
            parts = np.empty((width, count), self.dtype)
            for j, part in enumerate(parts):
                file.seek(self.start + (j * len(self) + start) * self.dtype.itemsize)
                part[:] = _filled(file, count, self.dtype, self.where)
        return parts.reshape(*event[::-1], count).T


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0:
        count -= len(file.read(min(count, BUFFER))) or count


def _filled(file: IO[bytes], count: int, dtype: np.dtype[Any], where: str) -> np.ndarray:
    values = np.empty(count, dtype)
    view, done = values.view(np.uint8), 0
    while done < len(view):
        data = file.read(min(BUFFER, len(view) - done))
        if not data:
            raise ValueError(f"{where}: damaged (it ends after {done:,} of {len(view):,} bytes)")
        view[done : done + len(data)] = np.frombuffer(data, np.uint8)
        done += len(data)
    return values


@contextlib.contextmanager
def _sound(where: str) -> Iterator[None]:
    """What zipfile and zlib raise for damaged files, as one ValueError."""
    try:
        yield
    except (
        OSError,
        EOFError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        kind = ".npz" if ".npz" in where else ".npy"
        raise ValueError(f"{where}: not a readable {kind} file ({str(error)[:100]})") from None


def open_npy(path: Path) -> StoredArray:
    """The array of an npy file.  Raises ValueError where the file is damaged or holds Python objects."""
    size = check_file(path)
    with _sound(str(path)), path.open("rb") as file:
        return _header(file, str(path), size, partial(path.open, "rb"))


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[dict[str, StoredArray]]:
    """The arrays of an npz file by name, to be read while it is open.

    Raises ValueError where the file is damaged, encrypted, compressed in another way than NumPy does, or
    holds Python objects.
    """
    size = check_file(path)
    with contextlib.ExitStack() as stack:
        with _sound(str(path)):
            with path.open("rb") as plain:
                if plain.read(6) == b"\x93NUMPY":
                    raise ValueError(f"{path}: one array, not an npz file; call it .npy")
            file = stack.enter_context(_Guarded(path))
            archive = stack.enter_context(zipfile.ZipFile(file))
            file.guarded = False
        found: dict[str, StoredArray] = {}
        for info in archive.infolist():
            name, where = info.filename.removesuffix(".npy"), f"{path}:{info.filename[:100]}"
            if name == info.filename:
                continue
            _check_member(info, where, size)
            opened = partial(archive.open, info)
            with _sound(where), opened() as member:
                found[name] = _header(member, where, info.file_size, opened)
        yield found


class _Guarded(io.FileIO):
    """A file that does not read a long list of members."""

    guarded = True

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes.  Raises ValueError for many at once, as long as the list of members is not read."""
        if self.guarded and size is not None and size > DIRECTORY:
            raise ValueError(f"{self.name}: damaged, or too many arrays ({size:,} bytes of their names)")
        return super().read(-1 if size is None else size)


def _check_member(info: zipfile.ZipInfo, where: str, size: int) -> None:
    if info.flag_bits & 1:
        raise ValueError(f"{where}: encrypted, expected a file as numpy.savez writes it")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{where}: compressed in an unknown way, expected a file as numpy.savez writes it")
    most = info.compress_size * (UNFOLDS if info.compress_type == zipfile.ZIP_DEFLATED else 1)
    if info.compress_size > size or info.file_size > most:
        raise ValueError(f"{where}: damaged ({info.file_size:,} bytes in {info.compress_size:,})")


def _header(file: IO[bytes], where: str, size: int, opened: Callable[[], IO[bytes]]) -> StoredArray:
    """The array whose header ``file`` begins with, in ``size`` bytes in all."""
    start = file.read(8)
    version = start[6:7]
    if start[:6] != b"\x93NUMPY" or version not in (b"\1", b"\2", b"\3"):
        raise ValueError(f"{where}: {_not_an_array(start)}")
    packed = file.read(2 if version == b"\1" else 4)
    length = int.from_bytes(packed, "little")
    if length > HEADER:
        raise ValueError(f"{where}: damaged, or records (a header of {length:,} bytes)")
    text = file.read(length)
    first = 8 + len(packed) + len(text)
    reader = np.lib.format.read_array_header_1_0 if version == b"\1" else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = reader(io.BytesIO(packed + text))
    except Exception:  # the header is a text of Python's, which can fail in any way
        raise ValueError(f"{where}: not a readable .npy file") from None
    if dtype.hasobject:
        raise ValueError(f"{where}: it holds Python objects")
    needed = math.prod(shape) * dtype.itemsize
    if len(shape) > 32 or dtype.itemsize == 0 or any(not 0 <= n < 2**48 for n in shape):
        raise ValueError(f"{where}: damaged (its header says an array of shape {_shape(shape)})")
    if first + needed > size:
        raise ValueError(
            f"{where}: damaged (its header says {needed:,} bytes of numbers, there are {size - first:,})"
        )
    return StoredArray(where, tuple(shape), dtype, fortran, first, opened)


def _not_an_array(start: bytes) -> str:
    several = start[:4] == b"PK\3\4"
    return "several arrays, not an npy file; call it .npz" if several else "not a readable .npy file"


def _shape(shape: tuple[int, ...]) -> str:
    return str(shape) if len(str(shape)) < 100 else f"of {len(shape)} dimensions"
