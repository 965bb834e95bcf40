"""A line of the verdict: one measure of the model and of what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .formatting import Value, number, percent

Better = Literal["low", "high", "real"]


@dataclass(frozen=True)
class Line:
    """One measure, of ``model``, baselines' draws by their keys, ``means`` and ``real``.

    short: its name in a sentence.  least_spread: below this a spread of real rows is chance.
    """

    key: str
    label: str
    unit: str
    better: Better
    values: dict[str, Value]
    short: str = ""
    least_spread: float = 0.0

    def text(self, value: float) -> str:
        """A value of this measure for reading."""
        return percent(value) if self.unit == "share" else number(value)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        values = {name: value.to_json() for name, value in self.values.items()}
        return {"key": self.key, "label": self.label, "unit": self.unit, "better": self.better, **values}
