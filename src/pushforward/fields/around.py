"""A network that learns the difference to a field in closed form."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..paths import Coefficients, Path, check_affine
from ..tensors import Condition, expand_time
from .base import AnyField, as_field
from .convert import Prediction, check_prediction
from .offers import Offered, linear, offered, summed


class _Proportional(nn.Module, ABC):
    """A field b(t) x along an affine ``path``, with its divergence d b(t)."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = check_affine(path)

    @abstractmethod
    def slope(self, c: Coefficients) -> Tensor:
        """b at the times of the coefficients, shaped like them."""

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self._at(t, x) * x

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both, see :func:`~pushforward.fields.offered`."""
        return linear(self._at(t, x), x, mask)

    def _at(self, t: Tensor | float, x: Tensor) -> Tensor:
        return self.slope(self.path.coefficients(expand_time(t, x)))


class BestLinear(_Proportional):
    """v(t, x) = b(t) x: the best linear velocity between independent points of equal covariance.

    Along ``path``, with x0 and x1 of mean 0 and one covariance, b = (alpha alpha' + sigma sigma' + gamma
    gamma') / (alpha^2 + sigma^2 + gamma^2), the regression of the velocity on x_t.  Its flow scales points by
    the deviation of x_t, so it does not change the distribution if the path starts and ends with equal
    deviation.  Raises ValueError for a path whose slopes are infinite at an end.

    >>> import torch
    >>> from pushforward.paths import Interpolant
    >>> BestLinear(Interpolant())(torch.tensor(0.5), torch.ones(1, 1))
    tensor([[0.]])
    """

    def __init__(self, path: Path):
        if path.open_ends != (False, False):
            raise ValueError("path: expected finite slopes at both ends")
        super().__init__(path)

    def slope(self, c: Coefficients) -> Tensor:
        slope = c.alpha * c.d_alpha + c.sigma * c.d_sigma + c.gamma_d_gamma
        return slope / (c.alpha.square() + c.noise_scale.square())


class OfNormalData(_Proportional):
    """The prediction ``kind`` along ``path`` that is right for data from N(0, I): v = 0, in other terms.

    Data alpha x / r^2, noise s x / r^2, score -x / r^2, with r^2 = alpha^2 + s^2.  A network that learns the
    difference to it has to be right only where data are, and where its input is far it adds to a prediction
    that is nearly right there, since far from all data noise explains a point best.

    >>> import torch
    >>> from pushforward.paths import Interpolant
    >>> OfNormalData(Interpolant(), "noise")(torch.tensor(0.0), torch.ones(1, 1))
    tensor([[1.]])
    """

    def __init__(self, path: Path, kind: Prediction):
        super().__init__(path)
        check_prediction(kind)
        self.kind: Prediction = kind

    def slope(self, c: Coefficients) -> Tensor:
        square = c.alpha.square() + c.noise_scale.square()
        slopes = {"data": c.alpha, "noise": c.noise_scale, "score": -torch.ones_like(square)}
        if self.kind == "velocity":
            return (c.alpha * c.d_alpha + c.sigma * c.d_sigma + c.gamma_d_gamma) / square
        return slopes.get(self.kind, torch.zeros_like(square)) / square


class Around(nn.Module):
    """``known`` + ``network``: the network learns the difference to a known field.

    A network that starts at zero then starts at the known field.

    >>> import torch
    >>> from pushforward.paths import Interpolant
    >>> still = lambda t, x, condition=None: torch.zeros_like(x)
    >>> Around(BestLinear(Interpolant()), still)(torch.tensor(1.0), torch.ones(1, 1))
    tensor([[1.]])
    """

    def __init__(self, known: AnyField, network: AnyField):
        super().__init__()
        self.known, self.network = as_field(known, "known"), as_field(network, "network")

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        t = t if isinstance(t, Tensor) else x.new_full((), t)
        return self.known(t, x, condition) + self.network(t, x, condition)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        return summed(
            offered(self.known, t, x, condition, mask), offered(self.network, t, x, condition, mask)
        )
