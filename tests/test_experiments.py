"""Claims of experiments are checked, and pages say what was stored. `make experiments` runs them."""

from __future__ import annotations

import ast
import inspect
import json
import math
import subprocess
import sys
from pathlib import Path

import pages
import pytest
import run_all
from matplotlib.figure import Figure
from study import Study

ROOT = Path(__file__).parents[1]

STORED = pages.stored()


def test_claims_hold_or_not() -> None:
    study = Study(small=True)
    study.check("small enough", 1.0, at_most=1.0)
    study.check("large enough", 1.0, at_least=1.0)
    study.check("near", 1.1, near=1.0, within=0.2)
    assert study.holds
    study.check("nothing", math.nan, at_most=1.0)
    assert [check["holds"] for check in study.checks] == [True, True, True, False]
    assert not study.holds


@pytest.mark.parametrize("claim", [{}, {"near": 1.0}, {"at_most": 1.0, "at_least": 0.0}])
def test_a_claim_says_what_is_expected(claim: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a check needs one of"):
        Study(small=True).check("what?", 1.0, **claim)


def test_pictures_have_names_of_their_own() -> None:
    study = Study(small=True)
    study.figure("one", Figure(figsize=(1, 1)), "nothing")
    study.movie("one", [Figure(figsize=(1, 1), facecolor=c) for c in ("white", "black")], "a change")
    assert study.files["one.png"].startswith(b"\x89PNG") and study.files["one.webp"][8:12] == b"WEBP"
    with pytest.raises(ValueError, match=r"there is a picture one\.png already"):
        study.figure("one", Figure(figsize=(1, 1)), "nothing")


@pytest.mark.parametrize(("measured", "status"), [(0.5, 0), (1.5, 1)])
def test_a_claim_that_fails_is_an_exit_status(measured: float, status: int, tmp_path: Path) -> None:
    """From the command line, into the folder of small results; the page says which claim failed."""
    file = tmp_path / "claim.py"
    body = f'"""# A claim\n\nIs it so?\n"""\nimport sys\nsys.path.insert(0, {str(ROOT / "experiments")!r})\n'
    body += f"import study\nfrom pathlib import Path\nstudy.ROOT = study.SMALL = Path({str(tmp_path)!r})\n"
    file.write_text(body + f"study.main(lambda s: s.check('it is', {measured}, at_most=1.0))\n")
    done = subprocess.run([sys.executable, file, "--small"], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert ("holds  it is" if status == 0 else "FAILS  it is") in done.stdout
    result = json.loads((tmp_path / "claim" / "result.json").read_text())
    assert pages.page({**result, "items": []}).startswith("# A claim\n\nIs it so?\n")
    assert ("| yes |" if status == 0 else "| **no** |") in pages.claims(result["checks"])


def test_unknown_experiment() -> None:
    command = [sys.executable, str(ROOT / "experiments" / "run_all.py"), "--small", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "there is no experiment 'nothing'" in done.stderr


def test_each_experiment_has_its_page() -> None:
    found = run_all.names()
    order = [*pages.ORDER, *sorted(set(found) - set(pages.ORDER))]
    assert [result["name"] for result in STORED] == [name for name in order if name in found]
    assert all(result["size"] == "full" for result in STORED)


@pytest.mark.parametrize("result", STORED, ids=lambda result: result["name"])
def test_pages_are_what_was_stored(result: dict[str, object]) -> None:
    """Page, text of the file and stored pictures belong together, and every claim on a page holds."""
    name = str(result["name"])
    assert (pages.DOCS / f"{name}.md").read_text() == pages.page(result)
    source = (ROOT / "experiments" / f"{name}.py").read_text()
    assert inspect.cleandoc(ast.get_docstring(ast.parse(source)) or "") == result["text"]
    assert isinstance(result["items"], list) and isinstance(result["checks"], list)
    pictures = {item["file"] for item in result["items"] if item["kind"] == "picture"}
    assert pictures == {path.name for path in (pages.DOCS / name).iterdir() if path.suffix != ".json"}
    assert all(check["holds"] for check in result["checks"])


def test_excerpts_are_whole_sentences() -> None:
    cut = "of which nothing is left. It asks (Liu et al. 2023): why? It says that"
    assert pages.whole_sentences(cut) == "It asks (Liu et al. 2023): why?"
    assert pages.whole_sentences("where all of it holds if") == ""


def test_the_leading_page_is_what_was_stored() -> None:
    assert (pages.DOCS / "index.md").read_text() == pages.contents(STORED)
