"""Normalizing flows by name, for images: RealNVP with several scales, Glow, TarFlow.

Each builds a :class:`BijectiveFlow` for events ``(C, H, W)`` from a standard normal source, with PyTorch's
initial weights and volume preserved at the start of training.  Both directions take one pass, except that
:func:`tarflow` samples patch by patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from ..bijections import (
    ActNorm,
    Bijection,
    Chain,
    CouplingLayer,
    Elementwise,
    InvertibleConv1x1,
    MultiScale,
    Squeeze,
    TransformerAutoregressive,
)
from ..bijections.layers.coupling import MakeNetwork
from ..bijections.layers.squeeze import squeezed
from ..bijections.monotone import RationalQuadratic, ScaleShift
from ..nn import CausalTransformer, ConditionSpec, ConvConditioner
from ..nn.base import check_count
from ..sources import Source
from ..tensors import event_size
from .bijective import BijectiveFlow

#: patches that tarflow makes by itself
MOST_PATCHES = 64
#: ``(number of the step, shape of the event there, network) -> links``: one step of a level.
Step = Callable[[int, tuple[int, ...], MakeNetwork], list[Bijection]]


class ConvOptions(TypedDict, total=False):
    """Options of each :class:`~pushforward.nn.ConvConditioner`, which has the defaults."""

    width: int
    depth: int
    dropout: float


class TransformerOptions(TypedDict, total=False):
    """Options of each :class:`~pushforward.nn.CausalTransformer`, which has the defaults."""

    width: int
    heads: int
    dropout: float


def glow(
    event_shape: Sequence[int],
    condition: ConditionSpec = None,
    levels: int = 2,
    steps: int = 8,
    bins: int = 8,
    source: Source | None = None,
    **network: Unpack[ConvOptions],
) -> BijectiveFlow:
    """Steps of actnorm, invertible 1x1 convolution and affine coupling (Kingma & Dhariwal 2018, arXiv
    1807.03039).

    ``levels``: number of scales, each half the size of the one before; after each but the last, half of the
    channels leave, transformed with parameters from the other half.  ``steps``: of each level.  ``width``,
    ``depth``, ``dropout``: those of the coupling layers' :class:`~pushforward.nn.ConvConditioner`.  ``bins``:
    bins of a spline for every number of the source, for noise that is not normal, such as that of dequantised
    pixels of one colour; 0 for no spline.

    Raises ValueError for images that cannot be halved so often.

    >>> glow((1, 8, 8), steps=2).log_prob(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3])
    """

    def step(number: int, shape: tuple[int, ...], network: MakeNetwork) -> list[Bijection]:
        moves = torch.arange(shape[0]) >= shape[0] // 2
        return [ActNorm(shape[0]), InvertibleConv1x1(shape[0]), CouplingLayer(moves, ScaleShift(), network)]

    make = partial(ConvConditioner, condition=condition, **network)
    bijection = _scales("glow", step, make, tuple(event_shape), levels, steps)
    shape = (event_size(event_shape),)
    return BijectiveFlow.of_links([bijection, *_splines(shape, bins)], shape, condition, source)


def realnvp_images(
    event_shape: Sequence[int],
    condition: ConditionSpec = None,
    levels: int = 2,
    steps: int = 8,
    bins: int = 8,
    source: Source | None = None,
    **network: Unpack[ConvOptions],
) -> BijectiveFlow:
    """Affine coupling layers at several scales, and actnorm (Dinh et al. 2017, arXiv 1605.08803).

    Layers transform in turn the white and the black squares of a checkerboard, and rows and columns of each
    block of 2 x 2 pixels.  Arguments are those of :func:`glow`.

    >>> realnvp_images((3, 8, 8), steps=6).sample(2).shape
    torch.Size([2, 3, 8, 8])
    """

    def step(number: int, shape: tuple[int, ...], network: MakeNetwork) -> list[Bijection]:
        return [ActNorm(shape[0]), CouplingLayer(block_mask(shape[0], number), ScaleShift(), network)]

    check_count("steps", steps, 2)  # so that every channel moves
    make = partial(ConvConditioner, condition=condition, **network)
    bijection = _scales("realnvp", step, make, tuple(event_shape), levels, steps)
    shape = (event_size(event_shape),)
    return BijectiveFlow.of_links([bijection, *_splines(shape, bins)], shape, condition, source)


def tarflow(
    event_shape: Sequence[int],
    condition: ConditionSpec = None,
    patch: int | None = None,
    blocks: int = 4,
    layers: int = 2,
    bins: int = 8,
    source: Source | None = None,
    **network: Unpack[TransformerOptions],
) -> BijectiveFlow:
    """Causal transformers over patches, alternating between both orders (Zhai et al. 2024, arXiv 2412.06329).

    ``patch``: pixels along a side; None for the smallest number, from 2 on, that gives at most 64 patches.
    ``blocks``: autoregressive maps, each a transformer of ``layers``, ``width``, ``heads`` and ``dropout``.
    ``bins`` as for :func:`glow`.  Densities take one pass, samples one pass over the patches per block.

    Raises ValueError for images that cannot be divided into patches, and for a single patch.

    >>> tarflow((1, 8, 8), blocks=2, width=16).log_prob(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3])
    """
    check_count("blocks", blocks)
    size = _patch(event_shape) if patch is None else check_count("patch", patch)
    shape = squeezed(event_shape, size)
    make = partial(CausalTransformer, condition=condition, depth=layers, **network)
    moves = [TransformerAutoregressive(shape, make, reverse=i % 2 == 1) for i in range(blocks)]
    links = [Squeeze(size), ActNorm(shape[0]), *moves, *_splines(shape, bins)]
    return BijectiveFlow.of_links(links, shape, condition, source)


def block_mask(channels: int, number: int) -> Tensor:
    """Which channels of a squeezed image move in step ``number``: half of each block's four pixels.

    >>> [block_mask(4, number).int().tolist() for number in range(3)]
    [[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 0, 0]]
    """
    place = torch.arange(channels) % 4
    first = [(place == 0) | (place == 3), place < 2, place % 2 == 0][number // 2 % 3]
    return first if number % 2 == 0 else ~first


def _scales(
    name: str,
    step: Step,
    network: Callable[..., ConvConditioner],
    event_shape: tuple[int, ...],
    levels: int,
    steps: int,
) -> MultiScale:
    """Levels of a squeeze and ``steps``; at the end of each but the last the half that leaves is moved."""
    check_count("levels", levels)
    check_count("steps", steps)
    halvings = min((size & -size).bit_length() - 1 for size in _sides(name, event_shape))
    if levels > halvings:
        raise ValueError(
            f"{name}: expected images that can be halved {levels} times (levels), got {event_shape[1]} x "
            f"{event_shape[2]}, which can be halved {halvings} times"
            + (f"; take levels={halvings}" if halvings else "; tarflow takes them")
        )
    made, shape = [], event_shape
    for level in range(levels):
        shape = squeezed(shape, 2)
        here = partial(network, size=shape[1:])
        links = [link for number in range(steps) for link in step(number, shape, here)]
        if level < levels - 1:
            leaves = torch.arange(shape[0]) < shape[0] // 2
            links += [ActNorm(shape[0]), CouplingLayer(leaves, ScaleShift(), here)]
            shape = (shape[0] - shape[0] // 2, *shape[1:])
        made.append(Chain(Squeeze(2), *links))
    return MultiScale(made, event_shape)


def _patch(event_shape: Sequence[int]) -> int:
    height, width = _sides("tarflow", event_shape)
    sides = range(2, max(height, width))
    fits = [p for p in sides if height % p == width % p == 0 and height * width > p * p]
    few = [p for p in fits if height * width <= MOST_PATCHES * p * p]
    return [*few[:1], *fits[-1:], 1][0]


def _sides(name: str, event_shape: Sequence[int]) -> tuple[int, int]:
    if len(event_shape) != 3:
        raise ValueError(
            f"{name}: expected images of shape (C, H, W), got {tuple(event_shape)}; tables: nsf, nsf-ar, maf"
        )
    return event_shape[1], event_shape[2]


def _splines(shape: tuple[int, ...], bins: int) -> list[Bijection]:
    """The last links before the source, one map for each of its numbers; none for no bins."""
    return [Elementwise(shape, RationalQuadratic(bins))] if bins else []
