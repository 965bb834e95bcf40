"""The small print under the verdict: what was measured, on how many rows, and what to keep in mind."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from . import text_samples
from .densities import is_exact
from .formatting import number
from .loaded_run import LoadedRun
from .scale import OUT
from .verdict import Verdict

#: Columns that a note names.
SHOWN = 5


def verdict_notes(loaded: LoadedRun, verdict: Verdict) -> list[str]:
    """All notes, in their order on the page."""
    return [
        *_on_comparisons(loaded, verdict),
        *verdict.evidence.missing,
        *_on_cost(loaded),
        *_on_densities(loaded, verdict),
        *_on_columns(loaded, verdict),
        *_on_rows(loaded),
    ]


def _on_comparisons(loaded: LoadedRun, verdict: Verdict) -> list[str]:
    """What is compared with what, and by which measures."""
    if loaded.look == "text":
        return text_samples.notes(loaded)
    n, often, seldom = loaded.rows, *loaded.repeats
    scaled = ", after every column is divided by its standard deviation in training" if loaded.tabular else ""
    if loaded.manifold is not None:
        scaled = (
            ", along chords: the straight lines between points of spheres as unit vectors, of angles as "
            "cosine and sine, of other spaces as the numbers that they are written in"
        )
    notes = [
        f"Distances are between {n:,} rows and the same {n:,} held-out rows{scaled}. Real rows are {n:,} "
        f"training rows. Values are means ± standard deviations over draws: {often} draws of real rows "
        f"({seldom} for measures that take long), and of the others as many as {loaded.samples:,} samples "
        "give.",
    ]
    if verdict.sampled:
        asked = ", under the conditions of held-out rows" if loaded.spec else ""
        notes.append(f"The model drew {loaded.samples:,} samples{_how(loaded)}{asked}.")
    rounded = "; their draws are rounded down to whole levels" if loaded.dequantised else ""
    notes += [
        f"Baselines are fitted to training rows{rounded}.",
        "The energy distance is 2 E|x − y| − E|x − x'| − E|y − y'| over all pairs, without a square root. W2 "
        "is that of the exact transport plan. Two-sample accuracy is that of a support vector machine with "
        "an RBF kernel on rows that it was not trained on.",
    ]
    if loaded.labelled:
        notes.append(
            "Classifier accuracy on samples is that of a support vector machine with an RBF kernel, fitted "
            "to training rows. Its value for real rows is its accuracy on held-out rows."
        )
    return notes


def _how(loaded: LoadedRun) -> str:
    """With which solver and guidance samples were drawn."""
    if loaded.inner is None:
        return ""
    if loaded.map is not None:
        steps = loaded.map.steps
        return f" with {steps} step{'s' * (steps != 1)} of the flow map, one evaluation each"
    text = f" with {loaded.budget.solver!r}, {loaded.drawn.nfe:.0f} evaluations each"
    if loaded.inner.guidance != 1:
        guidance = loaded.inner.guidance
        how = f"with weight {guidance:g}" if isinstance(guidance, int | float) else f"by {guidance}"
        text += f", guided {how} (log-densities are those without guidance)"
    return text


def _on_cost(loaded: LoadedRun) -> list[str]:
    """What a slow network is asked less of."""
    budget = loaded.budget
    if not budget.cuts:
        return []
    fewer = ", ".join(f"{name} {few:,} of {many:,}" for name, (few, many) in budget.cuts.items())
    return [
        f"One evaluation of the network takes {number(1000 * budget.cost)} ms for a row, so that fewer rows "
        f"are used than usual: {fewer}."
    ]


def _on_densities(loaded: LoadedRun, verdict: Verdict) -> list[str]:
    """How log-densities were found, and whether their mass is 1."""
    densities, mass = verdict.evidence.densities, verdict.evidence.mass
    facts, notes = densities.facts, []
    if "omitted" in facts:
        notes.append(f"There is no log-density: {facts['omitted']}.")
    elif facts:
        text = ""
        if facts["divergence"] is not None:
            how = "exact"
            if facts["divergence"] != "exact":
                how = f"estimated with {facts['divergence']}, without bias, which widens the standard error"
            text = f"The log-density is integrated with {facts['solver']}. The divergence is {how}. "
            if loaded.map is not None:
                text += "It is that of the map's velocity v(t, t, x), and not of samples in a few steps. "
        elif not densities.bound:
            text = "The log-density is exact, by the change of variables."
        elif loaded.look == "text":
            text = "The log-density of text is a lower bound, and bits per character are an upper one."
        elif not loaded.dequantised:
            text = "The model has hidden variables, so the log-density is a lower bound."
        if loaded.dequantised:
            text += "Values are whole levels, made continuous by noise, so the log-density is a lower bound."
        notes.append(text)
    if mass is not None:
        notes.append(mass.sentence)
    elif densities.table and not densities.bound and "mass of the density" not in loaded.left_out:
        why = "the network is too slow for it" if is_exact(loaded) else "log-densities are estimates"
        notes.append(f"The mass of the density was not measured: {why}.")
    return notes


def _on_columns(loaded: LoadedRun, verdict: Verdict) -> list[str]:
    """Columns with repeated values, and values far out."""
    notes, atoms = [], verdict.evidence.densities.facts.get("atoms")
    if atoms:
        notes.append(
            f"One value holds in more than 5 % of the rows of {_named(atoms)}. No density is bounded there, "
            "so log-densities mean little, and the headline does not use them."
        )
    if not loaded.tabular:
        return notes
    low, high = loaded.scale.span
    x = torch.cat([loaded.train.x, loaded.test.x]).double()
    beyond = ((x < low) | (x > high)).sum(0)
    found = [f"{name} ({count:,})" for name, count in zip(loaded.names, beyond.tolist()) if count]
    if found:
        notes.append(
            f"Values of {_named(found)} lie more than {OUT:g} standard deviations, estimated from the "
            "quartiles, from the median. Distances treat them as if they lay at that limit. Mean "
            "log-densities may depend on these few rows."
        )
    return notes


def _named(columns: Sequence[str]) -> str:
    return ", ".join(columns[:SHOWN]) + ", ..." * (len(columns) > SHOWN)


def _on_rows(loaded: LoadedRun) -> list[str]:
    """Too few held-out rows, and rows that repeat others."""
    notes, count = [], loaded.schema.duplicates
    if not loaded.held_out:
        notes.append(
            "Too few rows were held out. Half of the training rows take their place, so overfitting cannot "
            "be seen."
        )
    if count:
        notes.append(
            f"{count:,} {'row repeats' if count == 1 else 'rows repeat'} an earlier row exactly. A random "
            "split puts repeats on both sides, so log-densities reward memorising and have no upper bound."
        )
    return notes
