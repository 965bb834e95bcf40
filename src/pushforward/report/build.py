"""Put the report together: ``report.html``, ``report.json`` and ``figures/``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..files import write_text
from ..recipes import Run
from ..registry import trusting
from ..runs import REPORT, read_numbers
from .dynamics import LEAPS, Dynamics, measure_dynamics
from .figures import columns, curves, few, images, planar
from .figures.folder import FigureFolder
from .figures.style import Picture, own_style
from .loaded_run import LoadedRun
from .player import make_player
from .render import render
from .verdict import Verdict, judge


def build(run: Run, *, seed: int | None = None, samples: int | None = None) -> Path:
    """Write the report of ``run`` into its folder and return the path of ``report.html``.

    seed: of every draw (None: the run's).  samples: how many the model is asked for (None: 1,000 images
    or 2,000 rows of a table, fewer where the network is large).

    All is a function of the run, its data and the seed, save for the seconds; a slow network is asked for
    fewer rows, and the report says so.  A measure or figure that fails is left out by name.  Raises
    ValueError for fewer than 5 rows to compare with.
    """
    kept = FigureFolder(run.path)
    training = run.flow.training
    run.flow.eval()
    try:
        with torch.no_grad(), trusting(run.trust), own_style():
            loaded = LoadedRun(run, seed, samples)
            attempt = loaded.left_out.attempt
            verdict = judge(loaded)
            dynamics = measure_dynamics(loaded)
            player = attempt("player", None, make_player, loaded)
            groups = draw(loaded, verdict, dynamics)
            made = {
                section: [
                    (picture, files)
                    for picture in pictures
                    if (files := attempt(f"figure '{picture.name}'", None, picture.files))
                ]
                for section, pictures in groups.items()
            }
            shown = {
                section: [(picture, [*files.values()]) for picture, files in pictures]
                for section, pictures in made.items()
            }
            page = render(loaded, verdict, dynamics, shown, player)
            numbers = as_numbers(loaded, verdict, dynamics)
    finally:
        run.flow.train(training)
    figures = {
        name: png for pictures in made.values() for _, files in pictures for name, png in files.items()
    }
    kept.replace(figures)
    numbers["figures"] = [*figures]
    numbers["player"] = player and player.numbers
    text = json.dumps(numbers, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_text(run.path / "report.json", text)
    write_text(run.path / "report.html", page)
    return run.path / "report.html"


def conclusion(folder: Path) -> list[str]:
    """What the report in a run's folder concludes, and a command that may improve the model."""
    numbers = read_numbers(folder / "report.json")
    command = numbers["headline"]["command"] if "headline" in numbers else ""
    left_out = [f"{name}: left out, {why}" for name, why in numbers.get("left_out", {}).items()]
    return [numbers.get("sentence", ""), *([f"to improve it: {command}"] if command else []), *left_out]


def draw(loaded: LoadedRun, verdict: Verdict, dynamics: Dynamics) -> dict[str, list[Picture]]:
    """All figures, by section."""
    attempt = loaded.left_out.attempt

    def figures(name: str, make: Callable[..., Picture | list[Picture]], *arguments: Any) -> list[Picture]:
        made = attempt(f"figure of {name}", [], make, loaded, *arguments)
        return made if isinstance(made, list) else [made]

    look, memory = loaded.look, verdict.evidence.memorisation
    curve, motion = dynamics.curve, dynamics.motion
    leaps = figures("leaps", few.leaps, dynamics.leaps) if dynamics.leaps else []
    if dynamics.head is not None and look == "plane" and (loaded.spec is None or loaded.labelled):
        leaps += figures("the head's density", few.head_density, dynamics.head)
    samples: list[Picture] = []
    beside: list[Picture] = []
    if verdict.sampled and look == "image":
        samples += figures("images", images.grids)
        if memory is not None:
            beside += figures("the nearest training images", images.twins, memory)
    elif verdict.sampled and look == "series":
        samples += figures("samples", columns.series)
    elif verdict.sampled:
        if look == "plane":
            samples += figures("samples", planar.scatter)
            if loaded.inner is not None:
                found = figures("the density", planar.density)
                samples += [p for p in found if p.width == "half"]
                samples += figures("trajectories", planar.trajectories)
                samples += [p for p in found if p.width == "full"]
        elif 3 <= loaded.size <= columns.MOST_PAIRS:
            samples += figures("pairs of columns", columns.pairs)
        samples += figures("marginals", columns.marginals) if look != "text" else []
    if memory is not None:
        beside += figures("distances to training rows", curves.neighbours, memory)
    return {
        "samples": samples,
        "training": figures("training", curves.training),
        "evaluations": figures("evaluations", curves.evaluations, curve) if curve else [],
        "leaps": leaps,
        "motion": figures("straightness", curves.straight, motion) if motion else [],
        "memory": beside,
    }


def as_numbers(loaded: LoadedRun, verdict: Verdict, dynamics: Dynamics) -> dict[str, Any]:
    """Everything in numbers: ``report.json``."""
    evidence = verdict.evidence
    parts = {
        "memorisation": evidence.memorisation,
        "mass": evidence.mass,
        "evaluations": dynamics.curve,
        "motion": dynamics.motion,
        "round_trip": dynamics.round_trip,
        "leaps": dynamics.leaps,
        "head": dynamics.head,
        "rounding": dynamics.rounded,
    }
    numbers = {
        "format": REPORT,
        "name": loaded.schema.name,
        "kind": loaded.schema.kind,
        "sentence": verdict.sentence,
        "headline": verdict.headline.to_json(),
        "best_baseline": evidence.best,
        "beats": verdict.beats,
        "beats_gaussian": verdict.beats.get("gaussian", []),
        "verdict": [line.to_json() for line in verdict.lines],
        "density": [density.to_json() for density in evidence.densities.table],
        "density_facts": evidence.densities.facts,
        "baselines_left_out": evidence.missing,
        "left_out": dict(loaded.left_out),
        "fewer": {name: {"taken": few, "of": many} for name, (few, many) in loaded.budget.cuts.items()},
        **{key: measured and measured.to_json() for key, measured in parts.items()},
        "sizes": {
            "train": len(loaded.train),
            "test": len(loaded.test),
            "held_out": loaded.held_out,
            "unseen": loaded.unseen,
            "compared": loaded.rows,
            "samples": loaded.samples,
            "duplicates": loaded.schema.duplicates,
        },
        "sampler": {
            "solver": repr(loaded.budget.solver) if loaded.map is None else LEAPS,
            "nfe": loaded.drawn.nfe if verdict.sampled else None,
        },
        "seed": loaded.seed,
        "command": loaded.run.command,
        "config": loaded.run.config.to_json(),
        "summary": loaded.run.summary,
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
