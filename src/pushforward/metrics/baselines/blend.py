"""Several baselines mixed by what they are worth on rows that they have not seen."""

from __future__ import annotations

from collections.abc import Callable
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
from .mixture import mixture

#: A part of less weight is left out.
LIGHT = 0.01
Fit = Callable[[Tensor, "Condition | None", int], Source]


@dataclass(frozen=True)
class Crossed:
    """What cross-validation said of a blend.

    names: of the parts.  weights: of the parts.  log_prob: ``(N, K)`` of every row under parts that were
    fitted without it, in nats.
    """

    names: list[str]
    weights: list[float]
    log_prob: Tensor


def fit_blend(x: Tensor, condition: Condition | None = None, folds: int = 5, seed: int = 0) -> Source:
    """A mixture of baselines for rows ``x`` ``(N, *event)``, weighted by cross-validated likelihood; float64.

    sum_k w_k p_k(x), with p_k a Gaussian, a Gaussian mixture and kernel densities, and w the weights under
    which rows held out fold by fold have the highest likelihood, by expectation-maximisation: stacking
    (Smyth & Wolpert 1999, doi 10.1023/A:1007511322260).  On rows to come a stack is hardly ever below its
    best part, and mostly above.  ``note`` says what it is made of.

    Raises ValueError for conditions that do not fit and fewer than two rows.

    >>> x = torch.cat([torch.randn(200, 1), torch.randn(200, 1) + 20])
    >>> law = fit_blend(x)
    >>> law.log_prob(torch.zeros(1, 1)) > -2.2
    tensor([True])
    """
    z, units = standard(x)
    return in_units(blend(z.reshape(x.shape), condition, folds, seed)[0], units)


def blend(z: Tensor, condition: Condition | None, folds: int, seed: int) -> tuple[Source, Crossed]:
    """:func:`fit_blend` of rows ``(N, *event)`` at about unit scale, and what cross-validation said."""
    z, fits = z.detach().double().cpu(), _fits(condition)
    order = np.random.default_rng(seed).permutation(len(z))
    scores: dict[str, Tensor] = {name: torch.full((len(z),), -torch.inf, dtype=z.dtype) for name in fits}
    for fold in np.array_split(order, min(folds, len(z) // 2)):
        held = torch.zeros(len(z), dtype=torch.bool)
        held[fold] = True
        given = map_condition(lambda c, held=held: c[~held], condition)
        asked = map_condition(lambda c, held=held: c[held], condition)
        for name, fit in fits.items():
            try:
                scores[name][held] = fit(z[~held], given, seed).log_prob(z[held], asked)
            except ValueError:  # too few rows for it
                continue
    log_prob = torch.stack(list(scores.values()), 1)
    weights = stacked(log_prob)
    kept = {name: w for name, w in zip(fits, weights.tolist()) if w >= LIGHT}
    total = sum(kept.values())
    parts = [fits[name](z, condition, seed) for name in kept]
    law = Blend(parts, list(kept.values()))
    notes = [
        f"{w / total:.0%} {name}" + f" ({part.note})" * bool(part.note)
        for (name, w), part in zip(kept.items(), parts)
    ]
    law.note = ", ".join(notes)
    return law, Crossed(list(fits), weights.tolist(), log_prob)


def stacked(log_prob: Tensor, rounds: int = 500) -> Tensor:
    """The weights ``(K,)`` of most likelihood for densities ``(N, K)``, by expectation-maximisation."""
    weights = torch.full((log_prob.shape[1],), 1 / log_prob.shape[1], dtype=log_prob.dtype)
    usable = log_prob[log_prob.isfinite().any(1)]
    if len(usable) == 0:
        return weights
    for _ in range(rounds):
        share = (usable + weights.log()).softmax(1)
        weights = share.mean(0)
    return weights


def _fits(condition: Condition | None) -> dict[str, Fit]:
    """What a blend is made of, by name."""
    plain: dict[str, Fit] = {
        "Gaussian": lambda z, c, seed: gaussian(z, None, True),
        "mixture": lambda z, c, seed: mixture(z, None, seed),
        "kernels": lambda z, c, seed: kernels(z, "columns"),
        "kernels, whitened": lambda z, c, seed: kernels(z, "whitened"),
    }
    if condition is None:
        return plain
    found: dict[str, Fit] = {
        "Gaussian by condition": lambda z, c, seed: gaussian(z, c, True),
        **{f"{name}, mean by condition": _shifted(fit) for name, fit in plain.items()},
        "mixture": lambda z, c, seed: _blind(mixture(z, None, seed), c),
    }
    return found


def _shifted(fit: Fit) -> Fit:
    """``fit`` of what is left of the rows after a linear regression on the condition."""

    def fitted(z: Tensor, condition: Condition | None, seed: int) -> Source:
        assert condition is not None
        residual, slope, classes, known = regress(z.reshape(len(z), -1), condition)
        law = fit(residual.reshape(z.shape), None, seed)
        shifted = LinearShift(law, slope, classes, known)
        shifted.note = law.note
        return shifted

    return fitted


def _blind(law: Source, condition: Condition | None) -> Source:
    """``law`` whatever the condition is."""
    assert condition is not None
    classes = count_classes(condition)
    numbers = features(condition, classes)[:1]
    d = event_size(law.event_shape)
    blind = LinearShift(law, torch.zeros(d, numbers.shape[1], dtype=numbers.dtype), classes, numbers)
    blind.note = law.note
    return blind
