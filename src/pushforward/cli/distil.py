"""``pushforward distil``."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..config import PARTS, ComputeConfig, DataConfig, ModelConfig, OptimConfig
from .common import RunPlace, Trusted
from .train import ended

#: The method where none is said.
METHOD = "flow-map"


@dataclass(frozen=True, kw_only=True)
class Distil:
    """Flags of ``distil``: those of ``train``, with the teacher's values as defaults."""

    run: RunPlace
    """Run folder of the teacher, any finished run that follows a velocity."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="RUN2")] = None
    """Run folder; default that of the teacher with the method behind its name."""
    seed: int | None = None
    """Seed of every draw; another one than the teacher's splits the data in another way."""
    overwrite: bool = False
    """Replace a run in the folder."""
    report: bool = True
    """Write report.html at the end."""
    trust: Trusted = ()
    """A class of your own that the run of the teacher may name; those that flags name are trusted."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)


def distil(args: Distil, command: str) -> int:
    """Learn a flow map for a few steps from a trained flow: pushforward distil RUN --out RUN2"""
    from ..recipes import distil
    from .common import say

    told = given(args, command)
    method = told.pop("method", METHOD)
    out = args.out or args.run.with_name(f"{args.run.name}-{method}")
    run = distil(
        args.run,
        out,
        method=method,
        overwrite=args.overwrite,
        command=command,
        say=say,
        trust=args.trust,
        **told,
    )
    return ended(run, args.report)


def given(args: Distil, command: str) -> dict[str, Any]:
    """The settings that the command line names, also where they are the defaults of ``train``."""
    named = {
        word.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")
        for word in shlex.split(command)
        if word.startswith("--")
    }
    settings = {
        f.name: getattr(getattr(args, part), f.name)
        for part, group in PARTS.items()
        for f in dataclasses.fields(group)
        if f.name in named
    }
    return settings if args.seed is None else {**settings, "seed": args.seed}
