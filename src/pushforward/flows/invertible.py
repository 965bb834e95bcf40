"""Abstract flows that also pull data back to the source."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..tensors import Condition, ConditionLike
from .base import DensityFlow
from .distribution import FlowDistribution


class InvertibleFlow(DensityFlow):
    """A flow that also runs backwards: log p(x) = log p_source(x0) + log|det dx0/dx|."""

    @property
    def invertible(self) -> bool:
        return True

    @abstractmethod
    def push_and_log_det(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Source to data with log|det dx/dx0| ``(B,)``."""

    @abstractmethod
    def pull_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Data to source with log|det dx0/dx| ``(B,)``."""

    @abstractmethod
    def pull(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Data points to source points, the inverse of :meth:`push`."""

    def pulled_log_prob(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The log-density of rows by change of variables, ``(B,)``."""
        x0, log_det = self.pull_and_log_det(x, condition, generator)
        return self.source.log_prob(x0, condition).to(log_det) + log_det

    def sample_and_log_prob(
        self,
        n: int | Sequence[int],
        condition: ConditionLike | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws as :meth:`sample` and their log-density, in one pass; guidance is ignored."""
        log_p = []

        def carry(x0: Tensor, rows: Condition | None, g: torch.Generator | None) -> Tensor:
            x, log_det = self.push_and_log_det(x0, rows, g)
            log_p.append(self.source.log_prob(x0, rows) - log_det)
            return x

        x = self._sample(n, condition, generator, carry)
        return x, log_p[0].reshape(x.shape[: x.ndim - len(self.event_shape)])

    def given(
        self, condition: ConditionLike | None = None, generator: torch.Generator | None = None
    ) -> torch.distributions.Distribution:
        """The distribution under ``condition`` as a torch distribution of ``batch_shape`` () or (B,)."""
        return FlowDistribution(self, self.conditions(condition), generator)
