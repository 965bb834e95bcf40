"""Between Langevin dynamics and the deterministic flow of a GAN: particles that know their own density."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..nn.checks import check_number
from ..solvers import SDE

#: A score (t, x) -> grad log density, of the shape of x.
Score = Callable[[Tensor, Tensor], Tensor]


def diffflow(target: Score, own: Score, weight: float | Callable[[Tensor], Tensor | float] = 0.5) -> SDE:
    r"""The SDE of particles that move to a density q by its score and by that of their own density p_t:

    .. math:: dX = [\nabla \log q(X) - c \, \nabla \log p_t(X)] \, dt + \sqrt{2 (1 - c)} \, dW

    The Fokker-Planck equation is the same for every weight c, which cancels between the drift and the noise
    (the Laplacian of p is the divergence of p grad log p): particles have the same distributions at all
    times.  With c = 0 this is :func:`langevin`; with c = 1 it is the deterministic gradient flow of
    KL(p || q), along the slope of the log-ratio log q / p that the discriminator of a GAN estimates.  This is
    DiffFlow (Zhang et al. 2023, arXiv 2307.02159) without a drift of the source: written there as
    beta grad log(q / p) + g^2 / 2 grad log p with noise g, for beta = 1 and c = 1 - g^2 / 2.

    target: grad log q, also of a density that changes with time.  own: grad log p_t at the particles, known,
    estimated by :func:`kernel_score`, or by the log-ratio r of a
    :class:`~pushforward.objectives.DensityRatio` as grad log q - grad r.
    weight: c in [0, 1], a number or a function of the time.

    Raises ValueError for a weight outside [0, 1].

    >>> from pushforward.solvers import EulerMaruyama
    >>> problem = diffflow(lambda t, x: -x, kernel_score(), weight=0.5)
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = 3 + torch.randn(1000, 1, generator=generator)
    >>> x = EulerMaruyama(steps=100).solve(problem, x, 0.0, 2.0, generator=generator).x
    >>> abs(x.mean().item() - 3 * 2.718 ** -2) < 0.1, abs(x.var().item() - 1) < 0.15
    (True, True)
    """
    if not callable(weight):
        check_shares(weight)
        c = float(weight)
        if c == 0:  # without a look at the particles' own density
            return SDE(target, math.sqrt(2))
        return SDE(lambda t, x: target(t, x) - c * own(t, x), math.sqrt(2 * (1 - c)))

    def share(t: Tensor) -> Tensor:
        found = torch.as_tensor(weight(t))
        # as for diffusions, not on a GPU, which would have to wait
        if found.device.type == "cpu" and not torch.compiler.is_compiling():
            check_shares(found)
        return found

    return SDE(lambda t, x: target(t, x) - share(t) * own(t, x), lambda t: (2 * (1 - share(t))).sqrt())


def check_shares(weight: float | Tensor) -> None:
    """Raise ValueError for weights outside [0, 1]."""
    found = torch.as_tensor(weight)
    if not bool(((found >= 0) & (found <= 1)).all()):
        raise ValueError(f"weight: expected numbers in [0, 1], got {weight}")


def kernel_score(bandwidth: float | None = None) -> Score:
    r"""The score of a kernel density of the particles ``(n, d)`` themselves, as a function of (t, x).

    .. math:: \nabla \log \hat p(x_i) = \sum_j w_{ij} (x_j - x_i) / b^2, \qquad
        w_{i \cdot} = \operatorname{softmax}_j(-\|x_i - x_j\|^2 / (2 b^2))

    It is that of p smoothed by N(0, b^2 I), too small by a factor 1 + b^2 / s^2 for a normal p of variance
    s^2.  All pairs are computed.

    bandwidth: b, by default Scott's n^(-1 / (d + 4)) times the root of the mean variance of the particles.

    Raises ValueError for a bandwidth that is not positive.

    >>> x = torch.tensor([[-1.0], [1.0]])
    >>> kernel_score(1.0)(torch.zeros(()), x)
    tensor([[ 0.2384],
            [-0.2384]])
    """
    if bandwidth is not None:
        check_number("bandwidth", bandwidth, 0)

    def score(t: Tensor, x: Tensor) -> Tensor:
        n, d = x.shape
        if bandwidth is None:
            square = n ** (-2 / (d + 4)) * x.var(0, correction=0).mean()
        else:
            square = x.new_full((), bandwidth**2)
        squares = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()
        weights = (-squares / (2 * square)).softmax(1)
        return (weights @ x - x) / square

    return score
