"""Normalizing flows by name, for vectors: NICE, RealNVP, MAF, IAF, neural spline flows.

Each function builds a :class:`BijectiveFlow` for events of shape ``(d,)`` from a standard normal source,
with random weights such that it is close to the identity.  The direction from data to source is the fast one,
except for :func:`iaf`.  ``condition`` is what the networks of every layer are conditioned on, see
:class:`~pushforward.nn.ConditionEmbedding`; ``width`` and ``depth`` are those of the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from ..bijections import Autoregressive, Bijection, CouplingLayer, Elementwise, Permutation
from ..bijections.monotone import Monotone, RationalQuadratic, ScaleShift, Shift
from ..nn import ConditionSpec, MaskedPerceptron, Perceptron
from ..nn.checks import check_sizes
from ..sources import Source
from .bijective import BijectiveFlow
from .image_flows import realnvp_images


def nice(
    event_shape: int | Sequence[int],
    condition: ConditionSpec = None,
    layers: int = 8,
    width: int = 128,
    depth: int = 2,
    source: Source | None = None,
) -> BijectiveFlow:
    """Additive coupling layers, then one learnt scale per element (Dinh et al. 2015, arXiv 1410.8516).

    >>> nice(2).log_prob(torch.zeros(1, 2)).shape
    torch.Size([1])
    """
    dim = dimension(event_shape, "nice", 2)
    scale = Elementwise(dim, ScaleShift())
    links = [*_couplings(dim, Shift(), condition, layers, width, depth), scale]
    return BijectiveFlow.of_links(links, dim, condition, source)


class Scales(TypedDict, total=False):
    """Options of :func:`realnvp` that are for images alone."""

    levels: int
    dropout: float
    bins: int


def realnvp(
    event_shape: int | Sequence[int],
    condition: ConditionSpec = None,
    layers: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    source: Source | None = None,
    **scales: Unpack[Scales],
) -> BijectiveFlow:
    """Affine coupling layers (Dinh et al. 2017, arXiv 1605.08803).

    For vectors, ``layers`` with perceptrons (by default 12 of width 64 and depth 2).  For images
    ``(C, H, W)``, ``layers`` at each of several scales (by default 8); ``levels``, ``dropout``, ``bins`` and
    other defaults are those of :func:`~pushforward.flows.image_flows.realnvp_images`.

    >>> realnvp(3).sample(5).shape, realnvp((1, 4, 4), layers=2).sample(5).shape
    (torch.Size([5, 3]), torch.Size([5, 1, 4, 4]))
    """
    shape = check_sizes("event_shape", event_shape)
    sizes = {"width": width, "depth": depth}
    given = {name: size for name, size in sizes.items() if size is not None}
    if len(shape) == 3:
        steps = 8 if layers is None else layers
        return realnvp_images(shape, condition, steps=steps, source=source, **given, **scales)
    dim = dimension(event_shape, "realnvp", 2)
    if scales:
        raise ValueError(f"{next(iter(scales))}: is for images (C, H, W), got events of shape {shape}")
    layers = 12 if layers is None else layers
    links = _couplings(dim, ScaleShift(), condition, layers, **{"width": 64, "depth": 2, **given})
    return BijectiveFlow.of_links(links, dim, condition, source)


def nsf(
    event_shape: int | Sequence[int],
    condition: ConditionSpec = None,
    layers: int = 6,
    bins: int = 8,
    bound: float = 5.0,
    width: int = 64,
    depth: int = 2,
    source: Source | None = None,
) -> BijectiveFlow:
    """A neural spline flow: rational-quadratic coupling layers (Durkan et al. 2019, arXiv 1906.04032).

    >>> nsf(2, condition=3).log_prob(torch.zeros(4, 2), torch.tensor([0, 1, 2, 0])).shape
    torch.Size([4])
    """
    dim = dimension(event_shape, "nsf", 2)
    links = _couplings(dim, RationalQuadratic(bins, bound), condition, layers, width, depth)
    return BijectiveFlow.of_links(links, dim, condition, source)


def maf(
    event_shape: int | Sequence[int],
    condition: ConditionSpec = None,
    layers: int = 5,
    width: int = 128,
    depth: int = 2,
    source: Source | None = None,
) -> BijectiveFlow:
    """Masked affine autoregressive layers, fast to score (Papamakarios et al. 2017, arXiv 1705.07057).

    >>> maf(3).log_prob(torch.zeros(2, 3)).shape
    torch.Size([2])
    """
    dim = dimension(event_shape, "maf", _affine_least(source))
    return BijectiveFlow.of_links(
        _autoregressive(dim, ScaleShift(), condition, layers, width, depth), dim, condition, source
    )


def nsf_ar(
    event_shape: int | Sequence[int],
    condition: ConditionSpec = None,
    layers: int = 3,
    bins: int = 8,
    bound: float = 5.0,
    width: int = 64,
    depth: int = 2,
    source: Source | None = None,
) -> BijectiveFlow:
    """Masked rational-quadratic autoregressive layers (Durkan et al. 2019, arXiv 1906.04032).

    >>> nsf_ar(3).log_prob(torch.zeros(2, 3)).shape
    torch.Size([2])
    """
    dim = dimension(event_shape, "nsf-ar")
    links = _autoregressive(dim, RationalQuadratic(bins, bound), condition, layers, width, depth)
    return BijectiveFlow.of_links(links, dim, condition, source)


def iaf(
    event_shape: int | Sequence[int],
    condition: ConditionSpec = None,
    layers: int = 5,
    width: int = 128,
    depth: int = 2,
    source: Source | None = None,
) -> BijectiveFlow:
    """The inverse of :func:`maf`, fast to sample (Kingma et al. 2016, arXiv 1606.04934).

    >>> iaf(3).sample(2).shape
    torch.Size([2, 3])
    """
    dim = dimension(event_shape, "iaf", _affine_least(source))
    links = _autoregressive(dim, ScaleShift(), condition, layers, width, depth)
    return BijectiveFlow.of_links(links, dim, condition, source, inverse=False)


def dimension(event_shape: int | Sequence[int], name: str, least: int = 1) -> int:
    """How many elements vectors have.  Raises ValueError for other events, and for less than ``least``."""
    shape = check_sizes("event_shape", event_shape)
    if len(shape) != 1:
        raise ValueError(
            f"{name}: expected events of shape (d,), got {shape}; images: glow, tarflow, realnvp"
        )
    if shape[0] < least:
        raise ValueError(
            f"{name}: a coupling layer transforms one part by the other, so it needs at least {least} "
            f"dimensions, got {shape[0]}; for one dimension take nsf-ar"
        )
    return shape[0]


def _affine_least(source: Source | None) -> int:
    """Fewest dimensions of affine autoregressive layers: one only where the source has a shape of its own."""
    return 2 if source is None or source.normal else 1


def shuffled(dim: int, number: int) -> Tensor:
    """A pseudo-random order of ``dim`` elements, determined by its number.

    The first half of it takes no more from the second half than the other does: a layer that moves the
    same elements as the one before would add little.
    """
    order = torch.randperm(dim, generator=torch.Generator().manual_seed(number))
    half = (dim + 1) // 2
    again = (order >= half).int()
    return order.flip(0) if again[:half].sum() > again[half:].sum() else order


def _couplings(
    dim: int, monotone: Monotone, condition: ConditionSpec, layers: int, width: int, depth: int
) -> list[Bijection]:
    if layers < 2:
        raise ValueError(f"layers: expected at least 2, so that every element moves, got {layers}")
    network = partial(
        Perceptron,
        condition=condition,
        width=width,
        depth=depth,
        activation=monotone.activation,
        transposed=monotone.rows_last,
    )
    moves = torch.arange(dim) < (dim + 1) // 2
    links: list[Bijection] = []
    order = torch.arange(dim)
    for i in range(layers):
        if i and i % 2 == 0 and dim > 2:
            shuffle = shuffled(dim, i // 2)
            links.append(Permutation(shuffle))
            order = order[shuffle]
        links.append(CouplingLayer(~moves if i % 2 else moves, monotone, network))
    if bool((order != torch.arange(dim)).any()):
        # back in their places, so that layers near the identity make a flow near the identity
        links.append(Permutation(order.argsort()))
    return links


def _autoregressive(
    dim: int, monotone: Monotone, condition: ConditionSpec, layers: int, width: int, depth: int
) -> list[Bijection]:
    if layers < 1:
        raise ValueError(f"layers: expected at least 1, got {layers}")

    def network(order: Tensor) -> Callable[[int, int], MaskedPerceptron]:
        return partial(
            MaskedPerceptron,
            condition=condition,
            width=width,
            depth=depth,
            order=order,
            activation=monotone.activation,
            transposed=monotone.rows_last,
        )

    up, down = torch.arange(dim), torch.arange(dim).flip(0)
    return [Autoregressive(dim, monotone, network(down if i % 2 else up)) for i in range(layers)]
