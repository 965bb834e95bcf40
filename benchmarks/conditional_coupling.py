"""Conditional optimal transport (Cheng & Schwing 2025, arXiv 2503.10636, table 1): 8gaussians to moons.

python benchmarks/conditional_coupling.py run [--couplings c2ot ...] [--conditions label ...] [--seeds 0 ...]
python benchmarks/conditional_coupling.py page

Under a condition the source must stay what it is: plain optimal transport gives each condition its own
part of the source, and fails where sampling draws from all of it.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import torch
from keeping import keep, known, read, spread, write_page
from torch import Tensor

from pushforward.config import OptimConfig
from pushforward.couplings import ConditionalOT, Coupling, Independent, MinibatchOT, Rows
from pushforward.flows import ContinuousFlow
from pushforward.metrics import wasserstein
from pushforward.nn import MLP, ConditionEmbedding
from pushforward.objectives import FlowMatching
from pushforward.random import seeded
from pushforward.solvers import Dopri5, Euler
from pushforward.sources import GaussianMixture, Source
from pushforward.training import Plans, Trainer, pairs

NAME = "conditional_coupling"
STEPS, BATCH, PLAN, SIZE, TRAIN = 20_000, 256, 1024, 10_000, 200_000
COUPLINGS: dict[str, type[Coupling]] = {"independent": Independent, "ot": MinibatchOT, "c2ot": ConditionalOT}
CONDITIONS = ("none", "label", "continuous")

#: Mean over 10 seeds of W2 squared, Euler with one step and dopri5, from the paper's table 1.
PUBLISHED = {
    ("none", "independent"): (6.232, 0.120),
    ("none", "ot"): (0.072, 0.050),
    ("label", "independent"): (2.573, 0.059),
    ("label", "ot"): (0.483, 0.462),
    ("label", "c2ot"): (0.048, 0.018),
    ("continuous", "independent"): (0.732, 0.028),
    ("continuous", "ot"): (8.276, 2.143),
    ("continuous", "c2ot"): (0.077, 0.013),
}


class EightGaussians(Source):
    """Eight modes at radius 5 of deviation .1^(1/4) = .562, as the paper's code draws; heeds no condition."""

    def __init__(self):
        super().__init__()
        angle = torch.arange(8) * (math.pi / 4)
        self.distribution = GaussianMixture(5.0 * torch.stack([angle.cos(), angle.sin()], 1), 0.1**0.25)
        self.event_shape = (2,)

    def sample(self, n, condition=None, generator=None):
        return self.distribution.sample(n, None, generator)

    def log_prob(self, x, condition=None):
        return self.distribution.log_prob(x)


def moons(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The paper's moons: even on two half circles, both coordinates shifted by one U[0, .2], then 3 x - 1."""
    half = n // 2
    a, b = torch.linspace(0, math.pi, half), torch.linspace(0, math.pi, n - half)
    outer, inner = torch.stack([a.cos(), a.sin()], 1), torch.stack([1 - b.cos(), 0.5 - b.sin()], 1)
    x = torch.cat([outer, inner]) + 0.2 * torch.rand(n, 1, generator=generator)
    return 3 * x - 1, (torch.arange(n) >= half).long()


def rows(n: int, condition: str, generator: torch.Generator) -> Rows:
    x, label = moons(n, generator)
    return Rows(x, {"none": None, "label": label, "continuous": x[:, :1].clone()}[condition])


def run(coupling: str, condition: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one model and measure W2 squared on 10,000 fresh points."""
    torch.manual_seed(seed)
    spec = {"none": None, "label": 2, "continuous": (1,)}[condition]
    net = MLP(2, condition=spec, width=128, depth=3)
    target = rows(TRAIN, condition, seeded("conditional train", seed))
    for module in net.modules():
        if isinstance(module, ConditionEmbedding) and target.condition is not None:
            module.calibrate(target.condition)
    distribution = EightGaussians()
    start = time.perf_counter()
    plans = Plans(PLAN, reuse=16, steps=steps)
    batches = pairs(distribution, target, COUPLINGS[coupling](), size=BATCH, seed=seed, plans=plans)
    optim = OptimConfig(steps=steps, batch=BATCH, lr=6e-4, log_every=200)
    trainer = Trainer(FlowMatching(), net, batches, optim, seed=seed)
    finished = trainer.fit(title=None).finished
    batches.close()
    if not finished:
        raise KeyboardInterrupt
    seconds = time.perf_counter() - start
    assert trainer.ema is not None
    flow = ContinuousFlow(
        trainer.ema.models["field"],
        Euler(steps=1),
        distribution,
        condition_shape=spec if isinstance(spec, tuple) else (),
    )
    fresh = seeded("conditional test", seed)
    test = rows(SIZE, condition, fresh)
    x0 = distribution.sample(SIZE, generator=fresh)
    with torch.inference_mode():
        one = flow.push(x0, test.condition)
        many = flow.replace(solver=Dopri5(rtol=1e-4, atol=1e-4)).push(x0, test.condition)
    return {
        "coupling": coupling,
        "condition": condition,
        "seed": seed,
        "steps": steps,
        "seconds": round(seconds, 1),
        "euler1": wasserstein(one, test.x) ** 2,
        "dopri5": wasserstein(many, test.x) ** 2,
        "floor": wasserstein(rows(SIZE, condition, fresh).x, test.x) ** 2,
        **{k: v for k, v in getattr(batches, "info", {}).items() if k == "weight"},
    }


def page() -> None:
    """Write benchmarks/results/conditional_coupling.json."""

    table = []
    for condition in CONDITIONS:
        for coupling in COUPLINGS:
            mine = [
                r
                for r in read(NAME)
                if (r["condition"], r["coupling"], r["steps"]) == (condition, coupling, STEPS)
            ]
            if mine:
                published = PUBLISHED.get((condition, coupling), ("", ""))
                table.append(
                    {
                        "condition": condition,
                        "coupling": coupling,
                        "Euler, 1 step": spread([r["euler1"] for r in mine], error=False),
                        "published": published[0],
                        "dopri5": spread([r["dopri5"] for r in mine], error=False),
                        "published ": published[1],
                        "floor": spread([r["floor"] for r in mine], error=False),
                        "seeds": len(mine),
                    }
                )
    write_page(
        NAME,
        "Conditional coupling",
        "W2 squared (as the paper's code computes it) of 8gaussians to moons without a condition, "
        "under the moon's label and under the point's x coordinate; mean and deviation over seeds. MLP "
        "3 x 128, 20,000 steps of 256, plans of 1,024, each pair used 16 times; Adam's rate falls from 6e-4 "
        "along a cosine, 3e-4 on average; 10,000 test points. floor: two independent draws of the moons. "
        "Without a condition `c2ot` is plain optimal transport. "
        "Published: Cheng & Schwing 2025, arXiv 2503.10636, table 1.",
        "python benchmarks/conditional_coupling.py run && python benchmarks/conditional_coupling.py page",
        table,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--couplings", nargs="+", default=list(COUPLINGS), choices=list(COUPLINGS))
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS), choices=CONDITIONS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
        return
    for seed in args.seeds:
        for condition in args.conditions:
            for coupling in args.couplings:
                if condition == "none" and coupling == "c2ot":
                    continue
                key = {"coupling": coupling, "condition": condition, "seed": seed, "steps": args.steps}
                if not known(NAME, **key):
                    keep(NAME, run(**key))


if __name__ == "__main__":
    main()
