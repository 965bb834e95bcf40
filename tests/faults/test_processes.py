"""Several processes: whoever is left says in one line who is gone; they meet, or say that they do not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from effort import first

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="--devices 2 is refused on one core")

ALL = os.environ.get("FAULTS") == "all"
SMALL = ["--rows", "200", "--batch", "64", "--source", "normal"]
SMALL += ["--folds", "0", "--patience", "0", "--no-report", "--checkpoint-every", "20", "--device", "cpu"]
NETWORK = ["--network", "mlp,width=16,depth=2"]


def start(out: Path, *flags: str, wait: float | None = None, **environment: str) -> subprocess.Popen[str]:
    """Start a training; ``wait`` is how long its processes wait for each other."""
    run = ["-m", "pushforward"]
    if wait is not None:
        lines = ["import sys", "from pushforward.training import processes", f"processes.WAIT = {wait}"]
        run = ["-c", "; ".join([*lines, "from pushforward.cli import main", "sys.exit(main())"])]
    flags = flags if "nsf" in flags else (*NETWORK, *flags)
    command = [sys.executable, *run, "train", "moons", "--out", str(out), *SMALL, *flags]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Exit status and lines, without that of what is trained and those of progress."""
    error = process.communicate(timeout=120)[1]
    lines = [line for line in error.splitlines() if "at most" not in line and "training: step" not in line]
    return process.returncode, lines


def until(condition, seconds: float = 120.0) -> None:
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "waited too long"
        time.sleep(0.05)


def children(process: subprocess.Popen[str]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in listed.read_text().split()] if listed.exists() else []


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("whom", "number", "status", "says"),
    first(
        [
            ("second", signal.SIGKILL, 2, "process 2 of 2 was ended by SIGKILL; what was saved is kept"),
            ("first", signal.SIGKILL, -9, "the first of 2 processes is gone; what was saved is kept"),
            ("first", signal.SIGTERM, 130, "the same command continues it"),
            ("both", signal.SIGINT, 130, "the same command continues it"),
        ]
    ),
)
def test_who_is_left_says_so_in_one_line(
    tmp_path: Path, whom: str, number: int, status: int, says: str
) -> None:
    process = start(tmp_path / "run", "--devices", "2", "--steps", "1000000")
    until((tmp_path / "run" / "state.safetensors").exists)
    (second,) = children(process)
    if whom == "both":
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid if whom == "first" else second, number)
    code, lines = ended(process)
    assert code == status and len(lines) == 1 and says in lines[0], (code, lines)
    until(lambda: gone(second), 20.0)
    state = (tmp_path / "run" / "state.safetensors").stat()
    assert state.st_size > 0
    if whom == "second" or (ALL and number == signal.SIGKILL):  # and one process goes on from there
        process = start(tmp_path / "run", "--steps", "1000000")
        until(lambda: (tmp_path / "run" / "state.safetensors").stat().st_mtime_ns > state.st_mtime_ns)
        process.send_signal(signal.SIGINT)
        code, lines = ended(process)
        assert code == 130 and "resuming the run" in lines[0], (code, lines)


def test_what_all_processes_find_is_told_once(tmp_path: Path) -> None:
    wild = ["--lr", "10", "--weight-decay", "1000", "--warmup", "0", "--clip", "0", "--ema", "0"]
    code, lines = ended(start(tmp_path / "run", "--devices", "2", "--steps", "40", *wild))
    assert code == 2 and len(lines) == 1 and "the loss is not finite at step" in lines[0], (code, lines)


@pytest.mark.thorough
def test_processes_with_a_time_budget_agree_when_it_is_over(tmp_path: Path) -> None:
    process, began = (
        start(tmp_path / "run", "--devices", "2", "--steps", "1000000", "--minutes", "0.2"),
        time.time(),
    )
    code, lines = ended(process)
    assert code == 0 and "trained" in lines[-1], (code, lines)
    assert time.time() - began < 100
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize(
    ("rank", "says"),
    [("0", "1 of 2 processes have come to 127.0.0.1:"), ("1", "nobody answers to 127.0.0.1:")],
)
def test_machines_that_do_not_come_are_waited_for_aloud_and_not_for_ever(
    tmp_path: Path, rank: str, says: str
) -> None:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": rank}
    process = start(tmp_path / "run", "--nodes", "2", "--steps", "5", wait=1.0, **meeting)
    code, (waits, refused) = ended(process)
    assert code == 2 and "waiting up to 0.0166667 minutes for 2 machines at 127.0.0.1:" in waits
    assert refused.startswith("pushforward: --nodes 2: ") and says in refused, refused
    assert not (tmp_path / "run").exists()


def test_machines_meet_and_tell_when_one_of_them_is_gone(tmp_path: Path) -> None:
    """Two on one computer, with the folder that they share."""

    def machines(steps: str) -> list[subprocess.Popen[str]]:
        address, port = "127.0.0.1", str(free_port())
        flags = ["--nodes", "2", "--steps", steps]
        return [
            start(tmp_path / "run", *flags, MASTER_ADDR=address, MASTER_PORT=port, NODE_RANK=rank)
            for rank in "01"
        ]

    for machine in machines("5"):
        code, lines = ended(machine)
        assert code == 0, lines
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2
    before = (tmp_path / "run" / "state.safetensors").stat().st_mtime_ns
    first, second = machines("1000000")
    until(lambda: (tmp_path / "run" / "state.safetensors").stat().st_mtime_ns > before)
    second.kill()
    code, lines = ended(first)
    ended(second)
    assert code == 2 and lines[-1].startswith("pushforward: a process of another machine is gone"), (
        code,
        lines,
    )
    assert len(lines) == 3, lines


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize(
    ("precision", "rate", "steps"),
    [("32-true", "2e-4", 50), ("64-true", "2e-3", 40)][: 2 if ALL else 1],
)
@pytest.mark.thorough
def test_splines_on_two_processes_differ_by_what_rounding_becomes(
    tmp_path: Path, precision: str, rate: str, steps: int
) -> None:
    """The draws are the same, and so is all but rounding.  Training with splines at the default rate
    multiplies that by about a million every 50 steps, in one process as in two; at a tenth of it far less."""
    flags = ["--steps", "60", "--warmup", "20", "--method", "nsf", "--rows", "2500", "--log-every", "1"]
    flags += ["--batch", "256", "--lr", rate, "--precision", precision, "--checkpoint-every", "1000000"]
    for devices in "12":
        code, lines = ended(start(tmp_path / devices, *flags, "--devices", devices))
        assert code == 0, lines
    one, two = (losses(tmp_path / devices)[:steps] for devices in "12")
    assert len(one) == steps
    assert two == pytest.approx(one, rel=1e-6)
