"""The small print under the verdict."""

from __future__ import annotations

import torch

from .densities import is_exact
from .formatting import number
from .loaded_run import OUT, LoadedRun
from .verdict import Verdict

#: Columns that a note names.
SHOWN = 5


def verdict_notes(loaded: LoadedRun, verdict: Verdict) -> list[str]:
    n, often, seldom = loaded.rows, *loaded.repeats
    notes = [
        f"Every distance is between {n:,} rows and the same {n:,} held-out rows"
        + (", columns divided by their deviation in training" if loaded.tabular else "")
        + f". Real rows are {n:,} training rows against them. All are means ± deviations over draws: {often} "
        f"of real rows ({seldom} for W2 and two-sample accuracy), as many of the others as "
        f"{loaded.samples:,} samples give.",
        "Baselines are fitted to training rows"
        + (", their draws are rounded down to whole levels." if loaded.dequantised else "."),
        "The energy distance is 2 E|x − y| − E|x − x'| − E|y − y'| over all pairs, no root taken; W2 is "
        "that of the exact plan; two samples are told apart by an RBF support vector machine, out of fold.",
        *verdict.missing,
    ]
    if verdict.sampled:
        asked = ", under the conditions of held-out rows." if loaded.spec else "."
        notes.insert(1, f"The model drew {loaded.samples:,} samples{_how(loaded)}{asked}")
    if loaded.cuts:
        fewer = ", ".join(f"{name} {few:,} of {many:,}" for name, (few, many) in loaded.cuts.items())
        notes.append(
            f"The network takes {number(1000 * loaded.cost)} ms for an evaluation of a row, so that fewer "
            f"rows are looked at than usual: {fewer}."
        )
    if loaded.labelled:
        notes.append(
            "Labels are read by an RBF support vector machine trained on real training rows; its figure for "
            "real rows is its accuracy on held-out ones."
        )
    facts = verdict.density_facts
    if "omitted" in facts:
        notes.append(f"No log-density: {facts['omitted']}.")
    elif facts:
        text = ""
        if facts["divergence"] is not None:
            text = f"The divergence is {facts['divergence']}; solved with {facts['solver']}. "
            if facts["divergence"] != "exact":
                text += "The estimate has the right mean, and its scatter is part of the standard error. "
        elif not facts["bound"]:
            text = "The log-density is exact, by change of variables."
        elif not loaded.dequantised:
            text = "The model has hidden variables: the log-density is a lower bound."
        if loaded.dequantised:
            text += "Values are whole levels, made continuous by noise: the log-density is a lower bound."
        notes.append(text)
    if verdict.mass is not None:
        notes.append(verdict.mass.sentence)
    elif not facts.get("bound", True) and "mass of the density" not in loaded.left_out:
        why = "the network is too slow for it" if is_exact(loaded) else "log-densities are estimates"
        notes.append(f"The mass of the density was not measured: {why}.")
    if facts.get("atoms"):
        named = ", ".join(facts["atoms"][:SHOWN]) + ", ..." * (len(facts["atoms"]) > SHOWN)
        notes.append(
            f"One value holds over 5 % of the rows of {named}: no density is bounded there, log-densities "
            "mean little, and the headline leaves them out."
        )
    notes += _outliers(loaded)
    if not loaded.held_out:
        notes.append(
            "Too few rows were held out: half of the training rows stand in for them, so overfitting is not "
            "seen."
        )
    if loaded.schema.duplicates:
        count = loaded.schema.duplicates
        rows = "row repeats" if count == 1 else "rows repeat"
        notes.append(
            f"{count:,} {rows} an earlier one exactly. A random split "
            "puts repeats on both sides, so that log-densities reward memorising and have no upper bound."
        )
    return notes


def _how(loaded: LoadedRun) -> str:
    """With which solver and guidance samples were drawn."""
    if loaded.inner is None:
        return ""
    text = f" with {loaded.solver!r}, {loaded.drawn.nfe:.0f} evaluations each"
    if loaded.inner.guidance != 1:
        text += f", guided with weight {loaded.inner.guidance:g} (log-densities are those without guidance)"
    return text


def _outliers(loaded: LoadedRun) -> list[str]:
    """A word on values far out, which distances count as nearer and mean log-densities hang on."""
    if not loaded.tabular:
        return []
    low, high = loaded.span
    x = torch.cat([loaded.train.x, loaded.test.x]).double()
    beyond = ((x < low) | (x > high)).sum(0)
    found = [(name, count) for name, count in zip(loaded.names, beyond.tolist()) if count]
    if not found:
        return []
    named = ", ".join(f"{name} ({count:,})" for name, count in found[:SHOWN]) + ", ..." * (len(found) > SHOWN)
    return [
        f"Values of {named} lie more than {OUT:g} deviations, by the quartiles, from the median: distances "
        "count them as if they lay there. Mean log-densities may hang on these few rows."
    ]
