"""Velocity, score and drifts from the two regressions of bridge matching."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..paths import Brownian, Interpolant, Path
from ..tensors import Condition, expand_time
from .base import AnyField, Field, as_field
from .offers import Offered, offered, summed, times

BridgeOutput = Literal["velocity", "score", "drift", "backward"]
SHIFT = {"velocity": 0.5, "drift": 0.0, "backward": 1.0}


class TwoHeads(nn.Module):
    """One network with two outputs: ``network`` is built for events of twice the length and is given x twice.

    (B, c, ...) -> (B, 2c, ...), the first half of dimension 1 being one output, the second the other.

    >>> from pushforward.nn import MLP
    >>> TwoHeads(MLP(6))(0.5, torch.zeros(4, 3)).shape
    torch.Size([4, 6])
    """

    def __init__(self, network: AnyField):
        super().__init__()
        self.network = as_field(network, "network")

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        t = t if isinstance(t, Tensor) else x.new_full((), t)
        return self.network(t, torch.cat([x, x], 1), condition)


class BridgeField(nn.Module):
    """A field made of the networks that :class:`~pushforward.objectives.BridgeMatching` trains.

    With a(t, x) = E[x1 - x0 | x_t = x], the output of ``field``, and e(t, x) = sigma grad log p_t(x), that
    of ``score``, where x_t = (1-t) x0 + t x1 + sigma sqrt(t (1-t)) z:

        score      e / sigma
        velocity   a + sigma (t - 1/2) e
        drift      a + sigma t e            (of the SDE from t = 0 to t = 1)
        backward   a - sigma (1-t) e        (of the SDE from t = 1 to t = 0)

    The drifts are velocity +- sigma^2/2 score.  All factors are bounded: the velocity gamma' E[z | x] of the
    bridge, which is infinite at the ends, is written as e times a bounded factor.  Without a ``score`` the
    one network gives both outputs, as :class:`TwoHeads` does.

    Raises ValueError for an unknown output, a sigma that is not positive, and an output of the wrong shape.

    >>> still = lambda t, x, condition=None: torch.zeros_like(x)
    >>> normal = lambda t, x, condition=None: -x
    >>> BridgeField(still, normal, sigma=1.0, output="drift")(torch.tensor(0.5), torch.ones(1, 1))
    tensor([[-0.5000]])
    """

    def __init__(
        self,
        field: AnyField,
        score: AnyField | None = None,
        *,
        sigma: float,
        output: BridgeOutput = "velocity",
    ):
        super().__init__()
        if output not in get_args(BridgeOutput):
            raise ValueError(f"output: expected one of {', '.join(get_args(BridgeOutput))}, got {output!r}")
        self.field, self.score = as_field(field), None if score is None else as_field(score, "score")
        self.sigma, self.output = check_sigma(sigma), output

    @property
    def own_score(self) -> BridgeField:
        """The score of the same networks, which does not follow from the velocity."""
        return BridgeField(self.field, self.score, sigma=self.sigma, output="score")

    @property
    def own_path(self) -> Path:
        """The bridges, along which ``sigma`` is the level of noise."""
        return Interpolant(gamma=Brownian(self.sigma))

    def forward(self, t: Tensor | float, x: Tensor, condition: Condition | None = None) -> Tensor:
        t = t if isinstance(t, Tensor) else x.new_full((), t)
        if self.output == "score" and self.score is not None:
            return self.score(t, x, condition) / self.sigma
        a, e = both(self.field, self.score, t, x, condition)
        if self.output == "score":
            return e / self.sigma
        s = expand_time(t, x)
        return torch.addcmul(a, s - SHIFT[self.output], e, value=self.sigma)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        if self.score is None:  # the network sees x twice: half of what is summed is not in its divergence
            return None
        e = offered(self.score, t, x, condition, mask)
        if self.output == "score":
            return times(x.new_full((), 1 / self.sigma), e)
        factor = self.sigma * (expand_time(t, x) - SHIFT[self.output])
        return summed(offered(self.field, t, x, condition, mask), times(factor, e))


def both(
    field: Field, score: Field | None, t: Tensor, x: Tensor, condition: Condition | None
) -> tuple[Tensor, Tensor]:
    """The two outputs, each like ``x``, of two networks or of one with two heads."""
    out = field(t, x, condition)
    if score is not None:
        return out, score(t, x, condition)
    if x.ndim < 2 or out.shape != (x.shape[0], 2 * x.shape[1], *x.shape[2:]):
        raise ValueError(
            f"field: without a score network expected twice the width of x {tuple(x.shape)} in dimension 1, "
            f"got {tuple(out.shape)}"
        )
    a, e = out.chunk(2, 1)
    return a, e


def check_sigma(sigma: float) -> float:
    """``sigma`` as a float, or a ValueError unless it is positive and finite."""
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma: expected a positive number, got {sigma}")
    return float(sigma)
