"""What a step of training of a flow map costs beside one of flow matching, and MeanFlow of a peer.

python benchmarks/few_step_cost.py cost
python benchmarks/few_step_cost.py peer [--seeds 42 43 44]
python benchmarks/few_step_cost.py page

The peer is ``MeanFlow`` of rectified-flow-pytorch 0.14.0, of which only the file mean_flow.py is read: its
package asks for torchvision.  Install it and einops without what they depend on.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from keeping import keep, known, read, spread, write_page
from peak_memory import peak_memory
from systems import data, fresh_sources
from torch import Tensor, nn

from pushforward import Rows
from pushforward.config import OptimConfig
from pushforward.fields import TwoTimes
from pushforward.flows import FlowMapFlow
from pushforward.metrics import wasserstein
from pushforward.nn import MLP, ResidualMLP, UNet
from pushforward.objectives import (
    AlphaFlow,
    Batch,
    FlowMapMatching,
    FlowMatching,
    ImprovedMeanFlow,
    Lagrangian,
    Loss,
    MeanFlow,
    Objective,
    Semigroup,
    Step,
)
from pushforward.sources import Normal
from pushforward.training import Trainer, pairs

NAME, PEER = "few_step_cost", "few_step_peer"
#: A network by its name: how it is made, events, rows of a step, steps of a round.
NETWORKS: dict[str, tuple[Callable[[bool], nn.Module], tuple[int, ...], int, int]] = {
    "MLP 4 x 256": (lambda spans: MLP(2, width=256, depth=4, spans=spans), (2,), 2048, 8),
    "MLP 3 x 64": (lambda spans: MLP(2, width=64, depth=3, spans=spans), (2,), 512, 20),
    "ResidualMLP 3 x 128": (
        lambda spans: ResidualMLP(2, width=128, depth=3, frequencies=3, spans=spans), (2,), 512, 10,
    ),
    "U-Net 16 x 16": (lambda spans: UNet((1, 16, 16), spans=spans), (1, 16, 16), 64, 1),
    "U-Net with attention": (
        lambda spans: UNet((1, 16, 16), attention=True, spans=spans), (1, 16, 16), 64, 1,
    ),
}  # fmt: skip
OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "fm": FlowMatching,
    "lagrangian": lambda: FlowMapMatching(Lagrangian()),
    "mean-flow": lambda: FlowMapMatching(MeanFlow()),
    "improved-mean-flow": lambda: FlowMapMatching(ImprovedMeanFlow()),
    "alpha-flow, alpha >= 1/2": lambda: FlowMapMatching(AlphaFlow(least=0.5)),
    "semigroup": lambda: FlowMapMatching(Semigroup()),
}
ROUNDS, MORE = 5, 25
#: Of the comparison with the peer, whose steps vary more.
PACKAGE, COMPARED = "rectified-flow-pytorch", "ResidualMLP 3 x 128"
SYSTEM, STEPS, BATCH, POINTS, DRAWS = "N-8g", 5_000, 512, 4_000, 2


def cost(name: str) -> None:
    """One optimiser step with every objective, in turn, and the most memory that it holds."""
    make, event, rows, steps = NETWORKS[name]
    generator = torch.Generator().manual_seed(0)
    batch = Batch(tuple(Rows(torch.randn(rows, *event, generator=generator)) for _ in range(2)))
    take: dict[str, Callable[[], None]] = {}
    objectives = OBJECTIVES | ({PACKAGE: PeerMeanFlow} if name == COMPARED else {})
    for key, build in objectives.items():
        torch.manual_seed(0)
        network = make(key != "fm")
        models = nn.ModuleDict({"field": network if key == "fm" else TwoTimes(cast(Any, network))})
        take[key] = stepper(build(), models, batch, generator)
        take[key]()
    found: dict[str, list[float]] = {key: [] for key in take}
    for _ in range(MORE if name == COMPARED else ROUNDS):
        seconds = {key: timed(step, steps) for key, step in take.items()}
        for key, value in seconds.items():
            found[key].append(value / seconds["fm"])
    memory = {key: peak_memory(step) for key, step in take.items()}
    for key, ratios in found.items():
        figures = {"time": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
        keep(NAME, {"network": name, "objective": key, **figures, "memory": memory[key] / memory["fm"]})


def stepper(
    objective: Objective, models: nn.ModuleDict, batch: Batch, generator: torch.Generator
) -> Callable[[], None]:
    """A step of training: loss, gradients, clipping, update."""
    optimiser = torch.optim.AdamW(models.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss = objective.loss(models, batch, Step(90, 100, generator=generator))
        optimiser.zero_grad()
        loss.value.backward()
        nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimiser.step()

    return step


def timed(step: Callable[[], None], count: int) -> float:
    """Processor seconds of ``count`` steps, which other work on the machine changes little."""
    began = time.process_time()
    for _ in range(count):
        step()
    return time.process_time() - began


class PeerMeanFlow(Objective):
    """The peer's loss; it has noise at time 1 and asks for ``model(x, time, time - earlier time)``."""

    def __init__(self) -> None:
        self.made: nn.Module | None = None

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        field = models["field"]

        class Model(nn.Module):
            def forward(self, x: Tensor, time: Tensor, span: Tensor) -> Tensor:
                return -field(1 - time, 1 - time + span, x)

        made = self.made = self.made or peer_class()(Model())
        value = made(batch.target.x, noise=cast(Rows, batch.source).x)
        return Loss(value, value[None], value[None], {})


def peer_class() -> Any:
    """``MeanFlow`` from its file alone."""
    spec = importlib.util.find_spec("rectified_flow_pytorch")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("rectified-flow-pytorch is not installed")
    path = Path(spec.submodule_search_locations[0]) / "mean_flow.py"
    file = importlib.util.spec_from_file_location("peer_mean_flow", path)
    assert file is not None and file.loader is not None
    module = importlib.util.module_from_spec(file)
    file.loader.exec_module(module)
    return module.MeanFlow


def peer(seed: int) -> None:
    """MeanFlow of the peer and of ours: the same network, pairs, optimiser, average of weights and steps."""
    _, targets, test = data(SYSTEM, seed)
    sources = [x[:POINTS] for x in fresh_sources(SYSTEM, seed)[:DRAWS]]
    for name, objective in {
        PACKAGE: PeerMeanFlow(),
        "mean-flow": FlowMapMatching(MeanFlow()),
        "improved-mean-flow": FlowMapMatching(ImprovedMeanFlow()),
        "lagrangian": FlowMapMatching(Lagrangian()),
        "semigroup": FlowMapMatching(Semigroup(0.5)),
    }.items():
        if known(PEER, seed=seed, method=name):
            continue
        torch.manual_seed(seed)
        network = TwoTimes(ResidualMLP(2, width=128, depth=3, frequencies=3, spans=True))
        optim = OptimConfig(steps=STEPS, batch=BATCH, lr=2e-3, ema=0.999)
        batches = pairs(Normal(2), Rows(targets), size=BATCH, seed=seed)
        trainer = Trainer(objective, network, batches, optim, seed=seed)
        trainer.fit(title=None)
        assert trainer.ema is not None
        flow = FlowMapFlow(cast(Any, trainer.ema.models["field"]), Normal(2))
        with torch.inference_mode():
            w2 = {
                str(k): statistics.fmean(
                    wasserstein(flow.replace(steps=k).push(x), test[:POINTS]) for x in sources
                )
                for k in (1, 2, 4)
            }
        keep(PEER, {"seed": seed, "method": name, "W2": w2})


def page() -> None:
    """Write benchmarks/results/few_step_cost.json, and few_step_peer.json where the peer was run."""
    table = [
        {
            "network": r["network"],
            "objective": r["objective"],
            "time": f"{r['time']:.2f}",
            "of rounds": f"{r['low']:.2f} to {r['high']:.2f}",
            "memory": f"{r['memory']:.2f}",
        }
        for r in read(NAME)
        if r["objective"] != "fm"
    ]
    write_page(
        NAME,
        "Flow maps: a step of training",
        "Processor time and peak memory of an optimiser step over those of flow matching, in turn, median "
        f"of {ROUNDS} rounds, of {MORE} for {COMPARED}; three quarters of the rows regress the velocity.  "
        "Attention is computed from plain products where there are derivatives.  Losses with derivatives "
        "cost more on small networks, whose time is that of calls, not of arithmetic.",
        "python benchmarks/few_step_cost.py cost && python benchmarks/few_step_cost.py page",
        table,
    )
    rows = read(PEER)
    if not rows:
        return
    step = {r["objective"]: r["time"] for r in read(NAME) if r["network"] == COMPARED}
    compared = []
    for method in dict.fromkeys(r["method"] for r in rows):
        found = [r for r in rows if r["method"] == method]
        compared.append(
            {
                "method": method,
                "seeds": len(found),
                **{f"W2, {k}": spread([r["W2"][str(k)] for r in found], error=False) for k in (1, 2, 4)},
                "time": f"{step[method] / step[PACKAGE]:.2f}",
            }
        )
    write_page(
        PEER,
        "MeanFlow beside rectified-flow-pytorch",
        f"{SYSTEM}, the same network, pairs, optimiser, average of the weights and {STEPS:,} steps of "
        f"{BATCH}; W2 to {POINTS:,} test points in 1, 2 and 4 steps, mean and deviation over seeds; "
        "processor time of a step over the peer's, measured in turn.",
        "python benchmarks/few_step_cost.py peer && python benchmarks/few_step_cost.py page",
        compared,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "peer", "page"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
    elif args.what == "cost":
        for name in NETWORKS:
            if not known(NAME, network=name):
                cost(name)
    else:
        for seed in args.seeds:
            peer(seed)


if __name__ == "__main__":
    main()
