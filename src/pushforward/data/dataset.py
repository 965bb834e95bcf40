"""A loaded data set, and the map between its units and the space of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from ..bijections import Affine, Bijection, Chain, Dequantise, PiecewiseLinear, Sigmoid
from ..couplings import Rows
from .schema import Schema

Preprocess = Literal["auto", "standardise", "logit", "histogram", "none"]


@dataclass(frozen=True)
class Dataset:
    """Training and test rows in the units of the data, and the preprocessing fitted on the former.

    preprocess: a bijection whose forward runs from the space of the model to the units of the data.
    """

    schema: Schema
    train: Rows
    test: Rows
    preprocess: Bijection


def fit_preprocess(x: Tensor, schema: Schema, kind: Preprocess) -> Bijection:
    """The map from the space of the model to data ``x`` ``(B, *event)``.

    none: the identity.
    standardise: mean 0 and deviation 1, of each column of a table, of all elements of arrays and images.
    logit: for whole pixels, the interval of values opened to the line with a margin of 0.05 (Dinh et al.
    2017, arXiv 1605.08803, section 4.1).
    histogram: for whole pixels, the line by their histogram, levels that hold many pixels spread out, see
    :meth:`~pushforward.bijections.PiecewiseLinear.of_levels`; for normalizing flows of drawings.
    auto: [-1, 1] for whole pixels, else standardise.

    Whole pixels are dequantised under all but ``none``.  Raises ValueError for an unknown ``kind``, for a
    logit or histogram of data without limits, and for a constant column.
    """
    if kind not in get_args(Preprocess):
        raise ValueError(f"preprocess: expected one of {', '.join(get_args(Preprocess))}, got {kind!r}")
    if kind == "none":
        return Chain()
    if schema.levels is None:
        if kind in ("logit", "histogram"):
            raise ValueError(f"preprocess: {kind} is for images of whole pixels, whose limits are known")
        return Affine.standardise(x, per_element=schema.kind == "table")
    low, high, step = schema.levels
    # Dequantised values fill [low, high + step).
    dequantise, centre, half = Dequantise(low, high, step), (low + high + step) / 2, (high + step - low) / 2
    if kind == "logit":
        return Chain(Sigmoid(low, high + step, margin=0.05), dequantise)
    if kind == "histogram":
        return Chain(PiecewiseLinear.of_levels(x, low, high, step), dequantise)
    if kind == "standardise":
        return Chain(Affine.standardise(x + step / 2, per_element=False), dequantise)
    return Chain(Affine(x.new_tensor(centre), x.new_tensor(half)), dequantise)
