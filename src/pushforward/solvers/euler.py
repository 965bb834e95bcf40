"""Euler's method."""

from .runge_kutta import RungeKutta
from .tableau import Tableau


class Euler(RungeKutta):
    """Euler's method: first order, one evaluation per step, straight lines in between.

    x' = x + h f(t, x)   (Euler 1768, Institutionum calculi integralis).

    >>> import torch
    >>> Euler(steps=10).solve(lambda t, x: -x, torch.ones(1, 1), 0.0, 1.0).x
    tensor([[0.3487]])
    """

    hermite = False
    tableau = Tableau(order=1, c=(0.0,), a=((),), b=(1.0,))
