"""Slopes that stay within bounds, and the steps that planar layers are made of."""

from __future__ import annotations

from torch import Tensor

from .roots import smooth_root

#: Bound of the logarithms of slopes, so that no point is carried out of range.
STEEPEST = 5.0


def bounded(raw: Tensor, bound: float) -> Tensor:
    """raw / (1 + |raw| / bound): smooth, within (-bound, bound), of slope 1 at 0."""
    return raw / raw.abs().div_(bound).add_(1.0)


def log_slope_of_step(step: Tensor, log_slope: Tensor) -> Tensor:
    """log(1 + (e^log_slope - 1) (1 - step^2)), of z + (e^log_slope - 1) tanh z at step = tanh z.

    Written as a sum of positive terms, so that no digits cancel.
    """
    return (step.square() + log_slope.exp() * (1 - step) * (1 + step)).log()


def undo_step(target: Tensor, log_slope: Tensor) -> Tensor:
    """z with z + (e^log_slope - 1) tanh z = ``target``, which increases in z."""

    def function(z: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        step = z.tanh()
        return z + log_slope.expm1() * step, log_slope_of_step(step, log_slope).exp()

    def bracket(target: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        reach = log_slope.expm1().abs()
        return target - reach, target + reach

    return smooth_root(function, bracket, target, log_slope)
