"""Reflow and distillation on the two-dimensional systems: one Euler step beside the teacher's hundred.

python benchmarks/reflow.py run [--systems N-8g ...] [--seeds 42 ...]
python benchmarks/reflow.py page
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
from systems import DRAWS, SYSTEMS, data, files, fresh_sources

import pushforward
from pushforward.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.metrics import straightness, wasserstein
from pushforward.solvers import Euler

NAME = "reflow"
NETWORK, STEPS, BATCH, PAIRS = "resmlp,width=128,depth=3", 10_000, 512, 100_000


def config(system: str, seed: int, folder: Path, teacher: str, **model: Any) -> RunConfig:
    target, distribution = files(system, seed, folder)
    return RunConfig(
        target=target,
        seed=seed,
        data=DataConfig(source=distribution, preprocess="none", holdout=0.0),
        model=ModelConfig(
            method=teacher, network=NETWORK, solver="euler,steps=100", times="uniform", **model
        ),
        optim=OptimConfig(steps=STEPS, batch=BATCH, lr=2e-3, checkpoint_every=10 * STEPS, log_every=500),
        compute=ComputeConfig(threads=1),
    )


@torch.inference_mode()
def run(system: str, seed: int, teacher: str) -> dict[str, Any]:
    """Teacher, reflowed and distilled flow, all from the same draws of the source."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, torch.inference_mode(False):
        folder = Path(name)
        coupling = {"rectified-flow": "independent", "ot-cfm": "ot"}[teacher]
        options: dict[str, Any] = {"coupling": coupling, "reuse": 32, "pairs": PAIRS}
        trained = pushforward.train(
            config(system, seed, folder, teacher, reflow=1, distil=True, **options),
            folder / "run",
            show_progress=False,
        )
        if not trained.summary["finished"]:
            raise KeyboardInterrupt
        flows = {s: pushforward.load(folder / "run", stage=s) for s in ("train", "reflow-1", "distil")}
    test = data(system, seed)[2]
    found: dict[str, list[float]] = {
        "teacher": [],
        "teacher, 1 step": [],
        "reflow, 1 step": [],
        "distilled": [],
    }
    one, times = Euler(steps=1), torch.linspace(0, 1, 101)
    bends: dict[str, list[float]] = {"train": [], "reflow-1": []}
    for x0 in fresh_sources(system, seed)[:DRAWS]:
        for key, x in (
            ("teacher", flows["train"].push(x0)),
            ("teacher, 1 step", flows["train"].replace(solver=one).push(x0)),
            ("reflow, 1 step", flows["reflow-1"].replace(solver=one).push(x0)),
            ("distilled", flows["distil"].push(x0)),
        ):
            found[key].append(wasserstein(x, test))
        for stage, values in bends.items():
            path = flows[stage].trajectory(x0, times).path
            assert path is not None
            values.append(straightness(path, times))
    w2 = {key: statistics.fmean(values) for key, values in found.items()}
    return {
        "system": system,
        "seed": seed,
        "teacher": teacher,
        "seconds": round(time.perf_counter() - start),
        "W2": w2,
        "straightness": {stage: statistics.fmean(values) for stage, values in bends.items()},
        "network": NETWORK,
        "steps": STEPS,
    }


def page() -> None:
    """Write benchmarks/results/reflow.json."""
    table = []
    for r in sorted(read(NAME), key=lambda r: (r["teacher"], SYSTEMS.index(r["system"]))):
        w2 = r["W2"]
        table.append(
            {
                "teacher": r["teacher"].replace("rectified-flow", "independent pairs"),
                "system": r["system"],
                "W2, 100 steps": f"{w2['teacher']:.3f}",
                "1 step": f"{w2['teacher, 1 step'] / w2['teacher']:.2f}",
                "reflow, 1 step": f"{w2['reflow, 1 step'] / w2['teacher']:.2f}",
                "distilled, 1 step": f"{w2['distilled'] / w2['teacher']:.2f}",
                "S": f"{r['straightness']['train']:.3f}",
                "S after reflow": f"{r['straightness']['reflow-1']:.4f}",
            }
        )
    write_page(
        NAME,
        "Reflow and distillation",
        f"One round of reflow on {PAIRS:,} pairs of the teacher, then distillation, by `--method "
        "rectified-flow --distil` (independent pairs) or with an `ot-cfm` teacher. "
        f"Network {NETWORK}, {STEPS:,} steps of {BATCH} in each stage. Columns of 1 step are W2 to the test "
        "points over the teacher's with 100 Euler steps; means over 5 draws of the source, the same for all. "
        "S is the straightness of the flow, 0 for straight lines.",
        "python benchmarks/reflow.py run && python benchmarks/reflow.py page",
        table,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--teachers", nargs="+", default=["rectified-flow", "ot-cfm"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
        return
    for seed in args.seeds:
        for system in args.systems:
            for teacher in args.teachers:
                if not known(NAME, system=system, seed=seed, teacher=teacher):
                    keep(NAME, run(system, seed, teacher))


if __name__ == "__main__":
    main()
