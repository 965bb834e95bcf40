"""Modules import one another in one direction: no module needs one that needs it, not even for its types."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pushforward

ROOT = Path(str(pushforward.__file__)).parent
#: Packages that still have circles within themselves.
LEFT = ("recipes", "report")


def module_name(file: Path) -> str:
    parts = ("pushforward", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in ROOT.rglob("*.py")}


def imported(name: str) -> set[str]:
    """The modules that a module imports by relative imports, wherever in its text."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            steps = package.split(".")
            base = ".".join([*steps[: len(steps) - node.level + 1], *filter(None, [node.module])])
            found |= {
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names
            }
    return found & set(MODULES) - {name}


def circle(start: str) -> list[str]:
    """The modules on one way from ``start`` back to it."""
    ways = [[start]]
    seen = set()
    while ways:
        way = ways.pop()
        for name in imported(way[-1]) - seen:
            if name == start:
                return way
            seen.add(name)
            ways.append([*way, name])
    return []


@pytest.mark.parametrize("package", sorted({name.split(".")[1] for name in MODULES if name.count(".") > 1}))
def test_modules_of_a_package_form_no_circle(package: str) -> None:
    if package in LEFT:
        pytest.skip("its modules know one another")
    names = [name for name in MODULES if name.startswith(f"pushforward.{package}.")]
    assert names
    assert not [way for name in names if (way := circle(name))]
