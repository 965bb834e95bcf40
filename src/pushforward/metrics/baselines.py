"""Densities to hold a model against: Gaussians and kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .. import random
from ..sources import GaussianMixture, Source
from ..tensors import Condition

Kernel = Literal["gaussian", "exponential"]


def bits_per_dim(log_prob: Tensor | float, size: int, step: float = 1.0) -> Tensor | float:
    """-(log_prob + size log step) / (size log 2): bits that coding one element takes.

    ``log_prob`` in nats and data units, of events with ``size`` elements that are whole multiples of
    ``step``; from a lower bound on log_prob follows an upper bound.  Theis et al. 2016, arXiv 1511.01844.

    >>> bits_per_dim(-64 * math.log(16.0), size=64)
    4.0
    """
    if size < 1 or not step > 0:
        raise ValueError(f"size, step: expected positive numbers, got {size} and {step}")
    return -(log_prob + size * math.log(step)) / (size * math.log(2))


class LinearGaussian(Source):
    """x | c ~ N(mean + slope c, covariance): the Gaussian whose mean follows a continuous condition.

    mean: ``(*event)``; slope: ``(d, k)``; covariance: ``(d, d)``; conditions are ``(B,)`` or ``(B, k)``.

    >>> law = LinearGaussian(torch.zeros(1), torch.ones(1, 1), torch.eye(1))
    >>> law.log_prob(torch.tensor([[2.0]]), torch.tensor([2.0]))
    tensor([-0.9189])
    """

    slope: Tensor

    def __init__(self, mean: Tensor, slope: Tensor, covariance: Tensor):
        super().__init__()
        self.event_shape = tuple(mean.shape)
        self.noise = GaussianMixture(mean[None], covariance[None])
        self.register_buffer("slope", slope)

    def _shift(self, condition: Condition | None, like: Tensor) -> Tensor:
        if not isinstance(condition, Tensor):
            raise ValueError(f"condition: expected a tensor, got {type(condition).__name__}")
        c = condition.to(self.slope).reshape(len(like), -1)
        return (c @ self.slope.T).reshape(like.shape).to(like)

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        x = self.noise.sample(n, None, generator)
        return x + self._shift(condition, x)

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.noise.log_prob(x - self._shift(condition, x))


def _moments(x: Tensor, ridge: float, spread: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    covariance = (x - mean).T @ (x - mean) / len(x)
    return mean, covariance + ridge * spread * torch.eye(x.shape[1], dtype=x.dtype)


def fit_gaussian(x: Tensor, condition: Condition | None = None, ridge: float = 1e-6) -> Source:
    """The full-covariance Gaussian of most likelihood for rows ``x`` ``(N, *event)``, a source in float64.

    condition: None gives one Gaussian; labels ``(N,)`` (integers) one per label, weighted by their shares;
    numbers ``(N,)`` or ``(N, k)`` one whose mean is linear in them (:class:`LinearGaussian`).
    ridge: share of the mean variance that is added to the diagonal, so that a constant element or fewer
    rows than elements still give a density.

    Raises ValueError for conditions of another kind and fewer than two rows.

    >>> law = fit_gaussian(torch.tensor([[1.0], [3.0], [11.0], [13.0]]), torch.tensor([0, 0, 1, 1]), ridge=0)
    >>> law.log_prob(torch.tensor([[2.0]]), torch.tensor([0]))
    tensor([-0.9189])
    """
    if len(x) < 2:
        raise ValueError(f"x: expected at least two rows, got {len(x)}")
    event = x.shape[1:]
    rows = x.detach().reshape(len(x), -1).double().cpu()
    offset = rows.mean(0)
    rows = rows - offset
    spread = rows.square().mean()
    if condition is None:
        mean, covariance = _moments(rows, ridge, spread)
        return GaussianMixture((offset + mean).reshape(1, *event), covariance[None])
    if not isinstance(condition, Tensor) or len(condition) != len(x):
        raise ValueError(f"condition: expected a tensor of {len(x)} rows")
    if not condition.is_floating_point():
        labels, counts = condition.cpu().unique(return_counts=True)
        parts = [_moments(rows[condition.cpu() == label], ridge, spread) for label in labels]
        means = torch.stack([offset + mean for mean, _ in parts]).reshape(-1, *event)
        return GaussianMixture(means, torch.stack([c for _, c in parts]), counts.double(), labels)
    c = condition.detach().reshape(len(x), -1).double().cpu()
    centre = c.mean(0)
    slope = torch.linalg.lstsq(c - centre, rows).solution.T
    _, covariance = _moments(rows - (c - centre) @ slope.T, ridge, spread)
    return LinearGaussian((offset - slope @ centre).reshape(event), slope, covariance)


class KernelDensity:
    """Mean over training rows x_i of K(|y - x_i| / h) / h^d, its bandwidth h cross-validated.

    K is the Gaussian kernel or the exponential one, exp(-r), with their constants in d dimensions
    (Silverman 1986, section 4.2).  h is the best on ``folds`` held-out parts of the rows, first on a grid
    of a factor 2, then on a finer one, both for the rows as they are and with each column divided by its
    deviation; what is better on held-out parts is kept.  Log-densities are in nats and data units.

    rows: ``(N, *event)``.  condition: labels ``(N,)`` give one density per label.  folds: their number.
    queries: held-out rows per fold and bandwidth that are looked at.

    Raises ValueError for another kernel, conditions that are no labels and fewer rows than folds.

    >>> x = random.normal((500, 1), random.seeded("kde"))
    >>> kde = KernelDensity(x, generator=random.seeded("folds"))
    >>> 0.1 < kde.bandwidth < 0.6
    True
    """

    def __init__(
        self,
        rows: Tensor,
        kernel: Kernel = "gaussian",
        condition: Tensor | None = None,
        folds: int = 5,
        queries: int = 250,
        generator: torch.Generator | None = None,
    ):
        if kernel not in ("gaussian", "exponential"):
            raise ValueError(f"kernel: expected 'gaussian' or 'exponential', got {kernel!r}")
        if condition is not None and (condition.is_floating_point() or condition.shape != (len(rows),)):
            raise ValueError(f"condition: expected {len(rows)} labels")
        self.kernel: Kernel = kernel
        x = rows.detach().reshape(len(rows), -1).double().cpu()
        self.offset = x.mean(0)
        x = x - self.offset
        self.labels = torch.zeros(len(x), dtype=torch.int64) if condition is None else condition.cpu()
        if int(self.labels.unique(return_counts=True)[1].min()) < folds or folds < 2:
            raise ValueError(f"folds: expected at least 2 and {folds} rows or more of every label")
        order = random.uniform((len(x),), generator, torch.float64, "cpu").argsort()
        deviation = x.square().mean(0).sqrt()
        common = deviation.square().mean().sqrt().expand_as(deviation)
        coarse = [2.0**-k for k in range(12)]
        found: list[tuple[float, float, Tensor]] = []
        for scale in (common, deviation) if bool((deviation > 0).all()) and len(deviation) > 1 else (common,):
            score = self._scores(x / scale, coarse, order, folds, queries)
            near = coarse[int(score.argmax())]
            fine = [near * 2.0 ** (k / 4) for k in range(-3, 4)]
            score = self._scores(x / scale, fine, order, folds, queries)
            found.append((float(score.max() - scale.log().sum()), fine[int(score.argmax())], scale))
        _, width, self.scale = max(found, key=lambda entry: entry[0])
        self.rows, self.width = x / self.scale, width

    @property
    def bandwidth(self) -> float:
        """h in data units; where columns are scaled, that of the column with the mean log-scale."""
        return self.width * float(self.scale.log().mean().exp())

    @property
    def scaled(self) -> bool:
        """Whether each column is divided by its own deviation."""
        return bool((self.scale != self.scale[0]).any())

    def _log_constant(self, width: float, d: int) -> float:
        """log of the integral of K(|y| / width) over d dimensions."""
        if self.kernel == "gaussian":
            return d * (0.5 * math.log(2 * math.pi) + math.log(width))
        # Surface of the unit sphere times Gamma(d), the integral of r^(d-1) exp(-r).
        surface = math.log(2) + 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d)
        return surface + math.lgamma(d) + d * math.log(width)

    def _log_means(self, y: Tensor, rows: Tensor, widths: Sequence[float]) -> Tensor:
        """log mean_i K(|y - x_i| / w) / w^d for every width, ``(len(widths), B)``."""
        table = torch.cdist(y, rows, compute_mode="donot_use_mm_for_euclid_dist")
        power, factor = (2, 0.5) if self.kernel == "gaussian" else (1, 1.0)
        table = table.pow_(power)
        # The nearest row has the largest term for any width, so its exponent is taken out once for all.
        low = table.amin(1, keepdim=True)
        table -= low
        work = torch.empty_like(table)
        out = []
        for width in widths:
            rate = -factor / width**power
            # exp(-600) counts for nothing, but what underflows below takes ten times as long.
            total = torch.mul(table, rate, out=work).clamp_(min=-600.0).exp_().mean(1).log()
            out.append(total + rate * low[:, 0] - self._log_constant(width, y.shape[1]))
        return torch.stack(out)

    def _scores(self, x: Tensor, widths: Sequence[float], order: Tensor, folds: int, queries: int) -> Tensor:
        """Mean held-out log-density for each bandwidth, over folds and labels."""
        total, count = torch.zeros(len(widths), dtype=torch.float64), 0
        for fold in range(folds):
            held = torch.zeros(len(x), dtype=torch.bool)
            held[order[fold::folds]] = True
            for label in self.labels.unique():
                same = self.labels == label
                test, rest = x[held & same][:queries], x[~held & same]
                if len(test) == 0 or len(rest) == 0:
                    continue
                total += self._log_means(test, rest, widths).sum(1)
                count += len(test)
        return total / count

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-density in nats and data units, ``(B, *event) -> (B,)`` float64.

        Raises ValueError for a label without training rows.
        """
        y = (x.detach().reshape(len(x), -1).double().cpu() - self.offset) / self.scale
        wanted = torch.zeros(len(y), dtype=torch.int64) if condition is None else condition.cpu()
        out = torch.full((len(y),), -torch.inf, dtype=torch.float64)
        for label in wanted.unique():
            rows = self.rows if condition is None else self.rows[self.labels == label]
            if len(rows) == 0:
                raise ValueError(f"condition: no training rows of label {int(label)}")
            mine = (wanted == label).nonzero()[:, 0]
            for part in mine.split(max(1, 10_000_000 // len(rows))):
                out[part] = self._log_means(y[part], rows, [self.width])[0]
        return out - self.scale.log().sum()
