"""Monotone maps between the values of a column and a coordinate of mean 0 and deviation about 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

#: Values further from the median than so many interquartile ranges count neither for mean nor deviation.
FAR = 8.0
#: How much further than 1 the correlation with normal quantiles must be for a logarithm to be tried, and the
#: part of this distance that it must leave at most.
CURVED, NEARER = 0.02, 0.5
#: Skewness and excess kurtosis, without the outer 0.5 % on both sides, from which on quantiles are mapped.
SKEW, KURTOSIS = 2.0, 6.0
#: Values that one interval between mapped quantiles holds, intervals at most, and values looked at for shape.
HELD, INTERVALS, LOOKED_AT = 20, 24, 2000


@dataclass(frozen=True, kw_only=True)
class Map(ABC):
    """A rising bijection from an interval to all numbers."""

    word: ClassVar[str]

    @abstractmethod
    def forward(self, v: np.ndarray) -> np.ndarray:
        """Coordinates of values that are inside."""

    @abstractmethod
    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Values of coordinates."""

    @abstractmethod
    def log_slope(self, z: np.ndarray) -> np.ndarray:
        """log dv/dz at coordinates."""

    @property
    def interval(self) -> tuple[float, float]:
        """Values lie between these two, which are not among them."""
        return -np.inf, np.inf


@dataclass(frozen=True, kw_only=True)
class Curve(Map):
    """v = curve(center + scale z), of a rising curve that has no parameters but its limits."""

    center: float
    scale: float

    @abstractmethod
    def straightened(self, v: np.ndarray) -> np.ndarray:
        """u of values, the inverse of the curve."""

    @abstractmethod
    def curved(self, u: np.ndarray) -> np.ndarray:
        """The curve."""

    @abstractmethod
    def log_rise(self, u: np.ndarray) -> np.ndarray:
        """log dv/du."""

    def forward(self, v: np.ndarray) -> np.ndarray:
        return (self.straightened(v) - self.center) / self.scale

    def inverse(self, z: np.ndarray) -> np.ndarray:
        return self.curved(self.center + self.scale * z)

    def log_slope(self, z: np.ndarray) -> np.ndarray:
        return np.log(self.scale) + self.log_rise(self.center + self.scale * z)


@dataclass(frozen=True, kw_only=True)
class Affine(Curve):
    """v = center + scale z.

    >>> Affine(center=1, scale=2).forward(np.array([5.0])).tolist()
    [2.0]
    """

    word: ClassVar[str] = "standardised"

    def straightened(self, v: np.ndarray) -> np.ndarray:
        return v

    def curved(self, u: np.ndarray) -> np.ndarray:
        return u

    def log_rise(self, u: np.ndarray) -> np.ndarray:
        return np.zeros_like(u)


@dataclass(frozen=True, kw_only=True)
class Log(Curve):
    """v = low + exp(center + scale z), above ``low``."""

    word: ClassVar[str] = "logarithm"
    low: float

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, np.inf

    def straightened(self, v: np.ndarray) -> np.ndarray:
        return np.log(v - self.low)

    def curved(self, u: np.ndarray) -> np.ndarray:
        return self.low + np.exp(u)

    def log_rise(self, u: np.ndarray) -> np.ndarray:
        return u


@dataclass(frozen=True, kw_only=True)
class Soft(Curve):
    """v = low + width log(1 + exp(center + scale z)): above ``low``, and a straight line far above it."""

    word: ClassVar[str] = "standardised above its limit"
    low: float
    width: float

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, np.inf

    def straightened(self, v: np.ndarray) -> np.ndarray:
        y = (v - self.low) / self.width
        return y + np.log(-np.expm1(-y))

    def curved(self, u: np.ndarray) -> np.ndarray:
        return self.low + self.width * np.logaddexp(0, u)

    def log_rise(self, u: np.ndarray) -> np.ndarray:
        return np.log(self.width) - np.logaddexp(0, -u)


@dataclass(frozen=True, kw_only=True)
class Logit(Curve):
    """v = low + (high - low) / (1 + exp(-center - scale z)), between two limits."""

    word: ClassVar[str] = "logit"
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high

    def straightened(self, v: np.ndarray) -> np.ndarray:
        return np.log(v - self.low) - np.log(self.high - v)

    def curved(self, u: np.ndarray) -> np.ndarray:
        part, rest = np.exp(-np.logaddexp(0, -u)), np.exp(-np.logaddexp(0, u))
        return np.where(
            u < 0, self.low + (self.high - self.low) * part, self.high - (self.high - self.low) * rest
        )

    def log_rise(self, u: np.ndarray) -> np.ndarray:
        return np.log(self.high - self.low) - np.logaddexp(0, u) - np.logaddexp(0, -u)


@dataclass(frozen=True, kw_only=True)
class Quantiles(Map):
    """Straight lines through pairs of a quantile of the data and that of the normal distribution.

    Beyond the extremes the outer lines go on.  With ``low`` it is log(v - low) that is mapped.
    """

    word: ClassVar[str] = "quantiles"
    values: tuple[float, ...]
    places: tuple[float, ...]
    low: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        return (-np.inf if self.low is None else self.low), np.inf

    def forward(self, v: np.ndarray) -> np.ndarray:
        return _through(v if self.low is None else np.log(v - self.low), self.values, self.places)

    def inverse(self, z: np.ndarray) -> np.ndarray:
        u = _through(z, self.places, self.values)
        return u if self.low is None else self.low + np.exp(u)

    def log_slope(self, z: np.ndarray) -> np.ndarray:
        i = _interval(z, np.asarray(self.places))
        slope = np.log(np.diff(self.values) / np.diff(self.places))[i]
        return slope if self.low is None else slope + _through(z, self.places, self.values)


#: All maps; from plain data the first that shares most entries is rebuilt.
AnyMap = Affine | Log | Soft | Logit | Quantiles


def _interval(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(knots, x) - 1, 0, len(knots) - 2)


def _through(x: np.ndarray, knots: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
    a, b = np.asarray(knots), np.asarray(values)
    i = _interval(x, a)
    return b[i] + (x - a[i]) * ((b[i + 1] - b[i]) / (a[i + 1] - a[i]))


# -- fits --------------------------------------------------------------------------------------------


def middle(v: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of values, of those far outside nothing; of equal ones the deviation is 1.

    >>> middle(np.array([-1.0, 1.0, -1.0, 1.0, 1e9]))
    (0.0, 1.0)
    """
    if not len(v):
        return 0.0, 1.0
    low, median, high = np.percentile(v, (25, 50, 75))
    kept = v[np.abs(v - median) <= FAR * (high - low)] if high > low else v
    size = float(np.abs(kept).max()) or 1.0  # so that squares do not overflow
    spread = float((kept / size).std() * size)
    return float((kept / size).mean() * size), spread if spread > 1e-9 * size else 1.0


def straight(v: np.ndarray, low: float | None) -> AnyMap:
    """The map that changes the shape least: standardised, and kept above ``low``."""
    if low is None:
        center, scale = middle(v)
        return Affine(center=center, scale=scale)
    width = middle(v)[1]
    plain = Soft(low=low, width=width, center=0.0, scale=1.0)
    center, scale = middle(plain.forward(v))
    return Soft(low=low, width=width, center=center, scale=scale)


def logarithm(v: np.ndarray, low: float) -> Log:
    """The logarithm of v - ``low``, standardised."""
    center, scale = middle(np.log(v - low))
    return Log(low=low, center=center, scale=scale)


def between(v: np.ndarray, low: float, high: float) -> Logit:
    """The logit between two limits, standardised."""
    center, scale = middle(np.log(v - low) - np.log(high - v))
    return Logit(low=low, high=high, center=center, scale=scale)


def quantiles(v: np.ndarray, low: float | None) -> AnyMap:
    """Quantiles of the data onto those of the normal distribution; a straight map where too few differ."""
    from scipy.special import ndtri

    u = np.sort(v if low is None else np.log(v - low))
    n = len(u)
    parts = min(INTERVALS, max(4, n // HELD))
    at = np.unique(np.linspace(0, n - 1, parts + 1).round().astype(int))
    knots, first = np.unique(u[at], return_index=True)
    if len(knots) < 3:
        return straight(v, low)
    last = len(at) - 1 - np.unique(u[at][::-1], return_index=True)[1]
    places = ndtri((at[first] + at[last] + 1) / (2 * n))  # ties lie in the middle of their ranks
    return Quantiles(values=tuple(knots.tolist()), places=tuple(places.tolist()), low=low)


def nearest_normal(v: np.ndarray, low: float | None) -> AnyMap | None:
    """A logarithm above ``low`` or mapped quantiles where these make the data much nearer to normal."""
    plain = _off_normal(v)
    if low is not None and plain > CURVED and _off_normal(np.log(v - low)) < NEARER * plain:
        return logarithm(v, low)
    return quantiles(v, low) if _is_heavy(v) else None


def _inner(v: np.ndarray) -> np.ndarray:
    """Sorted values without the outer 0.5 % on both sides, at least one each; of many an even choice."""
    v = np.sort(v)
    cut = max(1, len(v) // 200)
    v = v[cut : len(v) - cut]
    return v[np.linspace(0, len(v) - 1, min(len(v), LOOKED_AT)).astype(int)] if len(v) else v


def _off_normal(v: np.ndarray) -> float:
    """1 - the correlation of sorted values with normal quantiles (Filliben 1975)."""
    from scipy.special import ndtri

    inner = _inner(v)
    if len(inner) < 8 or inner[0] == inner[-1]:
        return 0.0
    cut = max(1, len(v) // 200)
    ranks = np.linspace(cut, len(v) - cut - 1, len(inner))
    inner = inner / np.abs(inner).max()
    return 1 - float(np.corrcoef(inner, ndtri((ranks + 0.5) / len(v)))[0, 1])


def _is_heavy(v: np.ndarray) -> bool:
    inner = _inner(v)
    if len(inner) < 8 or inner[0] == inner[-1]:
        return False
    z = inner / np.abs(inner).max()
    z = (z - z.mean()) / (z.std() or 1.0)
    return bool(abs((z**3).mean()) > SKEW or (z**4).mean() - 3 > KURTOSIS)
