"""What the losses of a run say about when it was best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .run import RunLike

#: A validation loss has risen when it has lost this share of what it had fallen by.
RISE = 0.1


@dataclass(frozen=True)
class Course:
    """The validation loss of a run: at which step it was least, which step's weights are kept, the last step.

    fall: from its first to its least value.  rise: from its least value to that of the weights kept.
    """

    best: int
    kept: int
    last: int
    fall: float = 0.0
    rise: float = 0.0

    @property
    def early(self) -> bool:
        """Whether the loss was least in the first half, so that more steps would not help."""
        return self.best <= self.last / 2

    @property
    def risen(self) -> bool:
        """Whether the weights kept are past the best by more than noise."""
        return self.early and self.kept > self.best and self.rise > RISE * self.fall


def course(run: RunLike) -> Course | None:
    """The course of a run's validation loss; None where it was never measured."""
    checks = [row for row in run.history if math.isfinite(row.get("val_loss", math.nan))]
    if not checks:
        return None
    best = min(checks, key=lambda row: row["val_loss"])
    last = checks[-1]
    stated = run.summary.get("kept_step")
    kept = stated if isinstance(stated, int) else (best if run.config.optim.patience else last)["step"]
    at = min(checks, key=lambda row: abs(row["step"] - kept))
    fall, rise = checks[0]["val_loss"] - best["val_loss"], at["val_loss"] - best["val_loss"]
    return Course(best["step"], kept, last["step"], fall, rise)
