r"""# The role of sigma: from optimal transport to independent pairs

The Schroedinger bridge joins two distributions as closely as possible to Brownian motion $\sigma\,dW$. Its
plan minimises

$$\operatorname{E} \tfrac12 \lvert x_0 - x_1 \rvert^2 + \sigma^2\, \mathrm{KL}(\pi \mid p_0 \otimes p_1),$$

so that $\sigma \to 0$ gives the optimal plan (OT-CFM) and $\sigma \to \infty$ independent pairs (I-CFM with
much noise). Between normal distributions everything has a closed form; minibatches with an entropic plan of
$\varepsilon = 2\sigma^2$ are compared with it.
"""

from itertools import pairwise

import numpy as np
import torch
from drawing import COLOURS, canvas, dress, legend, plane
from study import Study, main
from systems import source, target
from torch import Tensor

from pushforward import Brownian, GaussianBridge, Interpolant, SinkhornOT
from pushforward.random import seeded

SIGMAS = (0.1, 0.3, 0.5, 1.0, 2.0, 5.0)


def bridge(sigma: float) -> GaussianBridge:
    """From N(0, I) to N(0, I/4)."""
    return GaussianBridge(torch.zeros(2), 1.0, torch.zeros(2), 0.25, sigma=sigma)


def pairs(x0: Tensor, x1: Tensor, sigma: float, seed: int) -> tuple[Tensor, Tensor]:
    """Pairs of the entropic plan of the bridge."""
    plan = SinkhornOT(epsilon=2 * sigma**2, relative=False)
    return plan(x0, x1, generator=seeded("plan", seed, str(sigma)))


def measured(sigma: float, n: int, seed: int) -> tuple[float, float]:
    """Covariance of the pairs, and variance at t = 1/2, per column, of a minibatch of normal rows."""
    x0, x1 = (torch.randn(n, 2, generator=seeded(name, seed)) for name in ("x0", "x1"))
    a, b = pairs(x0, 0.5 * x1, sigma, seed)
    path = Interpolant(gamma=Brownian(sigma))
    half = path.sample(torch.tensor(0.5), a, b, generator=seeded("noise", seed)).x
    return float((a * b).mean()), float(half.square().mean())


def run(study: Study) -> None:
    n, seeds = study.pick(small=1_000, full=3_000), study.seeds(small=2, full=5)
    rows = []
    for sigma in SIGMAS:
        exact = bridge(sigma)
        cross, half = float(exact.cross[0, 0]), float(exact.marginal(0.5)[1][0, 0])
        found = np.array([measured(sigma, n, seed) for seed in seeds])
        row = {"sigma": sigma, "Cov(x0, x1)": f"{found[:, 0].mean():.4f}", "exact covariance": f"{cross:.4f}"}
        rows.append({**row, "Var(x at 1/2)": f"{found[:, 1].mean():.4f}", "exact variance": f"{half:.4f}"})
        # products of the pairs have standard deviations of 1/2 to 3/4, over 2 n len(seeds) elements
        error = 1 / (2 * n * len(seeds)) ** 0.5
        study.check(
            f"sigma {sigma}: covariance of the pairs", found[:, 0].mean(), near=cross, within=3 * error
        )
        study.check(
            f"sigma {sigma}: variance half-way over the exact",
            found[:, 1].mean() / half,
            near=1.0,
            within=5 * error,
        )
    study.table(f"N(0, I) to N(0, I/4), {len(seeds)} batches of {n:,} rows, per column", rows)
    figure, axes = canvas(9.6, 2.7, 1, 4)
    times = torch.linspace(0, 1, 60)
    x0, x1 = source("moons-8g", 256, 1), target("moons-8g", 256, 1)
    for ax, sigma in zip(axes[0], (0.3, 2.0, 5.0, 20.0)):
        a, b = (x[:60] for x in pairs(x0, x1, sigma, 0))
        way = bridges(a, b, sigma, times)
        plane(ax, 17, f"sigma {sigma:g}").plot(
            *way.permute(2, 0, 1).numpy(), color=COLOURS[0], linewidth=0.4, alpha=0.6
        )
        ax.scatter(*a.T.numpy(), s=4, color=COLOURS[1])
        ax.scatter(*b.T.numpy(), s=4, color=COLOURS[2])
    study.figure(
        "bridges", figure, "Brownian bridges from two moons to eight Gaussians, for four values of sigma."
    )
    figure, axes = canvas(4.6, 3.1)
    fine = np.geomspace(0.03, 20, 60)
    exact = [
        float(GaussianBridge(torch.zeros(1), 1.0, torch.zeros(1), 0.25, sigma=s).cross[0, 0]) for s in fine
    ]
    ax = dress(axes[0, 0], "how much a pair has in common", "sigma", "Cov(x0, x1)")
    ax.plot(fine, exact, color=COLOURS[1], label="closed form")
    ax.plot(SIGMAS, [float(row["Cov(x0, x1)"]) for row in rows], "o", color=COLOURS[0], label="minibatches")
    ax.set_xscale("log")
    legend(ax)
    study.figure("covariance", figure, "The covariance of the pairs falls from 1/2 to 0 as sigma grows.")
    study.text(
        """With a small sigma the pairs have the covariance 1/2 of the optimal map $x_1 = x_0 / 2$; with a
        large one they have none, and the path between them is mostly noise. Sigma has the data's units."""
    )


def bridges(a: Tensor, b: Tensor, sigma: float, times: Tensor) -> Tensor:
    """Brownian bridges between pairs, (T, B, d), one step after the other."""
    generator = seeded("bridges", str(sigma))
    way = [a]
    for t, next_ in pairwise(times):
        share = (next_ - t) / (1 - t)
        noise = torch.randn(a.shape, generator=generator)
        spread = sigma * ((next_ - t) * (1 - next_) / (1 - t)).clamp(min=0).sqrt()
        way.append(way[-1] + share * (b - way[-1]) + spread * noise)
    return torch.stack(way)


if __name__ == "__main__":
    main(run)
