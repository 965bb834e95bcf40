"""The abstract source: the distribution at t = 0 of a flow."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..inputs import check_rows, to_condition
from ..manifolds import Manifold
from ..tensors import Condition, parameter_dtype, to_tensor


def _checked(log_prob: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``log_prob`` of arrays too, of the dtype of the source's parameters, and of rows alone."""

    @functools.wraps(log_prob)
    def checked(self: Source, x: Any, condition: Any = None) -> Tensor:
        x = check_rows(to_tensor(x, "x", parameter_dtype(self)), self.event_shape)
        return log_prob(self, x, to_condition(condition, self))

    return checked


class Source(nn.Module, ABC):
    """A distribution on events of shape ``event_shape`` that can be sampled and in most cases has a density.

    Points may be tensors or arrays, ``(B, *event_shape)``, also with B = 0.
    """

    event_shape: tuple[int, ...]

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "log_prob" in cls.__dict__:
            cls.log_prob = _checked(cls.log_prob)

    #: whether affine maps make normal distributions of it, and nothing else
    normal: bool = False
    #: the manifold on which its points lie, per volume of which its densities are; None for R^d
    manifold: Manifold | None = None
    #: what a fit has to say about itself, for reports
    note: str = ""

    def is_white(self, scale: float) -> bool:
        """Whether it is N(0, scale^2 I), to four digits."""
        return False

    @property
    def atoms(self) -> Tensor | None:
        """The rows ``(N, *event_shape)`` that are all there is of it; None for a distribution."""
        return None

    @abstractmethod
    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """``n`` draws, ``(n, *event_shape)``; ``condition``, where used, has ``n`` rows."""

    @abstractmethod
    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Log-density in nats, ``(B, *event_shape) -> (B,)``.

        Raises ValueError with the reason if there is no density.
        """

    def convolved(self, scale: float, noise: float) -> Source:
        """The distribution of scale * x + noise * n, x drawn from this source and n ~ N(0, I).

        Raises ValueError where it has no closed form here.
        """
        raise ValueError(f"a {type(self).__name__} has no closed form with noise added")

    def masked(self, mask: Tensor) -> Source:
        """The distribution of the elements where ``mask`` ``(B, *event_shape)`` is True, the others zero.

        It draws and scores B rows, and counts no element that is masked out.  Raises ValueError where
        elements cannot be left out.
        """
        raise ValueError(f"mask: a {type(self).__name__} cannot leave out elements; take a Normal as source")

    def affine(self, matrix: Tensor, offset: Tensor) -> Source:
        """The distribution of A x + b, x drawn from this source; A is ``(d, d)``, b ``(d,)``, events flat.

        Raises ValueError where it has no closed form here.
        """
        raise ValueError(f"a {type(self).__name__} has no closed form under a linear map")

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Initialise parameters, before training, from the source points ``x`` ``(B, *event_shape)`` of
        training rows; most sources have none to initialise."""
