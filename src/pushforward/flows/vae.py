"""A small variational autoencoder, a baseline with a lower bound on the likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .. import random
from ..nn import ConditionSpec, Perceptron
from ..nn.checks import check_count, check_sizes
from ..sources import Normal
from ..tensors import Condition, event_size, sum_event
from .base import DensityFlow
from .shapes import condition_shape

#: log-deviations of encoder and decoder stay within this of 0
SPREAD = 5.0


class VAE(DensityFlow):
    r"""x = m(z) + s(z) e with z ~ N(0, I) and e ~ N(0, I): a distribution whose density is an integral over
    z.

    Training raises the evidence lower bound (Kingma & Welling 2014, arXiv 1312.6114, eq. 10 with the KL
    divergence in closed form),

    .. math:: \log p(x) \ge E_{q(z|x)} \log p(x|z) - KL(q(z|x) \| N(0, I)),

    and with ``samples`` k > 1 the density is its importance-weighted bound log mean_k p(x, z_k)/q(z_k|x),
    which rises with k (Burda et al. 2016, arXiv 1509.00519).  Events of any shape are flattened; ``latent``
    numbers are hidden; ``width`` and ``depth`` are those of encoder and decoder.  Raises ValueError for
    sizes below 1.

    >>> vae = VAE(2, latent=2)
    >>> vae.sample(3).shape, vae.log_prob(torch.zeros(5, 2)).shape, vae.density
    (torch.Size([3, 2]), torch.Size([5]), 'bound')
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        condition: ConditionSpec = None,
        latent: int = 2,
        width: int = 128,
        depth: int = 2,
        samples: int = 1,
    ):
        super().__init__()
        check_count("samples", samples)
        check_count("latent", latent)
        self.shape = check_sizes("event_shape", event_shape)
        self.size, self.latent, self.samples = event_size(self.shape), latent, samples
        self.source, self.condition_shape = Normal(latent), condition_shape(condition)
        self.encoder = Perceptron(self.size, 2 * latent, condition, width, depth, "silu")
        self.decoder = Perceptron(latent, 2 * self.size, condition, width, depth, "silu")
        for network in (self.encoder, self.decoder):
            # a bijection may start as the identity, but here all gradients would vanish
            last = network.layers[-1]
            assert isinstance(last, nn.Linear)
            nn.init.normal_(last.weight, std=0.5 * width**-0.5)

    @property
    def density(self) -> Literal["exact", "bound", "estimate", "none"]:
        return "bound"

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shape

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        mean, log_scale = _normal(self.decoder, x0, condition)
        noise = random.normal(mean.shape, generator, mean.dtype, mean.device)
        return (mean + log_scale.exp() * noise).reshape(len(x0), *self.shape)

    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        if self.samples > 1:
            return self.importance_weighted(x, condition, self.samples, generator)
        x = x.flatten(1)
        mean, log_scale = _normal(self.encoder, x, condition)
        z = mean + log_scale.exp() * random.normal(mean.shape, generator, mean.dtype, mean.device)
        divergence = 0.5 * sum_event(mean.square() + (2 * log_scale).exp() - 1) - sum_event(log_scale)
        return _log_normal(x, *_normal(self.decoder, z, condition)) - divergence

    def importance_weighted(
        self,
        x: Tensor,
        condition: Condition | None = None,
        samples: int = 1000,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log mean_k p(x, z_k) / q(z_k | x) for rows ``(B, *event)``, ``(B,)``, one sample at a time."""
        x = x.flatten(1)
        mean, log_scale = _normal(self.encoder, x, condition)
        zero = torch.zeros_like(mean)
        total = torch.full_like(mean[:, 0], -torch.inf)
        for _ in range(samples):
            z = mean + log_scale.exp() * random.normal(mean.shape, generator, mean.dtype, mean.device)
            log_joint = _log_normal(z, zero, zero) + _log_normal(x, *_normal(self.decoder, z, condition))
            total = torch.logaddexp(total, log_joint - _log_normal(z, mean, log_scale))
        return total - math.log(samples)


def _normal(network: Perceptron, given: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor]:
    """Mean and log-deviation of a normal distribution, the latter within (-SPREAD, SPREAD)."""
    mean, raw = network(given, condition).chunk(2, -1)
    return mean, SPREAD * torch.tanh(raw / SPREAD)


def _log_normal(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    z = (x - mean) * (-log_scale).exp()
    return -sum_event(0.5 * (z.square() + math.log(2 * math.pi)) + log_scale)
