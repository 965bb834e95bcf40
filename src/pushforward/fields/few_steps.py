"""Flow maps in the conventions of other papers, to and from that of this library.

MeanFlow, consistency models and sCM have the noise at the other end of time, and two of them know maps to the
data alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..paths import Path, check_affine, check_rising
from ..tensors import Condition, every, expand_time
from .base import takes_condition
from .flow_map import AnyFlowMap, as_flow_map

#: Halvings of [0, 1] by which the time of a noise level is found.
HALVINGS = 60
#: How far times and noise levels may lie outside their range by rounding, in proportion.
SLACK = 1e-5


class _Theirs(nn.Module):
    """A function of other arguments, with a condition if it takes one."""

    def __init__(self, function: Callable[..., Tensor], names: tuple[str, ...], name: str):
        super().__init__()
        self.takes = takes_condition(function, names, name)
        self.function, self.name = function, name

    def forward(self, *given: Any, condition: Condition | None) -> Tensor:
        if not self.takes and condition is not None:
            raise ValueError(f"condition: the {self.name} takes none, got a condition")
        found = self.function(*given, condition) if self.takes else self.function(*given)
        like = cast(Tensor, given[0])
        if found.shape != like.shape:
            raise ValueError(
                f"{self.name}: expected an output like x {tuple(like.shape)}, got {tuple(found.shape)}"
            )
        return found


class FromMeanFlow(nn.Module):
    """The flow map v(s, t, x) = -u(x, 1 - t, 1 - s) of a MeanFlow ``model(z, r, t)``.

    Theirs runs from noise at t = 1 to data at 0, z_r = z_t - (t - r) u(z_t, r, t) (Geng et al. 2025, arXiv
    2505.13447).  The model may take a condition as fourth argument.  Raises ValueError for an output
    that is not like x.

    >>> FromMeanFlow(lambda z, r, t: z * (t - r))(torch.tensor(0.0), torch.tensor(0.5), torch.ones(1, 1))
    tensor([[-0.5000]])
    """

    def __init__(self, model: Callable[..., Tensor]):
        super().__init__()
        self.model = _Theirs(model, ("z", "r", "t"), "model")

    def forward(
        self, s: Tensor | float, t: Tensor | float, x: Tensor, condition: Condition | None = None
    ) -> Tensor:
        return -self.model(x, 1 - _number(t, x), 1 - _number(s, x), condition=condition)


class ToMeanFlow(nn.Module):
    """MeanFlow's average velocity u(z, r, t) = -v(1 - t, 1 - r, z) of a flow map; inverse of
    :class:`FromMeanFlow`.

    >>> ToMeanFlow(lambda s, t, x: x)(torch.ones(1, 1), torch.tensor(0.2), torch.tensor(0.7))
    tensor([[-1.]])
    """

    def __init__(self, flow_map: AnyFlowMap):
        super().__init__()
        self.flow_map = as_flow_map(flow_map, "flow_map")

    def forward(
        self, z: Tensor, r: Tensor | float, t: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        return -self.flow_map(1 - _number(t, z), 1 - _number(r, z), z, condition)


class FromConsistency(nn.Module):
    """The flow map to the data, t = 1, of a consistency ``function(x, sigma)`` of data plus sigma n.

    With c = alpha(s) and the noise scale of ``path`` at s, X_{s,1}(x) = alpha(1) f(x / c, scale / c), where
    f is right if its least noise is that of the path at t = 1 (Song et al. 2023, arXiv 2303.01469, with the
    levels of :class:`~pushforward.paths.Karras`).  The function may take a condition as third argument, and
    is given sigma as ``(B,)``.  At s = 1 the map is the identity; its velocity there, which f does not tell,
    is given as 0.

    Raises ValueError for times t other than 1, a path that is not affine or whose alpha / s does not rise,
    and an output that is not like x.

    >>> from pushforward.paths import Interpolant, Karras
    >>> mean = FromConsistency(lambda x, sigma: torch.zeros_like(x), Interpolant(Karras()))
    >>> mean(torch.tensor(0.5), torch.tensor(1.0), torch.ones(1, 1))
    tensor([[-2.]])
    """

    def __init__(self, function: Callable[..., Tensor], path: Path):
        super().__init__()
        self.function = _Theirs(function, ("x", "sigma"), "function")
        self.path = check_rising(check_affine(path))

    def forward(
        self, s: Tensor | float, t: Tensor | float, x: Tensor, condition: Condition | None = None
    ) -> Tensor:
        s = expand_time(_number(s, x), x)
        _to_data(t, x)
        start, stop = self.path.coefficients(s), self.path.coefficients(torch.ones_like(s))
        if not every(start.alpha != 0):
            raise ValueError("s: the path has no signal there, and so no noise level; take a later time")
        level = (start.noise_scale / start.alpha).reshape(-1).expand(len(x))
        end = stop.alpha * self.function(x / start.alpha, level, condition=condition)
        span = 1 - s
        return torch.where(span > 0, (end - x) / torch.where(span > 0, span, 1.0), 0.0)


class ToConsistency(nn.Module):
    """The consistency function f(x, sigma) = X_{s,1}(alpha(s) x) / alpha(1) of a flow map along ``path``.

    x is data plus sigma n, and s is the time at which the noise scale of the path is sigma alpha(s).  It is
    the identity at the least noise of the path.  sigma: a number or ``(B,)``.

    Raises ValueError for noise that the path does not have, and a path that is not affine or whose alpha / s
    does not rise.

    >>> from pushforward.paths import Interpolant, Karras
    >>> ToConsistency(lambda s, t, x: -x, Interpolant(Karras()))(torch.ones(1, 2), 0.002)
    tensor([[1., 1.]])
    """

    def __init__(self, flow_map: AnyFlowMap, path: Path):
        super().__init__()
        self.flow_map = as_flow_map(flow_map, "flow_map")
        self.path = check_rising(check_affine(path))

    def time_of(self, sigma: Tensor) -> Tensor:
        """The time at which noise is ``sigma`` times as large as the data, in float64, shaped like it."""
        level = sigma.double()
        low, high = torch.zeros_like(level), torch.ones_like(level)
        # noise falls from t = 0 to t = 1; quotients by a signal of 0 are infinite
        most, least = self._level(low), self._level(high)
        if not every((level <= most * (1 + SLACK)) & (level >= least * (1 - SLACK))):
            raise ValueError(
                f"sigma: expected noise levels from {float(least.min()):g} to {float(most.max()):g}, which "
                f"the path has, got {float(sigma.min()):g} to {float(sigma.max()):g}"
            )
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            above = self._level(middle) > level
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return torch.where(level <= least, 1.0, 0.5 * (low + high))

    def _level(self, t: Tensor) -> Tensor:
        c = self.path.coefficients(t)
        return c.noise_scale / c.alpha

    def forward(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        s = self.time_of(_number(sigma, x)).to(x)
        start, stop = (self.path.coefficients(expand_time(t, x)) for t in (s, torch.ones_like(s)))
        point = start.alpha * x
        end = point + expand_time(1 - s, x) * self.flow_map(s, torch.ones_like(s), point, condition)
        return end / stop.alpha


class FromTrigFlow(nn.Module):
    """The flow map to the data of a ``network(x / deviation, angle)`` of sCM, along the quarter circle.

    Theirs is f(x, a) = cos(a) x - sin(a) deviation F(x / deviation, a), a = pi / 2 being noise of the
    ``deviation`` of the data (Lu & Song 2024, arXiv 2410.11081); here s = 1 - 2 a / pi along
    ``Interpolant(Trigonometric())`` from ``Normal(shape, scale=deviation)``.  For s to 1 the average velocity
    has the limit -(pi / 2) deviation F(x / deviation, 0).  The network may take a condition as third
    argument, and is given the angle as ``(B,)``.

    Raises ValueError for times t other than 1, a deviation that is not positive, and an output that is not
    like x.

    >>> FromTrigFlow(lambda x, angle: -x)(torch.tensor(1.0), torch.tensor(1.0), torch.ones(1, 1))
    tensor([[1.5708]])
    """

    def __init__(self, network: Callable[..., Tensor], deviation: float = 1.0):
        super().__init__()
        self.network = _Theirs(network, ("x", "angle"), "network")
        self.deviation = _positive(deviation)

    def forward(
        self, s: Tensor | float, t: Tensor | float, x: Tensor, condition: Condition | None = None
    ) -> Tensor:
        _to_data(t, x)
        angle = 0.5 * math.pi * (1 - expand_time(_number(s, x), x))
        rows = angle.reshape(-1).expand(len(x))
        found = self.deviation * self.network(x / self.deviation, rows, condition=condition)
        # sin(a) / a and (1 - cos(a)) / a, finite at a = 0
        of_network, of_x = _sinc(angle), (0.5 * angle).sin() * _sinc(0.5 * angle)
        return -0.5 * math.pi * (of_network * found + of_x * x)


class ToTrigFlow(nn.Module):
    """sCM's network F(x / deviation, angle) of a flow map along the quarter circle; inverse of
    :class:`FromTrigFlow`.

    Raises ValueError for a deviation that is not positive.

    >>> ToTrigFlow(lambda s, t, x: x)(torch.ones(1, 1), 0.0)
    tensor([[-0.6366]])
    """

    def __init__(self, flow_map: AnyFlowMap, deviation: float = 1.0):
        super().__init__()
        self.flow_map = as_flow_map(flow_map, "flow_map")
        self.deviation = _positive(deviation)

    def forward(self, x: Tensor, angle: Tensor | float, condition: Condition | None = None) -> Tensor:
        given = _number(angle, x)
        s, a = 1 - given * (2 / math.pi), expand_time(given, x)
        velocity = self.flow_map(s, torch.ones_like(s), self.deviation * x, condition) / self.deviation
        return -(0.5 * a).tan() * x - (2 / math.pi) / _sinc(a) * velocity


def _number(value: Tensor | float, x: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else x.new_full((), value)


def _sinc(x: Tensor) -> Tensor:
    """sin(x) / x."""
    return torch.sinc(x / math.pi)


def _positive(deviation: float) -> float:
    if not 0 < deviation < math.inf:
        raise ValueError(f"deviation: expected a positive number, got {deviation}")
    return float(deviation)


def _to_data(t: Tensor | float, x: Tensor) -> None:
    """Raise ValueError for a time other than 1, if the check costs no synchronisation."""
    t = _number(t, x)
    if t.device.type == "cpu" and not torch.compiler.is_compiling() and not every((t - 1).abs() <= SLACK):
        raise ValueError(f"t: a consistency function runs to t = 1 alone, got {float(t.min()):g}")
