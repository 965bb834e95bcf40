"""Flows of rows of tokens and numbers against tables and densities in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import nn
from torch.distributions import Normal as Gaussian

from pushforward import Rows, random
from pushforward.flows import ColumnFlow
from pushforward.nn import ColumnLayout, ColumnNetwork
from pushforward.nn.columns import Seen
from pushforward.objectives import Batch, ColumnMatching, Step

FIRST = torch.tensor([0.2, 0.3, 0.5])
SECOND = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
MEAN, SCALE = torch.tensor([[0.0, 2.0], [-2.0, 1.0], [1.0, -1.0]]), 0.5
#: Two categories and a number, the last column's token says whether its number exists.
LAYOUT = ColumnLayout((3, 2, 2), (0, 1, 3), (2, 3), (1, 1, 1))


class Exact(nn.Module):
    """The posteriors and velocities of a distribution in closed form, in place of a network.

    The third token is 1 with probability 1 / 4; the numbers given the tokens are N(MEAN, SCALE^2), and
    N(1, SCALE^2) where it exists.
    """

    layout = LAYOUT

    def scores(self, seen: Seen) -> list[torch.Tensor]:
        a, b, _ = seen.tokens.T
        first = FIRST.expand(len(a), 3)
        first = torch.where((b < 2)[:, None], first * SECOND.T[b.clamp(max=1)], first)
        both = FIRST @ SECOND
        second = torch.where((a < 3)[:, None], SECOND[a.clamp(max=2)], both)
        return [first.log(), second.log(), torch.tensor([0.75, 0.25]).expand(len(a), 2).log()]

    def encoded(self, seen: Seen) -> torch.Tensor:
        a, b, _ = seen.tokens.T
        return torch.stack([MEAN[a, b], torch.ones(len(a))], 1)

    def moves(self, t: torch.Tensor, x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        t = t.reshape(-1, 1)
        variance = (1 - t) ** 2 + (t * SCALE) ** 2
        return mean + (t * SCALE**2 - (1 - t)) / variance * (x - t * mean)


def exact() -> ColumnFlow:
    flow = ColumnFlow(ColumnNetwork(LAYOUT, width=8, depth=1))
    return flow.replace(field=Exact())


def log_density(x: torch.Tensor) -> torch.Tensor:
    a, b, gone = x[:, :3].long().T
    found = FIRST[a].log() + SECOND[a, b].log() + torch.tensor([0.75, 0.25])[gone].log()
    found = found + Gaussian(MEAN[a, b], SCALE).log_prob(x[:, 3])
    return found + torch.where(gone == 0, Gaussian(1.0, SCALE).log_prob(x[:, 4].nan_to_num()), 0.0)


def test_score_is_exact_when_the_network_is():
    x = exact().sample(500, generator=random.seeded("mixed"))
    assert bool((x[:, 4].isnan() == (x[:, 2] == 1)).all())
    # the default tolerance of the solver
    torch.testing.assert_close(exact().log_prob(x), log_density(x), rtol=0, atol=2e-4)
    tokens, numbers = exact().parts(x)
    torch.testing.assert_close(tokens[:, 0], FIRST[x[:, 0].long()].log())
    torch.testing.assert_close(tokens.sum(1) + numbers, exact().log_prob(x))


def test_samples_have_the_distribution():
    n = 20_000
    x = exact().sample(n, generator=random.seeded("mixed", 1))
    counts = torch.bincount((2 * x[:, 0] + x[:, 1]).long(), minlength=6)
    assert chisquare(counts, n * (FIRST[:, None] * SECOND).flatten().double()).pvalue > 1e-3
    standard = (x[:, 3] - MEAN[x[:, 0].long(), x[:, 1].long()]) / SCALE
    assert kstest(standard.double().numpy(), "norm").pvalue > 1e-3
    assert abs(float((x[:, 2] == 0).float().mean()) - 0.75) < 4 * math.sqrt(0.75 * 0.25 / n)


def test_columns_are_drawn_given_any_others():
    n = 20_000
    given = torch.zeros(n, 5)
    given[:, 1], given[:, 4] = 1.0, 7.0
    observed = torch.tensor([False, True, False, True]).expand(n, 4)
    x = exact().complete(given, observed, random.seeded("given"))
    assert bool((x[:, 1] == 1).all() and (x[:, 4] == 7).all() and (x[:, 2] == 0).all())
    wanted = FIRST * SECOND[:, 1]
    counts = torch.bincount(x[:, 0].long(), minlength=3)
    assert chisquare(counts, n * wanted.double() / wanted.double().sum()).pvalue > 1e-3
    # what stands where nothing is observed plays no part
    given = torch.where(observed[:, [0, 1, 3, 2, 3]], given, 5.0)
    other = exact().complete(given, observed, random.seeded("given"))
    assert torch.equal(other, x)


def test_equal_points_of_the_source_give_equal_rows():
    x0 = random.normal((50, 5), random.seeded(3))
    assert torch.equal(exact().push(x0).nan_to_num(9), exact().push(x0).nan_to_num(9))


def test_loss_of_tokens_is_the_entropy_of_what_is_not_observed():
    # with even scores a token of K values costs log K, whatever share of the tokens is hidden
    layout = ColumnLayout((5, 5, 5, 5), (0, 1, 2, 3), (), (1, 1, 1, 1))
    net = ColumnNetwork(layout, width=8, depth=1)
    rows = Rows(torch.randint(5, (4000, 4), generator=random.seeded(0)).float())
    found = ColumnMatching().loss(
        nn.ModuleDict({"field": net}), Batch((rows,)), Step(generator=random.seeded(1))
    )
    counts = found.errors / math.log(5)
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-4)
    # all four in half of the rows, else two on average; deviation 2, and 4,000 rows
    assert abs(float(counts.mean()) - 3.0) < 4 * 2 / 4000**0.5


def test_numbers_exist_beside_as_many_values_as_the_layout_says():
    # a column of a token of 4 values, of which three have a number beside them
    layout = ColumnLayout((4, 2), (0, 2), (0, 1), (3, 1))
    flow = ColumnFlow(ColumnNetwork(layout, width=8, depth=1))
    x = flow.sample(200, generator=random.seeded(0))
    assert bool((x[:, 2].isnan() == (x[:, 0] == 3)).all()) and bool(x[:, 3].isfinite().all())
    assert bool(flow.log_prob(x).isfinite().all())


@pytest.mark.parametrize("tokens", [0, 1], ids=["numbers alone", "tokens alone"])
def test_one_column(tokens):
    layout = ColumnLayout((3,), (0,), (), (1,)) if tokens else ColumnLayout((), (), (0,), ())
    flow = ColumnFlow(ColumnNetwork(layout, width=8, depth=1))
    x = flow.sample(40, generator=random.seeded(0))
    assert x.shape == (40, 1) and bool(flow.log_prob(x).isfinite().all())
    loss = ColumnMatching().loss(nn.ModuleDict({"field": flow.field}), Batch((Rows(x),)), Step())
    loss.value.backward()
    assert bool(loss.value.isfinite())


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: ColumnLayout((1,), (0,), (), (1,)), "sizes: expected"),
        (lambda: ColumnLayout((3, 3), (0, 0), (), (1, 1)), "token_columns: expected another column"),
        (lambda: ColumnLayout((3,), (0,), (), ()), "numbered: expected 1 values, got"),
        (lambda: ColumnLayout((), (), (), ()), "number_columns: expected at least one token or number"),
        (lambda: exact().log_prob([[0.0, 2.0, 0, 0, 0]]), "x: expected whole numbers from 0 to 1, got 2"),
        (lambda: exact().log_prob([[0.5, 1.0, 0, 0, 0]]), "x: expected whole numbers from 0 to 2, got 0.5"),
        (lambda: exact().log_prob([[0.0, 1.0, 0, 0, math.nan]]), "x: expected finite numbers, and NaN only"),
        (
            lambda: exact().complete(torch.zeros(2, 5), torch.ones(2, 5)),
            r"x, observed: expected shapes \(2, 5\) and \(2, 4\), got \(2, 5\) and \(2, 5\)",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(call, says):
    with pytest.raises(ValueError, match=says) as error:
        call()
    assert "\n" not in str(error.value)
