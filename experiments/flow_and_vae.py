r"""# The likelihood of a flow and the bound of a variational autoencoder

A flow has an exact density. A variational autoencoder has a lower bound of its density, which importance
weights over K draws of the latent make tighter:

$$\log p(x) \ge \operatorname{E} \log \frac1K \sum_k \frac{p(x, z_k)}{q(z_k \mid x)} .$$

On two moons the entropy is known, so that it is plain how much of the gap to it is the model's and how much
is the bound's.
"""

import statistics
from typing import Any

import torch
from drawing import COLOURS, HEAT, canvas, dress, legend, plane
from study import Study, main
from torch import Tensor

import pushforward
from pushforward import TwoMoons
from pushforward.random import seeded

MOONS = TwoMoons(noise=0.1)
NAMES = {"nsf": "spline flow", "fm": "flow matching", "vae": "autoencoder"}


def train(method: str, steps: int, seed: int) -> Any:
    """As it ships, on 10,000 rows."""
    rows = MOONS.sample(10_000, generator=seeded("rows", seed)).numpy()
    return pushforward.train(rows, method=method, steps=steps, seed=seed, show_progress=False).flow


@torch.no_grad()
def gap(flow: Any, test: Tensor) -> float:
    """Mean of log p - log q at rows of p, with q the density or its bound: KL(p | q), or more."""
    torch.manual_seed(0)
    return float((MOONS.log_prob(test) - flow.log_prob(test)).mean())


def run(study: Study) -> None:
    seeds, steps = study.seeds(small=1, full=3), study.pick(small=600, full=4_000)
    draws = study.pick(small=(1, 16, 128), full=(1, 4, 16, 64, 256))
    test = MOONS.sample(study.pick(small=500, full=2_000), generator=seeded("test"))
    flows: dict[str, list[float]] = {"nsf": [], "fm": []}
    bounds: list[list[float]] = []
    shown = {}
    for seed in seeds:
        for method, values in flows.items():
            shown[method] = train(method, steps, seed)
            values.append(gap(shown[method], test))
        shown["vae"] = vae = train("vae", steps, seed)
        bounds.append([gap(vae.replace(samples=k), test) for k in draws])
    found = {NAMES[method]: values for method, values in flows.items()}
    found |= {f"autoencoder, bound with K = {k}": list(values) for k, values in zip(draws, zip(*bounds))}
    spread = {name: f"{min(values):.3f} to {max(values):.3f}" for name, values in found.items()}
    gaps = {name: statistics.fmean(values) for name, values in found.items()}
    study.table(
        f"Nats below the distribution at {len(test):,} held-out rows, {steps:,} steps; seeds: {len(seeds)}",
        [{"model": name, "gap": f"{mean:.3f}", "seeds": spread[name]} for name, mean in gaps.items()],
    )
    bound = [mean for name, mean in gaps.items() if "bound" in name]
    draw(study, draws, bound, {name: mean for name, mean in gaps.items() if "bound" not in name})
    samples(study, test, {NAMES[name]: flow for name, flow in shown.items()})
    # the mean of log p - log q is an unbiased estimate of a KL, with an error of about .02 at 500 rows
    for name, mean in gaps.items():
        study.check(f"{name}: gap", mean, at_least=-0.04)
    study.check("nats that the bound gains by its draws", bound[0] - bound[-1], at_least=0.0)
    study.check(
        "spline flow, nats over the autoencoder's best bound", bound[-1] - gaps["spline flow"], at_least=0.0
    )
    study.text(
        f"""The entropy is {MOONS.entropy():.3f} nats. Of the autoencoder's {bound[0]:.2f} nats
        {bound[0] - bound[-1]:.2f} are the bound's, and {bound[-1]:.2f} remain with {draws[-1]} draws."""
    )


def draw(study: Study, draws: tuple[int, ...], bound: list[float], flows: dict[str, float]) -> None:
    """The bound by its draws, beside the flows."""
    figure, axes = canvas(4.6, 3.1)
    ax = dress(axes[0, 0], "the bound gets tighter", "draws K", "nats below the distribution")
    ax.plot(draws, bound, "o-", color=COLOURS[0], label="autoencoder's bound")
    for colour, (name, mean) in zip(COLOURS[1:], flows.items()):
        ax.axhline(mean, color=colour, label=name)
    ax.set(xscale="log", ylim=(0, None))
    legend(ax)
    study.figure(
        "bound", figure, "The gap of the bound falls with the draws to a level above that of the flows."
    )


def samples(study: Study, test: Tensor, flows: dict[str, Any]) -> None:
    """Samples of each beside the data."""
    figure, axes = canvas(9.6, 2.7, 1, 4)
    drawn = {name: flow.sample(1_500, generator=seeded("draw")).detach() for name, flow in flows.items()}
    for ax, (name, x) in zip(axes[0], {"data": test, **drawn}.items()):
        middle = x - torch.tensor([0.5, 0.25])
        plane(ax, 2.0, name).scatter(*middle.T.numpy(), s=2, linewidths=0, c=[HEAT(0.8)])
    study.figure("samples", figure, "Samples: data, spline flow, flow matching, autoencoder.")


if __name__ == "__main__":
    main(run)
