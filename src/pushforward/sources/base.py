"""What a source is: the law at t = 0 of a flow."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..tensors import Condition


class Source(nn.Module, ABC):
    """A law on events of shape ``event_shape`` that can be drawn from and, mostly, has a density."""

    event_shape: tuple[int, ...]
    #: what a fit has to say about itself, for reports
    note: str = ""

    @abstractmethod
    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """``n`` draws, ``(n, *event_shape)``; ``condition``, where used, has ``n`` rows."""

    @abstractmethod
    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Log-density in nats, ``(B, *event_shape) -> (B,)``.

        Raises ValueError with the reason where the law has none.
        """

    def convolved(self, scale: float, noise: float) -> Source:
        """The distribution of scale * x + noise * n, x drawn from this source and n ~ N(0, I).

        Raises ValueError where it has no closed form here.
        """
        raise ValueError(f"a {type(self).__name__} has no closed form with noise added")

    def affine(self, matrix: Tensor, offset: Tensor) -> Source:
        """The distribution of A x + b, x drawn from this source; A is ``(d, d)``, b ``(d,)``, events flat.

        Raises ValueError where it has no closed form here.
        """
        raise ValueError(f"a {type(self).__name__} has no closed form under a linear map")

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set from the source points ``x`` ``(B, *event_shape)`` of training rows what is better not left to
        chance, before training; most laws set nothing."""
