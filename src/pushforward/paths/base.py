"""The abstract path: the distribution of x_t between a pair of points, and its distributions at both ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..tensors import arrays_in


@dataclass(frozen=True)
class Coefficients:
    """Values at t of x_t = alpha x1 + sigma x0 + gamma z, with their time derivatives.

    ``gamma_d_gamma`` is gamma * dgamma/dt and ``sigma_d_sigma`` sigma * dsigma/dt: they are finite also where
    dgamma/dt or dsigma/dt is infinite.  Without the latter it is the product.
    """

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor
    gamma: Tensor
    d_gamma: Tensor
    gamma_d_gamma: Tensor
    sigma_d_sigma: Tensor | None = None

    @property
    def noise_scale(self) -> Tensor:
        """s = sqrt(sigma^2 + gamma^2), the deviation of x_t given x1 for a standard normal source."""
        return (self.sigma.square() + self.gamma.square()).sqrt()

    @property
    def d_noise_scale(self) -> Tensor:
        """ds/dt; where s = 0, its limit, which has the sign of the slopes of sigma and gamma."""
        scale = self.noise_scale
        positive = scale > 0
        slope = (self.sigma * self.d_sigma + self.gamma_d_gamma) / torch.where(positive, scale, 1.0)
        d_sigma, d_gamma = (torch.where(positive, 1.0, d) for d in (self.d_sigma, self.d_gamma))
        return torch.where(positive, slope, torch.hypot(d_sigma, d_gamma).copysign(d_sigma + d_gamma))

    @property
    def noise_d_noise(self) -> Tensor:
        """s ds/dt, finite also at an end where ds/dt is not."""
        sigma = self.sigma * self.d_sigma if self.sigma_d_sigma is None else self.sigma_d_sigma
        return sigma + self.gamma_d_gamma


@dataclass(frozen=True)
class PathPoint:
    """A draw of x_t.

    t: the times as given.  x: ``(B, *event)``.  points: the ends it lies between.
    velocity: dx_t/dt given the ends and the noise, like x (None for jump paths).
    noise: the z that was drawn, None where the path draws none.
    coefficients: None for paths that are no interpolants.
    """

    t: Tensor
    x: Tensor
    points: tuple[Tensor, ...]
    velocity: Tensor | None
    noise: Tensor | None = None
    coefficients: Coefficients | None = None


@dataclass(frozen=True)
class AntitheticPair:
    """Two draws of x_t = I + gamma z whose noises are opposite.

    t: the times as given.  plus, minus: I + gamma z and I - gamma z, ``(B, *event)``.
    points: the ends.  drift: dI/dt, the velocity without its noise.  noise: z.
    The velocities are drift + gamma' z and drift - gamma' z.  They are not computed here, because gamma' =
    gamma_d_gamma / gamma may be infinite.
    """

    t: Tensor
    plus: Tensor
    minus: Tensor
    points: tuple[Tensor, ...]
    drift: Tensor
    noise: Tensor
    coefficients: Coefficients


@dataclass(frozen=True)
class End:
    """The distribution of x_t at one end of the path, as a combination of its ingredients.

    x = source_scale * x0 + target_scale * x1 + noise_scale * z.
    """

    source_scale: float
    target_scale: float
    noise_scale: float


class Path(nn.Module, ABC):
    """Joins the points of a pair by a curve x_t, t in [0, 1].

    Every path draws x_t with its velocity and states its ends, which is all that regression on the velocity
    asks for.  An affine one also has :meth:`coefficients`, which conversions between predictions and closed
    forms need.
    """

    #: whether this is a path, and no schedule that makes an interpolant together with noise
    complete: ClassVar[bool] = True
    #: whether x_t is an affine combination of its points and noise
    affine: ClassVar[bool] = False
    #: the diffusion of the Brownian bridge that is its noise; None for other noise and none
    bridge: float | None = None

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        arrays_in(cls, "sample", "sample_pair")

    #: whether the velocity is infinite at t = 0 and at t = 1; objectives keep their times away from there
    open_ends: tuple[bool, bool] = (False, False)

    @abstractmethod
    def sample(self, t: Tensor, *points: Tensor, generator: torch.Generator | None = None) -> PathPoint:
        """Draw x_t and its velocity; ``t`` is a scalar, ``(B,)`` or broadcastable to ``(B, *event)``."""

    @abstractmethod
    def ends(self) -> tuple[End, End]:
        """The distributions at t = 0 and t = 1; a flow starts from the first."""

    def coefficients(self, t: Tensor) -> Coefficients:
        """All coefficients at ``t``, shaped like ``t``.  Raises ValueError where the path is not affine."""
        raise ValueError(f"path: expected an affine one such as Interpolant(), got a {type(self).__name__}")


def check_affine(path: Path) -> Path:
    """``path``, or a ValueError where it is not affine."""
    if not path.affine:
        path.coefficients(torch.zeros(()))  # which says so
    return path


def check_rising(path: Path) -> Path:
    """``path``, or a ValueError unless alpha / s rises from t = 0 to t = 1, s the noise scale.

    Where the ratio of signal and noise falls, the diffusion of which the path is the reverse would have to
    remove noise, and where it stands still the velocity says nothing of data and noise.
    """
    t = torch.linspace(0, 1, 1025, dtype=torch.float64)[1:-1]
    c = path.coefficients(t)
    s = c.noise_scale
    wrong = ~(s * c.d_alpha - c.alpha * c.d_noise_scale > 0)
    if not bool(wrong.any()):
        return path
    first = int(wrong.nonzero()[0])
    falls, grows = bool(c.d_alpha[first] < 0), bool(c.d_noise_scale[first] > 0)
    what = "alpha falls" if falls else "the noise scale grows" if grows else "alpha / sigma does not rise"
    raise ValueError(
        f"path: expected alpha that rises and sigma that falls from t = 0 to t = 1, got a {_named(path)} "
        f"where {what} at t = {float(t[first]):.3g}"
    )


def _named(path: Path) -> str:
    """The class of a path, or of its schedule."""
    return type(getattr(path, "schedule", path)).__name__
