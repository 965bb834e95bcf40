"""The exact flow map of a Gaussian, and of a mixture on the line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..paths import Coefficients, Interpolant, Path, check_affine
from ..sources import GaussianMixture
from ..tensors import Condition, every
from .line import Line, transport

#: Times nearer than this have average velocities by quadrature, of which a difference would lose digits.
#: A table such as that of DDPM has a kink at its knots, so the span is short.
NEAR = 1e-5
#: Times farther outside [0, 1] are refused; nearer ones are rounded.
SLACK = 1e-6
#: Nodes and weights of that quadrature on [0, 1].
NODES, WEIGHTS = (0.5 * (np.polynomial.legendre.leggauss(4)[i] + shift) for i, shift in ((0, 1.0), (1, 0.0)))


@dataclass(frozen=True)
class _Normals:
    """Components of the target and the source along the axes of each, in float64.

    ``means`` ``(K, d)``, ``axes`` ``(K, d, d)``, both ``variances`` ``(K, d)``, ``source_mean`` ``(d,)``; in
    the ``order`` ``(K,)`` of the mixture's.
    """

    means: Tensor
    axes: Tensor
    variances: Tensor
    source_variances: Tensor
    source_mean: Tensor
    order: Tensor

    def to(self, device: torch.device) -> _Normals:
        return _Normals(*(value.to(device) for value in vars(self).values()))


class FlowMapOracle(nn.Module):
    """The exact flow map of ``path`` from ``source`` to ``mixture`` under the independent coupling.

    X_{s,t} carries p_s to p_t along the marginal velocity of :class:`GaussianMixtureOracle`, forwards for s <
    t and backwards for s > t.  Calling the oracle gives the average velocity v(s, t, x) = (X_{s,t}(x) - x) /
    (t - s), and at s = t the velocity itself, so it is a flow map like any other.  Of a normal target N(m, S)
    and a normal source N(m0, S0) whose covariances commute, x_t is N(mu_t, C_t) and

        X_{s,t}(x) = mu_t + C_t^(1/2) C_s^(-1/2) (x - mu_s)
        mu_t = alpha m + sigma m0,   C_t = alpha^2 S + sigma^2 S0 + gamma^2 I.

    Of mixtures on the line X_{s,t}(x) = F_t^-1(F_s(x)), F_t the distribution function of x_t, which is
    inverted where it keeps its digits, in the tails and in gaps too.  All is computed in float64 and given in
    the dtype of ``x``, with derivatives in s, t and x wherever the coefficients of the path have some.

    mixture: the target, of one component; of any number for events of one element; of any number too where
    the condition leaves one of them to each row.  source: a mixture of one component, by default N(0, I).
    ``condition``: labels of the mixture's components.  Times are scalars or ``(B,)`` in [0, 1].

    Raises ValueError for a path that is not affine, a source that is no single normal distribution, whose
    covariance does not commute with those of the mixture or whose events have another shape, for times
    outside [0, 1], and for a mixture of several components that has no closed form.

    >>> target = GaussianMixture(torch.tensor([[1.3]]), 0.5)
    >>> oracle = FlowMapOracle(target)
    >>> x = torch.ones(1, 1)
    >>> oracle.jump(0.0, 1.0, x), oracle.log_det(0.0, 1.0, x), oracle(0.5, 0.5, x)
    (tensor([[1.8000]]), tensor([-0.6931]), tensor([[0.8800]]))
    """

    #: leaps and their log-determinants are exact
    exact = True

    def __init__(
        self, mixture: GaussianMixture, path: Path | None = None, source: GaussianMixture | None = None
    ):
        super().__init__()
        self.mixture, self.path = mixture, check_affine(path or Interpolant())
        means, axes, variances = (v.double() for v in (mixture.means, mixture.axes, mixture.variances))
        if source is None:
            mean, noise = torch.zeros_like(means[0]), torch.ones_like(variances)
        else:
            mean, axes, variances, noise = _common(mixture, source)
        count, d = means.shape
        # by their means, as quantiles want them
        order = means[:, 0].argsort() if d == 1 else torch.arange(count, device=means.device)
        self.shifted = bool((mean != 0).any())
        # no buffers, which lose their digits in a flow of float32
        self._normals = _Normals(means[order], axes[order], variances[order], noise[order], mean, order)

    def forward(
        self, s: Tensor | float, t: Tensor | float, x: Tensor, condition: Condition | None = None
    ) -> Tensor:
        """The average velocity v(s, t, x), shaped like ``x`` ``(B, *event)``; at s = t the velocity."""
        return self._move(s, t, x, condition)[0]

    def jump(
        self, s: Tensor | float, t: Tensor | float, x: Tensor, condition: Condition | None = None
    ) -> Tensor:
        """X_{s,t}(x), shaped like ``x``."""
        return self.jump_and_log_det(s, t, x, condition)[0]

    def log_det(
        self, s: Tensor | float, t: Tensor | float, x: Tensor, condition: Condition | None = None
    ) -> Tensor:
        """log |det dX_{s,t}/dx| at x, ``(B,)``."""
        return self.jump_and_log_det(s, t, x, condition)[1]

    def jump_and_log_det(
        self, s: Tensor | float, t: Tensor | float, x: Tensor, condition: Condition | None = None
    ) -> tuple[Tensor, Tensor]:
        """X_{s,t}(x) and the logarithm of its Jacobian determinant, ``(B,)``."""
        return self._move(s, t, x, condition)[1:]

    def _move(
        self, s: Tensor | float, t: Tensor | float, x: Tensor, condition: Condition | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Average velocity, image and log-determinant."""
        if tuple(x.shape[1:]) != self.mixture.event_shape or x.ndim == 0:
            want = ", ".join(map(str, ("B", *self.mixture.event_shape)))
            raise ValueError(f"x: expected shape ({want}), got {tuple(x.shape)}")
        normals = self._normals.to(x.device)
        count, d = normals.means.shape
        flat = x.double().reshape(len(x), d)
        start, stop = _time("s", s, x), _time("t", t, x)
        move = self._quantiles if d == 1 and count > 1 else self._affine
        found = move(normals, start, stop, flat, condition)
        velocity, image, log_det = (part.to(x.dtype) for part in found)
        return velocity.reshape(x.shape), image.reshape(x.shape), log_det

    def _affine(
        self, normals: _Normals, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of normal distributions, ``(B, d)``; along the axes everything is one-dimensional."""
        mean, axes, variances, noise = self._component(normals, len(x), condition)
        a, b = (self.path.coefficients(time[:, None]) for time in (s, t))
        d = _differences(self.path, s[:, None], t[:, None], self.shifted)
        spread, new_spread = (_variances(c, variances, noise) for c in (a, b))
        root, new_root = spread.sqrt(), new_spread.sqrt()
        rate = d.alpha * (a.alpha + b.alpha) * variances + d.sigma_squared * noise + d.gamma_squared
        start, stop, velocity = (alpha * mean for alpha in (a.alpha, b.alpha, d.alpha))
        if self.shifted:
            start, stop = (m + c.sigma * normals.source_mean for m, c in ((start, a), (stop, b)))
            velocity = velocity + d.sigma * normals.source_mean
        along = ((x - start)[:, None] @ axes)[:, 0] / root
        velocity = velocity + _turned(axes, along * rate / (root + new_root))
        image = stop + _turned(axes, along * new_root)
        near = ((t - s).abs() < NEAR)[:, None]
        image = torch.where(near, x + (t - s)[:, None] * velocity, image)
        return velocity, image, (new_root.log() - root.log()).sum(-1).expand(len(x))

    def _component(
        self, normals: _Normals, rows: int, condition: Condition | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, axes, variances of the target and of the source of each row's component; of one, or B."""
        own = (normals.means, normals.axes, normals.variances, normals.source_variances)
        count, d = normals.means.shape
        if condition is None and count == 1:
            return own
        left = self.mixture.log_weights_given(condition, rows).isfinite()
        if not every(left.sum(1) == 1):
            raise ValueError(
                f"condition: expected labels that leave one component to each row, since the flow map of "
                f"{count} components in {d} dimensions has no closed form"
            )
        chosen = left.long().argmax(1)
        mean, axes, variances, noise = (part[chosen] for part in own)
        return mean, axes, variances, noise

    def _quantiles(
        self, normals: _Normals, s: Tensor, t: Tensor, x: Tensor, condition: Condition | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of mixtures on the line, ``(B, 1)``."""
        x, rows = x[:, 0], len(x)
        log_weights = self.mixture.log_weights_given(condition, rows).double()[:, normals.order]
        here, there = (self._line(normals, time.expand(rows), log_weights)[0] for time in (s, t))
        image, span = transport(x, here, there), t - s
        near = span.abs() < NEAR
        velocity = (image - x) / torch.where(near, 1.0, span)
        closely = self._short(normals, s.expand(rows), torch.where(near, span, 0.0), x, log_weights)
        image = torch.where(near, x + span * closely, image)
        velocity = torch.where(near, closely, velocity)
        return velocity[:, None], image[:, None], here.log_prob(x) - there.log_prob(image)

    def _line(self, normals: _Normals, t: Tensor, log_weights: Tensor) -> tuple[Line, Tensor, Tensor]:
        """The distribution of x_t, and the slopes in t of its means and of half its log-variances."""
        c = self.path.coefficients(t[..., None])
        mean, variances, noise = (
            v[:, 0] for v in (normals.means, normals.variances, normals.source_variances)
        )
        spread = _variances(c, variances, noise)
        sds = c.sigma * c.d_sigma if c.sigma_d_sigma is None else c.sigma_d_sigma
        rate = (c.alpha * c.d_alpha * variances + sds * noise + c.gamma_d_gamma) / spread
        means, slopes = c.alpha * mean, c.d_alpha * mean
        if self.shifted:
            means, slopes = means + c.sigma * normals.source_mean, slopes + c.d_sigma * normals.source_mean
        return Line(log_weights, means, spread.sqrt()), slopes, rate

    def _short(self, normals: _Normals, s: Tensor, span: Tensor, x: Tensor, log_weights: Tensor) -> Tensor:
        """The average velocity over a short ``span``, without a difference of nearly equal numbers.

        F_{s+h}(x + h v) - F_s(x) is h times the integral of p (v - u) over the straight line from (s, x) to
        (s + h, x + h v), u the velocity.  Newton's method sets that to 0.
        """
        nodes, weights = (torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in (NODES, WEIGHTS))
        steps = nodes[:, None] * span
        inner, slopes, rate = self._line(normals, s + steps, log_weights)
        end = self._line(normals, s + span, log_weights)[0]

        def excess(v: Tensor) -> Tensor:
            y = x + steps * v
            joint = inner.log_joint(y)
            log_p = joint.logsumexp(-1)
            u = ((joint - log_p[..., None]).exp() * (slopes + rate * (y[..., None] - inner.means))).sum(-1)
            return (weights[:, None] * (log_p - end.log_prob(x + span * v)).exp() * (v - u)).sum(0)

        v = torch.zeros_like(x)
        for _ in range(5):
            v = v - excess(v)
        return v


@dataclass(frozen=True)
class _Differences:
    """(f(t) - f(s)) / (t - s) of the coefficients f of a path."""

    alpha: Tensor
    sigma: Tensor
    sigma_squared: Tensor
    gamma_squared: Tensor


def _differences(path: Path, s: Tensor, t: Tensor, shifted: bool) -> _Differences:
    """From values far apart; near one another from slopes, by quadrature: the squares are smooth where
    sigma and gamma are not.  ``shifted``: whether sigma itself is needed."""
    a, b, span = path.coefficients(s), path.coefficients(t), t - s
    near = span.abs() < NEAR
    # slopes that are not needed are taken inside, where they are finite
    start, step = torch.where(near, s, 0.5), torch.where(near, span, 0.0)
    nodes, weights = (torch.as_tensor(v, dtype=s.dtype, device=s.device) for v in (NODES, WEIGHTS))
    inner = path.coefficients(start + nodes.reshape(-1, *[1] * span.ndim) * step)
    span = torch.where(near, 1.0, span)

    def difference(old: Tensor, new: Tensor, slope: Tensor) -> Tensor:
        return torch.where(near, torch.tensordot(weights, slope, 1), (new - old) / span)

    sds = inner.sigma * inner.d_sigma if inner.sigma_d_sigma is None else inner.sigma_d_sigma
    sigma_squared = difference(a.sigma.square(), b.sigma.square(), 2 * sds)
    sigma = sigma_squared
    if shifted:
        total = a.sigma + b.sigma
        sigma = torch.where(total > 0, sigma_squared / torch.where(total > 0, total, 1.0), b.d_sigma)
    return _Differences(
        difference(a.alpha, b.alpha, inner.d_alpha),
        sigma,
        sigma_squared,
        difference(a.gamma.square(), b.gamma.square(), 2 * inner.gamma_d_gamma),
    )


def _turned(axes: Tensor, along: Tensor) -> Tensor:
    """Vectors ``(B, d)`` from what they are along ``axes`` ``(B or 1, d, d)``."""
    return (axes @ along[:, :, None])[..., 0]


def _variances(c: Coefficients, of_target: Tensor, of_source: Tensor) -> Tensor:
    return c.alpha.square() * of_target + c.sigma.square() * of_source + c.gamma.square()


def _time(name: str, t: Tensor | float, x: Tensor) -> Tensor:
    """A time in float64, ``(1,)`` or ``(B,)``."""
    t = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    if t.ndim > 1 or t.numel() not in (1, len(x)):
        raise ValueError(
            f"{name}: expected a time or one for each of {len(x)} rows, got shape {tuple(t.shape)}"
        )
    # a check on an accelerator would wait for it, one under compilation would break the graph
    inside = (t >= -SLACK) & (t <= 1 + SLACK)
    if t.device.type == "cpu" and not torch.compiler.is_compiling() and not every(inside):
        raise ValueError(f"{name}: expected times in [0, 1], got {float(t.min()):g} to {float(t.max()):g}")
    return t.reshape(-1).clamp(0, 1)


def _common(mixture: GaussianMixture, source: GaussianMixture) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The mean of the source ``(d,)``, axes of both ``(K, d, d)``, and variances of mixture and source along
    them ``(K, d)``; ValueError where there are no such axes."""
    if source.event_shape != mixture.event_shape or len(source.means) != 1:
        raise ValueError(
            f"source: expected one normal distribution on events {mixture.event_shape}, got "
            f"{len(source.means)} on {source.event_shape}"
        )
    s, s0 = mixture.covariances.double(), source.covariances.double()
    scale, scale0 = (v.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] for v in (s, s0))
    # a sum in a ratio by which no two eigenvalues agree by chance has the axes of both
    axes = torch.linalg.eigh(s / scale + 0.6180339887 * s0 / scale0)[1]
    along, along0 = (axes.mT @ v @ axes for v in (s, s0))
    slack = 1e2 * torch.finfo(mixture.means.dtype).eps
    for matrix, size in ((along, scale), (along0, scale0)):
        if bool(((matrix - torch.diag_embed(matrix.diagonal(dim1=1, dim2=2))).abs() > slack * size).any()):
            raise ValueError(
                "source: expected a covariance that commutes with those of the mixture, without which the "
                "flow map has no closed form"
            )
    return source.means[0].double(), axes, *(v.diagonal(dim1=1, dim2=2) for v in (along, along0))
