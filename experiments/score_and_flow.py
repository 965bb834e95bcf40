r"""# Score against flow: one field, seen from two sides

A score model learns the noise in $x_t$, flow matching learns the velocity. For a normal source both are the
same function of $\operatorname{E}[x_1 \mid x_t]$: along $x_t = \alpha_t x_1 + \sigma_t x_0$

$$ u_t(x) = \frac{\dot\alpha_t}{\alpha_t} x
+ \Big(\frac{\dot\alpha_t}{\alpha_t} \sigma_t^2 - \dot\sigma_t \sigma_t\Big) s_t(x) .$$

Do models that were trained separately, a DDPM and a flow, agree? And where does the conversion break down?
The mixture of five Gaussians has exact scores and velocities to compare with.
"""

import statistics
from typing import Any

import numpy as np
import torch
from drawing import COLOURS, canvas, dress, legend
from study import Study, main
from torch import Tensor

import pushforward
from pushforward import GaussianMixture, GaussianMixtureOracle, Interpolant
from pushforward.fields import ScheduleChange, convert
from pushforward.metrics import wasserstein
from pushforward.random import seeded
from pushforward.solvers import StochasticHeun

PATH = Interpolant()
TIMES = [0.001, 0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99, 0.999]
INNER = slice(2, -2)
PAIRS = (("flow", "score"), ("flow", "exact"), ("score", "exact"))
POINTS = 4_000


def mixture() -> GaussianMixture:
    """Five components of unequal weight and shape, about of unit variance."""
    means = torch.tensor([[-1.2, -0.6], [-0.4, 1.2], [0.7, 0.3], [1.3, -1.0], [0.0, -1.4]])
    covariances = torch.diag_embed(
        torch.tensor([[0.10, 0.02], [0.05, 0.13], [0.07, 0.03], [0.05, 0.06], [0.13, 0.02]])
    )
    covariances[:, 0, 1] = covariances[:, 1, 0] = torch.tensor([0.02, 0.03, 0.0, -0.02, 0.02])
    return GaussianMixture(means, covariances, [1.0, 2.0, 3.0, 1.5, 1.0])


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's, over all elements."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1])


def error(a: Tensor, exact: Tensor) -> float:
    """Relative, in the root of the mean square."""
    return float(((a - exact).square().mean() / exact.square().mean()).sqrt())


def train(target: GaussianMixture, steps: int, seed: int) -> dict[str, Any]:
    """A flow and a DDPM on the same rows, as they ship."""
    rows = target.sample(20_000, generator=seeded("rows", seed)).numpy()
    settings: dict[str, Any] = {"preprocess": "none", "patience": 0, "show_progress": False}
    both = {"flow": "fm", "score": "ddpm"}
    return {
        name: pushforward.train(rows, method=method, steps=steps, seed=seed, **settings).flow
        for name, method in both.items()
    }


@torch.no_grad()
def compare(flows: dict[str, Any], target: GaussianMixture, seed: int) -> dict[str, Any]:
    """Correlations of velocities by time, and errors of velocities and of scores."""
    oracle = GaussianMixtureOracle(target, PATH)
    diffusion = flows["score"].core
    fields = {
        "flow": flows["flow"].core.field,
        "score": ScheduleChange(diffusion.field, diffusion.path, PATH),
        "exact": oracle,
    }
    curves: dict[Any, list[float]] = {}
    whole: dict[str, list[Tensor]] = {name: [] for name in fields}
    for t in map(torch.tensor, TIMES):
        x1 = target.sample(POINTS, generator=seeded("x1", seed, str(t)))
        x = PATH.sample(t, torch.randn(x1.shape, generator=seeded("x0", seed, str(t))), x1).x
        c = PATH.coefficients(t)
        u = {name: field(t, x) for name, field in fields.items()}
        for name, value in u.items():
            whole[name].append(value)
            score = convert(value, x, c, "velocity", "score")
            curves.setdefault(("velocity", name), []).append(error(value, u["exact"]))
            curves.setdefault(("score", name), []).append(error(score, oracle.score(t, x)))
        for a, b in PAIRS:
            curves.setdefault(("correlation", a, b), []).append(correlation(u[a], u[b]))
    joined = {name: torch.cat(values[INNER]) for name, values in whole.items()}
    return {
        "curves": curves,
        "whole": {pair: correlation(joined[pair[0]], joined[pair[1]]) for pair in PAIRS},
    }


@torch.no_grad()
def quality(flows: dict[str, Any], target: GaussianMixture, seed: int) -> dict[str, float]:
    """W2 to fresh rows: of other fresh rows, of both models by their ODE, of the flow by an SDE."""
    fresh, other = (target.sample(2_000, generator=seeded(name, seed)) for name in ("fresh", "other"))
    noisy = flows["flow"].stochastic(1.0, StochasticHeun(steps=100))
    drawn = {"fresh rows": other}
    for name, flow in (("flow, ODE", flows["flow"]), ("score, ODE", flows["score"]), ("flow, SDE", noisy)):
        drawn[name] = flow.sample(2_000, generator=seeded("draws", seed))
    return {name: wasserstein(x, fresh) for name, x in drawn.items()}


def draw(study: Study, curves: dict[Any, np.ndarray]) -> None:
    """Correlations, and relative errors of velocity and score, by time."""
    figure, axes = canvas(10, 3.1, 1, 3)
    ax = dress(axes[0, 0], "correlation of velocities", "t")
    for colour, pair in zip(COLOURS, PAIRS):
        ax.plot(TIMES, curves["correlation", *pair], color=colour, label=" and ".join(pair))
    ax.set_ylim(min(0.98, min(curves["correlation", *pair][INNER].min() for pair in PAIRS)), 1.001)
    legend(ax)
    for ax, kind in zip(axes[0, 1:], ("velocity", "score")):
        dress(ax, f"relative error of the {kind}", "t")
        for colour, name in zip(COLOURS, ("flow", "score")):
            ax.plot(TIMES, curves[kind, name], color=colour, label=f"from the {name} model")
        ax.set_yscale("log")
        legend(ax)
    seen = "Correlations near 1; relative errors of velocity and score, which rise at the ends."
    study.figure("agreement", figure, seen)


def run(study: Study) -> None:
    target, seeds = mixture(), study.seeds(small=1, full=2)
    steps = study.pick(small=800, full=8_000)
    found, w2 = [], []
    for seed in seeds:
        flows = train(target, steps, seed)
        found.append(compare(flows, target, seed))
        w2.append(quality(flows, target, seed))
    curves = {key: np.mean([f["curves"][key] for f in found], 0) for key in found[0]["curves"]}
    rows, least = [], study.pick(small=(0.97, 0.9), full=(0.995, 0.99))
    for pair in PAIRS:
        name = " and ".join(pair)
        whole = min(f["whole"][pair] for f in found)
        lowest = min(min(f["curves"]["correlation", *pair][INNER]) for f in found)
        rows.append(
            {"velocities": name, "t from .05 to .95": f"{whole:.4f}", "at the worst time": f"{lowest:.4f}"}
        )
        study.check(f"{name}: correlation, worst seed", whole, at_least=least[0])
        study.check(f"{name}: at the worst of 19 times, worst seed", lowest, at_least=least[1])
    study.table(f"Correlations of velocities, worst of {len(seeds)} seeds, {steps:,} steps of training", rows)
    draw(study, curves)
    study.table(
        "Where it breaks down: relative errors near the ends, where the conversion divides by alpha or sigma",
        [
            {"quantity": f"{kind} from the {name} model"}
            | {f"t = {TIMES[i]}": f"{curves[kind, name][i]:.3f}" for i in (1, 2, 11, -3, -2)}
            for kind in ("velocity", "score")
            for name in ("flow", "score")
        ],
    )
    amplified = curves["score", "flow"][TIMES.index(0.99)] / curves["score", "flow"][TIMES.index(0.5)]
    study.text(
        f"""At $t = 0.99$ the score made from the flow's velocity is {amplified:.1f} times as far off as at
        $t = 0.5$, for it divides by $1 - t$. Near $t = 0$ the velocity from the score model divides its error
        by $\\alpha_t$."""
    )
    means = {name: [w[name] for w in w2] for name in w2[0]}
    table = [
        {"samples": name, "W2": f"{statistics.fmean(v):.4f}", "from": f"{min(v):.4f}", "to": f"{max(v):.4f}"}
        for name, v in means.items()
    ]
    study.table("W2 to 2,000 fresh rows", table)
    within = study.pick(small=0.6, full=0.25)
    for name in ("score, ODE", "flow, SDE"):
        ratio = statistics.fmean(a / b for a, b in zip(means[name], means["flow, ODE"]))
        study.check(f"W2: {name} over flow, ODE, mean over seeds", ratio, near=1.0, within=within)


if __name__ == "__main__":
    main(run)
