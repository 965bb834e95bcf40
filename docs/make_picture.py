"""Make docs/_static/flow.png, flow.webp, player.html: a flow from noise to a checkerboard, still and moving.

python docs/make_picture.py          # takes about three minutes on one core
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, hsv_to_rgb
from matplotlib.figure import Figure
from PIL import Image

import pushforward
from pushforward.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.flows import ContinuousFlow, divergence
from pushforward.random import seeded
from pushforward.recipes import Run
from pushforward.report.loaded_run import LoadedRun
from pushforward.report.page import page
from pushforward.report.player import make_player
from pushforward.solvers import ODE, RK4

TIMES = (0.0, 0.5, 0.75, 0.9, 1.0)
PAPER, INK, LINE = "#fffdf9", "#2a2320", "#3b2a22"
SHADES = [PAPER, "#fbe6cf", "#f4b778", "#dd7a2c", "#9c3f14", "#54200d"]
HEAT = LinearSegmentedColormap.from_list("heat", SHADES)
OUT = Path(__file__).parent / "_static"
#: Pictures of the moving one, milliseconds of each, and of the last.
FRAMES, EACH, REST = 52, 75, 1400
#: Half the width of what is seen.
REACH = 2.35


def learn(folder: Path) -> Run:
    """Train on the checkerboard."""
    config = RunConfig(
        target="checkerboard",
        data=DataConfig(rows=100_000),
        model=ModelConfig(network="resmlp,width=128,depth=2"),
        optim=OptimConfig(steps=3500, batch=512, lr=2e-3, validate_every=3500),
        compute=ComputeConfig(device="cpu"),
    )
    return pushforward.train(config, folder / "run", overwrite=True)


@torch.no_grad()
def density(flow: ContinuousFlow, t: float, side: int, reach: float) -> np.ndarray:
    """p_t on a grid: pull every node back from t to 0 and collect the divergence on the way."""
    axis = torch.linspace(-reach, reach, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([x, y], -1).reshape(-1, 2)

    def velocity(s: torch.Tensor, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return divergence(lambda z: flow.field(s, z), state[0])

    parts = []
    for rows in grid.split(8192):
        start = rows, rows.new_zeros(len(rows))
        x0, change = RK4(max(1, round(12 * t))).solve(ODE(velocity), start, t, 0.0).x if t else start
        parts.append((flow.source.log_prob(x0) + change).exp())
    return torch.cat(parts).reshape(side, side).numpy()


def hues(x0: torch.Tensor) -> np.ndarray:
    """A colour for the direction in which a source point lies."""
    angle = torch.atan2(x0[:, 1], x0[:, 0]).numpy() / (2 * np.pi) % 1
    return hsv_to_rgb(np.stack([angle, np.full_like(angle, 0.72), np.full_like(angle, 0.80)], 1))


@dataclass
class Paths:
    """Trajectories ``(T, n, 2)`` of a few points at 101 times, and of many at others, with their colours."""

    lines: torch.Tensor
    clouds: torch.Tensor
    few: np.ndarray
    many: np.ndarray


def follow(flow: ContinuousFlow, times: Sequence[float], count: int) -> Paths:
    """Carry 48 points that keep a distance from each other, and ``count`` others."""
    even = torch.quasirandom.SobolEngine(2, scramble=True, seed=3).draw(48)
    few = torch.special.ndtri(even.clamp(0.001, 0.999))
    many = flow.source.sample(count, generator=seeded("many"))
    with torch.no_grad():
        lines = flow.trajectory(few, torch.linspace(0, 1, 101)).path
        clouds = flow.trajectory(many, torch.tensor(times)).path
    assert isinstance(lines, torch.Tensor) and isinstance(clouds, torch.Tensor)
    return Paths(lines, clouds, hues(few), hues(many))


def show(top: Axes, below: Axes, z: np.ndarray, paths: Paths, i: int, t: float, grain: float = 2.2) -> None:
    """The density with the trajectories of a few points so far; where each of many points came from."""
    top.imshow(
        z**0.7, origin="lower", extent=(-REACH, REACH, -REACH, REACH), cmap=HEAT, interpolation="bicubic",
        vmax=np.quantile(z, 0.998) ** 0.7, vmin=0,
    )  # fmt: skip
    here = round(100 * t) + 1
    for k in range(len(paths.few)):
        top.plot(*paths.lines[:here, k].T, color=LINE, linewidth=0.6, alpha=0.55)
    top.scatter(*paths.lines[here - 1].T, s=11, color=paths.few, edgecolor=INK, linewidth=0.5, zorder=3)
    below.scatter(*paths.clouds[i].T, s=grain, color=paths.many, linewidths=0)
    for axes in (top, below):
        axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[], facecolor=PAPER)
        axes.set_aspect("equal")
        for spine in axes.spines.values():
            spine.set_color("#e6dccf")


def still(flow: ContinuousFlow) -> Figure:
    """Five times beside each other."""
    paths = follow(flow, TIMES, 5000)
    figure = Figure(figsize=(12, 5.1), facecolor=PAPER)
    margins = {"left": 0.006, "right": 0.994, "top": 0.935, "bottom": 0.008}
    grid = figure.add_gridspec(2, 5, wspace=0.03, hspace=0.03, **margins)
    for i, t in enumerate(TIMES):
        top, below = figure.add_subplot(grid[0, i]), figure.add_subplot(grid[1, i])
        show(top, below, density(flow, t, 128, REACH), paths, i, t)
        top.set_title(f"t = {t:g}", fontsize=13, color=INK, pad=6)
    return figure


def moving(flow: ContinuousFlow) -> list[Image.Image]:
    """Pictures at times that are denser towards t = 1, where most happens."""
    times = [1 - (1 - k / (FRAMES - 1)) ** 1.6 for k in range(FRAMES)]
    paths, pictures = follow(flow, times, 2000), []
    for i, t in enumerate(times):
        figure = Figure(figsize=(7.2, 3.6), facecolor=PAPER)
        panels = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.01, right=0.99, top=0.98, bottom=0.02, wspace=0.03)
        show(*panels, density(flow, t, 72, REACH), paths, i, t, 3.2)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    return pictures


def player(run: Run) -> str:
    """The player of a report as a page of its own."""
    run.flow.eval()
    made = make_player(LoadedRun(run))
    assert made is not None
    title, kicker = "A flow to a checkerboard", "the player of a report"
    return page(title, kicker, [], "", [made.html], style=made.style, script=made.script)


def main() -> int:
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = learn(Path(folder))
        (OUT / "player.html").write_text(player(run), encoding="utf-8")
    # in its own, standardised units
    flow = cast(ContinuousFlow, run.flow.core)
    png, webp = OUT / "flow.png", OUT / "flow.webp"
    still(flow).savefig(png, dpi=140, facecolor=PAPER)
    with Image.open(png) as image:
        small = image.convert("RGB").quantize(200, dither=Image.Dither.NONE)
    small.save(png, optimize=True)
    first, *others = moving(flow)
    waits = [*[EACH] * (FRAMES - 1), REST]
    first.save(webp, save_all=True, append_images=others, duration=waits, loop=0, quality=75, method=6)
    for file in (png, webp, OUT / "player.html"):
        print(f"{file}: {file.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
