"""Run experiments beside each other, one thread each: `python experiments/run_all.py [--small] [NAME ...]`.

Prints every claim and exits with 1 when one fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
SHARED = {"study", "pages", "run_all", "drawing"}


def names() -> list[str]:
    """Every experiment."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SHARED)


def one(name: str, small: bool) -> bool:
    """Run an experiment, print what it said, and say whether its claims held."""
    command = [sys.executable, str(HERE / f"{name}.py"), *(["--small"] if small else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    end = "" if done.returncode == 0 else "".join(done.stderr.splitlines(keepends=True)[-20:])
    print(f"{name}\n{done.stdout}{end}", flush=True)
    return done.returncode == 0


def main() -> None:
    """Two at a time, or as many as there are cores."""
    parser = argparse.ArgumentParser(description="Run experiments and check their claims.")
    parser.add_argument("--small", action="store_true", help="in the size of seconds")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}")
    options = parser.parse_args()
    wrong = [name for name in options.names if name not in names()]
    if wrong:
        parser.error(f"there is no experiment {wrong[0]!r}; there are {', '.join(names())}")
    wanted = options.names or names()
    began = time.perf_counter()
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        held = list(pool.map(lambda name: one(name, options.small), wanted))
    failed = [name for name, good in zip(wanted, held) if not good]
    print(f"{len(wanted)} experiments in {time.perf_counter() - began:.0f} s")
    if failed:
        sys.exit(f"claims failed in {', '.join(failed)}")


if __name__ == "__main__":
    main()
