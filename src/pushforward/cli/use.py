"""What is done with a trained flow: ``pushforward sample``, ``push`` and ``score``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..registry import own_classes
from .common import Device, Trusted, parse, say


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Flags of ``sample``."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Rows to draw."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("samples.csv")
    """File to write: .csv, .parquet, .npy, .npz, .png."""
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

    from ..data import write_rows
    from ..data.write import SUFFIXES, checked_suffix
    from ..inference import draw
    from ..recipes import open_run

    checked_suffix(args.out, SUFFIXES)
    run = open_run(args.run, averaged=not args.last_weights, device=args.device, trust=_trusted(args))
    x, condition = draw(
        run, args.n, args.condition, guidance=args.guidance, solver=args.solver, seed=args.seed
    )
    write_rows(args.out, x, run.schema, condition)
    print(args.out)
    return 0


@dataclass(frozen=True, kw_only=True)
class Push:
    """Flags of ``push``."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    rows: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Points to carry, with the columns of the training data."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("moved.csv")
    """File to write: .csv, .parquet, .npy, .npz."""
    back: bool = False
    """Carry data to the source instead."""
    solver: str | None = None
    """Solver, for example `heun,steps=20`; default that of the run."""
    seed: int = 0
    """Seed of the noise, for stochastic flows and images."""
    trust: Trusted = ()
    """Your own class that the run may name; without it a run that names one is refused."""
    device: Device = "auto"
    """Where to compute; auto: on a CUDA device where there is one, else on the CPU."""


def push(arguments: list[str], command: str) -> int:
    """Carry given points and write where they arrive."""
    args = parse(Push, arguments, "push")

    from ..data import read_rows, write_rows
    from ..data.write import SUFFIXES, checked_suffix
    from ..inference import carry
    from ..recipes import open_run

    checked_suffix(args.out, SUFFIXES)
    run = open_run(args.run, device=args.device, trust=_trusted(args))
    rows = read_rows(args.rows, run.schema)
    x = carry(run, rows, back=args.back, solver=args.solver, seed=args.seed)
    # points of the source are no integers where the data are
    schema = dataclasses.replace(run.schema, integers=()) if args.back else run.schema
    write_rows(args.out, x, schema, rows.condition)
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
    """Table to write, .csv or .parquet: one log-density a row, in nats and data units."""
    keep: bool = False
    """Write the log-density beside all columns of the new rows, in their order."""
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
    device: Device = "auto"
    """Where to compute; auto: on a CUDA device where there is one, else on the CPU."""


def score(arguments: list[str], command: str) -> int:
    """Write the log-density of every row."""
    args = parse(Score, arguments, "score")

    from ..data import read_rows
    from ..data.beside import write_beside, write_columns
    from ..data.write import TABLES, checked_suffix
    from ..inference import score, threshold
    from ..recipes import open_run

    checked_suffix(args.out, TABLES)
    run = open_run(args.run, device=args.device, trust=_trusted(args))
    rows = read_rows(args.rows, run.schema)
    share, limit, held_out = args.flag_below, None, 0
    if share is not None:
        limit, held_out = threshold(
            run, share, solver=args.solver, seed=args.seed, bound_samples=args.bound_samples
        )
    name, values = score(run, rows, solver=args.solver, seed=args.seed, bound_samples=args.bound_samples)
    columns: dict[str, list[float] | list[int]] = {name: values}
    if limit is not None:
        flags = [int(value < limit) for value in values]
        columns["flag"] = flags
        say(
            f"flagged {sum(flags)} of {len(flags)} rows: {name} below {limit:.4f}, "
            f"the {share:.4g} quantile of {held_out} held-out rows"
        )
    if args.keep:
        write_beside(args.out, args.rows, columns)
    else:
        write_columns(args.out, columns)
    say(f"mean {name} of {len(values)} rows: {sum(values) / len(values):.4f} nats")
    print(args.out)
    return 0
