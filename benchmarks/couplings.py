"""Couplings against the libraries that make the same plans, on the same rows in the same run.

python benchmarks/couplings.py [--only exact ...] [--rounds N] [--rows N ...] [--out FILE]

Each measure yields rows with the columns of ``row``; parts that are not run keep the rows they have.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ot
import scipy
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pushforward import random
from pushforward.data import toys
from pushforward.plans import Scaling, exact, sinkhorn, squared_distances

SIZES = (512, 1024, 2048, 4096, 10_000)
#: SciPy takes a minute and more above.
SCIPY_SIZE = 2048
#: From here on once is enough: the run takes many seconds.
ONCE = 10_000
#: L1 error of the marginals at which entropic plans are good enough.
TOLERANCE = 1e-3


def fastest(calls: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of the fastest call of each, and what they returned; who goes first alternates."""
    seconds, values = dict.fromkeys(calls, float("inf")), {}
    for turn in range(rounds):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            start = time.perf_counter()
            values[name] = calls[name]()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds, values


Row = dict[str, Any]


def row(part: str, case: str, rows: int, ours: float, peer: str, theirs: float, remark: str) -> Row:
    """A line of the table: the seconds of both and how many times faster we are."""
    return {
        "part": part,
        "case": case,
        "rows": rows,
        "seconds": float(f"{ours:.3g}"),
        "peer": peer,
        "peer seconds": float(f"{theirs:.3g}"),
        "times faster": float(f"{theirs / ours:.3g}"),
        "remark": remark,
    }


def clouds(n: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of clouds in the plane: a normal distribution to eight spots, and to two moons."""
    g = random.seeded("benchmark", n)
    source = random.normal((n, 2), g, torch.float64)
    return {
        name: (source, make(n, generator=g).double())
        for name, make in (("normal to 8gaussians", toys.eight_gaussians), ("normal to moons", toys.moons))
    }


def by_pot(x: Tensor, y: Tensor) -> float:
    """The least mean cost by POT's network simplex over all pairs."""
    n = len(x)
    cost: Any = ot.emd2(np.ones(n) / n, np.ones(n) / n, squared_distances(x, y).numpy(), numItermax=10**9)
    return float(cost)


def by_scipy(x: Tensor, y: Tensor) -> float:
    """The least mean cost by SciPy's shortest augmenting paths."""
    cost = squared_distances(x, y).numpy()
    return float(cost[linear_sum_assignment(cost)].mean())


def measure_exact(sizes: tuple[int, ...], rounds: int) -> Iterator[Row]:
    """Exact plans, from the points to the pairs."""
    for n in sizes:
        for case, (x, y) in clouds(n).items():
            calls: dict[str, Callable[[], float]] = {
                "ours": lambda x=x, y=y: exact(x, y).cost,
                f"POT {ot.__version__}": lambda x=x, y=y: by_pot(x, y),
            }
            if n <= SCIPY_SIZE:
                calls[f"SciPy {scipy.__version__}"] = lambda x=x, y=y: by_scipy(x, y)
            seconds, costs = fastest(calls, 1 if n >= ONCE else rounds)
            for peer in list(calls)[1:]:
                gap = abs(costs["ours"] - costs[peer])
                assert gap < 1e-8, f"the plans cost {costs['ours']} and {costs[peer]}"
                yield row(
                    "exact", case, n, seconds["ours"], peer, seconds[peer], f"costs differ by {gap:.0e}"
                )


def by_pot_sinkhorn(costs: Tensor, epsilon: Tensor, stop: float) -> float:
    """The mean cost of entropic plans by POT on torch in the log domain, one plan after the other."""
    total = 0.0
    for cost, e in zip(costs, epsilon.tolist()):
        a, b = (cost.new_full((k,), 1 / k) for k in cost.shape)
        options: dict[str, Any] = {"stopThr": stop, "numItermax": 5000, "warn": False}
        plan: Any = ot.sinkhorn(a, b, cost, e, method="sinkhorn_log", **options)
        total += float((plan * cost).sum())
    return total / len(costs)


def measure_sinkhorn(sizes: tuple[int, ...], rounds: int) -> Iterator[Row]:
    """Entropic plans, from the costs to the plan's cost: sixteen at once, and a large one.

    Both in double precision, as single makes POT slower by numbers below the smallest normal one.
    """
    for plans, n in ((16, 512), (1, 2048)):
        if n not in sizes:
            continue
        g = random.seeded("benchmark sinkhorn", n)
        source = random.normal((plans, n, 2), g)
        target = [toys.eight_gaussians(n, generator=g) for _ in range(plans)]
        costs = torch.stack([squared_distances(x, y) for x, y in zip(source, target)])
        for relative in (0.05, 0.01):
            epsilon = relative * costs.flatten(1).std(1)
            plan = sinkhorn(costs, epsilon, scaling=Scaling(tolerance=TOLERANCE))
            off = plan.log_plan().exp().sum(1) - 1 / n
            # POT tests the 2-norm of the error: the same tolerance, for errors spread as ours are
            stop = TOLERANCE * float((off.norm(dim=1) / off.abs().sum(1)).mean())

            def ours(costs: Tensor = costs, epsilon: Tensor = epsilon) -> float:
                return float(
                    sinkhorn(costs, epsilon, scaling=Scaling(tolerance=TOLERANCE)).figures()[0].mean()
                )

            def theirs(costs: Tensor = costs, epsilon: Tensor = epsilon, stop: float = stop) -> float:
                return by_pot_sinkhorn(costs, epsilon, stop)

            peer = f"POT {ot.__version__} on torch"
            seconds, means = fastest({"ours": ours, peer: theirs}, min(rounds, 2))
            case = f"{plans} x normal to 8gaussians, epsilon {relative} std"
            remark = f"costs differ by {abs(means['ours'] / means[peer] - 1):.0e} of theirs"
            yield row("sinkhorn", case, n, seconds["ours"], peer, seconds[peer], remark)


MEASURES: dict[str, Callable[[tuple[int, ...], int], Iterator[Row]]] = {
    "exact": measure_exact,
    "sinkhorn": measure_sinkhorn,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--rows", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/couplings.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    known = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    kept = [r for r in known if r["part"] not in args.only]
    rows = []
    for part in args.only:
        for line in MEASURES[part](tuple(args.rows), args.rounds):
            print(line, flush=True)
            rows.append(line)
    order = list(MEASURES)
    page = {
        "title": "Couplings",
        "note": "Seconds of the fastest of several turns to make one plan, from the rows to the pairs, and "
        "those of a peer on the same rows; turns alternate.",
        "command": "python benchmarks/couplings.py",
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": args.threads,
        "rows": sorted(
            kept + rows, key=lambda r: order.index(r["part"]) if r["part"] in order else len(order)
        ),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(page, indent=2) + "\n")


if __name__ == "__main__":
    main()
