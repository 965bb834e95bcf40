"""Recipes on the two-dimensional systems of Tong et al. (arXiv 2307.03672, table 2), and torchcfm beside.

python benchmarks/two_dimensional.py run [--recipes ot-cfm ...] [--systems N-8g ...] [--seeds 42 43 ...]
python benchmarks/two_dimensional.py speed [--systems N-moons] [--steps 2000]
python benchmarks/two_dimensional.py page

``run`` trains each recipe by `pushforward.train` (the paper's network, 20,000 steps of 512, Euler 100) and
keeps one row per recipe, system and seed, so that it can be stopped and gone on with.  ``speed`` trains
torchcfm's OT-CFM and ours in turn.  ``page`` gathers the rows into benchmarks/results.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from keeping import RESULTS, keep, known, read, spread, write_page
from systems import DRAWS, PUBLISHED, SYSTEMS, data, files, floor, fresh_sources
from torch import Tensor

import pushforward
from pushforward import registry
from pushforward.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.metrics import wasserstein
from pushforward.random import seeded
from pushforward.sources import Empirical, Normal, Source

NAME = "two_dimensional"
FLOORS = RESULTS / "rows" / "two_dimensional_floors.json"
STEPS, BATCH, EULER = 20_000, 512, 100

#: What each recipe is given beside its defaults.  Points are left in their own units, since q0 = N(0, I)
#: is stated in them.
RECIPES: dict[str, dict[str, Any]] = {
    "fm": {},
    "i-cfm": {},
    "ot-cfm": {},
    "sb-cfm": {},
    "sf2m": {},
    "vp": {},
    # Euler's first-order shrinkage along this path outweighs everything else, so half the steps of order 2
    "ve": {"solver": "heun,steps=50"},
    "rectified-flow": {},
    "semidiscrete-ot": {},
}

#: diffusion paths need a normal source, and semidiscrete plans one with a density
NORMAL_ONLY = ("vp", "ve", "semidiscrete-ot")


def config(recipe: str, system: str, seed: int, steps: int, folder: Path) -> RunConfig:
    """The run of a recipe; points that are not drawn from N(0, I) are read from files in ``folder``."""
    target, distribution = files(system, seed, folder)
    defaults = {**registry.lookup("method", recipe).defaults, **RECIPES[recipe]}
    model = {"network": "mlp,width=64,depth=3,activation=selu", "solver": f"euler,steps={EULER}", **defaults}
    return RunConfig(
        target=target,
        seed=seed,
        data=DataConfig(source=distribution, preprocess="none", holdout=0.0),
        model=ModelConfig(method=recipe, times="uniform", reuse=32, **model),
        optim=OptimConfig(steps=steps, batch=BATCH, lr=2e-3, checkpoint_every=10 * STEPS, log_every=200),
        compute=ComputeConfig(threads=1),
    )


def start_of(distribution: Source, x0: Tensor, seed: int) -> Tensor:
    """Where a recipe's path starts for source points x0: with noise, or far out along diffusion paths."""
    if isinstance(distribution, Normal):
        return distribution.loc + distribution.scale * x0
    assert isinstance(distribution, Empirical)
    return x0 + distribution.noise * torch.randn(x0.shape, generator=seeded("start", seed))


@torch.inference_mode()
def judge(flow: Any, system: str, seed: int, draws: int) -> dict[str, float]:
    """W2 / F, W2 and normalised path energy, means over fresh draws of the source."""
    test = data(system, seed)[2]
    least = floor(system, seed, FLOORS)
    found, energies = [], []
    times = torch.linspace(0, 1, EULER + 1)
    for x0 in fresh_sources(system, seed)[:draws]:
        path = flow.trajectory(start_of(flow.source, x0, seed), times).path
        found.append(wasserstein(path[-1], test))
        # Euler's polygon: its velocities are those of the field at the left ends
        energies.append(float((path.diff(dim=0) * EULER).square().sum(-1).mean()))
    energy = statistics.fmean(energies)
    w2 = statistics.fmean(found)
    return {
        "W2": w2,
        "W2/F": w2 / least["F"],
        "NPE": abs(energy - least["W2_squared"]) / least["W2_squared"],
    }


def run(recipe: str, system: str, seed: int, steps: int, draws: int) -> dict[str, Any]:
    """Train and judge one recipe."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        trained = pushforward.train(
            config(recipe, system, seed, steps, folder), folder / "run", show_progress=False
        )
        seconds = time.perf_counter() - start
        if not trained.summary["finished"]:
            raise KeyboardInterrupt
        row = {"recipe": recipe, "system": system, "seed": seed, "seconds": round(seconds, 1)}
        return row | judge(trained.flow, system, seed, draws) | {"draws": draws, "steps": steps}


def torchcfm_seconds(system: str, seed: int, steps: int) -> tuple[float, float]:
    """Wall and processor seconds of torchcfm's OT-CFM with its own network and a loop as in its examples."""
    from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
    from torchcfm.models.models import MLP

    torch.manual_seed(seed)
    x0, x1, _ = data(system, seed)
    matcher, net = ExactOptimalTransportConditionalFlowMatcher(0.1), MLP(dim=2, w=64, time_varying=True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-5)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        a = torch.randn(BATCH, 2) if system.startswith("N-") else x0[torch.randint(0, len(x0), (BATCH,))]
        b = x1[torch.randint(0, len(x1), (BATCH,))]
        t, x, u = matcher.sample_location_and_conditional_flow(a, b)[:3]
        loss = (net(torch.cat([x, t[:, None]], 1)) - u).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return time.perf_counter() - wall, time.process_time() - cpu


def our_seconds(system: str, seed: int, steps: int) -> tuple[float, float]:
    """Wall and processor seconds of the recipe, all of it: data, plans, training, files."""
    with tempfile.TemporaryDirectory() as name:
        wall, cpu = time.perf_counter(), time.process_time()
        pushforward.train(
            config("ot-cfm", system, seed, steps, Path(name)), Path(name) / "run", show_progress=False
        )
        return time.perf_counter() - wall, time.process_time() - cpu


def speed(systems: list[str], steps: int) -> None:
    """Both in turn, ours first and last, so that a drift of the machine shows."""
    for system in systems:
        first = our_seconds(system, 42, steps)
        theirs = torchcfm_seconds(system, 42, steps)
        last = our_seconds(system, 42, steps)
        ours = [statistics.fmean(pair) for pair in zip(first, last)]
        row = {
            "speed": system,
            "steps": steps,
            "wall_ratio": theirs[0] / ours[0],
            "cpu_ratio": theirs[1] / ours[1],
        }
        keep(NAME, {**row, "torchcfm_s": theirs[0], "ours_s": [first[0], last[0]]})


def page() -> None:
    """Write benchmarks/results/two_dimensional.json from the rows."""
    found = read(NAME)
    table = []
    for recipe in RECIPES:
        for system in SYSTEMS:
            mine = [
                r
                for r in found
                if r.get("recipe") == recipe and r["system"] == system and r["steps"] == STEPS
            ]
            if not mine:
                continue
            w2, npe = PUBLISHED.get(recipe, {}).get(system, ("", ""))
            table.append(
                {
                    "recipe": recipe,
                    "system": system,
                    "W2 / F": spread([r["W2/F"] for r in mine], 3),
                    "W2": spread([r["W2"] for r in mine], 3),
                    "published W2": w2,
                    # a variance exploding path does not start from q0
                    "NPE": "" if recipe == "ve" else spread([r["NPE"] for r in mine], 4),
                    "published NPE": npe,
                    "NPE, floor": spread([floor(system, r["seed"], FLOORS)["NPE"] for r in mine], 4),
                    "seconds": round(statistics.median([r["seconds"] for r in mine if r["seconds"]] or [0]))
                    or "",
                    "seeds": len(mine),
                }
            )
    write_page(
        NAME,
        "Two-dimensional systems",
        "The systems, network (3 x 64 SELU), steps (20,000 of 512) and solver (Euler 100) of "
        "Tong et al. "
        "2024 (arXiv 2307.03672, table 2), whose figures stand beside. W2 is the mean over "
        f"up to {DRAWS} fresh draws of the source (10,000 points each); F is the mean W2 between 10 "
        f"bootstrap "
        "resamples of a seed's training targets and its test targets, the floor for anything that "
        "learns from them. NPE is |path energy - W2^2(q0, q1)| / W2^2(q0, q1), with q1 the test targets; its "
        "floor is that of a flow that carries the source to the training targets optimally. Means over the "
        "seeds, with standard errors. Seconds are those of whole runs on a shared machine.",
        "python benchmarks/two_dimensional.py run && python benchmarks/two_dimensional.py page",
        table,
    )
    fast = [
        {
            "system": r["speed"],
            "steps": r["steps"],
            "times faster (wall)": round(r["wall_ratio"], 1),
            "times faster (processor)": round(r["cpu_ratio"], 1),
            "torchcfm, s": round(r["torchcfm_s"], 1),
            "ours, s": ", ".join(f"{s:.1f}" for s in r["ours_s"]),
        }
        for r in found
        if "speed" in r
    ]
    if fast:
        write_page(
            "ot_cfm_speed",
            "OT-CFM beside torchcfm",
            "Plans and training together at equal batch (512), steps and network (3 x 64 "
            "SELU): torchcfm's "
            "exact OT-CFM, one plan per batch, against the recipe `ot-cfm`, plans made ahead in the "
            "background. "
            "One torch thread each; run in turn, ours before and after. The background thread may "
            "use another core, so "
            "the ratio of processor time stands beside that of wall time.",
            "python benchmarks/two_dimensional.py speed",
            fast,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "speed", "floors", "page"))
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44, 45, 46])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--draws", type=int, default=DRAWS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
    elif args.what == "speed":
        speed(args.systems, args.steps)
    else:
        for seed in args.seeds:
            for system in args.systems:
                if args.what == "floors":
                    print(system, seed, floor(system, seed, FLOORS), flush=True)
                    continue
                for recipe in args.recipes:
                    if recipe in NORMAL_ONLY and not system.startswith("N-"):
                        continue
                    key = {"recipe": recipe, "system": system, "seed": seed, "steps": args.steps}
                    if not known(NAME, **key):
                        keep(NAME, run(**key, draws=args.draws))


if __name__ == "__main__":
    main()
