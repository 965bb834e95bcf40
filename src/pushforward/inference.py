"""Using a run: samples and scores, many rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import registry
from .couplings import Rows
from .flows import Transformed
from .random import seeded
from .recipes import Run
from .runs import RunFolder
from .tensors import event_size

#: Rows carried at once when sampling and scoring.
CHUNK = 1024


def _adjusted(run: Run, guidance: float | None = None, solver: str | None = None) -> Transformed:
    changes: dict[str, Any] = {}
    if guidance is not None:
        changes["guidance"] = guidance
    if solver is not None:
        changes["solver"] = registry.create("solver", solver)
    return run.flow.replace(**changes)


def draw(
    run: Run,
    n: int,
    conditions: Sequence[str] = (),
    *,
    guidance: float | None = None,
    solver: str | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """``n`` samples in data units and the encoded condition of each (None without).

    Given ``conditions`` take turns over the rows; without any they are drawn as they occur in the
    training data.  Raises ValueError for a label never seen and a condition the run does not take.
    """
    spec = run.schema.condition
    if conditions and spec is None:
        raise ValueError("--condition: this run was trained without a condition")
    generator = seeded(seed, "sample", device=run.device)
    given = None
    if spec is not None:
        pool = spec.encode(list(conditions)) if conditions else RunFolder(run.path).conditions()
        if pool is None:
            raise ValueError(f"{run.path}: conditions.safetensors is missing; say --condition")
        turn = torch.arange(n) % len(pool)
        if not conditions:
            turn = torch.randint(len(pool), (n,), generator=seeded(seed, "condition"))
        given = pool[turn].to(run.device)
    flow = _adjusted(run, guidance, solver)
    parts = []
    with torch.inference_mode():
        for start in range(0, n, CHUNK):
            rows = slice(start, min(n, start + CHUNK))
            if given is None:
                parts.append(flow.sample(rows.stop - rows.start, None, generator))
            else:
                parts.append(flow.sample(1, given[rows], generator)[0])
    return torch.cat(parts).cpu(), None if given is None else given.cpu()


def score(run: Run, rows: Rows, *, solver: str | None = None, seed: int = 0) -> tuple[str, list[float]]:
    """What was computed ("log_prob", or "log_prob_bound" for dequantised data) and its value per row."""
    flow = _adjusted(run, solver=solver)
    generator = seeded(seed, "score", device=run.device)
    rows = rows.to(run.device)
    step = max(1, CHUNK * 64 // max(64, event_size(run.schema.event_shape)))
    values: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(rows), step):
            part = rows.take(torch.arange(start, min(len(rows), start + step), device=rows.x.device))
            values += flow.log_prob(part.x, part.condition, generator).tolist()
    return "log_prob" if flow.density == "exact" else "log_prob_bound", values
