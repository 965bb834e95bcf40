"""Places on a sphere, as latitude and longitude in degrees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..bijections import Bijection
from ..manifolds import Manifold, Sphere
from ..tensors import Condition
from .base import Points, Space


class LatLon(Bijection):
    """Unit vectors (x, y, z) to latitude and longitude in degrees, in columns ``lat`` and 1 - ``lat``.

    Latitudes are from -90 to 90, longitudes from ``low`` to below ``low`` + 360; inwards any longitude is
    taken.  The log-determinant is 0: densities on both sides are per unit area of the unit sphere.  Raises
    ValueError for a latitude beyond 90, with its row.

    >>> LatLon().inverse(torch.tensor([[90.0, 0.0], [0.0, 90.0]])).round(decimals=4) + 0.0
    tensor([[0., 0., 1.],
            [0., 1., 0.]])
    """

    def __init__(self, lat: float = 0, low: float = -180.0):
        super().__init__()
        self.lat, self.low = int(lat), low
        across, up = (low, low + 360.0), (-90.0, 90.0)
        #: the range of every column, and the order in which they are drawn along the axes of a map
        self.box = [up, across] if self.lat == 0 else [across, up]
        self.axes = [1 - self.lat, self.lat]

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (2,)

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (3,)

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: object = None
    ) -> tuple[Tensor, Tensor]:
        across = torch.linalg.vector_norm(x[:, :2], dim=1)
        latitude = torch.atan2(x[:, 2], across).rad2deg()
        longitude = turned(torch.atan2(x[:, 1], x[:, 0]).rad2deg(), self.low, 360.0)
        columns = (latitude, longitude) if self.lat == 0 else (longitude, latitude)
        return torch.stack(columns, 1), x.new_zeros(len(x))

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: object = None
    ) -> tuple[Tensor, Tensor]:
        latitude, longitude = y[:, self.lat], y[:, 1 - self.lat]
        beyond = latitude.abs() > 90
        if bool(beyond.any()):
            row = int(beyond.nonzero()[0])
            raise ValueError(
                f"latitude: expected degrees from -90 to 90, got {float(latitude[row]):g} in row {row + 1}"
                f"{_count(int(beyond.sum()), len(y))}"
            )
        latitude, longitude = latitude.deg2rad(), longitude.deg2rad()
        across = latitude.cos()
        point = torch.stack([across * longitude.cos(), across * longitude.sin(), latitude.sin()], 1)
        return point, y.new_zeros(len(y))


def _count(wrong: int, rows: int) -> str:
    return f" ({wrong:,} of {rows:,} rows)" if wrong > 1 else ""


def turned(x: Tensor, low: float, period: float) -> Tensor:
    """``x`` plus whole periods, in [low, low + period)."""
    inside = (x - low).remainder(period) + low
    # a remainder is rounded to a whole period where x is barely below low
    return torch.where(inside >= low + period, inside - period, inside)


class SphereSpace(Space):
    """The sphere: unit vectors in columns, or places, whose ``lat`` and ``lon`` name their columns.

    lat, lon: the columns of latitude and longitude in degrees, by name or by position from 0, of the two that
    are data.  Densities are per unit area of the unit sphere, of all 4 pi.  Raises ValueError for one of both
    alone.

    >>> SphereSpace(lat=0, lon=1).manifold(2)
    Sphere(2)
    """

    per = "unit area of the unit sphere"

    def __init__(self, lat: int | str | None = None, lon: int | str | None = None):
        if (lat is None) != (lon is None):
            raise ValueError("expected both lat and lon, or neither for unit vectors, got one of them")
        self.lat, self.lon = lat, lon

    def manifold(self, columns: int) -> Manifold:
        if self.lat is None:
            return Sphere(_least(columns, 2) - 1)
        if columns != 2:
            told = "2 columns, a latitude and a longitude"
            raise ValueError(f"expected {told}, got {columns}; choose them by --columns")
        return Sphere(2)

    def chart(self, x: Tensor, names: Sequence[str]) -> Bijection:
        manifold = self.manifold(x.shape[1])
        if self.lat is None or self.lon is None:
            return Points(manifold)
        lat, lon = _place("lat", self.lat, names), _place("lon", self.lon, names)
        if lat == lon:
            raise ValueError(f"expected two different columns, got {names[lat]} for lat and lon")
        east = x[:, lon]
        return LatLon(lat, -180.0 if bool((east < 0).any()) or not bool((east > 180).any()) else 0.0)


def _least(columns: int, least: int) -> int:
    if columns < least:
        raise ValueError(f"expected at least {least} columns, got {columns}")
    return columns


def _place(option: str, told: int | str, names: Sequence[str]) -> int:
    """The position of a column that is told by name or by position."""
    if told in names:
        return list(names).index(str(told))
    if isinstance(told, int) and 0 <= told < len(names):
        return told
    known = ", ".join(f"{place} ({name})" for place, name in enumerate(names))
    raise ValueError(f"{option}: expected one of the columns {known}, got {told}")
