"""The residual flow of vectors, by name."""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections import ActNorm, Bijection, Residual
from ..nn import ConditionSpec, LipschitzPerceptron
from ..nn.base import check_count
from ..sources import Source
from .bijective import BijectiveFlow
from .normalizing import dimension

#: Elements of an event up to which training takes the whole Jacobian, and terms of the estimate beyond.
FEW, TERMS = 64, 2


def residual(
    event_shape: int | Sequence[int],
    condition: ConditionSpec = None,
    layers: int = 8,
    width: int = 32,
    depth: int = 2,
    terms: int | None = None,
    lipschitz: float = 0.98,
    source: Source | None = None,
) -> BijectiveFlow:
    """Layers x + g(x) with g a contraction, actnorm before each (Behrmann et al. 2019, arXiv 1811.00995).

    ``width``, ``depth`` and ``lipschitz`` are those of each :class:`~pushforward.nn.LipschitzPerceptron`:
    one layer stretches distances by at most a factor 1 + ``lipschitz``, so many layers are needed.  Every
    layer changes every element as a function of all of them.  Densities are exact and take d forward
    derivatives for d elements; the map from the source is a fixed-point iteration.

    ``terms``: terms of the estimate of the log-determinant that training uses instead (Chen et al. 2019,
    arXiv 1906.02735), see :class:`~pushforward.bijections.Residual`; None for 2 if events have more than 64
    elements, and for an exact one otherwise, which then costs no more.  In training mode ``density`` is
    "estimate" if one is used.

    Raises ValueError for events that are not vectors and sizes out of range.

    >>> import torch
    >>> residual(2, layers=2).log_prob(torch.zeros(1, 2)).shape
    torch.Size([1])
    """
    dim = dimension(event_shape, "residual")
    check_count("layers", layers)
    if terms is None and dim > FEW:
        terms = TERMS
    links: list[Bijection] = []
    for _ in range(layers):
        network = LipschitzPerceptron(dim, condition, width, depth, lipschitz)
        links += [ActNorm(dim), Residual(network, terms)]
    return BijectiveFlow.of_links(links, dim, condition, source)
