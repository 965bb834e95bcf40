"""Start, connect and watch the processes of a run, so that none waits for one that has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from ..config import ComputeConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    # torch exports these without naming them in `__all__`
    from torch.distributed import TCPStore  # type: ignore[reportPrivateImportUsage]

#: Seconds that the processes of a run wait for each other at its start.
WAIT = 300.0
#: Seconds in which a process that has lost another is to notice by itself; then it is ended.
GRACE = 5.0
#: What programs that start all processes themselves tell each of them.
STARTERS = ("LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
#: What the user tells each of several machines, and what a process tells those that it starts: its own id.
MEETING, STARTED_BY = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"), "PUSHFORWARD_STARTED_BY"
#: Words of errors of connections between processes.
CONNECTIONS = ("gloo", "NCCL", "Connection closed", "Connection reset")
#: What a loss leaves.
REST = "what was saved is kept, and the same command continues it"


class LostProcess(RuntimeError):
    """Another process of the run is gone; without it training cannot go on."""


def check_nodes(c: ComputeConfig) -> None:
    """Raise ValueError if several machines are requested without an address where they meet."""
    if c.nodes == 1 or any(name in os.environ for name in STARTERS):
        return
    how = (
        f"run the same command on each of {c.nodes} machines with MASTER_ADDR (the first one's address), "
        f"MASTER_PORT (a free port there) and NODE_RANK (0 to {c.nodes - 1}) set, or by torchrun or srun"
    )
    missing = [name for name in MEETING if name not in os.environ]
    if missing:
        raise ValueError(f"--nodes {c.nodes}: {', '.join(missing)} not set; {how}")
    for name, high in (("MASTER_PORT", 65535), ("NODE_RANK", c.nodes - 1)):
        text = os.environ[name]
        if not (text.isascii() and text.isdigit() and int(text) <= high):
            raise ValueError(f"--nodes {c.nodes}: expected {name} from 0 to {high}, got {text!r}; {how}")


def launch(fabric: Fabric, c: ComputeConfig, say: Callable[[str], None] = lambda text: None) -> None:
    """Start the other processes of this machine, unless a scheduler has, and wait for all of the run.

    Each runs the command of this one again.  Raises ValueError where there is no command to repeat,
    TimeoutError where not all have come in :data:`WAIT` seconds.
    """
    import torch

    world, parent = c.devices * c.nodes, os.environ.get(STARTED_BY)
    starts = parent is None and not any(name in os.environ for name in STARTERS)
    if world > 1 and (starts or parent is not None) and not torch.distributed.is_initialized():
        backend = "nccl" if fabric.device.type == "cuda" else "gloo"
        rank = int(os.environ.get("NODE_RANK", "0")) * c.devices + int(os.environ.get("LOCAL_RANK", "0"))
        if starts:
            store = _start_others(c, rank, say)
        else:
            assert parent is not None
            _Peers.now = _Peers([], int(parent), world)
            store = _meet(c, rank, say)
        _gather(store, c)
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world)
    fabric.launch()


def _start_others(c: ComputeConfig, rank: int, say: Callable[[str], None]) -> TCPStore:
    """Start the processes of this machine but this one; where all meet."""
    if len(sys.orig_argv) < 2 or sys.orig_argv[1] == "-" or hasattr(sys, "ps1"):
        raise ValueError(
            f"--devices {c.devices}: each process runs the script again, and there is none; use a file"
        )
    os.environ.update(LOCAL_RANK="0", WORLD_SIZE=str(c.devices * c.nodes))
    os.environ.setdefault("NODE_RANK", "0")
    if c.nodes == 1:
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", "0"
    peers = _Peers.now = _Peers([], None, c.devices * c.nodes)
    store = _meet(c, rank, say) if rank == 0 else None
    if c.nodes == 1:
        assert store is not None
        os.environ["MASTER_PORT"] = str(store.port)
    for local in range(1, c.devices):
        told = {**os.environ, "LOCAL_RANK": str(local), STARTED_BY: str(os.getpid())}
        peers.others.append(subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=told))
    return _meet(c, rank, say) if store is None else store


def _meet(c: ComputeConfig, rank: int, say: Callable[[str], None]) -> TCPStore:
    """Where the processes of a run meet: the first one opens it, the others look for it."""
    # torch exports these without naming them in `__all__`
    from torch.distributed import DistError, TCPStore  # type: ignore[reportPrivateImportUsage]

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if c.nodes > 1 and os.environ["LOCAL_RANK"] == "0":
        say(f"waiting up to {WAIT / 60:g} minutes for {c.nodes} machines at {address}:{port}")
    if rank == 0:
        try:
            return TCPStore(address, port, is_master=True, wait_for_workers=False)
        except DistError as error:
            raise OSError(f"MASTER_ADDR, MASTER_PORT: cannot listen at {address}:{port} ({error})") from None
    last = time.monotonic() + WAIT
    while True:  # short tries, between which an interruption is heard
        _stay_together()
        try:
            socket.create_connection((address, port), 2).close()
            return TCPStore(address, port, is_master=False, timeout=timedelta(seconds=20))
        except (OSError, DistError):
            if time.monotonic() > last:
                raise TimeoutError(_not_met(c, "nobody answers")) from None
            time.sleep(0.1)


def _gather(store: TCPStore, c: ComputeConfig) -> None:
    """Wait until all processes have come to ``store``."""
    last, come = time.monotonic() + WAIT, store.add("come", 1)
    while come < c.devices * c.nodes:
        if time.monotonic() > last:
            raise TimeoutError(_not_met(c, f"{come} of {c.devices * c.nodes} processes have come"))
        time.sleep(0.05)
        _stay_together()
        come = store.add("come", 0)


def _stay_together() -> None:
    """Raise LostProcess where another process of this machine is gone."""
    loss = None if _Peers.now is None else _Peers.now.loss()
    if loss is not None:
        raise loss


def _not_met(c: ComputeConfig, what: str) -> str:
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    if c.nodes == 1:
        return f"--devices {c.devices}: {what} after {WAIT / 60:g} minutes"
    return (
        f"--nodes {c.nodes}: {what} to {place} after {WAIT / 60:g} minutes; run the same command on every "
        f"machine, with NODE_RANK from 0 to {c.nodes - 1}"
    )


class _Peers(threading.Thread):
    """Watches the other processes of this machine.

    others: those that this one has started.  parent: the process that has started this one.
    """

    #: that of this process, None where there is but one
    now: _Peers | None = None

    def __init__(self, others: list[subprocess.Popen[bytes]], parent: int | None, world: int):
        super().__init__(daemon=True, name="peers")
        self.others, self.parent, self.world = others, parent, world
        self._left = threading.Event()
        self.start()

    def lost(self) -> str | None:
        """A text that names the process that is gone; None if all are there or have finished."""
        if self.parent is not None and os.getppid() != self.parent:
            return f"the first of {self.world} processes is gone; {REST}"
        for number, other in enumerate(list(self.others), 2):
            code = other.poll()
            if code:
                how = f"was ended by {_signal(-code)}" if code < 0 else f"ended with exit status {code}"
                return f"process {number} of {self.world} {how}; {REST}"
        return None

    def loss(self) -> LostProcess | None:
        """The error for the process that is gone; without text if another process reports it."""
        words = self.lost()
        speaks = self.parent is None or os.environ.get("LOCAL_RANK") == "1"
        return None if words is None else LostProcess(words if speaks else "")

    def run(self) -> None:
        loss = self.loss()
        while loss is None:
            time.sleep(0.2)
            loss = self.loss()
        # whoever waits in a collective of another process is told there, or never
        if not self._left.wait(GRACE):
            if str(loss):
                print(f"pushforward: {loss}", file=sys.stderr, flush=True)
            self.end()
            os._exit(2)

    def leave(self) -> None:
        """From here on this process ends by itself."""
        self._left.set()

    def end(self) -> None:
        """End the processes that this one has started."""
        for number, signalled in ((signal.SIGTERM, 3.0), (getattr(signal, "SIGKILL", signal.SIGTERM), 3.0)):
            for other in self.others:
                if other.poll() is None:
                    other.send_signal(number)
            for other in self.others:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    other.wait(signalled)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def together() -> Iterator[None]:
    """An error in the block also ends the other processes of this machine.

    An error that follows from the loss of another process is raised as :class:`LostProcess`.
    """
    try:
        yield
    except BaseException as error:
        peers = _Peers.now
        if peers is None:
            raise
        told = isinstance(error, ValueError | OSError) or type(error).__module__.startswith("pushforward")
        # a connection breaks before the process at its other end is seen to be gone; and what all find, the
        # first tells, who meanwhile ends the others
        waits = isinstance(error, Exception) and not (told and peers.parent is None)
        loss, last = peers.loss(), time.monotonic() + (2.0 if waits else 0.0)
        while loss is None and time.monotonic() < last:
            time.sleep(0.05)
            loss = peers.loss()
        peers.leave()
        peers.end()
        if loss is None and any(word in str(error) for word in CONNECTIONS):
            loss = LostProcess(f"a process of another machine is gone ({str(error)[:100]}...); {REST}")
        if loss is None or told or not isinstance(error, Exception):
            raise
        raise loss from error
