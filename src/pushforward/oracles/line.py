"""Transport between mixtures of normal distributions on the line, by their quantiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..bijections.numerics.roots import increasing_root

__all__ = ["Line", "transport"]


@dataclass(frozen=True)
class Line:
    """Mixtures sum_k w_k N(mean_k, scale_k^2) on the line, one for each row; all ``(B, K)``."""

    log_weights: Tensor
    means: Tensor
    scales: Tensor

    def whitened(self, x: Tensor) -> Tensor:
        """(x - mean_k) / scale_k, ``(B, K)``."""
        return (x[..., None] - self.means) / self.scales

    def log_joint(self, x: Tensor) -> Tensor:
        """log w_k + log N(x; mean_k, scale_k^2), ``(B, K)``."""
        return (
            self.log_weights
            - 0.5 * self.whitened(x).square()
            - self.scales.log()
            - 0.5 * math.log(2 * math.pi)
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), ``(B,)``."""
        return self.log_joint(x).logsumexp(-1)

    def log_tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithms of w_k Phi(z_k) and of w_k Phi(-z_k), ``(B, K)``: what lies below x and above it."""
        z = self.whitened(x)
        return self.log_weights + torch.special.log_ndtr(z), self.log_weights + torch.special.log_ndtr(-z)


def transport(x: Tensor, here: Line, there: Line) -> Tensor:
    """The increasing map F_there^-1(F_here(x)) that carries ``here`` to ``there``, rows ``(B,)`` of float64.

    Components have the same weights on both sides, and are in the order of their means at ``there``.  For a
    cut j between components F - (w_1 + ... + w_j) is

        rho_j = sum_{k > j} w_k Phi(z_k) - sum_{k <= j} w_k Phi(-z_k),

    which keeps its digits where F is nearly 0, nearly 1, or stands still in a gap between components.  With
    the cut of the smallest |rho_j| the root of rho_j(there) = rho_j(here) is found in logarithms.  It has
    derivatives of every order in x, and in means and scales of both sides.  Raises InverseFailed for values
    that are not finite.

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> x = transport(one[0], Line(0 * one, 0 * one, one), Line(0 * one, one, 2 * one))  # 1 + 2 x
    >>> round(x.item(), 12)
    3.0
    """
    parts = (here.log_weights, here.means, here.scales, there.means, there.scales)
    return cast(Tensor, _Transport.apply(x, *parts))


class _Transport(torch.autograd.Function):
    """:func:`transport`, with the derivative of F_there(y) = F_here(x)."""

    @staticmethod
    def forward(
        x: Tensor, log_weights: Tensor, means: Tensor, scales: Tensor, new_means: Tensor, new_scales: Tensor
    ) -> Tensor:
        return _solve(x, Line(log_weights, means, scales), Line(log_weights, new_means, new_scales))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output, *inputs)
        ctx.save_for_forward(output, *inputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        g = grad_outputs[0][..., None]
        a, b, z, new_z = _slopes(*ctx.saved_tensors)
        return (g * a).sum(-1), None, -g * a, -g * a * z, g * b, g * b * new_z

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Tensor:
        x, _, means, scales, new_means, new_scales = grad_inputs
        a, b, z, new_z = _slopes(*ctx.saved_tensors)
        moved = a * (_or_zero(x, z[..., 0])[..., None] - _or_zero(means, z) - z * _or_zero(scales, z))
        return (moved + b * (_or_zero(new_means, z) + new_z * _or_zero(new_scales, z))).sum(-1)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        moved = [v if at is None else v.movedim(at, 0) for v, at in zip(inputs, in_dims)]
        whole = [v.expand(info.batch_size, *v.shape) if at is None else v for v, at in zip(moved, in_dims)]
        return _Transport.apply(*whole), 0  # all that is done goes along the last dimension


def _or_zero(tangent: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if tangent is None else tangent


def _slopes(
    y: Tensor,
    x: Tensor,
    log_weights: Tensor,
    means: Tensor,
    scales: Tensor,
    new_means: Tensor,
    new_scales: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dy = sum_k a_k (dx - dmean_k - z_k dscale_k) + b_k (dmean'_k + z'_k dscale'_k): a, b, z and z'."""
    here, there = Line(log_weights, means, scales), Line(log_weights, new_means, new_scales)
    joint = there.log_joint(y)
    log_p = joint.logsumexp(-1, keepdim=True)
    a, b = (here.log_joint(x) - log_p).exp(), (joint - log_p).exp()
    return a, b, here.whitened(x), there.whitened(y)


def _solve(x: Tensor, here: Line, there: Line) -> Tensor:
    below, above = here.log_tails(x)
    none = torch.full_like(below[..., :1], -math.inf)
    # at each of K + 1 cuts: what lies below x of the components right of it, and above x of those left of it
    right = torch.cat([below.flip(-1).logcumsumexp(-1).flip(-1), none], -1)
    left = torch.cat([none, above.logcumsumexp(-1)], -1)
    log_rho = torch.maximum(left, right) + (-torch.expm1(-(left - right).abs())).log()
    cut = log_rho.argmin(-1, keepdim=True)
    is_left = torch.arange(below.shape[-1], device=x.device) < cut
    rising = (right > left).gather(-1, cut)[..., 0]
    rho = log_rho.gather(-1, cut)[..., 0]
    gain, loss = rho.masked_fill(~rising, -math.inf), rho.masked_fill(rising, -math.inf)

    def logs(y: Tensor) -> tuple[Tensor, Tensor]:
        below, above = there.log_tails(y)
        right = below.masked_fill(is_left, -math.inf).logsumexp(-1)
        left = above.masked_fill(~is_left, -math.inf).logsumexp(-1)
        return torch.logaddexp(right, loss), torch.logaddexp(left, gain)

    def value_and_slope(y: Tensor) -> tuple[Tensor, Tensor]:
        right, left = logs(y)
        joint = there.log_joint(y)
        of_right = (joint.masked_fill(is_left, -math.inf).logsumexp(-1) - right).exp()
        of_left = (joint.masked_fill(~is_left, -math.inf).logsumexp(-1) - left).exp()
        return right - left, of_right + of_left

    # Phi(-a) <= exp(-a^2 / 2): no component has its quantile farther than this from its mean
    reach = (-2 * torch.minimum(right[..., 0], left[..., -1])).sqrt()[..., None] * there.scales
    low, high = (there.means - reach).amin(-1), (there.means + reach).amax(-1)
    # the logarithms whose difference is the value round in proportion to their size: the root finder is
    # told so by a value and a target of that size, and the last digits come from the difference itself
    size = torch.stack([part.abs() for end in (low, high) for part in logs(end)]).amax(0)

    def shifted(y: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = value_and_slope(y)
        return value + size, slope

    y = increasing_root(shifted, size, low, high)
    for _ in range(2):
        value, slope = value_and_slope(y)
        y = (y - value / slope).clamp(low, high)
    return y
