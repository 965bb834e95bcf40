"""Inductive moment matching: leaps from neighbouring times arrive in the same distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from ...nn.checks import check_count, check_number
from ...tensors import expand_time
from ..base import Step
from .base import At, MapLoss, MapRows, check_between

#: The largest level of noise (1 - t) / t; a larger one counts as this.
LARGEST = 160.0
#: The least step towards the data, and the span below which a leap is taken for one of it.
SHORTEST = 1e-3
#: b of the weight of a group.
SHIFT = 4.0
#: Mean velocities nearer than this are equal to the kernel, whose slope is as steep at any distance.
EQUAL = 1e-4


class MomentMatching(MapLoss):
    r"""Leaps from s, and from a time u that is a little nearer to the data, arrive at t in one distribution:

    .. math:: \operatorname{E} w(s) \frac{c^2}{M^2} \sum_{i,j=1}^M k(y_i, y_j) + k(z_i, z_j) - 2 k(y_i, z_j),
        \qquad y_i = X_{s,t}(x_s^i), \quad z_i = \operatorname{sg} X_{u,t}(x_u^i), \qquad
        k(y, z) = \exp\Big({-\frac{|y - z|}{c\, (t - s)\, d}}\Big)

    This is the squared distance of two distributions by a kernel, estimated in groups of M rows that share s,
    u and t (Zhou, Ermon & Song 2025, arXiv 2503.07565, whose s, r, t are 1 - t, 1 - u, 1 - s here).  x_s and
    x_u are points of the same pair with the same noise, and from a teacher x_u is one step of Heun's method
    from x_s.  At u the level of noise (1 - t) / t of the linear path is less by 160 / 2^halvings than at s,
    and u is at most t.  The weight, with its b = 4 and a = 1, counts groups near the data less:

    .. math:: w(s) = \frac{\operatorname{sigmoid}(b - 2 \log \frac{s}{1 - s})}
        {(1 - s) (s^2 + (1 - s)^2)}

    The terms i = j keep a row on its trajectory: without them any map between the distributions would do.
    Since x_u is random given x_s they leave a loss above 0 at the exact map, and a mean gradient of the order
    of u - s.

    Rows are grouped in the order of the batch, whatever their conditions; what M leaves over is one smaller
    group.  Processes whose shares M divides do together what one would.

    group: M.  halvings: more of them are smaller steps to u.  scale: c, the deviation of the data.
    diagonal: the share of rows that regress the velocity itself, which short leaps know badly in few
    dimensions; the paper has none.

    Raises ValueError for a group below 2, halvings that are not from 1 to 24, a scale that is not positive,
    and a share outside [0, 1].

    >>> s = torch.tensor([0.0, 0.5, 0.9, 0.99])
    >>> MomentMatching(halvings=8).later(s, torch.ones(4)).mul(100).round().tolist()
    [1.0, 73.0, 100.0, 100.0]
    """

    derivative, all_spans, two_sided = False, True, False

    def __init__(self, group: int = 4, halvings: int = 10, scale: float = 1.0, diagonal: float = 0.25):
        self.group = check_count("group", group, 2)
        self.halvings = check_count("halvings", halvings, 1, 24)
        self.scale = check_number("scale", scale, 0)
        self.diagonal = check_between("diagonal", diagonal)

    def times(self, a: Tensor, b: Tensor, at: At, step: Step) -> tuple[Tensor, Tensor]:
        """Those of one row for all of its group; which row is drawn, so that every stratum has its share."""
        row = torch.arange(len(a), device=a.device)
        first = row - row % self.group
        size = (len(a) - first).clamp(max=self.group)
        place = b[first] * size
        chosen = place.floor().minimum(size - 1)  # what is left of the draw is one on [0, 1) again
        return super().times(a[first + chosen.long()], place - chosen, at, step)

    def errors(self, rows: MapRows) -> Tensor:
        """The differences of the leaps of a row, before the kernel."""
        mine, target = self._leaps(rows)
        return mine - target

    def losses(self, rows: MapRows) -> Tensor:
        span = self.scale * expand_time((rows.t - rows.s).clamp(min=SHORTEST), rows.x)
        mine, target = ((y / span).flatten(1) for y in self._leaps(rows))
        whole = len(mine) - len(mine) % self.group
        found = [_distances(mine[:whole], target[:whole], self.group)] if whole else []
        if whole < len(mine):
            found.append(_distances(mine[whole:], target[whole:], len(mine) - whole))
        return torch.cat(found) * self.scale**2 * _weight(rows.s)  # as velocities squared

    def later(self, s: Tensor, t: Tensor) -> Tensor:
        """The time u between s and t ``(B,)`` at which the target of a leap begins."""
        level = (1 / s.clamp(min=1 / (1 + LARGEST)) - 1 - LARGEST / 2**self.halvings).clamp(min=0)
        return torch.maximum(1 / (1 + level), s + SHORTEST).minimum(t)

    def _leaps(self, rows: MapRows) -> tuple[Tensor, Tensor]:
        """Where rows arrive from s, and from u without gradients."""
        u = self.later(rows.s, rows.t)
        with torch.no_grad():
            there = rows.ahead(u)
            target = there + expand_time(rows.t - u, there) * rows.maps.target(u, rows.t, there)
        return rows.x + rows.span * rows.mean_velocity(), target


def _distances(a: Tensor, b: Tensor, group: int) -> Tensor:
    """What each row ``(B, d)`` adds to the squared distance of its group, whose mean over rows that is."""
    a, b = (x.unflatten(0, (-1, group)) for x in (a, b))

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        squares = (x[:, :, None] - y[:, None]).square().sum(-1)
        return torch.exp(-squares.clamp(min=EQUAL**2).sqrt() / x.shape[-1])

    across = kernel(a, b)
    return (kernel(a, a).mean(2) + kernel(b, b).mean(2) - across.mean(2) - across.mean(1)).flatten()


def _weight(s: Tensor) -> Tensor:
    """w(s) ``(B,)``."""
    rest = (1 - s).clamp(min=torch.finfo(s.dtype).eps)
    odds = s.clamp(min=torch.finfo(s.dtype).eps) / rest
    return torch.sigmoid(SHIFT - 2 * odds.log()) / (rest * (s.square() + rest.square()))
