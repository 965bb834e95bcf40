"""Log-densities of continuous flows beside those of flow_matching (Lipman et al. 2024, arXiv 2412.06264).

python benchmarks/likelihood_speed.py run [--seeds 3] [--cases mlp-2 mlp-16 mlp-64 resmlp-2 resmlp-16 unet]
python benchmarks/likelihood_speed.py page

Ten midpoint steps with the same network, one torch thread.  All take turns, forwards and backwards through
the list, and a ratio is that of two times of one round: other work on the machine slows both.  The bound is
the time of the products of all tangents with the hidden layers alone, with nothing between them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from keeping import keep, known, read, write_page
from torch import Tensor, nn

from pushforward.flows import ContinuousFlow, Hutchinson
from pushforward.nn import MLP, ResidualMLP, UNet
from pushforward.solvers import Midpoint
from pushforward.sources import Normal

NAME = "likelihood_speed"
STEPS, WIDTH, DEPTH = 10, 256, 3
#: A case: the network, the event shape, rows, rounds.
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    **{
        f"mlp-{d}": (lambda d=d: MLP(d, width=WIDTH, depth=DEPTH), (d,), 256, 12 if d < 64 else 4)
        for d in (2, 16, 64)
    },
    **{f"resmlp-{d}": (lambda d=d: ResidualMLP(d), (d,), 256, 12 if d == 2 else 3) for d in (2, 16)},
    "unet": (lambda: UNet((1, 8, 8), width=16), (1, 8, 8), 32, 2),
}


class Flat(nn.Module):
    """A field of events of any shape as the peer asks for it: ``(x, t)``, events of one dimension."""

    def __init__(self, network: nn.Module, event: tuple[int, ...]):
        super().__init__()
        self.network, self.event = network, event

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(t, x.reshape(-1, *self.event)).flatten(1)


def with_meta(network: nn.Module, x: Tensor, exact: bool) -> Callable[[], Tensor]:
    from flow_matching.solver import ODESolver
    from flow_matching.utils import ModelWrapper

    class Model(ModelWrapper):
        def forward(self, x: Tensor, t: Tensor, **extras: Any) -> Tensor:
            return self.model(x, t)

    solver = ODESolver(Model(Flat(network, tuple(x.shape[1:]))))
    start, normal = x.flatten(1), Normal(x[0].numel())

    def run() -> Tensor:
        return solver.compute_likelihood(
            start.clone(), normal.log_prob, step_size=1 / STEPS, method="midpoint", exact_divergence=exact
        )[1]

    return run


def of(flow: ContinuousFlow, x: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.no_grad():
            return flow.log_prob(x)

    return run


def gradient(flow: ContinuousFlow, x: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        flow.zero_grad()
        flow.log_prob(x).mean().backward()
        return x

    return run


def products(network: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """The products with the hidden layers of values twice a step, and of tangents once, at the midpoint."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    hidden = [layer.weight for layer in layers if layer.weight.shape == (WIDTH, WIDTH)]
    tangents = torch.randn((x[0].numel() + 1) * len(x), WIDTH)

    def run() -> Tensor:
        with torch.no_grad():
            for part in (tangents[: len(x)], tangents) * STEPS:
                for weight in hidden:
                    nn.functional.linear(part, weight)
        return tangents

    return run


def in_turn(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each in each round; every other round goes backwards."""
    for run in work.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds):
        names = list(work)
        for name in names if number % 2 == 0 else names[::-1]:
            start = time.perf_counter()
            work[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def case(name: str, seed: int) -> None:
    build, event, rows, rounds = CASES[name]
    torch.manual_seed(seed)
    network, x = build(), torch.randn(rows, *event)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # some layers start at zero
    solver, source = Midpoint(STEPS), Normal(event)
    flow = ContinuousFlow(network, solver, source)
    plain = ContinuousFlow(lambda t, x, condition: network(t, x, condition), solver, source)
    guess = ContinuousFlow(network, solver, source, divergence=Hutchinson())
    exact, theirs = of(flow, x), with_meta(network, x, True)
    difference = float((exact() - theirs()).abs().max())
    assert difference < 1e-2, difference
    work = {
        "exact": exact,
        "meta exact": theirs,
        "general": of(plain, x),
        "hutchinson": of(guess, x),
        "meta hutchinson": with_meta(network, x, False),
    }
    if name != "unet":
        work |= {"bound": products(network, x), "gradient": gradient(flow, x)}
        if name != "mlp-64":
            plain.register_module("network", network)
            work["general gradient"] = gradient(plain, x)
    times = in_turn(work, rounds)
    errors = {}
    for which in ("hutchinson", "meta hutchinson"):
        errors[which] = float(torch.stack([work[which]() - exact() for _ in range(4)]).square().mean())
    keep(NAME, {"case": name, "seed": seed, "difference": difference, "times": times, "variance": errors})


def ratio(rows: list[dict[str, Any]], above: str, below: str, digits: int = 2) -> str:
    """Median and quartiles of the ratios of all rounds."""
    pairs = [zip(row["times"].get(above, []), row["times"].get(below, [])) for row in rows]
    found = [a / b for pair in pairs for a, b in pair]
    if not found:
        return ""
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def page() -> None:
    table = []
    for name, (_, event, batch, _) in CASES.items():
        rows = [row for row in read(NAME) if row["case"] == name]
        if not rows:
            continue
        spread = [
            row["variance"]["meta hutchinson"]
            * statistics.median(row["times"]["meta hutchinson"])
            / (row["variance"]["hutchinson"] * statistics.median(row["times"]["hutchinson"]))
            for row in rows
        ]
        table.append(
            {
                "network": name.partition("-")[0],
                "event": "x".join(map(str, event)),
                "rows": batch,
                "seeds": len(rows),
                "exact: flow_matching / ours": ratio(rows, "meta exact", "exact"),
                "without an offer: flow_matching / ours": ratio(rows, "meta exact", "general"),
                "exact: ours / bound": ratio(rows, "exact", "bound"),
                "exact: flow_matching / bound": ratio(rows, "meta exact", "bound"),
                "with gradient: general / offered": ratio(rows, "general gradient", "gradient"),
                "Hutchinson: flow_matching / ours": ratio(rows, "meta hutchinson", "hutchinson"),
                "variance x time: flow_matching / ours": f"{statistics.median(spread):.2f}",
                "ours, ms": f"{statistics.median([t for row in rows for t in row['times']['exact']]):.0f}",
            }
        )
    write_page(
        NAME,
        "Log-densities of continuous flows",
        f"Times of log-densities from {STEPS} midpoint steps, medians of the ratios of all rounds and their "
        "quartiles, beside flow_matching's `compute_likelihood` on the same network. The perceptron has "
        f"{DEPTH} hidden layers of {WIDTH}; its network and the residual one, as they ship, offer their "
        "divergence, the U-Net takes the general way. A midpoint step needs the divergence at one of its two "
        "stages, where ours computes it. The bound is the time of just these products of values and "
        "tangents with the hidden layers, made whole and with nothing else. flow_matching has no gradient of "
        "log-densities, and its exact divergence takes events of one dimension alone, so that it is given "
        "flat images.",
        "python benchmarks/likelihood_speed.py run",
        table,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
        return
    for seed in range(args.seeds):
        for name in args.cases:
            if not known(NAME, case=name, seed=seed):
                case(name, seed)


if __name__ == "__main__":
    main()
