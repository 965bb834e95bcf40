"""The scheme of Jordan, Kinderlehrer and Otto between normal distributions, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nn.checks import check_number


def gaussian_jko(
    mean: Tensor, covariance: Tensor, precision: Tensor | float, step: float, diffusion: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Mean and covariance after a JKO step from N(mean, covariance).

    The energy is F = int (x^T P x)/2 rho + D rho log rho.  With M = I + h P the mean becomes M^-1 mean, the
    covariance M^-1/2 X M^-1/2 where

    .. math:: X = \tfrac12 (S + (S^2 - 4 h^2 D^2 I)^{1/2}), \quad S = M^{-1/2} \Sigma M^{-1/2} + 2 h D I

    because the map back to the old distribution is I + h (P - D Sigma_+^-1).  For P = lambda I deviations are
    sigma_+ = (sigma/h + (sigma^2/h^2 + 4 D (1/h + lambda))^1/2) / (2 (1/h + lambda)), with the fixed point
    sigma^2 = D / lambda for every h.

    mean: ``(d,)``.  covariance, precision P: ``(d, d)``, P also a number.  step: h.  diffusion: D.

    Raises ValueError for shapes that do not fit, and for a step at which I + h P is not positive definite,
    where the problem has no minimum.

    >>> gaussian_jko(torch.ones(1), 4 * torch.eye(1), 1.0, step=0.5)
    (tensor([0.6667]), tensor([[2.3981]]))
    """
    d = len(mean)
    if mean.ndim != 1 or covariance.shape != (d, d):
        raise ValueError(
            "mean, covariance: expected (d,) and (d, d), got "
            f"{tuple(mean.shape)} and {tuple(covariance.shape)}"
        )
    h, heat = check_number("step", step, 0), check_number("diffusion", diffusion, 0) if diffusion else 0.0
    eye = torch.eye(d, dtype=mean.dtype, device=mean.device)
    p = precision.to(eye) if isinstance(precision, Tensor) else precision * eye
    if p.shape != (d, d):
        raise ValueError(f"precision: expected a number or shape {(d, d)}, got {tuple(p.shape)}")
    values, vectors = torch.linalg.eigh(eye + h * p)
    least = float(values.min())
    if least <= 0:
        raise ValueError(
            f"step: with h = {h:g} the problem has no minimum, as I + h P has an eigenvalue {least:.3g}"
        )
    root = (vectors / values.sqrt()) @ vectors.T  # M^-1/2
    s, basis = torch.linalg.eigh(root @ covariance @ root + 2 * h * heat * eye)
    x = 0.5 * (s + (s.square() - (2 * h * heat) ** 2).clamp(min=0).sqrt())
    return (vectors / values) @ vectors.T @ mean, root @ (basis * x) @ basis.T @ root
