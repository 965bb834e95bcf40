"""Log-densities of held-out rows: the model's, and those of what it has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..data.noise import notable
from ..flows import Exact, Hutchinson, InvertibleFlow
from ..flows.landing import landed_log_det
from ..metrics import bits_per_dim
from ..rows import Rows
from ..solvers import Euler, Solver
from ..tensors import Condition, condition_to, take_condition
from .baselines import Baseline, best_of, spread, usable
from .budget import LOOSE_EVALUATIONS
from .formatting import Value
from .loaded_run import LoadedRun

#: Up to here the divergence is computed whole, above it is estimated from one random direction.
EXACT_SIZE = 16
#: What rows of log-densities are called, and how many of them are looked at before the clock is.
NAME, PART = "rows of log-densities", 250
#: Rows carried at once: an adaptive solver works for its slowest row, so batches are short.
CHUNK = 512


@dataclass(frozen=True)
class Lead:
    """What the model has more than a baseline.

    gain: the mean difference of log-densities on the same held-out rows.  excess: the gap of the model less
    that of the baseline.
    """

    gain: Value
    excess: Value


@dataclass(frozen=True)
class Density:
    """The mean log-density of held-out rows in nats, under the model or a baseline, with its standard error.

    unlikely: how many rows have no density at all, and of how many.  gap: how much higher the mean is on as
    many training rows.  lead: how the model compares with this baseline, None for the model itself.
    bits: bits per dimension of whole values.  note: what the fit of the baseline chose.
    """

    key: str
    label: str
    mean: Value
    gap: Value
    unlikely: tuple[int, int] = (0, 0)
    lead: Lead | None = None
    bits: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        lead = {"gain": None, "excess": None} if self.lead is None else self.lead.__dict__
        values: dict[str, Value | None] = {"gap": self.gap, **lead}
        numbers: dict[str, Any] = {"mean": self.mean.value, "error": self.mean.spread}
        for name, value in values.items():
            numbers[name] = None if value is None else value.value
            numbers[f"{name}_error"] = None if value is None else value.spread
        unlikely, rows = self.unlikely
        told = {"key": self.key, "label": self.label, "note": self.note, "bits": self.bits}
        return {**told, **numbers, "rows": rows, "unlikely": unlikely}


@dataclass(frozen=True)
class Densities:
    """Log-densities of held-out rows.

    table: the model first, then the baselines; empty where the model has none.  best: the baseline under
    which they are highest, if there is one.  facts: how they were found, or why not.
    """

    table: list[Density]
    best: Baseline | None
    facts: dict[str, Any]

    @property
    def bound(self) -> bool:
        """Whether the model's log-densities are lower bounds."""
        return bool(self.facts.get("bound"))

    def of(self, key: str) -> Density | None:
        """That of the model or of a baseline."""
        return next((density for density in self.table if density.key == key), None)


@torch.no_grad()
def log_prob(
    loaded: LoadedRun,
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
    inner = loaded.inner
    if loaded.density == "none":
        raise ValueError(f"a {type(loaded.core).__name__} {loaded.core.no_density}")
    generator = loaded.generator("log_prob", *parts)
    if inner is None:
        flow = cast(InvertibleFlow, loaded.flow)
        return flow.log_prob(x.to(loaded.device), condition, generator).double().cpu(), 0.0
    out, total = [], 0.0
    own = inner.divergence
    method = Hutchinson() if loaded.size > EXACT_SIZE else own if own.exact else Exact()
    for index in torch.arange(len(x)).split(CHUNK):
        given = condition_to(take_condition(condition, index), loaded.device)
        y, log_det = loaded.sampler.inwards(x[index], generator)
        follow = inner.replace(divergence=method)
        noise = follow.divergence.draw(y, generator)
        start, change = y, y.new_zeros(len(y))
        if t > inner.interval[0]:
            solver = solver or loaded.budget.density_solver
            assert solver is not None
            low, high = inner.interval
            solution = solver.solve(follow.augmented(given, noise), (y, change), min(max(t, low), high), low)
            start, change = (solution.check() if strict else solution).x
            change = torch.where(solution.status == 0, change, torch.nan)
            total += float(solution.nfe.double().sum())
        start, change = landed_log_det(inner.source.manifold, y, start, change)
        out.append((inner.source.log_prob(start, given) + change).double().cpu() + log_det.double().cpu())
    return torch.cat(out), total / len(x)


def is_exact(loaded: LoadedRun) -> bool:
    """Whether log-densities are exact, and not estimated."""
    return loaded.inner is None or loaded.size <= EXACT_SIZE


def how(loaded: LoadedRun) -> str:
    """How divergences are found."""
    return "exact" if is_exact(loaded) else "one random direction per row"


def has_density(loaded: LoadedRun) -> str:
    """Why the flow has no density, or nothing where it has one."""
    x = loaded.reference.take(torch.arange(1))
    try:
        log_prob(loaded, x.x, loaded.condition(x), 1.0, "probe", solver=Euler(steps=1), strict=False)
    except ValueError as error:
        return str(error)
    return ""


def cost(loaded: LoadedRun) -> float:
    """Field evaluations that the log-density of a row takes."""
    # A directional derivative costs about two evaluations more, an exact divergence as many as elements.
    slopes = 2.5 * (loaded.size if loaded.size <= EXACT_SIZE else 1)
    return (1 + slopes) * (1.2 * LOOSE_EVALUATIONS if loaded.budget.adaptive else loaded.budget.evaluations)


def evaluate(loaded: LoadedRun, baselines: list[Baseline]) -> Densities:
    """Mean log-density per row of the model and of every baseline, on held-out and on training rows."""
    reason = has_density(loaded)
    budget = loaded.budget
    count = min(1000, len(loaded.test), len(loaded.train))
    count = budget.affordable(NAME, count, 0.24, 2 * cost(loaded))
    held = loaded.subset(loaded.test, count, "density")
    seen = loaded.subset(loaded.train, count, "training density")
    under = usable(baselines, spread(loaded, held.x, "test"), loaded.condition(held))
    key = best_of(under) if under else ""
    best = next((baseline for baseline in baselines if baseline.key == key), None)
    if reason:
        return Densities([], best, {"omitted": reason})
    (mine, learnt), evaluations = _of_model(loaded, held, seen)
    held, seen = held.take(torch.arange(len(mine))), seen.take(torch.arange(len(mine)))
    before = usable(baselines, spread(loaded, seen.x, "seen"), loaded.condition(seen))
    table = [_density(loaded, ("model", "this model", ""), (mine, learnt))]
    for each in baselines:
        if each.key in under and each.key in before:
            values = (under[each.key][: len(mine)], before[each.key])
            table.append(_density(loaded, (each.key, each.label, each.note), values, (mine, learnt)))
    facts = {
        "rows": len(held),
        "bound": loaded.density == "bound",
        "best": key,
        "atoms": repeated(loaded),
        "divergence": None if loaded.inner is None else how(loaded),
        "solver": repr(budget.density_solver),
        "nfe": evaluations,
    }
    return Densities(table, best, facts)


def _of_model(loaded: LoadedRun, held: Rows, seen: Rows) -> tuple[tuple[Tensor, Tensor], float]:
    """Log-densities of held-out and of training rows, as many as time allows, and the mean evaluations."""
    mine, learnt, total = [], [], 0.0
    for index in loaded.budget.parts(NAME, len(held), PART, 0.24):
        some, same = held.take(index), seen.take(index)
        values, nfe = log_prob(loaded, some.x, loaded.condition(some), 1.0, int(index[0]))
        mine.append(values)
        learnt.append(log_prob(loaded, same.x, loaded.condition(same), 1.0, "training", int(index[0]))[0])
        total += nfe * len(index)
    return (torch.cat(mine), torch.cat(learnt)), total / sum(len(values) for values in mine)


def repeated(loaded: LoadedRun) -> list[str]:
    """Columns of a table in which one value is so frequent that densities have no bound."""
    if not loaded.tabular or loaded.dequantised:
        return []
    columns, _ = notable(loaded.train.x.numpy())
    return [name for name, atom in zip(loaded.names, columns) if atom]


def _density(
    loaded: LoadedRun,
    named: tuple[str, str, str],
    values: tuple[Tensor, Tensor],
    model: tuple[Tensor, Tensor] | None = None,
) -> Density:
    """Of the log-densities of held-out and of training rows; ``model`` has those of the model.

    named: key, label and note.
    """
    (held, seen), (key, label, note) = values, named
    mean, levels, lead = Value.mean(held), loaded.schema.levels, None
    whole = loaded.dequantised or loaded.look == "text"
    bits = bits_per_dim(mean.value, loaded.size, levels[2]) if levels and whole else None
    if model is not None:
        lead = Lead(Value.mean(model[0] - held), _gap(model[0] - held, model[1] - seen))
    unlikely = (int((~held.isfinite()).sum()), len(held))
    bits = None if bits is None else float(bits)
    return Density(key, label, mean, _gap(held, seen), unlikely, lead, bits, note)


def _gap(held: Tensor, seen: Tensor) -> Value:
    """How much higher the mean of ``seen`` is, and its standard error."""
    low, high = Value.mean(held), Value.mean(seen)
    return Value(high.value - low.value, math.hypot(low.spread or 0.0, high.spread or 0.0))
