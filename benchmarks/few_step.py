"""Flow maps: samples in 1, 2 and 4 steps beside 100 of flow matching, from the same network, pairs and draws.

python benchmarks/few_step.py run [--systems N-8g ...] [--seeds 42 ...] [--methods lagrangian ...]
python benchmarks/few_step.py page
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from keeping import keep, known, read, spread, write_page
from systems import SYSTEMS, data, files, fresh_sources

import pushforward
from pushforward.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.metrics import wasserstein
from pushforward.solvers import Euler

NAME = "few_step"
NETWORK, STEPS, BATCH = "resmlp,width=128,depth=3", 4_000, 512
#: Points and draws of the source that samples are judged on; an exact plan of more takes minutes.
POINTS, DRAWS, NFE = 4_000, 2, (1, 2, 4)
#: By the name in the table: the loss, and whether it distils the run of flow matching.
METHODS = {
    "lagrangian": ("lagrangian", False),
    "eulerian": ("eulerian", False),
    "semigroup": ("semigroup", False),
    "semigroup, uniform": ("semigroup,between=uniform", False),
    "mean-flow": ("mean-flow", False),
    "improved-mean-flow": ("improved-mean-flow", False),
    "alpha-flow": ("alpha-flow", False),
    "lagrangian, distilled": ("lagrangian", True),
    "eulerian, distilled": ("eulerian", True),
    "semigroup, distilled": ("semigroup", True),
}


def config(system: str, seed: int, folder: Path, method: str, **model: Any) -> RunConfig:
    target, distribution = files(system, seed, folder)
    return RunConfig(
        target=target,
        seed=seed,
        data=DataConfig(source=distribution, preprocess="none", holdout=0.0),
        model=ModelConfig(method=method, network=NETWORK, times="uniform", **model),
        optim=OptimConfig(steps=STEPS, batch=BATCH, lr=2e-3, checkpoint_every=10 * STEPS, log_every=500),
        compute=ComputeConfig(threads=1),
    )


def trained(settings: RunConfig, out: Path) -> tuple[Any, float]:
    """The flow of a training, and its seconds."""
    run = pushforward.train(settings, out, show_progress=False)
    if not run.summary["finished"]:
        raise KeyboardInterrupt
    return run.flow, run.summary["seconds"]


def run(system: str, seed: int, methods: list[str]) -> None:
    """Flow matching and all ``methods``, judged on the same points."""
    test, sources = data(system, seed)[2][:POINTS], [x[:POINTS] for x in fresh_sources(system, seed)[:DRAWS]]

    def judged(push: Any) -> float:
        with torch.inference_mode():
            return statistics.fmean(wasserstein(push(x0), test) for x0 in sources)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flow, seconds = trained(config(system, seed, folder, "fm"), folder / "fm")
        hundred = judged(flow.replace(solver=Euler(steps=100)).push)
        row = {"system": system, "seed": seed, "steps": STEPS, "network": NETWORK, "W2 fm": hundred}
        if not known(NAME, system=system, seed=seed, method="fm"):
            few = {str(k): judged(flow.replace(solver=Euler(steps=k)).push) for k in NFE}
            keep(NAME, {**row, "method": "fm", "seconds": seconds, "W2": few})
        for number, method in enumerate(methods):
            if known(NAME, system=system, seed=seed, method=method):
                continue
            loss, distils = METHODS[method]
            began = time.perf_counter()
            more = {"teacher": str(folder / "fm")} if distils else {}
            settings = config(system, seed, folder, "flow-map", loss=loss, **more)
            mapped, seconds = trained(settings, folder / f"map-{number}")
            few = {str(k): judged(mapped.replace(steps=k).push) for k in NFE}
            own = judged(mapped.following(Euler(steps=100)).push)
            found = {"method": method, "seconds": seconds, "W2": few, "W2 of its velocity": own}
            keep(NAME, {**row, **found, "all seconds": round(time.perf_counter() - began)})


def page() -> None:
    """Write benchmarks/results/few_step.json."""
    rows, table = read(NAME), []
    base = {(r["system"], r["seed"]): r for r in rows if r["method"] == "fm"}
    for system in SYSTEMS:
        for method in ("fm", *METHODS):
            found = [r for r in rows if r["system"] == system and r["method"] == method]
            if not found:
                continue
            ratio = {k: [r["W2"][str(k)] / r["W2 fm"] for r in found] for k in NFE}
            seconds = [r["seconds"] / base[system, r["seed"]]["seconds"] for r in found]
            table.append(
                {
                    "system": system,
                    "method": method,
                    "seeds": len(found),
                    **{f"{k} {'step' if k == 1 else 'steps'}": spread(ratio[k], 2, error=False) for k in NFE},
                    "worst, 1 step": f"{max(ratio[1]):.2f}",
                    "seconds": f"{statistics.fmean(seconds):.2f}",
                }
            )
    write_page(
        NAME,
        "Flow maps in few steps",
        f"W2 to {POINTS:,} test points over that of flow matching with 100 Euler steps, the same network "
        f"({NETWORK}), pairs and {STEPS:,} steps of {BATCH}; mean and deviation over seeds, the same "
        f"{DRAWS} draws of the source. `fm` is flow matching with so few Euler steps. Seconds are those of "
        "training over those of flow matching; distilled maps come after it.",
        "python benchmarks/few_step.py run && python benchmarks/few_step.py page",
        table,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44, 45, 46])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
        return
    for seed in args.seeds:
        for system in args.systems:
            run(system, seed, args.methods)


if __name__ == "__main__":
    main()
