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
    stopped: whether the run ended by itself, for want of better validations.
    """

    best: int
    kept: int
    last: int
    fall: float = 0.0
    rise: float = 0.0
    stopped: bool = False

    @property
    def risen(self) -> bool:
        """Whether the weights kept are past the best by more than noise."""
        return self.kept > self.best and self.best <= self.last / 2 and self.rise > RISE * self.fall

    @property
    def settled(self) -> bool:
        """Whether more steps would not help."""
        return self.stopped or self.risen


def course(run: RunLike) -> Course | None:
    """The course of a run's validation loss; None where it was never measured."""
    checks = [row for row in run.history if math.isfinite(row.get("val_loss", math.nan))]
    if not checks:
        return None
    best = min(checks, key=lambda row: row["val_loss"])
    last, stated = checks[-1]["step"], run.summary.get("kept_step")
    kept = stated if isinstance(stated, int) else best["step"] if run.config.optim.patience else last
    at = min(checks, key=lambda row: abs(row["step"] - kept))
    fall, rise = checks[0]["val_loss"] - best["val_loss"], at["val_loss"] - best["val_loss"]
    return Course(best["step"], kept, last, fall, rise, last < (run.config.optim.steps or 0))
