"""Commands that use a trained flow: ``pushforward sample``, ``push`` and ``score``."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from .common import Drawing, Opening, Reading, say

if TYPE_CHECKING:
    from ..recipes import Run

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Leading:
    """What leads the points of a sample, beside the field."""

    guidance: float | str | None = None
    """Weight of classifier-free guidance, or a guidance with options, such as `zero-star,weight=2`; default
    that of the run."""
    diffusion: str | None = None
    """Noise g(t) of a stochastic solver: a number, `proportional`, `memoryless`, with options:
    `constant,g=0.5,taper=2`; default `proportional`."""
    nfe: int | None = None
    """Evaluations of the network for a draw: steps of a flow map or of jumps, or those for which
    `pushforward tune` has found a solver."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Flags of ``sample``."""

    opening: Opening
    drawing: Drawing
    leading: Leading
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Rows to draw."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("samples.csv")
    """File to write: .csv, .tsv, .parquet, .npy, .npz, .png, of texts .txt."""
    escape: bool = False
    """An apostrophe before texts in .csv and .tsv that spreadsheets take for formulas (=, +, -, @)."""
    condition: tuple[str, ...] = ()
    """Conditions, used in turn: labels or numbers (`setosa,1.5` for two columns); default: as in the data."""
    last_weights: bool = False
    """Use the last weights instead of their average."""


def sample(args: Sample, command: str) -> int:
    """Draw from a trained flow: pushforward sample RUN -n 1000 -o samples.csv"""
    if args.n < 1:
        raise ValueError(f"-n {args.n}: expected a positive number of rows")

    from ..data.write import SUFFIXES, check_form, check_output, write_pieces
    from ..inference import draw_pieces

    check_output(args.out, SUFFIXES, args.escape)
    named = args.drawing.solver, args.leading.diffusion, args.leading.guidance
    run = args.opening.open(*named, averaged=not args.last_weights)
    check_form(args.out, run.schema, run.schema.condition is not None, args.n)
    pieces = draw_pieces(
        run,
        args.n,
        args.condition,
        guidance=args.leading.guidance,
        solver=args.drawing.solver,
        diffusion=args.leading.diffusion,
        nfe=args.leading.nfe,
        seed=args.drawing.seed,
    )
    lengths = ((piece, len(piece[0])) for piece in pieces)
    write_pieces(args.out, _watched("drawing", lengths, args.n), run.schema, args.escape)
    print(args.out)
    return 0


def _watched(title: str, pieces: Iterable[tuple[T, int]], total: int | None = None) -> Iterator[T]:
    """The ``pieces``, with the number of rows so far shown on standard error."""
    from ..training.progress import progress

    rows = 0
    with progress(title, 0, total, unit="row") as report:
        for piece, count in pieces:
            rows += count
            report(rows)
            yield piece


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Flags of ``tune``."""

    opening: Opening
    nfe: int = 6
    """Evaluations of the network that a draw may take."""
    seed: int = 0
    """Seed of the draws that the sampler is fitted to."""


def tune(args: Tune, command: str) -> int:
    """Find the best sampler of few evaluations, for sample --nfe: pushforward tune RUN --nfe 6"""
    from ..recipes.samplers import tune

    run = args.opening.open()
    found = tune(run, args.nfe, args.seed)
    text, least = min(found.tried.items(), key=lambda item: item[1])
    told = f"the best known solver, {text}, has {least:.2g}"
    say(f"error {found.error:.2g} with {found.nfe} evaluations; {told}")
    print(run.path / "sampler.json")
    return 0


@dataclass(frozen=True, kw_only=True)
class Push:
    """Flags of ``push``."""

    opening: Opening
    drawing: Drawing
    reading: Reading
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("moved.csv")
    """File to write: .csv, .tsv, .parquet, .npy, .npz, .png."""
    escape: bool = False
    """An apostrophe before texts in .csv and .tsv that spreadsheets take for formulas (=, +, -, @)."""
    back: bool = False
    """Carry points of the data to the source instead."""


def push(args: Push, command: str) -> int:
    """Carry given points to the data, or back: pushforward push RUN points.csv -o moved.csv"""
    from ..data.pieces import read_pieces
    from ..data.write import SUFFIXES, check_form, check_output, write_pieces
    from ..inference import carry_pieces

    check_output(args.out, SUFFIXES, args.escape)
    run = args.opening.open(args.drawing.solver)
    check_form(args.out, run.schema, run.schema.condition is not None)
    rows = read_pieces(args.reading.rows, run.schema, max_size=args.reading.max_size)
    pieces = carry_pieces(run, rows, back=args.back, solver=args.drawing.solver, seed=args.drawing.seed)
    lengths = ((piece, len(piece[0])) for piece in pieces)
    # points of the source are no integers where the data are
    schema = dataclasses.replace(run.schema, integers=()) if args.back else run.schema
    write_pieces(args.out, _watched("carrying", lengths), schema, args.escape)
    print(args.out)
    return 0


@dataclass(frozen=True, kw_only=True)
class Density:
    """How log-densities are computed."""

    bound_samples: int = 1
    """Draws of dequantisation noise for the lower bound of images; more make it tighter."""
    divergence: str | None = None
    """Divergence of a continuous flow: `exact`, `hutchinson,probes=4`, `hutchpp`; default that of the run."""
    probes: int | None = None
    """Estimate the log-density so many times, from random directions, and write the standard error too; for
    tokens and autoencoders, the bound."""
    nfe: int | None = None
    """Evaluations of the head of a flow map for a log-density; default 8."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Flags of ``score``."""

    opening: Opening
    drawing: Drawing
    reading: Reading
    density: Density
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("scores.csv")
    """Table to write, .csv, .tsv or .parquet: one log-density per row, in nats and data units."""
    keep: bool = False
    """Write the log-density beside all columns of the new rows, in their order."""
    escape: bool = False
    """With --keep: an apostrophe before texts that spreadsheets take for formulas (=, +, -, @)."""
    flag_below: float | None = None
    """Flag anomalies in a column `flag`: rows below this quantile of the held-out rows, such as 0.05."""


def score(args: Score, command: str) -> int:
    """Compute log-densities of new rows: pushforward score RUN new.csv -o scores.csv"""
    import numpy as np

    from ..data.beside import write_beside, write_columns
    from ..data.pieces import read_pieces
    from ..data.write import TABLES, check_output
    from ..inference import defect_sentence, density_name, score_pieces, threshold

    check_output(args.out, TABLES, args.escape)
    run = args.opening.open(args.drawing.solver)
    rows = read_pieces(args.reading.rows, run.schema, max_size=args.reading.max_size)
    first = list(itertools.islice(rows, 1))
    how: dict[str, Any] = {"solver": args.drawing.solver, "nfe": args.density.nfe}
    named = {"divergence": args.density.divergence, "probes": args.density.probes, **how}
    given = {"seed": args.drawing.seed, "bound_samples": args.density.bound_samples, **named}
    pieces = score_pieces(run, itertools.chain(first, rows), **given)
    share, limit, held_out = args.flag_below, None, 0
    if share is not None:
        limit, held_out = threshold(run, share, **given)
    name = density_name(run, **named)
    errors = () if args.density.probes is None else (f"{name}_error",)
    names = (name, *errors) if limit is None else (name, *errors, "flag")
    count, total, flagged = 0, 0.0, 0

    def columns() -> Iterator[tuple[dict[str, np.ndarray], int]]:
        nonlocal count, total, flagged
        for piece in pieces:
            values = piece if piece.ndim == 1 else piece[:, 0]
            flags = values < (-np.inf if limit is None else limit)
            count, total, flagged = (
                count + len(values),
                total + float(values.sum()),
                flagged + int(flags.sum()),
            )
            found = (values, *([piece[:, 1]] if errors else []), flags.astype(np.int64))
            yield dict(zip(names, found)), len(values)

    watched = _watched("scoring", columns())
    if args.keep:
        write_beside(args.out, args.reading.rows, names, watched, args.escape, args.reading.max_size)
    else:
        write_columns(args.out, names, watched)
    if limit is not None:
        say(
            f"flagged {flagged} of {count} rows: {name} below {limit:.4f}, "
            f"the {share:.4g} quantile of {held_out} held-out rows"
        )
    per = f" per {run.recipe.per}" if run.recipe.per else _bits(run, total / count)
    say(f"mean {name} of {count} rows: {total / count:.4f} nats{per}")
    told = defect_sentence(run, first[0], seed=args.drawing.seed, **how)
    if told:
        say(told)
    print(args.out)
    return 0


def _bits(run: Run, mean: float) -> str:
    """A mean log-density of whole levels in bits, as far as it says."""
    levels = run.schema.levels
    if levels is None or not math.isfinite(mean):
        return ""
    from ..metrics import bits_per_dim

    most = "at most " if run.flow.density == "bound" else ""
    bits = bits_per_dim(mean, math.prod(run.schema.event_shape), levels[2])
    per = "character" if run.schema.kind == "text" else "dimension"
    return f", {most}{bits:.4f} bits per {per}"
