"""A loaded data set, and the map between its units and the space of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..bijections import Affine, Bijection, Blur, Chain, Dequantise, PiecewiseLinear, Sigmoid, Whiten
from ..metrics.baselines.coordinates import deviations, drawn_in, shrunk_covariance
from ..rows import Rows
from .noise import resolution
from .schema import Schema
from .split import Stretches, split

Preprocess = Literal["auto", "whiten", "standardise", "logit", "histogram", "tokens", "none"]

#: A table of more columns is standardised, not whitened.
MOST_WHITENED = 256


@dataclass(frozen=True)
class Dataset:
    """Training and test rows in the units of the data, and the preprocessing fitted on the former.

    preprocess: a bijection whose forward runs from the space of the model to the units of the data.
    stretches: those of which training rows are windows, None where every row stands for itself.
    """

    schema: Schema
    train: Rows
    test: Rows
    preprocess: Bijection
    stretches: Stretches | None = None

    def set_apart(self, share: float, seed: int) -> tuple[Tensor, Tensor]:
        """The numbers of the training rows that stay, and of those that are set apart to validate with."""
        if self.stretches is not None:
            return self.stretches.split(len(self.train), share, seed)
        return split(len(self.train), share, seed, self.schema.labels(self.train))


def fit_preprocess(
    x: Tensor, schema: Schema, kind: Preprocess, noise: str | None = None, weight: Tensor | None = None
) -> Bijection:
    """The map from the space of the model to data ``x`` ``(B, *event)``.

    none: the identity.
    whiten: mean 0, deviation 1 and columns uncorrelated, for tables; see :func:`whitening`.
    standardise: mean 0 and deviation 1, of each column of a table, of all elements of arrays and images.
    logit: for whole pixels, the interval of values opened to the line with a margin of 0.05 (Dinh et al.
    2017, arXiv 1605.08803, section 4.1).
    histogram: for whole pixels, the line by their histogram, with more space for frequent levels, see
    :meth:`~pushforward.bijections.PiecewiseLinear.of_levels`; for normalizing flows of drawings.
    tokens: for whole pixels, their levels counted from 0, for flows of tokens.
    auto: [-1, 1] for whole pixels, whiten for tables, tokens for text, else standardise.

    Whole pixels are dequantised under all but ``none`` and ``tokens``.  noise: the noise added to a table in
    training, see :func:`~pushforward.data.noise.resolution`; None for nothing, without a look at repeated
    values.  weight: of the rows ``(B,)``.  Raises ValueError for an unknown ``kind``, one that does not go
    with the data, for a constant column, and for points that are not finite or of another shape.
    """
    if kind not in get_args(Preprocess):
        raise ValueError(f"preprocess: expected one of {', '.join(get_args(Preprocess))}, got {kind!r}")
    if len(x) == 0 or tuple(x.shape[1:]) != schema.event_shape:
        expected = ", ".join(map(str, ("rows", *schema.event_shape)))
        raise ValueError(f"x: expected at least one row, shape ({expected}), got {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError("x: expected finite numbers")
    if schema.kind == "text" and kind not in ("auto", "tokens"):
        raise ValueError(f"preprocess: {schema.source} is text, which is tokens; got {kind}")
    kind = "tokens" if schema.kind == "text" else kind
    table = schema.kind == "table"
    if kind == "tokens" and schema.levels is None:
        raise ValueError(
            f"preprocess: tokens are whole levels, such as those of images; {schema.source} has none"
        )
    if kind == "whiten" and not table:
        raise ValueError(f"preprocess: whiten is for tables, got an {schema.kind}")
    if table:
        return blurred(_of_table(x, kind, weight), x, noise, schema)
    if kind == "none":
        return Chain()
    if schema.levels is None:
        if kind in ("logit", "histogram"):
            raise ValueError(f"preprocess: {kind} is for images of whole pixels, whose limits are known")
        return Affine.standardise(x, per_element=False)
    low, high, step = schema.levels
    if kind == "tokens":
        return Affine(x.new_tensor(low), x.new_tensor(step))
    # Dequantised values fill [low, high + step).
    dequantise, centre, half = Dequantise(low, high, step), (low + high + step) / 2, (high + step - low) / 2
    if kind == "logit":
        return Chain(Sigmoid(low, high + step, margin=0.05), dequantise)
    if kind == "histogram":
        return Chain(PiecewiseLinear.of_levels(x, low, high, step), dequantise)
    if kind == "standardise":
        return Chain(Affine.standardise(x + step / 2, per_element=False), dequantise)
    return Chain(Affine(x.new_tensor(centre), x.new_tensor(half)), dequantise)


def _of_table(x: Tensor, kind: Preprocess, weight: Tensor | None) -> Bijection:
    if kind in ("logit", "histogram"):
        raise ValueError(f"preprocess: {kind} is for images of whole pixels, whose limits are known")
    if kind == "none":
        return Chain()
    if kind == "standardise" or (kind == "auto" and x.shape[1] > MOST_WHITENED):
        return Affine.standardise(x)
    return whitening(x, weight)


def whitening(x: Tensor, weight: Tensor | None = None) -> Whiten:
    """The linear map from standard normal points to the mean and covariance of rows ``x`` ``(B, d)``.

    Correlations are shrunk by the likelihood of rows left out.  Far rows are moved closer, so that a single
    one does not set the scale.  A constant column keeps its unit.
    """
    rows = drawn_in(x.double())
    loc = rows.mean(0) if weight is None else (weight[:, None] * rows).sum(0) / weight.sum()
    scale = deviations(rows, weight)
    correlation = shrunk_covariance((rows - loc) / scale, weight)[0]
    spread = torch.where(correlation.diagonal() > 1e-6, 0.0, 1.0)
    return Whiten(loc, (correlation + torch.diag(spread)) * torch.outer(scale, scale))


def blurred(back: Bijection, x: Tensor, noise: str | None, schema: Schema) -> Bijection:
    """``back`` after the blur that ``noise`` states, if any."""
    if noise is None:
        return back
    scale = resolution(noise, x.double().numpy(), schema.source, schema.columns)
    if not scale.any():
        return back
    return Chain(back, Blur(torch.from_numpy(scale * x.double().std(0, correction=0).numpy())))


def sharp(preprocess: Bijection) -> Bijection:
    """``preprocess`` without its blur, which is for training alone."""
    if isinstance(preprocess, Chain) and any(isinstance(link, Blur) for link in preprocess.links):
        return Chain(*(link for link in preprocess.links if not isinstance(link, Blur)))
    return preprocess
