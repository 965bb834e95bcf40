"""What the trainer costs over a bare torch loop that does the same clipping, averaging and finite check.

python benchmarks/training_overhead.py [--rounds N] [--out FILE]

Both train the same network on the same data with fused AdamW, in turn, several rounds; the figure is the
ratio of the fastest rounds, with the median ratio beside it.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pushforward.config import OptimConfig
from pushforward.couplings import Rows
from pushforward.nn import MLP, UNet
from pushforward.objectives import FlowMatching
from pushforward.sources import Normal
from pushforward.training import Trainer, pairs

CASES = {
    "mlp 3 x 64, batch 512": (lambda: MLP(2, width=64, depth=3), (2,), 512, 1500),
    "unet on 8 x 8, batch 128": (lambda: UNet((1, 8, 8)), (1, 8, 8), 128, 60),
}


def bare(net: nn.Module, data: torch.Tensor, batch: int, steps: int) -> float:
    """Seconds of a loop as one would write it by hand."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    average = copy.deepcopy(net).requires_grad_(False)
    mine, theirs = list(average.parameters()), [p.detach() for p in net.parameters()]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    foreach: Any = torch  # whose functions of lists have no types
    start = time.perf_counter()
    for _ in range(steps):
        x1 = data[torch.randint(len(data), (batch,))]
        x0, t = torch.randn_like(x1), torch.rand(batch)
        s = t.reshape(-1, *([1] * (x1.ndim - 1)))
        loss = (net(t, s * x1 + (1 - s) * x0) - (x1 - x0)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise RuntimeError("not finite")
        optimiser.step()
        schedule.step()
        foreach._foreach_lerp_(mine, theirs, 0.001)
    return time.perf_counter() - start


def ours(net: nn.Module, data: torch.Tensor, batch: int, steps: int) -> float:
    """Seconds of the trainer on the same work."""
    batches = pairs(Normal(tuple(data.shape[1:])), Rows(data), size=batch)
    optim = OptimConfig(steps=steps, lr=1e-3)
    trainer = Trainer(FlowMatching(), net, batches, optim)
    start = time.perf_counter()
    trainer.fit(title=None)
    return time.perf_counter() - start


def measure(name: str, rounds: int) -> dict[str, Any]:
    build, event, batch, steps = CASES[name]
    torch.manual_seed(0)
    data, net = torch.randn(10_000, *event), build()
    for loop in (bare, ours):
        loop(copy.deepcopy(net), data, batch, max(5, steps // 10))
    times = {"bare": [], "trainer": []}
    for turn in range(rounds):
        # who goes first alternates, since a machine's speed drifts
        for loop in ("bare", "trainer") if turn % 2 == 0 else ("trainer", "bare"):
            run = bare if loop == "bare" else ours
            times[loop].append(run(copy.deepcopy(net), data, batch, steps))
    ratios = [b / a for a, b in zip(times["bare"], times["trainer"])]
    return {
        "case": name,
        "ratio_of_fastest": round(min(times["trainer"]) / min(times["bare"]), 4),
        "median_ratio": round(statistics.median(ratios), 4),
        "rounds": rounds,
        "steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training_overhead.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in CASES:
        rows.append(measure(name, args.rounds))
        print(rows[-1], flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    page = {
        "title": "Training overhead",
        "note": "Time of the `Trainer` over that of a bare torch loop with the same clipping, averaging, "
        "learning-rate schedule and finite check, trained in turn on the same work. 1 is no overhead.",
        "command": "python benchmarks/training_overhead.py",
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": args.threads,
        "rows": rows,
    }
    args.out.write_text(json.dumps(page, indent=2) + "\n")


if __name__ == "__main__":
    main()
