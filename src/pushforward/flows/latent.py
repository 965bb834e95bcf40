"""Flows whose field depends on a latent that is drawn once for each point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from .. import random
from ..fields.latent import AtLatent
from ..nn.checks import check_count
from ..solvers import ODE, Problem, Solution, Solver
from ..sources import Source
from ..tensors import Condition, sum_event, to_tensor
from .base import DensityFlow, Flow
from .continuous import ContinuousFlow

#: Attributes of a latent flow itself; all others are those of the flow of one latent.
OWN = frozenset({"flow", "latent", "encoder", "prior", "samples"})


class EachLatent(ODE):
    """An ODE for each latent."""


class LatentFlow(DensityFlow):
    r"""dx/dt = v(t, x, z) with z ~ p drawn once for each point: trajectories of different z may cross.

    A mixture of continuous flows, one for each z, with the density

    .. math:: p(x) = \int p(x | z)\, p(z)\, dz

    Variational rectified flow trains its field (Guo & Schwing 2025, arXiv 2502.09616), see
    :class:`~pushforward.objectives.VariationalMatching`.

    flow: a :class:`ContinuousFlow` whose field finds z, ``(B, latent)``, as the entry ``latent`` of its
    condition, see :func:`~pushforward.fields.with_latent`.  :meth:`at` gives the flow of a z of your own.
    encoder: the one of the training, which proposes z for :meth:`log_prob`; None: z is drawn from the prior.
    prior: the distribution of z, a source on events ``(latent,)``; None: N(0, I).
    samples: solves of the ODE for each density; 0 for none, which large events are too dear for.

    ``log_prob`` is log mean_j p(x | z_j) p(z_j) / q(z_j), a lower bound on the log-density in expectation,
    tighter with more samples (Burda et al. 2016, arXiv 1509.00519).  q is the mixture of the prior and of
    what the encoder says of x and each of samples - 1 draws of the source (Veach & Guibas 1995, balance
    heuristic).  It needs an exact divergence: the mean of exponentials of estimates would be no bound.

    Raises ValueError for sizes out of range and a flow that is not continuous.

    >>> from pushforward.sources import Normal
    >>> field = lambda t, x, condition: condition["latent"]
    >>> flow = LatentFlow(ContinuousFlow(field, source=Normal(2)), latent=2)
    >>> flow.at(torch.ones(2)).push(torch.zeros(1, 2)).round(decimals=4), flow.density
    (tensor([[1., 1.]]), 'bound')
    """

    equation, guided, unbiased = EachLatent, True, True
    no_density = (
        "has a bound on its density with samples and an exact divergence, which large events are too dear "
        "for; say flow.replace(samples=8, divergence=Exact())"
    )
    no_path = "its latent differs from point to point; flow.at(latent) is a flow of one"

    def __init__(
        self,
        flow: ContinuousFlow,
        latent: int,
        encoder: nn.Module | None = None,
        prior: Source | None = None,
        samples: int = 8,
    ):
        super().__init__()
        if flow.equation is not ODE:
            raise ValueError(f"flow: expected a ContinuousFlow, got a {type(flow).__name__}")
        self.latent, self.samples = check_count("latent", latent), check_count("samples", samples, 0)
        if prior is not None and prior.event_shape != (latent,):
            raise ValueError(f"prior: expected events of shape ({latent},), got {prior.event_shape}")
        self.flow, self.encoder, self.prior = flow, encoder, prior
        self.source, self.condition_shape = flow.source, flow.condition_shape

    @property
    def solver(self) -> Solver:
        """What follows the ODE of each latent."""
        return self.flow.solver

    @property
    def interval(self) -> tuple[float, float]:
        """The times within [0, 1] between which it is solved."""
        return self.flow.interval

    @property
    def density(self) -> Literal["exact", "bound", "estimate", "none"]:
        return "bound" if self.samples and self.flow.density == "exact" else "none"

    def _ways(self) -> Mapping[type[Problem], Callable[[Solver], Flow]]:
        return {ODE: lambda solver: self.replace(solver=solver)}

    def replace(self, **changes: Any) -> Self:
        """As :meth:`Flow.replace`; attributes of the flow of one latent are replaced there."""
        twin = super().replace(**{name: value for name, value in changes.items() if name in OWN})
        inner = {name: value for name, value in changes.items() if name not in OWN}
        if inner:
            twin.flow = twin.flow.replace(**inner)
        twin.source, twin.condition_shape = twin.flow.source, twin.flow.condition_shape
        return twin

    def at(self, latent: Any) -> ContinuousFlow:
        """The flow of the latent ``(latent,)``, or of one for each of B rows, ``(B, latent)``.

        Its density is p(x | z).  Raises ValueError for another shape.
        """
        z = to_tensor(latent, "latent", self.space_dtype("source"))
        if z.ndim not in (1, 2) or z.shape[-1] != self.latent:
            raise ValueError(f"latent: expected shape (..., {self.latent}), got {tuple(z.shape)}")
        return self.flow.replace(field=AtLatent(self.flow.field, z))

    def draw(self, n: int, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``n`` latents ``(n, latent)``, in the dtype and on the device of ``like``."""
        if self.prior is not None:
            return self.prior.sample(n, None, generator).to(like)
        return random.normal((n, self.latent), generator, like.dtype, like.device)

    def push(
        self, x0: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.at(self.draw(len(x0), x0, generator)).push(x0, condition)

    def trajectory(
        self,
        x0: Tensor,
        times: Sequence[float] | Tensor,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
    ) -> Solution[Tensor]:
        """States at increasing ``times``, ``path`` of shape ``(len(times), B, *event)``.

        With an equal generator its final state is that of :meth:`push`.  Raises ValueError for times that
        fall, since a data point has no latent of its own.
        """
        x0, times, forwards = self.start(x0, times)
        if not forwards:
            raise ValueError("times: expected increasing times, a LatentFlow runs one way")
        return self.at(self.draw(len(x0), x0, generator)).trajectory(x0, times, condition)

    def masked(self, mask: Tensor) -> Self:
        return self.replace(flow=self.flow.masked(mask))

    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        if self.density == "none":
            raise ValueError(f"a LatentFlow {self.no_density}")
        total = x.new_full((len(x),), -torch.inf)
        for z, log_weight in zip(*self._proposed(x, condition, generator)):
            total = torch.logaddexp(total, self.at(z)(x, condition) + log_weight)
        return total - math.log(self.samples)

    def _proposed(
        self, x: Tensor, condition: Condition | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Latents ``(samples, B, latent)`` and log p(z) / q(z), ``(samples, B)``."""
        encoder, rows = self.encoder, len(x)
        if encoder is None:
            drawn = torch.stack([self.draw(rows, x, generator) for _ in range(self.samples)])
            return drawn, x.new_zeros(self.samples, rows)
        starts = (self.source.sample(rows, condition, generator) for _ in range(self.samples - 1))
        posteriors = [encoder(x.new_ones(()), x0, x, x) for x0 in starts]
        drawn = [self.draw(rows, x, generator)]
        for mean, log_scale in posteriors:
            noise = random.normal(mean.shape, generator, mean.dtype, mean.device)
            drawn.append(mean + log_scale.exp() * noise)
        weights = []
        for z in drawn:
            mine = _log_normal(z) if self.prior is None else self.prior.log_prob(z)
            proposals = torch.stack([mine, *(_log_normal(z, *posterior) for posterior in posteriors)])
            weights.append(mine - (proposals.logsumexp(0) - math.log(self.samples)))
        return torch.stack(drawn), torch.stack(weights)


def _log_normal(z: Tensor, mean: Tensor | float = 0.0, log_scale: Tensor | None = None) -> Tensor:
    """log N(z; mean, scale^2), ``(B,)``."""
    spread = torch.zeros_like(z) if log_scale is None else log_scale
    return -sum_event(0.5 * (((z - mean) * (-spread).exp()).square() + math.log(2 * math.pi)) + spread)
