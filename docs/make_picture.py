"""Make docs/_static/flow.png: a flow that carries noise to a checkerboard, seen at five times.

python docs/make_picture.py          # takes about a minute and a half on one core
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap, hsv_to_rgb
from matplotlib.figure import Figure
from PIL import Image

import pushforward
from pushforward.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.flows import ContinuousFlow, divergence
from pushforward.random import seeded
from pushforward.solvers import ODE, RK4

TIMES = (0.0, 0.5, 0.75, 0.9, 1.0)
PAPER, INK, LINE = "#fffdf9", "#2a2320", "#3b2a22"
SHADES = [PAPER, "#fbe6cf", "#f4b778", "#dd7a2c", "#9c3f14", "#54200d"]
HEAT = LinearSegmentedColormap.from_list("heat", SHADES)
OUT = Path(__file__).parent / "_static" / "flow.png"


def learn(folder: Path) -> ContinuousFlow:
    """Train on the checkerboard and return the flow in its own, standardised units."""
    config = RunConfig(
        target="checkerboard",
        data=DataConfig(rows=100_000),
        model=ModelConfig(network="resmlp,width=128,depth=2"),
        optim=OptimConfig(steps=3500, batch=512, lr=2e-3, validate_every=3500),
        compute=ComputeConfig(device="cpu"),
    )
    run = pushforward.train(config, folder / "run", overwrite=True)
    assert isinstance(run.flow.flow, ContinuousFlow)
    return run.flow.flow


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


def draw(flow: ContinuousFlow, reach: float = 2.35, side: int = 128) -> Figure:
    """Above the density, with the trajectories of a few points so far; below, where each point came from."""
    fine = torch.linspace(0, 1, 101)
    # normal points that keep a distance from each other
    even = torch.quasirandom.SobolEngine(2, scramble=True, seed=3).draw(48)
    few = torch.special.ndtri(even.clamp(0.001, 0.999))
    many = flow.source.sample(5000, generator=seeded("many"))
    with torch.no_grad():
        lines = flow.trajectory(few, fine).path
        cloud = flow.trajectory(many, torch.tensor(TIMES)).path
    assert isinstance(lines, torch.Tensor) and isinstance(cloud, torch.Tensor)
    figure = Figure(figsize=(12, 5.1), facecolor=PAPER)
    margins = {"left": 0.006, "right": 0.994, "top": 0.935, "bottom": 0.008}
    grid = figure.add_gridspec(2, 5, wspace=0.03, hspace=0.03, **margins)
    colours, few_colours = hues(many), hues(few)
    for i, t in enumerate(TIMES):
        top, below = figure.add_subplot(grid[0, i]), figure.add_subplot(grid[1, i])
        z = density(flow, t, side, reach)
        top.imshow(
            z**0.7, origin="lower", extent=(-reach, reach, -reach, reach), cmap=HEAT, interpolation="bicubic",
            vmax=np.quantile(z, 0.998) ** 0.7, vmin=0,
        )  # fmt: skip
        here = round(100 * t) + 1
        for k in range(len(few)):
            top.plot(*lines[:here, k].T, color=LINE, linewidth=0.6, alpha=0.55)
        top.scatter(*lines[here - 1].T, s=11, color=few_colours, edgecolor=INK, linewidth=0.5, zorder=3)
        below.scatter(*cloud[i].T, s=2.2, color=colours, linewidths=0)
        top.set_title(f"t = {t:g}", fontsize=13, color=INK, pad=6)
        for axes in (top, below):
            axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], facecolor=PAPER)
            axes.set_aspect("equal")
            for spine in axes.spines.values():
                spine.set_color("#e6dccf")
    return figure


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        figure = draw(learn(Path(folder)))
    OUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUT, dpi=140, facecolor=PAPER)
    with Image.open(OUT) as image:
        small = image.convert("RGB").quantize(200, dither=Image.Dither.NONE)
    small.save(OUT, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
