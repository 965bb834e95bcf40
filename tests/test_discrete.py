"""Flows of tokens against closed forms on small tables, and against another library."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import entropy
from torch import nn

from contract import own
from effort import first
from pushforward import random, registry
from pushforward.couplings import MinibatchOT
from pushforward.fields import TokenPosterior
from pushforward.flows import DiscreteFlow, load_flow, save
from pushforward.nn import TokenTransformer
from pushforward.objectives import Batch, CrossEntropy, DiscreteMatching, Late, Step, TokenLoss
from pushforward.oracles import TokenOracle, TokenTable
from pushforward.paths import (
    DiffusedTokens,
    LateTimes,
    MaskedTokens,
    MetricTokens,
    Polynomial,
    Trigonometric,
    UniformTokens,
    VariancePreserving,
    WalkTokens,
)
from pushforward.plans.cost import hamming_distances
from pushforward.rows import Rows
from pushforward.solvers import Heun, Jump, JumpEuler, SingleJumps, TauLeaping
from pushforward.sources import TokenSource

GRID = torch.tensor([[4.0, 1, 2], [1, 6, 1], [3, 1, 9]], dtype=torch.float64) / 28
LINE = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
PATHS = [MaskedTokens(3), UniformTokens(3), MetricTokens(3, scale=2.0), DiffusedTokens(3), WalkTokens(3)]
#: What no type checker lets through.
WRONG: Any = "mse"
STATES = [torch.cartesian_prod(torch.arange(p.values), torch.arange(p.values)) for p in PATHS]
each_path = pytest.mark.parametrize(
    "path, states", [*zip(PATHS, STATES)], ids=["mask", "uniform", "metric", "diffused", "walk"]
)


def flow_of(path, table=GRID, **options):
    return DiscreteFlow(TokenOracle(table, path), path, table.ndim, **options)


def all_probs(path, t, table=GRID):
    """p_t of all states, from the kernel of a path that is drawn from, by Bayes' rule alone."""
    t = torch.as_tensor(t, dtype=torch.float64)
    kernel = path.kernel(t).exp() if path.open_ends and hasattr(path, "kernel") else None
    if kernel is None:
        kappa = path.kappa(t)[0]
        kernel = (1 - kappa) * path.start + kappa * torch.eye(path.size, path.values, dtype=torch.float64)
    return torch.einsum("kl,kx,ly->xy", table, kernel, kernel)


def generator_of(path, states, t, corrector, table=GRID):
    """The matrix of the rates between all states, rows of sum 0."""
    moment = torch.tensor(t, dtype=torch.float64)
    rates = path.rates(moment, states, TokenOracle(table, path)(moment, states), corrector)
    count, A = len(states), path.values
    found = torch.zeros(count, count, dtype=torch.float64)
    for n, (a, b) in enumerate(states.tolist()):
        for y in range(A):
            found[n, y * A + b] += rates[n, 0, y]
            found[n, a * A + y] += rates[n, 1, y]
    found.fill_diagonal_(0.0)
    return found - found.sum(1).diag()


@each_path
@pytest.mark.parametrize("corrector", [0.0, 3.0])
def test_rates_of_the_exact_posterior_solve_the_kolmogorov_equation(path, states, corrector):
    for t in (0.1, 0.5, 0.9):
        moment = torch.tensor(t, dtype=torch.float64)
        p, slope, *_ = torch.func.jvp(lambda s: all_probs(path, s), (moment,), (torch.ones_like(moment),))
        found = generator_of(path, states, t, corrector)
        found[p.flatten() == 0] = 0.0  # states that do not occur have no posterior
        assert float((p.flatten() @ found - slope.flatten()).abs().max()) < 1e-12
        assert float((found - found.diagonal().diag()).min()) >= 0


@pytest.mark.parametrize("path, source", [(PATHS[0], None), (PATHS[1], torch.ones(3))])
def test_rates_are_those_of_the_table(path, source):
    oracle, states = TokenTable(GRID, source), STATES[PATHS.index(path)]
    for t, c in ((0.3, 0.0), (0.6, 2.0)):
        wanted = oracle.rates(t, c * t * (1 - t))
        found = generator_of(path, states, t, c)
        found[wanted.diagonal() == 0] = 0.0
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@each_path
def test_expected_jumps_are_the_integral_of_the_rates(path, states):
    T = torch.tensor([0.3, 0.7], dtype=torch.float64)
    posterior = TokenOracle(GRID, path)(0.3, states)

    def total(t):
        moment = torch.tensor(t, dtype=torch.float64)
        return float((path.rates(moment, states, posterior, 2.0))[-1].sum())

    found = path.expected(T[0], T[1], states, posterior, 2.0)
    if hasattr(path, "kernel"):  # p_t(y | k) stays as at the beginning of the step
        step = path.expected(T[0], T[0] + 1e-7, states, posterior, 2.0)
        assert float(step[-1].sum()) / 1e-7 == pytest.approx(total(0.3), rel=1e-4)
    else:
        assert float(found[-1].sum()) == pytest.approx(quad(total, 0.3, 0.7)[0], rel=1e-8)


def bound_of(path, table=LINE):
    """The integral of the expected divergence for one token, by quadrature."""
    oracle = TokenOracle(table, path)
    k, x = torch.cartesian_prod(torch.arange(path.size), torch.arange(path.values)).T

    def integrand(t):
        moment = torch.tensor(t, dtype=torch.float64)
        if hasattr(path, "kernel"):
            kernel = path.kernel(moment).exp()
        else:
            kappa = path.kappa(moment)[0]
            kernel = (1 - kappa) * path.start + kappa * torch.eye(path.size, path.values)
        weight = (table[:, None] * kernel).flatten()
        found = path.divergence(moment, x[:, None], k[:, None], oracle(moment, x[:, None]))[:, 0]
        return float((weight * torch.where(weight > 0, found, 0.0)).sum())

    # what is left at the last time is drawn from the posterior, and costs its cross entropy
    last = torch.tensor(path.last, dtype=torch.float64)
    drawn = (1 - path.kappa(last)[0]) * path.start if hasattr(path, "kappa") else path.kernel(last).exp()
    if hasattr(path, "kappa"):
        drawn = drawn + path.kappa(last)[0] * torch.eye(path.size, path.values, dtype=torch.float64)
    own = oracle(last, torch.arange(path.values)[:, None])[:, 0].T
    chances = table[:, None] * drawn
    tail = -float((chances * torch.where(chances > 0, own, 0.0)).sum())
    parts = [0.0, *(10.0**k for k in range(-6, 0)), path.last]
    return tail + sum(quad(integrand, a, b, limit=60, epsabs=1e-8)[0] for a, b in pairwise(parts))


def test_bound_of_a_mask_is_the_entropy_whatever_the_schedule():
    for schedule in (None, Polynomial(2.0), Trigonometric()):
        assert bound_of(MaskedTokens(4, schedule)) == pytest.approx(entropy(LINE.numpy()), abs=1e-6)


def test_bound_of_uniform_noise_stays_above_the_entropy():
    # the marginal process does not know which tokens are noise
    wanted = quad(TokenTable(LINE, torch.ones(4)).loss, 0, 1, epsabs=1e-9, limit=200)[0]
    # what is left after the last time, 1 - 1e-6, is about that times log 1e6
    assert bound_of(UniformTokens(4)) == pytest.approx(wanted, abs=2e-5)
    assert wanted > entropy(LINE.numpy()) + 0.3
    assert bound_of(MetricTokens(4)) > entropy(LINE.numpy()) + 0.01


@pytest.mark.parametrize(
    "schedule", [None, Polynomial(2.0), Trigonometric()], ids=["linear", "square", "trig"]
)
def test_bound_of_diffused_noise_is_the_entropy(schedule):
    # 1e-5 for the first times, and what is left after the last
    assert bound_of(DiffusedTokens(4, schedule)) == pytest.approx(entropy(LINE.numpy()), abs=5e-5)


@pytest.mark.parametrize("path", [WalkTokens(4), WalkTokens(4, scale=20.0, power=2.0)], ids=repr)
def test_bound_of_a_walk_is_the_entropy(path):
    assert bound_of(path) == pytest.approx(entropy(LINE.numpy()), abs=1e-4)


@pytest.mark.parametrize("path", [MaskedTokens(4), UniformTokens(4)], ids=["mask", "uniform"])
def test_divergence_is_that_of_another_library(path):
    peer_path = pytest.importorskip("flow_matching.path")
    generalized_kl = pytest.importorskip("flow_matching.loss").MixturePathGeneralizedKL
    scheduler = pytest.importorskip("flow_matching.path.scheduler").CondOTScheduler()

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, path.values, generator=generator)
    logits[..., path.size :] = -torch.inf
    x1 = torch.randint(path.size, (6, 5), generator=generator)
    t = torch.rand(6, generator=generator)
    x = path.sample(t, x1, generator=generator).x
    loss = generalized_kl(peer_path.MixtureDiscreteProbPath(scheduler), reduction="none")
    wanted = loss(logits, x1, x, t)
    found = path.divergence(t, x, x1, logits[..., : path.size].log_softmax(-1))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


SOLVERS = [
    (TauLeaping(steps=256, corrector=3.0), PATHS[0]),
    (SingleJumps(), MaskedTokens(3, Polynomial(2.0))),
    (JumpEuler(steps=256), PATHS[2]),
    (TauLeaping(steps=256), PATHS[1]),
    (SingleJumps(), PATHS[1]),
    (TauLeaping(steps=256), PATHS[0]),
    (JumpEuler(steps=256, corrector=3.0), PATHS[1]),
    (TauLeaping(steps=256, corrector=1.0), PATHS[2]),
    (TauLeaping(steps=256), PATHS[3]),
    (JumpEuler(steps=256), PATHS[3]),
    (TauLeaping(steps=256), PATHS[4]),
    (JumpEuler(steps=256, corrector=1.0), PATHS[4]),
]


@pytest.mark.parametrize("solver, path", first(SOLVERS, 2), ids=repr)
def test_samples_have_the_probabilities_of_the_table(solver, path):
    n = 20_000
    x = flow_of(path, solver=solver).sample(n, generator=random.seeded("samples"))
    counts = torch.zeros(3, 3, dtype=torch.float64).index_put_(
        tuple(x.T), torch.ones(n, dtype=torch.float64), accumulate=True
    )
    # the distance of a multinomial draw: half the sum of E|count / n - p| = sqrt(2 p (1 - p) / pi n)
    floor = 0.5 * float((2 * GRID * (1 - GRID) / (torch.pi * n)).sqrt().sum())
    assert 0.5 * float((counts / n - GRID).abs().sum()) < 3 * floor


def test_single_jumps_from_a_mask_take_as_many_evaluations_as_tokens():
    table = torch.ones(2, 2, 2, 2)
    flow = flow_of(MaskedTokens(2), table, solver=SingleJumps())
    found = flow.solver.solve(flow.problem(), flow.source.sample(50), 0.0, 1.0, generator=random.seeded(0))
    assert found.ok and found.calls <= 5 and bool((found.nfe <= 5).all()) and bool((found.x < 2).all())


@pytest.mark.parametrize("solver", [TauLeaping(corrector=2.0), JumpEuler(temperature=0.5)], ids=repr)
def test_a_flow_takes_as_many_evaluations_as_it_is_told(solver):
    few: Any = flow_of(UniformTokens(3), solver=solver).in_evaluations(7)
    assert few.solver.options == {**solver.options, "steps": 7}
    assert few.trajectory(few.source.sample(4), [1.0]).calls == 7
    with pytest.raises(ValueError, match="a SingleJumps chooses its own steps"):
        flow_of(UniformTokens(3), solver=SingleJumps()).in_evaluations(7)


@pytest.mark.parametrize("path, solver", [(PATHS[0], SingleJumps()), (PATHS[1], TauLeaping(steps=100))])
def test_states_on_the_way_are_those_of_the_path(path, solver):
    flow = flow_of(path, solver=solver)
    x0 = flow.source.sample(10_000, generator=random.seeded("start"))
    found = flow.trajectory(x0, [0.0, 0.5, 1.0], generator=random.seeded("way"))
    assert found.path is not None
    torch.testing.assert_close(found.path[0], x0)
    torch.testing.assert_close(found.path[2], found.x)
    share = torch.bincount(found.path[1][:, 0] * path.values + found.path[1][:, 1], minlength=path.values**2)
    wanted = all_probs(path, 0.5).flatten()
    # four standard errors of each share, and the error of a step of 1/100
    error = 4 * (wanted * (1 - wanted) / 10_000).sqrt() + 4e-3
    assert bool(((share / 10_000 - wanted).abs() < error).all())


def test_low_temperature_takes_the_likeliest():
    for solver in (TauLeaping(steps=20, temperature=0.01), SingleJumps(temperature=0.01)):
        x = flow_of(MaskedTokens(4), LINE, solver=solver).sample(200, generator=random.seeded(0))
        assert bool((x == 3).all())


@each_path
def test_log_prob_of_the_exact_posterior_is_the_table(path, states):
    flow = flow_of(path)
    x = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    assert flow.density == "exact"
    torch.testing.assert_close(flow.log_prob(x).exp().reshape(3, 3), GRID, rtol=0, atol=2e-5)


class Wrong(nn.Module):
    """A posterior that is not exact: that of the table, flattened."""

    def __init__(self, path):
        super().__init__()
        self.oracle = TokenOracle(GRID, path)

    def forward(self, t, x, condition=None):
        return 0.7 * self.oracle(t, x).clamp(min=-50) + (0 if condition is None else condition[:, None, None])


@each_path
def test_elbo_is_below_the_exact_log_likelihood(path, states):
    flow = DiscreteFlow(TokenPosterior(Wrong(path), path), path, 2)
    x = torch.tensor([[0, 0], [2, 2], [0, 1], [1, 2]])
    exact = flow.log_prob(x)
    assert float(exact.exp().sum()) < 1
    bound, error = flow.elbo(x, 500, generator=random.seeded("elbo"))
    assert bool((bound < exact + 4 * error).all())
    if isinstance(path, MaskedTokens):  # and not far below
        assert bool((bound > exact - 0.5).all())


def test_bound_of_a_mask_averages_over_orders():
    """log p(x) >= mean over the orders of tokens of the sum of log p(x_i | those before)."""
    path = PATHS[0]
    flow = DiscreteFlow(TokenPosterior(Wrong(path), path), path, 2)
    x = torch.tensor([[0, 1]])
    none, first, second = (
        flow.posterior(torch.tensor(0.5), torch.tensor([row])) for row in ([3, 3], [0, 3], [3, 1])
    )
    orders = none[0, 0, 0] + first[0, 1, 1], none[0, 1, 1] + second[0, 0, 0]
    # a thousand rows of four draws each: 4,000 draws at the price of few evaluations
    bounds, _ = flow.elbo(x.expand(1000, -1), 4, generator=random.seeded("orders"))
    bound, error = bounds.mean(), bounds.std() / 1000**0.5
    assert abs(float(bound) - 0.5 * float(sum(orders))) < 4 * float(error)


def test_conditions_have_probabilities_of_their_own():
    class Tilted(nn.Module):
        def forward(self, t, x, condition=None):
            scores = torch.zeros(*x.shape, 2, dtype=torch.float64)
            given = torch.zeros(len(x)) if condition is None else condition.clamp(min=0).double()
            scores[..., 1] = given.reshape(-1, 1)
            return scores

    path = MaskedTokens(2)
    flow = DiscreteFlow(TokenPosterior(Tilted(), path), path, 1)
    chance = torch.tensor([0.5, 1 / (1 + torch.e**-1.0), 1 / (1 + torch.e**-2.0)], dtype=torch.float64)
    found = flow.given(torch.tensor([0, 1, 2])).log_prob(torch.ones(3, 1)).exp()
    torch.testing.assert_close(found, chance, rtol=0, atol=1e-5)
    guided = flow.replace(guidance=3.0, solver=TauLeaping(steps=1))
    x = guided.sample(20_000, torch.tensor(1), generator=random.seeded("guided"))
    share, wanted = float(x.double().mean()), 1 / (1 + 2.718281828**-3.0)
    assert abs(share - wanted) < 4 * (wanted * (1 - wanted) / 20_000) ** 0.5


@pytest.mark.parametrize("kind", first(own("loss", TokenLoss)))
def test_training_finds_the_posterior(kind):
    path = MaskedTokens(3)
    torch.manual_seed(0)
    field = TokenPosterior(TokenTransformer(2, size=3, values=4, width=32, depth=1), path)
    data = torch.multinomial(GRID.flatten(), 4000, True, generator=random.seeded("data"))
    rows = torch.stack([data // 3, data % 3], 1).float()
    objective, models = DiscreteMatching(path, registry.create("loss", kind)), nn.ModuleDict({"field": field})
    optimiser = torch.optim.Adam(field.parameters(), 3e-3)
    for step in range(300):
        batch = Batch((Rows(rows[torch.randint(4000, (256,), generator=random.seeded("batch", step))]),))
        loss = objective.loss(models, batch, Step(step, generator=random.seeded("loss", step)))
        optimiser.zero_grad()
        loss.value.backward()
        optimiser.step()
    flow = DiscreteFlow(field, path, 2)
    table = flow.log_prob(torch.cartesian_prod(torch.arange(3), torch.arange(3))).exp().reshape(3, 3)
    # 4,000 rows: each probability has a standard error of at most .0075; the training adds as much
    assert float((table.double() - GRID).abs().max()) < 0.04


def test_minibatch_plans_of_tokens_are_those_of_another_library():
    ot = pytest.importorskip("ot")
    g = random.seeded("hamming")
    for n, m in ((40, 40), (30, 50)):
        x, y = torch.randint(4, (n, 2, 3), generator=g), torch.randint(4, (m, 2, 3), generator=g)
        cost = (x[:, None] != y).sum((2, 3)).double()
        torch.testing.assert_close(hamming_distances(x, y.float()), cost)
        wanted = ot.emd2([], [], cost.numpy())
        pairing = MinibatchOT("hamming").pair(x, y, g)
        assert pairing.info["cost"] == pytest.approx(wanted, rel=1e-9)
        if n == m:
            rows, columns = pairing.indices.T
            assert torch.equal(columns.sort().values, torch.arange(n))
            assert float(cost[rows, columns].mean()) == pytest.approx(wanted, rel=1e-9)
    seen = torch.tensor([[[True, True, False], [True, False, False]]]).expand(40, -1, -1)
    found = hamming_distances(x[:30], y[:40], None, seen)
    torch.testing.assert_close(found, ((x[:30, None] != y[:40]) & seen).sum((2, 3)).double())


def test_pairs_of_tokens_keep_the_marginals_and_are_learnt():
    """A posterior of coupled pairs, counted from draws, leads from the noise to the table at its rates."""
    path, n = UniformTokens(3), 1024
    drawn = torch.multinomial(GRID.flatten(), 16 * n, True, generator=random.seeded("coupled"))
    x1 = torch.stack([drawn // 3, drawn % 3], 1)
    x0 = torch.randint(3, (16 * n, 2), generator=random.seeded("noise"))
    pairs = [MinibatchOT("hamming")(a, b) for a, b in zip(x0.split(n), x1.split(n))]
    first, second = (torch.cat(side) for side in zip(*pairs))
    for side, given in ((first, x0), (second, x1)):
        assert torch.equal(
            torch.bincount(side @ torch.tensor([3, 1])), torch.bincount(given @ torch.tensor([3, 1]))
        )
    # half of the tokens of independent pairs differ by far more
    assert float((first != second).double().mean()) < 0.5 * float((x0 != x1).double().mean())

    class Counted(nn.Module):
        """p(x1^i = k | x_t) of the pairs, whose tokens are those of x1 with probability t."""

        def forward(self, t, x, condition=None):
            found = torch.zeros(len(x), 2, 3, dtype=torch.float64)
            states, joint = torch.cartesian_prod(torch.arange(3), torch.arange(3)), counts
            time = torch.as_tensor(t, dtype=torch.float64).reshape(-1)[0]
            kept = [(states[:, None] == end).double() for end in ends]
            chance = (1 - time) * kept[0] + time * kept[1]  # (9 states, pairs, 2)
            weight = chance.prod(-1) * joint
            for i in range(2):
                for k in range(3):
                    found[:, i, k] = (weight * (ends[1][:, i] == k)).sum(1)[x @ torch.tensor([3, 1])]
            return found.log()

    both = torch.cat([first, second], 1).unique(dim=0, return_counts=True)
    ends, counts = (both[0][:, :2], both[0][:, 2:]), both[1].double()
    flow = DiscreteFlow(Counted(), path, 2).replace(coupled=True)
    share = torch.bincount(x1 @ torch.tensor([3, 1]), minlength=9).double() / len(x1)
    start = torch.bincount(x0 @ torch.tensor([3, 1]), minlength=9).double() / len(x0)
    found = flow.log_prob(torch.cartesian_prod(torch.arange(3), torch.arange(3))).exp()
    # the noise of 16,384 draws is uniform up to this
    torch.testing.assert_close(found, share, rtol=0, atol=3 * float((start - 1 / 9).abs().max()))
    with pytest.raises(ValueError, match=r"^corrector: jumps back to the source"):
        flow.replace(solver=TauLeaping(4, corrector=1.0)).sample(2)


def test_late_times_have_their_density():
    times = LateTimes(16, 0.99)
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    t = times.quantile(grid)
    slope = t.diff() / grid.diff()
    torch.testing.assert_close(slope, times.weight(0.5 * (t[1:] + t[:-1])), rtol=1e-4, atol=1e-6)
    assert float(t[0]) == 0 and float(t[-1]) == pytest.approx(0.99)


def test_loss_is_the_bound_of_the_flow():
    path = UniformTokens(3)
    field = TokenOracle(GRID, path)
    x = torch.tensor([[0, 1], [2, 2]]).repeat(2000, 1)
    step = Step(generator=random.seeded("loss"))
    batch = Batch((Rows(x),))
    loss = DiscreteMatching(path).loss(nn.ModuleDict({"field": field}), batch, step)
    bound, _ = DiscreteFlow(field, path, 2).elbo(x, 2, generator=random.seeded("bound"))
    # per token; the error of the loss, over half as many draws, is that of the bound times 2^(1/2)
    assert abs(2 * float(loss.value) + float(bound.mean())) < 4 * 3**0.5 * float(bound.std() / len(x) ** 0.5)


def test_the_cross_entropy_is_the_mean_over_its_times():
    path = MaskedTokens(3)
    # of a mask the posterior is that of the tokens seen: one of two, with probability t each
    entropies = [entropy(GRID.flatten().numpy()), *(entropy(GRID.sum(i).numpy()) for i in (0, 1))]
    joint, both = entropies[0], entropies[1] + entropies[2]

    def known(t):  # per token: nothing lost where a token is seen, else given the other or not
        alone, given = both / 2, joint - both / 2
        return (1 - t) * (t * given + (1 - t) * alone)

    data = torch.multinomial(GRID.flatten(), 40_000, True, generator=random.seeded("data"))
    batch = Batch((Rows(torch.stack([data // 3, data % 3], 1)),))
    models = nn.ModuleDict({"field": TokenOracle(GRID, path)})
    for times, slope in ((None, lambda t: 1.0), (Late(2.0), lambda t: 0.5 / (1 - t) ** 0.5)):
        step = Step(generator=random.seeded("loss"))
        loss = DiscreteMatching(path, CrossEntropy(times)).loss(models, batch, step)
        wanted = quad(lambda t, slope=slope: slope(t) * known(t), 0, 1)[0]
        error = float(loss.per_sample.std()) / len(data) ** 0.5
        assert abs(float(loss.value) - wanted) < 4 * error


def test_source_draws_its_probabilities():
    source = TokenSource((2,), [1.0, 3.0, 0.0, 6.0])
    x = source.sample(20_000, generator=random.seeded("source"))
    share = torch.bincount(x.flatten(), minlength=4) / 40_000
    # four standard errors of 40,000 draws
    assert (
        bool(((share - torch.tensor([0.1, 0.3, 0.0, 0.6])).abs() < 0.01).all()) and int((x == 2).sum()) == 0
    )
    torch.testing.assert_close(source.log_prob(torch.tensor([[0, 3]])).exp(), torch.tensor([0.06]))


def test_saved_flows_are_the_same(tmp_path):
    path = MetricTokens(4)
    flow = DiscreteFlow(TokenPosterior(TokenTransformer(3, size=4, width=8), path), path, 3)
    save(flow, tmp_path / "flow.safetensors")
    again = load_flow(tmp_path / "flow.safetensors")
    x = flow.sample(5, generator=random.seeded(1))
    assert torch.equal(x, again.sample(5, generator=random.seeded(1)))


def test_flows_run_in_inference_mode_and_from_arrays():
    flow = flow_of(MaskedTokens(3), solver=TauLeaping(steps=4))
    with torch.inference_mode():
        x = flow.sample((2, 3), generator=random.seeded(0))
    assert x.shape == (2, 3, 2) and x.dtype == torch.int64
    assert flow.log_prob(x.numpy()).shape == (2, 3)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(5))
def test_samples_of_a_larger_table(seed):
    table = torch.rand(4, 4, 4, generator=random.seeded("large", seed), dtype=torch.float64) ** 3
    table /= table.sum()
    n = 20_000
    x = flow_of(UniformTokens(4), table, solver=TauLeaping(steps=256)).sample(
        n, generator=random.seeded(seed)
    )
    counts = torch.bincount(x @ torch.tensor([16, 4, 1]), minlength=64).double()
    floor = 0.5 * float((2 * table * (1 - table) / (torch.pi * n)).sqrt().sum())
    assert 0.5 * float((counts / n - table.flatten()).abs().sum()) < 3 * floor


def trained(rows):
    """The loss of these rows."""
    path = MaskedTokens(3)
    models, batch = nn.ModuleDict({"field": TokenOracle(GRID, path)}), Batch((Rows(torch.tensor(rows)),))
    return DiscreteMatching(path).loss(models, batch, Step())


def test_refuses():
    flow = flow_of(MaskedTokens(3))
    rates = Jump(lambda t, x: torch.ones(*x.shape, 3))
    for call, message in (
        (lambda: flow.log_prob([[0, 3]]), "x: expected whole numbers from 0 to 2, got 3"),
        (lambda: flow.log_prob([[0.5, 1]]), "x: expected whole numbers from 0 to 2, got 0.5"),
        (lambda: flow.log_prob([[0, 1, 1]]), "x: expected shape"),
        (lambda: flow.push(torch.tensor([[0, 4]])), "x0: expected whole numbers from 0 to 3, got 4"),
        (lambda: flow.trajectory(torch.tensor([[3, 3]]), [1.0, 0.0]), "times: expected increasing times"),
        (lambda: flow.trajectory(torch.tensor([[3, 4]]), [0.0, 1.0]), "x0: expected whole numbers from 0"),
        (lambda: flow.log_prob([[0, -1]]), "x: expected whole numbers from 0 to 2, got -1"),
        (lambda: flow.elbo([[0, 3]]), "x: expected whole numbers from 0 to 2, got 3"),
        (lambda: flow.elbo([[0, 1, 1]]), r"x: expected shape \(B, 2\)"),
        (lambda: trained([[0, -1]]), "x1: expected whole numbers from 0 to 2, got -1"),
        (lambda: trained([[0, 1.5]]), "x1: expected whole numbers from 0 to 2, got 1.5"),
        (lambda: flow.elbo([[0, 1]], 1), "draws: expected an integer of at least 2"),
        (lambda: flow_of(MaskedTokens(3), solver=Heun()), "solver: Heun"),
        (
            lambda: flow_of(PATHS[2], solver=SingleJumps()).sample(2),
            "problem: single jumps need a path of redraws",
        ),
        (lambda: TauLeaping(corrector=-1.0), "corrector: expected a number of at least 0"),
        (lambda: TauLeaping(temperature=0.0), "temperature: expected a finite number above 0"),
        (lambda: SingleJumps(until=1.0), "until: expected a finite number between 0 and 1"),
        (
            lambda: TauLeaping(corrector=1.0).solve(rates, torch.zeros(1, 1).long(), 0, 1),
            "problem: expected one of",
        ),
        (lambda: TauLeaping().solve(rates, torch.zeros(1, 1), 0, 1), "x: expected int64 tensors"),
        (lambda: TauLeaping().solve(rates, torch.zeros(1, 1).long(), 1, 0), "t0, t1: jumps run forwards"),
        (lambda: Heun().solve(rates, torch.zeros(1, 1), 0, 1), ".*solve it with TauLeaping"),
        (lambda: MaskedTokens(1), "size: expected an integer of at least 2"),
        (lambda: MaskedTokens(3, VariancePreserving()), "schedule: expected an alpha that rises from 0 to 1"),
        (lambda: MetricTokens(3, torch.ones(3, 3)), "distance: expected a symmetric matrix"),
        (lambda: MetricTokens(3, torch.ones(2, 2)), "distance: expected shape"),
        (lambda: MetricTokens(3, scale=0.0), "scale: expected a finite number above 0"),
        (lambda: DiscreteMatching(MaskedTokens(3), WRONG), "loss: expected a TokenLoss"),
        (lambda: TokenOracle(GRID, MaskedTokens(4)), "table: expected 4 values a token, got 3"),
        (lambda: TokenTransformer(3, width=10, heads=4), "width, heads: expected"),
        (lambda: TokenTransformer(3)(0.5, torch.zeros(2, 3)), "x: expected tokens of int64"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            call()
