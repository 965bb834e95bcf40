"""The pages of reports in a browser, at the width of a telephone and of a laptop."""

from typing import Any

import pytest
import torch

from browser import in_frames, needs_browser
from pushforward import random
from pushforward.couplings import Rows
from pushforward.data import Schema
from pushforward.flows import ContinuousFlow
from pushforward.oracles import GaussianMixtureOracle
from pushforward.report import build, compare
from pushforward.report.budget import BUDGET, Budget
from pushforward.report.page import Section, Table, page
from pushforward.solvers import Heun
from pushforward.sources import GaussianMixture, Normal
from report_cases import image_run, labelled_plane, make_run, table_run

pytestmark = needs_browser
#: CSS pixels across: a telephone and a laptop.
PHONE, LAPTOP = 390, 1200

#: Looks at the document of a frame.
LOOK = """
const shown = e => { const b = e.getBoundingClientRect(); return b.width > 0 && b.height > 0; };
function look(frame) {
  const doc = frame.contentDocument, root = doc.documentElement, wide = frame.clientWidth;
  const all = [...doc.querySelectorAll("main *")].filter(shown);
  const box = e => e.getBoundingClientRect();
  const name = e => e.tagName + "." + e.className + " " + e.textContent.slice(0, 40);
  const style = (e, part) => doc.defaultView.getComputedStyle(e, part);
  const cut = e => e.scrollWidth > e.clientWidth + 1 && style(e).overflowX != "visible";
  return {
    page: root.scrollWidth,
    outside: all.filter(e => box(e).left < -1 || box(e).right > wide + 1).map(name),
    cut: all.filter(cut).map(name),
    tables: [...doc.querySelectorAll("table")].map(t => ({
      heads: [...t.querySelectorAll("thead th")].map(e => e.textContent),
      rows: [...t.querySelectorAll("tbody tr")].map(r => [...r.cells].map(e => ({
        text: e.textContent, seen: shown(e), left: box(e).left, top: box(e).top,
        head: style(e, "::before").content.replaceAll('"', "") }))) })),
    images: [...doc.querySelectorAll("img")].map(e => ({
      alt: e.alt, natural: e.naturalWidth, across: box(e).width,
      high: box(e).height, tall: e.naturalHeight })),
  };
}
"""


def look(folder, *frames: tuple[str, int]) -> list[dict[str, Any]]:
    """What a browser shows of every page, each in a frame of so many pixels."""
    return in_frames(folder, frames, LOOK).found


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Reports of several kinds of data, at both widths."""
    folder = tmp_path_factory.mktemp("browser")
    generator = random.seeded("browser")

    mixture = GaussianMixture(torch.zeros(1, 5, 2, dtype=torch.float64), 1.0)
    x = mixture.sample(60, None, generator)
    waves = ContinuousFlow(GaussianMixtureOracle(mixture), Heun(steps=2), Normal((5, 2)).double())
    schema = Schema(name="waves", kind="array", event_shape=(5, 2))
    long = tuple(f"a column whose name is_quite_long_{i} (micrograms per litre)" for i in range(4))
    rows = random.normal((90, 4), generator, torch.float64).split([60, 30])
    columns = Schema(name="a" * 80, kind="table", event_shape=(4,), columns=long)
    runs = {
        "plane": labelled_plane(folder / "plane"),
        "images": image_run(folder / "images"),
        "series": make_run(folder / "series", waves, schema, Rows(x[:45]), Rows(x[45:])),
        "columns": table_run(folder / "columns", Normal(4).double(), *rows, schema=columns),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Budget, "cost", BUDGET / 1e5)
        pages = {name: build(run, samples=60).read_text() for name, run in runs.items()}
    both = compare(runs["plane"].path, runs["columns"].path, folder / "both.html")
    pages["comparison"] = both.read_text()
    sizes = [(name, width) for name in pages for width in (PHONE, LAPTOP)]
    found = look(folder, *((pages[name], width) for name, width in sizes))
    return dict(zip(sizes, found, strict=True))


NAMES = ("plane", "images", "series", "columns", "comparison")


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut(seen, name, width):
    found = seen[name, width]
    assert found["page"] <= width
    assert found["outside"] == [] and found["cut"] == []
    for table in found["tables"]:
        for row in table["rows"]:
            assert len(row) == len(table["heads"]) and all(cell["seen"] for cell in row), row


@pytest.mark.parametrize("name", NAMES)
def test_cells_say_their_column_on_a_telephone(seen, name):
    for table in seen[name, PHONE]["tables"]:
        heads = table["heads"][1:] if len(table["heads"]) > 2 else ["none"]
        for row in table["rows"]:
            assert [cell["head"] for cell in row[1:]] == heads
    # on a laptop the columns stand beside each other, under their heads
    for table in seen[name, LAPTOP]["tables"]:
        for row in table["rows"]:
            lefts = [cell["left"] for cell in row]
            assert lefts == sorted(set(lefts)) and {cell["head"] for cell in row} == {"none"}


@pytest.mark.parametrize("name", NAMES)
def test_figures_can_be_read_on_a_telephone(seen, name):
    narrow, wide = seen[name, PHONE]["images"], seen[name, LAPTOP]["images"]
    assert len(narrow) == len(wide) >= 3
    for image in narrow:
        assert image["natural"] > 0 and image["across"] > 300, image["alt"]
        # 9 points are 9 / 72 * 150 of the image's dots; at least 8 pixels are shown of them.
        assert 9 / 72 * 150 * image["across"] / image["natural"] > 8, image["alt"]
        assert image["high"] / image["tall"] == pytest.approx(image["across"] / image["natural"], rel=0.01)
    # what is wide on a laptop is another image on a telephone, higher than wide
    for small, large in zip(narrow, wide):
        if large["across"] > 700:
            assert small["natural"] < large["natural"] and small["alt"] == large["alt"]


def test_a_table_of_many_columns_and_long_words(tmp_path):
    head = ["setting", *(f"run {i}" for i in range(5))]
    word = "/a/folder/" + "deep/" * 20
    text = page("t", "k", [], "", [Section("s", tables=[Table(head, [["path", *[word] * 5]])]).html()])
    phone, laptop = look(tmp_path, (text, PHONE), (text, LAPTOP))
    for found, width in ((phone, PHONE), (laptop, LAPTOP)):
        assert found["page"] <= width and found["cut"] == found["outside"] == []
