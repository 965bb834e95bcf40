"""An entropic transport plan, kept as two potentials."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import random

#: Entries of a plan that exist at one time.
CHUNK = 2**22


@dataclass(frozen=True)
class Ended:
    """How the search of an entropic plan, or of a batch of them, ended.

    iterations: ``(*batch,)``, how often both potentials were updated.
    marginal_error: ``(*batch,)``, the L1 distance of the columns' masses from what they should be, as a
        share of the total; the rows' masses are right by construction.
    converged: ``(*batch,)``, whether that is within the tolerance.
    """

    iterations: Tensor
    marginal_error: Tensor
    converged: Tensor

    def __getitem__(self, k: int | None) -> Ended:
        """Of plan ``k`` of a batch; None makes a batch of one."""
        return Ended(self.iterations[k], self.marginal_error[k], self.converged[k])


@dataclass(frozen=True)
class EntropicPlan:
    """P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon), for one plan or a batch of them.

    f, g: potentials ``(*batch, n)`` and ``(*batch, m)``, in the units of the cost.
    cost: ``(*batch, n, m)``.  a, b: masses of the rows, ``(*batch, n)`` and ``(*batch, m)``.
    epsilon: ``(*batch,)``, the regularisation in the units of the cost.
    log_rows: ``(*batch, n)``, the logarithm of the mass sum_j P_ij of each row: far apart, where little is
        worth moving at all, the masses themselves may be smaller than any number.
    ended: how its search ended.

    The plan itself is computed when asked for; figures and draws take it a block of rows at a time.
    """

    f: Tensor
    g: Tensor
    cost: Tensor
    a: Tensor
    b: Tensor
    epsilon: Tensor
    log_rows: Tensor
    ended: Ended

    @property
    def iterations(self) -> Tensor:
        """``(*batch,)``, see :class:`Ended`."""
        return self.ended.iterations

    @property
    def marginal_error(self) -> Tensor:
        """``(*batch,)``, see :class:`Ended`."""
        return self.ended.marginal_error

    @property
    def converged(self) -> Tensor:
        """``(*batch,)``, see :class:`Ended`."""
        return self.ended.converged

    def __getitem__(self, k: int | None) -> EntropicPlan:
        """Plan ``k`` of a batch; None makes a batch of one."""
        return EntropicPlan(**{name: value[k] for name, value in vars(self).items()})

    def log_plan(self) -> Tensor:
        """log P ``(*batch, n, m)``; -inf where a row or a column has no mass."""
        exponent = (self.f.unsqueeze(-1) + self.g.unsqueeze(-2) - self.cost) / self.epsilon[..., None, None]
        return exponent + self.a.log().unsqueeze(-1) + self.b.log().unsqueeze(-2)

    @property
    def rows(self) -> Tensor:
        """The mass sum_j P_ij of each row, ``(*batch, n)``."""
        return self.log_rows.exp()

    def mass(self) -> Tensor:
        """sum_ij P_ij, ``(*batch,)``: 1 for balanced plans, and 0 where it is smaller than any number."""
        return self.log_rows.logsumexp(-1).exp()

    def figures(self) -> tuple[Tensor, Tensor]:
        """The mean cost sum_ij P_ij C_ij / sum_ij P_ij and the entropy of the plan, ``(*batch,)`` each.

        The entropy is H(j | i) / H(j), which is H(P) / log n - 1 for n rows of equal masses on both sides:
        0 for a permutation, 1 for independent rows.
        """
        n, m = self.cost.shape[-2:]
        share = self.log_rows.softmax(-1).reshape(-1, n)
        cost, within = self.cost.new_zeros(2, len(share))
        columns = self.cost.new_zeros(len(share), m)
        for k, block, conditional, block_cost in self._blocks():
            weight = share[k, block]
            columns[k] += weight @ conditional
            within[k] += weight @ torch.special.entr(conditional).sum(-1)
            cost[k] += weight @ (conditional * block_cost).sum(-1)
        total = torch.special.entr(columns).sum(-1)
        # a single column has nothing to be uncertain about
        entropy = torch.where(total > 0, within / total, 0.0)
        return cost.reshape(self.epsilon.shape), entropy.reshape(self.epsilon.shape)

    def entropy(self) -> Tensor:
        """The normalised entropy of :meth:`figures`."""
        return self.figures()[1]

    def partners(self, generator: torch.Generator | Sequence[torch.Generator | None] | None = None) -> Tensor:
        """For each row i a column drawn from P(j | i), ``(*batch, n)`` int64.

        One generator for the whole batch or one for each plan.
        """
        n = self.cost.shape[-2]
        plans = self.epsilon.numel()
        each = (
            [generator] * plans if generator is None or isinstance(generator, torch.Generator) else generator
        )
        assert len(each) == plans
        device = self.cost.device
        u = torch.stack([random.uniform((n,), g, torch.float64).to(device) for g in each])
        drawn = torch.empty(u.shape, dtype=torch.int64, device=device)
        for k, block, conditional, _ in self._blocks():
            cumulative = conditional.double().cumsum(-1)
            level = u[k, block, None] * cumulative[:, -1:]
            drawn[k, block] = torch.searchsorted(cumulative, level, right=True).squeeze(-1)
        # rounding may lift a level to the total, behind the last column
        return drawn.clamp_(max=self.cost.shape[-1] - 1).reshape(self.log_rows.shape)

    def pairs(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, 2)`` pairs drawn from the normalised plan, which must not be a batch.

        Each pair has the plan's distribution; rows are spread as evenly as their masses allow.
        """
        assert self.epsilon.ndim == 0, "pairs are drawn from one plan"
        cumulative = self.log_rows.double().softmax(0).cumsum(0)
        device = self.cost.device
        start = random.uniform((1,), generator, torch.float64).to(device)
        level = (torch.arange(count, device=device) + start) / count * cumulative[-1]
        row = torch.searchsorted(cumulative, level, right=True).clamp(max=len(cumulative) - 1)
        of_row = {name: getattr(self, name)[row] for name in ("f", "a", "log_rows", "cost")}
        taken = replace(self, **of_row)
        return torch.stack([row, taken.partners(generator)], 1)

    def _blocks(self) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """Blocks of rows, plan by plan: (plan, rows, P(j | i), C_ij)."""
        n, m = self.cost.shape[-2:]
        cost, g, b = self.cost.reshape(-1, n, m), self.g.reshape(-1, m), self.b.reshape(-1, m)
        epsilon = self.epsilon.reshape(-1)
        size = max(1, CHUNK // m)
        for k in range(len(cost)):
            for start in range(0, n, size):
                block = slice(start, min(n, start + size))
                logits = (g[k] - cost[k, block]) / epsilon[k] + b[k].log()
                yield k, block, logits.softmax(-1), cost[k, block]


def warn_of(plan: EntropicPlan, stacklevel: int = 3) -> bool:
    """Warn of plans that are further from their marginals than wanted; whether there are any."""
    if bool(plan.converged.all()):
        return False
    warnings.warn(
        f"an entropic plan is {float(plan.marginal_error.max()):.2g} away from its marginals after "
        f"{int(plan.iterations.max())} iterations and is used as it is; raise epsilon, max_iterations or "
        "tolerance, or take the exact plan",
        UserWarning,
        stacklevel=stacklevel,
    )
    return True
