"""exp, log and distance of manifolds: time over that of geoopt, in turn on the same points.

python benchmarks/manifold_speed.py [--rows 4096] [--repeats 40]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import geoopt
import torch
from keeping import write_page
from torch import Tensor

from pushforward.manifolds import SPD, Lorentz, Manifold, Poincare, Sphere

NAME = "manifold_speed"
PAIRS: dict[str, tuple[Manifold, Any]] = {
    "sphere S^2": (Sphere(2), geoopt.Sphere()),
    "sphere S^15": (Sphere(15), geoopt.Sphere()),
    "ball of Poincare, 2": (Poincare(2), geoopt.PoincareBall()),
    "ball of Poincare, 16": (Poincare(16), geoopt.PoincareBall()),
    "hyperboloid of Lorentz, 2": (Lorentz(2), geoopt.Lorentz()),
    "positive definite 3 x 3": (SPD(3), geoopt.SymmetricPositiveDefinite()),
}


def seconds(call: Callable[[], Tensor]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def ratio(ours: Callable[[], Tensor], theirs: Callable[[], Tensor], repeats: int) -> float:
    """The median of times in turn."""
    for call in (ours, theirs):
        call()
    return statistics.median(seconds(ours) / seconds(theirs) for _ in range(repeats))


@torch.inference_mode()
def row(name: str, count: int, repeats: int) -> dict[str, Any]:
    """The ratios of one manifold in single precision, which trainings have."""
    space, peer = PAIRS[name]
    generator = torch.Generator().manual_seed(0)
    x, y = (space.draw(count, generator, torch.zeros(())) for _ in range(2))
    v = space.log(x, y)
    calls = {
        "exp": (lambda: space.exp(x, v), lambda: peer.expmap(x, v)),
        "log": (lambda: space.log(x, y), lambda: peer.logmap(x, y)),
        "distance": (lambda: space.distance(x, y), lambda: peer.dist(x, y)),
    }
    return {"manifold": name, **{key: f"{ratio(*both, repeats):.2f}" for key, both in calls.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--show", action="store_true", help="print and write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row(name, args.rows, args.repeats) for name in PAIRS]
    for line in rows:
        print(line)
    if not args.show:
        write_page(
            NAME,
            "exp, log and distance on manifolds",
            f"Time over that of geoopt {geoopt.__version__} on the same {args.rows:,} points, in turn, "
            f"median of {args.repeats}; below 1 is faster. One thread, single precision. Distances on "
            "the sphere and the hyperboloid take longer because they keep digits that an arc cosine "
            "loses next to 0 and pi. geoopt has no torus, no rotations, and no Fisher-Rao metric.",
            "python benchmarks/manifold_speed.py",
            rows,
        )


if __name__ == "__main__":
    main()
