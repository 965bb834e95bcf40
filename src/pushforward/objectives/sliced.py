"""Sliced score matching: the score from data alone, by derivatives of the network along random directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import jvp

from .. import random
from ..fields import Prediction, check_prediction, convert
from ..paths import Interpolant, Path, check_affine
from ..tensors import expand_time, plain
from .base import Batch, Loss, Objective, Step, check_share, field_of, partly_hidden
from .times import Times, Uniform, check_kinds


class SlicedScoreMatching(Objective):
    """E[s^2 (|score|^2 / 2 + v' J v)] along the path, J the Jacobian of the score, v random signs.

    It is half the expected squared error of the score, times s^2, minus a constant that no network changes,
    and never asks which noise a point was made with (Song et al. 2019, arXiv 1905.07088, eq. 8, its form of
    reduced variance; Hyvärinen 2005 has the trace in place of v' J v, which is its mean over v).  The path
    gives the distributions along which the score is learnt; the weight s^2 makes errors at all noise levels
    comparable (Song & Ermon 2019, arXiv 1907.05600, eq. 6).  The network predicts any ``prediction``, of
    which the score is made; J v costs one forward-mode derivative of it.  ``models`` holds ``"field"``.
    Times keep ``margin`` away from both ends.  Each row's condition is hidden with probability
    ``drop_condition``.

    Losses are means over the elements of an event, and may be negative.  Raises ValueError for an unknown
    prediction, a path that is not affine, a ``margin`` outside (0, 1/2) and a probability outside [0, 1].

    >>> from pushforward import Rows
    >>> from pushforward.nn import MLP
    >>> batch = Batch((Rows(torch.zeros(8, 2)), Rows(torch.ones(8, 2))))
    >>> SlicedScoreMatching().loss(nn.ModuleDict({"field": MLP(2)}), batch, Step()).per_sample.shape
    torch.Size([8])
    """

    def __init__(
        self,
        path: Path | None = None,
        prediction: Prediction = "noise",
        drop_condition: float = 0.0,
        times: Times | None = None,
        margin: float = 1e-3,
    ):
        check_prediction(prediction)
        check_kinds(path, times)
        if not 0 < margin < 0.5:
            raise ValueError(f"margin: expected a number between 0 and 1/2, got {margin}")
        self.path = check_affine(path or Interpolant())
        self._sample = plain(self.path.sample)
        self.prediction: Prediction = prediction
        self.drop_condition = check_share(drop_condition)
        self.times = (times or Uniform()).along(self.path)
        self.margin = margin

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        target = batch.target
        t = self.times.draw(target.x, step, self.margin)
        points = (rows.x for rows in batch.marginals)
        x = self._sample(t, *points, generator=step.generator).x
        condition = partly_hidden(batch, self.drop_condition, step)
        field, c = field_of(models, mask=target.mask), self.path.coefficients(expand_time(t, x))
        signs = random.uniform(x.shape, step.generator, x.dtype, x.device)
        v = torch.where(signs < 0.5, -1.0, 1.0).to(x.dtype)

        def scaled(x: Tensor) -> Tensor:
            """s times the score, which is bounded where the score is not."""
            return -convert(field(t, x, condition), x, c, self.prediction, "noise")

        both = jvp(scaled, (x,), (v,))
        value, slope = both[0], both[1]
        loss, errors = batch.reduce(0.5 * value.square() + c.noise_scale * v * slope)
        return Loss(loss, errors, t)
