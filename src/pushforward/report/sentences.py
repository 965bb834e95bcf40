"""The sentences of the headline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .densities import Density
from .formatting import Value, pair
from .headline import Cause, Kind
from .measures import Line
from .rules import TRIFLE, nats, noise_of

#: How a headline begins, and which causes it names first.
OPENINGS: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "wrong-density": ("The densities are wrong", ("mass",)),
    "undecided": ("Nothing can be concluded", ("rows", "nothing", "repeats")),
    "overfits": ("The model overfits", ("gap", "below", "rise")),
    "copies": ("The model copies training rows", ("copies",)),
    "underfits": ("The model underfits", ("below", "beaten")),
    "below-baseline": ("The model is worse than a baseline", ("below",)),
    "beaten": ("The samples are not good enough", ("beaten", "far")),
}


#: What is said of a flow map, whose samples have no density of their own.
OF_VELOCITY = "Log-densities are those of its velocity field, distances those of its samples."


def sentence_of(kind: Kind, causes: Sequence[Cause]) -> str:
    """One or two sentences for every kind but ``good``."""
    opening, first = OPENINGS[kind]
    texts = [cause.text for key in first for cause in causes if cause.key == key]
    if kind == "overfits":
        text = ", and ".join(texts[:2])
    elif kind == "beaten" and len(texts) > 1:
        return f"{opening} in {len(texts)} measures: {texts[0]}."
    else:
        text = texts[0]
    if kind in ("overfits", "underfits"):
        return f"{opening}. {text[0].upper()}{text[1:]}."
    return f"{opening}: {text}."


def praise(
    densities: Sequence[Density], best: str, lines: Sequence[Line], names: Mapping[str, str], rows: int
) -> str:
    """What is said of a model that nothing beats."""
    density = next((d for d in densities[1:] if d.key == best), None)
    if density is None or density.lead is None:
        first = "No baseline is better by its samples; log-densities could not be compared."
    elif density.lead.gain.value > max(TRIFLE, density.lead.gain.spread or 0.0):
        amount = nats(density.lead.gain)
        first = (
            f"The model is better than every baseline: the mean log-density of held-out rows is {amount} "
            f"nats higher than under the best one, the {names[best]}."
        )
    else:
        amount = nats(density.lead.gain)
        first = (
            f"The model is as good as the best baseline, the {names[best]}, and no better: the mean "
            f"log-densities of held-out rows differ by {amount} nats."
        )
    judged = [line for line in lines if line.judged and line.measure.better == "low"]
    behind = [
        line for line in judged if line.values["model"].value > line.values["real"].value + noise_of(line)
    ]
    if not behind:
        return f"{first} On {rows:,} rows its samples are as near to held-out rows as real rows are."
    worst = max(behind, key=lambda line: line.values["model"].value / (line.values["real"].value or 1.0))
    mine, real = (worst.measure.text(worst.values[name].value) for name in ("model", "real"))
    name = worst.judged.name if worst.judged else worst.measure.label
    return (
        f"{first} Its samples are still farther from held-out rows than real rows are: the {name} is {mine}, "
        f"and {real} for real rows."
    )


def learnt_beyond(summary: Mapping[str, Any]) -> str:
    """How much a flow has learnt beyond the baselines that it started from; nothing where that is unknown."""
    learnt, start = summary.get("learnt"), summary.get("start")
    origin = f" ({start})" if isinstance(start, str) and start else ""
    nothing = f"It has learnt nothing beyond the baseline it started from{origin}."
    found: Mapping[str, Any] = learnt if isinstance(learnt, Mapping) else {}
    gain, error = found.get("gain"), float(found.get("error") or 0.0)
    loses = isinstance(gain, int | float) and gain < 0
    if not loses and summary.get("kept_step") == 0 and (learnt or origin):
        return nothing
    if not isinstance(gain, int | float):
        return ""
    how = f", by {found['how']} of {found['rows']:,} rows" if "how" in found and "rows" in found else ""
    if gain < -error:
        amount = pair(Value(-gain, error))
        below = f"It is {amount} nats per row below the baseline it started from{origin}{how}"
        return f"{below}: the noise that is left at its end is wider than values that repeat."
    if gain <= error:
        return nothing
    amount = pair(Value(gain, error))
    return f"It has learnt {amount} nats per row beyond the baseline it started from{origin}{how}."
