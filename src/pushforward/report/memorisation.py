"""How near samples come to training rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..metrics import memorisation_threshold, nearest
from .formatting import Value
from .loaded_run import LoadedRun


@dataclass(frozen=True)
class Memorisation:
    """How near samples, baselines' draws and held-out rows come to training rows.

    threshold: the 1 % quantile of the training rows' own leave-one-out nearest distances.
    distances: of every cloud, in deviations of the columns for tables.
    index: for every sample its nearest row of ``train``.  scaled: ``train`` as distances see it.
    beside: how many samples are nearer than the threshold to held-out rows, and to as many training rows.
    """

    threshold: float
    distances: dict[str, Tensor]
    index: Tensor
    train: Tensor
    scaled: Tensor
    beside: tuple[int, int]

    def near(self, name: str) -> tuple[int, int]:
        """How many of a cloud are nearer than the threshold, and of how many."""
        distances = self.distances[name]
        return int((distances < self.threshold).sum()), len(distances)

    def near_of(self, loaded: LoadedRun, x: Tensor) -> tuple[int, int]:
        """:meth:`near` of other rows ``x`` in data units."""
        distances, _ = nearest(loaded.scale(x), self.scaled)
        return int((distances < self.threshold).sum()), len(distances)

    def share(self, name: str) -> Value:
        """Share of a cloud nearer than the threshold, and its standard error."""
        return Value.share(*self.near(name))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "threshold": self.threshold,
            "train_rows": len(self.train),
            "share": {name: self.share(name).value for name in self.distances},
            "median": {name: float(distance.median()) for name, distance in self.distances.items()},
        }


def measure_memorisation(loaded: LoadedRun, clouds: dict[str, Tensor]) -> Memorisation:
    """Distances to the nearest training row, of every cloud and of held-out rows."""
    # All pairs of many large rows would take minutes; a tree has no such trouble in few dimensions.
    most = 20_000 if loaded.size <= 16 else max(500, int(math.sqrt(1.5e9 / loaded.size)))
    train = loaded.subset(loaded.train, most, "memory").x
    rows = loaded.scale(train)
    clouds = {**clouds, "real": loaded.reference.x}
    found = {name: nearest(loaded.scale(x), rows) for name, x in clouds.items()}
    distances = {name: distance for name, (distance, _) in found.items()}
    threshold = memorisation_threshold(rows)
    if threshold == 0:
        # rows that repeat others are 0 apart, and nothing is nearer than that
        once = rows.unique(dim=0)
        threshold = memorisation_threshold(once) if len(once) > 1 else 0.0
    held, drawn = loaded.scale(loaded.reference.x), loaded.scale(clouds["model"])
    count = min(len(held), len(rows))
    beside = [int((nearest(drawn, some)[0] < threshold).sum()) for some in (held[:count], rows[:count])]
    return Memorisation(threshold, distances, found["model"][1], train, rows, (beside[0], beside[1]))
