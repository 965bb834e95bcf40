"""Numbers for reading."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Value:
    """A number, and its spread over draws or its standard error."""

    value: float
    spread: float | None = None

    @classmethod
    def mean(cls, values: torch.Tensor) -> Value:
        """The mean of ``values`` ``(n,)`` and its standard error.

        >>> Value.mean(torch.tensor([1.0, 3.0]))
        Value(value=2.0, spread=1.0)
        """
        values = values.double()
        error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(float(values.mean()), error)

    @classmethod
    def share(cls, count: int, total: int) -> Value:
        """``count`` of ``total`` as a share, and its standard error.

        >>> Value.share(1, 4).value
        0.25
        """
        share = count / total
        return cls(share, math.sqrt(share * (1 - share) / total))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"value": self.value, "spread": self.spread}


def number(value: float | None, digits: int = 3) -> str:
    """A number for reading: ``digits`` significant ones, thousands apart, a dash for none.

    >>> number(0.012345), number(1234567.0), number(None), number(1e-7), number(-math.inf)
    ('0.0123', '1,234,567', '–', '1.00e-07', '−∞')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "∞" if value > 0 else "−∞"
    size = abs(value)
    if value == 0:
        return "0"
    if size >= 10**digits:
        return f"{value:,.0f}"
    if size < 1e-4:
        return f"{value:.{digits - 1}e}"
    places = digits - 1 - math.floor(math.log10(size))
    return f"{value:.{max(0, places)}f}"


def pair(value: Value | None) -> str:
    """A number and its spread to the same decimal place.

    >>> pair(Value(-10.4514, 0.0321)), pair(Value(0.5)), pair(None)
    ('-10.451 ± 0.032', '0.500', '–')
    """
    if value is None or value.spread is None or not math.isfinite(value.value + value.spread):
        return number(None if value is None else value.value)
    if value.spread == 0:
        return f"{number(value.value)} ± 0"
    places = min(6, max(0, 1 - math.floor(math.log10(value.spread))))
    return f"{value.value:,.{places}f} ± {value.spread:,.{places}f}"


def percent(share: float) -> str:
    """A share for reading.

    >>> percent(0.0123), percent(0.52), percent(0.0)
    ('1.2 %', '52 %', '0 %')
    """
    digits = 1 if 0 < share < 0.1 else 0
    return f"{100 * share:.{digits}f} %"
