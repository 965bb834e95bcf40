"""Interpolated n-grams: the baseline of text and of other rows of tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ... import random
from ...nn.checks import check_count

#: Share of the rows that weights are fitted to, and passes of the fit.
SHARE, PASSES = 0.1, 60
#: Weights depend on how often a context was seen, by powers of two up to this one.
LEVELS = 32


class NGrams:
    r"""Tokens given the n - 1 before them, by how often they followed these, interpolated with shorter ones.

    .. math:: p_k(x | h) = \lambda_k p_{ML}(x | h) + (1 - \lambda_k) p_{k-1}(x | h')

    h' is the context h without its first token, and below p_1 stands the uniform distribution.  A weight is
    one for all contexts that were seen about equally often, and none of a context that was not seen.  They
    maximise the likelihood of rows that counts are taken without; then all rows are counted (Jelinek & Mercer
    1980).  What precedes a row is not known: its first tokens have shorter contexts.

    rows: ``(M, T)`` tokens below ``size``, of any length, such as stretches of a text.  order: n.

    Raises ValueError for fewer than two rows, and tokens that are not whole or out of range.

    >>> rows = torch.tensor([[0, 1, 0, 1, 0, 1, 0, 1]]).repeat(20, 1)
    >>> pairs = NGrams(rows, size=2, order=2)
    >>> pairs.log_prob(torch.tensor([[0, 1, 0, 1]])) > pairs.log_prob(torch.tensor([[0, 0, 1, 1]]))
    tensor([True])
    """

    def __init__(self, rows: Tensor, size: int, order: int, seed: int = 0):
        self.size, self.order = check_count("size", size, 2), check_count("order", order)
        tokens = self._tokens(rows)
        if len(tokens) < 2:
            raise ValueError(f"rows: expected at least 2, got {len(tokens)}")
        mixed = torch.randperm(len(tokens), generator=random.seeded(seed, "n-grams")).numpy()
        held = max(1, round(SHARE * len(tokens)))
        self._count(tokens[mixed[held:]])
        self._fit(tokens[mixed[:held]])
        self._count(tokens)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probabilities of rows ``(B, L)`` in nats, ``(B,)`` float64."""
        probs = self.probs(x)
        return torch.from_numpy(np.log(probs).sum(1))

    def probs(self, x: Tensor) -> np.ndarray:
        """The probability of each token given those before it, ``(B, L)``."""
        tokens = self._tokens(x)
        found = np.full(tokens.shape, 1 / self.size)
        for weights, (share, total) in zip(self.weights, self._shares(tokens)):
            weight = _weight(weights, total)
            found = weight * share + (1 - weight) * found
        return found

    def sample(self, n: int, length: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` rows ``(n, length)``, token by token, float32."""
        x = np.zeros((n, length), dtype=np.int64)
        contexts = [np.zeros(n, dtype=np.int64)]
        for place in range(length):
            u = random.uniform((n, len(contexts) + 1), generator, torch.float64).numpy()
            x[:, place] = (u[:, -1] * self.size).astype(np.int64)
            chosen = np.zeros(n, dtype=bool)
            for k in reversed(range(len(contexts))):
                total = self._totals(k, contexts[k])
                weight = _weight(self.weights[k], total)
                takes = ~chosen & (u[:, k] < weight)
                # a uniform number below its weight is uniform there, and is used again
                again = np.minimum(u[:, k] / np.where(takes, weight, 1.0), 1 - 1e-12)
                at = self.before[k][np.where(takes, contexts[k], 0)] + (again * total).astype(np.int64)
                gram = np.searchsorted(self.ends[k], np.where(takes, at, 0), side="right")
                x[:, place] = np.where(takes, self.codes[k][gram] % self.size, x[:, place])
                chosen |= takes
            longer = [self._find(k, context, x[:, place]) for k, context in enumerate(contexts)]
            contexts = [np.zeros(n, dtype=np.int64), *longer][: self.order]
        return torch.from_numpy(x).float()

    def _tokens(self, rows: Tensor) -> np.ndarray:
        tokens = rows.detach().cpu().reshape(len(rows), -1).numpy()
        found = tokens.astype(np.int64)
        if not ((found == tokens) & (found >= 0) & (found < self.size)).all():
            raise ValueError(f"rows: expected whole numbers from 0 to {self.size - 1}")
        return found

    def _count(self, tokens: np.ndarray) -> None:
        """Count the grams of every length.  One of k + 1 tokens is k * size + its last, k the number of the
        gram before that; it is sorted by this code, so that the grams of a context stand together."""
        self.codes: list[np.ndarray] = []
        self.counts: list[np.ndarray] = []
        self.ends: list[np.ndarray] = []
        self.before: list[np.ndarray] = []
        contexts, known = np.zeros(tokens.shape, dtype=np.int64), 1
        for k in range(self.order):
            grams = contexts[:, k:] * self.size + tokens[:, k:]
            codes, inverse, counts = np.unique(grams, return_inverse=True, return_counts=True)
            self.codes.append(codes)
            self.counts.append(counts)
            self.ends.append(counts.cumsum())
            totals = np.bincount(codes // self.size, counts, known).astype(np.int64)
            self.before.append(np.concatenate([[0], totals.cumsum()]))
            contexts, known = np.zeros(tokens.shape, dtype=np.int64), len(codes)
            contexts[:, k + 1 :] = inverse.reshape(grams.shape)[:, :-1]

    def _totals(self, k: int, contexts: np.ndarray) -> np.ndarray:
        """How often contexts of ``k`` tokens were seen, 0 where they are -1."""
        known = np.maximum(contexts, 0)
        return np.where(contexts >= 0, self.before[k][known + 1] - self.before[k][known], 0)

    def _find(self, k: int, contexts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The numbers of the grams of ``k`` + 1 tokens, -1 for those that were not seen."""
        codes = contexts * self.size + tokens
        place = np.searchsorted(self.codes[k], codes).clip(max=len(self.codes[k]) - 1)
        return np.where((contexts >= 0) & (self.codes[k][place] == codes), place, -1)

    def _shares(self, tokens: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """For contexts of 0 tokens and more: the share of each token among what followed its context, and
        how often that was seen."""
        found, contexts = [], np.zeros(tokens.shape, dtype=np.int64)
        for k in range(self.order):
            grams, total = self._find(k, contexts, tokens), self._totals(k, contexts)
            seen = np.where(grams >= 0, self.counts[k][np.maximum(grams, 0)], 0)
            found.append((seen / np.maximum(total, 1), total))
            # the first tokens have no longer contexts
            contexts = np.concatenate([np.full_like(grams[:, :1], -1), grams[:, :-1]], 1)
        return found

    def _fit(self, tokens: np.ndarray) -> None:
        """Weights that maximise the likelihood of rows, from short contexts to long ones, by EM."""
        self.weights: list[np.ndarray] = []
        below = np.full(tokens.shape, 1 / self.size)
        for share, total in self._shares(tokens):
            level, seen = _level(total), total > 0
            weights, counts = np.full(LEVELS, 0.5), np.bincount(level[seen], minlength=LEVELS)
            for _ in range(PASSES):
                weight = weights[level]
                here = weight * share
                part = (here / (here + (1 - weight) * below))[seen]
                mean = np.bincount(level[seen], part, LEVELS) / np.maximum(counts, 1)
                weights = np.where(counts > 0, mean.clip(1e-6, 1 - 1e-6), weights)
            self.weights.append(weights)
            weight = _weight(weights, total)
            below = weight * share + (1 - weight) * below

    def __repr__(self) -> str:
        return f"NGrams(order={self.order})"


def _level(total: np.ndarray) -> np.ndarray:
    return np.log2(np.maximum(total, 1)).astype(np.int64).clip(max=LEVELS - 1)


def _weight(weights: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.where(total > 0, weights[_level(total)], 0.0)
