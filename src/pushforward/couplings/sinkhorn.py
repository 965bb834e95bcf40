"""Minibatch optimal transport with the entropic plan."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..plans import EntropicPlan, sinkhorn
from ..plans.cost import squared_distances
from .base import Coupling, Pairing, Rows, as_rows

#: Entries of the costs of plans that are solved together.
TOGETHER = 2**24


class SinkhornOT(Coupling):
    """The entropic optimal-transport plan of the batch for the cost C_ij = |x0_i - x1_j|^2.

    min over plans P of sum_ij P_ij C_ij + epsilon KL(P | a b^T) (Cuturi 2013, arXiv 1306.0895).  Each source
    row is used once, with a partner drawn from P(j | i).  With ``relative`` the regularisation is
    ``epsilon`` times the standard deviation of the batch's costs, which no offset or scale of the data
    changes (Zhang et al. 2025, arXiv 2506.05526); without it is in the units of C: the Schroedinger bridge of
    sigma dW between the batches takes 2 sigma^2 (Tong et al. 2024, arXiv 2302.00482, section 3.2.4).

    ``tolerance`` is on the L1 error of the marginals; a plan that misses it after ``max_iterations`` is used
    with a UserWarning, given once.  Weights of the target count in the plan; those of the source weigh the
    pairs.  ``info`` of a pairing holds the plan's ``cost``, its ``entropy`` (0 for a permutation, 1 for
    independent rows), ``marginal_error`` and ``converged``.

    Raises ValueError for an epsilon, tolerance or number of iterations that is not positive.

    >>> x0, x1 = SinkhornOT()(torch.tensor([[0.0], [9.0]]), torch.tensor([[9.1], [0.1]]))
    >>> x1.squeeze()
    tensor([0.1000, 9.1000])
    """

    def __init__(
        self,
        epsilon: float = 0.05,
        relative: bool = True,
        tolerance: float = 1e-3,
        max_iterations: int = 10_000,
    ):
        positive(epsilon=epsilon, tolerance=tolerance, max_iterations=max_iterations)
        self.epsilon, self.relative = float(epsilon), relative
        self.tolerance, self.max_iterations = float(tolerance), max_iterations
        self._warned = False

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        return self.pair_many([source], [target], [generator])[0]

    def pair_many(
        self,
        sources: Sequence[Rows | Tensor],
        targets: Sequence[Rows | Tensor],
        generators: Sequence[torch.Generator | None],
    ) -> list[Pairing]:
        batches = list(zip(map(as_rows, sources), map(as_rows, targets), generators, strict=True))
        pairings: dict[int, Pairing] = {}
        by_shape: dict[tuple[int, int], list[int]] = {}
        for k, (source, target, _) in enumerate(batches):
            by_shape.setdefault((len(source), len(target)), []).append(k)
        for (n, m), places in by_shape.items():
            count = max(1, TOGETHER // max(1, n * m))
            for start in range(0, len(places), count):
                some = places[start : start + count]
                pairings.update(zip(some, self._together([batches[k] for k in some]), strict=True))
        return [pairings[k] for k in range(len(batches))]

    def _together(self, batches: Sequence[tuple[Rows, Rows, torch.Generator | None]]) -> list[Pairing]:
        """Pair batches of equal lengths."""
        cost = torch.stack([costs(source, target) for source, target, _ in batches])
        weights = [
            (weight_of("source.weight", source), weight_of("target.weight", target))
            for source, target, _ in batches
        ]
        a, b = (
            torch.stack([cost.new_ones(rows) if w is None else w.to(cost) for w in side])
            for rows, side in zip(cost.shape[1:], zip(*weights))
        )
        plan = sinkhorn(
            cost,
            self.epsilon * unit(cost, self.relative),
            a,
            b,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        self._warned = self._warned or warn_of(plan)
        partners = plan.partners([generator for _, _, generator in batches])
        index = torch.arange(cost.shape[1], device=cost.device)
        return [
            Pairing(
                torch.stack([index, columns], 1), None if weight is None else weight / weight.mean(), info
            )
            for columns, (weight, _), info in zip(partners, weights, figures(plan), strict=True)
        ]


def positive(**values: float) -> None:
    """Raise ValueError for a value that is not a positive finite number."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive finite number, got {value}")


def costs(source: Rows, target: Rows) -> Tensor:
    """|x0_i - x1_j|^2 over the elements both rows have, in the precision of the points, at least single."""
    cost = squared_distances(source.x.detach(), target.x.detach(), source.mask, target.mask)
    if not bool(cost.isfinite().all()):
        raise ValueError("source, target: expected finite values")
    return cost.to(torch.promote_types(target.x.dtype, torch.float32))


def unit(cost: Tensor, relative: bool) -> Tensor:
    """What epsilon is a multiple of, for each of the costs ``(plans, n, m)``: their deviation, or 1."""
    if not relative:
        return cost.new_ones(len(cost))
    spread = cost.flatten(1).std(1, correction=0)
    # where all costs are equal so are all plans
    return torch.where(spread > 0, spread, 1.0)


def weight_of(name: str, rows: Rows) -> Tensor | None:
    """The weights of ``rows`` where they have some.  Raises ValueError for unusable ones."""
    weight = rows.weight
    if weight is None:
        return None
    usable = weight.shape == (len(rows),) and bool(((weight >= 0) & weight.isfinite()).all())
    if not usable or not bool((weight > 0).any()):
        raise ValueError(f"{name}: expected {len(rows)} finite non-negative weights, not all of them zero")
    return weight


def figures(plan: EntropicPlan) -> list[dict[str, Any]]:
    """What a batch of plans says about itself, plan by plan."""
    cost, entropy = plan.figures()
    columns = {
        "cost": cost,
        "entropy": entropy,
        "marginal_error": plan.marginal_error,
        "converged": plan.converged,
    }
    lists = {name: column.tolist() for name, column in columns.items()}
    return [{name: values[k] for name, values in lists.items()} for k in range(len(cost))]


def warn_of(plan: EntropicPlan) -> bool:
    """Warn of plans that are further from their marginals than wanted; whether there are any."""
    worst = float(plan.marginal_error.max())
    if bool(plan.converged.all()):
        return False
    warnings.warn(
        f"an entropic plan is {worst:.2g} away from its marginals after {int(plan.iterations.max())} "
        "iterations and is used as it is; raise epsilon, max_iterations or tolerance",
        UserWarning,
        stacklevel=2,
    )
    return True
