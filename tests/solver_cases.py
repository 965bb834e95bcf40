"""What tests of solvers share: the solvers by name, a nonlinear field and its solution by SciPy."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from contract import classes
from pushforward.solvers import ODE, Adaptive, FixedStep

CLASSES = {name: cls for name, cls in classes("solver").items() if cls.solves is ODE}
FIXED = {name: cls for name, cls in CLASSES.items() if issubclass(cls, FixedStep)}
#: the fifth-order pairs; others differ in their tables alone, which tests of order and contract look at
ADAPTIVE = {name: cls for name, cls in CLASSES.items() if issubclass(cls, Adaptive) and cls.order == 5}
ORDER = {name: cls.order for name, cls in FIXED.items()}
#: those with straight lines between their steps: Euler's method, and what is that method unless it is fitted
STRAIGHT = {cls for cls in FIXED.values() if not cls.hermite}

fixed = pytest.mark.parametrize("cls", FIXED.values(), ids=FIXED.keys())
adaptive = pytest.mark.parametrize("cls", ADAPTIVE.values(), ids=ADAPTIVE.keys())
every = pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES.keys())


def tensor(*values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def columns(*values: Tensor) -> Tensor:
    return torch.stack(values, -1)


def curl(t: Tensor, x: Tensor) -> Tensor:
    """Nonlinear and with explicit time, so that no low-order error term vanishes."""
    a, b = x[..., 0], x[..., 1]
    return columns(torch.sin(3 * t + 2 * b) - a * b, torch.cos(2 * t * a) - 0.5 * b)


CURL_START = tensor([0.3, -0.7], [1.2, 0.4])


def as_numpy(field):
    return lambda t, y: field(tensor(t)[0], torch.from_numpy(np.asarray(y, dtype=float))).numpy()


def truth(field, start, t0: float, t1: float, times=None) -> np.ndarray:
    """High-accuracy solution by SciPy's eighth-order method, ``(..., S)`` or at the end."""
    found = solve_ivp(as_numpy(field), (t0, t1), start, method="DOP853", rtol=1e-13, atol=1e-14, t_eval=times)
    return found.y if times is not None else found.y[:, -1]


@cache
def curl_truth(t1: float = 2.0) -> Tensor:
    return torch.from_numpy(np.stack([truth(curl, row.numpy(), 0.0, t1) for row in CURL_START]))


def slope(steps, errors) -> float:
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]
