"""Every normalizing flow of the registry under conditions: labels and numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pushforward import registry
from pushforward.entries import FLOWS
from pushforward.nn import ConditionEmbedding

VECTOR, IMAGE = (2,), (1, 4, 4)

#: {case: (flow with options, shape of an event)}, every registered flow at least once
SMALL = {
    "nice": ("nice,layers=2,width=16", VECTOR),
    "realnvp": ("realnvp,layers=2,width=16", VECTOR),
    "nsf": ("nsf,layers=2,width=16,bins=4", VECTOR),
    "maf": ("maf,layers=2,width=16", VECTOR),
    "iaf": ("iaf,layers=1,width=16", VECTOR),
    "nsf-ar": ("nsf-ar,layers=1,width=16,bins=4", VECTOR),
    "residual": ("residual,layers=3,width=16", VECTOR),
    "vae": ("vae,width=16", VECTOR),
    "glow": ("glow,levels=1,steps=2,width=16,bins=0", IMAGE),
    "tarflow": ("tarflow,blocks=2,layers=1,width=16,heads=2,bins=0", IMAGE),
    "realnvp, images": ("realnvp,levels=1,layers=2,width=16,bins=0", IMAGE),
}
CLASSES = 3


def test_every_flow_is_here() -> None:
    assert {spec.partition(",")[0] for spec, _ in SMALL.values()} == set(FLOWS)


def distribution(kind: str, event: tuple[int, ...], n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows N(m, 1/4) with m of one label or of the second of two numbers: -2, 0 or 2."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(CLASSES, (n,), generator=g)
    mean = 2.0 * (label - 1)
    x = mean.reshape(n, *[1] * len(event)) + 0.5 * torch.randn(n, *event, generator=g)
    return x, label if kind == "labels" else given(kind, label)


def given(kind: str, label: Tensor) -> Tensor:
    """Conditions under which the mean is that of ``label``."""
    return label if kind == "labels" else torch.stack([torch.zeros(label.shape), label - 1.0], -1)


@pytest.mark.parametrize("kind", ["labels", "numbers"])
@pytest.mark.parametrize("name", list(SMALL))
def test_flows_follow_their_condition(name: str, kind: str) -> None:
    spec, event = SMALL[name]
    torch.manual_seed(0)
    flow = registry.create("flow", spec, event, CLASSES if kind == "labels" else (2,))
    embeddings = [module for module in flow.modules() if isinstance(module, ConditionEmbedding)]
    assert embeddings
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    for step in range(60):
        optimiser.zero_grad()
        (-flow(*distribution(kind, event, 128, step)).mean()).backward()
        optimiser.step()
    for embedding in embeddings:  # the last gradients; the first are zero where the last layer is
        grads = [p.grad for p in embedding.parameters() if p.grad is not None]
        assert any(float(g.abs().max()) > 0 for g in grads) and all(bool(g.isfinite().all()) for g in grads)

    flow.eval()
    x, _ = distribution(kind, event, 1, 99)
    each = given(kind, torch.arange(CLASSES))
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        samples = flow.sample(200, each, g)
        assert samples.shape == (200, CLASSES, *event)
        assert flow.sample(5, each[0], g).shape == (5, *event)
        means = samples.flatten(2).mean((0, 2))
        # 4 apart in truth, 0 with a standard error of at most 0.2 where the condition says nothing
        assert float(means[2] - means[0]) > 1, means
        rows = samples[:50]
        own, other = flow.log_prob(rows, each, g), flow.log_prob(rows, each.flip(0), g)
        assert own.shape == (50, CLASSES)
        # the outer conditions change places, 8 deviations for every element in truth
        assert float((own - other)[:, [0, 2]].mean()) > 1
        assert flow.log_prob(x[0], each, g).shape == (CLASSES,)

    wrong = {
        "labels": [torch.zeros(1), torch.tensor([CLASSES]), torch.tensor(-2), {"label": torch.tensor([0])}],
        "numbers": [torch.zeros(3), torch.zeros(1, 3), {"c": torch.zeros(1, 2)}],
    }
    for condition in wrong[kind]:
        with pytest.raises(ValueError, match="condition: expected"):
            flow.log_prob(x, condition)
        with pytest.raises(ValueError, match="condition: expected"):
            flow.sample(2, condition)
