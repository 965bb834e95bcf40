"""Sampling with adaptive solvers, and gradients, against torchdiffeq and torchode: time, evaluations, memory.

    python benchmarks/solver_speed.py sampling [--seeds 4]
    python benchmarks/solver_speed.py gradients
    python benchmarks/solver_speed.py memory

Each ratio is that of medians of runs made in turn, of the same network at the same tolerance.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from pushforward.solvers import ODE, RK4, Adjoint, Checkpointed, Dopri5, RowWise, Tsit5

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 1e-5
PAIRS = [
    ("dopri5, RowWise", "torchdiffeq dopri5"),
    ("dopri5, one step for all", "torchdiffeq dopri5"),
    ("dopri5, all rows", "torchdiffeq dopri5"),
    ("dopri5, RowWise", "torchdiffeq dopri5 at 2.5e-6"),
    ("dopri5, one step for all", "torchdiffeq dopri5 at 2.5e-6"),
    ("tsit5, RowWise", "torchode tsit5"),
    ("tsit5, all rows", "torchode tsit5"),
]


class Field(nn.Module):
    """A perceptron of (t, x) with weights large enough that adaptive steps have something to do."""

    def __init__(self, width: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        sizes = [3, width, width, width, 2]
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=1.6 * layer.in_features**-0.5)
        self.net = nn.Sequential(*(m for layer in layers for m in (layer, nn.SiLU())))[:-1]
        self.calls = self.rows = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        self.rows += len(x)
        return self.net(torch.cat([x, t.reshape(-1, 1).expand(len(x), 1)], 1))


def by_torchode(field: Field, x: Tensor) -> Callable[[], Any]:
    torchode: Any = importlib.import_module("torchode")
    term = torchode.ODETerm(field)
    controller = torchode.IntegralController(atol=TOLERANCE, rtol=TOLERANCE, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term=term), controller)
    ends = torch.tensor([[0.0, 1.0]]).expand(len(x), 2)
    return lambda: solver.solve(torchode.InitialValueProblem(y0=x, t_eval=ends)).ys[:, -1]


def samplers(field: Field, x: Tensor) -> dict[str, Callable[[], Any]]:
    ends = torch.tensor([0.0, 1.0])
    options: dict[str, Any] = {"rtol": TOLERANCE, "atol": TOLERANCE}
    # the batch as one system, which is how torchdiffeq solves it
    whole = ODE(field, batched=False)
    made: dict[str, Callable[[], Any]] = {
        "dopri5, RowWise": lambda: Dopri5(**options).solve(RowWise(field), x, 0.0, 1.0).x,
        "dopri5, all rows": lambda: Dopri5(**options).solve(field, x, 0.0, 1.0).x,
        "tsit5, RowWise": lambda: Tsit5(**options).solve(RowWise(field), x, 0.0, 1.0).x,
        "tsit5, all rows": lambda: Tsit5(**options).solve(field, x, 0.0, 1.0).x,
        "dopri5, one step for all": lambda: Dopri5(**options).solve(whole, x, 0.0, 1.0).x,
        "torchdiffeq dopri5": lambda: odeint(field, x, ends, method="dopri5", **options)[-1],
    }
    tight = TOLERANCE / 4
    made["torchdiffeq dopri5 at 2.5e-6"] = lambda: odeint(
        field, x, ends, method="dopri5", rtol=tight, atol=tight
    )[-1]
    try:
        made["torchode tsit5"] = by_torchode(field, x)
    except ImportError:
        pass
    return made


@torch.no_grad()
def sampling(seeds: int, first: int) -> list[dict[str, Any]]:
    rows = []
    for width, batch in ((64, 256), (64, 4096), (256, 256), (256, 4096)):
        ratios: dict[str, list[float]] = {}
        calls: dict[str, list[int]] = {}
        evaluated: dict[str, list[float]] = {}
        errors: dict[str, list[float]] = {}
        for seed in range(first, first + seeds):
            field, x = Field(width, seed), torch.randn(batch, 2)
            exact = Dopri5(1e-10, 1e-10).solve(field.double(), x.double(), 0.0, 1.0).x
            made = samplers(field.float(), x)
            times: dict[str, list[float]] = {name: [] for name in made}
            for name, run in made.items():
                field.calls = field.rows = 0
                errors.setdefault(name, []).append(float((run() - exact).square().mean().sqrt()))
                calls.setdefault(name, []).append(field.calls)
                evaluated.setdefault(name, []).append(field.rows / batch)
            for _ in range(7 if batch < 1000 else 3):
                for name, run in made.items():
                    start = time.perf_counter()
                    run()
                    times[name].append(time.perf_counter() - start)
            for name, peer in PAIRS:
                if peer in made:
                    ratio = statistics.median(times[peer]) / statistics.median(times[name])
                    ratios.setdefault(f"{name}: times as fast as {peer}", []).append(ratio)
        row = {"width": width, "rows": batch}
        row |= {name: f"{min(v):.2f} to {max(v):.2f}" for name, v in ratios.items()}
        row |= {f"calls: {name}": f"{min(v)} to {max(v)}" for name, v in calls.items()}
        row |= {f"evaluated: {name}": f"{min(v):.0f} to {max(v):.0f}" for name, v in evaluated.items()}
        row |= {f"error: {name}": f"{statistics.median(v):.0e}" for name, v in errors.items()}
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


def peak(run: Callable[[], Tensor]) -> int:
    """The most bytes that are held at once beyond what was there, by a solution and its gradients."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as seen:
        run().sum().backward()
    assert seen.profiler is not None and seen.profiler.kineto_results is not None
    events: list[Any] = [
        event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def memory() -> list[dict[str, Any]]:
    field, x, rows = Field(64, 0), torch.randn(256, 2), []
    for steps in (10, 30, 100, 300, 1000):
        row: dict[str, Any] = {"steps": steps}
        for name, run in ways(field, x, steps).items():
            run().sum().backward()  # the gradients of the network are there before
            row[f"MB: {name}"] = float(f"{peak(run) / 1e6:.3g}")
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
    "sampling": (
        "Adaptive sampling against torchdiffeq and torchode",
        "Perceptrons of three hidden layers on points of the plane, relative and absolute tolerance 1e-5, "
        "one thread, float32. Ratios are those of medians of runs in turn; ranges are over networks of fresh "
        "seeds. The error is the root mean square of the final points against double precision. "
        "torchdiffeq makes one step for the batch, by its mean error; torchode and this library one for each "
        "row; all rows are evaluated until the last has arrived, with RowWise those that are left. Evaluated "
        "are the rows of all calls, for one row of the batch. The error that torchdiffeq estimates is two "
        "thirds of ours, by other weights, so that at the same tolerance its errors are larger; at 2.5e-6 "
        "they are about as large.",
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
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first", type=int, default=100, help="the first seed")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    made = {
        "sampling": lambda: sampling(chosen.seeds, chosen.first),
        "gradients": gradients,
        "memory": memory,
    }
    rows = made[chosen.what]()
    if chosen.what == "memory":
        figure(rows, RESULTS.parents[1] / "docs" / "_static" / "gradient_memory.png")
    title, note = TITLES[chosen.what]
    seeds = f" --seeds {chosen.seeds} --first {chosen.first}" if chosen.what == "sampling" else ""
    command = f"python benchmarks/solver_speed.py {chosen.what}{seeds}"
    facts = {"title": title, "note": note, "command": command, "torch": torch.__version__, "rows": rows}
    (RESULTS / f"solver_{chosen.what}.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
