"""The path of tokens along which they come nearer to the data by a distance."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import random
from ...inputs import check_finite
from ...nn.checks import check_number
from ...solvers import Redraws
from ...solvers.jumps import draw
from ...solvers.problems import Rates
from ...tensors import to_tensor
from ..base import PathPoint
from .base import TokenPath, by_token, check_tokens

#: The exponent of the last time: other values than that of the data have e^-20 there.
LAST = 20.0


class MetricTokens(TokenPath):
    r"""p_t(x | x1) in proportion to exp(-\beta_t d(x, x1)), \beta_t = scale (t / (1 - t))^power.

    From uniform noise tokens move to values that are nearer to those of the data, at the kinetic-optimal
    rates [p_t(x) p_t'(y) - p_t'(x) p_t(y)]_+ / p_t(x) given x1 (Shaul et al. 2024, arXiv 2412.03487, eq. 9
    and section 4.2).  For levels, of pixels for example, and tokens that are alike.

    distance: d of all pairs of values ``(K, K)``; None for the square of the difference over K - 1.

    Raises ValueError for distances that are not symmetric, negative, or zero between different values, and
    for a scale or a power that is not positive.

    >>> path = MetricTokens(9, scale=20.0)
    >>> path.sample(torch.tensor(0.99), torch.tensor([[4, 4, 0, 8]])).x
    tensor([[4, 4, 0, 8]])
    """

    distance: Tensor

    def __init__(self, size: int, distance: Tensor | None = None, scale: float = 60.0, power: float = 1.0):
        super().__init__(size, size)
        self.scale = check_number("scale", scale, 0)
        self.power = check_number("power", power, 0)
        if distance is None:
            level = torch.arange(size, dtype=torch.float64) / (size - 1)
            distance = (level[:, None] - level).square()
        found = check_finite(to_tensor(distance, "distance").double(), "distance")
        apart = ~torch.eye(size, dtype=torch.bool)
        if found.shape != (size, size):
            raise ValueError(f"distance: expected shape {(size, size)}, got {tuple(found.shape)}")
        if not bool((found == found.T).all()) or not bool((found[apart] > 0).all()) or found.diagonal().any():
            raise ValueError(
                "distance: expected a symmetric matrix, 0 on its diagonal and positive elsewhere"
            )
        self.register_buffer("distance", found)
        ratio = (LAST / (self.scale * float(found[apart].min()))) ** (1 / self.power)
        self.last = ratio / (1 + ratio)

    def beta(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """beta and its slope, each shaped like ``t``; those of :attr:`last` after that time."""
        t = t.clamp(max=self.last)
        beta = self.scale * (t / (1 - t)) ** self.power
        slope = self.scale * self.power * t ** (self.power - 1) / (1 - t) ** (self.power + 1)
        return beta, slope

    @property
    def start(self) -> Tensor:
        return torch.full((self.size,), 1 / self.size, dtype=torch.float64)

    def kernel(self, t: Tensor) -> Tensor:
        """log p_t(y | k), ``(..., K, K)``, k first, for times of any shape."""
        beta = self.beta(t)[0][..., None, None]
        return (-beta * self.distance.to(t)).log_softmax(-1)

    def sample(self, t: Tensor, *points: Tensor, generator: torch.Generator | None = None) -> PathPoint:
        """x_t given x1, the last of the points; a point of the source plays no part."""
        x1 = check_tokens(points[-1], self.size, "x1")
        moments = torch.as_tensor(t, dtype=torch.float64, device=x1.device)
        u = random.uniform(x1.shape, generator, torch.float64, x1.device)
        return PathPoint(t, draw(self._from(x1, self.kernel(moments).exp()), u), points, None)

    def log_likelihood(self, t: Tensor, x: Tensor) -> Tensor:
        return self._from(x, self.kernel(t).mT)

    @staticmethod
    def _from(x: Tensor, matrix: Tensor) -> Tensor:
        """The rows ``(B, *event, K)`` of a matrix, one for all or ``(B, K, K)``, that x stands for."""
        if matrix.ndim == 2:
            return matrix[x]
        rows = torch.arange(len(x), device=x.device).reshape(-1, *[1] * (x.ndim - 1))
        return matrix[rows.expand_as(x), x]

    def rates(self, t: Tensor, x: Tensor, log_posterior: Tensor, corrector: float = 0.0) -> Tensor:
        slope = by_token(self.beta(t)[1], x).to(log_posterior)
        return slope * self._moves(t, x, log_posterior, corrector)

    def expected(
        self, t: Tensor, t_next: Tensor, x: Tensor, log_posterior: Tensor, corrector: float = 0.0
    ) -> Tensor:
        change = by_token(self.beta(t_next)[0] - self.beta(t)[0], x).to(log_posterior)
        return change * self._moves(t, x, log_posterior, corrector)

    def _moves(self, t: Tensor, x: Tensor, log_posterior: Tensor, corrector: float) -> Tensor:
        """sum_k p(k | x_t) p_t(y | k) [d(x, k) - d(y, k)]_+, the rates over the slope of beta."""
        nearer = self._nearer(x).to(log_posterior)
        gain = nearer.relu()
        if corrector:
            weight = by_token(corrector * t * (1 - t), x).to(log_posterior)
            gain = gain + weight[..., None] * nearer.abs() if t.ndim else gain + weight * nearer.abs()
        kernel = self.kernel(t).exp().to(log_posterior)
        shape, K = x.shape, self.size
        weights = log_posterior.exp().reshape(len(x), -1, K)
        gain = gain.reshape(len(x), -1, K, K)
        which = "ky" if kernel.ndim == 2 else "bky"
        return torch.einsum(f"bdk,{which},bdky->bdy", weights, kernel, gain).reshape(*shape, K)

    def _nearer(self, x: Tensor) -> Tensor:
        """d(x, k) - d(y, k), ``(B, *event, K, K)``, k first."""
        return self.distance[x][..., None] - self.distance

    def redraws(self, posterior: Rates) -> Redraws | None:
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size}, scale={self.scale:g}, power={self.power:g})"
