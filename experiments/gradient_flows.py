"""# Wasserstein gradient flows, four ways

The gradient flow of an energy $F$ in the space of distributions is the limit of implicit Euler steps,

$$\\rho_{k+1} = \\arg\\min_\\rho \\frac{1}{2h} W_2^2(\\rho, \\rho_k) + F(\\rho),$$

the scheme of Jordan, Kinderlehrer and Otto. Here a step is made in closed form (between normal
distributions), on a grid (by debiased entropic transport), on particles that carry weights, and by a
network, each step a block of a continuous flow. Look for three things: that all of them are the same step,
that the scheme is of first order in $h$, and that the free energy never rises.
"""

import math

import torch
from drawing import COLOURS, HEAT, canvas, dress, legend, plane
from matplotlib.axes import Axes
from study import Study, main
from torch import Tensor

import pushforward
from pushforward import GaussianMixture, Normal, TwoMoons
from pushforward.gradient_flows import (
    JKO,
    Entropy,
    Grid,
    NetworkJKO,
    NetworkStep,
    Points,
    Potential,
    Support,
    fokker_planck,
    gaussian_jko,
    kullback_leibler,
    langevin,
    stein,
)
from pushforward.nn import MLP
from pushforward.random import seeded
from pushforward.solvers import RK4, Dopri5, EulerMaruyama, Heun, Problem, Solver

D = torch.float64
TARGET = GaussianMixture(torch.tensor([[1.5, 0.0], [-1.5, 0.0]]), 0.9)
CENTRE = torch.tensor([[3.0, 3.0]])


def bell(points: Tensor, mean: float, variance: float) -> Tensor:
    return (-(points - mean).square().sum(1) / (2 * variance)).exp()


def small(d: int) -> MLP:
    return MLP(d, width=32, depth=2, activation="tanh")


def gaussians(study: Study) -> None:
    """From N(0, 4) under KL to N(0, 1), ten steps, four ways."""
    h, exact = 0.2, [torch.full((1, 1), 4.0, dtype=D)]
    for _ in range(10):
        exact.append(gaussian_jko(torch.zeros(1, dtype=D), exact[-1], 1.0, h)[1])
    wanted = torch.cat(exact[1:]).flatten()
    energy = kullback_leibler(Normal(1).double().log_prob)
    grid = Grid((-10.0, 10.0, study.pick(small=120, full=240)))
    ways: dict[str, tuple[Support, float | None]] = {"grid": (grid, None)}
    uniform = torch.quasirandom.SobolEngine(1, scramble=True, seed=4).draw(300, dtype=D).clamp(1e-6, 1 - 1e-6)
    x = 3 * math.sqrt(2) * torch.erfinv(2 * uniform - 1)
    ways["particles"] = (Points(x, 1 / (300 * Normal(1, scale=3.0).double().log_prob(x).exp())), 0.2)
    found = {}
    for name, (support, blur) in ways.items():
        w = support.weights(bell(support.points, 0.0, 4.0))
        steps = JKO(energy, support, h, blur).run(w, 10)
        found[name] = torch.stack([support.moments(step.weights)[1][0, 0] for step in steps])
    networks = []
    iterations = study.pick(small=60, full=300)
    for seed in study.seeds():
        scheme = NetworkJKO(kullback_leibler(Normal(1).log_prob), h, small, iterations, batch=256, lr=1e-2)
        steps = [*scheme.run(Normal(1, scale=2.0), 10, seeded("gaussian", seed))]
        start = steps[0].flow.pull(steps[0].x).detach().var() / 4
        networks.append(torch.stack([step.x.var() / start for step in steps]).double())
    off = torch.stack(networks) / wanted - 1
    found["network"] = networks[0]
    rows = [
        {"step": k + 1, "closed form": f"{wanted[k]:.4f}"}
        | {name: f"{each[k] / wanted[k]:.4f}" for name, each in found.items()}
        for k in range(10)
    ]
    study.table("Variances after each step, those of the other columns over the closed form", rows)
    for name in ways:
        study.check(f"variance on the {name}, largest error", _worst(found[name] / wanted), at_most=0.02)
    study.check(
        "variance by networks, largest error over seeds",
        float(off.abs().max()),
        at_most=study.pick(0.04, 0.02),
    )
    study.text(
        f"""The networks were trained for {len(networks)} seeds; their largest errors were between
        {off.abs().amax(1).min():.2g} and {off.abs().amax(1).max():.2g}. The map of a normal distribution is
        linear, and the networks have to find that out."""
    )


def _worst(ratio: Tensor) -> float:
    return float((ratio - 1).abs().max())


def order(study: Study) -> None:
    """The error against the Ornstein-Uhlenbeck process at t = 1 as h falls, and the double well."""
    sizes, errors = [1 / 5, 1 / 10, 1 / 20, 1 / 40, 1 / 80], []
    for h in sizes:
        c = torch.full((1, 1), 4.0, dtype=D)
        for _ in range(round(1 / h)):
            c = gaussian_jko(torch.zeros(1, dtype=D), c, 1.0, h)[1]
        errors.append(abs(c.item() - (1 + 3 * math.exp(-2))))
    slope = math.log(errors[-2] / errors[-1]) / math.log(sizes[-2] / sizes[-1])
    study.check("order of the scheme in h, Ornstein-Uhlenbeck process", slope, near=1.0, within=0.05)
    well, heat = Potential(lambda x: (x[:, 0].square() - 1).square()), 0.5
    grid = Grid((-2.6, 2.6, study.pick(small=100, full=160)))
    w = grid.weights(bell(grid.points, 1.2, 0.04))
    truth = fokker_planck(well, grid, w, [0.5], heat)[0]
    steps = {}
    for h in (0.05, 0.025):
        steps[h] = [*JKO(well + Entropy(heat), grid, h).run(w, round(0.5 / h))]
    distances = [float((steps[h][-1].weights - truth).abs().sum()) for h in (0.05, 0.025)]
    study.check("double well, L1 distance to finite volumes at h = 0.025", distances[1], at_most=0.02)
    halved = distances[0] / distances[1]
    study.check("double well, ratio of the distances at h and h / 2", halved, near=2.0, within=0.25)
    rises = max(b.energy - a.energy for a, b in zip(steps[0.025], steps[0.025][1:]))
    study.check("double well, largest rise of the free energy in a step", rises, at_most=0.0)
    figure, (axes,) = canvas(9, 3.4, 1, 2)
    dress(axes[0], "error of the variance at t = 1", "step h", "error")
    axes[0].loglog(sizes, errors, "o-", color=COLOURS[0], label="scheme")
    axes[0].loglog(sizes, [errors[-1] * h / sizes[-1] for h in sizes], ":", color=COLOURS[5], label="slope 1")
    axes[0].set_xticks(sizes, [f"1/{round(1 / h)}" for h in sizes])
    axes[0].minorticks_off()
    legend(axes[0])
    dress(axes[1], "double well at t = 0.5", "x", "density")
    x, volume = grid.points[:, 0], grid.volumes
    for weights, label, colour, style in (
        (w, "start", COLOURS[5], ":"),
        (truth, "finite volumes", COLOURS[1], "-"),
        (steps[0.025][-1].weights, "JKO on the grid", COLOURS[0], "--"),
    ):
        axes[1].plot(x, weights / volume, style, color=colour, label=label)
    legend(axes[1])
    study.figure("order", figure, "Errors that fall along slope 1, and two densities that cover each other")


def two_modes(study: Study) -> None:
    """From N((3, 3), I) to a mixture by networks, Langevin dynamics and Stein's descent."""
    energy, start = kullback_leibler(TARGET.log_prob), GaussianMixture(CENTRE, 1.0)
    count, h = study.pick(small=8, full=20), study.pick(small=0.4, full=0.25)
    iterations = study.pick(small=50, full=300)
    runs: list[list[NetworkStep]] = []
    for seed in study.seeds(full=3):
        scheme = NetworkJKO(energy, h, small, iterations, batch=256, lr=1e-2, particles=3000)
        runs.append([*scheme.run(start, count, seeded("modes", seed))])
    curves = torch.tensor([[step.energy for step in run] for run in runs])
    # 3,000 particles know a small divergence to about 0.01
    study.check("largest rise of KL in a step, over seeds", float(curves.diff(dim=1).max()), at_most=0.02)
    study.check("KL at the end, over seeds", float(curves[:, -1].max()), at_most=study.pick(0.4, 0.1))
    steps = runs[0]
    draws = steps[-1].flow.sample(2000, generator=seeded("drawn")).detach()
    right = float((draws[:, 0] > 0).float().mean())
    times = [h * k for k in range(count + 1)]
    x0 = start.sample(400, generator=seeded("start"))
    noisy = _saved(langevin(energy), EulerMaruyama(steps=20 * count), x0, times)
    still = _saved(stein(energy), Heun(steps=10 * count), x0[:200], [4 * t for t in times])
    there = float((noisy[-1][:, 0] > 0).float().mean())
    # 400 particles know a share to 0.025, and the scheme is behind by up to half a step
    claim = "share at the right mode, difference to Langevin dynamics"
    study.check(claim, abs(right - there), at_most=study.pick(0.2, 0.12))
    origin = steps[0].flow.source.sample(400, generator=seeded("start"))
    carried = [origin] + [step.x[:400] for step in steps]
    frames = []
    for k, moment in enumerate(times):
        figure, (axes,) = canvas(9, 3.3, 1, 3)
        named = (("network", carried[k]), ("Langevin", noisy[k]), ("Stein, four times as long", still[k]))
        for ax, (name, x), colour in zip(axes, named, COLOURS):
            _contours(plane(ax, 5.0, name))
            ax.scatter(*x.T, s=5, color=colour, alpha=0.6, linewidths=0)
        figure.suptitle(f"t = {moment:.2f}", fontsize=9)
        frames.append(figure)
    study.movie(
        "modes",
        frames,
        "Particles leave the corner: by network and Langevin for both modes, by Stein for one so far",
    )
    figure, axes = canvas(5, 3.2)
    dress(axes[0, 0], "free energy, which is KL to the target", "t", "nats").set_yscale("log")
    for curve in curves.clamp(min=1e-3):
        axes[0, 0].plot(times[1:], curve, ".-", color=COLOURS[0], linewidth=1)
    study.figure("energy", figure, "The divergence falls in every step")


def _saved(problem: Problem, solver: Solver, x: Tensor, times: list[float]) -> Tensor:
    found = solver.solve(problem, x, 0.0, times[-1], save_at=times, generator=seeded("noise"))
    assert found.path is not None
    return found.path


def _contours(ax: Axes) -> None:
    axis = torch.linspace(-5, 5, 80)
    plane_ = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    ax.contourf(axis, axis, TARGET.log_prob(plane_).exp().view(80, 80), 6, cmap=HEAT, alpha=0.6)


def moons(study: Study) -> None:
    """A normalizing flow of two moons, block by block."""
    truth, figures = TwoMoons(0.1), []
    blocks = study.pick(small=4, full=8)
    gaps: list[float] = []
    errors: dict[Solver, list[float]] = {Dopri5(): [], RK4(steps=12): []}
    for seed in study.seeds(full=3):
        rows = truth.sample(study.pick(small=2000, full=10_000), generator=seeded("moons", seed))
        run = pushforward.train(
            rows.numpy(),
            method="jko-iflow",
            blocks=blocks,
            steps=study.pick(small=80, full=800),
            seed=seed,
            show_progress=False,
            folds=0,
        )
        held = truth.sample(4000, generator=seeded("held", seed))
        with torch.no_grad():
            gaps.append(float((truth.log_prob(held) - run.flow.log_prob(held)).mean()))
            for solver, found in errors.items():
                flow = run.flow.replace(solver=solver)
                found.append(float((flow.push(flow.pull(held)) - held).abs().max()))
        figures.append(run)
    study.check(
        "two moons, nats above the entropy, worst seed", max(gaps), at_most=study.pick(small=0.7, full=0.1)
    )
    for (solver, found), most in zip(errors.items(), (2e-3, 1e-4)):
        claim = f"two moons, error of the inverse by {solver}, worst of 4,000 rows and seeds"
        study.check(claim, max(found), at_most=most)
    study.text(
        f"""On rows that no flow was trained on the negative log-density is
        {", ".join(f"{gap:.3f}" for gap in gaps)} nats above the entropy {truth.entropy():.4f} of the two
        moons, by seeds. The pictures show what the first blocks make of the normal distribution when they are
        run backwards: each stage of the run is a flow of its own."""
    )
    shown = [1, 2, blocks // 2, blocks] if blocks > 4 else [1, 2, 3, 4]
    figure, (axes,) = canvas(10, 2.9, 1, 4)
    axis = torch.linspace(-2.2, 2.2, 120)
    nodes = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2) + torch.tensor(
        [0.5, 0.25]
    )
    for ax, number in zip(axes, shown):
        flow = pushforward.load(figures[0].path, stage=f"block-{number}")
        with torch.no_grad():
            density = flow.log_prob(nodes).exp().view(120, 120)
        plane(ax, 2.2, f"{number} block{'s' if number > 1 else ''}")
        ax.contourf(axis, axis, density, 12, cmap=HEAT)
    study.figure("moons", figure, "The density of the flow after more and more blocks, at last the two moons")


def run(study: Study) -> None:
    gaussians(study)
    order(study)
    two_modes(study)
    moons(study)


if __name__ == "__main__":
    main(run)
