"""The losses of stochastic interpolants: velocity, noise and denoiser from antithetic pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..paths import AntitheticPair, Interpolant
from ..tensors import map_condition
from .base import Batch, Loss, Objective, Step, check_share, field_of, partly_hidden
from .times import Times, Uniform, check_kinds

#: What can be learnt: E[dx_t/dt | x_t], E[z | x_t] and E[x1 | x_t].
TARGETS = ("velocity", "eta", "denoiser")


def _losses(name: str, plus: Tensor, minus: Tensor, pair: AntitheticPair) -> Tensor:
    """|f|^2 / 2 - target . f, element by element, averaged over both draws."""
    squares = 0.25 * (plus.square() + minus.square())
    if name == "denoiser":
        return squares - 0.5 * pair.points[-1] * (plus + minus)
    c = pair.coefficients
    if name == "eta":
        return squares - 0.5 * pair.noise * (plus - minus)
    # gamma' z . (b+ - b-): the difference vanishes with gamma, so the quotient stays bounded
    quotient = (plus - minus) / c.gamma
    return squares - 0.5 * pair.drift * (plus + minus) - 0.5 * c.gamma_d_gamma * pair.noise * quotient


class InterpolantMatching(Objective):
    """E[|f(t, x_t)|^2 / 2 - target . f(t, x_t)] for each model f, along x_t = I(t, x0, x1) + gamma z.

    ``models`` holds any of ``"velocity"`` b, with target dI/dt + gamma' z; ``"eta"``, with target z, of
    which the score is -eta / gamma; ``"denoiser"``, with target x1.  Their minimisers are the conditional
    expectations of the targets given x_t = x (Albergo et al. 2023, arXiv 2303.08797, section 2; there
    "denoiser" is the name of eta).  The losses are summed, and each is a term under the name of its model.
    Each is half a squared error minus a constant, and may be negative.

    Every noise is used with both signs: gamma' z . b alone has a variance that grows without bound where
    gamma' does, while gamma' z . (b(x+) - b(x-)) stays bounded.  Times keep ``margin`` away from both
    ends.  Each row's condition is hidden with probability ``drop_condition``.

    Raises ValueError for a path without noise, a ``margin`` outside (0, 1/2), a probability outside
    [0, 1], and for models of other names or none.

    >>> from pushforward import Rows
    >>> from pushforward.nn import MLP
    >>> from pushforward.paths import Brownian
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> objective = InterpolantMatching(Interpolant(gamma=Brownian()))
    >>> models = nn.ModuleDict({"velocity": MLP(2), "eta": MLP(2)})
    >>> sorted(objective.loss(models, batch, Step()).terms)
    ['eta', 'velocity']
    """

    def __init__(
        self,
        path: Interpolant,
        drop_condition: float = 0.0,
        times: Times | None = None,
        margin: float = 1e-4,
    ):
        check_kinds(path, times)
        if not isinstance(path, Interpolant) or not path.noisy:
            raise ValueError("path: expected one with noise, such as gamma=Brownian(), got gamma = 0")
        if not 0 < margin < 0.5:
            raise ValueError(f"margin: expected a number between 0 and 1/2, got {margin}")
        self.path = path
        self.drop_condition = check_share(drop_condition)
        self.times = times or Uniform()
        self.margin = margin

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        if not models or not set(models) <= set(TARGETS):
            raise ValueError(
                f"models: expected some of {', '.join(TARGETS)}, got {', '.join(models) or 'none'}"
            )
        target = batch.target
        t = self.times.draw(target.x, step, self.margin)
        points = (rows.x for rows in batch.marginals)
        pair = self.path.sample_pair(t, *points, generator=step.generator)
        condition = partly_hidden(batch, self.drop_condition, step)
        # both signs in one call of each network
        x, time = torch.cat([pair.plus, pair.minus]), torch.cat([t, t])
        condition = map_condition(lambda c: torch.cat([c, c]), condition)
        terms, errors = {}, []
        for name in models:
            plus, minus = field_of(models, name, batch.target.mask)(time, x, condition).chunk(2)
            terms[name], error = batch.reduce(_losses(name, plus, minus, pair))
            errors.append(error)
        value = torch.stack(list(terms.values())).sum()
        return Loss(value, torch.stack(errors).sum(0), t, {k: v.detach() for k, v in terms.items()})
