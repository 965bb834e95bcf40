"""Pages in a browser without a window."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None and not os.environ.get("CI"), reason="no Chromium is installed to show the pages in"
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr"
).split()

#: Asks a function `look` about every frame, and writes the answers into the page, which is printed.
ASK = """
addEventListener("load", async () => {
  const found = [];
  for (const frame of document.querySelectorAll("iframe"))
    try { found.push(await look(frame)); } catch (error) { found.push(`${error} ${error.stack}`); }
  document.getElementById("found").textContent = JSON.stringify(found);
});
"""


@dataclass(frozen=True)
class Found:
    """What was found in each frame, and what the browser's console said."""

    found: list[Any]
    console: list[str]


def in_frames(
    folder: Path, frames: Sequence[tuple[str, int]], look: str, *flags: str, seconds: float = 0
) -> Found:
    """What the JavaScript function `look(frame)`, defined by ``look``, returns for each of some pages.

    frames: pages and the CSS pixels that they have across.  seconds: of the browser's time, at most, if
    `look` waits for something.
    """
    frame = '<iframe style="width:{}px;height:800px;border:0" srcdoc="{}"></iframe>'
    shown = "".join(frame.format(width, html.escape(text, quote=True)) for text, width in frames)
    file = folder / "frames.html"
    file.write_text(f"<!doctype html><body>{shown}<pre id=found></pre><script>{look}{ASK}</script>")
    assert BROWSER is not None, "no Chromium is installed"
    waits = [f"--virtual-time-budget={round(1000 * seconds)}"] if seconds else []
    options = [*FLAGS, *flags, *waits, f"--user-data-dir={folder / 'profile'}"]
    command = [BROWSER, *options, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    text = re.search(
        r"<pre id=\"found\">(.*)</pre>", done.stdout[done.stdout.rindex("<pre id=") :], re.DOTALL
    )
    assert text is not None
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Found(json.loads(html.unescape(text[1])), console)
