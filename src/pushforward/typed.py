"""Plain data that was read from a file or a text, as typed values."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "as_type",
]


def as_type(data: Any, hint: Any, where: str) -> Any:
    """``data`` as ``hint`` says: dataclasses from objects, tuples from lists; nothing else is converted.

    Raises ValueError that says ``where``, the entry, what was expected and what came.

    >>> as_type([1, 2], tuple[int, ...], "sizes")
    (1, 2)
    """
    try:
        return msgspec.convert(data, hint, strict=True)
    except msgspec.ValidationError as error:
        raise ValueError(f"{where}: {error}") from None
