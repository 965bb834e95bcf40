"""The contract of every registered network of tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import one_hot

from pushforward import registry
from pushforward.entries import NETWORKS
from pushforward.random import seeded

DOUBLE = torch.float64
SIZE, VALUES, PLACES = 4, 5, 6
NAMES = [name for name in NETWORKS if registry.found("network", name).takes_tokens]
names = pytest.mark.parametrize("name", NAMES)


def network(name: str, condition: Any = None) -> Any:
    """A small one whose parameters are all random, so that no zero initialisation hides anything."""
    net: Any = registry.found("network", name)(
        PLACES, condition, size=SIZE, values=VALUES, width=16, depth=2, heads=2
    ).to(DOUBLE)
    generator = seeded("network", name)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, dtype=DOUBLE, generator=generator))
    return net.eval()


def tokens(rows: int = 3) -> torch.Tensor:
    return torch.randint(VALUES, (rows, PLACES), generator=seeded("tokens"))


@names
def test_scores_are_zero_before_training(name):
    net: Any = registry.found("network", name)(PLACES, size=SIZE, values=VALUES, width=16)
    found = net(0.3, tokens())
    assert found.shape == (3, PLACES, SIZE) and not found.any()


@names
def test_every_place_sees_every_other(name):
    net, x = network(name), tokens(1)
    before = net(0.3, x)
    for place in range(PLACES):
        other = x.clone()
        other[0, place] = (other[0, place] + 1) % VALUES
        changed = (net(0.3, other) - before).abs().amax(-1)[0]
        assert bool((changed > 1e-8).all()), place


@names
def test_time_and_condition_change_the_scores(name):
    x, labels = tokens(), torch.tensor([0, 1, 2])
    net = network(name, 3)
    found = net(torch.tensor([0.1, 0.5, 0.9], dtype=DOUBLE), x, labels)
    assert not torch.allclose(found, net(0.1, x, labels)) and not torch.allclose(found, net(0.5, x, labels))
    assert (net(0.5, x, labels) - net(0.5, x, labels.flip(0)))[[0, 2]].abs().min() > 1e-8
    # each row is scored alone
    torch.testing.assert_close(found[1:2], net(0.5, x[1:2], labels[1:2]))


@names
def test_certain_probabilities_are_tokens(name):
    net, x = network(name), tokens()
    torch.testing.assert_close(net(0.3, one_hot(x, VALUES).to(DOUBLE)), net(0.3, x))


@names
def test_refuses_other_shapes(name):
    with pytest.raises(ValueError, match="x: expected tokens of int64"):
        network(name)(0.3, tokens()[:, 1:])
