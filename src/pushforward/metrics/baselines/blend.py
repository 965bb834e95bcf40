"""Several baselines mixed with weights that maximise the likelihood of rows left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...sources import Blend, LinearShift, Source
from ...sources.linear_shift import count_classes, features
from ...tensors import Condition, event_size, map_condition
from .coordinates import in_units, standard
from .gaussian import gaussian, regress
from .kernel import kernels
from .mixture import choose_shape, mixture

#: A part of less weight is left out.
LIGHT = 0.01
#: What narrow kernels are to those that are likeliest alone.
NARROW = 0.5
#: From rows and their conditions to a density of them.
Fit = Callable[[Tensor, "Condition | None"], Source]


@dataclass(frozen=True)
class Fold:
    """Rows ``held`` (indices) and the blend of the other rows."""

    held: Tensor
    source: Blend


@dataclass(frozen=True)
class Crossed:
    """A blend and the results of its cross-validation.

    source: of all rows.  folds: without a part of the rows each, under the same weights.
    log_prob: ``(N,)`` of every row under the fold that was fitted without it, in nats.
    """

    source: Blend
    folds: list[Fold]
    log_prob: Tensor


def fit_blend(x: Tensor, condition: Condition | None = None, folds: int = 5, seed: int = 0) -> Source:
    """A mixture of baselines for rows ``x`` ``(N, *event)``, weighted by cross-validated likelihood; float64.

    sum_k w_k p_k(x), with p_k a Gaussian, a Gaussian mixture and kernel densities, and w the weights under
    which rows held out fold by fold have the highest likelihood, by expectation-maximisation: stacking
    (Smyth & Wolpert 1999, doi 10.1023/A:1007511322260).  On new rows a stack is hardly ever worse than its
    best part, and mostly better.  ``note`` names its parts.

    Raises ValueError for conditions that do not fit and fewer than two rows.

    >>> x = torch.cat([torch.randn(200, 1), torch.randn(200, 1) + 20])
    >>> "mixture (2 components)" in fit_blend(x).note
    True
    """
    z, units = standard(x)
    return in_units(cross_fit(z.reshape(x.shape), condition, folds, seed).source, units)


def cross_fit(
    z: Tensor, condition: Condition | None, folds: int, seed: int, names: Sequence[str] | None = None
) -> Crossed:
    """:func:`fit_blend` of rows ``(N, *event)`` at about unit scale, with the blends of its folds.

    names: the parts that it may be made of (None: all).
    """
    z = z.detach().double().cpu()
    condition = map_condition(lambda c: c.cpu(), condition)
    fits = {name: fit for name, fit in _fits(z, condition, seed).items() if names is None or name in names}
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(z)))
    parts: list[tuple[Tensor, dict[str, Source]]] = []
    score = {name: torch.full((len(z),), -torch.inf, dtype=z.dtype) for name in fits}
    for held in order.tensor_split(max(2, min(folds, len(z) // 2))):
        rest = torch.ones(len(z), dtype=torch.bool)
        rest[held] = False
        given = map_condition(lambda c, rest=rest: c[rest], condition)
        asked = map_condition(lambda c, held=held: c[held], condition)
        found: dict[str, Source] = {}
        for name, fit in fits.items():
            try:
                found[name] = fit(z[rest], given)
            except ValueError:  # too few rows for it
                continue
            score[name][held] = found[name].log_prob(z[held], asked)
        parts.append((held, found))
    weights = dict(zip(fits, stacked(torch.stack(list(score.values()), 1)).tolist()))
    weights = {
        name: w for name, w in weights.items() if w >= LIGHT and all(name in found for _, found in parts)
    }
    if not weights:
        raise ValueError(f"x: {len(z)} rows are too few to fit baselines to")
    blends = [Fold(held, _mixed(found, weights)) for held, found in parts]
    source = _mixed({name: fits[name](z, condition) for name in weights}, weights)
    log_prob = torch.empty(len(z), dtype=z.dtype)
    for fold in blends:
        log_prob[fold.held] = fold.source.log_prob(
            z[fold.held], map_condition(lambda c, held=fold.held: c[held], condition)
        )
    return Crossed(source, blends, log_prob)


def _mixed(parts: Mapping[str, Source], weights: Mapping[str, float]) -> Blend:
    """The named parts under their weights, and a note of both."""
    distribution, total = (
        Blend([parts[name] for name in weights], list(weights.values())),
        sum(weights.values()),
    )
    notes = {name: f" ({parts[name].note})" if parts[name].note else "" for name in weights}
    distribution.note = ", ".join(f"{w / total:.0%} {name}{notes[name]}" for name, w in weights.items())
    return distribution


def stacked(log_prob: Tensor, rounds: int = 500) -> Tensor:
    """The weights ``(K,)`` of maximum likelihood for densities ``(N, K)``, by expectation-maximisation."""
    weights = torch.full((log_prob.shape[1],), 1 / log_prob.shape[1], dtype=log_prob.dtype)
    usable = log_prob[log_prob.isfinite().any(1)]
    for _ in range(rounds if len(usable) else 0):
        weights = (usable + weights.log()).softmax(1).mean(0)
    return weights


def _fits(z: Tensor, condition: Condition | None, seed: int) -> dict[str, Fit]:
    """The parts of a blend, by name; the shape of its mixture is chosen on all rows."""
    plain = _plain(z, seed)
    if condition is None:
        return plain
    residual = regress(z.reshape(len(z), -1), condition)[0].reshape(z.shape)
    shifted = {f"{name}, mean by condition": _shifted(fit) for name, fit in _plain(residual, seed).items()}
    blind = {name: _blind(fit) for name, fit in plain.items() if name == "mixture"}
    return {"Gaussian by condition": lambda z, c: gaussian(z, c, True), **shifted, **blind}


def _plain(z: Tensor, seed: int) -> dict[str, Fit]:
    """Fits that use no condition."""
    fits: dict[str, Fit] = {"Gaussian": lambda z, c: gaussian(z, None, True)}
    try:
        shape = choose_shape(z, seed)
        fits["mixture"] = lambda z, c: mixture(z, shape, seed)
    except ValueError:  # too few rows
        pass
    fits["kernels"] = lambda z, c: kernels(z, "columns")
    fits["narrow kernels"] = lambda z, c: kernels(z, "columns", NARROW)
    if z[0].numel() > 1:
        fits["kernels, whitened"] = lambda z, c: kernels(z, "whitened")
        fits["narrow kernels, whitened"] = lambda z, c: kernels(z, "whitened", NARROW)
    return fits


def _shifted(fit: Fit) -> Fit:
    """``fit`` of the residuals of a linear regression of the rows on the condition."""

    def fitted(z: Tensor, condition: Condition | None) -> Source:
        assert condition is not None
        residual, slope, classes, known = regress(z.reshape(len(z), -1), condition)
        distribution = fit(residual.reshape(z.shape), None)
        shifted = LinearShift(distribution, slope, classes, known)
        shifted.note = distribution.note
        return shifted

    return fitted


def _blind(fit: Fit) -> Fit:
    """``fit`` that ignores the condition."""

    def fitted(z: Tensor, condition: Condition | None) -> Source:
        assert condition is not None
        distribution, classes = fit(z, None), count_classes(condition)
        numbers = features(condition, classes)[:1]
        slope = torch.zeros(event_size(distribution.event_shape), numbers.shape[1], dtype=numbers.dtype)
        blind = LinearShift(distribution, slope, classes, numbers)
        blind.note = distribution.note
        return blind

    return fitted
