"""Minibatch optimal transport with the entropic plan."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from ..plans import EntropicPlan, Scaling, sinkhorn
from ..plans.cost import check_table, moved_together, squared_distances
from ..plans.entropic import warn_of
from ..rows import Rows, both_sides, masses_of
from .base import Coupling, Pairing

#: Entries of the costs of plans that are solved together.
TOGETHER = 2**24


class SinkhornOT(Coupling):
    """The entropic optimal-transport plan of the batch for the cost C_ij = |x0_i - x1_j|^2.

    min over plans P of sum_ij P_ij C_ij + epsilon KL(P | a b^T) (Cuturi 2013, arXiv 1306.0895).  Each source
    row is used once, with a partner drawn from P(j | i).  With ``relative`` the regularisation is ``epsilon``
    times the standard deviation of the costs after both sides are moved to one mean; the plan then does not
    depend on offsets or the scale of the data (Zhang et al. 2025, arXiv 2506.05526).  Without ``relative`` it
    is in the units of C: the Schroedinger bridge of sigma dW between the batches takes 2 sigma^2 (Tong et al.
    2024, arXiv 2302.00482, section 3.2.4).

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

    @classmethod
    def along_bridge(cls, sigma: float, given: Collection[str]) -> dict[str, Any]:
        return {} if "epsilon" in given else {"epsilon": 2 * sigma**2, "relative": False}

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
        batches = [
            (*both_sides(source, target), generator)
            for source, target, generator in zip(sources, targets, generators, strict=True)
        ]
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
        dtype = torch.promote_types(batches[0][1].x.dtype, torch.float32)
        near = [_balanced_costs(source, target) for source, target, _ in batches]
        unit = [spread(source, target) if self.relative else 1.0 for source, target, _ in batches]
        cost = torch.stack([table for table, _ in near]).to(dtype)
        weights = [masses_of(source, target) for source, target, _ in batches]
        a, b = (
            torch.stack([cost.new_full((rows,), 1 / rows) if w is None else w.to(cost) for w in side])
            for rows, side in zip(cost.shape[1:], zip(*weights))
        )
        plan = sinkhorn(
            cost,
            self.epsilon * cost.new_tensor(unit),
            a,
            b,
            scaling=Scaling(tolerance=self.tolerance, max_iterations=self.max_iterations),
        )
        self._warned = self._warned or warn_of(plan)
        partners = plan.partners([generator for _, _, generator in batches])
        index = torch.arange(cost.shape[1], device=cost.device)
        return [
            Pairing(
                torch.stack([index, columns], 1),
                None if source.weight is None else source.weight / source.weight.mean(),
                {**info, "cost": info["cost"] + taken},
            )
            for columns, (source, _, _), info, (_, taken) in zip(
                partners, batches, figures(plan), near, strict=True
            )
        ]


def positive(**values: float) -> None:
    """Raise ValueError for a value that is not a positive finite number."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive finite number, got {value}")


def costs(source: Rows, target: Rows) -> Tensor:
    """|x0_i - x1_j|^2 over the elements both rows have, float64.

    Raises ValueError for values that are not finite, and rows whose table takes more than 256 MiB.
    """
    check_table("source, target", len(source), len(target), "pair fewer rows at a time, or take `ot`")
    try:
        return squared_distances(source.x.detach(), target.x.detach(), source.mask, target.mask)
    except ValueError as error:
        raise ValueError(f"source, target: {str(error).removeprefix('x, y: ')}") from None


def _balanced_costs(source: Rows, target: Rows) -> tuple[Tensor, float]:
    """Costs with the same balanced plans as |x0_i - x1_j|^2, and the difference between the means of both.

    In single precision, rounding would leave nothing but the distance between two samples that lie far apart.
    """
    if source.mask is not None or target.mask is not None:
        return costs(source, target), 0.0
    x, y = (rows.x.detach().reshape(len(rows), -1).double() for rows in (source, target))
    first, second = moved_together(x, y)
    if first is x:
        return costs(source, target), 0.0
    a, b = (z.mean(0) if w is None else w.to(z) @ z for z, w in zip((x, y), masses_of(source, target)))
    p, q = (
        z.mean(0) if w is None else w.to(z) @ z for z, w in zip((first, second), masses_of(source, target))
    )
    return costs(Rows(first), Rows(second)), float((a - b).square().sum() - (p - q).square().sum())


def spread(source: Rows, target: Rows) -> float:
    """The deviation of |x0_i - x1_j|^2 over all pairs, after both sides are moved to one mean; 1 if it is 0.

    Rows count by their weights.  Of centred x and y it is var |x|^2 + var |y|^2 + 4 sum_kl cov(x)_kl
    cov(y)_kl.  With masks means are not moved, as each pair has elements of its own.
    """
    a, b = (
        torch.full((len(rows),), 1 / len(rows), dtype=torch.float64, device=rows.x.device)
        if w is None
        else w.to(rows.x.device)
        for rows, w in zip((source, target), masses_of(source, target))
    )
    if source.mask is not None or target.mask is not None:
        table = costs(source, target)
        variance = a @ (table - a @ table @ b).square() @ b
    else:
        x, y = (rows.x.detach().reshape(len(rows), -1).double() for rows in (source, target))
        x, y = x - a @ x, y - b @ y
        squares = x.square().sum(1), y.square().sum(1)
        variance = sum(w @ (s - w @ s).square() for w, s in zip((a, b), squares))
        variance = variance + 4 * (a @ (x @ y.T).square() @ b)
    # where all costs are equal so are all plans
    return float(variance.sqrt()) or 1.0


def figures(plan: EntropicPlan) -> list[dict[str, Any]]:
    """The figures of each plan of a batch."""
    cost, entropy = plan.figures()
    columns = {
        "cost": cost,
        "entropy": entropy,
        "marginal_error": plan.marginal_error,
        "converged": plan.converged,
    }
    lists = {name: column.tolist() for name, column in columns.items()}
    return [{name: values[k] for name, values in lists.items()} for k in range(len(cost))]
