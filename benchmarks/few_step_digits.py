"""Digits of a chosen class in 1, 2 and 4 steps of a flow map beside 100 of flow matching.

python benchmarks/few_step_digits.py run [--seeds 42 43 44]
python benchmarks/few_step_digits.py page
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import keep, known, read, spread, write_page
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import pushforward
from pushforward.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.metrics import energy_distance, wasserstein
from pushforward.random import seeded
from pushforward.solvers import Euler

NAME = "few_step_digits"
STEPS, NFE, DRAWS = 1_500, (1, 2, 4), 2
#: By the name in the table: the loss, and whether the run of flow matching is its teacher.
METHODS: dict[str, tuple[str, bool]] = {
    "lagrangian": ("lagrangian", False),
    "semigroup": ("semigroup,diagonal=.5", False),
    "lagrangian, distilled": ("lagrangian", True),
    "semigroup, distilled": ("semigroup,diagonal=.5", True),
}


def trained(seed: int, out: Path, method: str, **model: Any) -> Any:
    """The flow of a training on digits given their labels."""
    settings = RunConfig(
        target="digits",
        seed=seed,
        data=DataConfig(condition=("label",)),
        model=ModelConfig(method=method, **model),
        optim=OptimConfig(steps=STEPS, checkpoint_every=10 * STEPS, log_every=500),
        compute=ComputeConfig(threads=1),
    )
    run = pushforward.train(settings, out, show_progress=False)
    if not run.summary["finished"]:
        raise KeyboardInterrupt
    return run.flow


def run(seed: int, judge: Judge) -> None:
    """Flow matching and the flow maps of one seed."""
    if all(known(NAME, seed=seed, method=method) for method in ("fm", *METHODS)):
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flow = trained(seed, folder / "fm", "fm")
        if not known(NAME, seed=seed, method="fm"):
            for steps in (100, *NFE):
                found = judge(flow.replace(solver=Euler(steps=steps)), seed)
                keep(NAME, {"seed": seed, "method": "fm", "nfe": steps, **found})
        for method, (loss, distils) in METHODS.items():
            if known(NAME, seed=seed, method=method):
                continue
            more = {"teacher": str(folder / "fm")} if distils else {}
            flow = trained(seed, folder / method.replace(", ", "-"), "flow-map", loss=loss, **more)
            for steps in NFE:
                found = judge(flow.replace(steps=steps), seed)
                keep(NAME, {"seed": seed, "method": method, "nfe": steps, **found})


class Judge:
    """W2 and energy distance to all digits, and how often a classifier of these sees the class asked for.

    The classifier is a support vector machine with an RBF kernel.
    """

    def __init__(self) -> None:
        images, labels = load_digits(return_X_y=True)
        self.classifier = SVC(C=10).set_params(gamma=0.001).fit(images, labels)
        self.images = torch.tensor(images, dtype=torch.float32)
        #: as many as there are images, each class equally often
        self.labels = torch.arange(len(labels)) % 10

    @torch.inference_mode()
    def __call__(self, flow: Any, seed: int) -> dict[str, float]:
        found: dict[str, list[float]] = {"W2": [], "energy": [], "accuracy": []}
        for draw in range(DRAWS):
            x0 = flow.source.sample(len(self.labels), self.labels, seeded(f"draw {draw}", seed))
            x = flow.push(x0, self.labels).flatten(1).float()
            found["W2"].append(float(wasserstein(x, self.images)))
            found["energy"].append(float(energy_distance(x, self.images)))
            seen = self.classifier.predict(x.numpy())
            found["accuracy"].append(float(np.mean(seen == self.labels.numpy())))
        return {key: statistics.fmean(values) for key, values in found.items()}


def page() -> None:
    """Write benchmarks/results/few_step_digits.json."""
    rows = read(NAME)
    base = {r["seed"]: r for r in rows if r["method"] == "fm" and r["nfe"] == 100}
    table = []
    for method, steps in dict.fromkeys((r["method"], r["nfe"]) for r in rows):
        found = [r for r in rows if (r["method"], r["nfe"]) == (method, steps)]
        ratio = [r["W2"] / base[r["seed"]]["W2"] for r in found]
        lost = [100 * (r["accuracy"] - base[r["seed"]]["accuracy"]) for r in found]
        table.append(
            {
                "method": method,
                "evaluations": steps,
                "seeds": len(found),
                "W2 / fm": spread(ratio, 3, error=False),
                "energy distance": spread([r["energy"] for r in found], 3, error=False),
                "accuracy, %": spread([100 * r["accuracy"] for r in found], 2, error=False),
                "points beside fm": f"{statistics.fmean(lost):+.2f}",
            }
        )
    write_page(
        NAME,
        "Digits in few steps",
        f"Digits of 8 x 8 given their labels, {STEPS:,} steps of training each, default networks; {DRAWS} "
        "draws of as many samples as there are images, judged against all images: W2 over that of flow "
        "matching with 100 Euler steps, energy distance, and how often a classifier sees the class asked "
        "for, with its difference from flow matching in points.  Mean and deviation over seeds.",
        "python benchmarks/few_step_digits.py run && python benchmarks/few_step_digits.py page",
        table,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
        return
    judge = Judge()
    for seed in args.seeds:
        run(seed, judge)


if __name__ == "__main__":
    main()
