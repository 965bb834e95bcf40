"""The abstract path of vectors to the points that stand for tokens."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ...nn.checks import check_count
from ...sources import Source
from ..base import End, Path, PathPoint
from ..tokens import check_tokens


class TokenPoints(Path):
    r"""Joins noise x0 and the points e_k of tokens x1, vectors ``(B, *event, E)``, token by token.

    A vector of x_t says of each token how likely it is, p_t(x^i | x1^i = k), and has a velocity that leads
    to its point.  A field needs the *posterior* p(x1^i = k | x_t) alone, which a network learns by its cross
    entropy, for the marginal velocity is the mean of those to the points,

    .. math:: v_t(x)^i = \sum_k p(x_1^i = k | x_t = x)\, v_t(x^i | e_k)

    (Eijkelboom et al. 2024, arXiv 2406.04843, section 3).  At the end a vector is rounded to the nearest
    point.

    size: K, the tokens.  width: E, the numbers of a point.  last: the time up to which velocities are used.

    Raises ValueError for a size below 2.
    """

    open_ends = (False, True)
    #: whether tokens jump along it; here vectors move
    jumps: ClassVar[bool] = False
    #: whether it follows a ``schedule``
    scheduled: ClassVar[bool] = False
    last: float = 1 - 1e-3

    def __init__(self, size: int, width: int):
        super().__init__()
        self.size, self.width = check_count("size", size, 2), width

    @property
    @abstractmethod
    def points(self) -> Tensor:
        """e_k ``(K, E)``, of length 1."""

    @abstractmethod
    def source(self, event_shape: tuple[int, ...]) -> Source:
        """The noise of tokens ``event_shape``, of events ``(*event_shape, E)``."""

    @abstractmethod
    def between(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        """x_t between noise and points, ``(B, *event, E)``."""

    @abstractmethod
    def log_likelihood(self, t: Tensor, x: Tensor) -> Tensor:
        """log p_t(x^i | x1^i = k), ``(B, *event, K)``, up to a term that does not depend on k.

        ``t`` is a scalar or ``(B,)`` and floating; the result has its dtype.
        """

    @abstractmethod
    def velocity(self, t: Tensor, x: Tensor, probs: Tensor) -> Tensor:
        """The mean of the velocities to the points, for their probabilities ``probs`` ``(B, *event, K)``."""

    def sample(self, t: Tensor, *points: Tensor, generator: torch.Generator | None = None) -> PathPoint:
        """x_t between noise and the points of the tokens x1; the noise is drawn where x1 is alone."""
        tokens, places = check_tokens(points[-1], self.size, "x1"), self.points
        x1 = places[tokens]
        if len(points) == 2:
            x0 = points[0]
        else:
            source = self.source(tuple(tokens.shape[1:])).to(x1.device)
            x0 = source.sample(len(tokens), None, generator).to(x1)
        time = torch.as_tensor(t, dtype=x1.dtype, device=x1.device)
        x = self.between(time, x0, x1)
        return PathPoint(t, x, (x0, tokens), self.velocity(time, x, one_hot(tokens, self.size).to(x)))

    def seen(self, x: Tensor, log_likelihood: Tensor) -> Tensor:
        """What a network sees of x: how likely each token is by itself."""
        return log_likelihood.softmax(-1)

    def nearest(self, x: Tensor) -> Tensor:
        """The tokens ``(B, *event)`` whose points are nearest to ``x``."""
        return (x @ self.points.to(x).T).argmax(-1)

    def ends(self) -> tuple[End, End]:
        return End(1.0, 0.0, 0.0), End(0.0, 1.0, 0.0)
