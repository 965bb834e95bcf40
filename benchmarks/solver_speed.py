"""Sampling with adaptive solvers, and gradients, against torchdiffeq and torchode: time, evaluations, memory.

    python benchmarks/solver_speed.py tolerance [--seeds 5] [--sizes 64x256 64x4096]
    python benchmarks/solver_speed.py error
    python benchmarks/solver_speed.py gradients
    python benchmarks/solver_speed.py memory

Each ratio is that of medians of runs made in turn, of the same network.  Sizes that are not named keep the
results of the last run.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from peak_memory import peak_memory
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from pushforward.solvers import ODE, RK4, Adaptive, Adjoint, Checkpointed, Dopri5, RowWise, Tsit5

RESULTS = Path(__file__).parent / "results"
#: The tolerance of all solvers, and the error of the result that all are to reach.
TOLERANCE, ERROR = 1e-5, 1e-3
PEERS = ("torchdiffeq dopri5", "torchode tsit5")
#: Makes a run of a field, from points, at a tolerance.
Maker = Callable[["Field", Tensor, float], Callable[[], Tensor]]


class Field(nn.Module):
    """A perceptron of (t, x) with weights large enough that adaptive steps have something to do."""

    def __init__(self, width: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        sizes = [3, width, width, width, 2]
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=1.6 * layer.in_features**-0.5)
        self.net = nn.Sequential(*(m for layer in layers for m in (layer, nn.SiLU())))[:-1]
        self.calls = self.rows = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        self.rows += len(x)
        return self.net(torch.cat([x, t.reshape(-1, 1).expand(len(x), 1)], 1))


def ours(method: type[Adaptive], way: str) -> Maker:
    """A solver of this library on all rows, on those that are left, or by one step for the whole batch."""

    def make(field: Field, x: Tensor, tolerance: float) -> Callable[[], Tensor]:
        problem = {"all rows": ODE(field), "RowWise": ODE(RowWise(field))}.get(way, ODE(field, batched=False))
        solver = method(rtol=tolerance, atol=tolerance)
        return lambda: solver.solve(problem, x, 0.0, 1.0).x

    return make


def by_torchdiffeq(field: Field, x: Tensor, tolerance: float) -> Callable[[], Tensor]:
    ends, options = torch.tensor([0.0, 1.0]), {"rtol": tolerance, "atol": tolerance}
    return lambda: cast(Tensor, odeint(field, x, ends, method="dopri5", **options))[-1]


def by_torchode(field: Field, x: Tensor, tolerance: float) -> Callable[[], Tensor]:
    torchode: Any = importlib.import_module("torchode")
    term = torchode.ODETerm(field)
    controller = torchode.IntegralController(atol=tolerance, rtol=tolerance, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term=term), controller)
    ends = torch.tensor([[0.0, 1.0]]).expand(len(x), 2)
    return lambda: solver.solve(torchode.InitialValueProblem(y0=x, t_eval=ends)).ys[:, -1]


def makers() -> dict[str, Maker]:
    ways = ("one step for all", "RowWise", "all rows")
    methods = {"dopri5": Dopri5, "tsit5": Tsit5}
    made = {f"{name}, {way}": ours(method, way) for name, method in methods.items() for way in ways}
    made[PEERS[0]] = by_torchdiffeq
    if importlib.util.find_spec("torchode"):
        made[PEERS[1]] = by_torchode
    return made


def loosest(make: Maker, field: Field, x: Tensor, exact: Tensor) -> float:
    """The first tolerance of 1e-2, 10^-2.25, 10^-2.5, ... that reaches the wanted error."""
    tolerances = [10 ** -(2 + n / 4) for n in range(21)]
    reached = (t for t in tolerances if rms(make(field, x, t)() - exact) <= ERROR)
    return next(reached, tolerances[-1])


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def span(values: list[float], form: str) -> str:
    low, high = (format(v, form) for v in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


@torch.no_grad()
def sampling(width: int, batch: int, seeds: range, what: str) -> list[dict[str, Any]]:
    """A row for every solver, at equal tolerance or at equal error of the result."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        field, x = Field(width, seed), torch.randn(batch, 2)
        exact = Tsit5(1e-10, 1e-10).solve(field.double(), x.double(), 0.0, 1.0).x
        field.float()
        runs, seconds = {}, {}
        for name, make in makers().items():
            tolerance = TOLERANCE if what == "tolerance" else loosest(make, field, x, exact)
            runs[name], seconds[name] = make(field, x, tolerance), []
            field.calls = field.rows = 0
            error = rms(runs[name]() - exact)
            values = found.setdefault(name, {})
            for key, value in {
                "tolerance": tolerance,
                "calls": field.calls,
                "evaluated": field.rows / batch,
                "error": error,
            }.items():
                values.setdefault(key, []).append(value)
        for _ in range(25 if batch < 1000 else 5):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
        for name in runs:
            for peer in filter(seconds.__contains__, PEERS):
                ratio = statistics.median(seconds[peer]) / statistics.median(seconds[name])
                found[name].setdefault(peer, []).append(ratio)
    forms = {"tolerance": ".0e", "calls": ".0f", "evaluated": ".0f", "error": ".0e"}
    if what == "tolerance":
        del forms["tolerance"]
    rows = []
    for name, values in found.items():
        row: dict[str, Any] = {"width": width, "rows": batch, "solver": name}
        row |= {key: span(values[key], form) for key, form in forms.items()}
        row |= {f"times as fast as {peer}": span(values.get(peer, [math.nan]), ".2f") for peer in PEERS}
        rows.append(row)
        print(row, flush=True)
    return rows


def stored(run: Callable[[], Tensor]) -> int:
    """Bytes that one solution keeps for its gradients."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        end = run()
    assert end.requires_grad
    return sum(kept.values())


def ways(field: Field, x: Tensor, steps: int) -> dict[str, Callable[[], Tensor]]:
    """Solutions in so many steps of the same method, by the way in which they are differentiated."""
    solver = RK4(steps=steps)
    by_peer: Any = odeint_adjoint
    ends, options = torch.tensor([0.0, 1.0]), {"step_size": 1 / steps}
    return {
        "backpropagation": lambda: solver.solve(field, x, 0.0, 1.0).x,
        "checkpointed": lambda: Checkpointed(solver).solve(field, x, 0.0, 1.0).x,
        "adjoint": lambda: Adjoint(solver).solve(field, x, 0.0, 1.0).x,
        "torchdiffeq adjoint": lambda: by_peer(field, x, ends, method="rk4", options=options)[-1],
    }


def gradients() -> list[dict[str, Any]]:
    field, x, rows = Field(64, 0), torch.randn(256, 2), []
    for steps in (10, 100, 1000):
        row: dict[str, Any] = {"steps": steps}
        seconds: dict[str, float] = {}
        for name, run in ways(field, x, steps).items():
            row[f"MB kept: {name}"] = f"{stored(run) / 1e6:.3g}"
            taken = []
            for _ in range(3):
                start = time.perf_counter()
                run().sum().backward()
                taken.append(time.perf_counter() - start)
            seconds[name] = statistics.median(taken)
        row |= {
            f"time / backpropagation: {name}": f"{t / seconds['backpropagation']:.2f}"
            for name, t in seconds.items()
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def memory() -> list[dict[str, Any]]:
    field, x, rows = Field(64, 0), torch.randn(256, 2), []
    for steps in (10, 30, 100, 300, 1000):
        row: dict[str, Any] = {"steps": steps}
        for name, run in ways(field, x, steps).items():
            run().sum().backward()  # the gradients of the network are there before
            held = peak_memory(lambda run=run: run().sum().backward())
            row[f"MB: {name}"] = float(f"{held / 1e6:.3g}")
        rows.append(row)
        print(row, flush=True)
    return rows


def figure(rows: list[dict[str, Any]], file: Path) -> None:
    """The rows of :func:`memory`, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(figsize=(5, 2.8), dpi=110, layout="constrained")
    names = [name for name in rows[0] if name != "steps"]
    for name, style in zip(names, ("o-", "s-", "^-", "x:")):
        heights = [row[name] for row in rows]
        axes.loglog([row["steps"] for row in rows], heights, style, ms=4, label=name.removeprefix("MB: "))
    axes.set(xlabel="steps of RK4", ylabel="peak memory, MB")
    axes.legend(frameon=False, fontsize=8)
    drawing.savefig(file)
    pyplot.close(drawing)


TITLES = {
    "tolerance": (
        "Adaptive sampling against torchdiffeq and torchode at equal tolerance",
        "Perceptrons of three hidden layers on points of the plane, relative and absolute tolerance 1e-5, "
        "one thread, float32; ranges are over the networks of five seeds. The error is the root mean square "
        "of the final points against double precision. torchdiffeq makes one step for the batch, by its mean "
        "error, as ours does with `ODE(field, batched=False)`; torchode and ours otherwise one for each row; "
        "all rows are evaluated until the last has arrived, with RowWise those that are left. Evaluated are "
        "the rows of all calls, for one row of the batch. Errors at equal tolerance differ by a factor of "
        "ten, so another table compares solvers at equal error.",
    ),
    "error": (
        "Adaptive sampling against torchdiffeq and torchode at equal error",
        "As at equal tolerance, but with an error of the result of at most 1e-3: every solver has the "
        "loosest of the tolerances 1e-2, 10^-2.25, 10^-2.5, ... that reaches it, relative and absolute, "
        "for each network.",
    ),
    "gradients": (
        "Memory and time of gradients",
        "A perceptron of three hidden layers of 64, 256 rows, the classical Runge-Kutta method, one thread. "
        "Kept is what a solution holds for its gradients, all tensors counted once, the network among them, "
        "and for the adjoint one evaluation that finds the parameters, which is let go at once.",
    ),
    "memory": (
        "Peak memory of gradients",
        "The same network, rows and method: the most memory that is held at once, beyond the network and its "
        "gradients, from the start of a solution to the end of its gradients, by the profiler's record of "
        "what is allocated and let go.",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=list(TITLES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=700, help="the first seed")
    parser.add_argument("--sizes", nargs="+", default=["64x256", "64x4096", "256x256"], help="width x rows")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    title, note = TITLES[chosen.what]
    command, path = f"python benchmarks/solver_speed.py {chosen.what}", RESULTS / f"solver_{chosen.what}.json"
    if chosen.what == "gradients":
        rows = gradients()
    elif chosen.what == "memory":
        rows = memory()
        figure(rows, RESULTS.parents[1] / "docs" / "_static" / "gradient_memory.png")
    else:
        rows = json.loads(path.read_text())["rows"] if path.exists() else []
        command += f" --seeds {chosen.seeds} --first {chosen.first}"
        for size in (tuple(map(int, size.split("x"))) for size in chosen.sizes):
            seeds = range(chosen.first, chosen.first + chosen.seeds)
            rows = [row for row in rows if (row["width"], row["rows"]) != size]
            rows += sampling(size[0], size[1], seeds, chosen.what)
        rows.sort(key=lambda row: (row["width"], row["rows"]))
    facts = {"title": title, "note": note, "command": command, "torch": torch.__version__, "rows": rows}
    path.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
