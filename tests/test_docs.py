"""The documentation does what it says: its code prints what stands there, its links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import forks
from pushforward.entries import KINDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"-?\d+\.\d*(?:e[+-]?\d+)?")
FILE = re.compile(r"# (\w+\.py)\n")

#: Printed figures of trained models differ a little between machines and numbers of threads.
RELATIVE, ABSOLUTE = 0.1, 0.02


class Block(NamedTuple):
    """A fenced block: its language, its text, its first line in the page."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Blocks that are run (python, sh) or are the output of the block before (text)."""
    text = page.read_text()
    found = (Block(m[1], m[2], text[: m.start()].count("\n") + 1) for m in FENCE.finditer(text))
    return [block for block in found if block.kind in ("python", "sh", "text")]


def same_output(printed: str, written: str) -> bool:
    """Equal words; equal numbers where they have a decimal point up to the tolerance."""
    a, b = printed.split(), written.split()
    if len(a) != len(b) or any(NUMBER.sub("#", x) != NUMBER.sub("#", y) for x, y in zip(a, b)):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(written), strict=True)
    return all(float(x) == pytest.approx(float(y), rel=RELATIVE, abs=ABSOLUTE) for x, y in pairs)


def test_output_is_compared() -> None:
    assert same_output("loss 0.501\n", "loss  0.5012")
    assert not same_output("loss 0.7", "loss 0.5")
    assert not same_output("12 rows", "13 rows")
    assert not same_output("a b", "a")


def run_python(page: Path, block: Block, names: dict[str, Any]) -> str:
    """Run a block in ``names``, return what it printed; one that begins ``# name.py`` also makes a file."""
    file = FILE.match(block.text)
    if file:
        Path(file[1]).write_text(block.text)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        # the empty lines make tracebacks point into the page
        exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
    return out.getvalue()


def run_shell(block: Block, programs: Path) -> str:
    """Run a block in bash, with ``programs`` and then this environment's commands first on the path."""
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    modules = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PATH": path, "PYTHONPATH": modules}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_page_runs(
    page: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = forks.commands(tmp_path_factory.mktemp("programs"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    names: dict[str, Any] = {"__name__": f"docs_{page.stem}"}
    printed = ""
    try:
        with torch.random.fork_rng(devices=[]):
            for block in blocks(page):
                where = f"{page.name}, line {block.line}"
                if block.kind == "text":
                    assert same_output(printed, block.text), f"{where}: the block prints\n{printed}"
                elif block.kind == "sh":
                    printed = run_shell(block, programs)
                else:
                    printed = run_python(page, block, names)
    finally:
        for name in set(sys.modules) - known:
            if Path(getattr(sys.modules[name], "__file__", None) or "").parent == tmp_path:
                del sys.modules[name]


# -- links and lists ---------------------------------------------------------------------------------


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]+`", "", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Sphinx and GitHub make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def listed(index: Path) -> set[str]:
    """What the index leads to."""
    trees = re.findall(r"```{toctree}\n(.*?)```", index.read_text(), re.S)
    return {line.strip() for tree in trees for line in tree.splitlines()}


def test_every_page_is_in_the_index() -> None:
    assert {page.stem for page in PAGES} - {"index"} <= listed(DOCS / "index.md")
    api = DOCS / "api"
    assert {page.stem for page in api.glob("*.md")} - {"index"} <= listed(api / "index.md")


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("kind", KINDS)
def test_methods_page_names_everything_registered(kind: str) -> None:
    text = (DOCS / "methods.md").read_text()
    cells = {cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.split("|")}
    wanted: set[str] = set()
    for name, entry in KINDS[kind].entries.items():
        wanted.add(f"`{name}`")
        if KINDS[kind].abstract:
            wanted.add(f"`{entry.target.rpartition(':')[2]}`")
        for paper in re.findall(r"(?:arXiv|doi) ([^\s;,]+)", entry.paper):
            assert paper in text, f"{name}: {paper}"
    assert wanted <= cells


def test_every_public_module_has_an_api_page() -> None:
    folder = ROOT / "src" / "pushforward"
    public = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    public |= {path.name for path in folder.iterdir() if (path / "__init__.py").exists()}
    assert public - {"cli"} <= {page.stem for page in (DOCS / "api").glob("*.md")}
