"""How long files and functions are, and how many options they take: an exception has its reason here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pushforward"
#: Lines of a file, lines of a function without its docstring, and options of a function or constructor.
FILE, FUNCTION, OPTIONS = 350, 60, 8

#: Files of which every dataclass is configuration or flags of a command.
CONFIGURATION = ("config.py", "settings.py", "data/settings.py", "cli/train.py", "cli/distil.py")

#: What is longer, by ``file`` or ``file:name``, and why.
EXCEPTIONS = {
    "data/raw.py:Raw": "a record of what was read, filled by name; readers fill few of its fields",
    "data/schema.py:Schema": "an entry of data.json each, which folders of older versions have too",
    "recipes/open.py:Run": "a record of what a run folder holds, a field for each file",
}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, those of the docstring left out."""
    first, last = function.body[0], function.end_lineno or 0
    docstring = 0
    if ast.get_docstring(function) is not None:
        docstring = (first.end_lineno or 0) - first.lineno + 1
    return last - function.lineno + 1 - docstring


def options(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def fields(cls: ast.ClassDef) -> int:
    """Fields of a dataclass, which are the options of its constructor."""
    if not any("dataclass" in ast.unparse(decorator) for decorator in cls.decorator_list):
        return 0
    found = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
    fixed = ("ClassVar", "init=False")
    return len([node for node in found if not any(word in ast.unparse(node) for word in fixed)])


def beyond(path: str, text: str) -> dict[str, str]:
    """What is too long in a file, by its name in :data:`EXCEPTIONS`, in words."""
    tree, found = ast.parse(text), {}
    if (lines := text.count("\n")) > FILE:
        found[path] = f"{lines} lines, at most {FILE}"
    owners = {
        id(node): cls.name for cls in ast.walk(tree) if isinstance(cls, ast.ClassDef) for node in cls.body
    }
    for function in functions(tree):
        owner = owners.get(id(function))
        name = f"{path}:{function.name}" if owner is None else f"{path}:{owner}.{function.name}"
        if (lines := length(function)) > FUNCTION:
            found[name] = f"{lines} lines, at most {FUNCTION}"
        if (count := options(function)) > OPTIONS:
            found[name] = f"{count} options, at most {OPTIONS}"
    for cls in ast.walk(tree):
        if isinstance(cls, ast.ClassDef) and path not in CONFIGURATION and (count := fields(cls)) > OPTIONS:
            found[f"{path}:{cls.name}"] = f"{count} fields, at most {OPTIONS}"
    return found


def test_nothing_is_longer_than_its_limit_without_a_reason() -> None:
    found: dict[str, str] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        found |= beyond(file.relative_to(SOURCE).as_posix(), file.read_text(encoding="utf-8"))
    assert {name: told for name, told in found.items() if name not in EXCEPTIONS} == {}
    assert [name for name in EXCEPTIONS if name not in found] == [], "no exception any more: take it out"


@pytest.mark.parametrize(
    "text, name",
    [
        ("\n" * 351, "x.py"),
        ("def f():\n" + "    a = 1\n" * 60, "x.py:f"),
        ("class A:\n    def f(self):\n" + "        a = 1\n" * 60, "x.py:A.f"),
        ("def f(a, b, c, d, /, e, f, *, g, h, i): ...", "x.py:f"),
        ("@dataclass\nclass A:\n" + "".join(f"    a{i}: int\n" for i in range(9)), "x.py:A"),
    ],
)
def test_what_is_too_long_is_found(text: str, name: str) -> None:
    assert [*beyond("x.py", text)] == [name]


def test_what_is_within_its_limits_is_not_found() -> None:
    docstring = '    """' + "\n" * 70 + '"""\n'
    fine = "def f(self, a, b, c, d, e, f, g, h):\n" + docstring + "    a = 1\n" * 59
    fields = "".join(f"    a{i}: int\n" for i in range(8)) + "    b: ClassVar[int] = 1\n"
    assert beyond("x.py", fine + "@dataclass\nclass A:\n" + fields) == {}
