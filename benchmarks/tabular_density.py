"""Held-out log-likelihood of real tables: flows beside a normal distribution, mixtures, kernels and zuko's
NSF.

    python benchmarks/tabular_density.py run --data DIR
    python benchmarks/tabular_density.py page

DIR holds cite100.npz, fire.csv and quakes_all.csv.  Rows are added to results/rows/tabular_density.jsonl.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import keep, known, read, write_page
from scipy import stats
from sklearn.mixture import GaussianMixture

from pushforward.estimators import FlowDensity

NAME = "tabular_density"
TABLES = ("cite, 5 components", "cite, 20 components", "fire", "quakes, no repeats")

#: Both flows, masked autoregressive splines: optimiser steps, rows of a batch, peak learning rate, share of
#: the training rows held out, layers, units of both hidden layers.
STEPS, BATCH, LR, HOLDOUT, LAYERS, WIDTH = 4000, 512, 5e-3, 0.1, 3, 64

#: The best weights of so many validations are kept; as patience it means never to stop before the end.
VALIDATIONS = 25

#: What each flow is chosen from on each table, by the likelihood of the held-out share in a run of an eighth
#: of the steps: bins, and the distribution it starts from; zuko's NSF starts from a normal one.
SETTINGS = ((16, "normal"), (64, "normal"), (16, "mixture,components=512"))

Scores = tuple[np.ndarray, str]


def table(name: str, folder: Path) -> np.ndarray:
    """The rows of a table in the units they are given in."""
    if name.startswith("cite"):
        with np.load(folder / "cite100.npz") as file:
            rows = np.concatenate([file[day] for day in ("day2", "day3", "day4", "day7")])
        return rows[:, : int(name.split()[1])].astype(np.float64)
    if name == "fire":
        return np.loadtxt(folder / "fire.csv", delimiter=",", comments="#")
    lines = [x for x in (folder / "quakes_all.csv").read_text().splitlines() if not x.startswith("#")]
    return np.unique(np.loadtxt(lines[1:], delimiter=","), axis=0)


def normal(train: np.ndarray, test: np.ndarray) -> Scores:
    """The normal distribution of the same mean and covariance."""
    cov: Any = np.cov(train.T)
    distribution = stats.multivariate_normal(train.mean(0), cov)
    return distribution.logpdf(test), "mean and covariance"


def mixture(train: np.ndarray, test: np.ndarray) -> Scores:
    """Gaussian mixtures with full covariances; the number of components by the BIC."""
    scale = train.std(0)
    best, score = None, math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of EM that stops at its last iteration
        k = 1
        while True:
            fitted = GaussianMixture(k, random_state=0, max_iter=200).fit(train / scale)
            bic = fitted.bic(train / scale)
            if bic < score:
                best, score = fitted, bic
            elif k >= 4:
                break
            k *= 2
    assert best is not None
    return best.score_samples(test / scale) - np.log(scale).sum(), f"{best.n_components} components"


def kernels(train: np.ndarray, test: np.ndarray) -> Scores:
    """A normal kernel of one width per deviation, the width by leave-one-out likelihood on 3,000 rows."""
    loc, scale = train.mean(0), train.std(0)
    x, y = (torch.from_numpy((part - loc) / scale) for part in (train, test))
    d = x.shape[1]
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:3000]

    def log_p(rows: torch.Tensor, widths: np.ndarray, own: torch.Tensor | None) -> torch.Tensor:
        parts = []
        for start in range(0, len(rows), 250):
            square = torch.cdist(rows[start : start + 250], x).square()
            if own is not None:
                square[torch.arange(len(square)), own[start : start + 250]] = torch.inf
            count = len(x) - (own is not None)
            logs = [
                torch.logsumexp(-0.5 * square / h**2, 1)
                - math.log(count)
                - d * math.log(h * (2 * math.pi) ** 0.5)
                for h in widths
            ]
            parts.append(torch.stack(logs))
        return torch.cat(parts, 1)

    widths = np.geomspace(0.005, 1.0, 16)
    width = widths[int(log_p(x[chosen], widths, chosen).mean(1).argmax())]
    found = log_p(y, np.array([width]), None)[0].numpy() - np.log(scale).sum()
    return found, f"width {width:.3g} deviations"


Fit = Callable[[np.ndarray, int, int, str], tuple[float, Callable[[np.ndarray], np.ndarray], int]]


def chosen(fit: Fit, bases: tuple[str, ...], train: np.ndarray, test: np.ndarray, steps: int) -> Scores:
    """Scores of the setting whose short run gave held-out rows the highest likelihood, trained in full."""
    settings = [(bins, base) for bins, base in SETTINGS if base.partition(",")[0] in bases]
    short = [fit(train, steps // 8, bins, base)[0] for bins, base in settings]
    bins, base = settings[int(np.argmax(short))]
    _, score, count = fit(train, steps, bins, base)
    return score(test), f"{bins} bins, {base.replace(',', ', ')} base, {count:,} parameters"


def ours(train: np.ndarray, steps: int, bins: int, base: str) -> tuple[float, Any, int]:
    """Neural splines, autoregressive: held-out mean, scores, parameters."""
    density = FlowDensity(
        f"nsf-ar,layers={LAYERS},bins={bins},width={WIDTH}",
        steps=steps,
        options={"base": base, "batch": BATCH, "lr": LR, "patience": VALIDATIONS},
        holdout=HOLDOUT,
        random_state=0,
    ).fit(train)
    count = sum(p.numel() for p in density.flow_.parameters())
    return float(density.held_out_scores_.mean()), density.score_samples, count


def zuko_nsf(train: np.ndarray, steps: int, bins: int, base: str) -> tuple[float, Any, int]:
    """zuko's NSF of the same size, standardised data, Adam with the same warm-up and cosine; best weights
    of 25 validations on the same share of held-out rows."""
    import zuko

    assert base == "normal"
    torch.manual_seed(0)
    loc, scale = train.mean(0), train.std(0)
    x = torch.from_numpy((train - loc) / scale).float()
    order = torch.randperm(len(x))
    held, kept = x[order[: round(HOLDOUT * len(x))]], x[order[round(HOLDOUT * len(x)) :]]
    flow = zuko.flows.NSF(x.shape[1], transforms=LAYERS, bins=bins, hidden_features=(WIDTH, WIDTH))
    optimiser = torch.optim.Adam(flow.parameters(), LR)
    warm = min(200, max(1, steps // 10))

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    best, weights = math.inf, flow.state_dict()
    for step in range(steps):
        loss = -flow().log_prob(kept[torch.randint(len(kept), (BATCH,))]).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % max(1, steps // VALIDATIONS) == 0:
            with torch.no_grad():
                loss = -float(flow().log_prob(held).mean())
            if loss < best:
                best, weights = loss, {k: v.clone() for k, v in flow.state_dict().items()}
    flow.load_state_dict(weights)

    @torch.no_grad()
    def score(rows: np.ndarray) -> np.ndarray:
        y = torch.from_numpy((rows - loc) / scale).float()
        found = torch.cat([flow().log_prob(part) for part in y.split(2000)]).double().numpy()
        return found - np.log(scale).sum()

    return -best, score, sum(p.numel() for p in flow.parameters())


def run(name: str, folder: Path, steps: int, rows: int | None = None) -> dict[str, Any]:
    """All models on one table: a fifth of its rows, drawn with seed 0, is the test set."""
    x = table(name, folder)
    order = np.random.default_rng(0).permutation(len(x))[:rows]
    count = len(order) // 5
    test, train = x[order[:count]], x[order[count:]]
    row: dict[str, Any] = {"table": name, "steps": steps, "train": len(train), "test": len(test)}
    scores = {}
    models: dict[str, Callable[[np.ndarray, np.ndarray], Scores]] = {
        "normal": normal,
        "mixture": mixture,
        "kernels": kernels,
        "zuko_nsf": partial(chosen, zuko_nsf, ("normal",), steps=steps),
        "ours": partial(chosen, ours, ("normal", "mixture"), steps=steps),
    }
    for model, scored in models.items():
        start = time.process_time()
        scores[model], note = scored(train, test)
        seconds = round(time.process_time() - start, 1)
        row[model] = {"mean": float(scores[model].mean()), "note": note, "seconds": seconds}
        print(name, model, row[model], flush=True)
    for model, values in scores.items():
        gap = scores["ours"] - values
        row[model] |= {
            "ours above": float(gap.mean()),
            "error": float(gap.std(ddof=1) / len(gap) ** 0.5),
        }
    return row


LABELS = {
    "normal": "normal distribution",
    "mixture": "Gaussian mixture (BIC)",
    "kernels": "kernel density (cross-validated)",
    "zuko_nsf": "zuko NSF",
    "ours": "FlowDensity, nsf-ar",
}


def page() -> None:
    """Write benchmarks/results/tabular_density.json from the rows."""
    lines = []
    for row in read(NAME):
        for model, label in LABELS.items():
            r = row[model]
            above = "" if model == "ours" else f"{r['ours above']:.3f} +- {r['error']:.3f}"
            lines.append(
                {
                    "table": row["table"],
                    "rows (train, test)": f"{row['train']:,}, {row['test']:,}",
                    "model": label,
                    "held-out nats": f"{r['mean']:.3f}",
                    "ours above": above,
                    "of it": r["note"],
                    "processor s": r["seconds"],
                }
            )
    write_page(
        NAME,
        "Densities of tables",
        "Mean log-density of test rows in nats and the units of the data (components; degrees of latitude "
        "and longitude), and how far ours is above it, paired row by row, with the standard error. Test "
        "rows are a fifth of a table, drawn with seed 0. Both flows are autoregressive neural splines of "
        f"{LAYERS} layers and 2 x {WIDTH} units, {STEPS:,} steps of {BATCH} rows with the same schedule, "
        f"learning rate {LR:g}, best weights on {HOLDOUT:.0%} of the training rows. By the likelihood of "
        "these in a run of an eighth of the steps each chooses between 16 and 64 bins, ours also 16 bins and "
        "a base of 512 learnt normal distributions, which zuko's NSF does not have; its seconds are those "
        "of all its runs.",
        "python benchmarks/tabular_density.py run --data DIR && python benchmarks/tabular_density.py page",
        lines,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--quick", action="store_true", help="few rows and steps, nothing kept: does it run?")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
        return
    if args.data is None:
        parser.error("run needs --data DIR")
    for name in args.tables:
        if args.quick:
            print(run(name, args.data, 16, 500))
        elif not known(NAME, table=name, steps=args.steps):
            keep(NAME, run(name, args.data, args.steps))


if __name__ == "__main__":
    main()
