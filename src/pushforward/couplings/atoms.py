"""The two sides of semidiscrete transport: a data set as points with masses, and a distribution as draws."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from .. import random
from ..plans.search import FEW_DIMENSIONS
from ..rows import Rows, as_rows
from ..sources import Source
from ..tensors import flatten_event


class Atoms:
    """Distinct rows of a data set as centred points ``(M, d)`` with weights of sum one."""

    def __init__(self, target: Rows):
        x = flatten_event(target.x.detach())
        if len(x) == 0 or x.shape[1] == 0 or not bool(torch.isfinite(x).all()):
            raise ValueError(f"target: expected rows of finite values, got shape {tuple(target.x.shape)}")
        weight = torch.ones(len(x)) if target.weight is None else target.weight.detach()
        if weight.shape != (len(x),):
            raise ValueError(f"target.weight: expected shape ({len(x)},), got {tuple(weight.shape)}")
        weight = weight.to(x.device).double()
        if not bool((weight > 0).all()) or not bool(torch.isfinite(weight.sum())):
            raise ValueError(
                "target.weight: expected positive numbers of finite sum, "
                f"got {float(weight.min()):g} to {float(weight.max()):g}"
            )
        weight = weight / weight.sum()
        distinct, self.member = x.unique(dim=0, return_inverse=True)
        self.weights = torch.zeros(len(distinct)).to(weight).index_add_(0, self.member, weight)
        self.centre = weight @ x.double()
        points = distinct.double() - self.centre
        # many dimensions are searched in single precision
        self.points = points if points.shape[1] <= FEW_DIMENSIONS else points.float()
        order = self.member.argsort(stable=True)
        self.order, self.upto = order, weight[order].cumsum(0)
        self.last = self.member.bincount().cumsum(0) - 1

    def tilt(self, centre: Tensor) -> Tensor:
        """h_j - g_j where scores are h_j + <x - centre, y_j - self.centre>."""
        y = self.points.double()
        return (centre - self.centre) @ y.T - 0.5 * y.square().sum(1)

    def row(self, point: Tensor, generator: torch.Generator | None) -> Tensor:
        """The row of each point; one of several equal rows is drawn in proportion to their weights."""
        first = torch.cat([self.last.new_zeros(1), self.last[:-1] + 1])
        if len(self.points) == len(self.order):
            return self.order[first[point]]
        u = random.uniform((len(point),), generator, torch.float64, point.device)
        stop = self.upto[self.last[point]]
        start = stop - self.weights[point]
        place = torch.searchsorted(self.upto, start + u * (stop - start), right=True)
        return self.order[place.clamp(first[point], self.last[point])]


def drawing(
    source: Source | Rows | Tensor, event: tuple[int, ...], generator: torch.Generator | None
) -> Callable[[int], Tensor]:
    """n -> draws ``(n, d)``, of rows with replacement."""
    if isinstance(source, Source):
        if tuple(source.event_shape) != event:
            raise ValueError(
                f"source, target: expected equal event shapes, got {tuple(source.event_shape)} and {event}"
            )
        try:
            source.sample(1, generator=generator)
        except ValueError as error:
            raise ValueError(
                "source: semidiscrete transport needs one distribution that draws without a condition, but "
                f"{type(source).__name__} does not: {error}"
            ) from error
        distribution = source
        return lambda n: distribution.sample(n, generator=generator).detach().reshape(n, -1)
    rows = as_rows(source)
    if tuple(rows.x.shape[1:]) != event or len(rows) == 0:
        raise ValueError(
            f"source, target: expected rows and equal event shapes, got {tuple(rows.x.shape)} and {event}"
        )
    x = rows.x.detach().reshape(len(rows), -1)
    weight = torch.ones(len(rows)) if rows.weight is None else rows.weight.detach()
    if (
        weight.shape != (len(rows),)
        or not bool((weight >= 0).all())
        or not 0 < float(weight.sum()) < torch.inf
    ):
        raise ValueError(f"source.weight: expected {len(rows)} non-negative numbers with a positive sum")
    upto = weight.to(x.device).double().cumsum(0)

    def draw(n: int) -> Tensor:
        u = random.uniform((n,), generator, torch.float64, x.device) * upto[-1]
        return x[torch.searchsorted(upto, u, right=True).clamp(max=len(x) - 1)]

    return draw


def fingerprint(rows: Rows) -> Tensor:
    """A digest of the values, at single precision, and weights."""
    digest = hashlib.blake2b(repr(tuple(rows.x.shape)).encode(), digest_size=16)
    for part in (rows.x, rows.weight):
        if part is not None:
            digest.update(part.detach().float().cpu().contiguous().numpy().tobytes())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
