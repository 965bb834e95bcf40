"""The command line: ``pushforward train``, ``sample``, ``push``, ``score``, ``report``, ``info``, ..."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from . import registry
from ._version import __version__
from .config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig, default_out

if TYPE_CHECKING:
    from .recipes import Run

COMMANDS = {
    "train": "learn a flow from data: pushforward train data.csv",
    "sample": "draw from a trained flow: pushforward sample RUN -n 1000 -o samples.csv",
    "push": "carry given points: pushforward push RUN points.csv -o moved.csv (--back: the other way)",
    "score": "log-density of new rows: pushforward score RUN new.csv -o scores.csv",
    "report": "write RUN/report.html again",
    "info": "what a run is: data, model, steps, what it learnt",
    "compare": "two runs side by side: pushforward compare RUN RUN",
    "methods": "the recipes, with their papers",
    "datasets": "the built-in data",
}

HELP = f"""pushforward {__version__}: carry one distribution into another

usage: pushforward COMMAND [OPTIONS]     (pushforward COMMAND --help for its options)

commands:
{chr(10).join(f"  {name:<10}{text}" for name, text in COMMANDS.items())}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on standard error and exit status 2."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] in ("-V", "--version"):
        print(__version__)
        return 0
    name, *rest = args
    try:
        if name not in COMMANDS:
            raise ValueError(f"unknown command {name!r}{registry.suggest(name, COMMANDS)}")
        if "" not in sys.path:
            sys.path.append("")  # so that `--path my_paths:Curved` finds a file in this folder
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = _show_warning
            return globals()[f"_{name}"](rest, f"pushforward {shlex.join(args)}") or 0
    except (ValueError, OSError) as error:
        print(f"pushforward: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if type(error).__module__.startswith("pushforward"):
            print(f"pushforward: {error}", file=sys.stderr)
            return 1
        raise
    except KeyboardInterrupt:
        print("pushforward: interrupted", file=sys.stderr)
        return 130


def _show_warning(message: Any, category: type, filename: str, *_: Any) -> None:
    from .training import is_first_process

    if issubclass(category, UserWarning) and "pushforward" in filename and is_first_process():
        print(f"pushforward: warning: {message}", file=sys.stderr)


def _parse(cls: type, arguments: list[str], command: str, default: Any = None) -> Any:
    return tyro.cli(
        cls,
        args=arguments,
        prog=f"pushforward {command}",
        description=COMMANDS[command],
        config=(tyro.conf.OmitArgPrefixes,),
        **({} if default is None else {"default": default}),
    )


# -- train -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Train:
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Built-in name (see `pushforward datasets`) or a path: CSV, Parquet, npy, npz, folder of images."""
    out: Path | None = None
    """Run folder; default runs/<data>-<method>."""
    seed: int = 0
    """Seed of every draw."""
    overwrite: bool = False
    """Replace the run that is there."""
    report: bool = True
    """Write report.html at the end."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)


def _train(arguments: list[str], command: str) -> int:
    args = _parse(_Train, arguments, "train", _Train(target=tyro.MISSING))

    from .recipes import train
    from .training import is_first_process

    config = RunConfig(
        target=args.target,
        seed=args.seed,
        data=args.data,
        model=args.model,
        optim=args.optim,
        compute=args.compute,
    )
    out = args.out or default_out(args.target, args.model.method)
    run = train(config, out, overwrite=args.overwrite, command=command, say=_say)
    if not is_first_process():
        return 0
    if not run.summary["finished"]:
        _say(f"stopped at step {run.summary['step']} of {run.config.optim.steps}; the same command goes on")
        return 130
    _say(f"trained {run.summary['step']} steps in {run.summary['seconds']:.0f} s: {run.path}")
    if run.summary.get("learnt"):
        from .recipes.info import learnt_in_words

        _say(f"learnt {learnt_in_words(run.summary['learnt'])}")
    if args.report:
        try:
            _write_report(run)
        except ValueError as error:
            _say(f"no report: {error}")
    return 0


def _write_report(run: Run, samples: int | None = None) -> None:
    """Write the report, and say what it concludes and where it is."""
    from .report import build, conclusion

    path = build(run, samples=samples)
    for line in conclusion(run.path):
        _say(line)
    print(path)


def _say(text: str) -> None:
    print(f"pushforward: {text}", file=sys.stderr)


# -- sample ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Sample:
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
    device: str = "cpu"
    """Where to compute: `cpu`, `cuda`."""


def _sample(arguments: list[str], command: str) -> int:
    args = _parse(_Sample, arguments, "sample")
    if args.n < 1:
        raise ValueError(f"-n {args.n}: expected a positive number of rows")

    from .data import write_rows
    from .inference import draw
    from .recipes import open_run

    run = open_run(args.run, averaged=not args.last_weights, device=args.device)
    x, condition = draw(
        run, args.n, args.condition, guidance=args.guidance, solver=args.solver, seed=args.seed
    )
    write_rows(args.out, x, run.schema, condition)
    print(args.out)
    return 0


# -- push --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Push:
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
    device: str = "cpu"
    """Where to compute: `cpu`, `cuda`."""


def _push(arguments: list[str], command: str) -> int:
    args = _parse(_Push, arguments, "push")

    from .data import read_rows, write_rows
    from .inference import carry
    from .recipes import open_run

    run = open_run(args.run, device=args.device)
    rows = read_rows(args.rows, run.schema)
    x = carry(run, rows, back=args.back, solver=args.solver, seed=args.seed)
    # points of the source are no integers where the data are
    schema = dataclasses.replace(run.schema, integers=()) if args.back else run.schema
    write_rows(args.out, x, schema, rows.condition)
    print(args.out)
    return 0


# -- score -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Score:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    rows: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """New rows with the columns of the training data."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("scores.csv")
    """CSV file to write, one log-density a row, in nats and data units."""
    flag_below: float | None = None
    """Flag anomalies in a column `flag`: rows below this quantile of the held-out rows, such as 0.05."""
    bound_samples: int = 1
    """Draws of dequantisation noise that the bound for images averages over; more make it tighter."""
    solver: str | None = None
    """Solver, for example `dopri5,rtol=1e-7,atol=1e-7`; default that of the run."""
    seed: int = 0
    """Seed of the dequantisation noise, for images."""
    device: str = "cpu"
    """Where to compute: `cpu`, `cuda`."""


def _score(arguments: list[str], command: str) -> int:
    args = _parse(_Score, arguments, "score")

    from .data import read_rows
    from .inference import score, threshold
    from .recipes import open_run

    run = open_run(args.run, device=args.device)
    rows = read_rows(args.rows, run.schema)
    share, limit, held_out = args.flag_below, None, 0
    if share is not None:
        limit, held_out = threshold(
            run, share, solver=args.solver, seed=args.seed, bound_samples=args.bound_samples
        )
    name, values = score(run, rows, solver=args.solver, seed=args.seed, bound_samples=args.bound_samples)
    lines = [f"{value:.6f}" for value in values]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if limit is None:
        header = name
    else:
        flags = [int(value < limit) for value in values]
        header, lines = f"{name},flag", [f"{line},{flag}" for line, flag in zip(lines, flags)]
        _say(
            f"flagged {sum(flags)} of {len(flags)} rows: {name} below {limit:.4f}, "
            f"the {share:.4g} quantile of {held_out} held-out rows"
        )
    args.out.write_text("".join(f"{line}\n" for line in (header, *lines)))
    mean = sum(values) / len(values)
    _say(f"mean {name} of {len(values)} rows: {mean:.4f} nats")
    print(args.out)
    return 0


# -- report, compare, lists --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Report:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    samples: int | None = None
    """Samples to judge by; default: as many as take little time."""
    device: str = "cpu"
    """Where to compute: `cpu`, `cuda`."""


def _report(arguments: list[str], command: str) -> int:
    args = _parse(_Report, arguments, "report")

    from .recipes import open_run

    _write_report(open_run(args.run, device=args.device), args.samples)
    return 0


@dataclass(frozen=True, kw_only=True)
class _Info:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""


def _info(arguments: list[str], command: str) -> int:
    args = _parse(_Info, arguments, "info")

    from .recipes import open_run
    from .recipes.info import lines

    rows = lines(open_run(args.run))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")
    return 0


@dataclass(frozen=True, kw_only=True)
class _Compare:
    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder with a report."""
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Another."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("comparison.html")
    """Page to write."""


def _compare(arguments: list[str], command: str) -> int:
    args = _parse(_Compare, arguments, "compare")

    from .report import compare, compare_text
    from .runs import RunFolder

    numbers = [RunFolder(path).read("report.json") for path in (args.first, args.second)]
    print(compare_text(*numbers))
    print(compare(args.first, args.second, args.out))
    return 0


def _methods(arguments: list[str], command: str) -> int:
    _table([(name, m.summary, m.paper) for name, m in registry.METHODS.items()])
    for kind, table in registry.KINDS.items():
        if kind != "method":
            print("\n--solver, stochastic" if kind == "sde-solver" else f"\n--{kind}")
            _table([(name, entry.summary, entry.paper) for name, entry in table.items()])
    return 0


def _datasets(arguments: list[str], command: str) -> int:
    _table([(name, entry.summary, entry.paper) for name, entry in registry.DATASETS.items()])
    return 0


def _table(rows: list[tuple[str, str, str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for name, summary, paper in rows:
        print(f"{name:<{widths[0]}}  {summary:<{widths[1]}}  {paper}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
