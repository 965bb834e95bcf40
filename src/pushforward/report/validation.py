"""What validation says about when a run was best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..recipes import Run

#: A validation loss has risen when it has lost this share of what it had fallen by, and so many nats per row.
RISE, NATS = 0.1, 0.05


@dataclass(frozen=True)
class ValidationLoss:
    """The validation loss of a run: the steps of its minimum, of the weights kept, and the last one.

    It is the negative log-density where that was measured, by cross-validation or on validation rows.

    fall: from its first to its least value.  rise: from its least value to that of the weights kept.
    stopped: whether the run ended early because validation no longer improved, or cross-validation chose
    fewer steps than it was given.  matters: a smaller rise does not matter.
    """

    best: int
    kept: int
    last: int
    fall: float = 0.0
    rise: float = 0.0
    stopped: bool = False
    matters: float = 0.0

    @property
    def risen(self) -> bool:
        """Whether the weights kept are past the best by more than noise."""
        return (
            self.kept > self.best
            and self.best <= self.last / 2
            and self.rise > max(RISE * self.fall, self.matters)
        )

    @property
    def settled(self) -> bool:
        """Whether more steps would not help."""
        return self.stopped or self.risen


def measured(run: Run, key: str) -> list[dict[str, Any]]:
    """Rows of the history that hold a finite number of this name."""
    return [row for row in run.history if math.isfinite(row.get(key, math.nan))]


def validation_loss(run: Run) -> ValidationLoss | None:
    """The validation loss of a run; None where it was never measured."""
    # log-densities choose the weights where there are any
    key = "val_nll" if measured(run, "val_nll") else "val_loss"
    checks = measured(run, key)
    if not checks:
        return None
    best = min(checks, key=lambda row: row[key])
    last, stated = checks[-1]["step"], run.summary.get("kept_step")
    kept = stated if isinstance(stated, int) else best["step"] if run.config.optim.patience else last
    at = min(checks, key=lambda row: abs(row["step"] - kept))
    fall, rise = checks[0][key] - best[key], at[key] - best[key]
    ended = kept if run.config.optim.folds and run.summary.get("finished") else last
    stopped = ended < (run.config.optim.steps or 0)
    return ValidationLoss(best["step"], kept, last, fall, rise, stopped, NATS if key == "val_nll" else 0.0)
