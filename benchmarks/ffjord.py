"""FFJORD on two moons, whose density is known: nats above the entropy, beside a spline flow.

python benchmarks/ffjord.py run [--seeds ...]
python benchmarks/ffjord.py page

The data, the test points and the gap are those of two_moons.py.  Both models are trained for a fixed number
of steps, Adam's rate falling to nothing along a cosine, and the continuous flow is scored with the exact
divergence and a tolerance of 1e-5, whatever it was trained with.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from keeping import keep, known, read, spread, write_page
from torch import Tensor, nn
from two_moons import TESTED, TRAINED, gap, moons

from pushforward import ContinuousFlow, Dopri5, Normal
from pushforward.flows import DensityFlow, Exact, Hutchinson, nsf
from pushforward.nn import MLP

NAME = "ffjord"
#: Steps, rows of a step and peak learning rate.
CONTINUOUS, SPLINE = (1200, 512, 1e-2), (2000, 1024, 3e-3)
LOOSE, TIGHT = Dopri5(rtol=1e-3, atol=1e-3), Dopri5(rtol=1e-5, atol=1e-5)


def fit(flow: DensityFlow, x: Tensor, steps: int, batch: int, rate: float, seed: int) -> float:
    """Train; the seconds that it took."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(flow.parameters(), rate, fused=True)
    start = time.perf_counter()
    for step in range(steps):
        done = step / steps
        optimiser.param_groups[0]["lr"] = (
            rate * min(1, 20 * done + 1e-3) * 0.5 * (1 + math.cos(math.pi * done))
        )
        rows = x[torch.randint(len(x), (batch,), generator=generator)]
        loss = -flow(rows, None, generator).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimiser.step()
    return time.perf_counter() - start


def measured(flow: DensityFlow, x: Tensor, mean: Tensor, std: Tensor) -> dict[str, float]:
    """The gap of a flow of standardised points."""
    return gap(lambda x: torch.cat([flow((p - mean) / std) for p in x.split(1000)]) - std.log().sum(), x)


def run(seeds: list[int]) -> None:
    for seed in seeds:
        train, test = moons(seed)
        mean, std = train.mean(0), train.std(0)
        x = (train - mean) / std
        for model in ("nsf", "ffjord"):
            if known(NAME, model=model, seed=seed):
                continue
            torch.manual_seed(seed)
            if model == "nsf":
                flow: DensityFlow = nsf(2, layers=4, bins=8, width=64)
                seconds = fit(flow, x, *SPLINE, seed)
                found = measured(flow, test, mean, std)
            else:
                field = MLP(2, width=64, depth=3, activation="tanh")
                flow = ContinuousFlow(field, LOOSE, Normal(2), divergence=Hutchinson())
                seconds = fit(flow, x, *CONTINUOUS, seed)
                found = measured(flow.replace(solver=TIGHT, divergence=Exact()), test, mean, std)
                loose = measured(flow.replace(divergence=Exact()), test, mean, std)
                found["gap_as_trained"] = loose["gap"]
            keep(NAME, {"model": model, "seed": seed, "seconds": seconds, **found})


def page() -> None:
    """Write benchmarks/results/ffjord.json from the rows."""
    table, rows = [], read(NAME)
    gaps = {m: {r["seed"]: r["gap"] for r in rows if r["model"] == m} for m in ("nsf", "ffjord")}
    both = sorted(set(gaps["nsf"]) & set(gaps["ffjord"]))
    for model, (steps, batch, rate) in (("nsf", SPLINE), ("ffjord", CONTINUOUS)):
        mine = [r for r in rows if r["model"] == model and r["seed"] in both]
        trained = [r["gap_as_trained"] for r in mine if "gap_as_trained" in r]
        table.append(
            {
                "model": model,
                "steps": f"{steps:,} of {batch:,} rows, rate {rate:g}",
                "nats above the entropy": spread([r["gap"] for r in mine], 4),
                "with the solver of the training": spread(trained, 4) if trained else "",
                "each seed": ", ".join(f"{gaps[model][seed]:.4f}" for seed in both),
                "error of the test points": f"{max(r['error'] for r in mine):.4f}",
            }
        )
    apart = [gaps["ffjord"][seed] - gaps["nsf"][seed] for seed in both]
    write_page(
        NAME,
        "FFJORD on two moons",
        f"{TRAINED:,} points of two moons (noise 0.1) to train on, {TESTED:,} to test, one thread: a "
        "perceptron of 3 x 64 (tanh) trained by Hutchinson's estimate with one direction and dopri5 at a "
        "tolerance of 1e-3, and scored with the exact divergence at 1e-5, beside a coupling spline flow. "
        f"Data seeds {', '.join(map(str, both))}, on which nothing was tuned; means with standard errors. "
        f"The difference of the two is {spread(apart, 4)} nats, {max(apart):.4f} at most.",
        "python benchmarks/ffjord.py run && python benchmarks/ffjord.py page",
        table,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[11, 12, 13])
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
    else:
        run(args.seeds)


if __name__ == "__main__":
    main()
