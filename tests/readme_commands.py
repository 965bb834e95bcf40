"""Run every ``sh`` and ``python`` block of a Markdown file, as its reader would, in a scratch folder.

python tests/readme_commands.py README.md

Blocks that call make are run by the continuous integration itself and left out here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.M | re.S)


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of every fenced block that can be run."""
    return [(kind, code) for kind, code in BLOCK.findall(text) if not re.search(r"^make ", code, re.M)]


def main(path: str) -> int:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        for kind, code in blocks(Path(path).read_text()):
            command = (
                ["bash", "-euxo", "pipefail", "-c", code] if kind == "sh" else [sys.executable, "-c", code]
            )
            start = time.monotonic()
            done = subprocess.run(command, cwd=folder, env=environment)
            print(f"-- {kind} block: exit {done.returncode}, {time.monotonic() - start:.0f} s", flush=True)
            if done.returncode:
                print(code)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
