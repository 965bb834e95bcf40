"""What a verdict rests on: samples, densities and draws of baselines, and how near they come to data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .baselines import Baseline, fit_baselines
from .densities import Densities, evaluate, is_exact
from .loaded_run import LoadedRun
from .mass import Mass, measure_mass
from .memorisation import Memorisation, measure_memorisation


@dataclass(frozen=True)
class Evidence:
    """Everything that was drawn and measured of a run before it is judged.

    names: of the baselines, by key.  missing: a sentence for every baseline that could not be fitted.
    clouds: rows ``(n, *event)`` of the model and of its baselines, by key; empty where the model gave
    no samples.  kernels: how many draws of kernel densities come near to training rows, and of how many, for
    a flow that started from such.  memorisation, mass: None where they were not measured.
    """

    names: dict[str, str]
    missing: list[str]
    densities: Densities
    clouds: dict[str, Tensor]
    memorisation: Memorisation | None = None
    kernels: tuple[int, int] | None = None
    mass: Mass | None = None

    @property
    def best(self) -> str:
        """The key of the baseline under which held-out rows are likeliest, or nothing."""
        return self.densities.best.key if self.densities.best else ""

    @property
    def drawn(self) -> list[str]:
        """The keys of the baselines that were drawn from."""
        return [key for key in self.clouds if key in self.names]


def gather(loaded: LoadedRun) -> Evidence:
    """Draw and measure; what fails is left out, see :meth:`LeftOut.attempt`."""
    attempt = loaded.left_out.attempt
    baselines, missing = fit_baselines(loaded)
    name = "exact density" if is_exact(loaded) else "density"
    densities = attempt(name, None, evaluate, loaded, baselines)
    densities = densities or Densities([], baselines[0] if baselines else None, {})
    clouds = attempt("samples", {}, lambda: {"model": loaded.drawn.x})
    near = kernels = mass = None
    if clouds:
        for baseline in drawn_from(baselines, densities.best):
            clouds |= attempt(f"draws of the {baseline.name}", {}, _drawn, loaded, baseline)
        if loaded.look != "text":  # whose nearest rows are shown beside samples
            near = attempt("nearest training rows", None, measure_memorisation, loaded, clouds)
        if near is not None:
            kernels = attempt("nearness of kernels", None, _kernels, loaded, baselines, near)
    if densities.table and not densities.bound:
        mass = attempt("mass of the density", None, measure_mass, loaded, baselines)
    if clouds and loaded.labelled and loaded.look == "image":
        clouds |= attempt("class means", {}, lambda: {"means": class_means(loaded)})
    names = {baseline.key: baseline.name for baseline in baselines}
    return Evidence(names, missing, densities, clouds, near, kernels, mass)


def _drawn(loaded: LoadedRun, baseline: Baseline) -> dict[str, Tensor]:
    return {baseline.key: baseline.draw(loaded)}


def drawn_from(baselines: list[Baseline], best: Baseline | None) -> list[Baseline]:
    """The best baseline, and the Gaussian."""
    gaussian = [b for b in baselines if b.key == "gaussian" and b is not best]
    return gaussian if best is None else [best, *gaussian]


def _kernels(loaded: LoadedRun, baselines: list[Baseline], near: Memorisation) -> tuple[int, int] | None:
    """How near draws of kernel densities come to training rows, where the flow started from such."""
    if "kernels" not in str(loaded.run.summary.get("start") or ""):
        return None
    found = [near.near_of(loaded, b.draw(loaded)) for b in baselines if b.key.startswith("kernel")]
    return max(found, key=lambda counts: counts[0] / counts[1], default=None)


def class_means(loaded: LoadedRun) -> Tensor:
    """For every sample the mean training image of the label that was asked for."""
    have, want = loaded.labels(loaded.train), loaded.sampled_labels
    assert have is not None and want is not None
    labels = want.unique()
    means = torch.stack([loaded.train.x[have == label].double().mean(0) for label in labels])
    return means[torch.searchsorted(labels, want)]
