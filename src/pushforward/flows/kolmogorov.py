"""The probabilities of all states of a flow of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..paths import TokenPath
from ..solvers import ODE, Dopri5

#: States of which all probabilities are computed, at most.
MOST_STATES = 4096
#: Errors of a step, and probabilities of states that are left out of the last draw.
RTOL, ATOL, LEAST = 1e-7, 1e-9, 1e-15
#: Numbers of the last draw that are held at once.
HELD = 2**22


def count_states(path: TokenPath, tokens: int) -> int:
    """States of x_t of so many tokens, or one more than :data:`MOST_STATES` where there are more."""
    large = tokens * math.log(path.values) > math.log(MOST_STATES) + 1e-9
    return MOST_STATES + 1 if large else path.values**tokens


@torch.no_grad()
def state_probs(posterior: Callable[[Tensor, Tensor], Tensor], path: TokenPath, tokens: int) -> Tensor:
    """p_1 of all states ``(K, ..., K)`` of so many tokens, float64: dp/dt = p Q, from the source to t = 1.

    ``posterior(t, x)`` is log p(x1 | x_t = x) ``(S, tokens, K)`` of the states x ``(S, tokens)``.  The time
    that the equation is solved in is -log(1 - t), in which rates are bounded; at the last time of the path
    what is left is drawn from the posterior.
    """
    A, K = path.values, path.size
    x = torch.cartesian_prod(*[torch.arange(A)] * tokens).reshape(-1, tokens)
    steps = A ** torch.arange(tokens - 1, -1, -1)
    own = (x * steps).sum(1)
    to = own[:, None, None] + (torch.arange(A) - x[..., None]) * steps[:, None]
    p0 = path.start[x].prod(1)

    def slope(tau: Tensor, p: Tensor) -> Tensor:
        left = (-tau).exp()
        t = 1 - left
        rates = left * path.rates(t, x, posterior(t, x).double())
        rates = rates.scatter(-1, x[..., None], 0.0)
        flows = p[:, None, None] * rates
        return torch.zeros_like(p).index_add(0, to.flatten(), flows.flatten()) - flows.sum((1, 2))

    solver = Dopri5(rtol=RTOL, atol=ATOL, max_steps=100_000)
    end = -math.log(1 - path.last)
    p = solver.solve(ODE(slope, batched=False), p0, 0.0, end).check().x
    kept = p > LEAST
    p, x = p[kept], x[kept]
    last = posterior(torch.tensor(path.last, dtype=torch.float64), x).double().exp()
    found = torch.zeros(K**tokens, dtype=torch.float64)
    for part in torch.arange(len(p)).split(max(1, HELD // K**tokens)):
        joint = p[part][:, None]
        for i in range(tokens):
            joint = (joint[..., None] * last[part, i][:, None]).flatten(1)
        found += joint.sum(0)
    return found.reshape([K] * tokens)
