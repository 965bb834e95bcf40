"""The mass of a density: its integral over all space, which should be 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..manifolds import Manifold
from ..metrics import KernelDensity, fit_gaussian, importance
from ..metrics.baselines.manifold_kernels import Density, ManifoldKernels, OnChart
from ..random import uniform
from ..sources import ManifoldBase, Source
from ..tensors import Condition, take_condition
from .baselines import QUERIES, Baseline, usable
from .budget import LOOSE_EVALUATIONS
from .densities import EXACT_SIZE, is_exact, log_prob
from .formatting import Value, pair, percent
from .loaded_run import LoadedRun

#: Draws of the proposal, how many between looks at the clock, the fewest that are worth it, and the
#: model's own samples that its reach is seen by.
DRAWS, PART, LEAST, SAMPLES = 1000, 250, 300, 200
#: What the draws are called.
NAME = "draws that measure the mass"
#: Rows that the proposal is fitted to, and parts of them that choose the width of its kernels.
FITTED, FOLDS = 1000, 5
#: Effective draws that an estimate takes, and samples beyond the reach of the proposal that it allows.
EFFECTIVE, BEYOND = 100, 0.05
#: How many times as wide as the data the Gaussians are that make tails of the proposal.
WIDER = (1.5, 3.0, 6.0)


@dataclass(frozen=True)
class Mass:
    """The mass of a density, its standard error, and how far both can be relied on.

    draws: of the proposal.  effective: how many draws of the density they are worth.
    beyond: the share of the model's samples where its density is higher, by the proposal's, than at any draw.
    """

    value: float
    error: float
    draws: int
    effective: float
    beyond: float

    @property
    def reliable(self) -> bool:
        """Whether the estimate can be relied on."""
        return self.effective >= EFFECTIVE and self.beyond <= BEYOND

    @property
    def sentence(self) -> str:
        """What is said of it."""
        size = f"an effective sample size of {self.effective:,.0f}"
        how = f"importance sampling with {self.draws:,} draws, {size}"
        if self.reliable:
            return f"Mass of the density: {pair(Value(self.value, self.error))} (1 is right), by {how}."
        why = f"{EFFECTIVE} are needed"
        if self.effective >= EFFECTIVE:
            why = f"{percent(self.beyond)} of the samples lie where none of the draws reach"
        return f"Mass of the density: it cannot be told by {how}; {why}."

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.__dict__, "told": self.reliable}


def measure_mass(loaded: LoadedRun, baselines: list[Baseline]) -> Mass | None:
    """The mass E_q[p(x) / q(x)] of the model's density p with draws of a wide proposal q.

    Under conditions it is the mean of the masses under those of held-out rows.  Weights that no draw shows
    leave no trace in the standard error, hence the look at samples of the model.  None where log-densities
    are estimates, or the network is too slow for :data:`LEAST` draws.
    """
    if not is_exact(loaded):
        return None
    slopes = 2.5 * min(loaded.size, EXACT_SIZE)
    count = loaded.budget.affordable(NAME, DRAWS, 0.12, (1 + slopes) * LOOSE_EVALUATIONS, 0)
    if count < LEAST:
        return None
    proposal = _proposal(loaded, baselines)
    given = loaded.condition(loaded.test, count)
    x = proposal.draw(count, given, loaded.generator("mass draws")).to(loaded.train.x.dtype)
    weights = torch.cat(
        [
            _log_weights(loaded, proposal, x[index], take_condition(given, index))
            for index in loaded.budget.parts(NAME, count, PART, 0.12)
        ]
    )
    count = len(weights)
    if count < LEAST:
        return None
    seen = min(SAMPLES, len(loaded.drawn.x))
    given = take_condition(loaded.sampled_condition, slice(seen))
    own = _log_weights(loaded, proposal, loaded.drawn.x[:seen], given)
    found = importance(weights)
    value = math.exp(found.log_evidence)
    beyond = float((own > weights.max()).double().mean())
    return Mass(value, value * found.error, count, found.share * count, beyond)


@dataclass(frozen=True)
class Proposal:
    """A mixture of densities under ``weights`` ``(K,)``."""

    parts: list[Baseline]
    weights: Tensor

    def draw(self, count: int, given: Condition | None, generator: torch.Generator) -> Tensor:
        """Rows ``(count, *event)`` in float64, under the conditions of each."""
        chosen = uniform((count,), generator, torch.float64) * self.weights.sum()
        chosen = torch.searchsorted(self.weights.cumsum(0), chosen).clamp(max=len(self.parts) - 1)
        # the conditions are those that the baselines were fitted with, which their types cannot say
        drawn = [part.source.sample(count, given, generator).double() for part in self.parts]  # pyright: ignore
        return torch.stack(drawn)[chosen, torch.arange(count)]

    def log_prob(self, x: Tensor, given: Condition | None) -> Tensor:
        """Log-densities ``(n,)`` of rows ``(n, *event)``."""
        each = torch.stack([part.log_prob(x, given) for part in self.parts], 1)
        return (each + (self.weights / self.weights.sum()).log()).logsumexp(1)


def _proposal(loaded: LoadedRun, baselines: list[Baseline]) -> Proposal:
    """The baselines, densities of the model's own samples, and Gaussians of the data that are far wider."""
    if loaded.manifold is not None:
        return _on_manifold(loaded, loaded.manifold, baselines)
    rows = loaded.subset(loaded.train, FITTED, "proposal")
    x, given = rows.x.double(), loaded.condition(rows)
    if loaded.tabular:
        x = x.clamp(*loaded.scale.span)
    centre = x.mean(0)
    own, asked = loaded.drawn.x[:FITTED].double(), take_condition(loaded.sampled_condition, slice(FITTED))
    found = [(baseline, 1.0) for baseline in baselines]

    def add(weight: float, fit: Callable[..., Source | KernelDensity], *arguments: Any) -> None:
        with suppress(ValueError):  # a part that cannot be fitted to these rows
            found.append((Baseline(f"part {len(found)}", "", "", fit(*arguments)), weight))

    add(1.0, fit_gaussian, own, asked)
    if asked is None or loaded.labelled:
        generator = loaded.generator("proposal kernels")
        add(2.0, KernelDensity, own, "exponential", asked, FOLDS, QUERIES, generator)
    for wide in WIDER:
        add(0.5, fit_gaussian, centre + wide * (x - centre), given)
    able = usable([part for part, _ in found], loaded.test.x.double(), loaded.condition(loaded.test))
    kept = [(part, weight) for part, weight in found if part.key in able]
    weights = torch.tensor([weight for _, weight in kept], dtype=torch.float64)
    return Proposal([part for part, _ in kept], weights)


def _on_manifold(loaded: LoadedRun, manifold: Manifold, baselines: list[Baseline]) -> Proposal:
    """The baselines, kernels about the model's own samples, and a wider base where that is not uniform."""
    assert loaded.outer is not None
    chart = loaded.outer.bijection
    parts, weights = list(baselines), [1.0] * len(baselines)

    def add(weight: float, density: Density) -> None:
        parts.append(Baseline(f"part {len(parts)}", "", "", OnChart(density, chart)))
        weights.append(weight)

    if manifold.log_volume is None:
        add(1.0, ManifoldBase(manifold, 2.0).double())
    with suppress(ValueError):  # a manifold without a kernel
        own = chart.inverse(loaded.drawn.x[:FITTED].double())
        add(2.0, ManifoldKernels(manifold, own, generator=loaded.generator("proposal kernels")))
    return Proposal(parts, torch.tensor(weights, dtype=torch.float64))


def _log_weights(loaded: LoadedRun, proposal: Proposal, x: Tensor, given: Condition | None) -> Tensor:
    """log p(x) - log q(x) of rows in data units; -inf where the model has no density."""
    y, _ = loaded.sampler.inwards(x, loaded.generator("mass"))
    inside = y.reshape(len(y), -1).isfinite().all(1).cpu()
    found = torch.full((len(x),), -torch.inf, dtype=torch.float64)
    mine = take_condition(given, inside.nonzero()[:, 0])
    found[inside] = log_prob(loaded, x[inside], mine, 1.0, "mass", strict=False)[0]
    if bool(found.isnan().any()):
        raise ValueError(f"{int(found.isnan().sum()):,} of {len(x):,} draws have no log-density")
    return found - proposal.log_prob(x, given)
