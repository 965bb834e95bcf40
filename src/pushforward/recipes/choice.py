"""The number of steps that cross-validation chooses."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..contents import Chosen
from ..typed import as_type

#: Standard errors that a gain has to exceed; one would do for a single number of steps; several are tried.
SURE = 2.0


@dataclass(frozen=True)
class Choice:
    """The number of steps that cross-validation chose, and why.

    steps: 0 where no number of steps is better than none by more than :data:`SURE` standard errors.
    learnt: mean gain over no steps in nats per row, its standard error, and from how many rows; None without
    densities.  curve: rows of a history, the mean negative log-density (or loss) of rows that were held out.
    """

    steps: int
    learnt: dict[str, Any] | None
    curve: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of :meth:`from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any, where: str = "choice") -> Choice:
        """Rebuild from :meth:`to_json`.  Raises ValueError, which says ``where`` they are, for other data."""
        found = as_type(data, Chosen, where)
        return cls(found["steps"], found["learnt"], found["curve"])


def choose(
    steps: list[int], scores: Tensor, density: bool, guarded: bool = True, lost: Tensor | None = None
) -> Choice:
    """The best of ``steps`` by the scores ``(len(steps), N)`` of rows held out, the first being no step.

    guarded: whether no step is the baseline, which the best has to surpass beyond noise.
    density: whether scores are log-densities in nats; losses with the other sign otherwise.  A number of
    steps has to be better than none by more than :data:`SURE` standard errors of the paired difference.
    lost: what the baseline has lost at no step, ``(N,)``, which counts for what is learnt beyond it.

    >>> choose([0, 10, 20], torch.tensor([[0.0, 0.0], [1.0, 1.1], [0.5, 0.4]]), True).steps
    10
    """
    scores = scores.double()
    means = scores.mean(1)
    best = int(torch.where(means.isnan(), -torch.inf, means).argmax())
    learnt = learnt_of(scores[best] - scores[0], "cross-validation")
    if guarded and not learnt["gain"] > SURE * learnt["error"]:
        best = 0
        learnt = {**learnt, "gain": 0.0, "error": 0.0}
    if lost is not None and bool(lost.any()):
        learnt = learnt_of(scores[best] - scores[0] - lost.to(scores), "cross-validation")
    key, sign = ("val_nll", -1.0) if density else ("val_loss", -1.0)
    curve = [{"step": step, key: sign * float(mean)} for step, mean in zip(steps, means)]
    curve = [row if math.isfinite(row[key]) else {"step": row["step"]} for row in curve]
    return Choice(steps[best], learnt if density else None, curve)


def learnt_of(gain: Tensor, how: str) -> dict[str, Any]:
    """Mean and standard error of paired gains ``(N,)``."""
    error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    return {"gain": float(gain.mean()), "error": error, "rows": len(gain), "how": how}
