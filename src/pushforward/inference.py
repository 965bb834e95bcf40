"""Samples, scores and pushed points of a run, computed in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from . import random, registry
from .flows import Defect, FlowMapFlow, Hutchinson, Transformed, log_prob_and_error, multi_sample_bound
from .random import seeded
from .recipes import Run
from .recipes.asked import Asked, adjusted
from .rows import Rows, join_rows
from .runs import RunFolder
from .solvers import Solver
from .tensors import Condition, condition_length, condition_to, event_size, join_conditions, take_condition
from .training import ModelSpace

__all__ = [
    "carry",
    "carry_pieces",
    "defect",
    "defect_sentence",
    "density_name",
    "draw",
    "draw_pieces",
    "score",
    "score_pieces",
    "threshold",
]

#: Rows of the first piece of small events, of so many numbers at most.
FIRST, SMALL = 64, 16
#: Rows of a piece that grows as fast as the rows before it, and of any piece.
QUICK, MOST = 1024, 4096
#: Numbers of a piece that is drawn at most, and of one whose densities are computed.
DRAWN, SCORED = 2**20, 2**16
#: Rows whose round trip is made to see how exact a head is.
TRIED = 256


def piece_sizes(event: int, numbers: int) -> Iterator[int]:
    """The numbers of rows of consecutive pieces, which grow until a piece holds ``numbers`` numbers.

    The bounds of pieces depend on nothing else, and each piece is computed as a whole with its own seed, so
    that the first rows do not depend on how many follow.  For large events, whose superfluous rows cost much,
    a piece is at most a quarter of the rows before it.

    >>> table, images = piece_sizes(2, DRAWN), piece_sizes(3 * 64 * 64, DRAWN)
    >>> [next(table) for _ in range(7)], [next(images) for _ in range(10)]
    ([64, 64, 128, 256, 512, 1024, 1024], [16, 16, 16, 16, 16, 16, 16, 16, 32, 32])
    """
    most = min(MOST, 2 ** max(3, math.floor(math.log2(numbers / event))))
    size, start = min(most, FIRST if event <= SMALL else FIRST // 4), 0
    while True:
        share = 1 if event <= SMALL and size < QUICK else 4
        if start >= 2 * size * share and 2 * size <= most:
            size *= 2
        yield size
        start += size


def draw_pieces(
    run: Run,
    n: int,
    conditions: Sequence[str] = (),
    *,
    guidance: Asked = None,
    solver: str | Solver | None = None,
    diffusion: str | None = None,
    nfe: int | None = None,
    seed: int = 0,
) -> Iterator[tuple[Tensor, Condition | None]]:
    """The draws of :func:`draw` in pieces.  Errors in the arguments are raised before the first piece."""
    if n < 1:
        raise ValueError(f"-n {n}: expected a positive number of rows")
    spec = run.schema.condition
    if conditions and spec is None:
        raise ValueError("--condition: this run was trained without a condition")
    pool: Condition | None = None
    if spec is not None:
        pool = spec.parse(conditions) if conditions else RunFolder(run.path).conditions()
        if pool is None:
            raise ValueError(f"{run.path}: conditions.safetensors is missing; say --condition")
    flow = adjusted(run, guidance, solver, diffusion, nfe)

    def given(number: int, start: int, size: int) -> Condition | None:
        if pool is None:
            return None
        turn = torch.arange(start, start + size) % condition_length(pool)
        if not conditions:
            generator = seeded(seed, "condition", number)
            turn = torch.randint(condition_length(pool), (size,), generator=generator)
        return take_condition(pool, turn)

    def pieces() -> Iterator[tuple[Tensor, Condition | None]]:
        start = 0
        for number, size in enumerate(piece_sizes(event_size(run.schema.event_shape), DRAWN)):
            if start >= n:
                return
            condition = given(number, start, size)
            generator = seeded(seed, "sample", number, device=run.device)
            with torch.inference_mode():
                if condition is None:
                    x = flow.sample(size, None, generator)
                else:
                    x = flow.sample(1, condition_to(condition, run.device), generator)[0]
            rows = slice(n - start)
            yield x[rows].cpu(), take_condition(condition, rows)
            start += size

    return pieces()


def draw(run: Run, n: int, conditions: Sequence[str] = (), **options: Any) -> tuple[Tensor, Condition | None]:
    """``n`` samples in data units and the encoded condition of each (None without).

    Several ``conditions`` take turns over the rows; the values of several columns are separated by commas.
    Without any, conditions are drawn from those of the training data.  The first rows do not depend on
    ``n``, bit for bit.  ``options``: ``guidance``, ``solver``, ``diffusion``, ``seed``, and ``nfe``, the
    evaluations of a flow map, or of a sampler that was tuned, see :mod:`~pushforward.recipes.samplers`.

    Raises ValueError for an unknown label, a condition or guidance that the run does not take, and a
    ``guidance`` that is not finite.
    """
    pieces = list(draw_pieces(run, n, conditions, **options))
    return torch.cat([x for x, _ in pieces]), join_conditions(*(condition for _, condition in pieces))


#: What scores are called.
NAMES = {"exact": "log_prob", "bound": "log_prob_bound", "estimate": "log_prob_estimate"}


def density_name(
    run: Run,
    divergence: str | None = None,
    probes: int | None = None,
    solver: str | None = None,
    nfe: int | None = None,
) -> str:
    """The name of the result of :func:`score`: ``log_prob``; ``log_prob_bound`` where it is a bound, and
    ``log_prob_estimate`` where it is an estimate, such as one over random directions."""
    density = _estimating(run, _scoring(run, solver, nfe), divergence, probes).density
    return NAMES.get(density, NAMES["bound"])


def _scoring(run: Run, solver: str | None, nfe: int | None) -> Transformed:
    """The flow whose densities are computed.

    Raises ValueError for a number of evaluations where the run has no head that takes any.
    """
    if nfe is not None and not hasattr(run.flow.core, "steps"):
        raise ValueError(f"--nfe {nfe}: densities in a few evaluations are those of a flow map with --head")
    return adjusted(run, solver=solver, nfe=nfe)


def _estimating(run: Run, flow: Transformed, divergence: str | None, probes: int | None) -> Transformed:
    """``flow`` with another divergence, by Hutchinson where it is exact and several estimates are asked for.

    A model whose log_prob is a bound, by noise that it draws, is taken as it is.  Raises ValueError for
    another flow that has none.
    """
    flag = "--divergence" if divergence is not None else "--probes"
    if divergence is None and (probes is None or flow.core.density == "bound"):
        return flow
    if not hasattr(flow.core, "divergence"):
        raise ValueError(f"{flag}: a {type(flow.core).__name__} follows no velocity field; leave it out")
    if divergence is None:
        return flow.replace(divergence=Hutchinson()) if flow.core.density == "exact" else flow
    with registry.trusting((*run.trust, *registry.own_classes(divergence))):
        return flow.replace(divergence=registry.create("divergence", divergence))


def score_pieces(
    run: Run,
    rows: Iterable[Rows],
    *,
    solver: str | None = None,
    seed: int = 0,
    bound_samples: int = 1,
    divergence: str | None = None,
    probes: int | None = None,
    nfe: int | None = None,
) -> Iterator[np.ndarray]:
    """The scores of :func:`score` for rows that come in parts of any size: float64, piece by piece.

    With ``probes`` a row has two numbers, the mean of so many estimates and its standard error: ``(n, 2)``.
    Errors in the arguments are raised before the first piece.
    """
    if bound_samples < 1:
        raise ValueError(f"--bound-samples: expected at least 1, got {bound_samples}")
    if bound_samples > 1 and run.flow.density != "bound":
        raise ValueError(
            f"--bound-samples: the density of this run is no bound, but {run.flow.density}; leave it out"
        )
    if probes is not None and (bound_samples > 1 or probes < 2):
        wanted = "at least 2" if probes < 2 else "no --bound-samples beside it"
        raise ValueError(f"--probes {probes}: expected {wanted}")
    flow = _estimating(run, _scoring(run, solver, nfe), divergence, probes)
    if probes is not None and flow.density == "exact":
        raise ValueError(f"--probes {probes}: --divergence {divergence} is exact and has no error")

    def found(part: Rows, generator: torch.Generator) -> Tensor:
        if probes is None:
            return multi_sample_bound(flow, part.x, bound_samples, part.condition, generator)
        return torch.stack(log_prob_and_error(flow, part.x, probes, part.condition, generator), -1)

    def pieces() -> Iterator[np.ndarray]:
        for number, (part, count) in enumerate(_whole_pieces(run, rows)):
            generator = seeded(seed, "score", number, device=run.device)
            with torch.no_grad():  # not inference_mode: divergences are derivatives
                values = found(part, generator)
            yield values[:count].cpu().numpy().astype(np.float64)

    return pieces()


def score(run: Run, rows: Rows, **options: Any) -> tuple[str, list[float]]:
    """The name of the score, see :func:`density_name`, and its values.

    ``options``: ``solver``, ``seed`` and ``bound_samples``, draws of noise over which the bound averages the
    density; ``divergence`` of a continuous flow in place of its own, and ``probes``, with which the values
    are means of so many estimates or bounds; ``nfe``, the evaluations of the head of a flow map.  The noise
    of a row does not depend on how many rows follow.  Raises ValueError for fewer than one sample, for more
    if the density is no bound or the model itself has only a bound, and for a divergence of a flow without.
    """
    pieces = score_pieces(run, [rows], **options)
    named = {key: options[key] for key in ("divergence", "probes", "solver", "nfe") if key in options}
    values = [piece if piece.ndim == 1 else piece[:, 0] for piece in pieces]
    return density_name(run, **named), [value for piece in values for value in piece.tolist()]


def defect(
    run: Run, rows: Rows, *, solver: str | None = None, seed: int = 0, nfe: int | None = None
) -> Defect | None:
    """What a round trip of the first ``rows``, at most 256, shows of the flow map and the head that score
    them, in the space of the model, see :class:`~pushforward.flows.Defect`; None where no head does."""
    flow = _scoring(run, solver, nfe)
    if flow.flow.density != "estimate" or not hasattr(flow.core, "log_prob_and_defect"):
        return None
    space = ModelSpace(flow.bijection, flow.model_dtype, run.device)
    some = rows.take(torch.arange(min(len(rows), TRIED))).to(run.device)
    inside = space.rows(some, random.derive_seed(seed, "defect"))
    with torch.no_grad():
        return cast(FlowMapFlow, flow.core).log_prob_and_defect(inside.x, inside.condition)[1]


def defect_sentence(run: Run, rows: Rows, **options: Any) -> str:
    """What :func:`defect` finds, in words; nothing where it finds nothing."""
    found = defect(run, rows, **options)
    if found is None:
        return ""
    off = f"{float(found.log_det.mean()):.2g} nats and points by {float(found.distance.mean()):.2g}"
    return f"defect on {len(found.log_det)} rows: there and back again log-determinants are off by {off}"


def threshold(run: Run, share: float, **options: Any) -> tuple[float, int]:
    """The log-density that a ``share`` of the held-out rows lies below, and the number of these rows.

    About the same share of new rows like the training data lies below it.  ``options``: those of
    :func:`score`.  Raises ValueError for a share
    outside (0, 0.5), a run without held-out rows, and missing data.
    """
    if not 0 < share < 0.5:
        raise ValueError(f"--flag-below: expected a share in (0, 0.5), got {share}")
    held_out = run.dataset.test
    if len(held_out) == 0:
        raise ValueError(f"--flag-below: {run.path} has no held-out rows for the threshold (--holdout)")
    values = score(run, held_out, **options)[1]
    if held_out.weight is None:
        return float(np.quantile(values, share)), len(values)
    return float(np.quantile(values, share, weights=held_out.weight, method="inverted_cdf")), len(values)


def carry_pieces(
    run: Run, rows: Iterable[Rows], *, back: bool = False, solver: str | None = None, seed: int = 0
) -> Iterator[tuple[Tensor, Condition | None]]:
    """The points of :func:`carry` for rows that come in parts, with their conditions, piece by piece.

    Errors in the arguments are raised before the first piece.
    """
    given = run.config.data.source != "normal" or run.recipe.on_manifolds
    kind = run.schema.kind
    if not given and kind in ("image", "text"):
        raise ValueError(
            f"{run.path}: the latent points of {kind}s are not {kind}s; use flow.pull and flow.push"
        )
    flow = adjusted(run, solver=solver)
    scale = 1.0 if run.recipe.ends is None else run.recipe.ends[0].source_scale

    def carried(part: Rows, number: int) -> Tensor:
        generator = seeded(seed, "carry", number, device=run.device)
        if back:
            x = flow.pull(part.x, part.condition, generator)
            return flow.bijection.forward(x.to(flow.dtype) / scale, part.condition, generator) if given else x
        x = part.x.to(flow.model_dtype)
        if given:
            own = random.derive_seed(seed, "carry", number)
            space = ModelSpace(flow.bijection, flow.model_dtype, run.device)
            x = scale * space.rows(part, own).x
        return flow.push(x, part.condition, generator)

    def pieces() -> Iterator[tuple[Tensor, Condition | None]]:
        for number, (part, count) in enumerate(_whole_pieces(run, rows)):
            with torch.inference_mode():
                x = carried(part, number)
            first = slice(count)
            yield x[first].cpu(), condition_to(take_condition(part.condition, first), "cpu")

    return pieces()


def carry(run: Run, rows: Rows, **options: Any) -> Tensor:
    """Rows of the source carried to the data, or ``back``, in data units.

    ``options``: ``back``, ``solver`` and ``seed`` of :func:`carry_pieces`.
    If the source is given points (``--source``) its rows are also in data units; those of a normal source are
    the latent points.  The noise of a row does not depend on how many rows follow.

    Raises ValueError for latent points of images, which are not images, and for ``back`` with a flow that has
    no inverse.
    """
    return torch.cat([x for x, _ in carry_pieces(run, [rows], **options)])


def _whole_pieces(run: Run, rows: Iterable[Rows]) -> Iterator[tuple[Rows, int]]:
    """``rows`` regrouped in pieces of :func:`piece_sizes`, where the run is, and how many of each count.

    The last one is filled up with its last row, so that the noise and the shapes are those of a whole piece.
    """
    sizes = piece_sizes(event_size(run.schema.event_shape), SCORED)
    held: list[Rows] = []
    count, size = 0, next(sizes)
    for part in rows:
        held, count = [*held, part], count + len(part)
        if count < size:
            continue
        whole, start = join_rows(held), 0
        while count - start >= size:
            yield whole.take(torch.arange(start, start + size)).to(run.device), size
            start, size = start + size, next(sizes)
        held, count = [whole.take(torch.arange(start, count))], count - start
    if count:
        index = torch.arange(size).clamp(max=count - 1)
        yield join_rows(held).take(index).to(run.device), count
