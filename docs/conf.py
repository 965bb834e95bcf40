"""Sphinx settings: Markdown pages, an API reference from the docstrings, warnings are errors."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

project = "pushforward"
author = "The pushforward authors"
try:
    release = importlib.metadata.version("pushforward")
except importlib.metadata.PackageNotFoundError:
    release = ""

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "pushforward"
html_static_path = ["_static"]
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#b3541e", "color-brand-content": "#b3541e"},
    "dark_css_variables": {"color-brand-primary": "#f0a35e", "color-brand-content": "#f0a35e"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"

autodoc_member_order = "bysource"
# A method without a docstring of its own says nothing new; torch's generic texts would only be in the way.
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
viewcode_follow_imported_members = False

# -- plain docstrings as reStructuredText --------------------------------------------------------------

LITERAL = re.compile(r"(``.*?``|`[^`]+`_{0,2}|:[\w:]+:`[^`]+`)")
ITEM = re.compile(r"^([`.]*[a-z_][\w.`]*(?:, [`.]*[a-z_][\w.`]*)*): +(\S.*)$")


def escape(line: str) -> str:
    """Bars, stars and trailing underscores of formulas mean nothing in plain text."""
    parts = LITERAL.split(line)
    parts[::2] = [re.sub(r"([|*]|_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def items(block: list[str]) -> list[str]:
    """``name: text`` lines, with their indented continuations, as a bullet list."""
    out: list[str] = []
    for line in block:
        match = None if line.startswith(" ") else ITEM.match(line)
        if match:
            out.append(f"* **{match[1].replace('`', '')}**: {escape(match[2])}")
        else:
            out.append("  " + escape(line.strip()))
    return out


def is_items(block: list[str]) -> bool:
    """Whether a paragraph lists arguments or attributes rather than says something."""
    heads = [line for line in block if not line.startswith(" ")]
    return bool(ITEM.match(block[0])) and sum(bool(ITEM.match(line)) for line in heads) >= max(
        1, len(heads) / 2
    )


def paragraphs(lines: list[str]) -> list[list[str]]:
    """Lines between blank ones."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def dedent(block: list[str]) -> list[str]:
    low = min(len(line) - len(line.lstrip()) for line in block)
    return [line[low:] for line in block]


def render(block: list[str]) -> list[str]:
    """One paragraph of a docstring."""
    if block[0].startswith((">>>", "..")):
        return block
    if block[0] == "Arguments:":
        return ["**Arguments**", "", *items(dedent(block[1:]))]
    if is_items(block):
        return items(block)
    indented = [line.startswith(" ") for line in block]
    if all(indented):  # a displayed formula
        return [f"| {escape(line.strip())}" for line in block]
    if any(indented):  # items after a first sentence
        first = indented.index(True)
        start = next((i for i in range(first) if is_items(block[i:])), None)
        if start:
            return [*map(escape, block[:start]), "", *items(block[start:])]
        out: list[str] = []
        for line, inside in zip(block, indented):
            out += ["", f"| {escape(line.strip())}", ""] if inside else [escape(line)]
        return out
    return [escape(line) for line in block]


def docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """The docstrings are written for ``help()``; turn them into markup that says the same."""
    out: list[str] = []
    for block in paragraphs(lines):
        out += [*render(block), ""]
    lines[:] = out


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", docstring)
