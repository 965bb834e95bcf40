"""One training per folder: a lock that ends with its process and names its holder."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows, where two trainings of one folder are not kept apart
    fcntl = None

__all__ = [
    "LOCK",
    "locked",
]

#: The file that is locked; it stays, and marks a folder as a run.
LOCK = "run.lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``, which is made where it is missing, while the block runs.

    The operating system frees the lock when the process ends, however it ends.  A folder that was made for
    the lock goes when the block fails before anything else is in it.  Raises ValueError that says which
    process of which machine has the lock.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(file, flags, 0o666)
    except OSError as error:
        if file.is_symlink():
            raise ValueError(f"{file}: is a symbolic link, expected a file of the run") from None
        raise OSError(error.errno, f"{file}: cannot be written ({error.strerror})") from None
    try:
        if os.fstat(handle).st_nlink > 1:
            raise ValueError(f"{file}: is a hard link, expected a file that is the run's alone")
        _take(handle, folder)
        try:
            try:
                _tell(
                    handle, {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%F %T")}
                )
            except OSError as error:
                raise OSError(error.errno, f"{file}: cannot be written ({error.strerror})") from None
            yield
        except BaseException:
            if made and [entry.name for entry in folder.iterdir()] == [LOCK]:
                file.unlink()
                folder.rmdir()
            raise
        finally:
            with contextlib.suppress(OSError):
                _tell(handle, {})
    finally:
        os.close(handle)


def _take(handle: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{folder}: is being trained by {_holder(handle)}") from None
    except OSError:  # a file system without locks
        pass


def _tell(handle: int, facts: dict[str, int | str]) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, (json.dumps({"format": 1, **facts}) + "\n").encode(), 0)


def _holder(handle: int) -> str:
    try:
        facts = json.loads(os.pread(handle, 4096, 0))
        return f"process {int(facts['process'])} on {facts['host']!s:.100} since {facts['since']!s:.100}"
    except (ValueError, KeyError, TypeError):
        return "another process"
