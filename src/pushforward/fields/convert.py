"""Velocity, data, noise, score and v-predictions of one path, each from any other.

For x_t = alpha x1 + s n with n ~ N(0, I) independent of x1 (s is the noise scale of the path, see
:class:`~pushforward.paths.Coefficients`), with r^2 = alpha^2 + s^2,

    velocity = alpha' data + s' noise        x = alpha data + s noise        score = -noise / s
    v = (alpha noise - s data) / r

Each prediction and x are two equations for data and noise, so that any other prediction is one formula, which
divides by one number: by s from data, by alpha from noise and score, by W = s alpha' - alpha s' from the
velocity, and by r from v (Salimans & Ho 2022, arXiv 2202.00512).  For data of unit variance v is a target of
unit variance at every t, the preconditioning of Karras et al. 2022, arXiv 2206.00364.  A detour over a third
prediction would divide twice, and lose the digits of both.  The formulas hold for a standard normal source
under the independent coupling; with other couplings noise depends on data and the score is not -noise / s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..paths import Coefficients, Path, check_affine, check_rising
from ..tensors import Condition, expand_time
from .base import AnyField, as_field
from .offers import Offered, combined, offered, times

Prediction = Literal["velocity", "data", "noise", "score", "v"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)

#: Of each prediction (p, q, k) with k prediction = p data + q noise, from the coefficients and s.
_FORMS: dict[Prediction, Callable[[Coefficients, Tensor], tuple[Tensor, Tensor, Tensor | float]]] = {
    "velocity": lambda c, s: (c.d_alpha, c.d_noise_scale, 1.0),
    "data": lambda c, s: (torch.ones_like(s), torch.zeros_like(s), 1.0),
    "noise": lambda c, s: (torch.zeros_like(s), torch.ones_like(s), 1.0),
    "score": lambda c, s: (torch.zeros_like(s), torch.ones_like(s), -s),
    "v": lambda c, s: (-s, c.alpha, (c.alpha.square() + s.square()).sqrt()),
}


def check_prediction(kind: str, name: str = "prediction") -> None:
    """Raise ValueError for anything but one of :data:`PREDICTIONS`."""
    if not isinstance(kind, str) or kind not in _FORMS:
        raise ValueError(f"{name}: expected one of {', '.join(PREDICTIONS)}, got {kind!r}")


def convert(value: Tensor, x: Tensor, c: Coefficients, old: Prediction, new: Prediction) -> Tensor:
    """The prediction ``new`` that goes with the prediction ``value`` of the kind ``old`` at x.

    value, x: ``(B, *event)``.  c: the coefficients at the times of the rows, ``path.coefficients(
    expand_time(t, x))``.

    Where the formula divides by 0 there is this left:

        s = 0, the clean end    x is all data, of which the noise is independent: data = x / alpha, noise
                                = v = 0, velocity = alpha' x / alpha - s s' score.  These are what
                                conversions give there, from data too, where the quotient 0 / 0 has this
                                limit.  The product s s' is 0 unless s' is infinite: then score and velocity
                                follow from each other, and from nothing else, not even an exact noise, which
                                is 0.  Where s' is finite the score cannot be had from others.
        alpha = 0, pure noise   noise and score follow from any prediction.  A noise or score prediction
                                says nothing of the data: data, velocity and v from it are nan or inf.
        W = 0                   alpha and s stand still, and the velocity says nothing: nan or inf.

    What a rounded value does not hold no formula brings back: data that are known to eps tell the noise to
    eps / s and the score to eps / s^2, which is 2e-8 at t = 0.999 of sub-vp, where s = 1e-4; and noise tells
    the data to eps / alpha, 2e-10 at t = 0.001 of a quadratic schedule.  All other round trips between t =
    0.001 and 0.999 are exact to 1e-10 in float64, along every registered path.

    Raises ValueError for an unknown kind.

    >>> from pushforward.paths import Interpolant
    >>> c = Interpolant().coefficients(torch.tensor([0.25, 1.0])[:, None])
    >>> x, data = torch.tensor([[1.75], [1.75]]), torch.tensor([[1.0], [1.0]])
    >>> convert(data, x, c, "data", "noise").T, convert(data, x, c, "data", "velocity").T
    (tensor([[2., 0.]]), tensor([[-1.0000,  1.7500]]))
    """
    check_prediction(old, "old")
    check_prediction(new, "new")
    if old == new:
        return value
    s = c.noise_scale
    if {old, new} == {"score", "velocity"}:
        return _score_and_velocity(value, x, c, new)
    if old == "score":  # a noise prediction in other units
        value, old = -s * value, "noise"
    if old == "noise" and new in ("noise", "score"):  # without a division by alpha
        return value if new == "noise" else value / -s
    (p, q, k), (p_new, q_new, k_new) = _FORMS[old](c, s), _FORMS[new](c, s)
    of_x, of_value, below = p_new * q - q_new * p, c.alpha * q_new - s * p_new, c.alpha * q - s * p
    clean = s == 0
    if old == "velocity":  # where s' is infinite only its term counts
        steep = clean & q.isinf()
        of_x, of_value = torch.where(steep, p_new, of_x), torch.where(steep, 0.0, of_value)
        below, value = torch.where(steep, c.alpha, below), torch.where(steep, 0.0, value)
    if old == "data":
        of_x = torch.where(clean, p_new + 0 * q_new, of_x)  # nan for an infinite slope
        of_value, below = torch.where(clean, 0.0, of_value), torch.where(clean, c.alpha, below)
    return (of_x * x + of_value * k * value) / (below * k_new)


def _score_and_velocity(value: Tensor, x: Tensor, c: Coefficients, new: Prediction) -> Tensor:
    """Either from the other, by the noise -s score, and where there is none by the product s s'."""
    s = c.noise_scale
    clean = s == 0
    slope, product = torch.where(clean, 0.0, c.d_noise_scale), torch.where(clean, c.noise_d_noise, 0.0)
    of_noise = c.alpha * slope - s * c.d_alpha
    if new == "velocity":
        return (c.d_alpha * x + of_noise * (-s * value)) / c.alpha - product * value
    return (c.alpha * value - c.d_alpha * x) / torch.where(clean, -c.alpha * product, of_noise * -s)


def divisor(kind: Prediction, c: Coefficients) -> Tensor:
    """What :func:`convert` divides by: s from data, alpha from noise and score, W from velocity, r from v.

    The error of a prediction over its divisor is the same number, up to the sign, for data, noise, velocity
    and v, and for s score.

    >>> from pushforward.paths import Interpolant
    >>> c = Interpolant().coefficients(torch.tensor([0.25]))
    >>> {kind: divisor(kind, c).item() for kind in ("data", "noise", "velocity")}
    {'data': 0.75, 'noise': 0.25, 'velocity': 1.0}
    """
    s = c.noise_scale
    p, q, k = _FORMS["noise" if kind == "score" else kind](c, s)
    return (c.alpha * q - s * p).abs() / k


def to_velocity(kind: Prediction, value: Tensor, x: Tensor, c: Coefficients) -> Tensor:
    """The velocity at x from a prediction ``value`` of ``kind``, see :func:`convert`."""
    return convert(value, x, c, kind, "velocity")


def from_velocity(kind: Prediction, velocity: Tensor, x: Tensor, c: Coefficients) -> Tensor:
    """The prediction of ``kind`` that goes with ``velocity`` at x, see :func:`convert`."""
    return convert(velocity, x, c, "velocity", kind)


class Parameterised(nn.Module):
    """The prediction ``output`` along ``path``, by default the velocity, from a field that predicts ``kind``.

    See :func:`convert` for the formulas and for what there is at both ends.

    Raises ValueError for an unknown kind and a path that is not affine; from a velocity also for a path whose
    alpha / s does not rise, see :func:`~pushforward.paths.check_rising`: where it turns, W = 0.

    >>> from pushforward.paths import Interpolant
    >>> still = Parameterised(lambda t, x: torch.zeros_like(x), "velocity", Interpolant(), "score")
    >>> still(torch.tensor(0.5), torch.ones(1, 1))
    tensor([[-2.]])
    """

    def __init__(self, field: AnyField, kind: Prediction, path: Path, output: Prediction = "velocity"):
        super().__init__()
        check_prediction(kind)
        check_prediction(output, "output")
        self.field, self.path = as_field(field), check_affine(path)
        if kind == "velocity" and output != kind:
            check_rising(path)
        self.kind: Prediction = kind
        self.output: Prediction = output

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        c = self.path.coefficients(expand_time(t, x))
        return convert(self.field(t, x, condition), x, c, self.kind, self.output)

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        c = self.path.coefficients(expand_time(t, x))
        found = offered(self.field, t, x, condition, mask)
        return combined(lambda value, x: convert(value, x, c, self.kind, self.output), found, x, mask)


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

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        gamma = self.path.coefficients(expand_time(t, x)).gamma
        return times(-1 / gamma, offered(self.field, t, x, condition, mask))


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

    def value_and_divergence(
        self, t: Tensor, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> Offered:
        """Both from those of the field, see :func:`~pushforward.fields.offered`."""
        return times(-x.new_ones(()), offered(self.field, 1 - torch.as_tensor(t), x, condition, mask))
