r"""# Paths compared: optimal transport, trigonometric, variance preserving, variance exploding

All of these paths are $x_t = \alpha_t x_1 + \sigma_t x_0$ with a normal $x_0$, and flow matching regresses

$$\operatorname{E} \lvert v_\theta(t, x_t) - (\dot\alpha_t x_1 + \dot\sigma_t x_0) \rvert^2 .$$

Which one is learnt fastest, which gives the best samples for a budget, and which has trajectories that few
steps can follow? At equal $\alpha_t / \sigma_t$ the regressions are the same problem: to tell the data from
the noise. So the error against the exact field is measured there, as that of
$\operatorname{E}[x_1 \mid x_t]$, and not in the loss, whose least value differs from path to path. OT and
trigonometric paths learn the velocity; the diffusions learn the noise, as they usually do.
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
from pushforward import (
    ContinuousFlow,
    GaussianMixture,
    GaussianMixtureOracle,
    Interpolant,
    Linear,
    Normal,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
)
from pushforward.fields import convert
from pushforward.metrics import straightness, total_curvature, transport_cost, wasserstein
from pushforward.paths import time_of_log_snr
from pushforward.random import seeded
from pushforward.solvers import RK4, Euler

METHODS: dict[str, dict[str, Any]] = {
    "OT": {"method": "fm"},
    "trigonometric": {"method": "fm", "path": "trig"},
    "VP": {"method": "vp"},
    "VE": {"method": "ve"},
}
PATHS = {
    "OT": Interpolant(Linear()),
    "trigonometric": Interpolant(Trigonometric()),
    "VP": Interpolant(VariancePreserving()),
    "VE": Interpolant(VarianceExploding(sigma_max=10)),
}
NETWORK, POINTS = "mlp,width=64,depth=3", 2_000
MIXTURE = GaussianMixture(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), 0.3)
LEVELS = torch.linspace(-3, 5, 9)
EULER = (2, 5, 10, 20, 100)


def train(name: str, rows: Tensor, steps: int, seed: int, **options: Any) -> Any:
    """A flow on rows, by one of the paths."""
    settings: dict[str, Any] = {"network": NETWORK, "patience": 0, "show_progress": False, **METHODS[name]}
    return pushforward.train(rows.numpy(), steps=steps, seed=seed, **settings, **options).flow


@torch.no_grad()
def denoising_error(name: str, flow: Any, seed: int) -> float:
    """E|D - D*|^2 / E|x1|^2 for D = E[x1 | x_t], a mean over log-SNR from -3 to 5."""
    path, oracle = PATHS[name], GaussianMixtureOracle(MIXTURE, PATHS[name])
    x1 = MIXTURE.sample(POINTS, generator=seeded("error rows", seed))
    noise = torch.randn(x1.shape, generator=seeded("error noise", seed))
    errors = []
    for t in time_of_log_snr(path, LEVELS):
        c = path.coefficients(t)
        x = c.alpha * x1 + c.sigma * noise
        learnt = convert(flow.flow.field(t, x), x, c, "velocity", "data")
        errors.append(float((learnt - oracle.data(t, x)).square().sum(1).mean() / x1.square().sum(1).mean()))
    return statistics.fmean(errors)


@torch.no_grad()
def quality(flow: Any, test: Tensor, seed: int) -> float:
    """W2 between samples and test rows."""
    return wasserstein(flow.sample(POINTS, generator=seeded("samples", seed)), test)


def with_exact_fields(study: Study) -> None:
    """Straightness and W2 by 5 Euler steps of the exact fields, by the size of the data beside the source."""
    scales, seed, times = (0.5, 1.0, 2.0, 4.0), study.seeds()[0], torch.linspace(0, 1, 101)
    straight: dict[str, list[float]] = {name: [] for name in PATHS}
    few: dict[str, list[float]] = {name: [] for name in PATHS}
    for scale in scales:
        data = GaussianMixture(scale * MIXTURE.means, (scale * 0.3) ** 2)
        rows, test = (data.sample(1_000, generator=seeded(what, seed)) for what in ("rows", "test"))
        noise = torch.randn(rows.shape, generator=seeded("noise", seed))
        floor = wasserstein(rows, test)
        for name, path in PATHS.items():
            start = path.coefficients(times[0])
            x0 = start.alpha * rows + start.sigma * noise
            flow = ContinuousFlow(GaussianMixtureOracle(data, path), solver=RK4(steps=100), source=Normal(2))
            with torch.no_grad():
                way = flow.trajectory(x0[:200], times).path
                end = flow.replace(solver=Euler(steps=5)).push(x0)
            assert way is not None
            straight[name].append(straightness(way, times) / transport_cost(way[0], way[-1]))
            few[name].append(wasserstein(end, test) / floor)
    for caption, values in (
        ("Exact fields, straightness S over the transport cost, by the scale of the data", straight),
        ("Exact fields, W2 by 5 Euler steps over that of fresh data, by the scale of the data", few),
    ):
        columns = [f"scale {scale:g}" for scale in scales]
        study.table(caption, [{"path": n, **dict(zip(columns, map(_short, v)))} for n, v in values.items()])
    study.text(
        """The scale is that of the data where the source has a standard deviation of 1. OT and trigonometric
        paths are straighter than diffusions at every scale. Between the two the scale decides: independent
        pairs on the OT path first draw together and then spread if data and source are of one size."""
    )
    for name in ("OT", "trigonometric"):
        worst = max(a / b for a, b in zip(straight[name], straight["VP"]))
        study.check(f"exact fields: S of the {name} path over VP, worst scale", worst, at_most=0.6)


def on_the_mixture(study: Study, budgets: list[int]) -> None:
    """Error against the exact field, for each path and budget."""
    found: dict[str, list[list[float]]] = {}
    for name in METHODS:
        for seed in study.seeds(small=1, full=3):
            rows = MIXTURE.sample(10_000, generator=seeded("mixture rows", seed))
            flows = [train(name, rows, steps, seed, preprocess="none") for steps in budgets]
            found.setdefault(name, []).append([denoising_error(name, flow, seed) for flow in flows])
    means = {name: [statistics.fmean(e) for e in zip(*errors)] for name, errors in found.items()}
    figure, axes = canvas(5.4, 3.6)
    ax = dress(
        axes[0, 0], "error of the learnt field against the exact one", "steps of training", "relative error"
    )
    for colour, (name, errors) in zip(COLOURS, found.items()):
        ax.plot(budgets, means[name], "o-", color=colour, label=name, ms=4)
        ax.fill_between(budgets, np.min(errors, 0), np.max(errors, 0), color=colour, alpha=0.15)
    ax.set(xscale="log", yscale="log")
    legend(ax)
    study.figure("error", figure, "Error against steps of training for four paths, both on logarithmic axes.")
    wanted = study.pick(small=0.02, full=0.004)
    rows = []
    for name, errors in means.items():
        enough = [steps for steps, error in zip(budgets, errors) if error <= wanted]
        row = {"path": name, **{f"{s:,} steps": f"{e:.4f}" for s, e in zip(budgets, errors)}}
        rows.append({**row, f"steps to {wanted:g}": f"{enough[0]:,}" if enough else "more"})
    seeds = len(study.seeds(small=1, full=3))
    study.table(f"Relative error of E[x1 | x] on the mixture, mean over {seeds} seeds", rows)
    best = min(means, key=lambda name: means[name][-1])
    study.text(f"With {budgets[-1]:,} steps the smallest error is that of the {best} path.")
    for name, errors in means.items():
        study.check(f"{name}: error falls with training", errors[-1] / errors[0], at_most=0.8)


def on_the_systems(study: Study, budgets: list[int]) -> dict[str, Any]:
    """W2 for each path, budget and number of Euler steps; straightness and curvature of trajectories."""
    systems = study.pick(small=("N-8g",), full=SYSTEMS)
    table, few, motion, flows = [], [], [], {}
    for system in systems:
        for name in METHODS:
            if not system.startswith("N-") and name in ("VP", "VE"):
                continue  # diffusions start from a normal distribution
            over, steps_, bends = [], [], []
            for seed in study.seeds(small=1, full=2):
                rows, test = target(system, 10_000, seed), target(system, POINTS, seed + 4200)
                floor = wasserstein(target(system, POINTS, seed + 77), test)
                with tempfile.TemporaryDirectory() as folder:
                    given: dict[str, Any] = {}
                    if not system.startswith("N-"):
                        np.save(Path(folder) / "source.npy", source(system, 10_000, seed).numpy())
                        given = {"source": str(Path(folder) / "source.npy")}
                    trained = [train(name, rows, steps, seed, **given) for steps in budgets]
                flow = flows[system, name] = trained[-1]
                over.append([quality(f, test, seed) / floor for f in trained])
                euler = [flow.replace(solver=Euler(steps=n)) for n in EULER]
                steps_.append([quality(f, test, seed) / floor for f in euler])
                bends.append(_bends(flow, seed))
            where = {"system": system, "path": name}
            table.append(where | _cells([f"{s:,} steps" for s in budgets], over))
            few.append(where | _cells([f"{n} Euler steps" for n in EULER], steps_))
            motion.append(where | _cells(["straightness / cost", "total curvature"], bends))
    study.table("W2 over that of fresh data, after training, solved exactly", table)
    study.table("W2 over that of fresh data, by few Euler steps", few)
    study.table(
        "Trajectories: S over the transport cost (0 is straight), and how far they turn, in radians", motion
    )
    return {"flows": flows, "few": few, "table": table, "motion": motion}


def _short(value: float) -> str:
    return f"{value:.3g}"


def _cells(names: list[str], values: list[list[float]]) -> dict[str, str]:
    """Means over seeds."""
    return {name: _short(statistics.fmean(column)) for name, column in zip(names, zip(*values))}


@torch.no_grad()
def _bends(flow: Any, seed: int) -> list[float]:
    start = flow.source.sample(500, generator=seeded("bends", seed))
    times = torch.linspace(0, 1, 201)
    path = flow.trajectory(start, times).path
    return [straightness(path, times) / transport_cost(path[0], path[-1]), total_curvature(path, times)]


def frames(flows: dict[str, Any], count: int) -> Iterator[Figure]:
    """Particles of each path at equal times, in units of the standard deviation that the path has then."""
    times = torch.linspace(0, 1, count)
    clouds = {}
    for name, flow in flows.items():
        start = flow.source.sample(1_200, generator=seeded("movie"))
        with torch.no_grad():
            path = flow.trajectory(start, times).path
        clouds[name] = (path / path.std(dim=(1, 2), keepdim=True), torch.atan2(start[:, 1], start[:, 0]))
    for i, t in enumerate(times):
        figure, axes = canvas(8.4, 2.5, 1, len(clouds))
        for ax, (name, (path, angle)) in zip(axes[0], clouds.items()):
            plane(ax, 2.6, name)
            ax.scatter(*path[i].T.numpy(), c=angle.numpy(), cmap="twilight", s=2, linewidths=0)
        axes[0, 0].set_xlabel(f"t = {t:.2f}", fontsize=9)
        yield figure


def run(study: Study) -> None:
    budgets = study.pick(small=[100, 400], full=[100, 300, 1_000, 3_000])
    with_exact_fields(study)
    on_the_mixture(study, budgets)
    found = on_the_systems(study, study.pick(small=[400], full=[300, 1_000, 3_000]))
    shown = {name: found["flows"]["N-8g", name] for name in METHODS}
    text = (
        "Particles of four paths on their way to eight Gaussians, coloured by the angle at which they start."
    )
    study.movie("paths", frames(shown, study.pick(small=6, full=40)), text)
    _verdict(study, found)


def _verdict(study: Study, found: dict[str, Any]) -> None:
    """Which path wins at which budget."""
    for name, caption in (("table", "after training"), ("few", "by few Euler steps")):
        rows = []
        for system in dict.fromkeys(row["system"] for row in found[name]):
            here = [row for row in found[name] if row["system"] == system]
            columns = [column for column in here[0] if column not in ("system", "path")]
            best = {c: min((float(row[c]), row["path"]) for row in here)[1] for c in columns}
            rows.append({"system": system, **best})
        study.table(f"The path with the smallest W2 {caption}", rows)


if __name__ == "__main__":
    main(run)
