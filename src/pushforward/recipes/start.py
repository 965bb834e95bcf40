"""The start of a flow: a normal distribution, data, or baselines fitted to the training rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ..bijections import Affine, Bijection, Chain, Whiten
from ..data import load as load_data
from ..data.dataset import whitening
from ..entries import DATASETS
from ..flows import Flow
from ..metrics.baselines.blend import cross_fit
from ..metrics.baselines.coordinates import drawn_in
from ..random import derive_seed, seeded
from ..rows import Rows
from ..sources import Blend, Empirical, GaussianMixture, Normal, Source
from ..tensors import event_size
from ..training import ModelSpace
from .base import Recipe
from .sizes import FOLDS


@dataclass(frozen=True)
class Start:
    """The start of a flow, in the space of the model.

    source: the distribution of x0, None where the model has its own.
    initial: that of the flow at t = 0, the same but for noise that the path adds there.
    known: a mixture in whose closed form the field starts, where the path asks for a normal source.
    note: what baselines it is made of.
    preprocess: the map from the space of the model to data; None: the data set's own.
    teacher: the flow that is learnt from, in the space of the model.
    folds: for cross-validation, indices of training rows, and the start that was fitted without them.
    """

    source: Source | None
    initial: Source | None
    known: GaussianMixture | None = None
    note: str = ""
    preprocess: Bijection | None = None
    teacher: Flow | None = None
    folds: tuple[tuple[Tensor, Start], ...] = ()

    def to(self, device: torch.device) -> Start:
        """The same on ``device``."""

        def moved(source: Source | None) -> Source | None:
            return None if source is None else source.to(device)

        known = None if self.known is None else self.known.to(device)
        folds = tuple((held, start.to(device)) for held, start in self.folds)
        teacher = None if self.teacher is None else self.teacher.to(device)
        return replace(
            self,
            source=moved(self.source),
            initial=moved(self.initial),
            known=known,
            teacher=teacher,
            folds=folds,
        )


def build_start(recipe: Recipe, target: Rows, preprocess: Bijection) -> Start:
    """The start of a recipe for training rows ``target`` in data units.

    Raises ValueError for a source of other events and one that the path cannot start from.
    """
    if recipe.data.source == "baseline":
        return _baseline(recipe, target, preprocess)
    if recipe.own_source:
        start = Start(None, None)
    else:
        source = _given_source(recipe, target, preprocess)
        start = Start(source, _initial(recipe, source, target, preprocess), note=recipe.start_note(source))
    return _folded(recipe, start, target, preprocess)


def _baseline(recipe: Recipe, target: Rows, preprocess: Bijection) -> Start:
    """A stack of baselines, as the source, or where that must be normal as what the field starts at."""
    dtype, seed, normal, coupling = recipe.dtype, recipe.seed, recipe.normal_source, recipe.coupling
    z = ModelSpace(preprocess, torch.float64).rows(target.thinned(seeded(seed, "baseline")), seed)
    if normal and z.condition is not None:
        raise ValueError(
            f"--source baseline: --path {recipe.model.path} with --prediction {recipe.model.prediction} "
            "starts from baselines only without a condition"
        )
    # who pairs with the whole data set draws source points under no condition
    condition = None if coupling is not None and coupling.whole else z.condition
    names = ("Gaussian", "mixture") if normal else None
    x, units = _not_whitened(z.x, preprocess)
    crossed = cross_fit(x, condition, recipe.optim.folds or FOLDS, seed, names)

    def start(blend: Blend, preprocess: Bijection) -> Start:
        note, blend = blend.note, blend.affine(*_whitened(units, preprocess))
        if normal:
            source, known = Normal(target.x.shape[1:]).to(dtype), as_mixture(blend)
            assert recipe.ends is not None
            end, _ = recipe.ends
            initial = known.convolved(end.target_scale, math.hypot(end.source_scale, end.noise_scale))
            return Start(source, initial.to(dtype), known.to(dtype), note, preprocess)
        if recipe.own_source:
            return Start(None, blend.to(dtype), None, note, preprocess)
        initial = _initial(recipe, blend, target, preprocess).to(dtype)
        return Start(blend.to(dtype), initial, None, note, preprocess)

    whole = start(crossed.source, preprocess)
    if not recipe.optim.folds:
        return whole
    if len(z.x) < len(target):  # rows drawn by their weights: folds are those of all rows
        return _folded(recipe, whole, target, preprocess)
    folds = tuple(
        (fold.held, start(fold.source, _without(fold.held, target, preprocess))) for fold in crossed.folds
    )
    return replace(whole, folds=folds)


def _links(preprocess: Bijection) -> list[Bijection]:
    return list(getattr(preprocess, "links", [preprocess]))


def _whitening(preprocess: Bijection) -> Whiten | None:
    return next((cast(Whiten, link) for link in _links(preprocess) if link.whitens), None)


def _without(held: Tensor, target: Rows, preprocess: Bijection) -> Bijection:
    """``preprocess`` as rows other than those ``held`` out would have it.

    A whitening fitted with the rows held out would give them a higher likelihood than new rows have.
    """
    if _whitening(preprocess) is None:
        return preprocess
    rest = torch.ones(len(target), dtype=torch.bool)
    rest[held] = False
    rows = target.take(rest.nonzero()[:, 0])
    own = whitening(rows.x, rows.weight)
    return Chain(*(own if link.whitens else link for link in _links(preprocess)))


def _not_whitened(z: Tensor, preprocess: Bijection) -> tuple[Tensor, Affine]:
    """Rows ``z`` ``(N, *event)`` before any whitening, at unit deviation, and their units.

    The units are those that the whitening has found: noise on the rows, and rounding where a column is
    constant, say nothing of a column's scale.
    """
    whiten = _whitening(preprocess)
    if whiten is not None:
        units = Affine(whiten.loc, whiten.covariance.diagonal().sqrt())
        return units.inverse(whiten.forward(z)), units
    d = event_size(z.shape[1:])
    return z, Affine(torch.zeros(d, dtype=z.dtype), torch.ones(d, dtype=z.dtype))


def _whitened(units: Affine, preprocess: Bijection) -> tuple[Tensor, Tensor]:
    """A and b of z = A x + b, from rows x of :func:`_not_whitened` to the model's space."""
    whiten = _whitening(preprocess)
    if whiten is None:
        return units.scale.diag(), units.loc
    return (units.scale[:, None] * whiten.inverse_root).T, (units.loc - whiten.loc) @ whiten.inverse_root


def as_mixture(blend: Blend) -> GaussianMixture:
    """A blend of Gaussian mixtures as one."""
    parts = [cast(GaussianMixture, part) for part in blend.sources]
    shares = blend.log_weights.exp()
    return GaussianMixture(
        torch.cat([part.means.reshape(-1, *part.event_shape) for part in parts]),
        torch.cat([part.covariances for part in parts]),
        torch.cat([w * part.log_weights.exp() for w, part in zip(shares, parts)]),
    )


def _folded(recipe: Recipe, start: Start, target: Rows, preprocess: Bijection) -> Start:
    """``start`` with folds of the rows that all start like it."""
    if not recipe.optim.folds:
        return start
    order = torch.randperm(len(target), generator=seeded(recipe.seed, "folds"))
    parts = order.tensor_split(recipe.optim.folds)
    # what was fitted to all rows is known in the coordinates of all rows alone
    fitted = bool(start.note)
    own = (preprocess if fitted else _without(held, target, preprocess) for held in parts)
    return replace(start, folds=tuple(zip(parts, (replace(start, preprocess=p) for p in own))))


def _given_source(recipe: Recipe, target: Rows, preprocess: Bijection) -> Source:
    """The distribution of x0 that is not fitted: normal, or rows of data.

    Raises ValueError for events of another shape and paths that need a normal source.
    """
    dtype, d = recipe.dtype, recipe.data
    if d.source == "normal":
        return recipe.source(tuple(target.x.shape[1:]))
    assert d.source is not None, "resolve the configuration first"
    if recipe.normal_source:
        raise ValueError(
            f"--source {d.source}: --path {recipe.model.path} with --prediction "
            f"{recipe.model.prediction} needs a normal source; velocities can start from any source along "
            "linear, lipman, trig, polynomial and follmer"
        )
    seed = derive_seed(recipe.seed, "source") % 2**31
    entry = DATASETS.get(d.source)
    rows = d.rows if entry is not None and entry.drawn else None
    columns, exclude = (d.columns, d.exclude) if entry is None else ((), ())
    try:
        found = load_data(
            d.source,
            columns=columns,
            exclude=exclude,
            holdout=d.holdout,
            seed=seed,
            rows=rows,
            resize=d.resize if entry is None and Path(d.source).expanduser().is_dir() else None,
            preprocess="none",
            max_size=d.max_size,
        )
    except ValueError as error:
        raise ValueError(f"--source: {error}") from None
    if found.train.x.shape[1:] != target.x.shape[1:]:
        raise ValueError(
            f"--source {d.source}: expected rows of shape {tuple(target.x.shape[1:])} like the target's, "
            f"got {tuple(found.train.x.shape[1:])}"
        )
    start = Rows(found.train.x.to(target.x.dtype))
    return Empirical(ModelSpace(preprocess, dtype).rows(start, recipe.seed).x)


def _initial(recipe: Recipe, source: Source, target: Rows, preprocess: Bijection) -> Source:
    """The distribution of the path at t = 0, from which the flow starts, given that of x0.

    Where the target enters it (variance exploding paths, a little also variance preserving ones) the
    normal distribution of the same mean and variance stands for the mixture, as is customary; far rows of
    tables count as :func:`~pushforward.metrics.baselines.coordinates.drawn_in`.
    """
    if recipe.ends is None:  # no path
        return source
    start, _ = recipe.ends
    if recipe.data.source != "normal":
        alike = start.source_scale == 1 and start.noise_scale == 0
        return source if alike else source.convolved(start.source_scale, start.noise_scale)
    spread, mean = start.source_scale**2 + start.noise_scale**2, 0.0
    dtype = recipe.dtype
    if start.target_scale != 0:
        x = ModelSpace(preprocess, dtype).rows(target, recipe.seed).x.double()
        x = drawn_in(x) if x.ndim == 2 else x
        mean = start.target_scale * float(x.mean())
        spread += start.target_scale**2 * float((x - x.mean()).square().mean())
    return Normal(source.event_shape, spread**0.5, mean).to(dtype)
