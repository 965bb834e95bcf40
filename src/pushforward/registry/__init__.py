"""From the name of a component to the component.  Standard library only, and what checks types.

A component is written ``name`` or ``name,option=value,option=value``; instead of a registered name
``module:Class`` names a class of your own: ``--path my_paths:Curved,strength=2``.

A text may come from a file of another person.  So a name that is not registered is refused before anything is
imported, unless the caller trusts it: see :func:`trusting`.
"""

from .components import Component, component, create, found, lookup, parse, remember
from .texts import is_number, own_classes, quoted, suggest
from .trust import Trust, trusted_class, trusting

__all__ = [
    "Component",
    "Trust",
    "component",
    "create",
    "found",
    "is_number",
    "lookup",
    "own_classes",
    "parse",
    "quoted",
    "remember",
    "suggest",
    "trusted_class",
    "trusting",
]
