"""Minibatch optimal transport with the exact plan."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .. import random
from .base import Coupling, Pairing, Rows, as_rows


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 in float64, ``(n, *event), (m, *event) -> (n, m)``.

    Both clouds are centred first, so that a common offset costs no accuracy.
    """
    x, y = x.reshape(len(x), -1).double(), y.reshape(len(y), -1).double()
    centre = 0.5 * (x.mean(0) + y.mean(0))
    x, y = x - centre, y - centre
    cost = x.square().sum(1)[:, None] + y.square().sum(1)[None, :]
    return torch.addmm(cost, x, y.T, alpha=-2.0).clamp_(min=0.0)


class MinibatchOT(Coupling):
    """The exact optimal-transport plan of the batch for the cost |x0 - x1|^2.

    min over plans pi of sum_ij pi_ij |x0_i - x1_j|^2 (Tong et al. 2024, arXiv 2302.00482, section 3.2.3;
    Pooladian et al. 2023, arXiv 2304.14772).  With as many rows on both sides and no weights the plan is
    a permutation and is used as one: every row once, none twice.  Otherwise as many pairs as the larger
    side has rows are drawn from the plan.

    >>> x0, x1 = MinibatchOT()(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.1], [0.1]]))
    >>> x1.squeeze()
    tensor([0.1000, 1.1000])
    """

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        source, target = as_rows(source), as_rows(target)
        device = source.x.device
        cost = squared_distances(source.x.detach(), target.x.detach()).cpu().numpy()
        if len(source) == len(target) and source.weight is None and target.weight is None:
            rows, columns = linear_sum_assignment(cost)
            indices = torch.from_numpy(np.stack([rows, columns], 1))
            return Pairing(indices.to(device), info={"cost": float(cost[rows, columns].mean())})
        import ot  # takes a second, and most plans are permutations

        masses = [
            np.full(len(r), 1.0) if r.weight is None else r.weight.double().cpu().numpy()
            for r in (source, target)
        ]
        plan = np.asarray(ot.emd(masses[0] / masses[0].sum(), masses[1] / masses[1].sum(), cost))
        count = max(len(source), len(target))
        u = random.uniform((count,), generator, torch.float64).cpu().numpy()
        chosen = np.searchsorted(np.cumsum(plan), u * plan.sum(), side="right").clip(max=plan.size - 1)
        indices = torch.from_numpy(np.stack(np.unravel_index(chosen, plan.shape), 1))
        return Pairing(indices.to(device), info={"cost": float((plan * cost).sum())})
