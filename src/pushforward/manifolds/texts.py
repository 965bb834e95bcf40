"""Manifolds from the texts that they are printed as."""

from __future__ import annotations

import ast

from .base import Manifold
from .euclidean import Euclidean
from .hyperbolic import Lorentz, Poincare
from .product import Product
from .rotations import SpecialOrthogonal
from .simplex import Simplex
from .spd import SPD
from .sphere import Sphere
from .torus import Torus

#: The classes by their names; each has a case in the contract test.
MANIFOLDS = {
    made.__name__: made
    for made in (Euclidean, Lorentz, Poincare, Product, SPD, Simplex, SpecialOrthogonal, Sphere, Torus)
}
#: Characters of such a text at most.
LONGEST = 1000


def manifold_of(text: str) -> Manifold:
    """The manifold that is printed as ``text``; nothing else is made or run.

    Raises ValueError for another text, and for a size that a manifold refuses.

    >>> manifold_of("Product(Sphere(2), Torus(1))").event_shape
    (4,)
    """
    try:
        if len(text) > LONGEST:
            raise SyntaxError
        return _made(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(
            f"expected a manifold such as Product(Sphere(2), Torus(1)), of {', '.join(MANIFOLDS)}, "
            f"got {text[:80]!r}"
        ) from None


def _made(node: ast.expr) -> Manifold:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords):
        raise SyntaxError
    if node.func.id not in MANIFOLDS:
        raise SyntaxError
    numbers = [part.value for part in node.args if isinstance(part, ast.Constant)]
    parts = [_made(part) for part in node.args if not isinstance(part, ast.Constant)]
    try:
        return MANIFOLDS[node.func.id](*parts, *numbers)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise SyntaxError from None
