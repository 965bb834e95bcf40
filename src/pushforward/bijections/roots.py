"""Roots of increasing functions, bracketed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.func import vjp, vmap


class InverseFailed(RuntimeError):
    """An inverse that has no closed form did not reach its tolerance."""


def increasing_root(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    target: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int = 100,
) -> Tensor:
    """x with f(x) = ``target`` for an increasing f known to have it in [low, high], elementwise.

    ``function`` gives value and slope.  Newton's method, with a bisection wherever it leaves the bracket;
    it stops when no step moves any x by more than rounding does.  Raises InverseFailed where that takes
    more than ``iterations`` steps, and for targets that are not finite.
    """
    eps = torch.finfo(target.dtype).eps
    # rounding may have put the root a little outside
    slack = 4 * eps * torch.maximum(low.abs(), high.abs())
    low, high = low - slack, high + slack
    x = 0.5 * (low + high)
    done = torch.zeros_like(x, dtype=torch.bool)
    for iteration in range(iterations):
        value, slope = function(x)
        above = value >= target
        low, high = torch.where(above, low, x), torch.where(above, x, high)
        newton = x - (value - target) / slope
        inside = (newton >= low) & (newton <= high)
        if iteration % 4 == 3:  # rounding can keep Newton's method going round in circles
            inside = torch.zeros_like(inside)
        step = torch.where(inside, newton, 0.5 * (low + high))
        # what rounding in the value can move the root by
        noise = 4 * eps * (x.abs() + (value.abs() + target.abs()) / slope)
        near = ((newton - x).abs() <= noise) | (high - low <= 2 * eps * x.abs())
        x = torch.where(done, x, torch.where(near, newton.clamp(low, high), step))
        done = done | near
        if settled(done):
            return x
    raise InverseFailed(
        f"the inverse did not reach its tolerance in {iterations} steps; are the inputs finite?"
    )


def settled(done: Tensor) -> bool:
    """Whether all are done; under ``torch.func`` transforms all means every one of the batch they hide."""
    while is_functorch_wrapped_tensor(done):
        done = get_unwrapped(done)
    return bool(done.all())


def smooth_root(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], target: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """:func:`increasing_root` with the derivatives of the inverse, of first order."""
    with torch.no_grad():
        x = increasing_root(function, target, low, high)
    if not torch.is_grad_enabled():
        return x
    value, slope = function(x)
    return x - (value - target) / slope.detach()


def newton_step(function: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
    """x - J^-1 (f(x) - target) for rows ``(B, *event)``, with J = df/dx held constant.

    Where x is a root already the step does not move it, and carries the derivatives, of first order, of
    the root by the target and by whatever f depends on.
    """
    value, pull = vjp(function, x)[:2]
    size = x[0].numel()
    eye = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *x.shape[1:]).expand(-1, *x.shape)
    with torch.no_grad():
        jacobian = vmap(pull)(eye)[0].movedim(0, 1).reshape(len(x), size, size)
    step = torch.linalg.solve(jacobian, (value - target).reshape(len(x), size))
    return x - step.reshape(x.shape)
