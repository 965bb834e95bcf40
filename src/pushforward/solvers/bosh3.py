"""The pair of Bogacki and Shampine."""

from .adaptive import Adaptive
from .tableau import Tableau


class Bosh3(Adaptive):
    """The 3(2) pair of Bogacki and Shampine, a step size per sample, three evaluations per step.

    For loose tolerances, from about 1e-3.

    Bogacki & Shampine 1989, doi 10.1016/0893-9659(89)90079-7; the interpolant is the cubic through the states
    and slopes at both ends.

    >>> import torch
    >>> solution = Bosh3(rtol=1e-3, atol=1e-3).solve(lambda t, x: -x, torch.ones(1, 1), 0.0, 1.0)
    >>> solution.x, solution.calls
    (tensor([[0.3670]]), 17)
    """

    tableau = Tableau(
        order=3,
        c=(0.0, 1 / 2, 3 / 4, 1.0),
        a=((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        b=(2 / 9, 1 / 3, 4 / 9, 0.0),
        error=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
        dense=((1.0, -4 / 3, 5 / 9), (0.0, 1.0, -2 / 3), (0.0, 4 / 3, -8 / 9), (0.0, -1.0, 1.0)),
    )
