"""``pushforward train``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig, default_out
from .common import Trusted, say, write_report

if TYPE_CHECKING:
    from ..recipes import Run


@dataclass(frozen=True, kw_only=True)
class Train:
    """Flags of ``train``."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Built-in name (see `pushforward datasets`) or a path: CSV, Parquet, npy, npz, txt, folder of images."""
    out: Path | None = None
    """Run folder; default runs/<data>-<method>."""
    seed: int = 0
    """Seed of every draw."""
    overwrite: bool = False
    """Replace a run in the folder."""
    report: bool = True
    """Write report.html at the end."""
    trust: Trusted = ()
    """A class of your own that the run of a teacher may name; those that flags name are trusted."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)


def train(args: Train, command: str) -> int:
    """Learn a flow from data and write its report: pushforward train data.csv"""
    from ..recipes import train
    from ..recipes.defaults import by_target

    config = RunConfig(
        target=args.target,
        seed=args.seed,
        data=args.data,
        model=args.model,
        optim=args.optim,
        compute=args.compute,
    )
    config = by_target(config)
    out = args.out or default_out(args.target, config.model.method)
    run = train(config, out, overwrite=args.overwrite, command=command, say=say, trust=args.trust)
    return ended(run, args.report)


def ended(run: Run, report: bool) -> int:
    """Say how the training of ``run`` has ended and write its report; returns the exit status."""
    from ..training import is_first_process

    if not is_first_process():
        return 0
    if not run.summary["finished"]:
        step, steps = run.summary["step"], run.config.optim.steps
        say(f"stopped at step {step} of {steps}; the same command continues it")
        return 130
    say(f"trained {run.summary['step']} steps in {run.summary['seconds']:.0f} s: {run.path}")
    if run.summary.get("learnt"):
        from ..recipes.info import learnt_in_words

        say(f"learnt {learnt_in_words(run.summary['learnt'])}")
    if report:
        try:
            write_report(run)
        except ValueError as error:
            say(f"no report: {error}")
    return 0
