"""Using a run: samples, scores and rows carried over, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import random, registry
from .couplings import Rows
from .flows import Transformed, multi_sample_bound
from .random import seeded
from .recipes import Run, build_path
from .runs import RunFolder
from .tensors import Condition, condition_length, condition_to, event_size, take_condition
from .training import in_model_space

__all__ = [
    "CHUNK",
    "carry",
    "draw",
    "score",
    "threshold",
]

#: Rows carried at once when sampling and scoring.
CHUNK = 1024


def _adjusted(run: Run, guidance: float | None = None, solver: str | None = None) -> Transformed:
    changes: dict[str, Any] = {}
    if guidance is not None:
        changes["guidance"] = guidance
    if solver is not None:
        with registry.trusting((*run.trust, *registry.own_classes(solver))):
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
) -> tuple[Tensor, Condition | None]:
    """``n`` samples in data units and the encoded condition of each (None without).

    Given ``conditions``, of several columns with commas between their values, take turns over the rows;
    without any they are drawn as they occur in the training data.  Raises ValueError for a label never seen
    and a condition the run does not take.
    """
    spec = run.schema.condition
    if conditions and spec is None:
        raise ValueError("--condition: this run was trained without a condition")
    generator = seeded(seed, "sample", device=run.device)
    given = None
    if spec is not None:
        pool = spec.parse(conditions) if conditions else RunFolder(run.path).conditions()
        if pool is None:
            raise ValueError(f"{run.path}: conditions.safetensors is missing; say --condition")
        size = condition_length(pool)
        turn = torch.arange(n) % size
        if not conditions:
            turn = torch.randint(size, (n,), generator=seeded(seed, "condition"))
        given = condition_to(take_condition(pool, turn), run.device)
    flow = _adjusted(run, guidance, solver)
    parts = []
    with torch.inference_mode():
        for start in range(0, n, CHUNK):
            rows = slice(start, min(n, start + CHUNK))
            if given is None:
                parts.append(flow.sample(rows.stop - rows.start, None, generator))
            else:
                parts.append(flow.sample(1, take_condition(given, rows), generator)[0])
    return torch.cat(parts).cpu(), condition_to(given, "cpu")


def score(
    run: Run, rows: Rows, *, solver: str | None = None, seed: int = 0, bound_samples: int = 1
) -> tuple[str, list[float]]:
    """What was computed ("log_prob", or "log_prob_bound" for dequantised data) and its value per row.

    ``bound_samples``: draws of the noise that the bound averages the density over.  Raises ValueError for
    fewer than one, and more than one where the model itself gives but a bound.
    """
    flow = _adjusted(run, solver=solver)
    generator = seeded(seed, "score", device=run.device)
    values: list[float] = []
    with torch.no_grad():  # not inference_mode: divergences are derivatives
        for part in _parts(run, rows):
            values += multi_sample_bound(flow, part.x, bound_samples, part.condition, generator).tolist()
    return "log_prob" if flow.density == "exact" else "log_prob_bound", values


def threshold(
    run: Run, share: float, *, solver: str | None = None, seed: int = 0, bound_samples: int = 1
) -> tuple[float, int]:
    """The log-density below which a ``share`` of the run's held-out rows lies, and how many rows these are.

    About that share of new rows like the training data lies below it too.  Raises ValueError for a share
    outside (0, 0.5), a run without held-out rows, and where its data are gone.
    """
    if not 0 < share < 0.5:
        raise ValueError(f"--flag-below: expected a share in (0, 0.5), got {share}")
    held_out = run.dataset.test
    if len(held_out) == 0:
        raise ValueError(f"--flag-below: {run.path} holds no rows out to take the threshold from (--holdout)")
    values = score(run, held_out, solver=solver, seed=seed, bound_samples=bound_samples)[1]
    if held_out.weight is None:
        return float(np.quantile(values, share)), len(values)
    return float(np.quantile(values, share, weights=held_out.weight, method="inverted_cdf")), len(values)


def carry(run: Run, rows: Rows, *, back: bool = False, solver: str | None = None, seed: int = 0) -> Tensor:
    """Rows of the source carried to the data, or ``back``, in data units.

    Where a run starts from given points (``--source``) the source's rows too are in data units; those of
    a normal source are the latent points themselves.  Raises ValueError for latent points of images, which
    are no images, and for the way back through a flow that has none.
    """
    given = run.config.data.source != "normal"
    if not given and run.schema.kind == "image":
        raise ValueError(
            f"{run.path}: the latent points of images are no images; use flow.pull and flow.push"
        )
    flow = _adjusted(run, solver=solver)
    with registry.trusting(run.trust):
        scale = build_path(run.config).ends()[0].source_scale
    generator = seeded(seed, "carry", device=run.device)
    parts = []
    with torch.inference_mode():
        for number, part in enumerate(_parts(run, rows)):
            if back:
                x = flow.pull(part.x, part.condition, generator)
                if given:
                    x = flow.bijection.forward(x.to(flow.dtype) / scale, part.condition, generator)
            else:
                x = part.x.to(flow.model_dtype)
                if given:
                    own = random.derive_seed(seed, "carry", number)
                    x = scale * in_model_space(part, flow.bijection, flow.model_dtype, own, run.device).x
                x = flow.push(x, part.condition, generator)
            parts.append(x.cpu())
    return torch.cat(parts)


def _parts(run: Run, rows: Rows) -> Iterator[Rows]:
    """``rows`` in parts that fit into memory, where the run is."""
    rows = rows.to(run.device)
    step = max(1, CHUNK * 64 // max(64, event_size(run.schema.event_shape)))
    for start in range(0, len(rows), step):
        yield rows.take(torch.arange(start, min(len(rows), start + step), device=rows.x.device))
