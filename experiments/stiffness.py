r"""# Adaptive steps and stiffness near t = 1

Data on a thin set make the field sharp at the end: for a mixture of components of standard deviation $s$ the
field between them has slopes up to

$$\max_x \lvert \partial_x u_t \rvert \approx \frac{1}{1 - t} \qquad \text{until } 1 - t \approx s .$$

How many evaluations does an adaptive solver need as $s$ falls, where does it spend them, and what do equal
steps lose? The fields here are exact, so that nothing else is at fault.
"""

import torch
from drawing import COLOURS, canvas, dress, legend
from study import Study, main

from pushforward import ContinuousFlow, Dopri5, GaussianMixture, GaussianMixtureOracle, Interpolant, Normal
from pushforward.random import seeded
from pushforward.solvers import Euler, Heun

MEANS = torch.tensor([[1.0, 0.5], [-1.0, 0.5], [0.0, -1.0]], dtype=torch.float64)


def field(s: float) -> GaussianMixtureOracle:
    """The exact velocity to components of standard deviation s."""
    return GaussianMixtureOracle(GaussianMixture(MEANS, s**2).double(), Interpolant())


def slope(oracle: GaussianMixtureOracle, t: float, x: torch.Tensor) -> float:
    """The largest singular value of the field's derivative over some points."""
    jacobian = torch.func.vmap(
        torch.func.jacrev(lambda y: oracle(torch.tensor(t, dtype=y.dtype), y[None])[0])
    )(x)
    return float(torch.linalg.matrix_norm(jacobian, 2).max())


def run(study: Study) -> None:
    scales = study.pick(small=(0.3, 0.03, 0.003), full=(0.3, 0.1, 0.03, 0.01, 0.003, 0.001))
    n, seed = study.pick(small=200, full=1_000), study.seeds()[0]
    x0 = torch.randn(n, 2, generator=seeded("x0", seed), dtype=torch.float64)
    times = torch.cat([torch.linspace(0, 0.9, 10), 1 - torch.logspace(-1, -4, 16)[1:]]).double()
    rows, slopes = [], {}
    for s in scales:
        flow = ContinuousFlow(field(s), source=Normal(2).double())
        solve = {tol: Dopri5(rtol=tol, atol=tol).solve(flow.problem(), x0, 0.0, 1.0) for tol in (1e-3, 1e-5)}
        exact = Dopri5(rtol=1e-9, atol=1e-9).solve(flow.problem(), x0, 0.0, 1.0).x
        row = {
            "s": f"{s:g}",
            **{f"NFE, tolerance {tol:g}": f"{float(a.nfe.double().mean()):.0f}" for tol, a in solve.items()},
        }
        for name, solver in (("Euler 50", Euler(steps=50)), ("Heun 25", Heun(steps=25))):
            off = (solver.solve(flow.problem(), x0, 0.0, 1.0).x - exact).square().sum(1).mean().sqrt()
            row[f"error of {name}"] = f"{float(off):.4f}"
            row[f"{name}, in s"] = f"{float(off) / s:.2g}"
        rows.append(row)
        path = flow.replace(solver=Dopri5(rtol=1e-6, atol=1e-6)).trajectory(x0[:100], times).path
        assert path is not None
        slopes[s] = [slope(field(s), float(t), x) for t, x in zip(times, path)]
    study.table(
        "Function evaluations of Dopri5, and root mean square errors of 50 evaluations in equal steps", rows
    )
    figure, axes = canvas(9, 3.3, 1, 2)
    ax = dress(axes[0, 0], "steepness of the field along trajectories", "1 - t", "largest slope")
    for colour, (s, values) in zip(COLOURS, slopes.items()):
        ax.plot(1 - times, values, color=colour, label=f"s = {s:g}")
    ax.plot(1 - times, 1 / (1 - times), ":", color="grey", label="1 / (1 - t)")
    ax.set(xscale="log", yscale="log", ylim=(0.3, 3e4))
    ax.invert_xaxis()
    legend(ax, loc="upper left")
    ax = dress(axes[0, 1], "evaluations of the adaptive solver", "s", "NFE")
    for colour, tol in zip(COLOURS, ("0.001", "1e-05")):
        ax.plot(
            scales,
            [float(row[f"NFE, tolerance {tol}"]) for row in rows],
            "o-",
            color=colour,
            label=f"tolerance {tol}",
        )
    ax.set_xscale("log")
    ax.invert_xaxis()
    legend(ax)
    study.figure(
        "stiffness", figure, "Slopes that grow as 1 / (1 - t), and evaluations that grow slowly as s falls."
    )
    nfe = [float(row["NFE, tolerance 1e-05"]) for row in rows]
    study.check("evaluations from the widest to the thinnest data: ratio", nfe[-1] / nfe[0], at_most=6.0)
    study.check("and they grow", nfe[-1] / nfe[0], at_least=1.2)
    thin = [float(row["Euler 50, in s"]) for row in rows]
    study.check("error of Euler in units of s, thinnest over widest", thin[-1] / thin[0], at_least=3.0)
    study.text(
        f"""The data get {scales[0] / scales[-1]:.0f} times thinner and the adaptive solver needs
        {nfe[-1] / nfe[0]:.1f} times the evaluations, for it puts its steps where $1 - t$ is small. Equal
        steps end with an error that does not fall with $s$, so that it soon is many times the width of the
        data."""
    )


if __name__ == "__main__":
    main(run)
