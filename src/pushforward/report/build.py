"""Put the report together: ``report.html``, ``report.json`` and ``figures/``."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch

from . import curves, dynamics, pictures, plane, tables
from .dynamics import Curve, Motion, RoundTrip
from .numbers import Verdict, judge
from .render import render
from .run import RunLike
from .style import Picture
from .subject import Subject

#: Version of ``report.json``.
FORMAT = 1


def build(run: RunLike, *, seed: int | None = None, samples: int | None = None) -> Path:
    """Write the report of ``run`` into its folder and return the path of ``report.html``.

    seed: of every draw (None: the run's).  samples: how many the model is asked for (None: 1,000 images
    or 2,000 rows of a table, fewer where the network is large).

    All is a function of the run, its data and the seed, save for the seconds.  Raises ValueError for fewer
    than 5 rows of data, RuntimeError where the solver fails.
    """
    subject = Subject(run, seed, samples)
    training = run.flow.training
    run.flow.eval()
    try:
        with torch.no_grad():
            verdict = judge(subject)
            curve = dynamics.curve(subject)
            motion = dynamics.motion(subject)
            trip = dynamics.round_trip(subject)
            groups = draw(subject, verdict, curve, motion)
    finally:
        run.flow.train(training)
    numbers = as_numbers(subject, verdict, curve, motion, trip)
    folder = run.path / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    saved = {name: [(p, p.save(folder)) for p in group] for name, group in groups.items()}
    write(run.path / "report.json", json.dumps(numbers, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    return write(run.path / "report.html", render(subject, verdict, curve, motion, trip, saved))


def conclusion(folder: Path) -> list[str]:
    """What the report in a run's folder concludes, and where there is one the command that mends it."""
    numbers = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    command = numbers["headline"]["command"]
    return [numbers["sentence"], *([f"to mend it: {command}"] if command else [])]


def write(path: Path, text: str) -> Path:
    """Write a file in one go, so that no reader meets half of it."""
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path


def draw(
    subject: Subject, verdict: Verdict, curve: Curve | None, motion: Motion | None
) -> dict[str, list[Picture]]:
    """All figures, by section."""
    look = subject.look
    samples: list[Picture] = []
    moving: list[Picture] = []
    if look == "image":
        samples += pictures.grids(subject)
    elif look == "series":
        samples.append(tables.series(subject))
    elif look == "plane":
        samples += plane.scatter(subject)
        if subject.inner is not None:
            found = plane.density(subject)
            samples += [p for p in found if p.width == "half"]
            moving += [p for p in found if p.width == "full"]
            samples.append(plane.trajectories(subject))
        samples.append(tables.marginals(subject))
    else:
        if 3 <= subject.size <= tables.MOST_PAIRS:
            samples.append(tables.pairs(subject))
        samples.append(tables.marginals(subject))
    memory = [curves.neighbours(subject, verdict.memory)]
    if look == "image":
        memory.insert(0, pictures.twins(subject, verdict.memory))
    return {
        "samples": samples + moving,
        "training": curves.training(subject),
        "evaluations": [] if curve is None else curves.evaluations(subject, curve),
        "motion": [] if motion is None else [curves.straight(motion)],
        "memory": memory,
    }


def as_numbers(
    subject: Subject, verdict: Verdict, curve: Curve | None, motion: Motion | None, trip: RoundTrip | None
) -> dict[str, Any]:
    """Everything in numbers: ``report.json``."""
    numbers = {
        "format": FORMAT,
        "name": subject.schema.name,
        "kind": subject.schema.kind,
        "sentence": verdict.sentence,
        "headline": verdict.headline.to_json(),
        "best_baseline": verdict.best,
        "beats": verdict.beats,
        "beats_gaussian": verdict.beats["gaussian"],
        "verdict": [line.to_json() for line in verdict.lines],
        "density": [density.to_json() for density in verdict.densities],
        "density_facts": verdict.density_facts,
        "baselines_left_out": verdict.missing,
        "memorisation": verdict.memory.to_json(),
        "evaluations": None if curve is None else curve.to_json(),
        "motion": None if motion is None else motion.to_json(),
        "round_trip": None if trip is None else trip.to_json(),
        "sizes": {
            "train": len(subject.train),
            "test": len(subject.test),
            "held_out": subject.held_out,
            "unseen": subject.unseen,
            "compared": subject.rows,
            "samples": subject.samples,
            "duplicates": subject.schema.duplicates,
        },
        "sampler": {"solver": repr(subject.solver), "nfe": subject.drawn.nfe},
        "seed": subject.seed,
        "command": subject.run.command,
        "config": subject.run.config.to_json(),
        "summary": subject.run.summary,
    }
    return _finite(numbers)


def _finite(value: Any) -> Any:
    """Plain data without numbers that JSON lacks: those become None."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
