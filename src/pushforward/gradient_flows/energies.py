"""Energies of distributions: of a potential, of interaction, and internal ones such as the entropy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..nn.checks import check_number
from .support import Support


class Energy(ABC):
    """A functional F of distributions whose Wasserstein gradient flow is d rho/dt = div(rho grad dF/drho).

    Distributions are weights ``w`` ``(N,)`` on the points of a :class:`Support`, of density w / volume.
    Energies are added with ``+``.
    """

    @abstractmethod
    def value(self, w: Tensor, support: Support) -> Tensor:
        """F, a number."""

    @abstractmethod
    def slope(self, w: Tensor, support: Support) -> Tensor:
        """The first variation dF/drho at the points, ``(N,)``, up to a constant."""

    def split(self, w: Tensor, support: Support) -> tuple[Tensor, float]:
        """A linear part ``(N,)`` and the weight D of D w log(w / volume), with the same slope at ``w``."""
        return self.slope(w, support), 0.0

    def force(self, x: Tensor) -> Tensor:
        """-grad dF/drho at particles ``(n, d)`` of equal weight; of internal energies zero."""
        return torch.zeros_like(x)

    def moved(self, x: Tensor, log_det: Tensor) -> Tensor:
        """What each of the particles ``x`` ``(n, ...)`` contributes to F, ``(n,)``, whose mean is F.

        They are the image of particles of any distribution rho under a map of log-determinants ``log_det``
        ``(n,)``; the entropy is that of the image without int rho log rho, a constant.
        """
        raise ValueError(
            f"energy: a {type(self).__name__} has no value at moved particles, by a method moved"
        )

    @property
    def diffusion(self) -> float:
        """D, where the energy contains the entropy D int rho log rho."""
        return 0.0

    def __add__(self, other: Energy) -> Energy:
        if not isinstance(other, Energy):
            return NotImplemented
        return Sum(self, other)


class Sum(Energy):
    """The sum of ``parts``."""

    def __init__(self, *parts: Energy):
        self.parts = parts

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))

    def value(self, w: Tensor, support: Support) -> Tensor:
        return torch.stack([part.value(w, support) for part in self.parts]).sum()

    def slope(self, w: Tensor, support: Support) -> Tensor:
        return torch.stack([part.slope(w, support) for part in self.parts]).sum(0)

    def split(self, w: Tensor, support: Support) -> tuple[Tensor, float]:
        slopes, weights = zip(*(part.split(w, support) for part in self.parts))
        return torch.stack(slopes).sum(0), sum(weights)

    def force(self, x: Tensor) -> Tensor:
        return torch.stack([part.force(x) for part in self.parts]).sum(0)

    def moved(self, x: Tensor, log_det: Tensor) -> Tensor:
        return torch.stack([part.moved(x, log_det) for part in self.parts]).sum(0)

    @property
    def diffusion(self) -> float:
        return sum(part.diffusion for part in self.parts)


class Potential(Energy):
    """int V rho, which moves particles along -grad V.

    function: V, ``(n, d) -> (n,)``, differentiable.  Raises ValueError where it has another shape, and where
    it is not finite at the points of a support.

    >>> Potential(lambda x: x.square().sum(1) / 2).force(torch.tensor([[1.0, 2.0]]))
    tensor([[-1., -2.]])
    """

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function = function

    def __call__(self, x: Tensor) -> Tensor:
        found = self.function(x)
        if found.shape != x.shape[:1]:
            raise ValueError(
                f"function: expected one number for each of {len(x)} points, got shape {tuple(found.shape)}"
            )
        return found

    def value(self, w: Tensor, support: Support) -> Tensor:
        return w @ self.slope(w, support)

    def slope(self, w: Tensor, support: Support) -> Tensor:
        found = self(support.points).to(w.dtype)
        if not bool(found.isfinite().all()):
            raise ValueError("function: is not finite at every point; take points where it is")
        return found

    def force(self, x: Tensor) -> Tensor:
        return -gradient(self, x)

    def moved(self, x: Tensor, log_det: Tensor) -> Tensor:
        return self(x)


class Interaction(Energy):
    """1/2 int int W(x - y) rho(x) rho(y), by which particles attract or repel each other.

    function: W of differences, ``(n, d) -> (n,)``, differentiable, with W(-z) = W(z).

    >>> Interaction(lambda z: z.square().sum(1) / 2).force(torch.tensor([[0.0], [2.0]]))
    tensor([[ 1.],
            [-1.]])
    """

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function = function

    def _between(self, x: Tensor, y: Tensor) -> Tensor:
        differences = (x[:, None] - y).flatten(0, 1)
        return Potential(self.function)(differences).view(len(x), len(y))

    def value(self, w: Tensor, support: Support) -> Tensor:
        return 0.5 * w @ self.slope(w, support)

    def slope(self, w: Tensor, support: Support) -> Tensor:
        x, found = support.points, []
        for part in x.split(max(1, 2**22 // max(1, x.numel()))):
            found.append(self._between(part, x).to(w.dtype) @ w)
        return torch.cat(found)

    def force(self, x: Tensor) -> Tensor:
        still = x.detach()
        return -gradient(lambda y: self._between(y, still).mean(1), x)

    def moved(self, x: Tensor, log_det: Tensor) -> Tensor:
        return 0.5 * self._between(x, x).mean(1)


class Entropy(Energy):
    """D int rho log rho, the negative entropy: heat, or noise of variance 2 D dt for particles.

    >>> Entropy(2.0).diffusion
    2.0
    """

    def __init__(self, weight: float = 1.0):
        self.weight = check_number("weight", weight, 0)

    def __repr__(self) -> str:
        return f"Entropy({self.weight:g})"

    def value(self, w: Tensor, support: Support) -> Tensor:
        return self.weight * torch.special.xlogy(w, w / support.volumes).sum()

    def slope(self, w: Tensor, support: Support) -> Tensor:
        return self.weight * (w / support.volumes).log()

    def split(self, w: Tensor, support: Support) -> tuple[Tensor, float]:
        return torch.zeros_like(w), self.weight

    def moved(self, x: Tensor, log_det: Tensor) -> Tensor:
        return -self.weight * log_det

    @property
    def diffusion(self) -> float:
        return self.weight


def kullback_leibler(log_prob: Callable[[Tensor], Tensor]) -> Energy:
    """KL(rho || p), up to the constant of a ``log_prob`` that is not normalised.

    Its flow is the Fokker-Planck equation d rho/dt = div(rho grad log(rho / p)).  Jordan, Kinderlehrer & Otto
    1998, doi 10.1137/S0036141096303359.

    >>> from pushforward import Normal
    >>> kullback_leibler(Normal(1).log_prob).force(torch.tensor([[3.0]]))
    tensor([[-3.]])
    """
    return Potential(lambda x: -log_prob(x)) + Entropy()


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradients of a function ``(n, d) -> (n,)`` of rows, also where gradients are not recorded."""
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        return torch.autograd.grad(function(y).sum(), y)[0]


def least_curvature(energy: Any, x: Tensor) -> float:
    """The smallest eigenvalue of the Hessian of the potentials in ``energy`` at the points ``(n, d)``.

    >>> least_curvature(Potential(lambda x: (x**2 - 1).square().sum(1)), torch.linspace(-1, 1, 5)[:, None])
    -4.0
    """
    parts = [p for p in getattr(energy, "parts", (energy,)) if isinstance(p, Potential)]
    if not parts:
        return 0.0

    with torch.enable_grad():
        y = x.detach().requires_grad_()
        total = torch.stack([part(y).sum() for part in parts]).sum()
        (slope,) = torch.autograd.grad(total, y, create_graph=True)
        rows = [
            torch.autograd.grad(column.sum(), y, retain_graph=True)[0]
            if column.requires_grad
            else torch.zeros_like(y)
            for column in slope.unbind(1)
        ]
    hessians = torch.stack(rows, 1)
    return torch.linalg.eigvalsh(hessians).min().item()


def check_step(energy: Any, x: Tensor, step: float) -> None:
    """Raise ValueError for a step at which the problem is not convex along geodesics at the points ``x``."""
    bend = least_curvature(energy, x)
    if 1 / step + bend <= 0:
        raise ValueError(
            f"step: with h = {step:g} the problem is not convex, as the potential bends down by "
            f"{-bend:.3g}; take h below {-1 / bend:.3g}"
        )
