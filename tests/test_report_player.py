"""The player of a report: what it holds is where the flow puts its points, and nothing else."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from effort import first
from pushforward import random
from pushforward.bijections import Affine, Bijection, Chain, Permutation
from pushforward.couplings import Rows
from pushforward.data import Schema
from pushforward.flows import VAE, BijectiveFlow, ConsistencyFlow, ContinuousFlow, DiffusionFlow, Transformed
from pushforward.flows.image_flows import glow, tarflow
from pushforward.flows.normalizing import maf
from pushforward.oracles import GaussianMixtureOracle
from pushforward.report.left_out import LeftOut
from pushforward.report.loaded_run import LoadedRun
from pushforward.report.page import page
from pushforward.report.player import make_player
from pushforward.report.player.film import TIMES
from pushforward.solvers import EulerMaruyama, Heun
from pushforward.sources import Empirical, GaussianMixture, Normal
from report_cases import image_run, labelled_plane, make_run, plane_run


def packed(run) -> dict[str, Any]:
    """The data of the player of a run, as a browser would read them."""
    player = make_player(LoadedRun(run))
    assert player is not None
    data = re.findall(r'<script type="application/json">(.*?)</script>', player.html, re.DOTALL)
    assert len(data) == 1
    return json.loads(data[0])


def positions(data: dict[str, Any]) -> np.ndarray:
    """``(T, n, columns)`` of what is packed."""
    found = []
    for text, (low, high) in zip(data["states"], data["ranges"], strict=True):
        integers = np.frombuffer(base64.b64decode(text), "<u2").reshape(len(data["times"]), data["count"])
        found.append(low + (high - low) * integers.astype(float) / 65535)
    return np.stack(found, -1)


def rounding(data: dict[str, Any]) -> np.ndarray:
    """Half a step of the integers, by column; a little more for the rounding of the numbers themselves."""
    return np.array([0.51 * (high - low) / 65535 for low, high in data["ranges"]])


def starts(run, count: int, *parts: str) -> torch.Tensor:
    """The source points of a report's player."""
    loaded = LoadedRun(run)
    condition = loaded.condition(loaded.test, count)
    return loaded.core.source.sample(count, condition, loaded.generator(*parts))


def test_particles_are_where_the_trajectory_is(tmp_path):
    run = plane_run(tmp_path)
    data = packed(run)
    assert data["names"] == ["east, km", "north, km"] and data["count"] == 1500
    assert data["times"] == pytest.approx([i / 40 for i in range(TIMES)])
    x0 = starts(run, 1500, "trajectory", "player")
    truth = run.flow.trajectory(x0, data["times"]).path.numpy()
    # solved in parts of 1,024 rows, whose step sizes are each row's own
    inside = np.all(
        [(truth[..., i] > low) & (truth[..., i] < high) for i, (low, high) in enumerate(data["ranges"])], 0
    )
    assert inside.mean() > 0.999
    gap = np.abs(positions(data) - truth)[inside]
    assert (gap < rounding(data) + 1e-4).all()
    # the view holds nearly all of both ends and of the data
    for i, (low, high) in enumerate(data["views"]):
        for cloud in (truth[0], truth[-1], run.dataset.test.x.numpy()):
            assert np.mean((cloud[:, i] > low) & (cloud[:, i] < high)) > 0.99
    held = [np.frombuffer(base64.b64decode(text), "<u2") for text in data["data"]]
    assert [len(column) for column in held] == [len(LoadedRun(run).reference.x)] * 2


def test_labels_go_with_their_particles(tmp_path):
    run = labelled_plane(tmp_path)
    data = packed(run)
    # longitude is drawn across, though it comes second
    assert data["names"] == ["lon", "lat"] and len(data["labels"]) == data["count"]
    last, labels = positions(data)[-1], np.array(data["labels"])
    angle = labels * np.pi / 2
    corner = np.stack([np.sin(angle), np.cos(angle)], 1)
    assert set(labels) == {0, 1, 2, 3}
    # the corners' clouds have deviation .25: an end five of them from its own corner is one of another
    assert (np.linalg.norm(last - corner, axis=1) < 1.25).mean() > 0.99


def test_noise_and_two_ends_of_data(tmp_path):
    """A stochastic flow from one set of rows to another: equal draws give the end of `push`."""
    rows = random.normal((90, 2), random.seeded("rows"), torch.float64)
    flow = DiffusionFlow(
        lambda t, x, condition: torch.ones_like(x), 0.5, EulerMaruyama(steps=8), Empirical(rows[:45] - 1.0)
    )
    schema = Schema(name="two ends", kind="table", event_shape=(2,), columns=("a", "b"))
    run = make_run(tmp_path, flow, schema, Rows(rows[:60]), Rows(rows[60:]))
    data, loaded = packed(run), LoadedRun(run)
    generator = loaded.generator("player")
    x0 = flow.source.sample(1500, None, generator)
    end = flow.push(x0, None, generator).numpy()
    found = positions(data)
    assert (np.abs(found[0] - x0.numpy()) < rounding(data)).all()
    assert (np.abs(found[-1] - end) < rounding(data)).all()
    # rows that the source is made of, and no others
    distance = np.abs(found[0][:, None] - (rows[:45] - 1.0).numpy()[None]).max(-1).min(1)
    assert distance.max() < rounding(data).max()


def test_labels_of_a_flow_with_noise(tmp_path):
    run = labelled_plane(tmp_path)
    shift = torch.eye(4, 2, dtype=torch.float64)
    run.flow = DiffusionFlow(
        lambda t, x, c: 9.0 * shift[c], 0.1, EulerMaruyama(steps=4), Normal(2, scale=0.1).double()
    )
    data = packed(run)
    found, labels = positions(data), np.array(data["labels"])
    # longitude, the second number, is drawn across; six deviations of (.1^2 + .1^2)^(1/2)
    assert np.abs(found[-1] - 9.0 * shift.numpy()[labels][:, ::-1]).max() < 6 * 0.1 * 2**0.5


def test_layers_of_a_normalizing_flow(tmp_path):
    flow = maf(3, layers=3, width=16).double().eval()
    units = Affine(*torch.tensor([[10.0, -3.0, 0.0], [2.0, 1.0, 5.0]]).double().unbind(0))
    x = random.normal((90, 3), random.seeded("maf"), torch.float64)
    schema = Schema(name="maf", kind="table", event_shape=(3,), columns=("a", "b", "c"))
    run = make_run(tmp_path, Transformed(flow, units, torch.float64), schema, Rows(x[:60]), Rows(x[60:]))
    data = packed(run)
    assert data["layers"] == 3 and data["times"] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    x0 = starts(run, 1500, "player")
    with torch.no_grad():
        end = run.flow.push(x0).numpy()
    assert (np.abs(positions(data)[-1] - end) < rounding(data)).mean() > 0.999


def test_states_of_layers_end_where_push_does():
    torch.manual_seed(0)
    for flow in (maf(3, layers=3, width=16), tarflow((1, 8, 8), blocks=2, width=16)):
        flow.eval()
        for parameter in flow.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        x0 = flow.source.sample(5, None, random.seeded("x0"))
        states, x = flow.states(x0), flow.push(x0)
        assert states is not None and states.shape[1:] == x.shape
        assert torch.equal(states[-1], x)
    labels = torch.tensor([0, 1, 2, 0, 1])
    flow = maf(3, condition=4, layers=2, width=16).eval()
    for parameter in flow.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    x0 = flow.source.sample(5, None, random.seeded("x0"))
    states = flow.states(x0, labels)
    assert states is not None and torch.equal(states[-1], flow.push(x0, labels))
    assert not torch.equal(states[-1], flow.push(x0, 2 - labels))
    # images that are halved again and again have no states of one shape; a one-step map has no layers
    assert glow((1, 8, 8), steps=2).states(torch.zeros(1, 64)) is None
    assert ConsistencyFlow(lambda s, t, x, condition: x, Normal(2)).states(torch.zeros(1, 2)) is None
    with pytest.raises(ValueError, match=r"x0: expected shape \(B, 3\), got \(5, 2\)"):
        maf(3).states(torch.zeros(5, 2))


def test_what_only_rearranges_is_no_layer():
    first, last = Affine(torch.tensor([1.0, 2.0, 3.0]), 1.0), Affine(0.0, torch.tensor([1.0, 10.0, 100.0]))
    flow = BijectiveFlow(Chain(first, Permutation([2, 0, 1]), last), Normal(3))
    states = flow.states(torch.zeros(1, 3))
    assert states is not None
    assert states[:, 0].tolist() == [[0, 0, 0], [3, 1, 2], [3, 10, 200]]


@pytest.mark.parametrize("flow", [ConsistencyFlow(lambda s, t, x, condition: -x, Normal(2)), VAE(2, width=8)])
def test_no_player_where_nothing_moves(tmp_path, flow):
    x = random.normal((90, 2), random.seeded("still"))
    schema = Schema(name="still", kind="table", event_shape=(2,), columns=("a", "b"))
    assert make_player(LoadedRun(make_run(tmp_path, flow, schema, Rows(x[:60]), Rows(x[60:])))) is None


def test_a_single_column_is_shown_over_its_start(tmp_path):
    mixture = GaussianMixture(torch.tensor([[-2.0], [2.0]], dtype=torch.float64), 0.3)
    flow = ContinuousFlow(GaussianMixtureOracle(mixture), Heun(steps=32), Normal(1).double())
    x = mixture.sample(90, None, random.seeded("line"))
    schema = Schema(name="line", kind="table", event_shape=(1,), columns=("v",))
    run = make_run(tmp_path, flow, schema, Rows(x[:60]), Rows(x[60:]))
    data = packed(run)
    found = positions(data)
    assert data["names"] == ["v", "v at t = 0"] and data["data"] == ["", ""]
    assert np.abs(found[..., 1] - found[0, :, 0]).max() < 2 * rounding(data).max()
    # trajectories of a line do not cross, where rounding does not change the order of their starts
    start, end = found[:, found[0, :, 0].argsort(), 0][[0, -1]]
    apart = np.diff(start) > 3 * rounding(data)[0]
    assert apart.mean() > 0.5 and (np.diff(end)[apart] > -3 * rounding(data)[0]).all()


def test_images(tmp_path):
    run = image_run(tmp_path)
    data = packed(run)
    assert data["size"] == [4, 4] and data["count"] == 64 and data["across"] == 8
    loaded = LoadedRun(run)
    labels = loaded.condition(loaded.test, 64)
    assert isinstance(labels, torch.Tensor)
    x0 = starts(run, 64, "trajectory", "player")
    path = run.flow.trajectory(x0, data["times"], labels).path[:, labels.argsort(stable=True)]
    for k in (0, 15, 30):
        address = data["sheets"][k]
        assert address.startswith("data:image/png;base64,")
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
        assert sheet.shape == (32, 32)
        cells = sheet.reshape(8, 4, 8, 4).swapaxes(1, 2).reshape(64, 4, 4)
        # levels 0 to 4 of which half are bright, so that 4 is white; a level is 64 shades
        shades = np.round(255 * path[k, :, 0].numpy().clip(0, 4) / 4)
        assert np.abs(cells - shades).max() <= 1


class Tags(HTMLParser):
    """Every tag with its attributes, and the texts of options and items."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.texts, self.open = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open = tag

    def handle_data(self, data):
        if self.open in ("option", "li"):
            self.texts.append(data)


HOSTILE = (
    "</script><script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "<!--<script>",
    "a\u202eb\x1b\u2028 ]]>",
)


def test_names_cannot_leave_their_place(tmp_path):
    x = random.normal((90, 4), random.seeded("hostile"), torch.float64)
    flow = ContinuousFlow(lambda t, x, condition: torch.zeros_like(x), Heun(steps=1), Normal(4).double())
    schema = Schema(name=HOSTILE[0], kind="table", event_shape=(4,), columns=HOSTILE)
    run = make_run(tmp_path, flow, schema, Rows(x[:60]), Rows(x[60:]))
    player = make_player(LoadedRun(run))
    assert player is not None
    whole = page(schema.name, "k", [], "", [player.html], style=player.style, script=player.script)
    found = Tags(whole)
    kinds = [tag for tag, _ in found.tags]
    assert kinds.count("script") == 2 and "img" not in kinds
    assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on")]
    shown = [name.replace("\u202e", "\ufffd").replace("\x1b", "\ufffd") for name in HOSTILE]
    assert packed(run)["names"] == shown
    assert "alert(1)" not in re.sub(r"alert\(1\)(&lt;|\\u003c|&#x27;|'\\u003e)", "", whole)
    assert shown == found.texts[:4]
    # a browser runs the program of the page alone
    policy = next(attrs["content"] for tag, attrs in found.tags if attrs.get("http-equiv"))
    program = whole[whole.rindex("<script>") + 8 : whole.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def wide(path, shape, kind: Any, **changes) -> SimpleNamespace:
    """A run of a flow that changes noise a little, for data of any size."""
    flow = ContinuousFlow(lambda t, x, condition: -0.5 * x, Heun(steps=4), Normal(shape))
    x = random.normal((40, *shape), random.seeded("wide"))
    schema = Schema(name="wide", kind=kind, event_shape=shape, **changes)
    return make_run(path, flow, schema, Rows(x[:25]), Rows(x[25:]))


LONG = tuple(f"{'a long name of a column ' * 8}{i}" for i in range(50))
SIZES = {
    "columns": lambda path: wide(path, (50,), "table", columns=LONG),
    "colours": lambda path: wide(path, (3, 64, 64), "image"),
    "plane": plane_run,
    "series": lambda path: wide(path, (30, 4), "array"),
    "large": lambda path: wide(path, (3, 256, 256), "image"),
}


@pytest.mark.parametrize("name", first(SIZES, 2))
def test_the_page_stays_small(tmp_path, name):
    """The rest of a report is under 2 MB; what the player adds leaves it under 5."""
    run = SIZES[name](tmp_path)
    player = make_player(LoadedRun(run))
    assert player is not None
    assert 50_000 < len(player.html) < 2_800_000
    data = packed(run)
    if name == "columns":
        assert len(data["names"]) == 12 and data["count"] > 1000
    if data["kind"] == "images":
        most = 448 // data["across"]
        assert data["size"] == [min(most, size) for size in run.schema.event_shape[-2:]]
        assert len(data["times"]) == (11 if name == "large" else 31)


class Torn(Bijection):
    """The identity where the first number is above ``least``, else nowhere."""

    def __init__(self, least: float):
        super().__init__()
        self.least = least

    def forward_and_log_det(self, x, condition=None, generator=None):
        return torch.where(x[:, :1] > self.least, x, torch.inf), x.new_zeros(len(x))

    def inverse_and_log_det(self, y, condition=None, generator=None):
        return y, y.new_zeros(len(y))


@pytest.mark.parametrize("least", [0.0, 10.0])
def test_points_that_are_not_finite_are_left_out(tmp_path, least):
    run = plane_run(tmp_path)
    run.flow = BijectiveFlow(Torn(least), Normal(2).double())
    loaded = LoadedRun(run)
    if least > 9:
        with pytest.raises(ValueError, match="its particles are not finite"):
            make_player(loaded)
        return
    data = packed(run)
    start = starts(run, 1500, "player")
    there = start[start[:, 0] > 0].numpy()
    assert data["count"] == len(there)
    assert np.abs(positions(data)[-1] - there).max() < rounding(data).max()


def test_a_solver_that_fails_leaves_the_player_out(tmp_path):
    run = plane_run(tmp_path)
    run.flow = DiffusionFlow(lambda t, x, c: x / 0, 0.0, EulerMaruyama(steps=4), Normal(2).double())
    left_out = LeftOut()
    assert left_out.attempt("player", None, make_player, LoadedRun(run)) is None
    assert "player" in left_out
