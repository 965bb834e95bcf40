"""What a player shows: the states of some source points on their way to the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from ...tensors import condition_to
from ..dynamics import trajectory
from ..loaded_run import LoadedRun

#: Particles, and times at which they are stored; numbers in all states together.
PARTICLES, TIMES, NUMBERS = 1500, 41, 20_000_000
#: Images along a side of the grid, pixels along it, and times at which images are stored.
SIDES, ACROSS, IMAGE_TIMES = (3, 8), 448, (11, 31)
#: Share of the budget of the report.
SHARE = 0.08


@dataclass(frozen=True)
class Film:
    """States ``(T, n, *event)`` in data units on the CPU, at ``times`` from 0 to 1.

    labels: of the rows, where labels are the condition.  layers: whether states are those after each layer of
    a normalizing flow, and not at times of a trajectory.
    """

    states: Tensor
    times: list[float]
    labels: Tensor | None
    layers: bool = False


@torch.no_grad()
def shoot(loaded: LoadedRun) -> Film | None:
    """Carry some source points to the data; None for flows without trajectories and without layers.

    The points, their conditions and their noise depend on the report's seed alone.  Particles that leave the
    finite numbers are left out; raises ValueError if fewer than 2 remain.
    """
    image = loaded.look == "image"
    wanted = grid_side(loaded) ** 2 if image else min(PARTICLES, NUMBERS // (TIMES * loaded.size))
    name = f"{'images' if image else 'particles'} of the player"
    rows = loaded.budget.affordable(name, max(wanted, 9), SHARE, None, least=9)
    moments = TIMES
    if image:
        rows = math.isqrt(rows) ** 2
        moments = min(IMAGE_TIMES[1], max(IMAGE_TIMES[0], NUMBERS // (rows * loaded.size)))
    film = _carried(loaded, rows, torch.linspace(0, 1, moments))
    if film is None:
        return None
    finite = film.states.flatten(2).isfinite().all(2).all(0)
    if int(finite.sum()) < 2:
        raise ValueError("its particles are not finite")
    labels = None if film.labels is None else film.labels[finite]
    states = film.states[:, finite]
    return Film(
        _small(states, ACROSS // grid_side(loaded)) if image else states, film.times, labels, film.layers
    )


def grid_side(loaded: LoadedRun) -> int:
    """Images along a side of the grid."""
    return min(SIDES[1], max(SIDES[0], ACROSS // max(loaded.event[-2:])))


def _small(states: Tensor, side: int) -> Tensor:
    """Images ``(T, n, ..., H, W)`` of at most ``side`` pixels along either side, by means over areas."""
    share = side / max(states.shape[-2:])
    if share >= 1:
        return states
    size = [max(1, round(share * pixels)) for pixels in states.shape[-2:]]
    lead = states.shape[:-2]
    flat = states.reshape(-1, 1, *states.shape[-2:])
    parts = [functional.interpolate(part, size, mode="area") for part in flat.split(256)]
    return torch.cat(parts).reshape(*lead, *size)


def _carried(loaded: LoadedRun, rows: int, times: Tensor) -> Film | None:
    core: Any = loaded.core
    layers = False
    if loaded.inner is not None:
        path, condition, _ = trajectory(loaded, rows, times, "player", leap=True)
    else:
        condition, generator = loaded.condition(loaded.test, rows), loaded.generator("player")
        given = condition_to(condition, loaded.device)
        start = core.source.sample(rows, given, generator).to(loaded.device)
        if core.equation is not None:
            path = cast(Tensor, core.trajectory(start, times, given, generator=generator).path)
        else:
            path, layers = core.states(start, given), True
            if path is None:
                return None
            times = torch.linspace(0, 1, len(path))
    states = loaded.sampler.outwards(path.flatten(0, 1).to(loaded.device))
    labels = condition if loaded.labelled and isinstance(condition, Tensor) else None
    states = states.reshape(len(path), rows, *loaded.event).cpu()
    return Film(states, times.tolist(), labels if labels is None else labels.cpu(), layers)
