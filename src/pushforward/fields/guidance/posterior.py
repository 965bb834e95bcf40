"""Samples of p(x | y) for a linear measurement y: inpainting and other linear inverse problems."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ...paths import Coefficients, Path, check_affine
from ...tensors import Condition, expand_time
from ..base import Field
from ..convert import from_velocity
from .base import Guidance, check_number, first_time, value_and_pull
from .measurements import Measurement, as_values, solve_symmetric

#: The noise scale that velocities are divided by at least.
LEAST_SCALE = 1e-4

#: A vector-Jacobian product.
Pull = Callable[[Tensor], Tensor]


class PosteriorGuidance(Guidance):
    """The velocity towards samples of p(x1 | y), where y = A x1 + noise e, e ~ N(0, I).

    The denoiser D = E[x1 | x_t] of the field is corrected to D' by what y adds, and the velocity is that of
    D': (s'/s) x + (W/s) D', with W = s alpha' - alpha s'.  It holds where velocity and denoiser determine
    each other: along ``path`` with a standard normal source that is independent of the data.

    measurement: A, such as :class:`KnownElements` and :class:`LinearMeasurement`.  value: y, ``(count,)``, or
    one for each row, ``(B, count)``; x and y are in the space of the field, that is after preprocessing.
    noise: the deviation of y.  With 0 the measured part is met but for the error of the solver, and the
    velocity has a kink at t = 1, about which an adaptive solver takes some more steps.  earliest: below this
    time the denoiser is that of this time, because it hardly depends on x there, where x holds no data; by
    default 0.001, and 0 on paths that start with a rest of the data, unless a method says otherwise.

    Raises ValueError for a value of another shape, a noise below 0, and a path that is not affine.
    """

    #: alpha / s of the path from which on a derivative is trusted by default
    signal: ClassVar[float] = 0.0

    def __init__(
        self,
        measurement: Measurement,
        value: Tensor,
        path: Path,
        noise: float = 0.0,
        earliest: float | None = None,
    ):
        super().__init__()
        self.measurement, self.path = measurement, check_affine(path)
        self.noise = check_number(noise, "noise")
        if noise < 0:
            raise ValueError(f"noise: expected a deviation of at least 0, got {noise}")
        self.register_buffer("value", as_values(measurement, value))
        self.value: Tensor
        self.earliest = first_time(path, earliest, self.signal)

    def forward(self, field: Field, t: Tensor, x: Tensor, condition: Condition | None) -> Tensor:
        if x.shape[1:] != self.measurement.shape:
            raise ValueError(f"measurement: is of events {self.measurement.shape}, got {tuple(x.shape[1:])}")
        at = t.clamp(min=self.earliest)
        c = self.path.coefficients(expand_time(at, x))
        data, pull = value_and_pull(lambda x: from_velocity("data", field(at, x, condition), x, c), x)
        residual = self.value.to(x) - self.measurement(data)
        data = data + self.correction(residual, pull, c, data)
        c = self.path.coefficients(expand_time(t, x))
        noise = (x - c.alpha * data) / c.noise_scale.clamp(min=LEAST_SCALE)
        return c.d_alpha * data + c.d_noise_scale * noise

    @abstractmethod
    def correction(self, residual: Tensor, pull: Pull, c: Coefficients, data: Tensor) -> Tensor:
        """What y adds to the denoiser, like ``data``.

        residual: y - A D, ``(B, count)``.  pull: the vector-Jacobian product of D.
        """

    def extra_repr(self) -> str:
        return f"noise={self.noise:g}"


class MomentMatching(PosteriorGuidance):
    """D' = D + C A^T (A C A^T + noise^2 I)^-1 (y - A D), C = Cov[x1 | x_t] = (s^2 / alpha) dD/dx.

    Samples follow p(x1 | y) **exactly where the data are Gaussian**, for any A, noise and path that starts
    from N(0, I) alone, with an exact field and ``earliest=0.001``: C is the covariance by Tweedie's formula.
    For other data it takes p(x1 | x_t) for the Gaussian of its mean and covariance, an approximation that is
    the better the less noise x_t has (Boys et al. 2023, arXiv 2310.06721).  Costs one evaluation and
    ``count`` vector-Jacobian products of the field, all in one batch, and the eigenvalues of a matrix of
    ``count`` rows for each row: for tables and few measurements; :class:`PseudoInverse` suits images.

    Of a trained network C is only as good as its derivative, whose errors are divided by alpha and carry some
    rows far off.  So ``earliest`` is by default the time at which alpha / s = 1/4, 0.2 on the linear path.

    Other options, and errors: :class:`PosteriorGuidance`.

    >>> from pushforward import ContinuousFlow, GaussianMixture, GaussianMixtureOracle, Interpolant, Normal
    >>> from pushforward.fields import KnownElements
    >>> covariance = torch.tensor([[[1.0, 0.8], [0.8, 1.0]]])
    >>> oracle = GaussianMixtureOracle(GaussianMixture(torch.zeros(1, 2), covariance), Interpolant())
    >>> first = KnownElements(torch.tensor([True, False]))
    >>> known = MomentMatching(first, torch.tensor([1.0]), oracle.path, earliest=0.001)
    >>> flow = ContinuousFlow(oracle, source=Normal(2), guidance=known)
    >>> flow.push(torch.zeros(1, 2)).round(decimals=2)
    tensor([[1.0000, 0.8000]])
    """

    signal = 0.25

    def correction(self, residual: Tensor, pull: Pull, c: Coefficients, data: Tensor) -> Tensor:
        rows, measured = len(data), self.measurement
        each = measured.transpose(torch.eye(measured.count, dtype=data.dtype, device=data.device))
        directions = each[:, None].expand(-1, rows, *data.shape[1:])
        slopes = torch.func.vmap(pull)(directions).transpose(0, 1)  # (B, count, *event)
        scale = (c.noise_scale.square() / c.alpha).reshape(-1, 1, 1)
        covariances = scale * measured(slopes)
        unit = torch.eye(measured.count, dtype=data.dtype, device=data.device)
        weights = solve_symmetric(covariances + self.noise**2 * unit, residual)
        return (weights[:, None] @ (scale * slopes.flatten(2)))[:, 0].reshape(data.shape)


class PseudoInverse(PosteriorGuidance):
    """D' = D + (s^2 / alpha) (dD/dx)^T A^T (r^2 A A^T + noise^2 I)^-1 (y - A D), r^2 = s^2 / (alpha^2 + s^2).

    r^2 is Cov[x1 | x_t] of data that are N(0, I), for which samples follow p(x1 | y) exactly; for all other
    data it is an approximation, and the measured part is met only roughly.  One evaluation and one
    vector-Jacobian product of the field (Song et al. 2023, *Pseudoinverse-guided diffusion models for inverse
    problems*; for flows Pokle et al. 2023, arXiv 2310.04432).

    Options and errors: :class:`PosteriorGuidance`.

    >>> from pushforward.fields import Guided, KnownElements
    >>> from pushforward.paths import Interpolant
    >>> still = lambda t, x: (2 * t - 1) / (t**2 + (1 - t) ** 2) * x  # the field of N(0, I)
    >>> known = PseudoInverse(KnownElements(torch.tensor([True, False])), torch.tensor([1.0]), Interpolant())
    >>> Guided(still, known)(torch.tensor(0.5), torch.zeros(1, 2))
    tensor([[2., 0.]])
    """

    def correction(self, residual: Tensor, pull: Pull, c: Coefficients, data: Tensor) -> Tensor:
        square = c.noise_scale.square()
        variance = (square / (c.alpha.square() + square)).reshape(-1, 1)
        weights = self.measurement.whiten(residual, variance, self.noise)
        return square / c.alpha * pull(self.measurement.transpose(weights))
