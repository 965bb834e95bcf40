"""Velocity, data, noise, score and v-predictions of one path, each from any other.

For x_t = alpha x1 + s n with n ~ N(0, I) independent of x1 (s is the noise scale of the path, see
:class:`~pushforward.paths.Coefficients`), with W = s alpha' - alpha s':

    velocity = alpha' data + s' noise        x = alpha data + s noise        score = -noise / s

so that data = (s u - s' x) / W and noise = (alpha' x - alpha u) / W.  The v-prediction (Salimans & Ho
2022, arXiv 2202.00512; with r^2 = alpha^2 + s^2 on paths of any variance) is

    v = (alpha noise - s data) / r      data = alpha x / r^2 - s v / r      noise = s x / r^2 + alpha v / r

and it is a target of unit variance at every t for data of unit variance, the preconditioning of Karras et al.
2022, arXiv 2206.00364.  They hold for a standard normal source under the independent coupling; with other
couplings noise depends on data and the score is not -noise / s.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..paths import Coefficients, Path, check_affine
from ..tensors import Condition, expand_time
from .base import AnyField, as_field

Prediction = Literal["velocity", "data", "noise", "score", "v"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


def to_velocity(kind: Prediction, value: Tensor, x: Tensor, c: Coefficients) -> Tensor:
    """The velocity at x from a prediction ``value`` of ``kind``.

    data: u = (s'/s) x + (W/s) data, fails where s = 0; noise and score divide by alpha, fail where
    alpha = 0 (there data and velocity predictions are well conditioned, and conversely).  v: u =
    (alpha alpha' + s s') x / r^2 - (W/r) v, good wherever the path's own velocity is finite.
    """
    s, d_s = c.noise_scale, c.d_noise_scale
    if kind == "velocity":
        return value
    wronskian = s * c.d_alpha - c.alpha * d_s
    if kind == "data":
        return (d_s * x + wronskian * value) / s
    if kind == "v":
        square = c.alpha.square() + s.square()
        return ((c.alpha * c.d_alpha + s * d_s) * x - wronskian * square.sqrt() * value) / square
    noise = value if kind == "noise" else -s * value
    return (c.d_alpha * x - wronskian * noise) / c.alpha


def from_velocity(kind: Prediction, velocity: Tensor, x: Tensor, c: Coefficients) -> Tensor:
    """The prediction of ``kind`` that goes with ``velocity`` at x (the score fails where s = 0)."""
    s, d_s = c.noise_scale, c.d_noise_scale
    if kind == "velocity":
        return velocity
    wronskian = s * c.d_alpha - c.alpha * d_s
    if kind == "data":
        return (s * velocity - d_s * x) / wronskian
    noise = (c.d_alpha * x - c.alpha * velocity) / wronskian
    if kind == "v":
        data = (s * velocity - d_s * x) / wronskian
        return (c.alpha * noise - s * data) / (c.alpha.square() + s.square()).sqrt()
    return noise if kind == "noise" else -noise / s


class Parameterised(nn.Module):
    """A velocity field from a network that predicts ``kind`` along ``path``.

    Raises ValueError for an unknown kind.
    """

    def __init__(self, field: AnyField, kind: Prediction, path: Path):
        super().__init__()
        if kind not in PREDICTIONS:
            raise ValueError(f"prediction: expected one of {', '.join(PREDICTIONS)}, got {kind!r}")
        self.field, self.path = as_field(field), check_affine(path)
        self.kind: Prediction = kind

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        c = self.path.coefficients(expand_time(t, x))
        return to_velocity(self.kind, self.field(t, x, condition), x, c)


class ScoreFromEta(nn.Module):
    """The score of an interpolant's distribution, -eta / gamma, from a field eta that predicts its noise z.

    It holds for every coupling (Albergo et al. 2023, arXiv 2303.08797), and the velocity without the noise
    is b + gamma' gamma * score.  Not defined where gamma = 0 (nan or inf).

    >>> from pushforward.paths import Interpolant
    >>> path = Interpolant(gamma=0.5)
    >>> ScoreFromEta(lambda t, x, condition: x, path)(torch.tensor(0.25), torch.ones(1, 2))
    tensor([[-2., -2.]])
    """

    def __init__(self, field: AnyField, path: Path):
        super().__init__()
        self.field, self.path = as_field(field), check_affine(path)

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        gamma = self.path.coefficients(expand_time(t, x)).gamma
        return -self.field(t, x, condition) / gamma


class ReversedTime(nn.Module):
    """The velocity field, in this library's convention, of a model with data at t = 0 and noise at t = 1.

    velocity(t, x) = -theirs(1 - t, x).  Rectified-flow++ (arXiv 2405.20320), MeanFlow (2505.13447),
    Stable Diffusion 3 and sbi use that convention.

    >>> ReversedTime(lambda t, x, condition: t * x)(torch.tensor(0.25), torch.ones(1, 1))
    tensor([[-0.7500]])
    """

    def __init__(self, field: AnyField):
        super().__init__()
        self.field = as_field(field)

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        return -self.field(1 - torch.as_tensor(t), x, condition)
