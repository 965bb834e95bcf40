"""The baselines of a report, fitted to training rows as the model sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import random
from ..manifolds import Manifold
from ..metrics import KernelDensity, NGrams, fit_gaussian, fit_mixture
from ..metrics.baselines.kernel import Kernel
from ..metrics.baselines.manifold_kernels import ManifoldKernels, OnChart
from ..rows import Rows
from ..sources import ManifoldBase, Source
from ..tensors import Condition
from .loaded_run import LoadedRun
from .text_samples import Windows

#: Rows that baselines are fitted to: every one, and a mixture, whose search takes longest.
MOST, MOST_MIXTURE = 20_000, 5_000
#: Numbers of a table that kernels look at, and what covariances of so many rows may cost.
NUMBERS, PRODUCTS = 1_000_000, 10_000_000

#: Lengths of the n-grams of a text.
ORDERS = (1, 3, 5)
#: Held-out rows of each fold that a kernel's width is judged by.
QUERIES = 100

Fit = Callable[[Tensor, "Condition | None"], "Source | KernelDensity"]


@dataclass(frozen=True)
class Baseline:
    """A density without a network.

    name: in a sentence.  label: of its row.  note: what the fit chose.
    """

    key: str
    name: str
    label: str
    source: Source | KernelDensity | OnChart | Windows
    note: str = ""

    def log_prob(self, x: Tensor, condition: Condition | None) -> Tensor:
        """Log-densities of rows ``(n, *event)``, ``(n,)`` float64."""
        # conditions are of the kind that the source was fitted with, which its type cannot say; below, too
        return self.source.log_prob(x.double(), condition).double()  # pyright: ignore[reportArgumentType]

    def draw(self, loaded: LoadedRun) -> Tensor:
        """As many draws as of the model, under the same conditions, and in whole levels."""
        given, generator = loaded.sampled_condition, loaded.generator("baseline", self.key)
        drawn = self.source.sample(
            loaded.samples,
            given,  # pyright: ignore[reportArgumentType]
            generator,
        )
        levels = loaded.schema.levels
        if levels is not None and loaded.dequantised:
            low, high, step = levels
            drawn = (low + step * ((drawn - low) / step).floor()).clamp(low, high)
        return drawn


def spread(loaded: LoadedRun, x: Tensor, *parts: str) -> Tensor:
    """Whole levels with noise that fills the step, so that they have a density; other data as they are."""
    x = x.double()
    if not loaded.dequantised:
        return x
    assert loaded.schema.levels is not None
    noise = random.uniform(x.shape, loaded.generator("spread", *parts), x.dtype)
    return x + loaded.schema.levels[2] * noise


def fit_baselines(loaded: LoadedRun) -> tuple[list[Baseline], list[str]]:
    """The Gaussian and, for tables, a mixture and kernel densities; and which do not go with the data."""
    if loaded.manifold is not None:
        return _on_manifold(loaded, loaded.manifold)
    if loaded.look == "text":
        return _of_text(loaded), []
    found, missing = [], []
    kind = ", full covariance"
    if loaded.spec is not None:
        kind = ", one per label" if loaded.labelled else ", mean linear in the condition"
    fits: list[tuple[str, str, str, int, Fit]] = [
        ("gaussian", "Gaussian", "Gaussian" + kind, MOST, fit_gaussian)
    ]
    if loaded.tabular and not loaded.dequantised:
        size = loaded.size
        linear = ", mean linear in the condition" if loaded.spec is not None else ""
        few = min(MOST_MIXTURE, max(100, PRODUCTS // size**2))
        fits.append(
            ("mixture", "Gaussian mixture", "Gaussian mixture" + linear, few, _mixture_of(loaded.seed))
        )
        for kernel in ("gaussian", "exponential"):
            name = f"{kernel} kernel density".replace("gaussian", "Gaussian")
            label = name + ", one per label" * loaded.labelled
            most = min(MOST, max(100, NUMBERS // size))
            fits.append((f"kernel_{kernel}", name, label, most, _kernel_of(loaded, kernel)))
    for key, name, label, most, fit in fits:
        rows = loaded.subset(loaded.train, min(most, len(loaded.train)), "baselines")

        def fitted(fit: Fit = fit, rows: Rows = rows, name: str = name) -> Source | KernelDensity | None:
            try:
                return fit(spread(loaded, rows.x, "train"), loaded.condition(rows))
            except ValueError as error:  # it does not go with the data
                missing.append(f"No {name}: {error}.")
                return None

        source = loaded.left_out.attempt(name, None, fitted)
        if source is None:
            continue
        notes = [source.note] if source.note else []
        if len(rows) < len(loaded.train):
            notes.append(f"fitted to {len(rows):,} of {len(loaded.train):,} rows")
        found.append(Baseline(key, name, label, source, ", ".join(notes)))
    return found, missing


def _on_manifold(loaded: LoadedRun, manifold: Manifold) -> tuple[list[Baseline], list[str]]:
    """The base distribution of a manifold, and kernel densities where these are known."""
    assert loaded.outer is not None
    chart, base = loaded.outer.bijection, ManifoldBase(manifold).double()
    kind = "wrapped normal distribution" if manifold.log_volume is None else "uniform distribution"
    found, missing = [Baseline("base", kind, kind.capitalize(), OnChart(base, chart))], []
    rows = loaded.subset(loaded.train, min(MOST, len(loaded.train)), "baselines")
    try:
        kernels = ManifoldKernels(
            manifold, chart.inverse(rows.x.double()), generator=loaded.generator("kernel")
        )
    except ValueError as error:
        missing.append(f"No kernel density: {error}.")
        return found, missing
    note = f"width {kernels.width:.2g}, left-out rows"
    kernel = "von Mises kernel density"
    return [*found, Baseline("kernel", kernel, kernel, OnChart(kernels, chart), note)], missing


def _of_text(loaded: LoadedRun) -> list[Baseline]:
    """N-grams of the stretches that the model was trained on."""
    data, grams = loaded.run.dataset, []
    assert data.stretches is not None
    seen = data.stretches.texts(data.train.x)
    for order in ORDERS:
        name = "unigram" if order == 1 else f"{order}-gram"
        source = Windows(NGrams(seen, len(loaded.schema.alphabet), order, loaded.seed), loaded.size)
        note = "" if order == 1 else "interpolated with shorter ones"
        grams.append(Baseline(f"grams_{order}", name, name.capitalize(), source, note))
    return grams


def _mixture_of(seed: int) -> Fit:
    return lambda x, condition: fit_mixture(x, condition, seed)


def _kernel_of(loaded: LoadedRun, kernel: Kernel) -> Fit:
    def fit(x: Tensor, condition: Condition | None) -> KernelDensity:
        if condition is not None and not (
            isinstance(condition, Tensor) and not condition.is_floating_point()
        ):
            raise ValueError("it takes labels, and no other condition")
        generator = loaded.generator("kernel", kernel)
        return KernelDensity(x, kernel, condition, queries=QUERIES, generator=generator)

    return fit


def usable(baselines: list[Baseline], x: Tensor, condition: Condition | None) -> dict[str, Tensor]:
    """Log-densities of rows under every baseline that has one for all of them, by key."""
    found = {}
    for baseline in baselines:
        try:
            values = baseline.log_prob(x, condition)
        except ValueError:  # a label that its training rows lack
            continue
        if bool(values.isfinite().all()):
            found[baseline.key] = values
    return found


def best_of(values: dict[str, Tensor]) -> str:
    """The key of the baseline under which rows have the highest mean log-density."""
    return max(values, key=lambda key: float(torch.as_tensor(values[key]).mean()))
