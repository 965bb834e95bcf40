"""The light Schroedinger bridge: a mixture potential fitted by likelihood, without networks or plans."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from .. import random
from ..fields.bridge import check_sigma
from ..tensors import Condition, to_tensor
from .base import Batch, Loss, Objective, Step, model_of

Covariance = Literal["diagonal", "full"]


class LightSBPotential(nn.Module):
    """The potential v(y) = sum_k w_k N(y; r_k, eps S_k), eps = sigma^2, and the bridge that it defines.

    Its plan is pi(y | x) = exp(<x, y> / eps) v(y) / C(x): the mixture of N(r_k + S_k x, eps S_k) with
    weights in proportion to w_k exp((x^T S_k x + 2 r_k^T x) / (2 eps)), whose sum is C(x) (Korotin et al.
    2024, arXiv 2310.01174).  The process dX = drift dt + sigma dW is the
    Schroedinger bridge between its own ends; with D_k = t S_k + (1-t) I

        drift(t, x) = sum_k q_k(t, x) D_k^-1 (S_k x + r_k - x)

    where q_k are the weights of the mixture :meth:`log_potential`.  Everything is computed from logarithms,
    so a small sigma causes no underflow.  It is one module with the parameters ``log_weights`` ``(K,)``,
    ``centres`` ``(K, d)``, ``log_scales`` ``(K, d)`` and, for full covariances, ``lower`` ``(K, d, d)``, with
    S_k = L_k L_k^T, L_k = strict lower triangle + diag(exp(log_scales_k / 2)).

    centres: ``(K, *event)``, the initial components of v; rows of the data are a good choice.
    sigma: of the bridge.  covariance: "diagonal" or "full".  spread: S_k = spread I at first.

    Raises ValueError for a sigma or a spread that is not positive and an unknown covariance.

    >>> potential = LightSBPotential(torch.tensor([[2.0]]), sigma=1.0, spread=0.5)
    >>> potential.drift(torch.tensor(0.0), torch.ones(1, 1)).detach()
    tensor([[1.5000]])
    """

    def __init__(
        self, centres: Tensor, sigma: float = 1.0, covariance: Covariance = "diagonal", spread: float = 0.1
    ):
        super().__init__()
        if covariance not in ("diagonal", "full"):
            raise ValueError(f"covariance: expected diagonal or full, got {covariance!r}")
        if not 0 < spread < math.inf:
            raise ValueError(f"spread: expected a positive number, got {spread}")
        centres = to_tensor(centres, "centres")
        if centres.ndim < 2 or len(centres) == 0:
            raise ValueError(f"centres: expected shape (K, *event), got {tuple(centres.shape)}")
        self.sigma, self.event_shape = check_sigma(sigma), tuple(centres.shape[1:])
        rows = centres.detach().reshape(len(centres), -1).clone()
        self.log_weights = nn.Parameter(rows.new_zeros(len(rows)))
        self.centres = nn.Parameter(rows)
        self.log_scales = nn.Parameter(torch.full_like(rows, math.log(spread)))
        full = covariance == "full"
        self.lower = nn.Parameter(rows.new_zeros(*rows.shape, rows.shape[1])) if full else None

    @property
    def epsilon(self) -> float:
        """sigma^2."""
        return self.sigma**2

    def _root(self) -> Tensor:
        assert self.lower is not None
        return self.lower.tril(-1) + torch.diag_embed((0.5 * self.log_scales).exp())

    def _spread(self) -> Tensor:
        """S: ``(K, d)`` diagonals, or ``(K, d, d)``."""
        if self.lower is None:
            return self.log_scales.exp()
        root = self._root()
        return root @ root.mT

    def _between(self, t: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """D^-1 ``(T, K, d)`` or ``(T, K, d, d)``, and log|D| ``(T, K)``; T is 1 or the number of rows."""
        if self.lower is None:
            t = t.reshape(-1, 1, 1)
            middle = torch.lerp(torch.ones_like(spread), spread, t)
            return 1 / middle, middle.log().sum(-1)
        t = t.reshape(-1, 1, 1, 1)
        eye = torch.eye(spread.shape[-1], dtype=spread.dtype, device=spread.device)
        root = torch.linalg.cholesky(torch.lerp(eye.expand_as(spread), spread, t))
        return torch.cholesky_inverse(root), 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def _times(self, matrix: Tensor, x: Tensor) -> Tensor:
        return matrix * x if self.lower is None else (matrix @ x[..., None])[..., 0]

    def _rows(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.event_shape:
            raise ValueError(f"x: expected events of shape {self.event_shape}, got {tuple(x.shape)}")
        return x.reshape(len(x), 1, -1)

    def _components(self, t: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor]:
        """log(w_k phi_k(t, x)) ``(B, K)`` and the drift of each component ``(B, K, d)``."""
        rows, spread, centres = self._rows(x), self._spread(), self.centres
        inverse, log_det = self._between(torch.as_tensor(t).to(rows), spread)
        pull = self._times(spread, rows) - rows  # (S - I) x
        drift = self._times(inverse, pull + centres)
        t = torch.as_tensor(t).to(rows).reshape(-1, 1)
        bent = (rows * self._times(inverse, pull + 2 * centres)).sum(-1)
        fixed = (centres * self._times(inverse, centres)).sum(-1)
        log_phi = (bent - t * fixed) / (2 * self.epsilon) - 0.5 * log_det
        return self.log_weights + log_phi, drift

    def log_potential(self, t: Tensor | float, x: Tensor) -> Tensor:
        """log int N(y; x, eps (1-t) I) exp(|y|^2 / (2 eps)) v(y) dy up to a constant of t, ``(B,)``.

        Its gradient times eps is the drift.
        """
        return self._components(t, x)[0].logsumexp(1)

    def drift(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """The drift of the bridge's SDE, like ``x``: a field, finite on all of [0, 1]."""
        log_phi, drift = self._components(t, x)
        return (log_phi.softmax(1)[..., None] * drift).sum(1).reshape(x.shape)

    def log_c(self, x0: Tensor) -> Tensor:
        """log C(x0), ``(B,)``."""
        return self._log_plan_weights(x0).logsumexp(1)

    def _log_plan_weights(self, x0: Tensor) -> Tensor:
        rows = self._rows(x0)
        bent = (rows * (self._times(self._spread(), rows) + 2 * self.centres)).sum(-1)
        return self.log_weights + bent / (2 * self.epsilon)

    def log_v(self, x1: Tensor) -> Tensor:
        """log v(x1), ``(B,)``."""
        away = self._rows(x1) - self.centres
        if self.lower is None:
            scaled = away * (-0.5 * self.log_scales).exp()
        else:
            scaled = torch.linalg.solve_triangular(self._root(), away[..., None], upper=False)[..., 0]
        size = self.log_scales.shape[1] * math.log(2 * math.pi * self.epsilon)
        log_normal = scaled.square().sum(-1) / self.epsilon + self.log_scales.sum(-1) + size
        return (self.log_weights - 0.5 * log_normal).logsumexp(1)

    def sample_plan(self, x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Exact draws of x1 given each row of ``x0``, without simulation of the process."""
        cumulative = self._log_plan_weights(x0).softmax(1).cumsum(1)
        u = random.uniform((len(x0), 1), generator, x0.dtype, x0.device)
        k = (u >= cumulative / cumulative[:, -1:]).sum(1)
        z = self.sigma * random.normal(self._rows(x0)[:, 0].shape, generator, x0.dtype, x0.device)
        noise = self._times((0.5 * self.log_scales).exp() if self.lower is None else self._root(), z[:, None])
        mean = self.centres + self._times(self._spread(), self._rows(x0))
        index = k[:, None, None].expand(-1, 1, mean.shape[-1])
        return (mean + noise).gather(1, index).reshape(x0.shape)


class LightSB(Objective):
    """E log C(x0) - E log v(x1): up to a constant, KL(true bridge | bridge of the potential).

    Korotin et al. 2024, arXiv 2310.01174.  ``models`` holds ``"potential"``, a
    :class:`LightSBPotential`; rows need no pairing.  Raises ValueError
    for another model.

    >>> from pushforward import Rows
    >>> potential = LightSBPotential(torch.zeros(4, 2))
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> LightSB().loss(nn.ModuleDict({"potential": potential}), batch, Step()).per_sample.shape
    torch.Size([8])
    """

    main = "potential"

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        potential = model_of(models, "potential")
        if not isinstance(potential, LightSBPotential):
            raise ValueError(f"models: expected a LightSBPotential, got a {type(potential).__name__}")
        per_sample = potential.log_c(batch.source.x) - potential.log_v(batch.target.x)
        return Loss(batch.mean(per_sample), per_sample.detach())
