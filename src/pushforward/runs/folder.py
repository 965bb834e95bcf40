"""Reading a run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ..bijections import Bijection
from ..config import LATER, ModelConfig, OptimConfig, RunConfig, flatten
from ..contents import Data, Summary
from ..data import Schema
from ..data.mixed_condition import check_condition
from ..files import check_sum, read_json, read_tensors
from ..settings import check_settings
from ..sources import GaussianMixture, Source
from ..tensors import Condition, unpack_condition
from ..training import has_state, read_facts, read_metrics
from ..training.lock import LOCK
from ..typed import as_type
from .preprocessing import FLOATS, bijection_from_json, takes_shape
from .sources import PLAIN, source_from_json

__all__ = ["RunFolder", "planned"]


@dataclass(frozen=True)
class RunFolder:
    """An existing run folder and its contents."""

    path: Path

    def read(self, name: str, hint: Any = dict[str, Any]) -> Any:
        """A JSON file of the run, as ``hint`` says.

        Raises ValueError that says what is missing or damaged.
        """
        file = self.path / name
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: no such run folder")
        try:
            return as_type(read_json(file), hint, str(file))
        except FileNotFoundError:
            raise ValueError(f"{self.path}: not a run folder, {name} is missing") from None

    def config(self) -> RunConfig:
        """The configuration.  Raises ValueError where it is damaged, out of bounds or of a newer version."""
        file = str(self.path / "config.json")
        config = RunConfig.from_json(self.read("config.json"), file)
        keys = {key.rpartition(".")[2]: key for key in flatten(config.to_json())}
        check_settings(config, lambda name: f"{file}: {keys.get(name, name)}")
        return config

    def schema(self) -> Schema:
        """The schema of the data."""
        return as_type(self.data()["schema"], Schema, self.data_file, "schema")

    def preprocess(self) -> Bijection:
        """The map between the model's space and data units, as it was fitted.

        Raises ValueError for one of rows of another shape than the schema's.
        """
        found = bijection_from_json(self.data()["preprocess"], f"{self.data_file}: preprocess")
        shape = self.schema().event_shape
        if not takes_shape(found, shape):
            raise ValueError(f"{self.data_file}: preprocess: expected one of rows of shape {shape}")
        return found

    def dtype(self) -> torch.dtype:
        """That of the data."""
        return FLOATS[self.data().get("dtype", "float32")]

    def source(self) -> Source | None:
        """The distribution at t = 0 in the model's space, None where the model holds it."""
        return self._source("source")

    def known(self) -> GaussianMixture | None:
        """The mixture in whose closed form the field starts, None where it starts otherwise."""
        found = self._source("known")
        return found if isinstance(found, GaussianMixture) else None

    def _source(self, name: Literal["source", "known"]) -> Source | None:
        data = self.data().get(name)
        if data is None:
            return None
        file = self.path / "source.safetensors"
        # some distributions are numbers alone, and have no file
        tensors = {} if data.get("distribution", data.get("law")) in PLAIN else read_tensors(file)
        shape = self.preprocess().inverse_event_shape(self.schema().event_shape)
        found = source_from_json(data, tensors, f"{name}.", f"{self.data_file}: {name}", str(file))
        numbers = [t for key, t in tensors.items() if t.is_floating_point() and key.startswith(f"{name}.")]
        kinds = {str(each.dtype) for each in numbers}
        if len(kinds) > 1:
            raise ValueError(f"{file}: {name}: expected numbers of one dtype, got {' and '.join(kinds)}")
        if found.event_shape != shape:
            raise ValueError(
                f"{self.data_file}: {name}: expected one of rows of shape {shape}, got {found.event_shape}"
            )
        return found

    @property
    def data_file(self) -> str:
        """The name of ``data.json`` in errors."""
        return str(self.path / "data.json")

    def data(self) -> Data:
        """The contents of ``data.json``."""
        return self.read("data.json", Data)

    def summary(self, optim: OptimConfig) -> dict[str, Any]:
        """The contents of ``run.json``, empty without one, and whether training is ``finished``.

        It is where training has ended by itself and was planned as ``optim`` has it; a run that is extended
        is not finished until it has ended again.
        """
        if not (self.path / "run.json").exists():
            return {"finished": False}
        facts = self.read("run.json", Summary)
        ended = facts.get("ended") or facts.get("finished")  # the latter in older runs
        return {**facts, "finished": bool(ended) and facts.get("planned", planned(optim)) == planned(optim)}

    def identity(self, seed: int, model: ModelConfig, stage: str) -> str:
        """The data, seed and model that the checkpoint of a stage must belong to."""
        plain, kept = ModelConfig(), dataclasses.asdict(model)
        absent = {name for name in LATER if kept[name] == getattr(plain, name)}
        kept = {k: v for k, v in kept.items() if k not in {"solver", "guidance", *absent}}
        told = [self.data().get("fingerprint"), seed, kept, stage]
        return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=12).hexdigest()

    def finished(self, optim: OptimConfig) -> bool:
        """Whether training has come to the end that ``optim`` plans."""
        return self.summary(optim)["finished"]

    def is_ours(self) -> bool:
        """Whether the folder is a run: it has our lock or a configuration that can be read."""
        try:
            return "format" in read_json(self.path / LOCK)
        except (OSError, ValueError, TypeError):
            pass
        try:
            self.config()
        except ValueError:
            return False
        return True

    def check_whole(self) -> None:
        """Read what training goes on from, but for large tensors.  Raises ValueError for what is damaged."""
        for read in (self.preprocess, self.dtype, self.source, self.known, self.conditions):
            read()
        self.check_sum()
        stages = self.path / "stages"
        for place in (self.path, *(stages.iterdir() if stages.is_dir() else ())):
            if has_state(place):
                read_metrics(place, read_facts(place)["rows"])

    def check_sum(self) -> None:
        """Raise ValueError where the checksum of ``data.json`` does not fit."""
        check_sum(self.data(), self.data_file)

    def conditions(self) -> Condition | None:
        """Conditions of training rows, None for an unconditional run or where the file is missing.

        Raises ValueError for those of other columns than the schema's.
        """
        file, spec = self.path / "conditions.safetensors", self.schema().condition
        if spec is None or not file.exists():
            return None
        found = unpack_condition(read_tensors(file))
        try:
            check_condition(spec, found)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        return found


def planned(optim: OptimConfig) -> dict[str, Any]:
    """The steps or minutes that a training must reach to be finished."""
    return {"steps": optim.steps, "minutes": optim.minutes}
