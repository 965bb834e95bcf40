"""The configuration of a training run: dataclasses that are the flags and ``config.json``.

Needs no torch.  ``None`` means that the method and the data choose the value, see
:func:`pushforward.recipes.resolve`; a run stores the chosen value.  A value that is not None was given.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .entries import METHODS
from .typed import as_told, as_type, shown

__all__ = [
    "ComputeConfig",
    "DataConfig",
    "FORMAT",
    "LATER",
    "ModelConfig",
    "OptimConfig",
    "PARTS",
    "RunConfig",
    "changes",
    "default_out",
    "flatten",
]

#: Version of the run folder; a run of a newer one is refused.
FORMAT = 1
#: Settings that runs of older versions do not have: at their defaults a run is what it was without them.
LATER = (
    "around",
    "divergence",
    "train_solver",
    "gradient",
    "kinetic",
    "jacobian",
    "blocks",
    "horizon",
    "growth",
    "latent",
    "beta",
    "encoder",
    "prior",
    "loss",
    "two_sided",
    "head",
    "volume",
    "curvature",
    "tokens",
)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data."""

    source: str | None = None
    """Distribution at t = 0: `normal`, `baseline` (fitted to the training rows, the default of small tables),
    or other data, as a built-in name or a path."""
    condition: tuple[str, ...] = ()
    """Columns that become the condition instead of data (`label` for built-in data that have labels)."""
    condition_kind: Literal["auto", "labels", "continuous"] = "auto"
    """Their kind; auto: text and few integers are labels, other numbers continuous."""
    columns: tuple[str, ...] = ()
    """Columns that are data; default: all."""
    exclude: tuple[str, ...] = ()
    """Columns to leave out, such as names, dates and identifiers."""
    sample_weight: str | None = None
    """Column of non-negative weights of the rows; it is then no part of the data."""
    holdout: float = 0.2
    """Share of rows held out for the report; training does not use them."""
    validation: float | None = None
    """Share of the training rows that choose the weights instead of being trained on; 0 with `--folds`."""
    space: str | None = None
    """Manifold of which rows are points, with options: `sphere`, `sphere,lat=0,lon=1` (places in degrees),
    `torus` or `torus,unit=degrees` (angles), `simplex`, ...; the method is then `rfm`."""
    deduplicate: bool = False
    """Drop exact repeats before splitting."""
    preprocess: Literal["auto", "whiten", "standardise", "logit", "histogram", "tokens", "none"] = "auto"
    """Map between data units and the space of the model; densities stay in data units."""
    noise: str = "auto"
    """Normal noise added to a table's training rows, in deviations of each column: a number, `scott`
    (n^(-1/(d+4))), or `auto`: a little in columns where one value is repeated."""
    rows: int | None = None
    """Rows to draw, for built-in toy data."""
    resize: int | None = None
    """Pixels that the shorter side of images of a folder is scaled to; the central square is kept."""
    window: int | None = None
    """Characters of a window of a text, 64 by default."""
    max_size: float = 2.0
    """Gigabytes of memory that the numbers of one file, or of a folder of images, may take."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model."""

    method: str = "fm"
    """Method, see `pushforward methods`; it sets the defaults of other flags."""
    flow: str | None = None
    """Normalizing flow of maximum-likelihood methods, with options: `nsf,layers=8,bins=8`."""
    base: str | None = None
    """Source of a normalizing flow with learnt parameters: `student-t`, `mixture,components=8`, ...; default:
    `normal`, which has none."""
    network: str | None = None
    """`mlp`, `resmlp`, `unet`, with options: `mlp,width=128,depth=4`."""
    coupling: str | None = None
    """How source and data are paired: `independent`, `ot`, `sinkhorn`, `c2ot`, `semidiscrete`, ..."""
    plan: int | None = None
    """Rows of each transport plan, made ahead in the background; 2,048 or one batch if that is more."""
    reuse: int | None = None
    """How often a planned pair is used, each time with a new time and new noise."""
    path: str | None = None
    """Schedule of the path from source to data: `linear`, `vp`, `ve`, `trig`, ..."""
    gamma: str | None = None
    """Noise added along the path: a number, or `brownian,sigma=0.5`, ..."""
    times: str | None = None
    """Distribution of training times: `uniform`, `late,power=2`, `logit-normal`, `u-shaped`."""
    weighting: str = "uniform"
    """Weight of the loss by time: `uniform`, `min-snr`, `power,early=1`, ..."""
    prediction: Literal["velocity", "data", "noise", "score", "v"] | None = None
    """The prediction of the network."""
    around: Literal["normal", "none"] | None = None
    """What the network learns the difference to: the prediction for `normal` data, the default where noise or
    a score is predicted, whose errors would carry far points off; or `none`."""
    reflow: int | None = None
    """Rounds of reflow after training: straighten by retraining on the flow's own pairs."""
    distil: bool = False
    """Distil the trained flow into a map of one step at the end."""
    teacher: str | None = None
    """Run folder of a trained flow that reflow starts from, instead of training one."""
    pairs: int | None = None
    """Pairs drawn from the teacher in each round of reflow."""
    solver: str = "dopri5"
    """Solver for sampling and densities, with options: `heun,steps=20`, `dopri5,rtol=1e-6`."""
    divergence: str | None = None
    """Divergence of the field of a continuous flow, for its density: `exact`, or estimated by
    `hutchinson,probes=4` or `hutchpp`."""
    train_solver: str | None = None
    """Solver that a continuous flow is trained with by its likelihood, `dopri5,rtol=1e-3,atol=1e-3`."""
    gradient: Literal["backprop", "checkpoint", "adjoint"] = "backprop"
    """Gradients through this solver: backpropagation, the same with states recomputed, or by the adjoint
    equation, in memory that does not grow with the steps."""
    kinetic: float = 0.0
    """Weight of the kinetic energy of its paths in training, which makes them straight and quick to solve."""
    jacobian: float = 0.0
    """Weight of the squared Jacobian of its field in training; needs `--divergence hutchinson`."""
    blocks: int | None = None
    """Blocks of a flow that is trained block by block, `jko-iflow`; each is a step of a gradient flow."""
    horizon: float | None = None
    """Time of this gradient flow, the sum of the sizes of its steps."""
    growth: float | None = None
    """Size of each of these steps over that of the one before."""
    latent: int | None = None
    """Numbers of the latent that tells crossing paths apart, `vrf`: as many as a row has by default, at most
    16."""
    beta: float | None = None
    """Weight of the KL divergence between what is encoded and what is drawn; a large one switches the latent
    off."""
    encoder: Literal["data", "path"] | None = None
    """What it is encoded from in training: the `data` point, or the whole `path`, which bends the
    distribution of the samples."""
    prior: int | None = None
    """Components of the learnt mixture that it is drawn from; 0 for N(0, I), from which samples are further
    from the data."""
    loss: str | None = None
    """Loss of a flow map, with options: `lagrangian,diagonal=0.5`, `semigroup,between=uniform`, ...; of `dfm`
    `elbo`, the default, or `cross-entropy`."""
    two_sided: bool = False
    """Train a flow map from the data to the source too."""
    head: bool = False
    """Train a head for the log-determinants of a flow map, and the map in both directions: densities and
    samples in 8 evaluations."""
    volume: float = 0.0
    """Weight of the squared log-determinants of a flow map's leaps in training, for one that keeps volumes;
    takes a derivative for each number of a row."""
    curvature: float = 0.0
    """Weight of the squared accelerations along a flow map's trajectories in training, which straightens
    them."""
    tokens: str | None = None
    """Path of tokens, for `dfm`: from a mask, `masked`; from noise, `uniform`; or nearer by a distance,
    `metric,scale=60`."""
    guidance: float | str = 1.0
    """Guidance when sampling: the weight of classifier-free guidance, of which 1 is none, or with options:
    `classifier-free,weight=2,interval=(0.2,0.8)`, `zero-star,weight=2`.  A flow map learns it, and
    takes the weight as an input where it is a range such as `1:4`: `sample --guidance 2` chooses."""
    drop_condition: float = 0.1
    """Share of training rows whose condition is hidden, which guidance needs."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimisation."""

    steps: int | None = None
    """Most optimiser steps; validation may keep the weights of an earlier step."""
    minutes: float | None = None
    """Minutes that the run may take, from its start to its report; training ends in time, with the learning
    rate decayed.  The result then depends on the speed of the machine."""
    batch: int | None = None
    """Rows per step, over all devices."""
    lr: float | None = None
    """Peak learning rate of AdamW; linear warm-up, then cosine decay to 0."""
    warmup: int = 200
    """Steps of warm-up."""
    weight_decay: float | None = None
    """Decoupled weight decay."""
    clip: float = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    ema: float | None = None
    """Decay of the moving average of the weights that sampling uses; 0 switches it off."""
    jitter: float | None = None
    """Deviation of normal noise added to training rows in the space of the model, against overfitting."""
    patience: int | None = None
    """Stop after this many validations without an improvement, and keep the best weights; 0: neither."""
    folds: int | None = None
    """Cross-validation folds that choose the number of steps for the training on all training rows; 0 for
    none.  Default: 5 for small tables."""
    validate_every: int | None = None
    """Steps between validations."""
    log_every: int = 25
    """Steps between rows of `metrics.jsonl`."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Devices and precision.  These may change when a run is resumed."""

    device: str = "auto"
    """Device: `auto` (a CUDA device if there is one, else the CPU), `cpu`, `cuda`, `mps`."""
    devices: int = 1
    """Processes on this machine, one per device."""
    nodes: int = 1
    """Machines."""
    strategy: str = "auto"
    """How several processes share the work: `auto`, `ddp`, `fsdp`."""
    precision: str = "32-true"
    """`32-true`, `bf16-mixed`, `16-mixed`, `64-true`."""
    threads: int | None = None
    """CPU threads; small networks are fastest with one, the default for tables."""
    compile: bool = False
    """Compile the network with torch.compile."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run: `config.json`."""

    target: str
    """Built-in name, or a path: CSV, Parquet, npy, npz, txt, folder of images."""
    seed: int = 0
    """Seed of every draw."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    objective: str | None = None
    """The class of an objective that was given in Python, `<MyObjective>`; None for the method's."""

    def __post_init__(self) -> None:
        method = METHODS.get(self.model.method)
        if self.data.space is not None and method is not None and method.on_spaces:
            object.__setattr__(self, "model", dataclasses.replace(self.model, method=method.on_spaces))

    @classmethod
    def of(cls, target: str, **settings: Any) -> RunConfig:
        """A configuration from flat settings, named as on the command line.

        Raises ValueError for an unknown name, with the nearest known one.

        >>> RunConfig.of("moons", method="ot-cfm", steps=100).model.method
        'ot-cfm'
        """
        parts: dict[str, dict[str, Any]] = {}
        where = {f.name: name for name, part in PARTS.items() for f in dataclasses.fields(part)}
        for name, value in settings.items():
            if name == "seed":
                continue
            if name not in where:
                known = [*where, "seed"]
                near = difflib.get_close_matches(name, known, 1, 0.5)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
                raise ValueError(f"unknown setting {name!r}{hint}")
            parts.setdefault(where[name], {})[name] = as_told(PARTS[where[name]], name, value)
        built = {name: PARTS[name](**values) for name, values in parts.items()}
        return cls(target=target, seed=settings.get("seed", 0), **built)

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of :meth:`from_json`."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any], where: str = "config") -> RunConfig:
        """Rebuild from :meth:`to_json`.

        Raises ValueError, which says ``where`` the data stand and which entry it is, for unknown, missing or
        newer content and values of another type.
        """
        version = as_type(data, dict[str, Any], where).get("format")
        data = {key: value for key, value in data.items() if key != "format"}
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise ValueError(f"{where}: format: expected the number of a version, got {shown(version)}")
        if version > FORMAT:
            raise ValueError(
                f"{where}: written by a newer version (format {shown(version)}, this one reads {FORMAT})"
            )
        compute = data.get("compute")
        if isinstance(compute, dict) and "accelerator" in compute:  # what older runs call the device
            rest = {key: value for key, value in compute.items() if key != "accelerator"}
            kind = compute["accelerator"]
            data["compute"] = {"device": "cuda" if kind == "gpu" else kind, **rest}
        return as_type(data, cls, where)


#: The groups of settings by their names in :class:`RunConfig`.
PARTS: dict[str, Any] = {
    "data": DataConfig,
    "model": ModelConfig,
    "optim": OptimConfig,
    "compute": ComputeConfig,
}


def changes(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Entries that differ, ``{"optim.lr": (old, new)}``."""
    a, b = flatten(old.to_json()), flatten(new.to_json())
    return {key: (a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)}


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested entries under dotted names: ``{"optim": {"lr": 1}}`` becomes ``{"optim.lr": 1}``."""
    rows: dict[str, Any] = {}
    for key, value in data.items():
        rows |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return rows


def default_out(target: str, method: str) -> Path:
    """The default run folder, ``runs/<data>-<method>``."""
    return Path("runs") / f"{Path(target.split(':')[0]).stem or 'data'}-{method}"
