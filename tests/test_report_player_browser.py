"""The player of a report in a browser: its controls, and what is seen."""

from typing import Any

import pytest
import torch

from browser import in_frames, needs_browser
from pushforward import random
from pushforward.bijections import Affine, Chain
from pushforward.couplings import Rows
from pushforward.data import ConditionSpec, Schema
from pushforward.flows import BijectiveFlow, ConsistencyFlow, ContinuousFlow
from pushforward.report.loaded_run import LoadedRun
from pushforward.report.page import page
from pushforward.report.player import film, make_player
from pushforward.solvers import Heun
from pushforward.sources import Normal
from report_cases import image_run, labelled_plane, make_run

pytestmark = needs_browser
PHONE, LAPTOP = 390, 1400
TIMES = (0.0, 0.37, 0.5, 1.0)
DARK, STILL = "--blink-settings=preferredColorScheme=0", "--force-prefers-reduced-motion"

#: Moves everything that can be moved, and notes what is then seen.
LOOK = """
const wait = ms => new Promise(done => setTimeout(done, ms));
async function look(frame) {
  const doc = frame.contentDocument, root = doc.querySelector(".player"), found = {};
  if (!root) return { scripts: doc.querySelectorAll("script").length };
  const $ = selector => root.querySelector(selector);
  const canvas = $("canvas"), slider = $("input[type=range]"), button = $("button");
  const box = e => e.getBoundingClientRect();
  const state = () => ({ t: Number(canvas.dataset.t), button: button.textContent });
  const press = (key, on = root) => {
    on.focus();
    on.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    return state();
  };
  const slide = t => {
    slider.value = t;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const choose = (name, value) => {
    const control = $(`[name=${name}]`);
    if (typeof value == "boolean") control.checked = value; else control.value = value;
    control.dispatchEvent(new Event("change", { bubbles: true }));
  };
  // the middle of what has the colour of the particles, in shares of the canvas
  const middle = () => {
    const { width, height } = canvas, copy = document.createElement("canvas");
    Object.assign(copy, { width, height });
    const pen = copy.getContext("2d", { willReadFrequently: true });
    pen.drawImage(canvas, 0, 0);
    const { data } = pen.getImageData(0, 0, width, height);
    let n = 0, x = 0, y = 0, shade = 0;
    for (let i = 0; i < width * height; i++) {
      const r = data[4 * i], g = data[4 * i + 1], b = data[4 * i + 2], a = data[4 * i + 3];
      shade += a / 255 * (r + g + b) / 3;
      if (a > 150 && r > g + 40 && g > b + 20) { n++; x += i % width; y += Math.floor(i / width); }
    }
    return { n, x: x / n / width, y: y / n / height, shade: shade / width / height };
  };
  await wait(100);
  // a clock of our own, 50 ms for each picture
  const view = doc.defaultView;
  let now = 0, asked = [];
  view.performance.now = () => now;
  view.requestAnimationFrame = draw => asked.push(draw);
  const pictures = n => {
    for (; n > 0; n--) {
      now += 50;
      const due = asked;
      asked = [];
      due.forEach(draw => draw(now));
    }
  };
  found.first = state();
  found.shown = !root.hidden && box(root).width;
  found.paper = doc.defaultView.getComputedStyle(doc.body).backgroundColor;
  found.at = [];
  for (const t of TIMES) {
    slide(t);
    found.at.push({ ...state(), positions: root.positions && root.positions(), middle: middle(),
                    said: slider.getAttribute("aria-valuetext") });
  }
  found.home = press("Home"); found.right = press("ArrowRight"); found.more = press("ArrowRight", slider);
  found.left = press("ArrowLeft"); found.end = press("End"); found.space = press(" ");
  pictures(8);
  found.playing = state();
  found.chosen = press("ArrowRight", $("[name=speed]")).t - found.playing.t;
  found.paused = press(" ");
  pictures(3);
  found.still = state();
  if ($("[name=across]")) {
    slide(0.5);
    choose("across", "2");
    found.across = root.positions();
  }
  if ($("[name=colour]"))
    for (const kind of [...$("[name=colour]").options].map(o => o.value)) choose("colour", kind);
  for (const name of ["trails", "density", "data"]) if ($(`[name=${name}]`)) choose(name, false);
  slide(0);
  found.bare = middle();
  choose("speed", "2"); choose("repeat", true); button.click();
  let most = 0, count = 0;
  for (; count < 200 && state().t >= most; count++) { most = state().t; pictures(1); }
  found.repeated = { ...state(), most, pictures: count };
  const all = [...root.querySelectorAll("canvas, button, input, select, label, li, output")];
  const beyond = e => box(e).left < -1 || box(e).right > frame.clientWidth + 1;
  const touched = [...root.querySelectorAll("button, select, label")];
  found.outside = all.filter(beyond).map(e => e.outerHTML);
  found.small = touched.filter(e => box(e).height < 36).map(e => e.outerHTML);
  found.unnamed = [...root.querySelectorAll("input, select")].filter(e => !e.labels.length).length;
  found.slider = box(slider).width;
  found.page = doc.documentElement.scrollWidth;
  found.scripts = doc.querySelectorAll("script").length;
  found.images = doc.querySelectorAll("img").length;
  return found;
}
"""


def moving(path) -> Any:
    """A cloud that moves to the right and up, and in a third column down."""
    velocity = torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64)
    flow = ContinuousFlow(lambda t, x, c: velocity.expand_as(x), Heun(steps=2), Normal(3, scale=0.1).double())
    x = velocity + 0.1 * random.normal((60, 3), random.seeded("moving"), torch.float64)
    columns = ("a", "</script><script>document.title = 'bad'</script><img src=x>", "a name that is long " * 9)
    schema = Schema(name="moving", kind="table", event_shape=(3,), columns=columns)
    return make_run(path, flow, schema, Rows(x[:40]), Rows(x[40:]))


def still(path) -> Any:
    x = random.normal((60, 2), random.seeded("still"))
    schema = Schema(name="still", kind="table", event_shape=(2,), columns=("a", "b"))
    return make_run(
        path, ConsistencyFlow(lambda s, t, x, c: x, Normal(2)), schema, Rows(x[:40]), Rows(x[40:])
    )


def labelled(path) -> Any:
    """Labels whose names are hostile and long."""
    run = labelled_plane(path)
    classes = ("<img src=x onerror=alert(1)>", "a name of many words " * 5, "w" * 60, "s")
    spec = ConditionSpec(kind="labels", columns=("corner",), classes=classes)
    run.schema = Schema(name="l", kind="table", event_shape=(2,), columns=("lat", "lon"), condition=spec)
    return run


def layered(path) -> Any:
    """Twelve layers that each add 0.25 to both columns."""
    flow = BijectiveFlow(Chain(*(Affine(0.25, 1.0) for _ in range(12))), Normal(2, scale=0.1).double())
    x = 3.0 + 0.1 * random.normal((60, 2), random.seeded("layered"), torch.float64)
    schema = Schema(name="layered", kind="table", event_shape=(2,), columns=("a", "b"))
    return make_run(path, flow, schema, Rows(x[:40]), Rows(x[40:]))


RUNS = {"moving": moving, "labelled": labelled, "images": image_run, "layers": layered, "still": still}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What is seen of every player at both widths, in light and dark; and what the console said."""
    folder = tmp_path_factory.mktemp("player")
    pages = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film, "PARTICLES", 200)
        for name, make in RUNS.items():
            player = make_player(LoadedRun(make(folder / name)))
            parts = {"style": player.style, "script": player.script} if player else {}
            pages[name] = page(name, "k", [], "", [player.html if player else ""], **parts)
    sizes = [(name, width) for name in pages for width in (PHONE, LAPTOP)]
    look = f"const TIMES = {list(TIMES)};{LOOK}"
    both = {
        mode: in_frames(folder, [(pages[name], width) for name, width in sizes], look, *flags, seconds=90)
        for mode, flags in {"light": (), "dark": (DARK, STILL)}.items()
    }
    found = {
        (name, width, mode): answer
        for mode, frames in both.items()
        for (name, width), answer in zip(sizes, frames.found, strict=True)
    }
    return found, [line for frames in both.values() for line in frames.console]


PLAYED = [(name, width, mode) for name in ("moving", "labelled", "images", "layers") for width, mode in (
    (PHONE, "light"), (PHONE, "dark"), (LAPTOP, "light"), (LAPTOP, "dark"))]  # fmt: skip


def test_console_is_silent(seen):
    assert seen[1] == []


def test_console_is_heard(tmp_path):
    """A program that the page does not allow is not run, and the browser says so."""
    text = page("t", "k", [], "", ["<script>document.title = 'run'</script>"], script="1;")
    title = "async function look(frame) { return frame.contentDocument.title; }"
    found = in_frames(tmp_path, [(text, PHONE)], title)
    assert found.found == ["t"] and "Content Security Policy" in found.console[0]


@pytest.mark.parametrize("case", PLAYED, ids=str)
def test_controls(seen, case):
    found = seen[0][case]
    # nothing moves by itself: the samples are seen first
    assert found["first"] == {"t": 1, "button": "Play"} and found["shown"] > 300
    assert [at["t"] for at in found["at"]] == list(TIMES)
    said = [f"layer {12 * t:.1f}" if case[0] == "layers" else f"t = {t:.2f}" for t in TIMES]
    assert [at["said"] for at in found["at"]] == said
    assert found["home"]["t"] == 0 and found["end"]["t"] == 1
    assert found["right"]["t"] == pytest.approx(1 / 40) and found["more"]["t"] == pytest.approx(2 / 40)
    assert found["left"]["t"] == pytest.approx(1 / 40)
    # played from the end it begins anew; 8 pictures of .05 seconds, of 4 that the flow takes
    assert found["space"] == {"t": 0, "button": "Pause"}
    assert found["playing"] == {"t": pytest.approx(0.1), "button": "Pause"}
    assert found["paused"]["button"] == "Play"
    # keys that change another control do not move time
    assert found["chosen"] == 0
    assert found["still"] == found["paused"]
    # at the double speed 2 seconds, and the pause of .8; then it begins anew
    assert found["repeated"].pop("pictures") in (56, 57)
    assert found["repeated"] == {"t": 0, "button": "Pause", "most": 1}


@pytest.mark.parametrize("case", PLAYED, ids=str)
def test_nothing_is_cut_or_too_small(seen, case):
    found, width = seen[0][case], case[1]
    assert found["page"] <= width and found["outside"] == [] and found["small"] == []
    assert found["unnamed"] == 0 and found["slider"] > 100
    assert found["scripts"] == 2 and found["images"] == 0
    light = found["paper"] == "rgb(245, 247, 250)"
    assert light == (case[2] == "light")


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
def test_particles_are_where_the_flow_puts_them(seen, tmp_path, width):
    run = moving(tmp_path)
    x0 = run.flow.source.sample(200, None, LoadedRun(run).generator("trajectory", "player"))
    # 16 bits for five times the width of the view, which is at most 4.5
    close = 5 * 4.5 / 65535
    found = seen[0]["moving", width, "light"]
    for t, at in zip(TIMES, found["at"], strict=True):
        truth = run.flow.trajectory(x0, [0.0, t] if t else [0.0, 1.0]).path[1 if t else 0]
        positions = torch.tensor(at["positions"], dtype=torch.float64)
        assert (positions - truth[:, :2]).abs().max() < close
    # between layers on straight lines; a mean of 200 numbers of deviation 0.1, four standard errors
    for t, at in zip(TIMES, seen[0]["layers", width, "light"]["at"], strict=True):
        positions = torch.tensor(at["positions"], dtype=torch.float64)
        assert (positions.mean(0) - 3.0 * t).abs().max() < 4 * 0.1 / 200**0.5 + close
    half = run.flow.trajectory(x0, [0.0, 0.5]).path[1]
    across = torch.tensor(found["across"], dtype=torch.float64)
    assert (across - half[:, [2, 1]]).abs().max() < close


@pytest.mark.parametrize("case", PLAYED[:4], ids=str)
def test_particles_are_drawn_where_they_are(seen, case):
    middles = [at["middle"] for at in seen[0][case]["at"]]
    assert all(middle["n"] > 30 for middle in middles)
    # a cloud that moves by (3, 2) at an even pace, to the right and up
    assert [m["x"] for m in middles] == sorted(m["x"] for m in middles)
    assert [m["y"] for m in middles] == sorted((m["y"] for m in middles), reverse=True)
    assert middles[0]["x"] < 0.35 < 0.65 < middles[3]["x"]
    for axis in "xy":
        a, b, half = (middles[i][axis] for i in (0, 3, 2))
        # the trail, of a fifth of the way behind the cloud, is drawn too
        assert half == pytest.approx((a + b) / 2, abs=0.12 * abs(b - a))


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
def test_images_are_drawn(seen, width):
    """Half of the pixels of images are bright; before t = 0 is noise of the same mean."""
    for mode in ("light", "dark"):
        middles = [at["middle"] for at in seen[0]["images", width, mode]["at"]]
        assert all(0.3 * 255 * 0.4 < middle["shade"] < 0.7 * 255 for middle in middles)


def test_no_player_where_nothing_moves(seen):
    for mode in ("light", "dark"):
        assert seen[0]["still", PHONE, mode] == {"scripts": 0}
