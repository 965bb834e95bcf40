"""Small tables by the default command line, beside densities without a network and zuko stopped early.

    python benchmarks/small_tables.py run [--data DIR]
    python benchmarks/small_tables.py page

Rows are added to results/rows/small_tables.jsonl one by one, so that a run can be stopped and gone on with.
``--data`` is a folder with quakes_all.csv and fire.csv (see tabular_density.py), else these are left out.
"""

from __future__ import annotations

import argparse
import csv
import math
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import keep, known, read, write_page
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from pushforward.recipes import open_run

NAME = "small_tables"
SEEDS = range(5)
#: Rows of places trained on, and tested on.
SUBSETS = (64, 128, 256)
TEST_ROWS = 1000

Density = Callable[[np.ndarray], np.ndarray]


def places(path: Path) -> np.ndarray:
    """Latitude and longitude, without repeats."""
    rows = []
    with path.open() as file:
        for row in csv.reader(file):
            try:
                rows.append([float(value) for value in row[:2]])
            except ValueError:
                continue
    return np.unique(np.array(rows), axis=0)


def tables(data: Path | None) -> dict[str, tuple[np.ndarray, int | None]]:
    """Rows, and how many of them are trained on (None: all but a fifth)."""
    found: dict[str, tuple[np.ndarray, int | None]] = {
        "wine": (np.asarray(load_wine(return_X_y=True)[0]), None),
        "breast cancer": (np.asarray(load_breast_cancer(return_X_y=True)[0]), None),
        "iris": (np.asarray(load_iris(return_X_y=True)[0]), None),
        "diabetes": (np.asarray(load_diabetes(return_X_y=True, scaled=False)[0]), None),
    }
    for name, file in (("quakes", "quakes_all.csv"), ("fire", "fire.csv")):
        if data is not None:
            x = places(data / file)
            found |= {f"{name}, {n} rows": (x, n) for n in SUBSETS}
    return found


def divided(x: np.ndarray, rows: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows."""
    if rows is None:
        train, test = train_test_split(x, test_size=0.2, random_state=seed)
        return np.asarray(train), np.asarray(test)
    order = np.random.default_rng(seed).permutation(len(x))
    return x[order[:rows]], x[order[rows : rows + TEST_ROWS]]


def gaussian(z: np.ndarray) -> Density:
    """The normal distribution of maximum likelihood."""
    return GaussianMixture(1, reg_covar=1e-6).fit(z).score_samples


def mixture(z: np.ndarray) -> Density:
    """scikit-learn's Gaussian mixture, the number of components and the kind of covariance by BIC."""
    fits = [
        GaussianMixture(k, covariance_type=kind, random_state=0).fit(z)
        for kind in ("full", "tied", "diag")
        for k in range(1, min(13, len(z) // 8 + 1))
    ]
    return min(fits, key=lambda fit: fit.bic(z)).score_samples


def kernels(z: np.ndarray) -> Density:
    """scikit-learn's Gaussian kernel density, its width by cross-validated likelihood."""
    search = GridSearchCV(KernelDensity(), {"bandwidth": np.geomspace(0.03, 2, 30)}, cv=5).fit(z)
    return search.best_estimator_.score_samples


def zuko_flow(z: np.ndarray) -> Density:
    """zuko's neural spline flow, a fifth of the rows held out to stop by, the best weights kept."""
    import zuko

    torch.manual_seed(0)
    d = z.shape[1]
    x = torch.tensor(z, dtype=torch.float32)
    order = torch.randperm(len(x))
    held, train = x[order[: len(x) // 5]], x[order[len(x) // 5 :]]
    flow = zuko.flows.NSF(d, transforms=3, hidden_features=(64, 64))
    optimiser = torch.optim.AdamW(flow.parameters(), 1e-3)
    best, kept, since = math.inf, flow.state_dict(), 0
    for _ in range(2000):
        loss = -flow().log_prob(train[torch.randint(len(train), (min(len(train), 128),))]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            now = -float(flow().log_prob(held).mean())
        since += 1
        if now < best:
            best, since = now, 0
            kept = {name: value.clone() for name, value in flow.state_dict().items()}
        if since >= 100:
            break
    flow.load_state_dict(kept)

    def density(y: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return flow().log_prob(torch.tensor(y, dtype=torch.float32)).double().numpy()

    return density


BASELINES = {"Gaussian": gaussian, "mixture": mixture, "kernel density": kernels, "zuko NSF": zuko_flow}


def by_command(train: np.ndarray, test: np.ndarray, seed: int, method: str | None) -> dict[str, Any]:
    """``pushforward train table.csv``, with its report, and the density of the test rows by ``score``."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        names = ",".join(f"x{i + 1}" for i in range(train.shape[1]))
        for file, rows in (("train.csv", train), ("test.csv", test)):
            np.savetxt(place / file, rows, fmt="%.17g", delimiter=",", header=names, comments="")
        command = [sys.executable, "-m", "pushforward.cli"]
        begin = time.monotonic()
        flags = ["--holdout", "0", "--seed", str(seed), *(["--method", method] if method else [])]
        quiet: dict[str, Any] = {"check": True, "capture_output": True}
        subprocess.run([*command, "train", "train.csv", "--out", "run", *flags], cwd=place, **quiet)
        seconds = time.monotonic() - begin
        subprocess.run([*command, "score", "run", "test.csv", "-o", "scores.csv"], cwd=place, **quiet)
        run = open_run(place / "run")
        return {
            "scores": np.loadtxt(place / "scores.csv", skiprows=1),
            "seconds": round(seconds, 1),
            "kept": run.summary["kept_step"],
            "learnt": run.summary.get("learnt"),
            "start": run.summary.get("start"),
        }


def cell(x: np.ndarray, rows: int | None, seed: int, method: str | None) -> dict[str, Any]:
    """One split of one table: held-out nats of everything, and the paired differences."""
    train, test = divided(x, rows, seed)
    scaler = StandardScaler().fit(train)
    volume = float(np.log(np.asarray(scaler.scale_)).sum())
    ours = by_command(train, test, seed, method)
    row: dict[str, Any] = {key: ours[key] for key in ("seconds", "kept", "learnt", "start")}
    row |= {"rows": len(train), "tested": len(test), "nats": {"ours": float(ours["scores"].mean())}}
    row["ours above"] = {}
    for name, fit in BASELINES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            values = fit(np.asarray(scaler.transform(train)))(np.asarray(scaler.transform(test))) - volume
        gain = ours["scores"] - values
        row["nats"][name] = float(values.mean())
        row["ours above"][name] = [float(gain.mean()), float(gain.var()), len(gain)]
    return row


def page() -> None:
    """Write benchmarks/results/small_tables.json from the rows."""
    found = read(NAME)
    lines = []
    for table in dict.fromkeys(row["table"] for row in found):
        rows = [row for row in found if row["table"] == table]
        line: dict[str, Any] = {"table": table, "rows": rows[0]["rows"], "splits": len(rows)}
        line["ours"] = f"{np.mean([row['nats']['ours'] for row in rows]):.2f}"
        worst = math.inf
        for name in BASELINES:
            parts = [row["ours above"][name] for row in rows]
            n = sum(count for *_, count in parts)
            mean = sum(m * count for m, _, count in parts) / n
            # the variance of all paired differences, of every split about the common mean
            spread = sum((v + (m - mean) ** 2) * count for m, v, count in parts) / n
            error = math.sqrt(spread / n)
            worst = min(worst, mean + error)
            nats = np.mean([row["nats"][name] for row in rows])
            line[name] = f"{nats:.2f} (ours {mean:+.3f} +- {error:.3f})"
        learnt = [(row["learnt"] or {"gain": 0.0})["gain"] for row in rows]
        line["beyond the start"] = f"{np.mean(learnt):.2f} ({min(learnt):.2f} to {max(learnt):.2f})"
        line["seconds"] = f"{max(row['seconds'] for row in rows):.0f}"
        line["at least the best less one error"] = "yes" if worst >= 0 else "no"
        lines.append(line)
    write_page(
        NAME,
        "Small tables",
        "Held-out log-density in nats per row of `pushforward train table.csv` with no flag but the seed "
        "and `--holdout 0`, beside a Gaussian, scikit-learn's Gaussian mixture (components and "
        "covariances by BIC) and kernel density (width by cross-validated likelihood) on standardised "
        "rows, and zuko's spline flow with the best weights by a fifth of the rows. In brackets what "
        "ours has more, the mean paired difference over all test rows of five splits and its standard "
        "error. `beyond the start` is what cross-validation says was learnt beyond the stack of "
        "baselines, mean and range over the splits. Seconds are the longest of the whole command, with "
        "its report. A column of diabetes has two values, so that log-densities there have no bound but "
        "the floor of whoever fits: scikit-learn's of a thousandth of a deviation is ours too.",
        "python benchmarks/small_tables.py run --data DIR && python benchmarks/small_tables.py page",
        lines,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--method", help="another method than the default; shown, not kept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
        return
    for seed in args.seeds:
        for table, (x, rows) in tables(args.data).items():
            if args.tables and table not in args.tables:
                continue
            if args.method:
                print(table, seed, cell(x, rows, seed, args.method), flush=True)
            elif not known(NAME, table=table, seed=seed):
                keep(NAME, {"table": table, "seed": seed, **cell(x, rows, seed, None)})


if __name__ == "__main__":
    main()
