"""The preprocessing of tables whose rows are points of a manifold."""

from __future__ import annotations

from torch import Tensor

from .. import registry
from ..bijections import Bijection
from ..rows import Rows
from .schema import Schema


def check_alone(preprocess: str, noise: str | None) -> None:
    """Raise ValueError for settings that would move points off their manifold."""
    if preprocess != "auto":
        raise ValueError(
            f"preprocess: {preprocess} moves points off their manifold; with --space leave it out"
        )
    if noise not in (None, "auto"):
        raise ValueError(f"noise: {noise} moves points off their manifold; with --space leave it out")


def fit_chart(whole: Rows, train: Tensor, schema: Schema, space: str) -> Bijection:
    """The map from points of the manifold that ``space`` names to rows, chosen by the ``train`` rows.

    Raises ValueError for data that are no table, columns that do not go with the manifold, and rows of the
    ``whole`` that are no points of it, of which it names the first.
    """
    if schema.kind != "table":
        raise ValueError(f"--space {space}: is for tables, got an {schema.kind}")
    component = registry.component("space", space)
    made = component.build()
    try:
        chart = made.chart(whole.x[train].double(), schema.columns)
        chart.inverse(whole.x.double())
    except ValueError as error:
        raise ValueError(f"{schema.source}: {component.where}: {error}") from None
    return chart
