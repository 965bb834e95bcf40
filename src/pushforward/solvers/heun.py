"""Heun's second-order method."""

from .runge_kutta import RungeKutta
from .tableau import Tableau


class Heun(RungeKutta):
    """Heun's method (the explicit trapezoidal rule): second order, two evaluations per step.

    x' = x + h/2 (k1 + k2),  k1 = f(t, x),  k2 = f(t + h, x + h k1)
    (Heun 1900, Zeitschrift fuer Mathematik und Physik 45).

    Both evaluations are at nodes; for a field that is not defined at ``t1`` use :class:`Midpoint`.

    >>> import torch
    >>> Heun(steps=10).solve(lambda t, x: -x, torch.ones(1, 1), 0.0, 1.0).x
    tensor([[0.3685]])
    """

    tableau = Tableau(order=2, c=(0.0, 1.0), a=((), (1.0,)), b=(0.5, 0.5))
