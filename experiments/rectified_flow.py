r"""# Rectified flow: straight trajectories, one step

Flow matching on independent pairs learns curved trajectories, because the lines between the pairs cross and
their velocities are averaged. Reflow (Liu et al. 2023, [arXiv 2209.03003](https://arxiv.org/abs/2209.03003))
takes the pairs (start, end) of the learnt flow and trains a second flow on the lines between them:

$$\min_\theta \operatorname{E} \lvert v_\theta(t, x_t) - (\Phi(x_0) - x_0) \rvert^2, \qquad
x_t = (1 - t)\, x_0 + t\, \Phi(x_0) .$$

These lines cross less. Does one Euler step of the second flow give what fifty steps of the first give, and
does a third flow add anything?
"""

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from drawing import COLOURS, canvas, dress, legend, plane
from matplotlib.figure import Figure
from study import Study, main
from systems import SYSTEMS, source, target
from torch import Tensor

import pushforward
from pushforward.metrics import straightness, transport_cost, wasserstein
from pushforward.solvers import Euler

STAGES = {"train": "1-rectified", "reflow-1": "2-rectified", "reflow-2": "3-rectified"}
COUNTS = (1, 2, 3, 5, 10, 20, 50, 100)


def train(system: str, seed: int, steps: int, network: str) -> dict[str, Any]:
    """The flow of each stage."""
    settings: dict[str, Any] = {"preprocess": "none", "holdout": 0.0, "patience": 0, "show_progress": False}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not system.startswith("N-"):
            np.save(folder / "source.npy", source(system, 10_000, seed).numpy())
            settings["source"] = str(folder / "source.npy")
        rows = target(system, 10_000, seed).numpy()
        settings |= {"network": network, "steps": steps, "batch": 256, "lr": 2e-3, "seed": seed}
        settings |= {"reflow": 2, "pairs": 20_000, "times": "uniform", "solver": "heun,steps=50"}
        pushforward.train(rows, folder / "run", method="rectified-flow", **settings)
        return {stage: pushforward.load(folder / "run", stage=stage) for stage in STAGES}


@torch.no_grad()
def judge(flows: dict[str, Any], x0: Tensor, test: Tensor) -> dict[str, dict[str, Any]]:
    """W2 by number of Euler steps, and straightness, of each stage."""
    times, found = torch.linspace(0, 1, 101), {}
    for stage, flow in flows.items():
        w2 = [wasserstein(flow.replace(solver=Euler(steps=n)).push(x0), test) for n in COUNTS]
        path = flow.trajectory(x0[:1_000], times).path
        bend = straightness(path, times) / transport_cost(path[0], path[-1])
        found[stage] = {"W2": w2, "bend": bend}
    return found


def frames(flows: dict[str, Any], x0: Tensor, reach: float, count: int) -> Iterator[Figure]:
    """Particles of each stage with their trajectories so far."""
    times = torch.linspace(0, 1, count)
    with torch.no_grad():
        paths = {STAGES[stage]: flow.trajectory(x0, times).path.numpy() for stage, flow in flows.items()}
    for i in range(count):
        figure, axes = canvas(7.6, 2.9, 1, len(paths))
        for ax, colour, (name, path) in zip(axes[0], COLOURS, paths.items()):
            plane(ax, reach, name)
            ax.plot(*path[: i + 1].transpose(2, 0, 1), color=colour, linewidth=0.4, alpha=0.5)
            ax.scatter(*path[i].T, color=colour, s=5, linewidths=0)
        axes[0, 0].set_xlabel(f"t = {times[i]:.2f}", fontsize=9)
        yield figure


def run(study: Study) -> None:
    points = study.pick(small=1_000, full=2_000)
    steps, network = study.pick(small=(600, "mlp,width=64,depth=3"), full=(3_000, "resmlp,width=128,depth=3"))
    rows, curves = [], {}
    for system in study.pick(small=("N-8g",), full=SYSTEMS):
        found = []
        for seed in study.seeds(small=1, full=2):
            flows = train(system, seed, steps, network)
            x0, test = source(system, points, seed + 10_000), target(system, points, seed + 4_200)
            found.append(judge(flows, x0, test))
            if system == "N-8g" and len(found) == 1:
                pictures = frames(flows, x0[:150], 8.0, study.pick(small=5, full=30))
                seen = "Trajectories of three flows to eight Gaussians: curved, then straight, then straight."
                study.movie("trajectories", pictures, seen)
        curves[system] = {s: [statistics.fmean(w) for w in zip(*(f[s]["W2"] for f in found))] for s in STAGES}
        fifty = curves[system]["train"][COUNTS.index(50)]
        for stage, name in STAGES.items():
            w2 = curves[system][stage]
            values = {f"{n} step{'s' * (n > 1)}": f"{w / fifty:.2f}" for n, w in zip(COUNTS, w2)}
            bend = statistics.fmean(f[stage]["bend"] for f in found)
            rows.append({"system": system, "flow": name, **values, "S / cost": f"{bend:.4f}"})
        most = study.pick(small=1.3, full=1.1)
        for stage in ("reflow-1", "reflow-2"):
            ratio = curves[system][stage][0] / fifty
            study.check(f"{system}: 1 step {STAGES[stage]} over 50 steps 1-rectified", ratio, at_most=most)
        bends = [statistics.fmean(f[stage]["bend"] for f in found) for stage in STAGES]
        study.check(f"{system}: straightness, 2-rectified over 1-rectified", bends[1] / bends[0], at_most=0.1)
    study.table("W2 to test points over that of the first flow with 50 steps, by Euler steps", rows)
    figure, axes = canvas(2.7 * len(curves) + 0.6, 2.9, 1, len(curves))
    for ax, (system, values) in zip(axes[0], curves.items()):
        dress(ax, system, "Euler steps", "W2" if ax is axes[0, 0] else "")
        for colour, (stage, w2) in zip(COLOURS, values.items()):
            ax.plot(COUNTS, w2, "o-", color=colour, label=STAGES[stage], ms=3)
        ax.set(xscale="log", yscale="log")
    legend(axes[0, 0])
    study.figure("steps", figure, "W2 against the number of Euler steps for each system and flow.")
    seeds = len(study.seeds(small=1, full=2))
    study.text(
        f"""Means over {seeds} seeds, {points:,} points and {steps:,} training steps in each stage. The second
        flow needs one step for what the first gives after fifty; the third adds little."""
    )


if __name__ == "__main__":
    main(run)
