"""Texts that commands print.  Standard library only."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` without characters that control a terminal.

    >>> printable("a\\x1b[2J\\u202eb\\tc")
    'a?[2J?b c'
    """
    return "".join(
        letter if letter.isprintable() or letter == "\n" else " " if letter.isspace() else "?"
        for letter in text
    )
