"""The Schroedinger bridge between two normal distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import random
from ..tensors import Condition, expand_time


class GaussianBridge(nn.Module):
    """The Schroedinger bridge from N(mean0, cov0) to N(mean1, cov1) with reference sigma dW, in closed form.

    Its static plan minimises E|x0 - x1|^2 / 2 + sigma^2 KL(plan | product) and is normal, with cross
    covariance C = Cov(x0, x1).  With A = cov0, B = cov1 and R = A^(1/2)

        C = 2 R (D + sigma^2 I)^-1 R B,   D = (4 R B R + sigma^4 I)^(1/2)

    (Bunne et al. 2023, arXiv 2202.05722, here without R^-1, so that A may be singular).  The marginal at t is
    normal with mean (1-t) mean0 + t mean1 and covariance

        S_t = (1-t)^2 A + t^2 B + t (1-t) (C + C^T + sigma^2 I).

    Calling the oracle gives the velocity of the probability-flow ODE, so it is a field like any other; it
    is :meth:`drift` - sigma^2 / 2 :meth:`score`.  sigma = 0 is optimal transport.

    mean0, mean1: ``(d,)``.  cov0, cov1: ``(d, d)``, or numbers v meaning v I.

    Raises ValueError for shapes that do not fit, covariances that are not symmetric or not positive
    semi-definite, and a negative sigma.

    >>> bridge = GaussianBridge(torch.zeros(1), 1.0, torch.ones(1), 1.0, sigma=1.0)
    >>> bridge.cross, bridge.marginal(0.5)
    (tensor([[0.6180]]), (tensor([0.5000]), tensor([[1.0590]])))
    """

    mean0: Tensor
    mean1: Tensor
    cov0: Tensor
    cov1: Tensor
    cross: Tensor

    def __init__(
        self, mean0: Tensor, cov0: Tensor | float, mean1: Tensor, cov1: Tensor | float, sigma: float = 1.0
    ):
        super().__init__()
        if mean0.ndim != 1 or mean0.shape != mean1.shape:
            raise ValueError(
                "mean0, mean1: expected one dimension and equal shapes, got "
                f"{tuple(mean0.shape)} and {tuple(mean1.shape)}"
            )
        if not 0 <= sigma < math.inf:
            raise ValueError(f"sigma: expected a finite number >= 0, got {sigma}")
        self.sigma = float(sigma)
        # the eigenvalues of small covariances lose their digits in float32
        a, root = _covariance("cov0", cov0, mean0)
        b, _ = _covariance("cov1", cov1, mean1)
        eye = torch.eye(len(mean0), dtype=torch.float64, device=mean0.device)
        values, vectors = torch.linalg.eigh(4 * root @ b @ root)
        denominator = (values.clamp(min=0) + sigma**4).sqrt() + sigma**2
        # a direction that neither distribution occupies, without noise: any finite factor will do
        inverse = vectors @ torch.diag(1 / torch.where(denominator > 0, denominator, 1.0)) @ vectors.T
        cross = 2 * root @ inverse @ root @ b
        for name, value in {"mean0": mean0, "mean1": mean1, "cov0": a, "cov1": b, "cross": cross}.items():
            self.register_buffer(name, value.to(mean0))
        self.register_buffer("eye", eye.to(mean0), persistent=False)
        self.eye: Tensor

    def _time(self, t: Tensor | float) -> Tensor:
        t = torch.as_tensor(t, dtype=self.mean0.dtype, device=self.mean0.device)
        if t.ndim > 1:
            raise ValueError(f"t: expected a number or one for each row, got shape {tuple(t.shape)}")
        return t[..., None]

    def marginal(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Mean ``(d,)`` and covariance ``(d, d)`` at ``t``; for times ``(T,)`` stacked in front."""
        t = self._time(t)
        s = t[..., None]
        mixed = self.cross + self.cross.T + self.sigma**2 * self.eye
        mean = (1 - t) * self.mean0 + t * self.mean1
        return mean, (1 - s) ** 2 * self.cov0 + s**2 * self.cov1 + s * (1 - s) * mixed

    def _whitened(self, t: Tensor | float, x: Tensor) -> Tensor:
        """S_t^-1 (x - mean_t), ``(B, d)``."""
        mean, cov = self.marginal(t)
        # not linalg.solve, whose derivatives are wrong under vmap as of torch 2.13
        return (torch.linalg.inv(cov) @ (x - mean)[..., None])[..., 0]

    def _along(self, t: Tensor | float, x: Tensor, noise: float) -> Tensor:
        """mean1 - mean0 + (Cov(x1 - x_t, x_t) / (1-t) + noise I) S_t^-1 (x - mean_t)."""
        s = self._time(t)[..., None]
        slope = s * self.cov1 - (1 - s) * self.cov0 + (1 - s) * self.cross.T - s * self.cross
        slope = slope - (s * self.sigma**2 - noise) * self.eye
        return self.mean1 - self.mean0 + (slope @ self._whitened(t, x)[..., None])[..., 0]

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """The velocity of the probability-flow ODE, ``(B, d)``."""
        return self._along(t, x, 0.5 * self.sigma**2)

    def drift(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """The drift E[x1 - x | x_t = x] / (1-t) of the bridge's SDE, ``(B, d)``; finite up to t = 1."""
        return self._along(t, x, 0.0)

    def score(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """grad_x log p_t(x) = -S_t^-1 (x - mean_t), ``(B, d)``."""
        return -self._whitened(t, x)

    def log_prob(self, t: Tensor | float, x: Tensor) -> Tensor:
        """log p_t(x) in nats, ``(B,)``."""
        mean, cov = self.marginal(t)
        quadratic = ((x - mean) * self._whitened(t, x)).sum(-1)
        return -0.5 * (quadratic + torch.linalg.slogdet(cov)[1] + x.shape[-1] * math.log(2 * math.pi))

    def sample(
        self, t: Tensor | float, n: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``n`` draws of (x0, x_t, x1), each ``(n, d)``: the plan and the Brownian bridge over it."""
        d = len(self.mean0)
        rows = [torch.cat([self.cov0, self.cross], 1), torch.cat([self.cross.T, self.cov1], 1)]
        values, vectors = torch.linalg.eigh(torch.cat(rows).double())
        root = (vectors * values.clamp(min=0).sqrt()).to(self.mean0)
        z = random.normal((n, 3 * d), generator, self.mean0.dtype, self.mean0.device)
        ends = torch.cat([self.mean0, self.mean1]) + z[:, : 2 * d] @ root.T
        x0, x1 = ends[:, :d], ends[:, d:]
        s = expand_time(self._time(t)[..., 0], x0)
        return x0, (1 - s) * x0 + s * x1 + self.sigma * (s * (1 - s)).sqrt() * z[:, 2 * d :], x1


def _covariance(name: str, value: Tensor | float, mean: Tensor) -> tuple[Tensor, Tensor]:
    """A covariance and its symmetric root in float64, ``(d, d)``; ValueError for anything else."""
    d = len(mean)
    cov = torch.as_tensor(value, dtype=torch.float64, device=mean.device)
    if cov.ndim == 0:
        cov = cov * torch.eye(d, dtype=torch.float64, device=mean.device)
    if cov.shape != (d, d):
        raise ValueError(f"{name}: expected a number or shape ({d}, {d}), got {tuple(cov.shape)}")
    if not torch.allclose(cov, cov.T, rtol=1e-5, atol=1e-5 * float(cov.abs().max())):
        raise ValueError(f"{name}: expected a symmetric matrix")
    values, vectors = torch.linalg.eigh(0.5 * (cov + cov.T))
    if bool((values < -1e-6 * values.abs().max()).any()):
        least = float(values.min())
        raise ValueError(f"{name}: expected a positive semi-definite matrix, got eigenvalue {least:.3g}")
    return cov, (vectors * values.clamp(min=0).sqrt()) @ vectors.T
