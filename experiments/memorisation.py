r"""# Memorisation and the size of the data set

The field that minimises the flow-matching loss on n rows is known. It carries the source to these rows alone:

$$u_t(x) = \sum_i w_i(x) \frac{x_i - x}{1 - t}, \qquad
w_i \propto \exp\Big(-\frac{\lvert x - t x_i \rvert^2}{2 (1 - t)^2}\Big) .$$

A network that could represent it would only repeat its data. When does a network do so, and when do new
samples appear? The measure is the share of samples that lie nearer to a row than rows lie to each other;
fresh draws of the distribution have a share of .01. A second network stops by held-out rows, as is the
default of the command line.
"""

from typing import Any

import torch
from drawing import COLOURS, canvas, dress, legend, plane
from study import Study, main
from torch import Tensor

import pushforward
from pushforward import ContinuousFlow, Dopri5, GaussianMixture, GaussianMixtureOracle, Normal
from pushforward.metrics import memorisation_share, memorisation_threshold, wasserstein
from pushforward.random import seeded

MEANS = torch.tensor([[1.5, 0.0], [-0.75, 1.3], [-0.75, -1.3]])
DATA = GaussianMixture(MEANS, 0.25)


def network(rows: Tensor, size: str, steps: int, seed: int, patience: int) -> Any:
    """Flow matching by a network, with held-out rows and early stopping, or without."""
    settings: dict[str, Any] = {
        "source": "normal",
        "network": size,
        "show_progress": False,
    }
    if not patience:
        settings |= {"holdout": 0.0, "folds": 0}
    settings |= {"patience": patience, "steps": steps, "seed": seed}
    return pushforward.train(rows.numpy(), method="fm", **settings).flow


def minimiser(rows: Tensor) -> ContinuousFlow:
    """The flow of the field above: an oracle with a component on each row."""
    points = GaussianMixture(rows, 1e-8)
    return ContinuousFlow(GaussianMixtureOracle(points), solver=Dopri5(), source=Normal(2))


@torch.no_grad()
def share(flow: Any, rows: Tensor, draws: int, seed: int) -> tuple[float, float, Tensor]:
    """Of memorised samples, W2 to fresh rows, and some samples."""
    x = flow.sample(draws, generator=seeded("samples", seed))
    test = DATA.sample(draws, generator=seeded("fresh", seed))
    return memorisation_share(x, rows, threshold=memorisation_threshold(rows, 0.01)), wasserstein(x, test), x


def run(study: Study) -> None:
    sizes = study.pick(small=(40, 300), full=(40, 100, 300, 1_000, 3_000))
    steps, draws = study.pick(small=500, full=3_000), study.pick(small=400, full=1_500)
    size = study.pick(small="mlp,width=64,depth=3", full="mlp,width=128,depth=3")
    seeds = study.seeds(small=1, full=2)
    table, curves, shown = [], {}, {}
    for n in sizes:
        for seed in seeds:
            rows = DATA.sample(n, generator=seeded("rows", seed))
            flows = {
                "network": network(rows, size, steps, seed, 0),
                "network, held-out rows": network(rows, size, steps, seed, 10),
            }
            flows["exact minimiser"] = minimiser(rows)
            for name, flow in flows.items():
                *found, x = share(flow, rows, draws, seed)
                curves.setdefault(name, {}).setdefault(n, []).append(found)
                shown[name, n] = rows, x
    for n in sizes:
        row: dict[str, Any] = {"rows": f"{n:,}"}
        for name, values in curves.items():
            memorised, w2 = torch.tensor(values[n]).mean(0)
            row |= {f"{name}: memorised": f"{memorised:.2f}", f"W2, {name}": f"{w2:.3f}"}
        table.append(row)
    study.table(f"Share of memorised samples and W2 to fresh rows, mean over seeds ({len(seeds)})", table)
    draw(study, curves, shown, sizes)
    small, large = sizes[0], sizes[-1]
    first = {name: torch.tensor(values[small]).mean(0)[0].item() for name, values in curves.items()}
    last = {name: torch.tensor(values[large]).mean(0)[0].item() for name, values in curves.items()}
    study.check(f"exact minimiser, {small} rows: memorised", first["exact minimiser"], at_least=0.95)
    study.check(f"exact minimiser, {large} rows: memorised", last["exact minimiser"], at_least=0.9)
    study.check(f"network, {large} rows: memorised", last["network"], at_most=0.1)
    gap = first["network, held-out rows"] - first["network"]
    study.check(f"{small} rows: share with held-out rows less that without", gap, at_most=0.05)
    study.text(
        f"""The exact minimiser repeats its rows whatever their number. The networks do not: with {small} rows
        {first["network"]:.0%} of the samples are copies by this measure, with {large:,} rows
        {last["network"]:.0%}, where fresh draws have 1 %. What keeps them from the minimum is that they are
        smooth functions, and that training ends."""
    )


def draw(study: Study, curves: dict[str, Any], shown: dict[Any, Any], sizes: tuple[int, ...]) -> None:
    """Shares by size, and samples over the rows."""
    figure, axes = canvas(10, 3, 1, 3)
    ax = dress(axes[0, 0], "memorised samples", "rows", "share")
    for colour, (name, values) in zip(COLOURS, curves.items()):
        ax.plot(
            sizes, [torch.tensor(values[n]).mean(0)[0] for n in sizes], "o-", color=colour, ms=3, label=name
        )
    ax.axhline(0.01, color="grey", linestyle=":")
    ax.set_xscale("log")
    legend(ax)
    for ax, name in zip(axes[0, 1:], ("network", "network, held-out rows")):
        rows, x = shown[name, sizes[0]]
        plane(ax, 3.4, f"{name}, {sizes[0]} rows").scatter(*x.T.numpy(), s=3, color=COLOURS[1], linewidths=0)
        ax.scatter(*rows.T.numpy(), s=18, facecolors="none", edgecolors=COLOURS[0])
    study.figure(
        "memorised", figure, "Shares that fall with the size of the data set, and samples around few rows."
    )


if __name__ == "__main__":
    main(run)
