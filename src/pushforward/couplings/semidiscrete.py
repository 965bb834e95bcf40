"""Optimal transport from a distribution to a whole data set."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..plans.ascent import ascend
from ..plans.search import Search, make_search
from ..rows import Rows, as_rows, both_sides
from ..sources import Empirical, Source
from .atoms import Atoms, drawing, fingerprint
from .base import Coupling, Pairing

#: rows that a finite source must have for each row of the data
FINEST = 10


class SemidiscreteOT(Coupling):
    """The optimal plan between the source's distribution and all rows y_j of the data, for c(x, y) = |x -
    y|^2 / 2.

    :meth:`fit` finds potentials g that maximise E_x[-max_j (g_j - c(x, y_j))] + sum_j b_j g_j
    (Mousavi-Hosseini et al. 2025, arXiv 2509.25519), with b the rows' weights, equal where there are none;
    the fitted coupling pairs each x with row argmax_j (g_j - c(x, y_j)).  Every row of the data is then
    chosen with a frequency equal to its weight, without the bias of minibatches, and a pair costs one search.
    There is no entropic smoothing.  The potentials are found by a stochastic Newton method whose late
    iterates are averaged; in up to four dimensions it begins with small parts of the data.  It stops when
    chi^2 = sum_j (p_j - b_j)^2 / b_j, p_j being how often row j is chosen, is below ``tolerance`` by the
    unbiased estimate of :func:`pushforward.plans.chi_square` on fresh draws.

    tolerance: of chi^2; 0.05 means that shares are off by a fifth in root mean square.
    max_iterations: most steps with all rows; a warning says if they do not suffice.
    progress: called after each step with (iteration, rows in use, chi^2 of that step).

    A fitted coupling has ``potentials`` ``(N,)``, float64 with weighted mean zero, and ``info``: chi_square,
    cost (E|x0 - x1|^2), iterations, draws, seconds, converged.  :meth:`pair` wants the whole data set as its
    target, and gives one pair per source row; equal rows of the data share their source rows.  Raises
    ValueError for numbers that are not positive, event shapes that differ, weights that are not positive,
    values that are not finite, a finite source of fewer than ten rows for each of the data's, a source that
    needs a condition, a coupling that is not fitted, and other data than it was fitted on.

    >>> from pushforward.sources import Normal
    >>> data = torch.tensor([[-1.0], [0.0], [1.0]])
    >>> coupling = SemidiscreteOT().fit(Normal(1), data, torch.Generator().manual_seed(0))
    >>> coupling.pair(torch.tensor([[0.9], [0.1], [-2.0]]), data).indices[:, 1]
    tensor([2, 1, 0])
    """

    whole = True
    fits_long = True

    def __init__(
        self,
        tolerance: float = 0.05,
        max_iterations: int = 200,
        progress: Callable[[int, int, float], None] | None = None,
    ):
        if not 0 < tolerance < math.inf:
            raise ValueError(f"tolerance: expected a positive finite number, got {tolerance}")
        if max_iterations < 1:
            raise ValueError(f"max_iterations: expected at least one, got {max_iterations}")
        self.tolerance, self.max_iterations, self.progress = tolerance, max_iterations, progress
        self.potentials: Tensor | None = None
        self.info: Mapping[str, Any] = {}
        self._centre = torch.zeros(0)
        self._fingerprint = torch.zeros(0, dtype=torch.uint8)
        self._ready: tuple[weakref.ref[Tensor], int, Atoms, Search] | None = None

    def check_source(self, source: Source | Rows | Tensor, targets: int) -> None:
        """Raise ValueError for a finite source with too few rows for ``targets`` target rows.

        Each source row is paired with one target row, so n source rows give m target rows equal shares up to
        a part of order m / n.
        """
        rows = None
        if isinstance(source, Empirical):
            rows = None if source.noise else len(source.rows)
        elif not isinstance(source, Source):
            rows = len(as_rows(source))
        if rows is not None and rows < FINEST * targets:
            raise ValueError(
                f"source: semidiscrete transport to {targets:,} rows expected a distribution with a density, "
                f"or at least {FINEST * targets:,} rows, got {rows:,}; two finite sets are paired by the "
                "coupling `dataset`"
            )

    def fit(
        self,
        source: Source | Rows | Tensor,
        target: Rows | Tensor,
        generator: torch.Generator | None = None,
    ) -> SemidiscreteOT:
        target = as_rows(target)
        atoms = Atoms(target)
        draw = drawing(source, tuple(target.x.shape[1:]), generator)
        self.check_source(source, len(target))
        # means of both sides are taken off, so that far offsets cost no accuracy
        centre = draw(4096).to(target.x.device).double().mean(0)

        def centred(n: int) -> Tensor:
            return (draw(n).to(target.x.device).double() - centre).to(atoms.points)

        found = ascend(
            centred, atoms.points, atoms.weights, self.tolerance, self.max_iterations, self.progress
        )
        if not found.converged:
            warnings.warn(
                f"semidiscrete transport stopped at chi^2 = {found.chi_square:.3g} after "
                f"{self.max_iterations} steps, above the tolerance of {self.tolerance:g}: rows are "
                "not chosen as often as they should be; allow more steps",
                stacklevel=2,
            )
        fitted = SemidiscreteOT(self.tolerance, self.max_iterations, self.progress)
        shift = atoms.tilt(centre)
        g = (found.heights - shift)[atoms.member]
        fitted.potentials = g - (found.heights - shift) @ atoms.weights
        fitted.info = {
            "chi_square": found.chi_square,
            "cost": found.cost + float((centre - atoms.centre).square().sum()),
            "iterations": found.iterations,
            "draws": found.draws,
            "seconds": found.seconds,
            "converged": found.converged,
        }
        fitted._centre, fitted._fingerprint = centre, fingerprint(target)
        return fitted

    def pair(
        self, source: Rows | Tensor, target: Rows | Tensor, generator: torch.Generator | None = None
    ) -> Pairing:
        source, target = both_sides(source, target)
        atoms, search = self._prepare(target)
        x = source.x.detach().reshape(len(source), -1).to(target.x.device)
        winners = search.query((x.double() - self._centre.to(x.device)).to(atoms.points))
        chosen = atoms.row(winners.first, generator).to(source.x.device)
        return Pairing(torch.stack([torch.arange(len(chosen), device=chosen.device), chosen], 1))

    def _prepare(self, target: Rows) -> tuple[Atoms, Search]:
        """The search among ``target``, made once; the data are compared whenever the tensor is a new one."""
        if self.potentials is None:
            raise ValueError("this coupling is not fitted: call fit(source, target) first")
        if self._ready is not None:
            known, version, atoms, search = self._ready
            if known() is target.x and version == target.x._version:
                return atoms, search
        if not torch.equal(fingerprint(target), self._fingerprint):
            raise ValueError(
                "target: expected the whole data set the coupling was fitted on, in its order; it was "
                f"fitted on other data ({len(self.potentials)} rows, got {len(target)})"
            )
        atoms = Atoms(target)
        search = make_search(atoms.points)
        g = torch.zeros_like(atoms.weights).scatter_(0, atoms.member, self.potentials.to(atoms.weights))
        search.update(g + atoms.tilt(self._centre.to(g)))
        self._ready = weakref.ref(target.x), target.x._version, atoms, search
        return atoms, search

    def state_dict(self) -> dict[str, Tensor]:
        """Potentials, the source's mean, a digest of the data and the figures of the fit, all tensors."""
        if self.potentials is None:
            raise ValueError("this coupling is not fitted: call fit(source, target) first")
        figures = {f"info.{k}": torch.tensor(float(v), dtype=torch.float64) for k, v in self.info.items()}
        return {
            "potentials": self.potentials,
            "centre": self._centre,
            "fingerprint": self._fingerprint,
            **figures,
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Become the fitted coupling of :meth:`state_dict`.  Raises ValueError for missing entries."""
        missing = {"potentials", "centre", "fingerprint"} - set(state)
        if missing:
            raise ValueError(f"state: expected the entries of state_dict(), without {sorted(missing)}")
        self.potentials, self._centre = state["potentials"].double(), state["centre"].double()
        self._fingerprint, self._ready = state["fingerprint"].cpu(), None
        figures = {k.removeprefix("info."): v.item() for k, v in state.items() if k.startswith("info.")}
        kinds = {"iterations": int, "draws": int, "converged": bool}
        self.info = {k: kinds.get(k, float)(v) for k, v in figures.items()}
