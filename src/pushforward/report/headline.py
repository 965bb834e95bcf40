"""The headline of a report: its kind, why, and the causes that lead to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .validation import ValidationLoss

Kind = Literal[
    "good",
    "beaten",
    "overfits",
    "copies",
    "underfits",
    "below-baseline",
    "wrong-density",
    "undecided",
]


@dataclass(frozen=True)
class Cause:
    """Why a model is not good: ``key`` of the rule, and a sentence.

    clear: whether it is more than a narrow miss.
    """

    key: Literal["mass", "rows", "nothing", "repeats", "below", "gap", "rise", "copies", "beaten", "far"]
    text: str
    clear: bool = True


@dataclass(frozen=True)
class Headline:
    """The headline: its kind, what it says and why; and a command that may improve the model, if any."""

    kind: Kind
    sentence: str
    causes: list[Cause] = field(default_factory=list)
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        causes = [{"key": cause.key, "text": cause.text} for cause in self.causes]
        return {"kind": self.kind, "causes": causes, "command": self.command}


def kind_of(causes: Sequence[Cause], loss: ValidationLoss | None = None) -> Kind:
    """The kind of the headline, from all causes and the validation loss."""
    by_key = {cause.key: cause for cause in causes}
    if "mass" in by_key:
        return "wrong-density"
    if "nothing" in by_key:
        return "undecided"
    if "rows" in by_key or set(by_key) == {"repeats"}:
        return "undecided"
    if "copies" in by_key and by_key["copies"].clear:
        return "copies"
    if "gap" in by_key or "rise" in by_key:
        return "overfits"
    if "copies" in by_key:
        return "copies"
    # What neither overfits nor copies and is clearly worse has learnt too little, unless it had settled.
    clear = any(cause.clear for cause in causes if cause.key in ("below", "beaten"))
    worse = "below" in by_key or sum(cause.key == "beaten" for cause in causes) > 1
    if clear and worse and not (loss is not None and loss.settled):
        return "underfits"
    if "below" in by_key:
        return "below-baseline"
    return "beaten" if causes else "good"
