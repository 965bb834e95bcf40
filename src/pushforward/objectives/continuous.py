"""Maximum likelihood of continuous flows, with regularisers of their paths."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..flows import ContinuousFlow
from ..nn.checks import check_number
from ..solvers import ODE, Solution, WithIntegrals
from ..tensors import Condition, sum_event, valid_elements
from .base import Batch, Loss, Objective, Step, check_share, model_of, partly_hidden


class ContinuousLikelihood(Objective):
    r"""-E log p(x), and how far and how unevenly the points of the data travel, per element of an event:

    .. math:: -\log p(x) + \lambda_K \int_0^1 |f|^2 dt + \lambda_J \int_0^1 |e^T J|^2 dt

    ``models`` holds ``"flow"``, a :class:`~pushforward.flows.ContinuousFlow` with field f and Jacobian J
    (Chen et al. 2018, arXiv 1806.07366; Grathwohl et al. 2019, arXiv 1810.01367).  Its solver makes the steps
    of the training, and its divergence is exact or an estimate with new noise in each step.

    kinetic, jacobian: the weights of the regularisers, which make paths straight and the field smooth, so
        that few steps solve it (Finlay et al. 2020, arXiv 2002.02798, eq. 7 and 8).  The random directions e
        are those of the divergence, so that the second costs no more products.
    drop_condition: the share of rows whose condition is hidden, for guidance.

    Raises ValueError for a weight that is negative, and for ``jacobian`` with a divergence without random
    directions, which :class:`~pushforward.flows.Hutchinson` has.

    >>> import torch
    >>> from pushforward import ContinuousFlow, Normal, Rows
    >>> from pushforward.nn import ResidualMLP
    >>> models = nn.ModuleDict({"flow": ContinuousFlow(ResidualMLP(2), source=Normal(2))})
    >>> ContinuousLikelihood(kinetic=0.1).loss(models, Batch((Rows(torch.zeros(4, 2)),)), Step()).value
    tensor(0.9189, grad_fn=...)
    """

    main = "flow"

    def __init__(self, kinetic: float = 0.0, jacobian: float = 0.0, drop_condition: float = 0.0):
        for name, weight in (("kinetic", kinetic), ("jacobian", jacobian)):
            if weight != 0:
                check_number(name, weight, 0)
        self.kinetic, self.jacobian = kinetic, jacobian
        self.drop_condition = check_share(drop_condition)

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        rows = batch.target
        flow, x, size = cast(ContinuousFlow, model_of(models, "flow")), rows.x, float(rows.x[0].numel())
        if rows.mask is not None:
            valid = valid_elements(rows.mask, x)
            flow, x, size = flow.masked(rows.mask), torch.where(valid, x, 0.0), sum_event(valid).clamp(min=1)
        condition = partly_hidden(batch, self.drop_condition, step)
        solution = self._solve(flow, x, condition, step.generator)
        x0, log_det, *regularisers = solution.x
        errors = -(flow.source.log_prob(x0, condition) + log_det) / size
        # training stops at a loss that is not finite, and says so
        errors = torch.where(solution.status == 0, errors, torch.nan)
        terms: dict[str, Tensor] = {}
        value = batch.mean(errors)
        for name, total in zip(self._names, regularisers):
            # time runs backwards
            term = batch.mean(-total / size)
            terms[name] = term.detach()
            value = value + getattr(self, name) * term
        if terms:
            terms["nll"] = batch.mean(errors).detach()
        return Loss(value, errors.detach(), terms=terms)

    @property
    def _names(self) -> list[str]:
        return [name for name in ("kinetic", "jacobian") if getattr(self, name)]

    def _solve(
        self, flow: ContinuousFlow, x: Tensor, condition: Condition | None, generator: torch.Generator | None
    ) -> Solution[Any]:
        """x0, the log-determinant and the integrals of the regularisers, from the data at the end of time."""
        noise = flow.divergence.draw(x, generator)
        problem = flow.augmented(condition, noise)
        if self._names:
            along = getattr(flow.divergence, "along", None)
            if self.jacobian and along is None:
                raise ValueError(
                    f"jacobian: needs a divergence of random directions, such as Hutchinson(), "
                    f"got {flow.divergence!r}"
                )

            def whole(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                x = state[0]
                if not self.jacobian:
                    value, change = flow.divergence(flow.field, t, x, condition, noise)
                    return value, change, sum_event(value.square())
                assert along is not None and noise is not None
                value, slopes = along(flow.field, t, x, condition, noise)
                squares = slopes.square().sum(2).mean(1)
                kinetic = (sum_event(value.square()),) if self.kinetic else ()
                return value, (slopes * noise).sum(2).mean(1), *kinetic, squares

            velocity = WithIntegrals(whole, lambda t, state: (flow.field(t, state[0], condition),))
            problem = ODE(velocity, controlled=2)
        start = (x, *(x.new_zeros(len(x)) for _ in range(1 + len(self._names))))
        stop, begin = flow.interval
        return flow.solver.solve(problem, start, begin, stop)
