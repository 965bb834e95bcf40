"""What no layer of a chain of couplings moves."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .base import Bijection
from .compose import Chain, Inverse
from .layers.coupling import CouplingLayer
from .layers.permutation import Permutation, Reverse
from .preprocessing.affine import Affine
from .preprocessing.logit import Sigmoid


def untouched(bijection: Bijection) -> list[int]:
    """Entries of an event that every coupling of a chain passes on: nothing is learnt of their distribution.

    Entries are those along the first dimension on the data's side.  Permutations carry them elsewhere; a
    chain with any other layer that learns is taken to move all.

    >>> from pushforward.bijections.monotone import ScaleShift
    >>> from pushforward.nn import Perceptron
    >>> layer = CouplingLayer([True, False, True], ScaleShift(), Perceptron)
    >>> untouched(Chain(layer, Reverse(), layer)), untouched(Chain(layer, Permutation([1, 0, 2]), layer))
    ([1], [])
    """
    moved = None
    for link, inverse in _links(bijection, False):
        if isinstance(link, CouplingLayer):
            mask = torch.zeros(len(link.back), dtype=torch.bool)
            mask[link.active.cpu()] = True
            moved = mask if moved is None else moved | mask
        elif isinstance(link, Permutation):
            order = link.order.cpu()
            moved = moved if moved is None else moved[order.argsort() if inverse else order]
        elif isinstance(link, Reverse):
            moved = moved if moved is None else moved.flip(0)
        elif not isinstance(link, Affine | Sigmoid):
            return []
    return [] if moved is None else (~moved).nonzero()[:, 0].tolist()


def _links(bijection: Bijection, inverse: bool) -> Iterator[tuple[Bijection, bool]]:
    """What a bijection is made of, from the source to the data, and whether it runs backwards there."""
    if isinstance(bijection, Chain):
        for link in reversed(bijection.links) if inverse else bijection.links:
            yield from _links(link, inverse)
    elif isinstance(bijection, Inverse):
        yield from _links(bijection.bijection, not inverse)
    else:
        yield bijection, inverse
