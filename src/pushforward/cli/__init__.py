"""The command line: ``pushforward train``, ``sample``, ``push``, ``score``, ``report``, ``info``, ...

This file imports nothing: ``python -m pushforward.cli`` reads it while the working folder, which may be a
stranger's, still comes first among the places of modules.
"""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, see :func:`pushforward.cli.entry.main`; its exit status."""
    from . import entry

    return entry.main(arguments)
