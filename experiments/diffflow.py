"""# DiffFlow: a discriminator beside flow matching

DiffFlow (Zhang et al. 2023, [arXiv 2307.02159](https://arxiv.org/abs/2307.02159)) says that diffusions
and GANs are ends of one family: particles may be spread by noise or by the score of their own density, and
their distributions are the same. This page looks at that, and at what it suggests for training. To the
loss of flow matching it adds the divergence of generated rows from the data, by a discriminator:

$$L_\\lambda(v) = \\mathrm{E}\\, |v(t, x_t) - (x_1 - x_0)|^2 + \\lambda\\, \\mathrm{KL}(q_v \\,\\|\\, p),$$

where $q_v$ is where four Euler steps of the field carry the source. A rule of thumb says that
$\\lambda = 0.1$ is best and $\\lambda = 1$ unstable. Look at the error bars: every training is repeated with
other seeds, and differences to $\\lambda = 0$ are taken seed by seed. ± is one standard error.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from drawing import COLOURS, INK, canvas, dress, legend, plane
from study import FIRST_SEED, Study, main
from torch import Tensor, nn

from pushforward import MLP, Batch, ContinuousFlow, Euler, GaussianMixture, Normal
from pushforward.config import OptimConfig
from pushforward.couplings import GivenPairs
from pushforward.data.toys import eight_gaussians, moons
from pushforward.fields import Straight
from pushforward.flows import ConsistencyFlow
from pushforward.gradient_flows import diffflow, kernel_score
from pushforward.metrics import wasserstein
from pushforward.nn import Discriminator
from pushforward.objectives import Adversarial, Distillation
from pushforward.random import derive_seed, seeded
from pushforward.solvers import EulerMaruyama, StochasticHeun
from pushforward.training import Batches, Trainer, pairs

WEIGHTS = (0.0, 0.01, 0.1, 1.0)
STEPS = (1, 2, 4, 100)
RADIUS, SPREAD = 2.0, 0.25
DATA: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "8 gaussians": lambda n, generator: eight_gaussians(n, SPREAD, RADIUS, generator=generator),
    "moons": lambda n, generator: moons(n, 0.1, generator=generator) - torch.tensor([0.5, 0.25]),
}
CENTRES = RADIUS * torch.stack(
    [torch.tensor([math.cos(a), math.sin(a)]) for a in torch.arange(8) * math.pi / 4]
)
#: Two-sided 95 % quantile of Student's distribution by the number of seeds.
STUDENT = {2: 12.7, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26}


@dataclass
class Trained:
    """A training: W2 by the number of steps, modes covered, and how uneven the loss was."""

    flow: ContinuousFlow
    far: dict[int, float]
    modes: int
    uneven: float


@dataclass(frozen=True)
class Size:
    """Steps of a training, and rows that W2 is measured with."""

    steps: int
    rows: int


def networks(seed: int) -> nn.ModuleDict:
    """A field and a discriminator, with equal first weights for every lambda."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "networks"))
        return nn.ModuleDict({"field": MLP(2, width=64), "discriminator": Discriminator(MLP(2, width=64))})


def drawn(name: str, seed: int, rows: int = 0) -> Tensor:
    """Data to train on, or so many other rows to compare with."""
    return DATA[name](rows or 20_000, seeded(seed, name, "fresh" if rows else "data"))


def fit(objective: Adversarial, batches: Batches, seed: int, size: Size) -> Trainer:
    optim = OptimConfig(steps=size.steps, lr=2e-3, warmup=50, ema=0.99, log_every=1)
    trainer = Trainer(objective, networks(seed), batches, optim, seed=seed)
    trainer.fit(title=None)
    return trainer


def covered(x: Tensor) -> int:
    """Modes with at least a quarter of their share of the samples."""
    share = torch.cdist(x, CENTRES).argmin(1).bincount(minlength=8) / len(x)
    return int((share >= 1 / 32).sum())


def train(name: str, weight: float, seed: int, size: Size) -> Trained:
    batches = pairs(Normal(2), drawn(name, seed), size=256, seed=seed)
    trainer = fit(Adversarial(weight=weight), batches, seed, size)
    assert trainer.ema is not None
    flow = ContinuousFlow(trainer.ema.models["field"], source=Normal(2))
    losses = [row.get("train/matching", row.get("loss")) for row in trainer.log.rows]
    last = torch.tensor([loss for loss in losses if loss is not None][-size.steps // 2 :])
    fresh = drawn(name, seed, size.rows)
    far, x = {}, fresh
    for count in STEPS:
        some = flow.replace(solver=Euler(steps=count))
        x = some.sample(size.rows, generator=seeded(seed, "samples"))
        far[count] = wasserstein(x, fresh)
    return Trained(flow, far, covered(x) if name == "8 gaussians" else 0, last.std().item())


class WithData(Batches):
    """The pairs of a teacher, and rows of data beside them for the discriminator."""

    def __init__(self, taught: Batches, data: Batches):
        self.taught, self.data, self.size = taught, data, taught.size

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        return Batch((*self.taught(step, rank, world).marginals, self.data(step, rank, world).target))


def one_step(teacher: ContinuousFlow, name: str, weight: float, seed: int, size: Size) -> float:
    """W2 of a map of one step, distilled from a flow with a discriminator of data beside."""
    x0 = Normal(2).sample(10_000, generator=seeded(seed, "pairs"))
    with torch.no_grad():
        x1 = teacher.replace(solver=Euler(steps=50)).push(x0)
    taught = pairs(x0, x1, GivenPairs(len(x0)), size=256, seed=seed)
    batches = WithData(taught, pairs(Normal(2), drawn(name, seed), size=256, seed=seed))
    objective = Adversarial(Distillation(), weight, solver=Euler(steps=1), data_last=True)
    trainer = fit(objective, batches, seed, size)
    assert trainer.ema is not None
    x = ConsistencyFlow(Straight(trainer.ema.models["field"]), Normal(2)).sample(
        size.rows, generator=seeded(seed, "samples")
    )
    return wasserstein(x, drawn(name, seed, size.rows))


# -- particles -------------------------------------------------------------------------------------------


def normal_particles(study: Study) -> None:
    """From N(2, 4) to N(0, 1), with all scores known."""
    n, times = study.pick(20_000, 200_000), [0.3, 1.0, 2.0]
    rows, worst = [], 0.0
    for weight in (0.0, 0.5, 1.0):
        generator = seeded(FIRST_SEED, "normal", str(weight))

        def own(t: Tensor, x: Tensor) -> Tensor:
            return -(x - 2 * (-t).exp()) / (1 + 3 * (-2 * t).exp())

        x = 2 + 2 * torch.randn(n, 1, generator=generator, dtype=torch.float64)
        problem = diffflow(lambda t, x: -x, own, weight)
        path = StochasticHeun(steps=100).solve(problem, x, 0.0, 2.0, times, generator).path
        assert path is not None
        row: dict[str, object] = {"c": weight}
        for t, rows_ in zip(times, path):
            exact = 1 + 3 * math.exp(-2 * t)
            off = (rows_.var().item() - exact) / (exact * math.sqrt(2 / n))
            worst = max(worst, abs(off))
            row[f"t = {t:g}"] = f"{rows_.var().item():.3f}"
        rows.append(row)
    rows.append({"c": "exactly"} | {f"t = {t:g}": f"{1 + 3 * math.exp(-2 * t):.3f}" for t in times})
    study.table("Variances of particles that move from N(2, 4) to N(0, 1), with their own score known.", rows)
    study.check("variances for every c, largest error in standard errors", worst, at_most=4)


def planar_particles(study: Study) -> None:
    """To eight normal distributions, the own score by a kernel density."""
    target = GaussianMixture(CENTRES, 0.4)
    n, times = study.pick(300, 1000), [0.0, 0.05, 0.2, 2.0]

    def pull(t: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            return torch.autograd.grad(target.log_prob(y).sum(), y)[0]

    def moved(weight: float, name: str) -> Tensor:
        generator = seeded(FIRST_SEED, "plane", name)
        x = torch.randn(n, 2, generator=seeded(FIRST_SEED, "start", name)) * 0.5
        problem = diffflow(pull, kernel_score(0.15), weight)
        path = EulerMaruyama(steps=200).solve(problem, x, 0.0, 2.0, times[1:], generator).path
        assert path is not None
        return torch.stack([x, *path])

    runs = {weight: moved(weight, str(weight)) for weight in (0.0, 0.5, 1.0)}
    again = moved(0.0, "again")
    rows, gaps = [], []
    for k, t in list(enumerate(times))[1:]:
        floor = wasserstein(runs[0.0][k], again[k])
        far = {weight: wasserstein(runs[weight][k], again[k]) for weight in (0.5, 1.0)}
        gaps += [distance - floor for distance in far.values()]
        named = {f"c = {weight:g}": f"{distance:.3f}" for weight, distance in far.items()}
        rows.append({"time": f"{t:g}", "c = 0 again": f"{floor:.3f}", **named})
    study.table("W2 to particles of c = 0 (Langevin dynamics) at the same time, with other draws.", rows)
    study.check(
        "W2 between weights less that between two runs of c = 0", max(gaps), at_most=study.pick(0.2, 0.1)
    )
    figure, axes = canvas(9, 6.8, 3, len(times))
    for row, (weight, path) in zip(axes, runs.items()):
        for ax, x, t in zip(row, path, times):
            plane(ax, 3.4, f"c = {weight:g}, t = {t:g}")
            ax.plot(*x.T.numpy(), ".", color=COLOURS[0], markersize=2, alpha=0.6)
    alt = "Particles spread from the middle to eight modes, alike with noise, with half of it, and without."
    study.figure("particles", figure, alt)


# -- the verdict -----------------------------------------------------------------------------------------


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error, which is NaN of a single value."""
    x = torch.tensor(values, dtype=torch.float64)
    return x.mean().item(), (x.std() / math.sqrt(len(x))).item() if len(x) > 1 else math.nan


def shown(values: list[float], sign: bool = False) -> str:
    mean, error = spread(values)
    number = f"{mean:+.3f}" if sign else f"{mean:.3f}"
    return number if math.isnan(error) else f"{number} ± {error:.3f}"


def judged(differences: list[float]) -> str:
    """Whether paired differences are below 0, above it, or neither, at 95 %."""
    mean, error = spread(differences)
    if len(differences) < 2:
        return "one seed decides nothing"
    if abs(mean) <= STUDENT[len(differences)] * error:
        return "no difference that these seeds can show"
    return "better" if mean < 0 else "worse"


def verdict(study: Study, name: str, found: dict[float, list[Trained]]) -> None:
    """Whether lambda = 0.1 is best and lambda = 1 unstable, from the numbers."""
    base, lines = found[0.0], []
    for weight in WEIGHTS[1:]:
        said = []
        for count in (4, 100):
            gaps = [one.far[count] - zero.far[count] for one, zero in zip(found[weight], base)]
            said.append(f"in {count} steps {shown(gaps, sign=True)} ({judged(gaps)})")
        lines.append(f"- $\\lambda = {weight:g}$: {', '.join(said)};")
    best = {c: min(WEIGHTS, key=lambda w: spread([one.far[c] for one in found[w]])[0]) for c in (4, 100)}
    ratio = spread([one.uneven / zero.uneven for one, zero in zip(found[1.0], base)])[0]
    wild = ratio > 1.5 or any(not math.isfinite(one.far[100]) for one in found[1.0])
    right = "confirmed" if best[4] == best[100] == 0.1 else "not confirmed"
    stable = "unstable" if wild else "not unstable"
    study.text(
        "\n".join(
            [
                f"**{name.capitalize()}.** W2 less that of $\\lambda = 0$ with the same seed:",
                "",
                *lines,
                "",
                f"The smallest mean is that of $\\lambda = {best[4]:g}$ in 4 steps and of",
                f"$\\lambda = {best[100]:g}$ in 100 steps: that 0.1 is best is {right} here. With",
                f"$\\lambda = 1$ the loss of flow matching varies {ratio:.2f} times as much from step to",
                f"step as with 0, where more than 1.5 times would be called unstable: it is {stable}.",
            ]
        )
    )
    claims = {
        4: ("in 4 steps W2 of lambda = 1 less that of 0", {"at_most": study.pick(0.1, 0.0)}),
        100: ("in 100 steps W2 of lambda = 1 less that of 0", {"at_least": study.pick(-0.3, -0.05)}),
    }
    for count, (claim, bound) in claims.items():
        gaps = [one.far[count] - zero.far[count] for one, zero in zip(found[1.0], base)]
        study.check(f"{name}: {claim}, mean of seeds", spread(gaps)[0], **bound)
    study.check(f"{name}: deviation of the loss, lambda = 1 to 0", ratio, at_most=study.pick(2.5, 1.5))


def trainings(study: Study) -> None:
    seeds = study.seeds(small=1, full=5)
    size = Size(study.pick(250, 1200), study.pick(800, 1500))
    for name in DATA:
        floors = [
            wasserstein(drawn(name, seed, size.rows), drawn(name, seed + 10**6, size.rows)) for seed in seeds
        ]
        found = {weight: [train(name, weight, seed, size) for seed in seeds] for weight in WEIGHTS}
        rows = []
        for weight, several in found.items():
            row: dict[str, object] = {"lambda": f"{weight:g}"}
            for count in STEPS:
                row[f"W2, {count} step{'s' * (count > 1)}"] = shown([one.far[count] for one in several])
            row["deviation of the loss"] = shown([one.uneven for one in several])
            if name == "8 gaussians":
                row["modes of 8"] = shown([float(one.modes) for one in several])
            rows.append(row)
        floor = f"between two samples of the data it is {shown(floors)}"
        study.table(
            f"{name.capitalize()}: W2 of {size.rows:,} samples, means over seeds ({len(seeds)}); {floor}.",
            rows,
        )
        verdict(study, name, found)
        if name == "8 gaussians":
            least = min(one.modes for several in found.values() for one in several)
            study.check("8 gaussians: fewest modes covered by any training", least, at_least=study.pick(6, 8))
        figure_of(study, name, found, spread(floors)[0])
        generators(study, name, found[0.0], seeds, size)


def figure_of(study: Study, name: str, found: dict[float, list[Trained]], floor: float) -> None:
    figure, axes = canvas(9, 3.2, 1, 4, width_ratios=(1.5, 1, 1, 1))
    ax = dress(axes[0, 0], f"{name}: W2", "Euler steps")
    for colour, (weight, several) in zip(COLOURS, found.items()):
        means, errors = zip(*(spread([one.far[count] for one in several]) for count in STEPS))
        errors = [0.0 if math.isnan(error) else error for error in errors]
        ax.errorbar(
            STEPS, means, errors, color=colour, marker="o", markersize=3, label=f"λ = {weight:g}", capsize=2
        )
    ax.axhline(floor, color=INK, linestyle=":", linewidth=1, label="data to data")
    ax.set(xscale="log", yscale="log")
    legend(ax)
    for ax, weight in zip(axes[0, 1:], (0.0, 0.1, 1.0)):
        plane(ax, 3.0 if name == "8 gaussians" else 2.2, f"λ = {weight:g}, 4 steps")
        flow = found[weight][0].flow.replace(solver=Euler(steps=4))
        x = flow.sample(1500, generator=seeded(FIRST_SEED, "picture"))
        ax.plot(*x.T.numpy(), ".", color=COLOURS[WEIGHTS.index(weight)], markersize=2, alpha=0.5)
    study.figure(
        name.replace(" ", "_"),
        figure,
        f"W2 against the number of steps for four weights, and samples of {name} in 4 steps.",
    )


def generators(study: Study, name: str, teachers: list[Trained], seeds: range, size: Size) -> None:
    """One-step maps beside the flow that they are distilled from."""
    weights = (0.0, 0.1, 1.0)
    far = {
        weight: [one_step(teacher.flow, name, weight, seed, size) for teacher, seed in zip(teachers, seeds)]
        for weight in weights
    }
    rows = [
        {"model": f"the flow, {c} step{'s' * (c > 1)}", "W2": shown([one.far[c] for one in teachers])}
        for c in (1, 100)
    ]
    for weight, values in far.items():
        gaps = [value - zero for value, zero in zip(values, far[0.0])]
        how = "one step, distilled" + (f", λ = {weight:g}: {judged(gaps)}" if weight else "")
        rows.append({"model": how, "W2": shown(values)})
    study.table(
        f"{name.capitalize()}: maps of one step; the discriminator sees data, not the flow's samples.", rows
    )
    ratio = spread([value / one.far[1] for value, one in zip(far[1.0], teachers)])[0]
    study.check(f"{name}: W2 in one step, distilled with lambda = 1, to the flow's", ratio, at_most=0.6)


def run(study: Study) -> None:
    study.text("## The same distributions, with noise and without")
    normal_particles(study)
    planar_particles(study)
    study.text(
        """The kernel density is wider than the particles are: with c = 1 the modes are a little too narrow.
        Without noise particles also keep apart from each other, so that they are spread more evenly.

        ## A discriminator beside the loss"""
    )
    trainings(study)


if __name__ == "__main__":
    main(run)
