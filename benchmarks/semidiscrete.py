"""Semidiscrete transport beside exact plans of batches: how well, how fast, and how straight it makes a flow.

python benchmarks/semidiscrete.py [--quick] [--mnist FILE] [--out FILE]

For each data set the coupling is fitted once; then each coupling pairs, which is timed, and trains the same
network for the same steps.  Plans of batches are made on more rows than the network sees at a time, and
their pairs are dealt out over several steps.  Finished rows are kept in the result file and not run again.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pushforward.couplings import Coupling, Independent, MinibatchOT, SemidiscreteOT
from pushforward.data import toys
from pushforward.metrics import straightness, transport_cost
from pushforward.nn import MLP
from pushforward.random import seeded
from pushforward.solvers import ODE, RK4
from pushforward.sources import Normal

BATCH = 256


def data_sets(count: int, mnist: Path | None) -> dict[str, Tensor]:
    """Standardised data, ``(N, d)``."""
    sets = {
        "moons": toys.moons(count, generator=seeded("moons")),
        "8gaussians": toys.eight_gaussians(count, generator=seeded("8gaussians")),
    }
    if mnist is not None and mnist.exists():
        sets["mnist"] = torch.from_numpy(np.load(mnist)["images"]).reshape(-1, 784).float()[:count]
    return {name: (x - x.mean(0)) / x.std() for name, x in sets.items()}


def pairs(coupling: Coupling, rows: int, data: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``rows`` pairs; a coupling of batches sees that many rows of the data."""
    x0 = Normal(data.shape[1]).sample(rows, generator=generator)
    if coupling.whole:
        return coupling(x0, data, generator)
    x1 = data[torch.randint(len(data), (rows,), generator=generator)]
    return coupling(x0, x1, generator)


def pairs_per_second(coupling: Coupling, rows: int, data: Tensor, seconds: float) -> float:
    """Pairs made per second of one thread, drawing included."""
    generator = seeded("speed")
    pairs(coupling, rows, data, generator)
    begin, made = time.perf_counter(), 0
    while made == 0 or time.perf_counter() - begin < seconds:
        made += len(pairs(coupling, rows, data, generator)[0])
    return made / (time.perf_counter() - begin)


def deal(
    coupling: Coupling, rows: int, data: Tensor, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches for the network out of plans of ``rows`` rows."""
    while True:
        x0, x1 = pairs(coupling, rows, data, generator)
        order = torch.randperm(len(x0), generator=generator)
        for part in order.split(BATCH):
            yield x0[part], x1[part]


def train(coupling: Coupling, rows: int, data: Tensor, steps: int) -> MLP:
    """A velocity field regressed on straight lines between the pairs."""
    few = data.shape[1] == 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = MLP(data.shape[1], width=64, depth=3) if few else MLP(data.shape[1], width=512, depth=3)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3 if few else 5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = seeded("train")
    batches = deal(coupling, rows, data, generator)
    for _ in range(steps):
        x0, x1 = next(batches)
        t = torch.rand(len(x0), generator=generator)
        x = x0 + t[:, None] * (x1 - x0)
        loss = (net(t, x) - (x1 - x0)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net


def curvature(net: MLP, dim: int, rows: int) -> tuple[float, float]:
    """Straightness S over the transport cost of the trained field's trajectories, and that cost."""
    x0 = Normal(dim).sample(rows, generator=seeded("curvature"))
    times = torch.linspace(0, 1, 33)
    with torch.no_grad():
        path = RK4(steps=32).solve(ODE(lambda t, x: net(t, x)), x0, 0.0, 1.0, save_at=times).path
    assert path is not None
    cost = transport_cost(path[0], path[-1])
    return straightness(path, times) / cost, cost


def measure(name: str, data: Tensor, quick: bool, known: list[dict[str, Any]], save) -> None:
    """Add the rows of one data set to ``known``."""
    few = data.shape[1] == 2
    steps = 50 if quick else (4000 if few else 2000)
    fitted: Coupling | None = None
    fit: dict[str, object] = {"chi-square": "", "fit, s": ""}
    cases: list[tuple[str, Coupling | None, int]] = [("independent", Independent(), BATCH)]
    cases += [(f"exact, {n}", MinibatchOT(), n) for n in ((256,) if quick else (256, 1024, 4096))]
    cases += [("semidiscrete", None, 4096)]
    for label, coupling, rows in cases:
        if any(row["data"] == name and row["coupling"] == label for row in known):
            continue
        if coupling is None:
            with warnings.catch_warnings():
                # a fit that is cut short is seen in the table
                warnings.simplefilter("ignore" if quick else "default")
                options = {"tolerance": 0.5, "max_iterations": 3} if quick else {}
                fitted = SemidiscreteOT(**options).fit(Normal(data.shape[1]), data, seeded("fit", name))
            fit = {
                "chi-square": round(fitted.info["chi_square"], 4),
                "fit, s": round(fitted.info["seconds"], 1),
            }
            coupling = fitted
        speed = pairs_per_second(coupling, rows, data, 0.2 if quick else 5.0)
        begin = time.perf_counter()
        net = train(coupling, rows, data, steps)
        seconds = time.perf_counter() - begin
        bend, cost = curvature(net, data.shape[1], 256 if quick else 4096)
        row = {
            "data": name,
            "coupling": label,
            **fit,
            "pairs per second": round(speed),
            "training, s": round(seconds, 1),
            "curvature": round(bend, 4),
            "transport cost": round(cost, 3),
        }
        known.append(row)
        print(row, flush=True)
        save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small data and few steps, to see that it works")
    parser.add_argument("--mnist", type=Path, help="npz file with images (N, 28, 28); left out without it")
    parser.add_argument("--data", nargs="+", default=["8gaussians", "mnist"], help="also: moons")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/semidiscrete.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    page = {
        "title": "Semidiscrete transport",
        "note": "Each coupling trains the same network for the same steps, 256 pairs a step: in the plane "
        "50,000 rows, three layers of 64 and 4,000 steps, on 10,000 MNIST digits three layers of 512 "
        "and 2,000. "
        "Curvature is the straightness S of the trained field's trajectories over their transport cost; 0 is "
        "straight. Exact plans are made on batches of the stated size, semidiscrete ones to the whole data "
        "set: chi-square says how evenly its rows are chosen, 0 being exact.",
        "command": "python benchmarks/semidiscrete.py --mnist mnist10k.npz",
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": args.threads,
        "rows": [],
    }
    if args.out.exists():
        page["rows"] = json.loads(args.out.read_text())["rows"]

    def save() -> None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(page, indent=2) + "\n")

    sets = data_sets(500 if args.quick else 50_000, args.mnist)
    for name, data in ((name, sets[name]) for name in args.data if name in sets):
        measure(name, data, args.quick, page["rows"], save)


if __name__ == "__main__":
    main()
