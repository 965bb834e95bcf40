"""One flow of a table of numbers, trained as the command line trains it, without its refusals."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from .. import registry
from ..bijections import Bijection, Blur, Chain, Whiten
from ..config import DataConfig, ModelConfig, OptimConfig, RunConfig
from ..couplings import Rows
from ..data import Dataset, Schema
from ..data.atoms import atoms
from ..flows import Flow, InvertibleFlow, Transformed
from ..recipes import train

#: Deviations by which columns with atoms are blurred where nothing else is said.
ATOM_NOISE = 0.05

#: Couplings move one part of the columns given the other; a single column takes the autoregressive kin.
ONE_COLUMN = {"nsf": "nsf-ar", "realnvp": "maf", "nice": "maf"}

#: Rows scored at once.
CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a flow is fitted; None is chosen from the table."""

    method: str = "nsf"
    options: Mapping[str, Any] | None = None
    noise: float | str | np.ndarray = 0.0
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    weight_decay: float = 0.0
    patience: int | None = None
    seed: int = field(default=0)


def resolution(noise: float | str, x: np.ndarray) -> np.ndarray:
    """The blur of each column of ``x`` in its deviations, ``(d,)``; warns of atoms.

    A number is taken as it is, ``scott`` is n^(-1/(d+4)) (Scott 1992), ``auto`` 0.05 in columns with atoms
    and 0 elsewhere.  Raises ValueError for anything else.
    """
    n, d = x.shape
    found, repeated = atoms(x)
    if isinstance(noise, str):
        if noise not in ("auto", "scott"):
            raise ValueError(f"noise: expected a number >= 0, 'auto' or 'scott', got {noise!r}")
        chosen = np.full(d, n ** (-1 / (d + 4)) if noise == "scott" else 0.0)
        if noise == "auto":
            chosen[found | repeated] = ATOM_NOISE
    else:
        if not 0 <= noise < np.inf:
            raise ValueError(f"noise: expected a number >= 0, 'auto' or 'scott', got {noise!r}")
        chosen = np.full(d, float(noise))
    if found.any() or repeated:
        what = []
        if found.any():
            names = ", ".join(str(i) for i in np.flatnonzero(found)[:5]) + ", ..." * int(found.sum() > 5)
            what.append(f"in {found.sum()} of {d} columns ({names}) one value holds over 5 % of the rows")
        if repeated:
            what.append("one row holds over 1 % of the table")
        blurred = chosen[found | repeated]
        how = "where the likelihood has no bound; say noise=0.05"
        if bool((blurred > 0).all()):
            how = f"the density is that of the data blurred by {blurred.max():.2g} deviations there"
        warnings.warn(f"{' and '.join(what)}: {how}", UserWarning, stacklevel=3)
    return chosen


def whitening(x: np.ndarray, weight: np.ndarray | None, noise: np.ndarray) -> tuple[Whiten, np.ndarray]:
    """The linear map from standard normal to the mean and covariance of the blurred rows, and the deviation
    of each column (1 where it is constant).

    The correlations are shrunk as Ledoit & Wolf 2004 do (doi 10.1016/S0047-259X(03)00096-4), so that they
    serve where rows are few.
    """
    loc = np.average(x, axis=0, weights=weight)
    scale = np.sqrt(np.average((x - loc) ** 2, axis=0, weights=weight))
    # the rounding of the mean is no deviation
    scale[scale <= 1e-12 * np.abs(x).max(0)] = 1.0
    z = (x - loc) / scale
    d = x.shape[1]
    second = (z.T if weight is None else z.T * (weight / weight.sum() * len(x))) @ z / len(x)
    share = float(ledoit_wolf_shrinkage(z)) if len(x) > 1 and d > 1 else 0.0
    second = (1 - share) * second + (share * np.trace(second) / d + 1e-6) * np.eye(d)
    second = second + np.diag(noise**2)
    return Whiten(torch.from_numpy(loc), torch.from_numpy(second * np.outer(scale, scale))), scale


def learn(
    x: np.ndarray, weight: np.ndarray | None, parts: tuple[Tensor, Tensor], settings: Settings
) -> InvertibleFlow:
    """A flow of the rows of ``x`` ``(n, d)`` in its units and float64, ready to score.

    ``parts`` are the indices of rows to train on and of rows to choose the best weights by.  Raises
    ValueError for settings that do not fit and a method whose flow has no density.
    """
    rows, held = (part.numpy() for part in parts)
    n, d = len(rows), x.shape[1]
    noise = np.broadcast_to(np.asarray(settings.noise, dtype=np.float64), (d,))
    whiten, scale = whitening(x[rows], None if weight is None else weight[rows], noise)
    preprocess: Bijection = whiten
    if noise.any():
        preprocess = Chain(whiten, Blur(torch.from_numpy(noise * scale)))

    def chosen(index: np.ndarray) -> Rows:
        return Rows(
            torch.from_numpy(x[index]),
            None,
            None,
            None if weight is None else torch.from_numpy(weight[index]),
        )

    names = tuple(f"x{i}" for i in range(d))
    schema = Schema(
        name="table", kind="table", event_shape=(d,), columns=names, rows_train=n, rows_test=len(held)
    )
    dataset = Dataset(schema, chosen(rows), chosen(held), preprocess)
    config = configuration(settings, n, d, len(held))
    threads = torch.get_num_threads()
    try:
        with TemporaryDirectory() as folder:
            run = train(config, Path(folder) / "run", target=dataset, show_progress=False)
    finally:
        torch.set_num_threads(threads)
    if not run.summary["finished"]:
        raise KeyboardInterrupt
    flow: Flow = run.flow.flow.double()
    if not isinstance(flow, InvertibleFlow):
        raise ValueError(f"method: {settings.method!r} makes a {type(flow).__name__}, which has no density")
    return Transformed(flow, whiten, torch.float64).eval()


def configuration(settings: Settings, n: int, d: int, held: int) -> RunConfig:
    """What :func:`pushforward.train` is asked for, for ``n`` rows of ``d`` columns."""
    name, comma, rest = settings.method.partition(",")
    if d == 1 and name in ONE_COLUMN:
        name = ONE_COLUMN[name]
    method = registry.lookup("method", name)
    likelihood = method.objective == "maximum-likelihood"
    values = dict(method.defaults)
    if likelihood:
        values["flow"] = name + comma + rest
    elif rest:
        raise ValueError(
            f"method: only normalizing flows take options in their name, got {settings.method!r}; "
            "see the argument options"
        )
    try:
        model = ModelConfig(method=name, **{**values, **(settings.options or {})})
    except TypeError as error:
        raise ValueError(f"options: {error}") from None
    # what there is to learn grows with the rows, but slower than they do; a regression on noisy targets
    # takes more steps than a likelihood
    steps = settings.steps or int(np.clip(20 * n**0.5 * (1 if likelihood else 4), 100, 8000))
    optim = OptimConfig(
        steps=steps,
        batch=settings.batch_size or min(n, 256),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        patience=(settings.patience or 0) if held else 0,
        validate_every=max(1, steps // 25),
        log_every=max(25, steps // 10),
        checkpoint_every=steps,
    )
    return RunConfig(
        target="table", seed=settings.seed, data=DataConfig(holdout=0.0), model=model, optim=optim
    )


def by_chunks(function: Any, x: np.ndarray) -> np.ndarray:
    """``function`` of tensors applied to the rows of ``x``, many at a time."""
    if len(x) == 0:
        return np.empty(0)
    with torch.inference_mode():
        parts = [function(torch.from_numpy(x[i : i + CHUNK])) for i in range(0, len(x), CHUNK)]
        return torch.cat(parts).numpy().astype(np.float64)
