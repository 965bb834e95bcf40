"""A joint table of tokens, whose discrete flow is known in closed form."""

from __future__ import annotations

import string
from typing import Any

import torch
from torch import Tensor, nn

from ..paths import TokenPath, TokenPoints
from ..tensors import Condition

#: States of which all quantities are computed, at most.
MOST = 4096


class TokenTable:
    r"""Discrete flow matching to a table of probabilities, exact on all states.

    Given a data point x1, every token of x_t is that of x1 with probability t, else drawn from ``source``:

    .. math:: p_t(x^i | x_1) = (1 - t)\, p_0(x^i) + t\, \delta(x^i, x_1^i)

    A token jumps from x^i to y with the rate [p(x1^i = y | x_t = x) - delta(y, x^i)] / (1 - t) (Gat et al.
    2024, arXiv 2407.15595; Campbell et al. 2024, arXiv 2402.04997).  All results are float64; the n tokens of
    a state are from an alphabet of A, the states of x_t are (A, ..., A).

    table: probabilities ``(K, ..., K)`` of data of n tokens, divided by their sum.
    source: probabilities ``(A,)`` of a token of the source, A >= K; by default all is on one more token, the
        mask, A = K + 1.

    Raises ValueError for a table that is no joint distribution of tokens of one alphabet, a source of fewer
    tokens, and more than 4,096 states.

    >>> table = TokenTable(torch.tensor([0.5, 0.3, 0.2]))
    >>> table.probs(0.5)
    tensor([0.2500, 0.1500, 0.1000, 0.5000], dtype=torch.float64)
    """

    def __init__(self, table: Any, source: Any = None):
        self.table = _distribution(table, "table")
        sizes = set(self.table.shape)
        if len(sizes) != 1:
            raise ValueError(f"table: expected shape (K, ..., K), got {tuple(self.table.shape)}")
        self.tokens, self.size = self.table.ndim, self.table.shape[0]
        mask = torch.eye(self.size + 1, dtype=torch.float64)[-1]
        self.source = mask if source is None else _distribution(source, "source")
        self.alphabet = len(self.source)
        if self.source.ndim != 1 or self.alphabet < self.size:
            raise ValueError(
                f"source: expected at least {self.size} probabilities, got shape {tuple(self.source.shape)}"
            )
        if self.alphabet**self.tokens > MOST:
            raise ValueError(f"table: expected at most {MOST} states, got {self.alphabet}^{self.tokens}")

    def kernel(self, t: float | Tensor) -> Tensor:
        """p_t(a | k) ``(K, A)``, a token of x_t given that of the data."""
        return (1 - t) * self.source + t * torch.eye(self.size, self.alphabet, dtype=torch.float64)

    def _carried(self, t: float | Tensor, kept: int | None = None) -> Tensor:
        """The table with every dimension but ``kept`` taken to x_t."""
        kernel, found = self.kernel(t), self.table
        for i in range(self.tokens):
            if i != kept:
                found = (found.movedim(i, -1) @ kernel).movedim(-1, i)
        return found

    def probs(self, t: float | Tensor) -> Tensor:
        """p_t of all states, ``(A, ..., A)``."""
        return self._carried(t)

    def posterior(self, t: float | Tensor) -> Tensor:
        """p(x1^i = k | x_t = x), ``(n, A, ..., A, K)``; zeros for a state that does not occur at ``t``."""
        kernel, p = self.kernel(t), self.probs(t)
        letters = string.ascii_lowercase[: self.tokens]
        found = []
        for i, here in enumerate(letters):
            others = letters.replace(here, "z")
            joint = torch.einsum(f"{others},z{here}->{letters}z", self._carried(t, kept=i), kernel)
            found.append(joint)
        occurs = (p > 0)[..., None]
        return torch.where(occurs, torch.stack(found) / torch.where(p > 0, p, 1.0)[..., None], 0.0)

    def rates(self, t: float, corrector: float = 0.0) -> Tensor:
        """Rates between all states, ``(A^n, A^n)`` from row to column, 0 < t < 1; its rows sum to 0.

        They solve the Kolmogorov equation dp_t/dt = p_t Q.  ``corrector`` c adds c times the sum of the rates
        forwards and those of the reversed process, which leaves p_t as it is.  Only states that occur have
        rates.

        Raises ValueError for a time that is not inside (0, 1).
        """
        _check_inside(t)
        p, posterior = self.probs(t), self.posterior(t)
        states, A = p.numel(), self.alphabet
        at = torch.arange(states).reshape(p.shape)
        found = torch.zeros(states, states, dtype=torch.float64)
        for i in range(self.tokens):
            own = torch.eye(A, dtype=torch.float64).reshape(
                *[A if j == i else 1 for j in range(self.tokens)], A
            )
            padded = torch.nn.functional.pad(posterior[i], (0, A - self.size))
            forwards = (padded - own) / (1 - t)
            backwards = (self.source - own) / t
            speeds = (1 + corrector) * forwards + corrector * backwards
            speeds = torch.where((p > 0)[..., None], speeds, 0.0)
            to = at.movedim(i, -1).unsqueeze(i).expand(*p.shape, A)
            found[at[..., None].expand_as(to).flatten(), to.flatten()] += speeds.flatten()
        return found

    def loss(self, t: float) -> float:
        """The expected generalised KL divergence at ``t``, summed over tokens, 0 < t < 1, in nats.

        -[p(x_t^i | x_t) - delta + (1 - delta) log p(x1^i | x_t)] / (1 - t), delta = 1 where x1^i is x_t^i.
        Its integral over t bounds the cross entropy of the data from above.  For the mask it is their
        entropy; for other sources it is more, also for the exact posterior.

        Raises ValueError for a time that is not inside (0, 1).
        """
        _check_inside(t)
        p, posterior, total = self.probs(t), self.posterior(t), 0.0
        same = torch.eye(self.alphabet, self.size, dtype=torch.float64)
        for i in range(self.tokens):
            likely = posterior[i]
            delta = same.reshape(*[self.alphabet if j == i else 1 for j in range(self.tokens)], self.size)
            stays = (likely * delta).sum(-1, keepdim=True)
            missing = (1 - delta) * torch.where(likely > 0, likely, 1.0).log()
            total -= float((p[..., None] * likely * (stays - delta + missing)).sum()) / (1 - t)
        return total


class TokenOracle(nn.Module):
    """The exact posterior of a table of tokens along any path of tokens or to their points, as a field.

    ``oracle(t, x)`` is log p(x1^i = k | x_t = x) ``(B, n, K)``, in float64, at a scalar ``t`` or ``(B,)``.

    table: probabilities ``(K, ..., K)`` of events ``(n,)``.  Raises ValueError for one that is no joint
    distribution, and where its size is not that of the path.

    >>> from pushforward.paths import MaskedTokens
    >>> oracle = TokenOracle(torch.tensor([0.5, 0.3, 0.2]), MaskedTokens(3))
    >>> oracle(torch.tensor(0.5), torch.tensor([[3], [1]])).exp()
    tensor([[[0.5000, 0.3000, 0.2000]],
    <BLANKLINE>
            [[0.0000, 1.0000, 0.0000]]], dtype=torch.float64)
    """

    table: Tensor

    def __init__(self, table: Any, path: TokenPath | TokenPoints):
        super().__init__()
        self.register_buffer("table", TokenTable(table).table)
        self.path = path
        if len(self.table) != path.size:
            raise ValueError(f"table: expected {path.size} values a token, got {len(self.table)}")

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        likelihood = self.path.log_likelihood(torch.as_tensor(t, dtype=torch.float64), x)
        joint, n = self.table.log().expand(len(x), *self.table.shape), self.table.ndim
        for i in range(n):
            joint = joint + likelihood[:, i].reshape(len(x), *[-1 if j == i else 1 for j in range(n)])
        found = [joint.movedim(i + 1, -1).flatten(1, -2).logsumexp(1) if n > 1 else joint for i in range(n)]
        return torch.stack(found, 1).log_softmax(-1)


def _check_inside(t: float) -> None:
    """Rates are infinite at the ends."""
    if not 0 < t < 1:
        raise ValueError(f"t: expected a time inside (0, 1), got {t}")


def _distribution(values: Any, name: str) -> Tensor:
    """Non-negative numbers divided by their sum, or a ValueError."""
    found = torch.as_tensor(values, dtype=torch.float64)
    if found.ndim == 0 or not bool((found.isfinite() & (found >= 0)).all()) or not bool(found.sum() > 0):
        raise ValueError(f"{name}: expected non-negative numbers, not all zero, got {found.tolist()}")
    return found / found.sum()
