"""A measure or figure that fails is left out by name, and the report has all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

#: Characters of a reason that are shown.
SHOWN = 240

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")


class LeftOut(dict[str, str]):
    """Measures and figures that failed, each with a reason of one line.

    Networks, solvers and sources may be a user's own and may raise any exception, so every measure and every
    figure of a report is made through :meth:`attempt`.

    >>> left_out = LeftOut()
    >>> left_out.attempt("ratio", None, lambda: 1 / 0), left_out.attempt("sum", None, lambda: 1 + 1)
    (None, 2)
    >>> left_out
    {'ratio': 'ZeroDivisionError: division by zero'}
    """

    def attempt(
        self, name: str, default: D, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | D:
        """``make(...)``, or ``default`` where that fails; then ``name`` is left out."""
        try:
            return make(*args, **kwargs)
        except Exception as error:
            self.setdefault(name, reason(error))
            return default

    def sentences(self) -> list[str]:
        """A sentence for each."""
        return [f"{name[0].upper()}{name[1:]}: left out, {why}." for name, why in self.items()]


def reason(error: Exception) -> str:
    """What an error says, in one line; its kind too, where it is not a message of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0].rstrip(".") if lines else ""
    ours = isinstance(error, ValueError) or type(error).__module__.startswith("pushforward.")
    if not ours or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
