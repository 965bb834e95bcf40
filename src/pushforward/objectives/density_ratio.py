"""The ratio of two densities, from a classifier of their samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .. import random
from ..nn.checks import check_count, check_number
from ..tensors import Condition, sum_event
from .base import Batch, Loss, Objective, Step, model_of

#: A loss below which a discriminator hardly errs: at most in one row of thirty.
SATURATED = 0.02
#: What is estimated of generated rows with log-ratios r: KL(p_model || p_data), or the GAN's own.
DIVERGENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "kl": torch.neg,
    "non-saturating": lambda r: softplus(-r),
}
Divergence = Literal["kl", "non-saturating"]


class DensityRatio(Objective):
    r"""Logistic regression of data against generated rows, whose logit is their log-ratio of densities:

    .. math:: \tfrac12 \operatorname{E}_{p} \log(1 + e^{-r(x)}) + \tfrac12 \operatorname{E}_{q} \log(1 +
        e^{r(x)}) \quad\text{with the minimum}\quad r = \log p / q

    with p of the target of a batch and q of its source (Goodfellow et al. 2014, arXiv 1406.2661, proposition
    1; Sugiyama et al. 2012, doi 10.1017/CBO9781139035613).  At the minimum the loss is log 2 where p = q, and
    falls to 0 where they do not overlap.  ``models`` holds ``"discriminator"``, called with rows and their
    conditions, as :class:`~pushforward.nn.Discriminator` is; its answers are ``(B,)``.  A source without
    conditions has those of its pairs.

    penalty: weight of E_p |grad r|^2 / 2, which keeps the logits of distributions that hardly overlap from
        growing without bound (Mescheder et al. 2018, arXiv 1801.04406, eq. 9).
    noise: deviation of normal noise on both sides, so that the ratio is that of smoothed densities, which
        overlap (Sonderby et al. 2017, arXiv 1610.04490).
    patience: after so many steps in a row with a mean loss below 0.02 a warning says that the discriminator
        makes no errors; this costs a GPU one wait each time.

    Raises ValueError for numbers that are negative, for rows with a mask, and logits of another shape.

    >>> from pushforward import Rows
    >>> from pushforward.nn import MLP, Discriminator
    >>> models = nn.ModuleDict({"discriminator": Discriminator(MLP(2))})
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> loss = DensityRatio().loss(models, batch, Step())
    >>> loss.per_sample.shape, DensityRatio().log_ratio(models, torch.zeros(3, 2)).shape
    (torch.Size([8]), torch.Size([3]))
    """

    main = "discriminator"

    def __init__(self, penalty: float = 0.0, noise: float = 0.0, patience: int = 200):
        self.penalty = check_number("penalty", penalty, 0) if penalty else 0.0
        self.noise = check_number("noise", noise, 0) if noise else 0.0
        self.patience = check_count("patience", patience)
        self._recent: list[Tensor] = []

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        rows, generator = batch.target, step.generator
        if rows.mask is not None:
            raise ValueError("mask: a discriminator sees whole events, and takes no rows with a mask")
        slopes = self.penalty > 0 and torch.is_grad_enabled()
        x, y = (self._blurred(part.x, generator).detach() for part in (rows, batch.source))
        real = self._logits(models, x.requires_grad_(slopes), rows.condition)
        condition = rows.condition if batch.source.condition is None else batch.source.condition
        false = self._logits(models, y, condition)
        errors = 0.5 * (softplus(-real) + softplus(false))
        value = batch.mean(errors)
        self._watch(value.detach())
        right = batch.mean(0.5 * ((real > 0).to(x) + (false < 0).to(x)))
        if slopes:
            (gradient,) = torch.autograd.grad(real.sum(), x, create_graph=True)
            value = value + 0.5 * self.penalty * batch.mean(sum_event(gradient.square()))
        return Loss(value, errors.detach(), terms={"accuracy": right})

    def log_ratio(self, models: nn.ModuleDict, x: Tensor, condition: Condition | None = None) -> Tensor:
        """r = log p / q at rows ``x``, ``(B,)`` in nats."""
        return self._logits(models, x, condition)

    def divergence(
        self,
        models: nn.ModuleDict,
        x: Tensor,
        condition: Condition | None = None,
        kind: Divergence = "kl",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """What generated rows ``x`` pay for being told from data, ``(B,)``, to be descended by their model.

        "kl": -r, whose mean is KL(q || p) at the right ratio; its slope in x is that of particles.
        "non-saturating": log(1 + exp(-r)), which a GAN descends (Goodfellow et al. 2014, arXiv 1406.2661,
        section 3), with a slope that is small where generated rows look real.
        """
        return DIVERGENCES[kind](self._logits(models, self._blurred(x, generator), condition))

    def _blurred(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.noise == 0:
            return x
        return x + self.noise * random.normal(x.shape, generator, x.dtype, x.device)

    def _logits(self, models: nn.ModuleDict, x: Tensor, condition: Condition | None) -> Tensor:
        found = model_of(models, "discriminator")(x, condition)
        if found.shape != x.shape[:1]:
            raise ValueError(
                f"discriminator: expected one logit for each of {len(x)} rows, got shape {tuple(found.shape)}"
            )
        return found

    def _watch(self, loss: Tensor) -> None:
        """Warn of a discriminator that makes no errors."""
        if not torch.is_grad_enabled():
            return
        self._recent.append(loss)
        if len(self._recent) < self.patience:
            return
        mean = float(torch.stack(self._recent).mean())
        self._recent.clear()
        if mean < SATURATED:
            warnings.warn(
                f"the discriminator tells data from generated rows without error: over {self.patience} steps "
                f"its loss was {mean:.1g}, and {math.log(2):.2f} is that of a guess; its slope then says "
                "nothing about the data. Give DensityRatio a penalty or noise, the discriminator a smaller "
                "network, or the adversarial term a lower weight",
                stacklevel=2,
            )
