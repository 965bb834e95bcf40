"""The run folder: what a training run leaves behind, and how it is read again.

``config.json`` (whole, re-runnable), ``data.json`` (the schema, the preprocessing and the source),
``source.safetensors`` (rows of a source that is data), ``coupling.safetensors`` (what a coupling was fitted
to), ``stages/`` (what earlier stages of a run of several leave), ``metrics.jsonl``, ``model.safetensors``
and ``ema.safetensors``, ``state/`` (for resuming), ``run.json`` (how it ended), ``report.html``,
``report.json``, ``figures/``.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .bijections import Affine, Bijection, Blur, Chain, Dequantise, PiecewiseLinear, Sigmoid, Whiten
from .config import RunConfig, changes
from .couplings import Rows
from .data import Schema
from .random import seeded
from .sources import Empirical, Normal, Source
from .tensors import Condition, pack_condition, take_condition, unpack_condition
from .training import write_json

#: Everything a run writes; ``--overwrite`` removes these and nothing else.
CONTENTS = (
    "config.json",
    "data.json",
    "run.json",
    "conditions.safetensors",
    "source.safetensors",
    "coupling.safetensors",
    "stages",
    "metrics.jsonl",
    "model.safetensors",
    "ema.safetensors",
    "state",
    "state.old",
    "state.tmp",
    "report.html",
    "report.json",
    "figures",
)

#: Entries that may change when a run goes on.
MAY_CHANGE = (
    "target",
    "compute.",
    "optim.steps",
    "optim.log_every",
    "optim.checkpoint_every",
    "optim.validate_every",
)


#: Training conditions kept for sampling.
KEPT_CONDITIONS = 10_000


@dataclass(frozen=True)
class RunFolder:
    """A folder of :data:`CONTENTS`."""

    path: Path

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run.  Raises ValueError that says what is missing or damaged."""
        file = self.path / name
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: no such run folder")
        try:
            data = json.loads(file.read_text())
        except FileNotFoundError:
            raise ValueError(f"{self.path}: not a run folder, {name} is missing") from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{file}: damaged ({error})") from None
        if not isinstance(data, dict):
            raise ValueError(f"{file}: damaged (expected an object)")
        return data

    def config(self) -> RunConfig:
        """The configuration.  Raises ValueError where it is damaged or of a newer version."""
        try:
            return RunConfig.from_json(self.read("config.json"))
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def schema(self) -> Schema:
        """What the data are."""
        return self._data()[0]

    def preprocess(self) -> Bijection:
        """The map between the model's space and data units, as it was fitted."""
        return self._data()[1]

    def source(self) -> Source | None:
        """The law at t = 0 in the model's space, None where the model holds it."""
        data = self.read("data.json").get("source")
        if data is None:
            return None
        if not isinstance(data, dict):
            raise ValueError(f"{self.path / 'data.json'}: damaged (no source)")
        dtype = getattr(torch, str(data.get("dtype", "float32")))
        if data.get("law") == "rows":
            try:
                rows = load_file(self.path / "source.safetensors")["rows"]
            except (OSError, KeyError, SafetensorError) as error:
                raise ValueError(
                    f"{self.path / 'source.safetensors'}: missing or damaged ({error})"
                ) from None
            return Empirical(rows.to(dtype), float(data.get("noise", 0.0)))
        return Normal(data["event_shape"], data["scale"], data["loc"]).to(dtype)

    def _data(self) -> tuple[Schema, Bijection]:
        data = self.read("data.json")
        try:
            return Schema.from_json(data["schema"]), bijection_from_json(data["preprocess"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path / 'data.json'}: damaged ({error!r})") from None

    def finished(self) -> bool:
        """Whether training came to its end."""
        return (self.path / "run.json").exists() and bool(self.read("run.json").get("finished"))

    def remove(self) -> None:
        """Delete the run's files, and the folder if nothing else is in it."""
        for name in CONTENTS:
            target = self.path / name
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def begin(
        self, config: RunConfig, schema: Schema, preprocess: Bijection, source: Source | None, rows: Rows
    ) -> None:
        """Create the folder and write what is known before training.

        Some conditions of the training ``rows`` are kept, so that samples can be drawn under conditions
        as they occur in the data.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "config.json", config.to_json())
        write_json(
            self.path / "data.json",
            {
                "schema": schema.to_json(),
                "preprocess": bijection_to_json(preprocess),
                "source": None if source is None else source_to_json(source),
                "dtype": str(rows.x.dtype).removeprefix("torch."),
            },
        )
        if isinstance(source, Empirical):
            save_file({"rows": source.rows.contiguous()}, self.path / "source.safetensors")
        if rows.condition is not None:
            as_they_occur = rows.thinned(seeded(config.seed, "conditions")).condition
            kept = pack_condition(take_condition(as_they_occur, slice(KEPT_CONDITIONS)))
            save_file(kept, self.path / "conditions.safetensors")

    def conditions(self) -> Condition | None:
        """Conditions of training rows, None for an unconditional run."""
        file = self.path / "conditions.safetensors"
        return unpack_condition(load_file(file)) if file.exists() else None


def check_out(path: Path, config: RunConfig, overwrite: bool) -> str:
    """What training into ``path`` would do: "new", "resume" or "extend"; writes nothing.

    Raises ValueError where files of somebody else or a finished run are in the way, and for a changed
    entry other than steps, devices and paths, which it names.
    """
    folder = RunFolder(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"--out {path}: is a file")
    if overwrite or not path.exists() or not any(path.iterdir()):
        return "new"
    if not (path / "config.json").exists():
        raise ValueError(f"--out {path}: holds other files and is not a run folder")
    old = folder.config()
    differences = changes(old, config)
    for name, (before, now) in differences.items():
        if not name.startswith(MAY_CHANGE):
            raise ValueError(
                f"{path}: {name} was {before!r} and is now {now!r}; a run goes on only with the same values "
                "(use another --out, or --overwrite)"
            )
    before, now = old.optim.steps or 0, config.optim.steps or 0
    if now < before:
        raise ValueError(f"{path}: --steps was {before} and is now {now}; a run cannot be shortened")
    if now > before:
        return "extend"
    if folder.finished():
        raise ValueError(f"{path}: a finished run is there; use --overwrite, another --out or more --steps")
    return "resume"


# -- sources and preprocessing as JSON --------------------------------------------------------------


def source_to_json(source: Source) -> dict[str, Any]:
    """A source as plain data, but for the rows of an :class:`Empirical` one.

    Raises ValueError for a class that a run cannot store.
    """
    if isinstance(source, Empirical):
        dtype = str(source.rows.dtype).removeprefix("torch.")
        return {"law": "rows", "noise": source.noise, "dtype": dtype}
    if not isinstance(source, Normal):
        raise ValueError(f"a {type(source).__name__} is no source that a run can store")
    return {
        "law": "normal",
        "event_shape": list(source.event_shape),
        "loc": float(source.loc),
        "scale": float(source.scale),
        "dtype": str(source.loc.dtype).removeprefix("torch."),
    }


#: Preprocessing that a run can store, by what its constructor takes: tensors, or plain numbers.
_TENSORS = {
    Affine: ("loc", "scale"),
    Whiten: ("loc", "covariance"),
    Blur: ("scale",),
    PiecewiseLinear: ("x", "y"),
}
_OPTIONS = {Sigmoid: ("low", "high", "margin"), Dequantise: ("low", "high", "step")}


def bijection_to_json(bijection: Bijection) -> dict[str, Any]:
    """A preprocessing chain as plain data.  Raises ValueError for a class that is not preprocessing."""
    if isinstance(bijection, Chain):
        return {"class": "Chain", "links": [bijection_to_json(link) for link in bijection.links]}
    for cls, names in _TENSORS.items():
        if isinstance(bijection, cls):
            numbers = {name: getattr(bijection, name) for name in names}
            dtype = str(numbers[names[0]].dtype).removeprefix("torch.")
            return {"class": cls.__name__, "dtype": dtype, **{k: v.tolist() for k, v in numbers.items()}}
    for cls, options in _OPTIONS.items():
        if isinstance(bijection, cls):
            return {"class": cls.__name__, **{name: getattr(bijection, name) for name in options}}
    raise ValueError(f"a {type(bijection).__name__} is no preprocessing that a run can store")


def bijection_from_json(data: dict[str, Any]) -> Bijection:
    """The inverse of :func:`bijection_to_json`."""
    name, options = data["class"], {key: value for key, value in data.items() if key != "class"}
    if name == "Chain":
        return Chain(*(bijection_from_json(link) for link in options["links"]))
    for cls, names in _TENSORS.items():
        if name == cls.__name__:
            dtype = getattr(torch, options["dtype"])
            return cls(*(torch.tensor(options[key], dtype=dtype) for key in names))
    known = {cls.__name__: cls for cls in _OPTIONS}
    if name not in known:
        raise ValueError(f"unknown preprocessing {name!r}")
    return known[name](**options)
