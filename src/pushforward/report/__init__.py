"""The report of a run, and two runs side by side."""

from .build import build as build
from .build import conclusion as conclusion
from .compare import compare as compare
from .compare import compare_text as compare_text

__all__ = [
    "build",
    "compare",
    "compare_text",
    "conclusion",
]
