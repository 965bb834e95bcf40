"""The exact distribution of the two moons."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .. import random
from ..sources import Source
from ..tensors import Condition

#: Nodes of each quadrature, and the fall of the logarithm of an integrand at which it is cut off.
NODES, DEPTH = 32, 45.0

#: Rows whose density is computed at once.
CHUNK = 8192


class TwoMoons(Source):
    """Two half circles that interlock, plus N(0, noise^2 I): the distribution of scikit-learn's
    ``make_moons``.

    With a ~ U[0, pi] arc 0 is (cos a, sin a) and arc 1 is (1 - cos a, 1/2 - sin a), each with probability
    1/2; ``make_moons`` puts its points at equal steps of a instead, which is the same distribution for many
    of them. For a point at distance r from the centre of an arc, in direction phi,

        p(x | arc) = exp(-(r - 1)^2 / 2 noise^2) / (2 pi^2 noise^2) * int_0^pi exp(-k (1 - cos(a - phi))) da

    with k = r / noise^2.  The integral is cut where the integrand peaks or is least; each piece falls from
    one end, as far as it matters here, and Gauss-Legendre nodes cover just that.  So the log-density is
    accurate to about 1e-14 of its size at any noise and any distance.

    ``condition``: labels ``(B,)`` of the arc, -1 for either.  Raises ValueError for a noise that is not
    positive and for other labels.

    >>> TwoMoons().log_prob(torch.tensor([[1.0, 0.0], [0.5, 0.25]], dtype=torch.float64))
    tensor([-1.1461, -9.1916], dtype=torch.float64)
    """

    centres: Tensor

    def __init__(self, noise: float = 0.1):
        super().__init__()
        if not 0 < noise < math.inf:
            raise ValueError(f"noise: expected a positive number, got {noise}")
        self.noise, self.event_shape = float(noise), (2,)
        self.register_buffer("centres", torch.tensor([[0.0, 0.0], [1.0, 0.5]]), persistent=False)

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        dtype, device = self.centres.dtype, self.centres.device
        u = random.uniform((n, 2), generator, dtype, device)
        arc = (u[:, 0] >= 0.5).long()
        if condition is not None:
            label = _labels(condition, n)
            arc = torch.where(label < 0, arc, label)
        angle = math.pi * u[:, 1] + math.pi * arc
        point = self.centres[arc] + torch.stack([angle.cos(), angle.sin()], 1)
        return point + self.noise * random.normal((n, 2), generator, dtype, device)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        parts = [self._arcs(part.double()) for part in x.split(CHUNK)]
        arcs = torch.cat(parts) if parts else x.new_zeros((0, 2), dtype=torch.float64)
        weights = torch.full_like(arcs, -math.log(2))
        if condition is not None:
            label = _labels(condition, len(x))[:, None]
            own = label == torch.arange(2, device=label.device)
            weights = torch.where(label < 0, weights, torch.where(own, 0.0, -math.inf))
        return (arcs + weights).logsumexp(1).to(x.dtype)

    def _arcs(self, x: Tensor) -> Tensor:
        """log p(x | arc) of both arcs, ``(B, 2)``."""
        turn = torch.tensor([1.0, -1.0], dtype=x.dtype, device=x.device)[:, None]  # arc 1 is turned round
        u = turn * (x[:, None] - self.centres.to(x))
        angle, weight = self._nodes(u.detach())
        circle = torch.stack([angle.cos(), angle.sin()], -1)
        square = (u[:, :, None, None] - circle).square().sum(-1)
        log_terms = weight.log() - 0.5 * square / self.noise**2
        return log_terms.flatten(2).logsumexp(-1) - math.log(2 * math.pi**2 * self.noise**2)

    def _nodes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Angles and weights, ``(B, 2, 2, NODES)``, of the quadrature for points ``u`` relative to the arcs.

        They are no function to differentiate through: the integral is the same for any that resolve it.
        """
        phi = torch.atan2(u[..., 1], u[..., 0])
        k = (u.norm(dim=-1) / self.noise**2)[..., None]
        inside = phi >= 0  # the integrand peaks at phi; otherwise it is least at phi + pi
        cut = torch.where(inside, phi, phi + math.pi)
        zero, end = torch.zeros_like(phi), torch.full_like(phi, math.pi)
        # the pieces [0, cut] and [cut, pi]: lengths, where each is highest, and how far that is from phi
        length = torch.stack([cut, end - cut], -1)
        top = torch.stack([torch.where(inside, cut, zero), torch.where(inside, cut, end)], -1)
        start = torch.stack([torch.where(inside, zero, -phi), torch.where(inside, zero, end + phi)], -1)
        sign = torch.where(inside[..., None], -1.0, 1.0) * torch.tensor([1.0, -1.0]).to(u)
        # exp(-k (1 - cos)) falls by DEPTH over this
        reach = (start.cos() - DEPTH / k.clamp(min=1e-300)).clamp(min=-1).arccos() - start
        length = torch.minimum(length, reach)[..., None]
        nodes, weights = (torch.as_tensor(v).to(u) for v in np.polynomial.legendre.leggauss(NODES))
        return top[..., None] + sign[..., None] * 0.5 * length * (nodes + 1), 0.5 * length * weights

    def entropy(self) -> float:
        """-E log p in nats, by the trapezoid rule with three points to a ``noise``; 1.0076 at 0.1."""
        h, reach = self.noise / 3, 9 * self.noise
        across, up = (
            torch.arange(low - reach, high + reach + h, h, dtype=torch.float64)
            for low, high in ((-1.0, 2.0), (-0.5, 1.0))
        )
        total = 0.0
        for column in across:
            log_p = self.log_prob(torch.stack([column.expand_as(up), up], 1))
            total -= float((log_p.exp() * log_p).sum())
        return total * h**2


def _labels(condition: Condition, n: int) -> Tensor:
    if not isinstance(condition, Tensor) or condition.shape != (n,) or condition.is_floating_point():
        raise ValueError(f"condition: expected {n} labels of an arc")
    if bool(((condition < -1) | (condition > 1)).any()):
        raise ValueError("condition: expected the labels 0 and 1 of the arcs, or -1 for either")
    return condition.long()
