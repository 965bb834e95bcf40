"""``pushforward schema``: what the columns of a table are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .words import printable


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Flags of ``schema``."""

    table: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Built-in name or path of a table: CSV, TSV, Parquet."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Schema to write, .toml."""
    schema: Path | None = None
    """Schema that says what some columns are."""
    exclude: tuple[str, ...] = ()
    """Columns that are no data."""
    max_size: float = 2.0
    """Gigabytes that the numbers of DATA may take."""


def schema(args: Schema, command: str) -> int:
    """Say what the columns of a table are: pushforward schema data.csv -o schema.toml"""
    from ..data.kinds import from_toml, infer, read_table, to_toml
    from ..data.write import check_output
    from ..files import read_text, write_text

    if args.out is not None:
        check_output(args.out, (".toml",))
    given = None if args.schema is None else from_toml(read_text(args.schema), str(args.schema))
    found = infer(read_table(args.table, args.max_size), given, args.exclude)
    lines = found.lines()
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print(printable("  ".join(f"{text:<{width}}" for text, width in zip(line, widths)).rstrip()))
    if args.out is not None:
        write_text(args.out, to_toml(found))
        print(args.out)
    return 0
