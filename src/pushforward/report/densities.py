"""Log-densities of held-out rows: the model's, and those of what it has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import random
from ..couplings import Rows
from ..flows import InvertibleFlow, divergence
from ..metrics import KernelDensity, bits_per_dim, fit_gaussian
from ..metrics.baselines.kernel import Kernel
from ..solvers import ODE, Adaptive, Euler, Solver
from ..sources import Source
from ..tensors import Condition, condition_to, take_condition
from .subject import LOOSE_EVALUATIONS, Subject

#: Up to here the divergence is computed whole, above it is estimated from one random direction.
EXACT_SIZE = 16
#: Rows carried at once: an adaptive solver works for its slowest row, so batches are short.
CHUNK = 512
#: Up to here kernels are worth comparing with.
KERNEL_SIZE = 8


@dataclass(frozen=True)
class Density:
    """A mean log-density of held-out rows in nats, its standard error, and what the model has more.

    gain, gain_error: mean and standard error of the paired difference model - this (None for the model).
    """

    key: str
    label: str
    mean: float
    error: float
    bits: float | None
    gain: float | None = None
    gain_error: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.__dict__}


@torch.no_grad()
def log_prob(
    subject: Subject,
    x: Tensor,
    condition: Condition | None,
    t: float = 1.0,
    *parts: int | str,
    solver: Solver | None = None,
    strict: bool = True,
) -> tuple[Tensor, float]:
    """log p_t in data units of rows ``x`` ``(n, *event)``, ``(n,)`` float64, and the mean evaluations.

    log p_t(x) = log p_0(x_0) - int_0^t div v(s, x_s) ds + log|det| of the preprocessing; the divergence is
    exact in few dimensions, else e^T J e with one random sign vector e per row, whose mean is exact
    (Grathwohl et al. 2019, arXiv 1810.01367, eq. 7).  Where ``strict`` is off, rows that the solver gives
    up are nan.  Raises ValueError where the flow has no density, RuntimeError where the solver fails.
    """
    inner = subject.inner
    if not isinstance(subject.flow, InvertibleFlow):
        raise ValueError(f"a {type(subject.flow).__name__} cannot be run backwards, so it has no density")
    generator = subject.generator("log_prob", *parts)
    if inner is None:
        return subject.flow.log_prob(x.to(subject.device), condition, generator).double().cpu(), 0.0
    out, total = [], 0.0
    for index in torch.arange(len(x)).split(CHUNK):
        given = condition_to(take_condition(condition, index), subject.device)
        y, log_det = subject.inwards(x[index], generator)
        signs = random.uniform(y.shape, generator, y.dtype, y.device)
        signs = torch.where(signs < 0.5, -1.0, 1.0).to(y)

        def velocity(s: Tensor, state: Any, given: Any = given, signs: Tensor = signs) -> Any:
            def at(z: Tensor) -> Tensor:
                return inner.field(s, z, given)

            if subject.size <= EXACT_SIZE:
                return divergence(at, state[0], inner.chunk)
            value, slope = torch.func.jvp(at, (state[0],), (signs,))[:2]
            return value, (slope * signs).reshape(len(signs), -1).sum(1)

        start, change = y, y.new_zeros(len(y))
        if t > inner.interval[0]:
            solver = solver or subject.gauge
            assert solver is not None
            low, high = inner.interval
            solution = solver.solve(ODE(velocity), (y, change), min(max(t, low), high), low)
            start, change = (solution.check() if strict else solution).x
            change = torch.where(solution.status == 0, change, torch.nan)
            total += float(solution.nfe.double().sum())
        out.append((inner.source.log_prob(start, given) + change).double().cpu() + log_det.double().cpu())
    return torch.cat(out), total / len(x)


def has_density(subject: Subject) -> str:
    """Why the flow has no density, or nothing where it has one."""
    x = subject.reference.take(torch.arange(1))
    try:
        log_prob(subject, x.x, subject.condition(x), 1.0, "probe", solver=Euler(steps=1), strict=False)
    except ValueError as error:
        return str(error)
    return ""


def gaussian_of(subject: Subject) -> Source:
    """The Gaussian baseline, fitted to training rows as the model sees them (dequantised)."""
    return fit_gaussian(_spread(subject, subject.train.x, "train"), subject.condition(subject.train))


def _spread(subject: Subject, x: Tensor, *parts: str) -> Tensor:
    """Whole levels with noise that fills the step, so that they have a density; other data as they are."""
    x = x.double()
    if not subject.dequantised:
        return x
    assert subject.schema.levels is not None
    return x + subject.schema.levels[2] * random.uniform(
        x.shape, subject.generator("spread", *parts), x.dtype
    )


def evaluate(subject: Subject, gaussian: Source) -> tuple[list[Density], dict[str, Any]]:
    """Mean log-density per held-out row of the model, the Gaussian and kernels, and facts about it.

    The list is empty, and the facts hold the reason, where the model has no density.
    """
    reason = has_density(subject)
    if reason:
        return [], {"omitted": reason}
    # A directional derivative costs about two evaluations more, an exact divergence as many as elements.
    slopes = 2.5 * (subject.size if subject.size <= EXACT_SIZE else 1)
    evaluations = 1.2 * LOOSE_EVALUATIONS if isinstance(subject.solver, Adaptive) else subject.evaluations
    wanted = subject.affordable(1000, 0.12, (1 + slopes) * evaluations)
    held: Rows = subject.some(subject.test, min(wanted, len(subject.test)), "density")
    condition = subject.condition(held)
    try:
        mine, evaluations = log_prob(subject, held.x, condition)
    except RuntimeError as error:  # the solver gave up on a row, and a mean without it would flatter
        return [], {"omitted": str(error)}
    bound = getattr(subject.flow, "density", "exact") == "bound"
    table = [_density(subject, "model", "this model", mine, None)]
    rows = _spread(subject, held.x, "test")
    kind = "Gaussian, one per label" if subject.labelled else "Gaussian, full covariance"
    kind = "Gaussian, mean linear in the condition" if subject.spec and not subject.labelled else kind
    table.append(_density(subject, "gaussian", kind, gaussian.log_prob(rows, condition), mine))
    for kernel in ("gaussian", "exponential"):
        table += _kernel(subject, kernel, rows, subject.labels(held), mine)
    divergence = "exact" if subject.size <= EXACT_SIZE else "one random direction per row"
    facts = {
        "rows": len(held),
        "bound": bound,
        "divergence": None if subject.inner is None else divergence,
        "solver": repr(subject.gauge),
        "nfe": evaluations,
    }
    return table, facts


def _kernel(
    subject: Subject, kernel: Kernel, rows: Tensor, labels: Tensor | None, mine: Tensor
) -> list[Density]:
    fits = subject.size <= KERNEL_SIZE and len(subject.event) == 1 and not subject.dequantised
    if not fits or (subject.spec is not None and not subject.labelled):
        return []
    train = subject.train.take(torch.arange(min(len(subject.train), 10_000)))
    generator = subject.generator("kernel", kernel)
    try:
        law = KernelDensity(train.x, kernel, subject.labels(train), generator=generator)
    except ValueError:  # too few rows of some label
        return []
    note = f"bandwidth {law.bandwidth:.3g}" + (", columns divided by their deviation" if law.scaled else "")
    label = f"kernel density, {kernel}"
    return [_density(subject, f"kernel_{kernel}", label, law.log_prob(rows, labels), mine, note)]


def _density(
    subject: Subject, key: str, label: str, values: Tensor, mine: Tensor | None, note: str = ""
) -> Density:
    values = values.double()
    gain = None if mine is None else mine - values
    levels = subject.schema.levels
    bits = (
        bits_per_dim(float(values.mean()), subject.size, levels[2])
        if levels and subject.dequantised
        else None
    )
    return Density(
        key,
        label,
        float(values.mean()),
        _error(values),
        None if bits is None else float(bits),
        None if gain is None else float(gain.mean()),
        None if gain is None else _error(gain),
        note,
    )


def _error(values: Tensor) -> float:
    """Standard error of the mean."""
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
