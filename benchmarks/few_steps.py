"""Few evaluations: the distance of samples to test points, over that of a hundred Euler steps.

python benchmarks/few_steps.py run [--systems N-8g digits ...] [--seeds 101 102 103]
python benchmarks/few_steps.py page

``run`` trains a flow on each of the two-dimensional systems and on the digits, compares all solvers of a
number of evaluations and the one that `tune_sampler` finds, from the same draws of the source, and keeps one
row for each training.  The sampler is tuned on draws of its own; its settings were chosen on another seed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from keeping import keep, known, read, write_page
from systems import SYSTEMS, data, files, source
from torch import Tensor

import pushforward
from pushforward.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.metrics import energy_distance, wasserstein
from pushforward.random import seeded
from pushforward.solvers import AB2, DDIM, DPMSolver, Euler, Heun, Midpoint, Solver, UniPC

NAME, DIGITS = "few_steps", "digits"
SEEDS, BUDGETS, POINTS = (101, 102, 103), (4, 6, 10), 3000
STEPS = {DIGITS: 1500}


def solvers(nfe: int) -> dict[str, Solver]:
    """Known solvers of ``nfe`` evaluations on uniform grids."""
    return {
        "euler": Euler(nfe),
        "midpoint": Midpoint(nfe // 2),
        "heun": Heun(nfe // 2),
        "ab2": AB2(nfe - 1),
        "ddim": DDIM(nfe),
        "dpm++": DPMSolver(nfe),
        "unipc": UniPC(nfe),
    }


def config(system: str, seed: int, folder: Path) -> RunConfig:
    """The run: flow matching with independent pairs."""
    steps = STEPS.get(system, 4000)
    optim = OptimConfig(steps=steps, batch=512, lr=2e-3, checkpoint_every=10 * steps, log_every=500)
    compute = ComputeConfig(threads=1)
    if system == DIGITS:
        optim = OptimConfig(steps=steps, batch=64, checkpoint_every=10 * steps, log_every=500)
        model = ModelConfig(method="fm", network="unet,width=16")
        return RunConfig(target=DIGITS, seed=seed, model=model, optim=optim, compute=compute)
    target, distribution = files(system, seed, folder)
    method = "fm" if distribution == "normal" else "i-cfm"
    network = "mlp,width=64,depth=3,activation=selu"
    return RunConfig(
        target=target,
        seed=seed,
        data=DataConfig(source=distribution, preprocess="none", holdout=0.0),
        model=ModelConfig(method=method, network=network, times="uniform"),
        optim=optim,
        compute=compute,
    )


def held_out(trained: Any, system: str, seed: int) -> tuple[Tensor, Tensor]:
    """Starts and test points."""
    if system == DIGITS:
        x = trained.dataset.test.x
        return trained.flow.core.source.sample(1000, None, seeded(seed, "starts")), x
    if system.startswith("N-"):
        x0 = source(system, POINTS, 1_000_000 + seed)
    else:
        x0 = trained.flow.core.source.sample(POINTS, None, seeded(seed, "starts"))
    return x0, data(system, seed)[2][:POINTS]


def run(system: str, seed: int) -> dict[str, Any]:
    """Train once and judge all solvers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained = pushforward.train(config(system, seed, folder), folder / "run", show_progress=False)
        if not trained.summary["finished"]:
            raise KeyboardInterrupt
        flow = trained.flow
        x0, test = held_out(trained, system, seed)

        @torch.no_grad()
        def judge(solver: Solver) -> float:
            x = flow.following(solver).push(x0).to(test.dtype)
            distance = energy_distance if system == DIGITS else wasserstein
            return float(distance(x.flatten(1), test.flatten(1)))

        row: dict[str, Any] = {"system": system, "seed": seed, "euler 100": judge(Euler(100))}
        for nfe in BUDGETS:
            row |= {f"{label} {nfe}": judge(solver) for label, solver in solvers(nfe).items()}
            start = time.perf_counter()
            pairs, iterations = (128, 40) if system == DIGITS else (512, 100)
            generator = seeded(seed, "tune")
            tuned = pushforward.tune_sampler(
                flow, nfe, pairs=pairs, iterations=iterations, generator=generator
            )
            row |= {
                f"seconds {nfe}": round(time.perf_counter() - start, 1),
                f"tuned {nfe}": judge(tuned.solver),
            }
        return row


def page() -> None:
    """The table: for each system and number of evaluations the ratios, means over the seeds and the worst."""
    rows = []
    for system in (*SYSTEMS, DIGITS):
        for nfe in BUDGETS:
            found = [row for row in read(NAME) if row["system"] == system and f"tuned {nfe}" in row]
            if not found:
                continue
            line: dict[str, Any] = {"system": system, "evaluations": nfe}
            for label in (*solvers(nfe), "tuned"):
                ratios = [row[f"{label} {nfe}"] / row["euler 100"] for row in found]
                line[label] = f"{statistics.fmean(ratios):.2f}"
            ratios = [row[f"tuned {nfe}"] / row["euler 100"] for row in found]
            line["tuned, each seed"] = ", ".join(f"{ratio:.3f}" for ratio in ratios)
            rows.append(line)
    seeds = sorted({row["seed"] for row in read(NAME)})
    write_page(
        NAME,
        "Few evaluations",
        "Distance of samples to test points over that of the same flow with 100 Euler steps: W2 of 3,000 "
        "points on the two-dimensional systems, the energy distance of 1,000 images on digits; 1.00 is as "
        f"good as 100 steps. Means over trainings of seeds {', '.join(map(str, seeds))}, with equal draws "
        "of the source for all solvers of one, on uniform grids; `ddim` is `euler` on this path. `tuned` is "
        "the sampler of `tune_sampler`, fitted on other draws; its settings were chosen on another seed.",
        "python benchmarks/few_steps.py run && python benchmarks/few_steps.py page",
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("--systems", nargs="+", default=[*SYSTEMS, DIGITS])
    runs.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    commands.add_parser("page")
    args = parser.parse_args()
    if args.command == "page":
        page()
        return
    torch.set_num_threads(1)
    for seed in args.seeds:
        for system in args.systems:
            if not known(NAME, system=system, seed=seed):
                keep(NAME, run(system, seed))


if __name__ == "__main__":
    main()
