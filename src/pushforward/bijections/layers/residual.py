"""Residual layers: the identity plus a contraction."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from ... import random
from ...nn.checks import check_count, check_kind
from ...tensors import Condition, differentiable, every, sum_event
from ..base import Bijection
from ..numerics.roots import InverseFailed, smooth_inverse

#: steps of the fixed-point iteration, more than a Lipschitz constant of 0.99 needs in float64
ITERATIONS = 4000
#: how much more the rounding of a network's value may be than that of one number
NOISE = 256


class Contraction(Protocol):
    """A module g under a condition, with its Lipschitz constant."""

    lipschitz: float

    def given(self, condition: Condition | None = None) -> Callable[[Tensor], Tensor]:
        """g as a function of x alone."""
        ...


class Residual(Bijection):
    r"""y = x + g(x), invertible since g is a contraction: |g(x) - g(x')| <= L |x - x'|, L < 1.

    ``network`` is a module that states L as its attribute ``lipschitz`` and whose ``given(condition)`` is
    g, a function that keeps the shape of x, such as :class:`~pushforward.nn.LipschitzPerceptron`
    (Behrmann et al. 2019, arXiv 1811.00995).  The inverse is the fixed point of x <- y - g(x), iterated
    until steps are rounding; an :class:`InverseFailed` is raised where it never comes to that.

    log|det| is exact, from the whole Jacobian (events of d elements take d forward derivatives and d^2
    numbers).  With ``terms=n`` training mode estimates it without bias instead, by the power series
    sum_k (-1)^(k+1) tr(J^k) / k: n terms always, further ones by Russian roulette, traces from one random
    sign vector for each row (Chen et al. 2019, arXiv 1906.02735, section 3.1).  Each further term comes
    with probability L, and no less than a half: with less than L^2, such as a half at L = 0.9, the variance
    need not be finite.  The estimate draws from ``generator``, its exponential is no unbiased density, and
    :attr:`BijectiveFlow.density` is "estimate" meanwhile; after ``eval()`` all is exact again.

    Raises ValueError for a network without a constant in [0, 1) and for ``terms`` below 1.

    >>> from pushforward.nn import LipschitzPerceptron
    >>> Residual(LipschitzPerceptron(2)).forward_and_log_det(torch.ones(1, 2))
    (tensor([[1., 1.]], grad_fn=...), tensor([0.], grad_fn=...))
    """

    def __init__(self, network: nn.Module, terms: int | None = None):
        super().__init__()
        constant = getattr(network, "lipschitz", None)
        if not isinstance(constant, float) or not 0 <= constant < 1:
            raise ValueError(
                f"network: expected a contraction, whose attribute `lipschitz` is a number in [0, 1), got "
                f"{constant!r}"
            )
        check_kind("network", network, nn.Module)
        if terms is not None:
            check_count("terms", terms)
        self.network, self.terms = network, terms

    @property
    def estimates(self) -> bool:
        """Whether log-determinants are estimates at present."""
        return self.training and self.terms is not None

    @property
    def _contraction(self) -> Contraction:
        return cast(Contraction, self.network)

    def _log_det(
        self, g: Callable[[Tensor], Tensor], x: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        if self.terms is None or not self.training:
            return _exact(g, x)
        return _estimate(g, x, self.terms, max(0.5, self._contraction.lipschitz), generator)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        moved, log_det = self._log_det(self._contraction.given(condition), x, generator)
        return x + moved, log_det

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        given = self._contraction.given
        x = smooth_inverse(self, lambda x, c: x + given(c)(x), lambda y, c: _solve(given(c), y), y, condition)
        return x, -self._log_det(given(condition), x, generator)[1]


def _solve(g: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """The fixed point of x <- y - g(x)."""
    rounding = 4 * torch.finfo(y.dtype).eps
    x, before = y, torch.full_like(_largest(y), torch.inf)
    done = before < 0
    for _ in range(ITERATIONS):
        moved = g(x)
        new = y - moved
        size = _largest(y) + _largest(moved)
        step = _largest(new - x)
        # steps of a contraction shrink; one that does not is rounding inside g, or g is none
        stalled = (step >= before) & (step <= NOISE * rounding * (1 + size))
        done = done | (step <= rounding * size) | stalled
        x, before = new, step
        if every(done | ~step.isfinite()):
            if every(done):
                return x
            break
    raise InverseFailed(f"the inverse did not settle within {ITERATIONS} steps; are the inputs finite?")


def _largest(x: Tensor) -> Tensor:
    return x.abs().flatten(1).amax(1)


def _exact(g: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """g(x) and log|det(I + dg/dx)| from the whole Jacobian."""
    size = x.shape[1:].numel()
    with differentiable():
        x = x.clone()  # forward derivatives take neither expanded points nor those of inference mode
        eye = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *x.shape[1:])

        def derivative(direction: Tensor) -> Tensor:
            return jvp(g, (x,), (direction.expand_as(x),))[1]

        jacobian = vmap(derivative, out_dims=-1)(eye).reshape(len(x), size, size)
        return g(x), torch.linalg.slogdet(jacobian + eye.reshape(size, size)).logabsdet


def _estimate(
    g: Callable[[Tensor], Tensor], x: Tensor, terms: int, onward: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """g(x) and an unbiased estimate of log|det(I + dg/dx)|; ``onward``: the chance of each further term."""
    x = x.clone()  # forward derivatives do not take expanded points
    signs = random.uniform(x.shape, generator, x.dtype, x.device).sub(0.5).sign()
    # the number of further terms, the same for all rows: the first's, since generators of rows draw for each
    u = random.uniform((max(1, len(x)),), generator, torch.float64, x.device)[0].item()
    extra = math.floor(math.log1p(-u) / math.log(onward))
    moved, power, log_det = g(x), signs, x.new_zeros(len(x))
    for k in range(1, terms + extra + 1):
        power = jvp(g, (x,), (power,))[1]
        chance = onward ** max(0, k - terms)
        log_det = log_det - (-1) ** k * sum_event(power * signs) / (k * chance)
    return moved, log_det
