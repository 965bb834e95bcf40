"""The classical Runge-Kutta method."""

from .runge_kutta import RungeKutta
from .tableau import Tableau


class RK4(RungeKutta):
    """The classical Runge-Kutta method: fourth order, four evaluations per step.

    x' = x + h/6 (k1 + 2 k2 + 2 k3 + k4)   (Kutta 1901, Zeitschrift fuer Mathematik und Physik 46).

    >>> import torch
    >>> RK4(steps=10).solve(lambda t, x: -x, torch.ones(1, 1), 0.0, 1.0).x
    tensor([[0.3679]])
    """

    tableau = Tableau(
        order=4,
        c=(0.0, 0.5, 0.5, 1.0),
        a=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    )
