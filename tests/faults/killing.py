"""Commands in forked processes that die at a chosen file operation.

A server imports everything once.  Each command runs in a fork of it, with an audit hook that counts what it
does to files below one folder and ends the process there and then, as ``kill -9`` does; or, in place of one
kill after the other, copies the folder before each operation, as kills at all of them would have left it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

#: Audit events that change files; ``open`` counts too where it is for writing.
CHANGES = (
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
    "os.link",
    "os.symlink",
)
#: Exit status of a process that the hook has killed, and of one that ended by an error that nobody caught.
KILLED, FAILED = 137, 99


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status, what it printed to standard error, file operations it came to."""

    status: int
    error: str
    operations: int


class Server:
    """A process that runs commands in forks of itself."""

    def __init__(self, scratch: Path):
        self.scratch = scratch
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=scratch,
        )

    def run(
        self, arguments: list[str], folder: Path, kill_at: int | None = None, copies: Path | None = None
    ) -> Ended:
        """``pushforward ARGUMENTS``, dying before its ``kill_at``-th change of files below ``folder``.

        copies: where the folder is copied to before each change, under the change's number.
        """
        task = [arguments, str(folder), str(self.scratch), kill_at, copies and str(copies)]
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return Ended(*json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def serve() -> None:
    """Read tasks from standard input, answer on standard output."""
    import lightning_fabric
    import ot
    import rich.console
    import sklearn.mixture

    import pushforward.cli.entry
    import pushforward.inference
    import pushforward.report

    assert lightning_fabric and ot and rich and sklearn and pushforward
    for line in sys.stdin:
        arguments, folder, scratch, kill_at, copies = json.loads(line)
        told, count = Path(scratch) / "told.txt", Path(scratch) / "count.txt"
        count.write_text("0")
        pid = os.fork()
        if pid == 0:
            status = FAILED
            try:
                status = _child(arguments, folder, told, count, kill_at, copies)
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([status, told.read_text(), int(count.read_text())]), flush=True)


def _child(
    arguments: list[str], folder: str, told: Path, count: Path, kill_at: int | None, copies: str | None
) -> int:
    from pushforward.cli import main

    root, number, counter = os.path.abspath(folder), 0, os.open(count, os.O_WRONLY)

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal number
        writes = event in CHANGES or (event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR))
        if not writes or not isinstance(details[0], str | os.PathLike):
            return
        if os.path.abspath(os.fspath(details[0])).startswith(root):
            number += 1
            os.pwrite(counter, str(number).encode(), 0)
            if number == kill_at:
                os._exit(KILLED)
            if copies is not None and os.path.isdir(root):
                shutil.copytree(root, os.path.join(copies, str(number)))

    with told.open("w", buffering=1) as error, open(os.devnull, "w") as nothing:
        os.dup2(error.fileno(), 2)
        sys.addaudithook(watch)
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(nothing):
            return main(arguments)


def content(folder: Path) -> dict[str, object]:
    """What must be equal in an interrupted and an uninterrupted run: weights, metrics, choices, by file."""
    found: dict[str, object] = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.suffix == ".safetensors":
            found[name] = {key: value for key, value in load_file(file).items() if key != "info.seconds"}
        elif file.name in ("config.json", "data.json", "choice.json"):
            found[name] = json.loads(file.read_text())
        elif file.name in ("run.json", "report.json"):
            found[name] = _timeless(json.loads(file.read_text()))
        elif file.name == "metrics.jsonl":
            found[name] = [_timeless(json.loads(line)) for line in file.read_text().splitlines()]
        elif file.suffix == ".png" and file.name != "seconds.png":
            found[name] = file.read_bytes()
        elif file.is_file() and file.name != "run.lock":
            found[name] = None  # that it is there
    return found


def states(copies: Path) -> dict[int, Path]:
    """Copies that differ in more than random names, by number."""
    found: dict[str, int] = {}
    for folder in sorted(copies.iterdir(), key=lambda path: int(path.name)):
        state = hashlib.blake2b()
        for file in sorted(folder.rglob("*")):
            name = re.sub(r"\.[0-9a-f]{8}\.partial", ".partial", str(file.relative_to(folder)))
            state.update(f"{name}:{file.is_file() and file.stat().st_size}".encode())
            if file.is_file() and file.name != "run.lock":
                state.update(file.read_bytes())
        found.setdefault(state.hexdigest(), int(folder.name))
    return {number: copies / str(number) for number in found.values()}


def _timeless(value: object) -> object:
    """Plain data without what depends on the clock and on where a run is."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in ("seconds", "command", "checksum")}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """Names of files that are in one alone or differ."""
    return [name for name in sorted({*one, *other}) if not _same(one.get(name, ...), other.get(name, ...))]


def _same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return a == b


if __name__ == "__main__":
    serve()
