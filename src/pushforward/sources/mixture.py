"""Gaussian mixtures: everything in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from .. import random
from ..inputs import as_points, check_matrices, check_weights
from ..tensors import Condition, flatten_event, to_tensor
from .base import Source


class GaussianMixture(Source):
    """sum_k w_k N(mu_k, S_k) on events of ``event_shape``, each component carrying a label.

    Arguments:
        means: ``(K, *event)``.
        covariances: ``(K, d, d)`` with d the number of elements of an event, or scales: a number or
            ``(K,)`` of standard deviations, meaning scale^2 I.
        weights: ``(K,)``, normalised here; None for equal ones.
        labels: ``(K,)`` int64; with a condition only the components of that label count, -1 meaning
            all.  None: label k is component k.

    Raises ValueError for shapes that do not fit, negative weights and labels, scales that are not positive,
    and covariances that are not symmetric and positive definite.

    >>> mixture = GaussianMixture(torch.tensor([[-2.0], [2.0]]), 0.5)
    >>> mixture.log_prob(torch.zeros(1, 1)), mixture.log_prob(torch.zeros(1, 1), torch.tensor([0]))
    (tensor([-8.2258]), tensor([-8.2258]))
    """

    means: Tensor
    axes: Tensor
    variances: Tensor
    log_weights: Tensor
    labels: Tensor

    def __init__(
        self,
        means: Tensor,
        covariances: Tensor | float,
        weights: Tensor | Sequence[float] | None = None,
        labels: Tensor | Sequence[int] | None = None,
    ):
        super().__init__()
        means = as_points(means, "means")
        count, *event = means.shape
        self.event_shape = tuple(event)
        d = math.prod(event)
        cov = torch.as_tensor(covariances, dtype=means.dtype, device=means.device)
        if cov.ndim == 0 or cov.shape == (count,):
            if not bool((cov > 0).all()):
                raise ValueError(f"covariances: expected positive scales, got {covariances}")
            cov = cov.square().expand(count)[:, None, None] * torch.eye(d, dtype=means.dtype)
        if cov.shape != (count, d, d):
            raise ValueError(
                f"covariances: expected a number, ({count},) or ({count}, {d}, {d}), got {tuple(cov.shape)}"
            )
        variances, axes = torch.linalg.eigh(check_matrices(cov, "covariances"))
        w = check_weights(torch.ones(count) if weights is None else weights, count)
        tags = torch.arange(count) if labels is None else to_tensor(labels, "labels")
        if tags.shape != (count,) or tags.is_floating_point() or bool((tags < 0).any()):
            raise ValueError(f"labels: expected {count} integers of at least 0, got {tags.tolist()}")
        self.register_buffer("means", means.reshape(count, d))
        self.register_buffer("axes", axes)
        self.register_buffer("variances", variances.clamp(min=0))
        self.register_buffer("log_weights", (w / w.sum()).to(means).log())
        self.register_buffer("labels", tags.long().to(means.device))

    @classmethod
    def of_axes(
        cls, means: Tensor, axes: Tensor, variances: Tensor, log_weights: Tensor, labels: Tensor
    ) -> Self:
        """The mixture of given eigenvectors ``(K, d, d)`` and eigenvalues ``(K, d)``, as they are."""
        found = cls(means, 1.0, log_weights.exp(), labels)
        found.axes, found.variances, found.log_weights = axes, variances, log_weights
        return found

    @property
    def covariances(self) -> Tensor:
        """S_k, ``(K, d, d)``."""
        return torch.einsum("kde,ke,kfe->kdf", self.axes, self.variances, self.axes)

    def is_white(self, scale: float) -> bool:
        near = (self.variances.sqrt() - scale).abs() <= 1e-4 * scale
        return bool(near.all() and (self.means.abs() <= 1e-4 * scale).all())

    def convolved(self, scale: float, noise: float) -> Self:
        d = self.means.shape[1]
        eye = torch.eye(d, dtype=self.means.dtype, device=self.means.device)
        means = scale * self.means.reshape(-1, *self.event_shape)
        covariances = scale**2 * self.covariances + noise**2 * eye
        return type(self)(means, covariances, self.log_weights.exp(), self.labels)

    def affine(self, matrix: Tensor, offset: Tensor) -> Self:
        means = (self.means @ matrix.T + offset).reshape(-1, *self.event_shape)
        covariances = matrix @ self.covariances @ matrix.T
        return type(self)(means, covariances, self.log_weights.exp(), self.labels)

    def log_weights_given(self, condition: Condition | None, rows: int) -> Tensor:
        """Normalised log-weights of the components under each row's condition, ``(rows, K)``."""
        log_w = self.log_weights.expand(rows, -1)
        if condition is None:
            return log_w
        if not isinstance(condition, Tensor) or condition.shape != (rows,):
            raise ValueError(f"condition: expected labels of shape ({rows},)")
        known = (condition[:, None] == self.labels) | (condition[:, None] < 0)
        log_w = log_w.masked_fill(~known, -torch.inf)
        return log_w - log_w.logsumexp(1, keepdim=True)

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        cumulative = self.log_weights_given(condition, n).exp().cumsum(1)
        u = random.uniform((n, 1), generator, self.means.dtype, self.means.device)
        k = (u >= cumulative / cumulative[:, -1:]).sum(1)
        z = random.normal(self.means[k].shape, generator, self.means.dtype, self.means.device)
        spread = torch.einsum("nde,ne->nd", self.axes[k], self.variances[k].sqrt() * z)
        return (self.means[k] + spread).reshape(n, *self.event_shape)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.smoothed(x, torch.ones((), dtype=x.dtype), torch.zeros((), dtype=x.dtype), condition)[0]

    def smoothed(
        self, x: Tensor, alpha: Tensor, scale: Tensor, condition: Condition | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The distribution of alpha x1 + scale n with x1 from the mixture and n ~ N(0, I), at x.

        ``alpha`` and ``scale`` are scalars or ``(B,)``.  Component k is N(alpha mu_k, alpha^2 S_k +
        scale^2 I).  Returns log p ``(B,)``, E[x1 | x] and E[n | x], both shaped like x.
        """
        alpha, scale = (v.to(x).reshape(-1, 1, 1) for v in (alpha, scale))
        axes, log_p, share, whitened = self._smoothed(x, alpha, scale, condition)
        means, variances = self.means.to(x), self.variances.to(x)
        back = torch.einsum("kde,bke->bkd", axes, alpha * variances * whitened)
        data = (share * (means + back)).sum(1)
        noise = (share * torch.einsum("kde,bke->bkd", axes, scale * whitened)).sum(1)
        return log_p, data.reshape(x.shape), noise.reshape(x.shape)

    def smoothed_score(
        self, x: Tensor, alpha: Tensor, scale: Tensor, condition: Condition | None = None
    ) -> Tensor:
        """grad_x log p of the distribution that :meth:`smoothed` is of, also where ``scale`` is 0."""
        alpha, scale = (v.to(x).reshape(-1, 1, 1) for v in (alpha, scale))
        axes, _, share, whitened = self._smoothed(x, alpha, scale, condition)
        return -(share * torch.einsum("kde,bke->bkd", axes, whitened)).sum(1).reshape(x.shape)

    def _smoothed(
        self, x: Tensor, alpha: Tensor, scale: Tensor, condition: Condition | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Axes, log p, responsibilities ``(B, K, 1)`` and whitened differences from the means ``(B, K, d)``
        along the axes."""
        means, axes, variances = self.means.to(x), self.axes.to(x), self.variances.to(x)
        y = torch.einsum("kde,bkd->bke", axes, flatten_event(x)[:, None] - alpha * means)
        spread = alpha.square() * variances + scale.square()
        whitened = y / spread
        log_k = -0.5 * (y * whitened + spread.log() + math.log(2 * math.pi)).sum(-1)
        log_joint = log_k + self.log_weights_given(condition, x.shape[0]).to(x)
        log_p = log_joint.logsumexp(1)
        return axes, log_p, (log_joint - log_p[:, None]).exp()[..., None], whitened
