"""The explicit midpoint method."""

from .runge_kutta import RungeKutta
from .tableau import Tableau


class Midpoint(RungeKutta):
    """The explicit midpoint method: second order, two evaluations per step.

    x' = x + h f(t + h/2, x + h/2 f(t, x))   (Runge 1895, doi 10.1007/BF01446807).

    >>> import torch
    >>> Midpoint(steps=10).solve(lambda t, x: -x, torch.ones(1, 1), 0.0, 1.0).x
    tensor([[0.3685]])
    """

    tableau = Tableau(order=2, c=(0.0, 0.5), a=((), (0.5,)), b=(0.0, 1.0))
