"""The entries of registries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Entry", "Kind", "Method", "table"]


@dataclass(frozen=True)
class Entry:
    """One line of a registry: the class or function as ``module:Class``, what it is, and its paper.

    small: options for tables of few rows.  one_column: the name of the entry that replaces it for tables of a
    single column.  own_source: whether its hidden variables or its shape determine the source.
    drawn: whether a data set is drawn, with as many rows as are asked for.
    """

    target: str
    summary: str
    paper: str = ""
    small: str = ""
    one_column: str = ""
    own_source: bool = False
    drawn: bool = False


@dataclass(frozen=True)
class Method:
    """A name for a set of defaults of a recipe, with the paper it comes from.

    recipe: the family to which it belongs, which trains it.  starts_anywhere: whether its flow may start from
    any distribution of data points.  on_spaces: the method that it is where rows are points of a manifold.
    on_text: the same of text.
    """

    summary: str
    paper: str
    defaults: dict[str, Any] = field(default_factory=dict)
    recipe: str = "flow-matching"
    starts_anywhere: bool = True
    on_spaces: str = ""
    on_text: str = ""


@dataclass(frozen=True)
class Kind:
    """The registered components of one kind.

    entries: by name.  abstract: the class of which each must be a subclass, as ``module:Class``, or of one of
    several, with | between them; empty for methods and for functions.  flag: the flag of the command line for
    this kind.  method: the method that each entry also is, from its name and the entry.  given: how many
    arguments each is made with by position, the shape of events and the conditions.  entry: what an entry is.
    """

    entries: dict[str, Any]
    abstract: str
    flag: str
    method: Callable[[str, Entry], Method] | None = None
    given: int = 0
    entry: type[Entry] | type[Method] = Entry


def table(
    module: str, *lines: tuple[str, str, str] | tuple[str, str, str, str], **common: Any
) -> dict[str, Entry]:
    """The entries of ``lines``, each a name, a class of ``module``, what it is, and its paper.

    common: what else holds of all of them.

    >>> table("pushforward.solvers", ("rk4", "RK4", "fourth order, fixed steps", "Kutta 1901"))["rk4"].target
    'pushforward.solvers:RK4'
    """
    return {
        name: Entry(f"{module}:{target}", summary, "".join(paper), **common)
        for name, target, summary, *paper in lines
    }
