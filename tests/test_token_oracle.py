"""The closed form of discrete flows on small tables."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import entropy

from pushforward.oracles import TokenTable

GRID = torch.tensor([[4.0, 1, 2], [1, 6, 1], [3, 1, 9]])
LINE = torch.tensor([0.1, 0.2, 0.3, 0.4])
UNIFORM = torch.ones(3)
SOURCES = pytest.mark.parametrize("source", [None, UNIFORM, torch.tensor([0.2, 0.5, 0.3])])


def integral(table: TokenTable) -> float:
    return quad(table.loss, 0, 1, epsabs=1e-9, limit=200)[0]


@pytest.mark.parametrize("table", [LINE, GRID])
def test_masked_loss_integrates_to_the_entropy(table):
    assert abs(integral(TokenTable(table)) - entropy(table.flatten().double().numpy())) < 1e-6


def test_uniform_loss_stays_above_the_entropy():
    assert integral(TokenTable(LINE, torch.ones(4))) > entropy(LINE.double().numpy()) + 0.01


@SOURCES
@pytest.mark.parametrize("corrector", [0.0, 2.5])
def test_probabilities_solve_the_kolmogorov_equation(source, corrector):
    oracle = TokenTable(GRID, source)
    for t in (0.1, 0.5, 0.9):
        moment = torch.tensor(t, dtype=torch.float64)
        p, slope, *_ = torch.func.jvp(oracle.probs, (moment,), (torch.ones_like(moment),))
        rates = oracle.rates(t, corrector)
        assert float((p.flatten() @ rates - slope.flatten()).abs().max()) < 1e-12
        assert float(rates.sum(1).abs().max()) < 1e-12
        assert float((rates - rates.diagonal().diag()).min()) >= 0


@SOURCES
def test_posterior_averages_to_the_data(source):
    oracle = TokenTable(GRID, source)
    for i, found in enumerate(oracle.posterior(0.4)):
        mean = (oracle.probs(0.4)[..., None] * found).sum((0, 1))
        torch.testing.assert_close(mean, oracle.table.sum(1 - i), rtol=1e-12, atol=0)


def test_ends():
    oracle = TokenTable(GRID, UNIFORM)
    torch.testing.assert_close(oracle.probs(1.0), oracle.table)
    torch.testing.assert_close(oracle.probs(0.0), torch.full((3, 3), 1 / 9, dtype=torch.float64))


def test_refuses():
    for bad, message in (
        (dict(table=[[1.0, 2.0]]), "table: expected shape"),
        (dict(table=[-1.0, 2.0]), "table: expected non-negative"),
        (dict(table=[1.0, 2.0], source=[1.0]), "source: expected at least 2"),
        (dict(table=torch.ones([4] * 6)), "table: expected at most 4096 states"),
    ):
        with pytest.raises(ValueError, match=message):
            TokenTable(**bad)


@pytest.mark.parametrize("t", [0.0, 1.0, -0.5, float("nan")])
def test_rates_and_losses_are_of_times_inside(t):
    for ask in (TokenTable(GRID).rates, TokenTable(GRID).loss):
        with pytest.raises(ValueError, match=r"t: expected a time inside \(0, 1\)"):
            ask(t)
