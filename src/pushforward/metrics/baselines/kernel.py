"""Kernel densities with widths of maximum likelihood for rows left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ... import random
from ...bijections import Bijection, Chain
from ...sources import Kernels, Source
from ...sources.kernels import TABLE, squared
from .coordinates import standard, whitened

Kernel = Literal["gaussian", "exponential"]
Space = Literal["columns", "whitened"]

#: Widths that are tried, in deviations, and rows that are looked at.
WIDTHS, QUERIES = tuple(np.geomspace(0.01, 3.0, 48).tolist()), 500


def kernels(z: Tensor, space: Space, share: float = 1.0) -> Source:
    """A Gaussian kernel around each of standardised rows ``(N, *event)``, narrower where rows are dense.

    Widths are those of :func:`relative_widths` times a common factor under which rows have the highest
    likelihood given all others, times ``share``, because in a mixture with wider densities narrower kernels
    have a higher likelihood.

    space: ``columns``, kernels of equal width in all columns, or ``whitened``, of the shape of the rows'
    covariance.  ``note`` gives the mean width in deviations.  Raises ValueError for fewer than two rows.
    """
    rows = z.reshape(len(z), -1)
    if len(rows) < 2:
        raise ValueError(f"x: expected at least two rows, got {len(rows)}")
    d = rows.shape[1]
    root = torch.eye(d, dtype=rows.dtype)
    y = rows
    if space == "whitened":
        y, back = whitened(rows)
        root = back.root
    relative = relative_widths(y)
    width = share * leave_one_out_width(y, relative)
    found = Kernels(rows.reshape(z.shape), width**2 * root.T @ root, relative)
    found.note = f"width {width:.2g}"
    return found


def relative_widths(y: Tensor) -> Tensor:
    """Widths ``(N,)`` of kernels around rows ``(N, d)``, of geometric mean 1.

    The square root of the distance to a neighbour of rank sqrt(N) / 2: between equal widths and the distance
    itself (Breiman, Meisel & Purcell 1977, doi 10.1080/00401706.1977.10489521), as the square root of
    Abramson 1982 (doi 10.1214/aos/1176345986) is for densities.
    """
    rank = max(1, min(len(y) - 1, round(0.5 * len(y) ** 0.5)))
    far = [squared(part, y).kthvalue(rank + 1, dim=1).values for part in y.split(max(1, TABLE // len(y)))]
    distance = torch.cat(far).sqrt().clamp(min=WIDTHS[0])
    widths = distance.sqrt()
    return widths / widths.log().mean().exp()


def leave_one_out_width(y: Tensor, relative: Tensor) -> float:
    """The factor of widths ``relative`` with maximum likelihood for rows ``(N, d)`` given all others."""
    n, d = y.shape
    asked = torch.arange(n)[:: max(1, n // QUERIES)][:QUERIES]

    def score(width: float) -> float:
        return float(sum((-0.5 * table / width**2 - volume).logsumexp(1).sum() for table in tables)) - (
            len(asked) * d * math.log(width)
        )

    volume, tables = d * relative.log(), []
    for index in asked.split(max(1, TABLE // n)):
        table = squared(y[index], y) / relative.square()
        table[torch.arange(len(index)), index] = torch.inf
        tables.append(table)
    # every fourth width, and then those around the best one
    near = max(range(0, len(WIDTHS), 4), key=lambda k: score(WIDTHS[k]))
    return WIDTHS[max(range(max(0, near - 3), min(len(WIDTHS), near + 4)), key=lambda k: score(WIDTHS[k]))]


class KernelDensity:
    """Mean over training rows x_i of K(|y - x_i| / h) / h^d, its bandwidth h cross-validated.

    K is the Gaussian kernel or the exponential one, exp(-r), with their constants in d dimensions
    (Silverman 1986, section 4.2), of columns divided by their deviation or whitened.  h is the best on
    ``folds`` held-out parts of the rows, first on a grid of a factor 2, then on a finer one.  This is done in
    both coordinates, and the better ones are kept.  Log-densities are in nats and data units, and do not
    depend on the units of the columns.

    rows: ``(N, *event)``.  condition: labels ``(N,)`` give one density per label.  folds: their number.
    queries: held-out rows per fold and bandwidth that are used.

    Raises ValueError for another kernel, conditions that are not labels and fewer rows than folds.

    >>> x = random.normal((500, 1), random.seeded("kde"))
    >>> kde = KernelDensity(x, generator=random.seeded("folds"))
    >>> 0.1 < kde.width < 0.6
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
        self.event_shape = tuple(rows.shape[1:])
        x, units = standard(rows)
        self.labels = torch.zeros(len(x), dtype=torch.int64) if condition is None else condition.cpu()
        if int(self.labels.unique(return_counts=True)[1].min()) < folds or folds < 2:
            raise ValueError(f"folds: expected at least 2 and {folds} rows or more of every label")
        order = random.uniform((len(x),), generator, torch.float64, "cpu").argsort()
        coarse = [2.0**-k for k in range(-2, 12)]
        found: list[tuple[float, float, Tensor, tuple[Bijection, ...]]] = []
        spaces: list[tuple[Tensor, tuple[Bijection, ...]]] = [(x, (units,))]
        if x.shape[1] > 1:
            y, back = whitened(x)
            spaces.append((y, (back, units)))
        for y, links in spaces:
            stretch = sum(float(link.forward_and_log_det(y[:1])[1]) for link in links)
            score = self._scores(y, coarse, order, folds, queries)
            near = coarse[int(score.argmax())]
            fine = [near * 2.0 ** (k / 4) for k in range(-3, 4)]
            score = self._scores(y, fine, order, folds, queries)
            found.append((float(score.max()) - stretch, fine[int(score.argmax())], y, links))
        _, self.width, self.rows, links = max(found, key=lambda entry: entry[0])
        self.back = Chain(*links)

    @property
    def whitened(self) -> bool:
        """Whether the kernels have the shape of the rows' covariance, or equal width in all columns."""
        return len(self.back.links) > 1

    @property
    def note(self) -> str:
        """The width in deviations, and in which coordinates it is."""
        return f"width {self.width:.2g}" + ", whitened" * self.whitened

    def sample(
        self, n: int, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """``n`` draws ``(n, *event)`` float64 of labels ``condition`` ``(n,)``: a row and noise.

        Raises ValueError for a label without training rows.
        """
        wanted = torch.zeros(n, dtype=torch.int64) if condition is None else condition.cpu()
        labels = torch.zeros_like(self.labels) if condition is None else self.labels
        u = random.uniform((n,), generator, torch.float64, "cpu")
        chosen = torch.empty(n, dtype=torch.int64)
        for label in wanted.unique():
            own = (labels == label).nonzero()[:, 0]
            if len(own) == 0:
                raise ValueError(f"condition: no training rows of label {int(label)}")
            mine = wanted == label
            chosen[mine] = own[(u[mine] * len(own)).long()]
        d = self.rows.shape[1]
        z = random.normal((n, d), generator, torch.float64, "cpu")
        if self.kernel == "exponential":
            # r^(d-1) exp(-r) in a random direction: the radius is a sum of d exponential times
            times = random.uniform((n, d), generator, torch.float64, "cpu").clamp(min=1e-300).log()
            z = -times.sum(1, keepdim=True) * z / z.norm(dim=1, keepdim=True)
        return self.back.forward(self.rows[chosen] + self.width * z).reshape(n, *self.event_shape)

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
        y, log_det = self.back.inverse_and_log_det(x.detach().reshape(len(x), -1).double().cpu())
        wanted = torch.zeros(len(y), dtype=torch.int64) if condition is None else condition.cpu()
        out = torch.full((len(y),), -torch.inf, dtype=torch.float64)
        for label in wanted.unique():
            rows = self.rows if condition is None else self.rows[self.labels == label]
            if len(rows) == 0:
                raise ValueError(f"condition: no training rows of label {int(label)}")
            mine = (wanted == label).nonzero()[:, 0]
            for part in mine.split(max(1, 10_000_000 // len(rows))):
                out[part] = self._log_means(y[part], rows, [self.width])[0]
        return out + log_det
