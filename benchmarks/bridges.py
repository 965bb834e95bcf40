"""How near learnt Schroedinger bridges between normal distributions come to the exact one.

python benchmarks/bridges.py [--seeds N] [--dims 1 5 20 50] [--sigmas 0.5 1 2] [--out FILE]

From N(-0.1, I) to N(0.1, I) in d dimensions, the benchmark of Tong et al. 2024 (arXiv 2307.03672) and Shi et
al. 2023 (arXiv 2303.16852).  The learnt SDE starts at fresh draws of the source; at 19 times from 0.05 to
0.95 a normal distribution is fitted to its rows and KL(fitted | exact marginal) is taken.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from pushforward.config import OptimConfig
from pushforward.couplings import Rows, SinkhornOT
from pushforward.fields import BridgeField, Field
from pushforward.nn import MLP
from pushforward.objectives import BridgeMatching, LightSB, LightSBPotential
from pushforward.oracles import GaussianBridge
from pushforward.random import seeded
from pushforward.solvers import SDE, EulerMaruyama
from pushforward.sources import GaussianMixture
from pushforward.training import Plans, Trainer, pairs

TIMES = [round(0.05 * i, 2) for i in range(1, 20)]
#: rows of the target distribution that training sees
ROWS = 100_000
#: mean KL at sigma 1 of [SF]2M with exact minibatch plans, as published by Tong et al. 2024
PUBLISHED = {50: 0.258}


def problem(d: int, sigma: float) -> tuple[GaussianBridge, GaussianMixture, GaussianMixture]:
    """The exact bridge, its source and its target."""
    mean, eye = 0.1 * torch.ones(d), torch.eye(d)
    distributions = [GaussianMixture(m[None], eye[None]) for m in (-mean, mean)]
    return GaussianBridge(-mean, eye, mean, eye, sigma), distributions[0], distributions[1]


def matching(d: int, sigma: float, seed: int, steps: int) -> Field:
    """The drift of bridge matching: two perceptrons, entropic plans of 2,048 rows."""
    _, source, target = problem(d, sigma)
    rows = Rows(target.sample(ROWS, generator=seeded("target", seed)))
    coupling = SinkhornOT(epsilon=2 * sigma**2, relative=False, tolerance=1e-2)
    torch.manual_seed(seed)
    models = nn.ModuleDict({name: MLP(d, width=128, depth=2) for name in ("field", "score")})
    batches = pairs(source, rows, coupling, size=512, seed=seed, plans=Plans(2048, steps=steps))
    optim = OptimConfig(steps=steps, lr=2e-3, ema=0.999)
    trainer = Trainer(BridgeMatching(sigma), models, batches, optim, seed=seed)
    if not trainer.fit(title=None).finished:
        raise KeyboardInterrupt
    assert trainer.ema is not None
    best = trainer.ema.models.eval()
    return BridgeField(best["field"], best["score"], sigma=sigma, output="drift")


def light(d: int, sigma: float, seed: int, steps: int) -> Field:
    """The drift of the light bridge: 10 components with diagonal covariances."""
    _, source, target = problem(d, sigma)
    rows = Rows(target.sample(ROWS, generator=seeded("target", seed)))
    potential = LightSBPotential(rows.x[:10], sigma)
    batches = pairs(source, rows, size=512, seed=seed)
    models = nn.ModuleDict({"potential": potential})
    optim = OptimConfig(steps=steps, lr=1e-2, ema=0.99)
    trainer = Trainer(LightSB(), models, batches, optim, seed=seed)
    if not trainer.fit(title=None).finished:
        raise KeyboardInterrupt
    assert trainer.ema is not None
    best = trainer.ema.models["potential"]
    assert isinstance(best, LightSBPotential)
    return best.drift


def divergence(x: Tensor, bridge: GaussianBridge, t: float) -> float:
    """KL(N(moments of x) | marginal at t)."""
    x = x.double()
    mean, cov = (value.double() for value in bridge.marginal(t))
    inverse, found = torch.linalg.inv(cov), torch.cov(x.T).reshape(cov.shape)
    off = x.mean(0) - mean
    ratio = inverse @ found
    return 0.5 * float(ratio.trace() + off @ inverse @ off - len(mean) - torch.linalg.slogdet(ratio)[1])


@torch.no_grad()
def measure(drift: Field, d: int, sigma: float, seed: int, draws: int, sde_steps: int) -> tuple[float, float]:
    """Mean KL over the 19 times, and KL at t = 1."""
    bridge, source, _ = problem(d, sigma)
    x0 = source.sample(draws, generator=seeded("start", seed))
    solver = EulerMaruyama(sde_steps)
    found = solver.solve(SDE(drift, sigma), x0, 0.0, 1.0, [*TIMES, 1.0], seeded("noise", seed))
    assert found.path is not None
    values = [divergence(x, bridge, t) for t, x in zip([*TIMES, 1.0], found.path)]
    return statistics.fmean(values[:-1]), values[-1]


@torch.no_grad()
def floor(d: int, sigma: float, seed: int, draws: int) -> float:
    """The mean KL of draws of the exact marginals themselves, which no model can go below."""
    bridge, _, _ = problem(d, sigma)
    rows = ((t, bridge.sample(t, draws, seeded("floor", seed, str(t)))[1]) for t in TIMES)
    return statistics.fmean(divergence(x, bridge, t) for t, x in rows)


def spread(values: list[float]) -> str:
    """Mean, and the standard deviation where there is one."""
    mean = f"{statistics.fmean(values):.2g}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.1g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dims", type=int, nargs="+", default=[1, 5, 20, 50])
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--sde-steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/bridges.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    # all dimensions at sigma 1, then the other noise levels in the smallest but one
    cases = [(d, 1.0) for d in args.dims if 1.0 in args.sigmas]
    cases += [(sorted(args.dims)[:2][-1], sigma) for sigma in args.sigmas if sigma != 1.0]
    for d, sigma in cases:
        least = statistics.fmean(floor(d, sigma, seed, args.draws) for seed in range(args.seeds))
        for name, train in {"bridge matching": matching, "light bridge": light}.items():
            inside, end, seconds = [], [], []
            for seed in range(args.seeds):
                began = time.perf_counter()
                drift = train(d, sigma, seed, args.steps)
                seconds.append(time.perf_counter() - began)
                both = measure(drift, d, sigma, seed, args.draws, args.sde_steps)
                inside.append(both[0])
                end.append(both[1])
            published = PUBLISHED.get(d) if name == "bridge matching" and sigma == 1.0 else None
            rows.append(
                {
                    "d": d,
                    "sigma": sigma,
                    "method": name,
                    "mean KL": spread(inside),
                    "floor": f"{least:.2g}",
                    "d (d + 3) / 4n": f"{d * (d + 3) / 4 / args.draws:.2g}",
                    "KL at t = 1": spread(end),
                    "published mean KL": published or "",
                    "seconds to train": round(statistics.fmean(seconds), 1),
                }
            )
            print(rows[-1], flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    page = {
        "title": "Schroedinger bridges between normal distributions",
        "note": "From N(-0.1, I) to N(0.1, I). KL(normal distribution fitted to the rows | exact "
        f"marginal), mean over 19 times from 0.05 to 0.95, of {args.draws:,} fresh draws of the "
        f"learnt SDE ({args.sde_steps} "
        "Euler-Maruyama steps); the floor is that of as many draws of the exact marginals. Bridge matching: "
        "two perceptrons of two layers of 128, entropic plans of 2,048 rows at epsilon 2 sigma^2; light "
        f"bridge: 10 diagonal components. Both see {ROWS:,} rows of the target, {args.steps:,} steps of 512. "
        "Published: [SF]2M with exact minibatch plans, Tong et al. 2024, arXiv 2307.03672.",
        "command": "python benchmarks/bridges.py",
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": args.threads,
        "seeds": args.seeds,
        "rows": rows,
    }
    args.out.write_text(json.dumps(page, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
