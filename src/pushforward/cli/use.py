"""What is done with a trained flow: ``pushforward sample``, ``push`` and ``score``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from ..registry import own_classes
from .common import Device, Trusted, parse, say

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Flags of ``sample``."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Rows to draw."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("samples.csv")
    """File to write: .csv, .tsv, .parquet, .npy, .npz, .png."""
    escape: bool = False
    """An apostrophe before texts in .csv and .tsv that spreadsheets take for formulas (=, +, -, @)."""
    condition: tuple[str, ...] = ()
    """Conditions, taking turns: labels or numbers (`setosa,1.5` for two columns); default: as in the data."""
    guidance: float | None = None
    """Weight of classifier-free guidance; default that of the run."""
    solver: str | None = None
    """Solver, for example `heun,steps=20`; default that of the run."""
    seed: int = 0
    """Seed of the draws."""
    last_weights: bool = False
    """Use the last weights instead of their average."""
    trust: Trusted = ()
    """Your own class that the run may name; without it a run that names one is refused."""
    device: Device = "auto"
    """Where to compute; auto: on a CUDA device where there is one, else on the CPU."""


def _trusted(args: Sample | Push | Score) -> tuple[str, ...]:
    """What the flags of a command trust, the solver that they name too."""
    return (*args.trust, *own_classes(args.solver))


def sample(arguments: list[str], command: str) -> int:
    """Draw rows and write them."""
    args = parse(Sample, arguments, "sample")
    if args.n < 1:
        raise ValueError(f"-n {args.n}: expected a positive number of rows")

    from ..data.write import SUFFIXES, check_form, check_output, write_pieces
    from ..inference import draw_pieces
    from ..recipes import open_run

    check_output(args.out, SUFFIXES, args.escape)
    run = open_run(args.run, averaged=not args.last_weights, device=args.device, trust=_trusted(args))
    check_form(args.out, run.schema, run.schema.condition is not None, args.n)
    pieces = draw_pieces(
        run, args.n, args.condition, guidance=args.guidance, solver=args.solver, seed=args.seed
    )
    lengths = ((piece, len(piece[0])) for piece in pieces)
    write_pieces(args.out, _watched("drawing", lengths, args.n), run.schema, args.escape)
    print(args.out)
    return 0


def _watched(title: str, pieces: Iterable[tuple[T, int]], total: int | None = None) -> Iterator[T]:
    """What comes in ``pieces`` with numbers of rows, while these are shown on standard error."""
    from ..training.progress import progress

    rows = 0
    with progress(title, 0, total, unit="row") as report:
        for piece, count in pieces:
            rows += count
            report(rows)
            yield piece


@dataclass(frozen=True, kw_only=True)
class Push:
    """Flags of ``push``."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    rows: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Points to carry, with the columns of the training data."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("moved.csv")
    """File to write: .csv, .tsv, .parquet, .npy, .npz, .png."""
    escape: bool = False
    """An apostrophe before texts in .csv and .tsv that spreadsheets take for formulas (=, +, -, @)."""
    back: bool = False
    """Carry data to the source instead."""
    solver: str | None = None
    """Solver, for example `heun,steps=20`; default that of the run."""
    seed: int = 0
    """Seed of the noise, for stochastic flows and images."""
    trust: Trusted = ()
    """Your own class that the run may name; without it a run that names one is refused."""
    max_size: float = 2.0
    """Gigabytes that the numbers of DATA may take; of tables and .npy, read in pieces, those of a piece."""
    device: Device = "auto"
    """Where to compute; auto: on a CUDA device where there is one, else on the CPU."""


def push(arguments: list[str], command: str) -> int:
    """Carry given points and write where they arrive."""
    args = parse(Push, arguments, "push")

    from ..data.pieces import read_pieces
    from ..data.write import SUFFIXES, check_form, check_output, write_pieces
    from ..inference import carry_pieces
    from ..recipes import open_run

    check_output(args.out, SUFFIXES, args.escape)
    run = open_run(args.run, device=args.device, trust=_trusted(args))
    check_form(args.out, run.schema, run.schema.condition is not None)
    rows = read_pieces(args.rows, run.schema, max_size=args.max_size)
    pieces = carry_pieces(run, rows, back=args.back, solver=args.solver, seed=args.seed)
    lengths = ((piece, len(piece[0])) for piece in pieces)
    # points of the source are no integers where the data are
    schema = dataclasses.replace(run.schema, integers=()) if args.back else run.schema
    write_pieces(args.out, _watched("carrying", lengths), schema, args.escape)
    print(args.out)
    return 0


@dataclass(frozen=True, kw_only=True)
class Score:
    """Flags of ``score``."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    rows: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """New rows with the columns of the training data."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("scores.csv")
    """Table to write, .csv, .tsv or .parquet: one log-density a row, in nats and data units."""
    keep: bool = False
    """Write the log-density beside all columns of the new rows, in their order."""
    escape: bool = False
    """With --keep: an apostrophe before texts that spreadsheets take for formulas (=, +, -, @)."""
    flag_below: float | None = None
    """Flag anomalies in a column `flag`: rows below this quantile of the held-out rows, such as 0.05."""
    bound_samples: int = 1
    """Draws of dequantisation noise that the bound for images averages over; more make it tighter."""
    solver: str | None = None
    """Solver, for example `dopri5,rtol=1e-7,atol=1e-7`; default that of the run."""
    seed: int = 0
    """Seed of the dequantisation noise, for images."""
    trust: Trusted = ()
    """Your own class that the run may name; without it a run that names one is refused."""
    max_size: float = 2.0
    """Gigabytes that the numbers of DATA may take; of tables and .npy, read in pieces, those of a piece."""
    device: Device = "auto"
    """Where to compute; auto: on a CUDA device where there is one, else on the CPU."""


def score(arguments: list[str], command: str) -> int:
    """Write the log-density of every row."""
    args = parse(Score, arguments, "score")

    import numpy as np

    from ..data.beside import write_beside, write_columns
    from ..data.pieces import read_pieces
    from ..data.write import TABLES, check_output
    from ..inference import density_name, score_pieces, threshold
    from ..recipes import open_run

    check_output(args.out, TABLES, args.escape)
    run = open_run(args.run, device=args.device, trust=_trusted(args))
    rows = read_pieces(args.rows, run.schema, max_size=args.max_size)
    given = {"solver": args.solver, "seed": args.seed, "bound_samples": args.bound_samples}
    pieces = score_pieces(run, rows, **given)
    share, limit, held_out = args.flag_below, None, 0
    if share is not None:
        limit, held_out = threshold(run, share, **given)
    name = density_name(run)
    names = (name,) if limit is None else (name, "flag")
    count, total, flagged = 0, 0.0, 0

    def columns() -> Iterator[tuple[dict[str, np.ndarray], int]]:
        nonlocal count, total, flagged
        for values in pieces:
            flags = values < (-np.inf if limit is None else limit)
            count, total, flagged = (
                count + len(values),
                total + float(values.sum()),
                flagged + int(flags.sum()),
            )
            yield dict(zip(names, (values, flags.astype(np.int64)))), len(values)

    watched = _watched("scoring", columns())
    if args.keep:
        write_beside(args.out, args.rows, names, watched, args.escape, args.max_size)
    else:
        write_columns(args.out, names, watched)
    if limit is not None:
        say(
            f"flagged {flagged} of {count} rows: {name} below {limit:.4f}, "
            f"the {share:.4g} quantile of {held_out} held-out rows"
        )
    say(f"mean {name} of {count} rows: {total / count:.4f} nats")
    print(args.out)
    return 0
