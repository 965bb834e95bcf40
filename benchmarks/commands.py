"""Seconds of the commands of two checkouts, in turn.

    git worktree add ../before OLDER
    python benchmarks/commands.py run ../before . --repeats 5
    python benchmarks/commands.py page

Each command runs in a process of its own on a small run that the first checkout trains.  What is kept are
the processor seconds (user and system) of the process, which other work changes less than those of a clock,
and the latter too.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from keeping import keep, read, write_page

COMMANDS = {
    "help": ["--help"],
    "info": ["info", "run"],
    "sample": ["sample", "run", "-n", "1000", "-o", "x.csv"],
    "score": ["score", "run", "rows.csv", "-o", "scores.csv"],
    "report": ["report", "run"],
}


def timed(checkout: Path, arguments: list[str], folder: Path) -> tuple[float, float]:
    """Processor seconds and seconds of one command."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve() / "src"), "OMP_NUM_THREADS": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "pushforward.cli", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, end - start


def run(before: Path, after: Path, repeats: int, wanted: list[str]) -> None:
    """Time every command, the two checkouts taking turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = ["train", "moons", "--network", "mlp", "--steps", "200", "--no-report", "--out", "run"]
        timed(before, train, folder)
        timed(before, ["sample", "run", "-n", "1000", "-o", "rows.csv"], folder)
        for turn in range(repeats):
            for command in wanted:
                for which, checkout in (("before", before), ("after", after)):
                    used, seconds = timed(checkout, COMMANDS[command], folder)
                    row = {"command": command, "which": which, "turn": turn}
                    keep("commands", {**row, "processor": round(used, 3), "clock": round(seconds, 3)})


def page() -> None:
    """Medians as a section of docs/benchmarks.md."""
    rows = []
    for command in COMMANDS:
        mine = [row for row in read("commands") if row["command"] == command]
        if not mine:
            continue
        found: dict[str, float] = {}
        for kind in ("processor", "clock"):
            for which in ("before", "after"):
                values = [row[kind] for row in mine if row["which"] == which]
                found[f"{kind} {which}"] = statistics.median(values)
        rows.append(
            {
                "command": f"`{COMMANDS[command][0]}`",
                "runs": len(mine) // 2,
                "processor s before": f"{found['processor before']:.2f}",
                "after": f"{found['processor after']:.2f}",
                "after / before": f"{found['processor after'] / found['processor before']:.2f}",
                "clock s before": f"{found['clock before']:.2f}",
                "after ": f"{found['clock after']:.2f}",
            }
        )
    note = (
        "Processor seconds (user and system) of whole commands, medians. Before, SciPy, scikit-learn, pandas "
        "and torch's compiler were loaded by whatever opened a run. The checkouts take turns on a machine of "
        "two cores that other processes used at the same time: the seconds of the clock are up to several "
        "times those of an idle machine. `sample` and `score`: 1,000 rows of two moons, flow matching."
    )
    command = "python benchmarks/commands.py run BEFORE AFTER && python benchmarks/commands.py page"
    write_page("commands", "Seconds of a command", note, command, rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["run", "page"])
    parser.add_argument("checkouts", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS))
    args = parser.parse_args()
    if args.what == "run":
        before, after = args.checkouts
        run(before, after, args.repeats, args.commands)
    else:
        page()


if __name__ == "__main__":
    main()
