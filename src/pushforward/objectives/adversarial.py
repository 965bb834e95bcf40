"""A discriminator's divergence added to another objective."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from ..nn.checks import check_number
from ..rows import Rows
from ..solvers import ODE, Euler, Solver
from .base import Batch, Loss, Objective, Step, field_of
from .density_ratio import DensityRatio, Divergence
from .flow_matching import FlowMatching


class Adversarial(Objective):
    r"""An objective plus a divergence of generated rows from the data, by a discriminator trained with it:

    .. math:: L(v) + \lambda \, \mathrm{KL}(q_v \,\|\, p), \qquad
        \mathrm{KL} = -\operatorname{E}_{q_v} r(x), \quad r \approx \log p / q_v

    q_v is the distribution of where the field v carries the source of the batch in the few steps of
    ``solver``, through which gradients go; r is the logit of a :class:`DensityRatio`.  The slope of r at a
    generated row is the drift of a particle under :func:`~pushforward.gradient_flows.diffflow` with weight 1,
    so that the first term is that of a diffusion and the second that of a GAN (Zhang et al. 2023, arXiv
    2307.02159).

    Rows are generated from the source, and not as predictions x_t + (1 - t) v(t, x_t), which for the best
    field are conditional means: their distribution is not that of the data, and a discriminator would pull
    the field away from its minimum.  With few steps it does so too, towards a flow that is good in just these
    steps.

    ``models`` holds those of ``objective`` (``"field"``) and ``"discriminator"``, which is not needed where
    the weight is 0.  Two optimisers take turns.  With :class:`Distillation` and ``Euler(steps=1)`` it
    trains a generator of one step, a :class:`~pushforward.fields.Straight` flow map, by regression and
    divergence together.

    objective: by default :class:`FlowMatching`.  weight: lambda, in units of the loss per nat.
    solver: by default ``Euler(steps=4)``.  divergence: "kl" or "non-saturating", see
    :meth:`DensityRatio.divergence`.
    rate: how many times faster the discriminator learns, since a ratio that is behind is of a field that is
        no more (Heusel et al. 2017, arXiv 1706.08500).
    data_last: whether batches have one marginal more, the data of the discriminator.  With the pairs of a
        teacher it is the way to be better than that.

    Raises ValueError for a weight that is negative, a rate that is not positive, an objective with several
    optimisers, an unknown divergence, and a solver of another problem than an ODE.

    >>> from pushforward.nn import MLP, Discriminator
    >>> models = nn.ModuleDict({"field": MLP(2), "discriminator": Discriminator(MLP(2))})
    >>> objective, batch = Adversarial(weight=0.1), Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> list(objective.phases), sorted(objective.loss(models, batch, Step()).terms)
    (['train', 'discriminator'], ['divergence', 'matching'])
    """

    def __init__(
        self,
        objective: Objective | None = None,
        weight: float = 0.1,
        ratio: DensityRatio | None = None,
        solver: Solver | None = None,
        divergence: Divergence = "kl",
        rate: float = 5.0,
        data_last: bool = False,
    ):
        self.objective, self.ratio = objective or FlowMatching(), ratio or DensityRatio()
        self.weight = check_number("weight", weight, 0) if weight else 0.0
        self.data_last = data_last
        self.solver = solver or Euler(steps=4)
        self.divergence: Divergence = divergence
        if list(self.objective.phases) != ["train"]:
            raise ValueError(
                f"objective: expected one with a single optimiser, got {', '.join(self.objective.phases)}"
            )
        if divergence not in get_args(Divergence):
            raise ValueError(f"divergence: expected {' or '.join(get_args(Divergence))}, got {divergence!r}")
        if self.solver.solves is not ODE:
            raise ValueError(f"solver: expected one of an ODE, got {self.solver!r}")
        self.main = self.objective.main
        self.phases = {"train": self.objective.phases["train"] or (self.main,)}
        self.rates = {"discriminator": check_number("rate", rate, 0)}
        if self.weight:
            self.phases["discriminator"] = ("discriminator",)

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        data = batch.target
        if self.data_last:
            if len(batch.marginals) < 3:
                raise ValueError(
                    f"batch: expected source, target and data, got {len(batch.marginals)} marginals"
                )
            batch = Batch(batch.marginals[:-1], batch.weight, batch.normaliser)
        if step.phase == "discriminator":
            with torch.no_grad():
                generated = Rows(self._generated(models, batch), batch.target.condition)
            both = Batch((generated, data), batch.weight, batch.normaliser)
            return self.ratio.loss(models, both, step)
        loss = self.objective.loss(models, batch, step)
        if not self.weight:
            return loss
        x, condition = self._generated(models, batch), batch.target.condition
        apart = self.ratio.divergence(models, x, condition, self.divergence, step.generator)
        mean = batch.mean(apart)
        errors = loss.per_sample + self.weight * apart.detach()
        terms = {**loss.terms, "matching": loss.value.detach(), "divergence": mean.detach()}
        return Loss(loss.value + self.weight * mean, errors, loss.t, terms)

    def _generated(self, models: nn.ModuleDict, batch: Batch) -> Tensor:
        """Where the field carries the source of the batch, ``(B, *event)``."""
        field, condition = field_of(models, self.main, batch.target.mask), batch.target.condition
        return self.solver.solve(lambda t, x: field(t, x, condition), batch.source.x, 0.0, 1.0).x
