"""The four two-dimensional systems of Tong et al. (arXiv 2307.03672, table 2), and how results are judged.

Written from the papers' descriptions.  A single W2 is mostly the luck of the draw: scikit-learn's moons are
stratified and the numbers of points per mode fluctuate.  So figures are divided by a floor F, the mean
over 10 bootstrap resamples of a seed's training targets of W2(resample, test targets).
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import make_moons, make_s_curve
from torch import Tensor

from pushforward.metrics import wasserstein
from pushforward.random import seeded

SYSTEMS = ("N-8g", "moons-8g", "N-moons", "N-scurve")
SIZE, RESAMPLES, DRAWS = 10_000, 10, 5

#: W2 and normalised path energy as published in 2307.03672, table 2.
PUBLISHED = {
    "fm": {"N-8g": (0.343, 0.190), "N-moons": (0.209, 0.762), "N-scurve": (0.198, 0.743)},
    "i-cfm": {
        "N-8g": (0.373, 0.202),
        "moons-8g": (1.557, 2.680),
        "N-moons": (0.178, 0.891),
        "N-scurve": (0.242, 0.856),
    },
    "ot-cfm": {
        "N-8g": (0.303, 0.031),
        "moons-8g": (0.601, 0.015),
        "N-moons": (0.130, 0.083),
        "N-scurve": (0.144, 0.027),
    },
    "sb-cfm": {"N-8g": (2.314, 1.000), "N-moons": (0.434, 0.995), "N-scurve": (0.341, 0.745)},
    "sf2m": {
        "N-8g": (0.275, 0.016),
        "moons-8g": (0.726, 0.045),
        "N-moons": (0.124, 0.053),
        "N-scurve": (0.128, 0.034),
    },
    "rectified-flow": {
        "N-8g": (0.421, 0.044),
        "moons-8g": (1.525, 0.203),
        "N-moons": (0.283, 0.130),
        "N-scurve": (0.345, 0.099),
    },
}


def ring(n: int, radius: float, deviation: float, generator: torch.Generator) -> Tensor:
    """Eight normal distributions on a circle, components drawn at random."""
    angle = torch.randint(8, (n,), generator=generator) * (math.pi / 4)
    centre = radius * torch.stack([angle.cos(), angle.sin()], 1)
    return centre + deviation * torch.randn(n, 2, generator=generator)


def source(system: str, n: int, seed: int) -> Tensor:
    """``n`` points of the distribution at t = 0."""
    if system.startswith("N-"):
        return torch.randn(n, 2, generator=seeded("2-D source", seed))
    x = torch.tensor(make_moons(n, noise=0.1, random_state=seed)[0], dtype=torch.float32)
    return 7 * (x - x.mean()) / x.std()


def target(system: str, n: int, seed: int) -> Tensor:
    """``n`` points of the distribution at t = 1."""
    generator = seeded("2-D target", seed)
    if system == "N-8g":
        return ring(n, 5.0, 1.0, generator)
    if system == "moons-8g":
        return ring(n, 12.0, 1.5, generator)
    if system == "N-moons":
        x = 2 * torch.tensor(make_moons(n, noise=0.05, random_state=seed)[0], dtype=torch.float32)
        return x - torch.tensor([1.0, 0.0])
    if system == "N-scurve":
        x = make_s_curve(n, noise=0.05, random_state=seed)[0][:, [0, 2]]
        return 1.5 * torch.tensor(x, dtype=torch.float32)
    raise ValueError(f"system: expected one of {', '.join(SYSTEMS)}, got {system!r}")


def data(system: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Training source, training targets and test targets of a seed."""
    return (
        source(system, SIZE, seed),
        target(system, SIZE, seed),
        target(system, SIZE, seed + 4200),
    )


def files(system: str, seed: int, folder: Path) -> tuple[str, str]:
    """Training targets as a file in ``folder``, and what stands for the source: "normal" or a file."""
    x0, x1, _ = data(system, seed)
    np.save(folder / "target.npy", x1.numpy())
    if system.startswith("N-"):
        return str(folder / "target.npy"), "normal"
    np.save(folder / "source.npy", x0.numpy())
    return str(folder / "target.npy"), str(folder / "source.npy")


def fresh_sources(system: str, seed: int) -> list[Tensor]:
    """The draws of the source that a model is judged on."""
    return [source(system, SIZE, 1_000_000 + 10 * seed + k) for k in range(DRAWS)]


def floor(system: str, seed: int, cache: Path) -> dict[str, float]:
    """Floors of a seed, kept in ``cache``, as they take a while.

    F; W2_squared, the mean of W2^2(source draw, test); NPE, how far that of training targets is from it.
    """
    known = json.loads(cache.read_text()) if cache.exists() else {}
    key = f"{system}, seed {seed}"
    _, train, test = data(system, seed)
    if key not in known:
        picks = seeded("bootstrap", seed)
        resamples = [train[torch.randint(SIZE, (SIZE,), generator=picks)] for _ in range(RESAMPLES)]
        ratio = sum(wasserstein(x, test) for x in resamples) / RESAMPLES
        costs = [wasserstein(x0, test) ** 2 for x0 in fresh_sources(system, seed)]
        known = json.loads(cache.read_text()) if cache.exists() else {}
        known[key] = {"F": ratio, "W2_squared": sum(costs) / DRAWS}
        cache.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    if "NPE" not in known[key]:
        draws = fresh_sources(system, seed)[:2]
        costs = [[wasserstein(x0, x1) ** 2 for x0 in draws] for x1 in (train, test)]
        known = json.loads(cache.read_text())
        known[key]["NPE"] = abs(sum(costs[0]) / sum(costs[1]) - 1)
        cache.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return known[key]
