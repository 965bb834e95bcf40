"""States, and the problems that solvers solve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

#: What is integrated: a tensor ``(B, *event)`` or a tuple of tensors that share B.
State = Tensor | tuple[Tensor, ...]
#: The kind of state that goes into a solver and comes out again.
StateT = TypeVar("StateT", bound=State)
#: Right-hand side ``velocity(t, x)``; ``t`` is a scalar tensor or ``(B,)``, the result is a state like ``x``.
Velocity = Callable[[Tensor, Any], Any]


@dataclass(frozen=True)
class ODE:
    """dx/dt = velocity(t, x), closed over its condition.

    controlled: the number of leading entries of a tuple state that the adaptive error norm uses.
    batched: whether the first dimension of the state counts rows that are independent of each other.  Without
        rows the state is one coupled system of any shape, also a number: ``t`` is then a scalar, every
        element has the same step, and ``nfe`` and ``status`` of the solution are scalars.
    breaks: times at which the velocity jumps.  Solvers stop there and start again, those of fixed steps with
        all of their steps; no evaluation of a step sees what is on the other side.
    retract: the state, as the velocity takes it, put back onto the manifold on which it should be; solvers of
        fixed steps, whose errors lead off it, call this after each of them.  None where there is none.

    >>> import torch
    >>> from pushforward.solvers import Dopri5
    >>> spring = ODE(lambda t, y: torch.stack([y[1], -y[0]]), batched=False)
    >>> Dopri5().solve(spring, torch.tensor([1.0, 0.0]), 0.0, torch.pi).x.round(decimals=3)
    tensor([-1.,  0.])
    """

    velocity: Velocity
    controlled: int = 1
    batched: bool = True
    breaks: tuple[float, ...] = ()
    retract: Callable[[Any], Any] | None = None


#: The noise level of an SDE: a number, a tensor, or a function of the time; see :class:`SDE`.
Diffusion = float | Tensor | Callable[[Tensor], Tensor | float]


@dataclass(frozen=True)
class SDE:
    """dX = drift(t, X) dt + diffusion(t) dW, closed over its condition, X one tensor ``(B, *event)``.

    The noise is additive: ``diffusion`` depends on time alone, so that the calculi of Ito and Stratonovich
    agree.  It is a number, a tensor that broadcasts against X (a deviation for every element, or for
    every row), or a function of the scalar time that returns one of these.  Solved from a later time to
    an earlier one, ``drift`` is that of the process reversed in time.

    finish: a step without noise, ``(t, t_next, x) -> x``, which solvers take in place of their last one; the
        noise of that one would stay in the result.
    """

    drift: Velocity
    diffusion: Diffusion = 1.0
    finish: Callable[[Tensor, Tensor, Any], Any] | None = None


#: ``schedule(t)`` gives alpha, sigma and their slopes, as a :class:`~pushforward.paths.Schedule` does.
NoiseSchedule = Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Denoise:
    """Points x_t = alpha D + sigma N that are to be denoised, closed over their condition.

    ``data(t, x)`` is D, the mean E[x1 | x_t = x] of the data, shaped like x.  ``schedule(t)`` gives alpha,
    sigma (the noise scale) and their slopes at a scalar time; alpha / sigma rises with the time.  The problem
    is the ODE d(x / sigma) = D d(alpha / sigma), whose solvers keep the linear part of x exactly.

    Any velocity u is that of such a problem with D = (sigma u - sigma' x) / (sigma alpha' - alpha sigma').
    """

    data: Velocity
    schedule: NoiseSchedule


#: ``rates(t, x)``: of every token to every value, ``(B, *event, A)``.
Rates = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Redraws:
    """Jumps as redraws at the ticks of a clock, with which single jumps are exact.

    Each token that is ``waiting(x)``, a boolean like x, is redrawn from ``probs(t, x)`` ``(B, *event, A)`` at
    the events of a Poisson process of its own, with the mean number ``ticks(t)`` of events from 0 to t;
    ``time`` is the inverse of ``ticks``.  All times are ``(B,)``.
    """

    probs: Rates
    ticks: Callable[[Tensor], Tensor]
    time: Callable[[Tensor], Tensor]
    waiting: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Jump:
    """A process of tokens ``x`` ``(B, *event)``, whole numbers below A, closed over its condition.

    A token jumps to the value y with the rate ``rates(t, x)[..., y]``.  At the value that it has the entry
    is no rate: a number there counts redraws that leave the token as it is.

    expected: the integral of the rates from t to a later time, ``(t, t_next, x)``, all that x determines
        being as at t; None for their value at t times the length of the step.
    finish: probabilities ``(B, *event, K)``, K <= A, ``(t, x)``, from which the last step draws every token;
        None where the last step is as all others.
    redraws: the process as redraws at the ticks of a clock, where it is one.
    changed: ``(corrector, temperature)``: the process with jumps back and forth that leave its distributions
        as they are, or with sharper predictions; None where these are not known.

    Gillespie 2001, doi 10.1063/1.1378322; Campbell et al. 2022, arXiv 2205.14987.
    """

    rates: Rates
    expected: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    finish: Rates | None = None
    redraws: Redraws | None = None
    changed: Callable[[float, float], Jump] | None = None


#: What solvers solve.
Problem = ODE | SDE | Denoise | Jump
