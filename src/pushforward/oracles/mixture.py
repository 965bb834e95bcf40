"""The closed forms of a Gaussian-mixture target under the independent coupling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..paths import Coefficients, Interpolant, Path, check_affine
from ..sources import GaussianMixture
from ..tensors import Condition


class OracleOutput(nn.Module):
    """An output of an ``oracle`` as a field: the velocity, or the target of the prediction ``kind``.

    >>> oracle = GaussianMixtureOracle(GaussianMixture(torch.zeros(1, 1), 1.0))
    >>> OracleOutput(oracle, "noise")(torch.tensor(0.0), torch.ones(1, 1))
    tensor([[1.]])
    """

    def __init__(self, oracle: GaussianMixtureOracle, kind: str):
        super().__init__()
        self.oracle, self.kind = oracle, kind

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        ask = self.oracle if self.kind == "velocity" else getattr(self.oracle, self.kind)
        return ask(t, x, condition)


class GaussianMixtureOracle(nn.Module):
    """The exact marginal field of ``path`` from N(0, I) to ``mixture`` under the independent coupling.

    With s^2 = sigma^2 + gamma^2, component k of the distribution at t is N(alpha mu_k, alpha^2 S_k + s^2 I);
    its responsibilities give E[x1 | x_t = x] and E[n | x_t = x], and u = alpha' E[x1|x] + s' E[n|x].
    Calling the oracle gives the velocity, so it is a field like any other; a flow built on it has the
    mixture's exact density.  ``condition``: labels of the mixture's components.  Raises ValueError for a path
    that is not affine.

    >>> mixture = GaussianMixture(torch.tensor([[3.0]]), 1.0)
    >>> oracle = GaussianMixtureOracle(mixture)
    >>> oracle(torch.tensor(0.5), torch.tensor([[1.5]]))
    tensor([[3.]])
    """

    def __init__(self, mixture: GaussianMixture, path: Path | None = None):
        super().__init__()
        self.mixture, self.path = mixture, check_affine(path or Interpolant())

    def _at(
        self, t: Tensor | float, x: Tensor, condition: Condition | None
    ) -> tuple[Coefficients, Tensor, Tensor, Tensor]:
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        c = self.path.coefficients(t.reshape(-1))
        return c, *self.mixture.smoothed(x, c.alpha, c.noise_scale, condition)

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """The velocity u(t, x), shaped like ``x`` ``(B, *event)``."""
        c, _, data, noise = self._at(t, x, condition)
        shape = (-1, *([1] * (x.ndim - 1)))
        slope = c.d_noise_scale.reshape(shape)
        if not self.path.open_ends[1]:
            return c.d_alpha.reshape(shape) * data + slope * noise
        # s' is infinite where there is no noise, and s' noise = -s s' score is not
        clean = c.noise_scale.reshape(shape) == 0
        change = torch.where(clean, 0.0, slope) * noise
        end = -c.noise_d_noise.reshape(shape) * self.score(t, x, condition)
        return c.d_alpha.reshape(shape) * data + torch.where(clean, end, change)

    def log_prob(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """log p_t(x) in nats, ``(B,)``."""
        return self._at(t, x, condition)[1]

    def data(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """E[x1 | x_t = x], the denoiser."""
        return self._at(t, x, condition)[2]

    def noise(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """E[n | x_t = x], n the standard normal that x_t contains with deviation s."""
        return self._at(t, x, condition)[3]

    def v(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """E[(alpha n - s x1) / sqrt(alpha^2 + s^2) | x_t = x], what a v-prediction learns."""
        c, _, data, noise = self._at(t, x, condition)
        shape = (-1, *([1] * (x.ndim - 1)))
        alpha, s = c.alpha.reshape(shape), c.noise_scale.reshape(shape)
        return (alpha * noise - s * data) / torch.hypot(alpha, s)

    def score(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        """grad_x log p_t(x), which is -E[n | x] / s for s > 0."""
        c, _, _, noise = self._at(t, x, condition)
        s = c.noise_scale.reshape(-1, *([1] * (x.ndim - 1)))
        end = self.mixture.smoothed_score(x, c.alpha, c.noise_scale, condition)
        return torch.where(s > 0, -noise / torch.where(s > 0, s, 1.0), end)
