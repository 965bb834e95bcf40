"""Variational rectified flow, against the closed form between normal distributions."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn

import pushforward
from pushforward import (
    RK4,
    ContinuousFlow,
    Dopri5,
    Euler,
    EulerMaruyama,
    FlowMatching,
    LatentFlow,
    Normal,
    Rows,
)
from pushforward.config import OptimConfig
from pushforward.fields import Guided, latent_spec, with_latent
from pushforward.flows import Exact, Hutchinson, multi_sample_bound
from pushforward.nn import MLP, PairEncoder
from pushforward.objectives import Batch, Step, VariationalMatching
from pushforward.random import seeded
from pushforward.sources import LearntMixture
from pushforward.training import Trainer, pairs

DOUBLE = torch.float64
#: The least loss of a field of (t, x) between N(0, 1) and N(0, 1).
FLOOR = math.pi / 2


class Told(nn.Module):
    """q(z | x0, x1) = N(a x0 + b x1, 1 - a^2 - b^2), whose mean over pairs is N(0, 1)."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, t: Tensor, x0: Tensor, x1: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.a * x0 + self.b * x1
        return mean, torch.full_like(mean, 0.5 * math.log(1 - self.a**2 - self.b**2))


class Best(nn.Module):
    """E[x1 - x0 | x_t, z] under :class:`Told`, by the regression of normal variables."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, t: Tensor, x: Tensor, condition: dict[str, Tensor]) -> Tensor:
        a, b, z, t = self.a, self.b, condition["latent"], torch.as_tensor(t).reshape(-1, 1)
        variance = (1 - t) ** 2 * (1 - a**2) + t**2 * (1 - b**2) - 2 * t * (1 - t) * a * b
        shared = t * (1 - b**2) - (1 - t) * (1 - a**2) - (1 - 2 * t) * a * b
        return (b - a) * z + shared / variance * (x - ((1 - t) * a + t * b) * z)


def residual(a: float, b: float) -> float:
    """The loss of the best field: the variance of x1 - x0 that x_t and z do not explain, over uniform t."""

    def at(t: float) -> float:
        # covariance of (x0, x1, z), and the Schur complement of (x_t, z) in that of x1 - x0
        c = torch.tensor([[1.0, 0.0, a], [0.0, 1.0, b], [a, b, 1.0]], dtype=DOUBLE)
        d = torch.tensor([[-1.0, 1.0, 0.0]], dtype=DOUBLE)
        seen = torch.tensor([[1 - t, t, 0.0], [0.0, 0.0, 1.0]], dtype=DOUBLE)
        cross = d @ c @ seen.T
        return float(d @ c @ d.T - cross @ torch.linalg.solve(seen @ c @ seen.T, cross.T))

    return integrate.quad(at, 0, 1)[0]


def batch_of(n: int, d: int = 1, label: str = "pairs") -> Batch:
    x0, x1 = (torch.randn(n, d, dtype=DOUBLE, generator=seeded(label, k)) for k in range(2))
    return Batch((Rows(x0), Rows(x1)))


def flow_of(a: float, b: float, **options: Any) -> LatentFlow:
    inner = ContinuousFlow(Best(a, b), Dopri5(rtol=1e-8, atol=1e-8), Normal(1).double())
    return LatentFlow(inner, 1, Told(a, b), **options)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (-0.5, 0.5), (0.0, 0.8)])
def test_the_loss_is_that_of_the_closed_form(a: float, b: float) -> None:
    """pi / 2 without a latent, less with one; and the KL divergence is the information of the latent."""
    models = nn.ModuleDict({"field": Best(a, b), "encoder": Told(a, b)})
    n = 40_000
    loss = VariationalMatching(beta=2.0).loss(models, batch_of(n), Step(generator=seeded("loss")))
    kl = -0.5 * math.log(1 - a**2 - b**2)
    # the deviation of the mean of n squares of normal errors: below sqrt(2 E e^4 / n)
    assert float(loss.terms["matching"]) == pytest.approx(residual(a, b), abs=4 * 2.5 / math.sqrt(n))
    assert float(loss.terms["kl"]) == pytest.approx(kl, abs=4 / math.sqrt(n))
    assert float(loss.value) == pytest.approx(float(loss.terms["matching"] + 2 * loss.terms["kl"]))
    assert float(loss.per_sample.mean()) == pytest.approx(float(loss.value))
    if a == b == 0:
        assert residual(a, b) == pytest.approx(FLOOR)
    else:
        assert residual(a, b) < FLOOR - 0.3


def test_a_latent_that_knows_the_source_point_bends_the_distribution() -> None:
    """Samples have variance 1 + 4 r^2 where z has correlation r with x1 and -r with x0, and 1 where it has
    none with x0."""
    n = 20_000
    for a, b, variance in ((-0.5, 0.5, 2.0), (0.0, 0.8, 1.0), (0.0, 0.0, 1.0)):
        x = flow_of(a, b).sample(n, generator=seeded("bent"))
        # the relative deviation of a variance is sqrt(2 / n)
        assert float(x.var()) == pytest.approx(variance, rel=4 * math.sqrt(2 / n))


def test_trajectories_cross() -> None:
    """The left point ends to the right of the other, which no field of (t, x) does in one dimension."""
    flow = flow_of(0.0, 0.8)
    ends = [flow.at([z]).push(torch.tensor([[x]], dtype=DOUBLE)) for x, z in ((-0.5, 2.0), (0.5, -2.0))]
    assert float(ends[0]) > float(ends[1])
    x, t = torch.zeros(1, 1, dtype=DOUBLE), torch.tensor(0.5, dtype=DOUBLE)
    assert float(flow.at([2.0]).field(t, x)) > 1 > -1 > float(flow.at([-2.0]).field(t, x))


def test_the_density_is_right_on_average_and_its_logarithm_a_bound() -> None:
    x = torch.tensor([[-1.5], [0.0], [2.0]], dtype=DOUBLE)
    exact, draws = torch.from_numpy(stats.norm.logpdf(x[:, 0].numpy())), 200
    means = []
    for samples, encoder in ((1, False), (4, False), (4, True), (16, True)):
        flow = flow_of(0.0, 0.8, samples=samples)
        flow = flow if encoder else flow.replace(encoder=None)
        flow = flow.replace(solver=RK4(steps=10))
        rows = x.repeat(draws, 1)
        found = flow.log_prob(rows, generator=seeded("density", samples)).reshape(draws, 3)
        ratio = (found - exact).exp()
        error, spread = (values.std(0) / math.sqrt(draws) for values in (ratio, found))
        assert bool(((ratio.mean(0) - 1).abs() < 4 * error + 1e-3).all())  # the solver's error is below 1e-3
        assert bool((found.mean(0) < exact + 4 * spread).all())
        means.append(found.mean(0))
    assert bool((means[0] < means[1]).all()) and bool((means[1] < means[2]).all())
    # samples of the posterior itself, but for the share that defends against narrow encoders
    assert float((means[3] - exact).abs().max()) < 0.05
    flow = flow_of(0.0, 0.8, samples=4).replace(solver=RK4(steps=10))
    many = multi_sample_bound(flow, x, 20, generator=seeded("many"))
    assert float((many - exact).abs().max()) < 0.05


def test_a_prior_of_its_own_is_drawn_and_weighed() -> None:
    """z ~ N(1, 4) and x1 given z ~ N(0.8 z, 0.36): the density is N(0.8, 2.92), its KL divergence known."""
    prior = Normal(1, scale=2.0, loc=1.0).double()
    x = torch.tensor([[-1.5], [0.8], [3.0]], dtype=DOUBLE)
    exact = torch.from_numpy(stats.norm.logpdf(x[:, 0].numpy(), 0.8, math.sqrt(2.92)))
    flow = flow_of(0.0, 0.8, prior=prior, samples=32).replace(solver=RK4(steps=10))
    drawn = flow.sample(10_000, generator=seeded("prior"))
    assert float(drawn.mean()) == pytest.approx(0.8, abs=4 * math.sqrt(2.92 / 10_000))
    assert float(drawn.var()) == pytest.approx(2.92, rel=4 * math.sqrt(2 / 10_000))
    for encoder in (flow.encoder, None):
        rows = x.repeat(50, 1)
        found = flow.replace(encoder=encoder).log_prob(rows, generator=seeded("weighed")).reshape(50, 3)
        ratio = (found - exact).exp()
        assert bool(((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / math.sqrt(50) + 1e-3).all())
    models = nn.ModuleDict({"field": Best(0.0, 0.8), "encoder": Told(0.0, 0.8), "prior": prior})
    n = 40_000
    kl = VariationalMatching().loss(models, batch_of(n), Step(generator=seeded("kl"))).terms["kl"]
    # of N(0.8 x1, 0.36) and N(1, 4), the mean over x1
    wanted = math.log(2 / 0.6) + (0.36 + 0.64 + 1) / 8 - 0.5
    assert float(kl) == pytest.approx(wanted, abs=4 / math.sqrt(n))


def test_a_learnt_prior_makes_up_for_what_the_encoder_leaves() -> None:
    """Two points: their codes are no normal distribution, and a mixture finds them."""
    x1 = torch.tensor([[-1.0], [1.0]]).repeat(200, 1)
    shares = []
    for components in (0, 8):
        torch.manual_seed(1)
        models = nn.ModuleDict({"field": MLP(1, latent_spec(None, 1), 32), "encoder": PairEncoder(1, 1)})
        if components:
            models["prior"] = LearntMixture(1, components)
        optim = OptimConfig(steps=600, lr=5e-3, log_every=600)
        Trainer(VariationalMatching(beta=0.1), models, pairs(Normal(1), x1, size=256, seed=0), optim).fit()
        prior: Any = models["prior"] if components else None
        flow = LatentFlow(ContinuousFlow(models["field"], Euler(steps=4), Normal(1)), 1, prior=prior)
        with torch.no_grad():
            x = flow.sample(4000, generator=seeded("two points"))
        shares.append(float(((x.abs() - 1).abs() > 0.25).double().mean()))
    # how many end near none of the points: .14 to .16 and .01 to .03 on other seeds
    assert shares[1] < 0.07 < 0.1 < shares[0]


def trained(beta: float, sees: Any, steps: int = 500) -> nn.ModuleDict:
    torch.manual_seed(0)
    models = nn.ModuleDict(
        {"field": MLP(1, latent_spec(None, 1), width=32), "encoder": PairEncoder(1, 1, sees, width=32)}
    )
    x1 = torch.randn(20_000, 1, generator=seeded("target"))
    batches = pairs(Normal(1), x1, size=256, seed=0)
    optim = OptimConfig(steps=steps, lr=5e-3, log_every=steps)
    Trainer(VariationalMatching(beta=beta), models, batches, optim, seed=0).fit()
    return models


@pytest.mark.parametrize(("beta", "sees"), [(100.0, "data"), (0.05, "data"), (0.05, "path")])
def test_beta_switches_the_latent_off(beta: float, sees: Any) -> None:
    """A large one gives the floor and a collapsed latent, a small one falls below the floor."""
    models, n = trained(beta, sees).double(), 20_000
    with torch.no_grad():
        loss = VariationalMatching(beta=beta).loss(models, batch_of(n), Step(generator=seeded("test")))
    kl, matching, error = float(loss.terms["kl"]), float(loss.terms["matching"]), 2.5 / math.sqrt(n)
    if beta > 1:
        assert kl < 1e-3 and matching == pytest.approx(FLOOR, abs=0.02 + 4 * error)
        return
    assert kl > 0.3 and matching < 0.9 * FLOOR
    flow = LatentFlow(ContinuousFlow(models["field"], Euler(steps=50), Normal(1).double()), 1)
    with torch.no_grad():
        variance = float(flow.sample(n, generator=seeded("samples")).var())
    assert abs(variance - 1) < 0.1 if sees == "data" else variance > 1.3


def test_the_kl_divergence_warms_up_and_losses_compare() -> None:
    models = nn.ModuleDict({"field": MLP(1, latent_spec(None, 2)), "encoder": PairEncoder(1, 2)}).double()
    for p in models["encoder"].parameters():
        p.data.add_(0.1)
    values, slopes = [], []
    for index, warmup in ((0, 0.2), (9, 0.2), (19, 0.2), (0, 0.0)):
        objective = VariationalMatching(beta=1e6, warmup=warmup)
        loss = objective.loss(models, batch_of(64), Step(index, 100, generator=seeded("warm"))).value
        values.append(float(loss.detach()))
        slopes.append(torch.autograd.grad(loss, list(models["encoder"].parameters())))
    assert len(set(values)) == 1
    for share, found in zip((0.05, 0.5, 1.0), slopes):
        for slope, whole in zip(found, slopes[3]):
            torch.testing.assert_close(slope, share * whole, rtol=1e-4, atol=1.0)  # beside 1e6 times the KL's


def test_a_large_beta_and_no_latent_is_flow_matching() -> None:
    """Bit for bit, times and points too, with a field that does not look at the latent."""
    net = MLP(2).double()

    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, t: Tensor, x: Tensor, condition: Any) -> Tensor:
            return self.net(t, x)

    models = nn.ModuleDict({"field": Blind(), "encoder": PairEncoder(2, 1).double()})
    rows = batch_of(50, 2)
    for options in ({}, {"huber": 0.1}, {"prediction": "data"}):
        matching = FlowMatching(**options)  # type: ignore[arg-type]
        plain = matching.loss(nn.ModuleDict({"field": net}), rows, Step(generator=seeded("same")))
        found = VariationalMatching(matching).loss(models, rows, Step(generator=seeded("same")))
        assert torch.equal(found.value, plain.value) and torch.equal(found.per_sample, plain.per_sample)


def test_padding_is_neither_encoded_nor_counted() -> None:
    mask = torch.tensor([[True, True, False]] * 4 + [[True, False, False]] * 4)
    models = nn.ModuleDict({"field": MLP(3, latent_spec(None, 2)), "encoder": PairEncoder(3, 2, "path")})
    for p in models.parameters():
        p.data.add_(0.1)
    losses = []
    for pad in (0.0, 1e3):
        x0, x1 = (torch.randn(8, 3, generator=seeded("padded", k)) for k in range(2))
        x0, x1 = torch.where(mask, x0, pad), torch.where(mask, x1, pad)
        rows = Batch((Rows(x0), Rows(x1, mask=mask)))
        losses.append(VariationalMatching().loss(models, rows, Step(generator=seeded("m"))))
    assert torch.equal(losses[0].value, losses[1].value) and torch.equal(losses[0].errors, losses[1].errors)
    flow = LatentFlow(ContinuousFlow(models["field"], Euler(steps=2), Normal(3)), 2, models["encoder"])
    x = flow.sample(8, generator=seeded("drawn"), mask=mask)
    assert bool((x[~mask] == 0).all()) and bool((x[mask] != 0).all())
    assert flow.log_prob(x, generator=seeded("scored"), mask=mask).isfinite().all()


@pytest.mark.parametrize("event", [(3,), (4, 5), (2, 4, 4), (3, 20, 20)])
@pytest.mark.parametrize("sees", ["data", "path"])
def test_encoders_see_what_they_are_told(event: tuple[int, ...], sees: Any) -> None:
    encoder = PairEncoder(event, 4, sees, width=8, depth=1)
    x = [torch.randn(6, *event, generator=seeded("encoded", k)) for k in range(6)]
    start, scale = encoder(0.3, *x[:3])
    assert start.shape == (6, 4) and not start.any() and not scale.any()  # N(0, I) before training
    for p in encoder.parameters():
        p.data.add_(0.1 * torch.randn(p.shape, generator=seeded("weights")))
    mean, scale = encoder(torch.rand(6, generator=seeded("t")), *x[:3])
    moved = [
        encoder(torch.rand(6, generator=seeded("other t")), *x[:3])[0],
        encoder(torch.rand(6, generator=seeded("t")), x[3], *x[1:3])[0],
        encoder(torch.rand(6, generator=seeded("t")), *x[:2], x[5])[0],
    ]
    assert all(torch.equal(other, mean) == (sees == "data") for other in moved)
    assert not torch.equal(encoder(torch.rand(6, generator=seeded("t")), x[0], x[4], x[2])[0], mean)
    assert scale.abs().max() < 5


def test_conditions_and_guidance_go_beside_the_latent() -> None:
    net = MLP(2, latent_spec(3, 2))
    flow = LatentFlow(
        ContinuousFlow(net, Euler(steps=3), Normal(2), guidance=2.0), 2, PairEncoder(2, 2), samples=2
    )
    labels = torch.tensor([0, 2])
    x = flow.sample(4, labels, seeded("guided"))
    assert x.shape == (4, 2, 2)
    # by hand: the same draws, guidance at each evaluation
    generator = seeded("guided")
    y = Normal(2).sample(8, generator=generator)
    z = torch.randn(8, 2, generator=generator)
    for k in range(3):
        given, absent = (with_latent(c, z) for c in (labels.repeat(4), torch.full((8,), -1)))
        v, u = net(k / 3, y, given), net(k / 3, y, absent)
        y = y + (u + 2 * (v - u)) / 3
    torch.testing.assert_close(x.flatten(0, 1), y)
    assert flow.log_prob(torch.zeros(5, 2), 1).shape == (5,)
    with pytest.raises(ValueError, match="another name than 'latent'"):
        latent_spec({"latent": 3}, 2)
    assert Guided(flow.at(torch.zeros(2)).field, 2.0)(torch.tensor(0.5), y, labels.repeat(4)).shape == (8, 2)


def test_solvers_of_odes_follow_it() -> None:
    flow = flow_of(0.0, 0.8)
    x = flow.following(Euler(steps=1)).sample(5, generator=seeded("one"))
    x0 = flow.source.sample(5, generator=(generator := seeded("one")))
    z = torch.randn(5, 1, dtype=DOUBLE, generator=generator)
    torch.testing.assert_close(x, x0 + Best(0.0, 0.8)(torch.tensor(0.0), x0, {"latent": z}))
    with pytest.raises(ValueError, match="solves an SDE, and this flow follows an ODE"):
        flow.following(EulerMaruyama())


def test_a_flow_of_one_latent_is_a_continuous_flow() -> None:
    flow = flow_of(0.0, 0.8)
    inner, x = flow.at(torch.tensor([1.0])), torch.tensor([[0.3]], dtype=DOUBLE)
    # x1 given z is N(0.8 z, 1 - 0.64)
    wanted = stats.norm.logpdf(0.3, 0.8, 0.6)
    assert float(inner.log_prob(x)) == pytest.approx(float(wanted), abs=1e-5)
    torch.testing.assert_close(inner.push(inner.pull(x)), x, rtol=1e-5, atol=1e-5)
    x0 = torch.randn(5, 1, dtype=DOUBLE, generator=seeded("x0"))
    path = flow.trajectory(x0, [0.0, 0.5, 1.0], generator=seeded("z")).path
    assert path is not None and torch.equal(path[0], x0)
    torch.testing.assert_close(path[-1], flow.push(x0, generator=seeded("z")))


REFUSED: dict[str, Any] = {
    "latent: expected an integer of at least 1, got 0": lambda: LatentFlow(flow_of(0, 0).flow, 0),
    "samples: expected an integer of at least 0, got -1": lambda: flow_of(0, 0, samples=-1),
    "flow: expected a ContinuousFlow, got a LatentFlow": lambda: LatentFlow(flow_of(0, 0), 1),  # type: ignore
    "latent: expected shape (..., 1), got (2,)": lambda: flow_of(0, 0).at([1.0, 2.0]),
    "with samples and an exact divergence, which": lambda: flow_of(0, 0, samples=0).log_prob(
        torch.zeros(1, 1)
    ),
    "too dear for; say flow.replace(samples=8": lambda: (
        flow_of(0, 0).replace(divergence=Hutchinson()).log_prob(torch.zeros(1, 1))
    ),
    "times: expected increasing times, a LatentFlow": lambda: flow_of(0, 0).trajectory(
        torch.zeros(1, 1), [1.0, 0.0]
    ),
    "prior: expected events of shape (1,), got (2,)": lambda: flow_of(0, 0, prior=Normal(2)),
    "its latent differs from point to point": lambda: flow_of(0, 0).score(0.5, torch.zeros(1, 1)),
    "beta: expected a finite number above 0, got -1": lambda: VariationalMatching(beta=-1),
    "warmup: expected a share of the steps of at least 0 and below 1": lambda: VariationalMatching(warmup=1),
    "models: expected one named 'encoder'": lambda: VariationalMatching().loss(
        nn.ModuleDict({"field": MLP(1, latent_spec(None, 1))}), batch_of(3), Step()
    ),
    "sees: expected data or path, got 'all'": lambda: PairEncoder(2, sees="all"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("told", REFUSED)
def test_mistakes_are_one_line(told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        REFUSED[told]()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"coupling": "ot"}, "coupling ot: does not go with method vrf"),
        ({"prediction": "noise"}, "prediction noise: does not go with method vrf"),
        ({"reflow": 1}, "reflow 1: does not go with method vrf"),
        ({"distil": True}, "distil: does not go with method vrf"),
        ({"latent": 0}, "latent: expected at least 1, got 0"),
        ({"beta": -0.1}, "beta: expected a number in [0, 1e+06], got -0.1"),
        ({"prior": -1}, "prior: expected at least 0, got -1"),
        ({"encoder": "all"}, "encoder: expected data or path, got 'all'"),
        ({"path": "ve", "source": "baseline"}, "source baseline: method vrf starts from baselines along"),
        ({"method": "fm", "beta": 0.1}, "beta 0.1: does not go with method fm"),
        ({"method": "maf", "latent": 2}, "latent 2: does not go with method maf"),
        ({"method": "cnf", "encoder": "path"}, "encoder path: does not go with method cnf"),
        ({"solver": "euler-maruyama"}, "a run has densities by its solver too"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        pushforward.train("moons", rows=100, steps=2, show_progress=False, **{"method": "vrf", **settings})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", ["labels", "one column", "many columns", "moons to 8gaussians", "digits"])
def test_runs_of_many_kinds_of_data(data: str, tmp_path: Any) -> None:
    """Training, samples and densities, and a run that opens again."""
    made: dict[str, tuple[Any, dict[str, Any]]] = {
        "labels": ("moons", {"condition": "label", "rows": 100, "guidance": 2.0}),
        "one column": (torch.randn(1000, 1, generator=seeded("one")), {}),
        "many columns": (torch.randn(200, 100, generator=seeded("many")), {}),
        "moons to 8gaussians": ("8gaussians", {"source": "moons", "rows": 500}),
        "digits": ("digits", {"condition": "label", "batch": 16}),
    }
    target, settings = made[data]
    out = tmp_path / "run"
    run = pushforward.train(target, out, method="vrf", steps=5, show_progress=False, **settings)
    generators = [seeded("draws") for _ in range(2)]
    label = torch.tensor(1) if "condition" in settings else None
    x = run.flow.sample(3, label, generators[0])
    again = pushforward.load(out)
    assert x.isfinite().all() and torch.equal(again.sample(3, label, generators[1]), x)
    small = data not in ("many columns", "digits", "moons to 8gaussians")
    if small:
        assert run.flow.density == "bound" and run.flow.log_prob(x, label).isfinite().all()
        return
    with pytest.raises(ValueError, match=r"large events are too dear for|known only by its samples"):
        run.flow.log_prob(x, label)


def test_a_density_of_large_events_is_had_on_request() -> None:
    flow = LatentFlow(ContinuousFlow(MLP(40, latent_spec(None, 2)), Euler(steps=2), Normal(40)), 2, samples=0)
    asked = flow.replace(samples=2, divergence=Exact())
    assert flow.density == "none" and asked.density == "bound"
    assert asked.log_prob(torch.zeros(3, 40)).isfinite().all()
