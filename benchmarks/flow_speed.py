"""Normalizing flows beside zuko, nflows and normflows: log-densities, training steps, autoregressive samples.

python benchmarks/flow_speed.py coupling [--dims 8 64] [--flows nsf realnvp] [--compiled]
python benchmarks/flow_speed.py sampling
python benchmarks/flow_speed.py images
python benchmarks/flow_speed.py page

Neural spline flows of five coupling layers, two hidden layers of 64, eight bins, on batches of 1,024, each
library's own as it ships, one torch thread.  All are timed in turn, many times over, and the least time of
each counts: other work on the machine can only add to it.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from keeping import keep, read, write_page
from torch import Tensor, nn

from pushforward.bijections import Autoregressive
from pushforward.flows import ContinuousFlow, Flow, glow, maf, nsf, realnvp, tarflow
from pushforward.nn import UNet
from pushforward.solvers import Heun
from pushforward.sources import Normal

NAME = "flow_speed"
BATCH, LAYERS, WIDTH, BINS, ROUNDS = 1024, 5, 64, 8, 40
#: Steps of a continuous flow's solver.
HEUN = 20

#: log-density of rows
LogProb = Callable[[Tensor], Tensor]


def ours(dim: int, affine: bool) -> tuple[nn.Module, LogProb]:
    build = realnvp if affine else nsf
    options: dict[str, Any] = {} if affine else {"bins": BINS}
    flow = build(dim, layers=LAYERS, width=WIDTH, **options)
    return flow, flow.log_prob


def with_zuko(dim: int, affine: bool) -> tuple[nn.Module, LogProb]:
    import zuko

    kind = zuko.flows.MAF if affine else zuko.flows.NSF
    options: dict[str, Any] = {} if affine else {"bins": BINS}
    flow = kind(dim, 0, transforms=LAYERS, hidden_features=(WIDTH, WIDTH), passes=2, **options)
    return flow, lambda x: flow().log_prob(x)


class Perceptron(nn.Module):
    """The network that nflows' couplings are given; its own residual one would be slower."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        sizes = [inputs, WIDTH, WIDTH]
        hidden = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(WIDTH, outputs))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.layers(x)


def with_nflows(dim: int, affine: bool) -> tuple[nn.Module, LogProb]:
    from nflows import transforms
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow

    links = []
    for layer in range(LAYERS):
        mask = torch.ones(dim)
        mask[layer % 2 :: 2] = -1
        if affine:
            links.append(transforms.AffineCouplingTransform(mask, Perceptron))
        else:
            links.append(
                transforms.PiecewiseRationalQuadraticCouplingTransform(
                    mask, Perceptron, num_bins=BINS, tails="linear", tail_bound=5.0
                )
            )
    flow = Flow(transforms.CompositeTransform(links), StandardNormal([dim]))
    return flow, flow.log_prob


def with_normflows(dim: int, affine: bool) -> tuple[nn.Module, LogProb]:
    import normflows

    links: list[nn.Module] = []
    for layer in range(LAYERS):
        if affine:
            net = normflows.nets.MLP([dim // 2, WIDTH, WIDTH, dim], init_zeros=True)
            links += [normflows.flows.AffineCouplingBlock(net), normflows.flows.Permute(dim, mode="swap")]
        else:
            links.append(
                normflows.flows.CoupledRationalQuadraticSpline(
                    dim, 1, WIDTH, num_bins=BINS, tail_bound=5.0, reverse_mask=bool(layer % 2)
                )
            )
    flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(dim, trainable=False), links)
    return flow, flow.log_prob


LIBRARIES = {"pushforward": ours, "zuko": with_zuko, "nflows": with_nflows, "normflows": with_normflows}


def in_turn(work: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Least milliseconds of each, all in turn, ``rounds`` times."""
    for run in work.values():
        run()
        run()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: min(values) for name, values in times.items()}


def scoring(log_prob: LogProb, x: Tensor) -> Callable[[], Any]:
    def run() -> None:
        with torch.no_grad():
            log_prob(x)

    return run


def stepping(module: nn.Module, log_prob: LogProb, x: Tensor) -> Callable[[], Any]:
    def run() -> None:
        module.zero_grad()
        (-log_prob(x).mean()).backward()

    return run


def coupling(dim: int, affine: bool, compiled: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(BATCH, dim)
    made = {name: build(dim, affine) for name, build in LIBRARIES.items()}
    eager = {
        "score": in_turn({name: scoring(f, x) for name, (_, f) in made.items()}),
        "step": in_turn({name: stepping(m, f, x) for name, (m, f) in made.items()}),
    }
    row: dict[str, Any] = {"flow": "RealNVP" if affine else "NSF", "dim": dim, "eager": eager}
    if compiled:
        row["compile_s"], fast = {}, {}
        for name, (module, log_prob) in made.items():
            start = time.perf_counter()
            quick = torch.compile(log_prob)
            fast[name] = (module, quick)
            stepping(module, quick, x)()
            scoring(quick, x)()
            row["compile_s"][name] = round(time.perf_counter() - start, 1)
        row["compiled"] = {
            "score": in_turn({name: scoring(f, x) for name, (_, f) in fast.items()}),
            "step": in_turn({name: stepping(m, f, x) for name, (m, f) in fast.items()}),
        }
    keep(NAME, row)


def train(module: nn.Module, log_prob: LogProb, x: Tensor, steps: int) -> None:
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    for _ in range(steps):
        loss = -log_prob(x[torch.randint(len(x), (512,))]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def sampling(dim: int = 32, steps: int = 1500, rows: int = 1024) -> None:
    """Samples of a masked autoregressive flow of three layers, as drawn and after training.

    The data are a chain x_i = sin(x_{i-1}) + noise in two neighbours' products: dependent all along.
    """
    import zuko

    torch.manual_seed(0)
    z = torch.randn(20_000, dim)
    x = z.clone()
    for i in range(1, dim):
        x[:, i] = 0.7 * z[:, i] + torch.sin(2 * x[:, i - 1]) + 0.3 * x[:, max(0, i - 2)]
    x = (x - x.mean(0)) / x.std(0)
    mine = maf(dim, layers=3, width=WIDTH)
    theirs = zuko.flows.MAF(dim, 0, transforms=3, hidden_features=(WIDTH, WIDTH))
    for stage in ("start", "trained"):
        if stage == "trained":
            train(mine, mine.log_prob, x, steps)
            train(theirs, lambda x: theirs().log_prob(x), x, steps)

        def our_draw() -> None:
            with torch.no_grad():
                mine.sample(rows)

        def their_draw() -> None:
            with torch.no_grad():
                theirs().sample((rows,))

        times = in_turn({"pushforward": our_draw, "zuko": their_draw}, 10)
        passes = [m.passes for m in mine.modules() if isinstance(m, Autoregressive)]
        with torch.no_grad():
            nll = {"pushforward": -mine.log_prob(x).mean(), "zuko": -theirs().log_prob(x).mean()}
        keep(
            NAME,
            {
                "sampling": stage,
                "dim": dim,
                "times": times,
                "passes": passes,
                "zuko_passes": [dim] * 3,
                "nll": {name: float(value) for name, value in nll.items()},
            },
        )


def images(rows: int = 100) -> None:
    """``rows`` samples of 28 x 28 pixels from flows of the sizes that two cores train, weights as drawn."""
    shape = (1, 28, 28)
    torch.manual_seed(0)
    flows: dict[str, Flow] = {
        "RealNVP": realnvp(shape, layers=6),
        "Glow": glow(shape, steps=6),
        "TarFlow": tarflow(shape, blocks=4, layers=1, width=96),
        f"continuous, U-Net, Heun {HEUN} steps": ContinuousFlow(UNet(shape), Heun(HEUN), Normal(shape)),
    }

    def drawing(flow: Flow) -> Callable[[], Any]:
        def run() -> None:
            with torch.inference_mode():
                flow.sample(rows)

        return run

    times = in_turn({name: drawing(flow.eval()) for name, flow in flows.items()}, 5)
    parameters = {name: sum(p.numel() for p in flow.parameters()) for name, flow in flows.items()}
    keep(NAME, {"images": rows, "times": times, "parameters": parameters})


def page() -> None:
    """Write benchmarks/results/flow_speed.json, flow_sampling.json and image_sampling.json."""
    found, table = read(NAME), []
    for r in (r for r in found if "flow" in r):
        for what, label in (("score", "log-density"), ("step", "training step")):
            eager = r["eager"][what]
            peers = {k: v for k, v in eager.items() if k != "pushforward"}
            row = {
                "flow": f"{r['flow']}, D = {r['dim']}",
                "work": label,
                **{f"{name}, ms": f"{ms:.2f}" for name, ms in eager.items()},
                "eager: fastest peer / ours": f"{min(peers.values()) / eager['pushforward']:.2f}",
            }
            if "compiled" in r:
                fast = r["compiled"][what]
                mine = fast["pushforward"]
                other = min(v for k, v in fast.items() if k != "pushforward")
                row |= {
                    "ours compiled, ms": f"{mine:.2f}",
                    "fastest peer eager / ours compiled": f"{min(peers.values()) / mine:.2f}",
                    "fastest peer compiled / ours compiled": f"{other / mine:.2f}",
                    "compile, s": ", ".join(f"{k} {v:g}" for k, v in r["compile_s"].items()),
                }
            table.append(row)
    write_page(
        NAME,
        "Normalizing flows beside peers",
        f"Five coupling layers with two hidden layers of {WIDTH}, {BINS} bins, batches of {BATCH:,}, one "
        "torch thread; the least of many times, all libraries in turn. zuko's coupling evaluates all "
        "elements with a masked network; nflows' is given a plain perceptron instead of its residual one.",
        "python benchmarks/flow_speed.py coupling --compiled",
        table,
    )
    drawn = [
        {
            "flow": "as drawn" if r["sampling"] == "start" else "trained",
            "pushforward, ms": round(r["times"]["pushforward"], 1),
            "zuko, ms": round(r["times"]["zuko"], 1),
            "ratio": round(r["times"]["zuko"] / r["times"]["pushforward"], 1),
            "passes of each layer": f"{statistics.fmean(r['passes']):.1f} of {r['dim']}",
            "NLL": f"{r['nll']['pushforward']:.2f}, zuko {r['nll']['zuko']:.2f}",
        }
        for r in found
        if "sampling" in r
    ]
    if drawn:
        write_page(
            "flow_sampling",
            "Samples of masked autoregressive flows",
            "1,024 samples of a masked autoregressive flow of three layers in 32 dimensions, drawn by "
            "fixed-point iteration that stops when a pass changes nothing and, where two passes have not "
            "sufficed, goes on element by element; against zuko, which makes as many passes as there are "
            "dimensions. Trained on a chain of dependent variables.",
            "python benchmarks/flow_speed.py sampling",
            drawn,
        )
    for r in (r for r in found if "images" in r):
        write_page(
            "image_sampling",
            "Samples of images",
            f"Milliseconds for {r['images']} samples of 28 x 28 pixels on one torch thread: the least of "
            "five, all in turn, from flows of the sizes in the table of bits per dimension and a continuous "
            "flow with its network as it ships. A TarFlow draws patch by patch.",
            "python benchmarks/flow_speed.py images",
            [
                {
                    "flow": name,
                    "parameters": f"{r['parameters'][name]:,}",
                    f"ms / {r['images']} samples": f"{ms:,.0f}",
                }
                for name, ms in r["times"].items()
            ],
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("coupling", "sampling", "images", "page"))
    parser.add_argument("--dims", nargs="+", type=int, default=[8, 64])
    parser.add_argument("--flows", nargs="+", default=["nsf", "realnvp"], choices=("nsf", "realnvp"))
    parser.add_argument("--compiled", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the peers' own
    if args.what == "page":
        page()
    elif args.what == "sampling":
        sampling()
    elif args.what == "images":
        images()
    else:
        for dim in args.dims:
            for name in args.flows:
                coupling(dim, name == "realnvp", args.compiled)


if __name__ == "__main__":
    main()
