"""The run folder: what a training run leaves behind, and how it is read again.

``config.json`` (whole, re-runnable), ``data.json`` (the schema, the preprocessing and the source),
``source.safetensors`` (arrays of the source), ``choice.json`` and ``choice.safetensors`` (what
cross-validation chose),
``coupling.safetensors`` (what a coupling was fitted to), ``stages/`` (what earlier stages of a run of several
leave), ``metrics.jsonl``, ``model.safetensors`` and ``ema.safetensors``, ``state/`` (for resuming),
``run.json`` (how it ended), ``report.html``, ``report.json``, ``figures/``.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .bijections import Bijection
from .config import RunConfig, changes
from .couplings import Rows
from .data import Schema
from .random import seeded
from .sources import GaussianMixture, Source
from .stored import bijection_from_json, bijection_to_json, source_from_json, source_to_json
from .tensors import Condition, pack_condition, take_condition, unpack_condition
from .training import write_json

__all__ = [
    "CONTENTS",
    "KEPT_CONDITIONS",
    "MAY_CHANGE",
    "RunFolder",
    "check_out",
]

#: Everything a run writes; ``--overwrite`` removes these and nothing else.
CONTENTS = (
    "config.json",
    "data.json",
    "run.json",
    "conditions.safetensors",
    "source.safetensors",
    "coupling.safetensors",
    "choice.json",
    "choice.safetensors",
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
    "optim.minutes",
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
        data = self.read("config.json")
        try:
            return RunConfig.from_json(data)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def schema(self) -> Schema:
        """What the data are."""
        return self._data()[0]

    def preprocess(self) -> Bijection:
        """The map between the model's space and data units, as it was fitted."""
        return self._data()[1]

    def source(self) -> Source | None:
        """The distribution at t = 0 in the model's space, None where the model holds it."""
        return self._source("source")

    def known(self) -> GaussianMixture | None:
        """The mixture in whose closed form the field starts, None where it starts otherwise."""
        found = self._source("known")
        return found if isinstance(found, GaussianMixture) else None

    def _source(self, name: str) -> Source | None:
        data = self.read("data.json").get(name)
        if data is None:
            return None
        file = self.path / "source.safetensors"
        try:
            tensors = load_file(file) if file.exists() else {}
            return source_from_json(data, tensors, f"{name}.")
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(f"{file}: missing or damaged ({error})") from None

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
        self,
        config: RunConfig,
        schema: Schema,
        preprocess: Bijection,
        source: Source | None,
        known: Source | None,
        rows: Rows,
    ) -> None:
        """Create the folder and write what is known before training.

        Some conditions of the training ``rows`` are kept, so that samples can be drawn under conditions
        as they occur in the data.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "config.json", config.to_json())
        tensors: dict[str, Tensor] = {}
        named = {"source": source, "known": known}
        told = {
            name: None if law is None else source_to_json(law, tensors, f"{name}.")
            for name, law in named.items()
        }
        write_json(
            self.path / "data.json",
            {
                "schema": schema.to_json(),
                "preprocess": bijection_to_json(preprocess),
                **told,
                "dtype": str(rows.x.dtype).removeprefix("torch."),
            },
        )
        if tensors:
            save_file(tensors, self.path / "source.safetensors")
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
    longer = (config.optim.minutes or math.inf) > (old.optim.minutes or math.inf)
    if now > before or (folder.finished() and longer):
        return "extend"
    if folder.finished():
        raise ValueError(f"{path}: a finished run is there; use --overwrite, another --out or more --steps")
    return "resume"
