"""Draws of x_t against the closed forms of a mixture: errors in standard errors of the draws."""

from __future__ import annotations

import torch
from torch import Tensor

from pushforward.flows import ContinuousFlow, DenoisingFlow
from pushforward.oracles import GaussianMixtureOracle
from pushforward.paths import DiffusionCoefficient, Interpolant, Path
from pushforward.solvers import SDE, Solver
from pushforward.sources import GaussianMixture, Normal

#: Times at which draws are compared.
TIMES = (0.25, 0.5, 0.75, 1.0)


def mixture() -> GaussianMixture:
    """Two correlated components of weights 1/3 and 2/3."""
    means = torch.tensor([[-1.5, 0.5], [1.5, -0.5]], dtype=torch.float64)
    covariances = torch.tensor([[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]], dtype=torch.float64)
    return GaussianMixture(means, covariances, [1.0, 2.0])


def exact_flow(path: Path | None = None) -> ContinuousFlow:
    """The flow of the oracle's field along a path that starts from N(0, I)."""
    oracle = GaussianMixtureOracle(mixture(), path or Interpolant())
    return ContinuousFlow(oracle, source=Normal(2).double(), path=oracle.path)


def draws(solver: Solver, g: DiffusionCoefficient | None, n: int, generator: torch.Generator) -> Tensor:
    """``n`` draws of the sampler at each of :data:`TIMES`, ``(4, n, 2)``; ``g``: of a solver of SDEs."""
    flow = exact_flow()
    x0 = flow.source.sample(n, generator=generator)
    noisy = flow.stochastic(g, solver) if solver.solves is SDE else DenoisingFlow(flow, solver)
    path = noisy.trajectory(x0, TIMES, generator=generator).path
    assert path is not None
    return path


def errors(x: Tensor, t: float, path: Path | None = None) -> Tensor:
    """Mean, covariance and weight of the draws ``(n, 2)`` of x_t minus the exact ones, in standard errors.

    The weight of a component is the mean of its posterior probability under the exact density.
    """
    target, c = mixture(), (path or Interpolant()).coefficients(torch.tensor(t, dtype=torch.float64))
    alpha, s = float(c.alpha), float(c.noise_scale)
    w, means = target.log_weights.exp(), target.means
    mean = (w[:, None] * means).sum(0)
    outer = torch.einsum("k,ki,kj->ij", w, means - mean, means - mean)
    covariance = alpha**2 * (torch.einsum("k,kij->ij", w, target.covariances) + outer) + s**2 * torch.eye(2)
    centred = x - alpha * mean
    logs = []
    for k in range(2):
        each = torch.distributions.MultivariateNormal(
            alpha * means[k], alpha**2 * target.covariances[k] + s**2 * torch.eye(2)
        )
        logs.append(w[k].log() + each.log_prob(x))
    posterior = torch.stack(logs, 1).softmax(1)[:, :1]
    values = torch.cat([centred, centred.square(), centred.prod(1, keepdim=True), posterior], 1)
    wanted = torch.stack([torch.zeros(()), torch.zeros(()), covariance[0, 0], covariance[1, 1]])
    wanted = torch.cat([wanted, covariance[0, 1:2], w[:1]])
    return (values.mean(0) - wanted) / (values.std(0) / len(x) ** 0.5)
