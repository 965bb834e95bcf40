"""Kinds of settings with their bounds, checked in one place for all interfaces.

Standard library only.  The dataclasses of :mod:`pushforward.config` and the flags of the commands are checked
here; bounds exclude values that would take memory or time before another check could refuse them.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

__all__ = [
    "BOUNDS",
    "LONGEST_TEXT",
    "Number",
    "Whole",
    "check_place",
    "check_settings",
    "check_text",
    "check_value",
    "shown",
    "spelt",
]

#: Characters of a text, such as a path or a component with its options.
LONGEST_TEXT = 4096


@dataclass(frozen=True)
class Whole:
    """Whole numbers from ``low`` to ``high``."""

    low: int
    high: int

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError, which calls the value ``name``, unless it is one of these.

        >>> Whole(1, 10**9).check("--steps", 0)
        Traceback (most recent call last):
        ValueError: --steps: expected at least 1, got 0
        """
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name}: expected a whole number, got {shown(value)}")
        if int(value) < self.low:
            raise ValueError(f"{name}: expected at least {self.low:,}, got {shown(value)}")
        if int(value) > self.high:
            raise ValueError(f"{name}: expected at most {self.high:,}, got {shown(value)}")


@dataclass(frozen=True)
class Number:
    """Finite numbers from ``low`` to ``high``, except an open end."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError, which calls the value ``name``, unless it is one of these.

        >>> Number(0, 1, open_high=True).check("--ema", 1)
        Traceback (most recent call last):
        ValueError: --ema: expected a number in [0, 1), got 1
        """
        number = isinstance(value, Real) and not isinstance(value, bool)
        inside = number and self._holds(value)
        excluded = (value == self.low and self.open_low) or (value == self.high and self.open_high)
        if inside and not excluded:
            return
        ends = f"{'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"
        raise ValueError(f"{name}: expected a number in {ends}, got {shown(value)}")

    def _holds(self, value: Any) -> bool:
        return self.low <= value <= self.high and math.isfinite(value)


#: What the numbers may be, by the names of settings and flags.
BOUNDS: Mapping[str, Whole | Number] = {
    "seed": Whole(0, 2**63 - 1),
    # data
    "holdout": Number(0, 0.9),
    "validation": Number(0, 0.9),
    "rows": Whole(32, 1_000_000),
    "resize": Whole(1, 4096),
    "window": Whole(2, 4096),
    "max_size": Number(0, 1e6, open_low=True),
    # model
    "plan": Whole(1, 100_000),
    "reuse": Whole(1, 1_000_000),
    "reflow": Whole(0, 5),
    "pairs": Whole(32, 10_000_000),
    "guidance": Number(-1000, 1000),
    "drop_condition": Number(0, 1, open_high=True),
    "kinetic": Number(0, 1e6),
    "jacobian": Number(0, 1e6),
    "volume": Number(0, 1e6),
    "curvature": Number(0, 1e6),
    "blocks": Whole(1, 100),
    "horizon": Number(0, 1e6, open_low=True),
    "growth": Number(0.01, 100),
    "latent": Whole(1, 10_000),
    "beta": Number(0, 1e6),
    "prior": Whole(0, 1000),
    # optimisation
    "steps": Whole(1, 10**9),
    "minutes": Number(0, 525_600, open_low=True),
    "batch": Whole(1, 1_000_000),
    "lr": Number(0, 10, open_low=True),
    "warmup": Whole(0, 10**9),
    "weight_decay": Number(0, 1000),
    "clip": Number(0, 1e9),
    "ema": Number(0, 1, open_high=True),
    "jitter": Number(0, 100),
    "patience": Whole(0, 10**9),
    "folds": Whole(0, 1000),
    "validate_every": Whole(1, 10**9),
    "log_every": Whole(1, 10**9),
    "checkpoint_every": Whole(1, 10**9),
    # use
    "nfe": Whole(1, 1000),
    # where it runs
    "devices": Whole(1, 4096),
    "nodes": Whole(1, 4096),
    "threads": Whole(1, 10**9),  # and no more than the machine has processors
    # what is done with a run
    "n": Whole(1, 10**9),
    "samples": Whole(5, 10_000_000),
    "bound_samples": Whole(1, 100_000),
    "probes": Whole(2, 100_000),
    "flag_below": Number(0, 0.5, open_low=True, open_high=True),
}


def shown(value: Any) -> str:
    """``value`` as an error shows it: the beginning of a long text, the size of a huge number.

    >>> shown(10**40), shown("x" * 1000)[-8:]
    ('about 1e+40', "xxxx'...")
    """
    if isinstance(value, int) and abs(value) >= 10**20:
        digits = value.bit_length() * math.log10(2)
        return f"about {value:.3g}" if digits < 300 else f"a number of some {digits:.0f} digits"
    if isinstance(value, str) and len(value) > 80:
        return f"{value[:80]!r}..."
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def spelt(value: float | str) -> str:
    """A setting that is a number or a text, as the command line has it.

    >>> spelt(2.0), spelt("zero-star,weight=2")
    ('2', 'zero-star,weight=2')
    """
    return value if isinstance(value, str) else f"{value:g}"


def check_text(name: str, value: Any, limit: int = LONGEST_TEXT) -> None:
    """Raise ValueError unless ``value`` is a text of one line that can be written and read again.

    >>> check_text("--network", "")
    Traceback (most recent call last):
    ValueError: --network: expected a value, got an empty text
    """
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected a text, got {shown(value)}")
    if not value.strip():
        raise ValueError(f"{name}: expected a value, got an empty text")
    if len(value) > limit:
        raise ValueError(f"{name}: expected at most {limit:,} characters, got {len(value):,}")
    odd = next((letter for letter in value if ord(letter) < 32 or 127 <= ord(letter) < 160), None)
    if odd is not None:
        raise ValueError(f"{name}: expected one line of text, got {shown(value)} with the character {odd!r}")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{name}: expected text in UTF-8, got {shown(value)}")


def check_place(name: str, path: Path, folder: bool = False) -> None:
    """Raise ValueError unless a file, or a ``folder``, can be made at ``path``, or written where it is there.

    >>> check_place("--out", Path("x" * 300))
    Traceback (most recent call last):
    ValueError: --out: expected names of at most 255 bytes, got one of 300
    """
    check_text(name, str(path))
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > 255:
        raise ValueError(f"{name}: expected names of at most 255 bytes, got one of {longest}")
    try:
        if path.exists() and path.is_dir() != folder:
            kind, other = ("folder", "file") if folder else ("file", "folder")
            raise ValueError(f"{name} {path}: expected a {kind}, and a {other} is there")
        whole = path.absolute()
        above = next(place for place in ((whole,) if folder else ()) + tuple(whole.parents) if place.exists())
    except OSError as error:
        raise ValueError(f"{name} {path}: cannot be made there ({error.strerror})") from None
    if not above.is_dir():
        raise ValueError(f"{name} {path}: expected folders above it, and {above} is a file")
    if not os.access(above, os.W_OK):
        raise ValueError(f"{name} {path}: {above} cannot be written")


def check_value(name: str, value: Any, hint: Any, bounds: Whole | Number | None = None) -> None:
    """Raise ValueError unless ``value`` is what the type ``hint`` says, and within ``bounds``.

    >>> check_value("overwrite", "no", bool)
    Traceback (most recent call last):
    ValueError: overwrite: expected True or False, got 'no'
    """
    options = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return
        options = [option for option in options if option is not type(None)]
        if len(options) > 1:  # a number or a text
            numeric = isinstance(value, Real) and not isinstance(value, bool)
            options = [option for option in options if (option is float) == numeric] or options
        if len(options) == 1:
            check_value(name, value, options[0], bounds)
    elif typing.get_origin(hint) is typing.Literal:
        if value not in options:
            raise ValueError(f"{name}: expected {' or '.join(map(str, options))}, got {shown(value)}")
    elif typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple | list):
            raise ValueError(f"{name}: expected several values, got {shown(value)}")
        for one in value:
            check_value(name, one, options[0])
    elif hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name}: expected True or False, got {shown(value)}")
    elif hint is str or hint is Path:
        check_text(name, str(value) if isinstance(value, Path) else value)
    elif hint is int:
        (bounds or Whole(-(2**63), 2**63 - 1)).check(name, value)
    elif hint is float:
        (bounds or Number(-1e300, 1e300)).check(name, value)


def check_settings(settings: Any, spell: Callable[[str], str] = "{}".format) -> None:
    """Raise ValueError for the first entry of a dataclass that is not of its type, or out of :data:`BOUNDS`.

    spell: what an entry's name is to the user, such as ``--weight-decay``.  Dataclasses within are checked,
    too.

    >>> from pushforward.config import OptimConfig
    >>> check_settings(OptimConfig(lr=float("inf")))
    Traceback (most recent call last):
    ValueError: lr: expected a number in (0, 10], got inf
    """
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        if dataclasses.is_dataclass(value):
            check_settings(value, spell)
        else:
            check_value(spell(field.name), value, hint, BOUNDS.get(field.name))
