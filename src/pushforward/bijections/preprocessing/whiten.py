"""A linear map that makes columns uncorrelated."""

from __future__ import annotations

import torch
from torch import Tensor

from ...tensors import Condition
from ..base import Bijection


class Whiten(Bijection):
    """y = loc + S R^(1/2) x: standard normal vectors become N(loc, C), C = S R S the ``covariance``.

    R are the correlations, S the deviations; columns stay as close to themselves as they can (ZCA-cor; Kessy
    et al. 2018, arXiv 1512.00809).  The inverse takes data of mean ``loc`` and covariance C to mean 0 and
    covariance I.

    loc: ``(d,)``.  covariance: ``(d, d)``.  Raises ValueError for shapes that do not fit, numbers that are
    not finite and a covariance that is not symmetric or not positive definite.

    >>> y, log_det = Whiten(torch.ones(2), torch.diag(torch.tensor([4.0, 9.0]))).forward_and_log_det(
    ...     torch.ones(1, 2))
    >>> y, log_det
    (tensor([[3., 4.]]), tensor([1.7918]))
    """

    whitens = True
    loc: Tensor
    covariance: Tensor
    root: Tensor
    inverse_root: Tensor
    log_det: Tensor

    def __init__(self, loc: Tensor, covariance: Tensor):
        super().__init__()
        if loc.ndim != 1 or covariance.shape != (len(loc), len(loc)):
            raise ValueError(
                "loc, covariance: expected shapes (d,) and (d, d), got "
                f"{tuple(loc.shape)} and {tuple(covariance.shape)}"
            )
        for name, numbers in (("loc", loc), ("covariance", covariance)):
            if not bool(numbers.isfinite().all()):
                raise ValueError(f"{name}: expected finite numbers")
        # in the columns' own deviations, so that a tiny column beside a huge one keeps its digits
        variances = covariance.double().diagonal()
        scale = torch.where(variances > 0, variances, 1.0).sqrt()
        correlation = covariance.double() / torch.outer(scale, scale)
        if not torch.allclose(correlation, correlation.mT, atol=1e-6):
            raise ValueError("covariance: expected a symmetric matrix")
        values, axes = torch.linalg.eigh(correlation)
        if not bool((variances > 0).all() and (values > 0).all()):
            raise ValueError("covariance: expected a positive definite matrix")
        self.register_buffer("loc", loc)
        self.register_buffer("covariance", covariance)
        self.register_buffer("root", (axes * values.sqrt() @ axes.T * scale).to(covariance))
        self.register_buffer("inverse_root", (axes / values.sqrt() @ axes.T / scale[:, None]).to(covariance))
        self.register_buffer("log_det", (0.5 * values.log().sum() + scale.log().sum()).to(covariance))

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.loc.to(x) + x @ self.root.to(x), self.log_det.to(x).expand(x.shape[0])

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return (y - self.loc.to(y)) @ self.inverse_root.to(y), -self.log_det.to(y).expand(y.shape[0])
