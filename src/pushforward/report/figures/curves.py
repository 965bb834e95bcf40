"""Figures for every kind of data: training, evaluations, straightness, memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from ..dynamics import LEAPS, Curve, Motion
from ..formatting import number
from ..loaded_run import LoadedRun
from ..memorisation import Memorisation
from ..validation import measured, validation_loss
from .style import DATA, FAINT, HALF, INK, MODEL, REAL, Picture, canvas, dress, legend, shares

MARKERS = {
    LEAPS: ("D", MODEL),
    "Euler": ("o", "#5c6b7a"),
    "Midpoint": ("s", "#3aa0b8"),
    "Heun": ("^", "#7a5ea8"),
}


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Running mean over ``window`` values around each, shorter at the ends."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    index = np.arange(len(values))
    low, high = np.maximum(index - window // 2, 0), np.minimum(index + window // 2 + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def training(loaded: LoadedRun) -> list[Picture]:
    """Loss and log-density against steps, and held-out loss against time."""
    run = loaded.run
    rows = [row for row in run.history if "loss" in row]
    checks, nats = measured(run, "val_loss"), measured(run, "val_nll")
    pictures = []
    if rows or checks or nats:
        pictures.append(_loss(loaded, rows, checks, nats))
    tenths = [row for row in checks if row.get("val_loss_by_time")]
    if tenths:
        pictures.append(_by_time(tenths))
    return pictures


def _loss(
    loaded: LoadedRun, rows: list[dict[str, Any]], checks: list[dict[str, Any]], nats: list[dict[str, Any]]
) -> Picture:
    """A panel for losses and one for log-densities, where there are any; a run of no step has no loss."""
    above = bool(rows or checks)
    panels = above + bool(nats)
    figure, axes = canvas(HALF, 3.4 if panels == 1 else 5.6, panels)
    texts, marked = [], False
    if above:
        ax = dress(axes[0, 0], "Loss during training", "optimiser step", "loss")
        _losses(ax, rows, checks)
        marked = _mark_kept(ax, loaded)
        legend(ax, loc="best")
        texts.append(
            "The loss of flow matching does not go to zero: what remains is the variance of velocities at a "
            "point. A held-out loss that rises while the training loss falls shows overfitting."
        )
    if nats:
        folds = loaded.run.config.optim.folds
        who = f"rows left out of {folds} folds" if folds else "held-out rows"
        below = dress(axes[-1, 0], "Held-out negative log-density", "optimiser step", "nats per row")
        _settled(below, _checked(below, nats, "val_nll", who))
        marked = _mark_kept(below, loaded)
        legend(below, loc="best")
        if folds:
            texts.append(
                "Cross-validation chose the number of steps: the log-density is that of training rows under "
                "flows trained without them."
            )
    if marked:
        texts.append("The vertical line marks the step whose weights are kept.")
    if loaded.run.summary.get("kept_step") == 0:
        texts.append("No step improved it beyond noise, so the flow is what it started from.")
    alt = "Line plot of training loss and of held-out loss or log-density against optimiser step."
    return Picture("loss", figure, " ".join(texts), alt)


def _losses(ax: Axes, rows: list[dict[str, Any]], checks: list[dict[str, Any]]) -> None:
    """Draw training loss and validation loss."""
    kept = []
    if rows:
        steps, loss = (np.array([row[key] for row in rows], float) for key in ("step", "loss"))
        mean = smoothed(loss, max(1, len(loss) // 50))
        ax.plot(steps, loss, color=FAINT, linewidth=0.8, zorder=1)
        ax.plot(steps, mean, color=DATA, linewidth=1.6, label="training, running mean")
        kept += [mean, np.quantile(loss, [0.02, 0.98])]
    if checks:
        kept.append(_checked(ax, checks, "val_loss"))
    _settled(ax, np.concatenate(kept))


def _checked(ax: Axes, checks: list[dict[str, Any]], key: str, who: str = "held-out rows") -> np.ndarray:
    """Draw what validations measured, and return it."""
    steps, values = (np.array([row[name] for row in checks], float) for name in ("step", key))
    style = "-o" if len(steps) < 40 else "-"
    ax.plot(steps, values, style, color=MODEL, linewidth=1.4, markersize=3.5, label=who)
    return values


def _settled(ax: Axes, values: np.ndarray) -> None:
    """Leave out the first steps, which are far above the rest and would flatten everything else."""
    settled = values[len(values) // 20 :] if len(values) > 40 else values
    low, high = float(np.nanmin(settled)), float(np.nanquantile(settled, 0.995))
    if math.isfinite(low) and math.isfinite(high) and high > low:
        ax.set_ylim(low - 0.08 * (high - low), high + 0.15 * (high - low))


def _mark_kept(ax: Axes, loaded: LoadedRun) -> bool:
    """Mark the step whose weights are kept, where it is known."""
    ran = validation_loss(loaded.run)
    if ran is not None:
        ax.axvline(ran.kept, color=INK, linewidth=1, linestyle="--", label=f"kept, step {ran.kept:,}")
    return ran is not None


def _by_time(checks: list[dict[str, Any]]) -> Picture:
    figure, axes = canvas(HALF, 3.4)
    ax = dress(
        axes[0, 0], "Held-out loss by time", "time t (0 is the source, 1 the data)", "mean squared error"
    )
    middle = np.arange(10) / 10 + 0.05
    chosen = sorted({0, len(checks) // 3, len(checks) - 1})
    shades = ["#c3ccd6", "#8b9db3", MODEL][-len(chosen) :]
    for index, shade in zip(chosen, shades):
        last = index == len(checks) - 1
        label = f"step {checks[index]['step']:,}" + (", the last" if last else "")
        ax.plot(
            middle,
            checks[index]["val_loss_by_time"],
            "-o",
            color=shade,
            linewidth=2 if last else 1.3,
            markersize=4 if last else 3,
            label=label,
        )
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    legend(ax)
    text = (
        "Mean loss in ten intervals of time. It is highest where the velocities at a point differ most. "
        "Where it no longer falls, more training brings no improvement."
    )
    return Picture("loss_by_time", figure, text, "Held-out loss in ten bins of time, for three checkpoints.")


def evaluations(loaded: LoadedRun, curve: Curve) -> list[Picture]:
    """Quality and seconds against field evaluations."""
    pictures = []
    leapt = any(point.solver == LEAPS for point in curve.points)
    for name, title, y in (
        (
            "quality",
            "Quality for a number of evaluations",
            f"energy distance, {curve.unit}",
        ),
        ("seconds", "Time for a number of evaluations", "seconds per 1,000 samples"),
    ):
        figure, axes = canvas(HALF, 3.4)
        ax = dress(axes[0, 0], title, "field evaluations per sample", y)
        for solver in dict.fromkeys(point.solver for point in curve.points):
            points = [point for point in curve.points if point.solver == solver]
            x = [point.nfe for point in points]
            values = [point.energy if name == "quality" else point.seconds for point in points]
            if solver in MARKERS and len(points) > 1:
                marker, colour = MARKERS[solver]
                ax.plot(x, values, "-" + marker, color=colour, markersize=4.5, linewidth=1.3, label=solver)
            else:
                told = ", its velocity" if leapt else ", as reported"
                ax.plot(x, values, "*", color=MODEL, markersize=13, label=f"{solver}{told}", zorder=5)
        if name == "quality":
            low, high = curve.floor - curve.floor_spread, curve.floor + curve.floor_spread
            ax.axhspan(max(low, 0.02 * curve.floor), high, color=REAL, alpha=0.18, linewidth=0)
            ax.axhline(curve.floor, color=REAL, linewidth=1.2, linestyle="--", label="real rows")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xticks([1, 2, 4, 8, 16, 32, 64, 128, 256])
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_xlim(0.8, max(80.0, 1.4 * max(point.nfe for point in curve.points)))
        legend(ax)
        text = (
            f"Energy distance of {curve.rows:,} samples to as many held-out rows; the dashed line is that "
            "of real training rows, with a band of one standard deviation. Where a curve meets it, more "
            "evaluations bring no improvement."
            if name == "quality"
            else "Wall-clock time on the machine that made this report, including other work on it. Compare "
            "it with the quality, and sample with the cheapest solver that is good enough."
        )
        if leapt and name == "quality":
            text += " The flow map takes as many steps; solvers follow its velocity, from the same noise."
        who = "the flow map, " * leapt
        alt = f"{title}: {who}Euler, midpoint, Heun and the run's own solver."
        pictures.append(Picture(name, figure, text, alt))
    return pictures


def straight(loaded: LoadedRun, motion: Motion) -> Picture:
    """How far velocities are from those of straight lines, against time."""
    figure, axes = canvas(HALF, 3.4)
    ax = dress(
        axes[0, 0],
        "Departure from straight lines",
        "time t (0 is the source, 1 the data)",
        "E|dx/dt − (x1 − x0)|², squared units",
    )
    times = np.array(motion.times)
    ax.fill_between((times[1:] + times[:-1]) / 2, motion.profile, color=MODEL, alpha=0.18, linewidth=0)
    ax.plot((times[1:] + times[:-1]) / 2, motion.profile, color=MODEL, linewidth=1.8)
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    text = (
        f"The area under the curve, {number(motion.straightness)}, is the straightness S. It is 0 if every "
        f"trajectory is straight with constant speed; then one Euler step is exact. {motion.rows:,} "
        "trajectories, in the units of the model."
    )
    return Picture("straightness", figure, text, "Departure from straight lines against time.")


def neighbours(loaded: LoadedRun, memory: Memorisation) -> Picture:
    """Distances to the nearest training row."""
    figure, axes = canvas(HALF, 3.4)
    ax = dress(
        axes[0, 0],
        "Distance to the nearest training row",
        f"distance, {loaded.distance_unit}",
        "share of rows per bin",
    )
    clouds = {name: d.numpy() for name, d in memory.distances.items() if name in ("real", "model")}
    top = float(np.quantile(np.concatenate(list(clouds.values())), 0.99)) or 1.0
    bins = np.linspace(0, max(1.05 * top, 1.2 * memory.threshold), 41)
    for name, label, colour in (("real", "held-out rows", DATA), ("model", "samples", MODEL)):
        shares(ax, clouds[name], bins, colour, label)
    ax.axvline(
        memory.threshold, color=INK, linewidth=1, linestyle="--", label="1 % quantile of training rows"
    )
    legend(ax)
    text = (
        "The samples of a model that repeats its training data lie to the left of the dashed line. Here "
        f"{100 * memory.share('model').value:.1f} % of the samples and "
        f"{100 * memory.share('real').value:.1f} % of the held-out rows do."
    )
    return Picture(
        "nearest",
        figure,
        text,
        "Histograms of distances to the nearest training row.",
    )
