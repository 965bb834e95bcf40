"""What a report measures of the end of vectors that are rounded to tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..flows import RoundedFlow
from ..tensors import condition_to
from .loaded_run import LoadedRun

#: Vectors whose ends are looked at.
DRAWN = 256


@dataclass(frozen=True)
class Rounded:
    """The :class:`~pushforward.flows.RoundingError` of ``rows`` draws."""

    rows: int
    distance: float
    undecided: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(self.__dict__)


def rounded(loaded: LoadedRun) -> Rounded | None:
    """How far vectors are from the points that they are rounded to, under the conditions of held-out rows."""
    flow = loaded.core
    if not isinstance(flow, RoundedFlow):
        return None
    condition = condition_to(loaded.condition(loaded.test, DRAWN), loaded.device)
    error = flow.rounding_error(DRAWN if condition is None else 1, condition, loaded.generator("rounding"))
    return Rounded(DRAWN, error.distance, error.undecided)
