"""The abstract path of tokens: a process that jumps from the source to a data point."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ...nn.checks import check_count
from ...solvers import Redraws
from ...solvers.jumps import draw
from ...solvers.problems import Rates
from ..base import End, Path


class TokenPath(Path):
    r"""Joins tokens x0 and x1, ``(B, *event)`` of int64, by a process of jumps of each token on its own.

    A path says with which probability a token of x_t has the value x, given that of the data is k, and with
    which rates it jumps.  Rates that depend on the data point are averaged over the *posterior*
    p(x1^i = k | x_t), which a network learns: what comes of it has the same distribution at every time
    (Campbell et al. 2024, arXiv 2402.04997; Gat et al. 2024, arXiv 2407.15595, theorem 2).

    size: K, the values of a token of the data.  values: A >= K, those of a token of x_t.
    last: the time up to which rates are used; what is left then is drawn from the posterior.
    There is no velocity: ``sample`` returns a point whose velocity is None.

    Raises ValueError for a size below 2.
    """

    open_ends = (False, True)
    #: whether tokens jump along it
    jumps: ClassVar[bool] = True
    #: whether it follows a ``schedule``
    scheduled: ClassVar[bool] = False
    #: whether x_t depends on the point of the source, so that it matters how this is coupled with the data
    starts_differ: ClassVar[bool] = False
    last: float = 1 - 1e-6

    def __init__(self, size: int, values: int):
        super().__init__()
        self.size, self.values = check_count("size", size, 2), values

    def ends(self) -> tuple[End, End]:
        return End(1.0, 0.0, 0.0), End(0.0, 1.0, 0.0)

    @property
    @abstractmethod
    def start(self) -> Tensor:
        """The probabilities ``(A,)`` of a token at t = 0, float64."""

    @abstractmethod
    def log_likelihood(self, t: Tensor, x: Tensor) -> Tensor:
        """log p_t(x^i | x1^i = k), ``(B, *event, K)``, up to a term that does not depend on k.

        ``t`` is a scalar or ``(B,)`` and floating; the result has its dtype.
        """

    @abstractmethod
    def rates(self, t: Tensor, x: Tensor, log_posterior: Tensor, corrector: float = 0.0) -> Tensor:
        """The rates of :class:`~pushforward.solvers.Jump`, ``(B, *event, A)``, at 0 <= t < 1.

        ``log_posterior`` is log p(x1^i = k | x_t = x), ``(B, *event, K)``.  ``corrector`` c adds c t (1 - t)
        times the sum of the rates forwards and of those of the reversed process, which leaves the
        distribution of x_t as it is and lets tokens be mended (Gat et al. 2024, section 3.4); for paths with
        a schedule t is its value there.
        """

    @abstractmethod
    def expected(
        self, t: Tensor, t_next: Tensor, x: Tensor, log_posterior: Tensor, corrector: float = 0.0
    ) -> Tensor:
        """The integral of :meth:`rates` from ``t`` to ``t_next`` while the posterior stays as it is."""

    def divergence(self, t: Tensor, x: Tensor, x1: Tensor, log_posterior: Tensor) -> Tensor:
        r"""The generalised KL divergence of the rates given x1 from those of the posterior, ``(B, *event)``.

        .. math:: \sum_{y \ne x} u(y) - u_1(y) + u_1(y) \log \frac{u_1(y)}{u(y)}

        Its expectation, integrated over t and summed over tokens, bounds -log p(x1) from above (Shaul et al.
        2024, arXiv 2412.03487, eq. 24).
        """
        own = one_hot(x1, self.size).to(log_posterior).log()
        given, learnt = self.rates(t, x, own), self.rates(t, x, log_posterior)
        # a rate that is needed is never taken for zero
        ratio = torch.where(given > 0, given / learnt.clamp(min=torch.finfo(learnt.dtype).tiny), 1.0)
        each = learnt - given + given * ratio.log()
        return each.scatter(-1, x[..., None], 0.0).sum(-1)

    @abstractmethod
    def redraws(self, posterior: Rates) -> Redraws | None:
        """Its jumps as redraws, given ``posterior(t, x)``, log-probabilities; None where they are not."""

    def seen(self, x: Tensor, log_likelihood: Tensor) -> Tensor:
        """What a network sees of x."""
        return x

    def draw_start(self, shape: tuple[int, ...], u: Tensor) -> Tensor:
        """Tokens of the source of ``shape``, by uniform numbers ``u`` of that shape."""
        return draw(self.start.to(u).expand(*shape, self.values), u)


def check_tokens(x: Tensor, values: int, name: str = "x") -> Tensor:
    """``x`` as int64, with a ValueError unless its values are whole and from 0 to ``values`` - 1.

    >>> check_tokens(torch.tensor([0.0, 2.0]), 3)
    tensor([0, 2])
    """
    tokens = x.long()
    fine = (tokens == x) & (tokens >= 0) & (tokens < values)
    if not torch.compiler.is_compiling() and not bool(fine.all()):
        got = x[~fine].flatten()[0].item()
        raise ValueError(f"{name}: expected whole numbers from 0 to {values - 1}, got {got:g}")
    return tokens


def by_token(t: Tensor, x: Tensor) -> Tensor:
    """A time in the shape that goes with values of the tokens ``x``: scalar, or ``(B, 1, ..., 1)``."""
    return t if t.ndim == 0 else t.reshape(-1, *[1] * x.ndim)
