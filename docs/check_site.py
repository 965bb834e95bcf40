"""Check the built site: links inside it lead somewhere, pictures are there, and its search finds pages.

python docs/check_site.py [FOLDER]       # docs/_build/html by default; exits with 1 if anything is wrong
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

#: What is searched for, and a page that must be found by it.
SEARCHES = {"sinkhorn": "api/couplings.html", "rectified": "experiments/rectified_flow.html"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.add(value)
            if value and name in ("id", "name"):
                self.anchors.add(value)


def broken(folder: Path) -> list[str]:
    """Links of the pages in a folder that lead nowhere, as lines."""
    pages = {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    wrong = []
    for path, page in pages.items():
        for link in sorted(page.links):
            address, anchor = urldefrag(link)
            if urlsplit(address).scheme or address.startswith("//"):
                continue  # of another site
            goal = path if not address else (path.parent / unquote(urlsplit(address).path)).resolve()
            known = pages[goal].anchors if goal in pages else set()
            if not goal.is_file() or (anchor and unquote(anchor) not in known):
                wrong.append(f"{path.relative_to(folder)}: {link}")
    return wrong


def unfound(folder: Path) -> list[str]:
    """Searches that do not find what they should, in a headless browser."""
    wrong = []
    for words, goal in SEARCHES.items():
        with tempfile.TemporaryDirectory() as profile:
            flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
            flags += [f"--user-data-dir={profile}", "--allow-file-access-from-files", "--dump-dom"]
            address = (folder / "search.html").as_uri() + f"?q={words}"
            done = subprocess.run(
                [str(BROWSER), *flags, address], capture_output=True, text=True, timeout=120
            )
        if goal not in done.stdout:
            wrong.append(f"search for {words!r} does not find {goal}")
    return wrong


def main() -> None:
    """Print what is wrong."""
    usual = Path(__file__).parent / "_build" / "html"
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else usual).resolve()
    wrong = broken(folder)
    if BROWSER:
        wrong += unfound(folder)
    else:
        print("no Chromium: search is not tried", file=sys.stderr)
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(list(folder.rglob('*.html')))} pages, every link leads somewhere")


if __name__ == "__main__":
    main()
