"""Random command lines, made from the types of the commands' own flags, and what becomes of one."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import random
import signal
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from pushforward.cli import main
from pushforward.cli.commands import COMMANDS, flags_of
from pushforward.entries import KINDS
from pushforward.settings import BOUNDS, Whole

#: Texts that are nobody's idea of a value.
ODD = [
    "",
    " ",
    "-",
    "--",
    "None",
    "x",
    "1e3",
    "=1+1",
    "a,b",
    "../..",
    "é",
    "\udcff",
    "a\nb",
    "z" * 300,
    "{}",
    "[1",
]
NUMBERS = [
    "0",
    "-1",
    "1",
    "2",
    "0.5",
    "-0.5",
    "1e-300",
    "1e300",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "0x10",
    "1_000",
]
WHOLES = ["0", "1", "2", "3", "-1", "2147483648", "9223372036854775808", "1" + "0" * 30, "9" * 5000]


@dataclass(frozen=True)
class Flag:
    """A flag or positional argument of a command, with its type."""

    name: str
    hint: Any
    positional: bool


def flags(command: str) -> list[Flag]:
    """All that ``command`` takes, by its dataclass."""
    return list(_fields(flags_of(command)))


def _fields(cls: type) -> typing.Iterator[Flag]:
    hints, plain = typing.get_type_hints(cls, include_extras=True), typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = plain[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _fields(hint)
        else:
            marks = getattr(hints[field.name], "__metadata__", ())
            yield Flag(field.name, hint, tyro.conf.Positional in marks)


def kind_of(hint: Any) -> Any:
    """A type without its None."""
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    return options[0] if typing.get_origin(hint) in (typing.Union, types.UnionType) else hint


def component(kind: str, draw: random.Random, sane: bool = False) -> str:
    """A component of the registry with good and bad options, or something else."""
    table = KINDS[kind].entries
    if sane:
        return draw.choice(list(table))
    options = [
        "",
        ",steps=3",
        ",width=4",
        ",width=0",
        ",foo=1",
        ",depth=-1",
        ",width=1e9",
        ",layers=2",
        ",",
        "=",
        ",a=b=c",
    ]
    options += [
        ",sigma=nan",
        ",components=2",
        ",width=10000000000",
        ",depth=100000",
        ",bins=1",
        ",rtol=0",
        ",width=[4",
    ]
    names = [*table, "os:system", "math:pi", "nowhere:Nothing", "foo", ":", "mlp:mlp"]
    return draw.choice(names) + draw.choice(options)


def texts(flag: Flag, draw: random.Random, places: list[str], sane: bool = False) -> list[str]:
    """Texts to follow the name of a flag: values of its type, edge values, and others."""
    kind = kind_of(flag.hint)
    if kind is bool:
        return [] if sane or draw.random() < 0.8 else [draw.choice(["True", "0", "x"])]
    if not sane and draw.random() < 0.12:
        return [draw.choice(ODD + NUMBERS + WHOLES)]
    if typing.get_origin(kind) is tuple:
        names = ["label"] if sane else ["x1", "x2", "label", "0", *ODD]
        return [draw.choice(names) for _ in range(1 if sane else draw.randrange(4))]
    if typing.get_origin(kind) is typing.Literal:
        return [str(draw.choice(typing.get_args(kind)))]
    bounds = BOUNDS.get(flag.name)
    if flag.name in GOOD and (sane or draw.random() < 0.5):
        return [draw.choice(GOOD[flag.name])]
    if kind is int and (sane or draw.random() < 0.5):
        return [str(max(draw.choice([1, 2, 3, 7, 50]), bounds.low if isinstance(bounds, Whole) else 0))]
    if kind is int:
        ends = (
            [str(bounds.low), str(bounds.low - 1), str(bounds.high + 1)] if isinstance(bounds, Whole) else []
        )
        return [draw.choice(WHOLES[:4] + WHOLES + ends)]
    if kind is float:
        ends = [] if bounds is None else [str(bounds.low), str(bounds.high), str(bounds.high * 2)]
        return [draw.choice(NUMBERS + ["0.1", "0.01"] * 3 + ends)]
    if flag.name.replace("_", "-") in KINDS:
        return [component(flag.name.replace("_", "-"), draw, sane)]
    return [draw.choice([*places, *ODD[:8], "cpu", "auto", "cuda", "32-true", "ddp", "0.1"])]


#: Values that a flag can use, where its type does not tell them.
GOOD = {
    "noise": ["auto", "scott", "0", "0.1"],
    "source": ["normal", "baseline", "iris", "circles"],
    "device": ["auto", "cpu"],
    "precision": ["32-true", "64-true", "bf16-mixed"],
    "strategy": ["auto", "ddp"],
    "gamma": ["0", "0.5", "brownian,sigma=0.5"],
    "sample_weight": ["x1", "label"],
    "minutes": ["0.01", "0.03"],
    "holdout": ["0", "0.5"],
    "validation": ["0", "0.2"],
    "drop_condition": ["0", "0.5"],
    "guidance": ["1", "2"],
    "lr": ["0.1", "0.001"],
    "ema": ["0", "0.9"],
    "flag_below": ["0.05"],
    "max_size": ["1"],
    "out": ["x.csv", "new/x.parquet", "x.npy"],
    "solver": ["euler,steps=2", "dopri5", "rk4,steps=3"],
}

#: What keeps a training short, where nothing else is said.
SHORT = {
    "steps": ["2"],
    "rows": ["64"],
    "batch": ["16"],
    "network": ["mlp,width=4,depth=1"],
    "source": ["normal"],
    "folds": ["0"],
    "pairs": ["32"],
    "minutes": ["0.02"],
}
#: Flags that would start other processes, a report or a compiler, which take long and are tried apart.
APART = ("devices", "nodes", "report", "compile")


def line(draw: random.Random, places: list[str], runs: list[str]) -> list[str]:
    """A random command line; ``places`` are files and folders to name, ``runs`` run folders."""
    command = draw.choice([*COMMANDS] + ["train"] * 6 + ["sample"] * 3 + ["score", "push"] * 2)
    known, sane = flags(command), draw.random() < 0.6
    arguments = [command]
    for flag in known:
        if flag.positional:
            data = ["moons", "iris", places[0]]
            good = runs[:3] if flag.name in ("run", "first", "second") else data if sane else [*data, *places]
            arguments.append(draw.choice(good) if sane or draw.random() < 0.8 else draw.choice(ODD + places))
    chosen = draw.sample(known, min(len(known), draw.choice([0, 1, 2, 3, 5, 8])))
    apart = (*APART, "trust", "teacher", "columns", "exclude") if sane else APART
    named = [flag for flag in chosen if not flag.positional and flag.name not in apart]
    for flag in named:
        name = f"--{flag.name.replace('_', '-')}"
        if kind_of(flag.hint) is bool and draw.random() < 0.3:
            name = f"--no-{name[2:]}"
        values = texts(flag, draw, places + runs, sane)
        if len(values) == 1 and draw.random() < 0.2:
            arguments.append(f"{name}={values[0]}")
        else:
            arguments += [name, *values]
    if command == "train":
        for name, values in SHORT.items():
            if name not in {flag.name for flag in named} and (name != "rows" or "moons" in arguments):
                arguments += [f"--{name}", *values]
        arguments.append("--no-report")
    if command == "sample" and "n" not in {flag.name for flag in named}:
        arguments += ["-n", "5"]
    if not sane and draw.random() < 0.2:
        at = draw.randrange(len(arguments) + 1)
        arguments.insert(at, draw.choice([*ODD, "--foo", "--step", "-x", "-h", "--help", "--version"]))
    return arguments


class TooSlow(Exception):
    """A command took longer than it may."""


@dataclass(frozen=True)
class Outcome:
    """What became of a command: exit status, lines on standard error, what it left in its folder."""

    status: Any
    error: str
    left: list[str]

    @property
    def lines(self) -> list[str]:
        return self.error.strip().splitlines()


def outcome(arguments: list[str], folder: Path, seconds: int = 60) -> Outcome:
    """Run a command in this process, in ``folder``; an error that is a bug is its status."""

    def late(number: int, frame: Any) -> None:
        raise TooSlow

    error, before = io.StringIO(), os.getcwd()
    had = set(os.listdir(folder))
    previous = signal.signal(signal.SIGALRM, late)
    os.chdir(folder)
    signal.alarm(seconds)
    status: Any = None
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
            status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    except BaseException as bug:
        status = f"{type(bug).__name__}: {bug}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        os.chdir(before)
    return Outcome(status, error.getvalue(), sorted(set(os.listdir(folder)) - had))
