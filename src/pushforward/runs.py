"""The run folder: what a training run leaves behind, and how it is read again.

``config.json`` (whole, re-runnable), ``data.json`` (the schema, the preprocessing and the source),
``source.safetensors`` (arrays of the source), ``choice.json`` and ``choice.safetensors`` (what
cross-validation chose), ``coupling.safetensors`` (what a coupling was fitted to), ``stages/`` (what earlier
stages of a run of several leave), ``metrics.jsonl``, ``model.safetensors`` and ``ema.safetensors``,
``state.safetensors`` (for resuming), ``run.json`` (how it ended), ``run.lock`` (who trains it),
``report.html``, ``report.json``, ``figures/``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import shlex
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .bijections import Bijection
from .config import ModelConfig, OptimConfig, RunConfig, changes, flatten
from .contents import Data, Number, Numbers, Summary
from .data import Dataset, Schema
from .data.condition_spec import check_condition
from .data.fingerprint import changed, digest, fingerprint, of_module
from .files import (
    check_sum,
    read_json,
    read_tensors,
    remove,
    summed,
    tidy,
    write_json,
    write_tensors,
)
from .flows import Flow
from .random import seeded
from .settings import check_settings
from .sources import Empirical, GaussianMixture, Source
from .stored import (
    FLOATS,
    bijection_from_json,
    bijection_to_json,
    source_from_json,
    source_to_json,
    takes_shape,
)
from .tensors import Condition, pack_condition, take_condition, unpack_condition
from .training import STATE, has_state, read_facts, read_metrics
from .training.lock import LOCK
from .typed import as_type, shown

__all__ = [
    "CONTENTS",
    "KEPT_CONDITIONS",
    "MAY_CHANGE",
    "REPORT",
    "RunFolder",
    "check_numbers",
    "check_out",
    "planned",
    "read_numbers",
]

#: Everything a run writes besides its lock; ``--overwrite`` removes these and nothing else.  The first is
#: written last and removed first: a folder with it is whole.
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
    STATE,
)
#: What its report writes, besides the figures that the first of them names.
REPORT_FILES = ("report.json", "report.html")

#: Entries that may change when a run goes on.
MAY_CHANGE = (
    "target",
    "compute.",
    "data.max_size",
    "optim.steps",
    "optim.minutes",
    "optim.log_every",
    "optim.checkpoint_every",
    "optim.validate_every",
)


#: What a figure of a report may be called, in ``figures/``.
FIGURE = re.compile(r"(narrow/)?[a-z0-9][a-z0-9_-]{0,60}\.png", re.ASCII)
#: Version of ``report.json``.
REPORT = 1
#: Training conditions kept for sampling.
KEPT_CONDITIONS = 10_000


@dataclass(frozen=True)
class RunFolder:
    """A folder of :data:`CONTENTS`."""

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
        """What the data are."""
        return as_type(self._data()["schema"], Schema, self._data_file, "schema")

    def preprocess(self) -> Bijection:
        """The map between the model's space and data units, as it was fitted.

        Raises ValueError for one of rows of another shape than the schema's.
        """
        found = bijection_from_json(self._data()["preprocess"], f"{self._data_file}: preprocess")
        shape = self.schema().event_shape
        if not takes_shape(found, shape):
            raise ValueError(f"{self._data_file}: preprocess: expected one of rows of shape {shape}")
        return found

    def dtype(self) -> torch.dtype:
        """That of the data."""
        return FLOATS[self._data().get("dtype", "float32")]

    def source(self) -> Source | None:
        """The distribution at t = 0 in the model's space, None where the model holds it."""
        return self._source("source")

    def known(self) -> GaussianMixture | None:
        """The mixture in whose closed form the field starts, None where it starts otherwise."""
        found = self._source("known")
        return found if isinstance(found, GaussianMixture) else None

    def _source(self, name: Literal["source", "known"]) -> Source | None:
        data = self._data().get(name)
        if data is None:
            return None
        file = self.path / "source.safetensors"
        # a normal distribution is numbers alone, and has no file
        tensors = {} if data.get("distribution", data.get("law")) == "normal" else read_tensors(file)
        shape = self.schema().event_shape
        found = source_from_json(data, tensors, f"{name}.", f"{self._data_file}: {name}", str(file))
        numbers = [t for key, t in tensors.items() if t.is_floating_point() and key.startswith(f"{name}.")]
        kinds = {str(each.dtype) for each in numbers}
        if len(kinds) > 1:
            raise ValueError(f"{file}: {name}: expected numbers of one dtype, got {' and '.join(kinds)}")
        if found.event_shape != shape:
            raise ValueError(
                f"{self._data_file}: {name}: expected one of rows of shape {shape}, got {found.event_shape}"
            )
        return found

    @property
    def _data_file(self) -> str:
        return str(self.path / "data.json")

    def _data(self) -> Data:
        return self.read("data.json", Data)

    def summary(self, optim: OptimConfig) -> dict[str, Any]:
        """What ``run.json`` says, empty where there is none, and whether training is ``finished``.

        It is where training has ended by itself and was planned as ``optim`` has it; a run that is extended
        is not finished until it has ended again.
        """
        if not (self.path / "run.json").exists():
            return {"finished": False}
        facts = self.read("run.json", Summary)
        ended = facts.get("ended") or facts.get("finished")  # the latter in older runs
        return {**facts, "finished": bool(ended) and facts.get("planned", planned(optim)) == planned(optim)}

    def identity(self, seed: int, model: ModelConfig, stage: str) -> str:
        """What the checkpoint of a stage has to be of: the same data, seed and model."""
        kept = {k: v for k, v in dataclasses.asdict(model).items() if k not in ("solver", "guidance")}
        told = [self._data().get("fingerprint"), seed, kept, stage]
        return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=12).hexdigest()

    def numbers(self) -> Numbers:
        """What the report says.  Raises ValueError where there is none or it is damaged."""
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: no such run folder")
        return read_numbers(self.path / "report.json")

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

    def clear(self) -> None:
        """Delete what the run has written, but for its lock, and what writes that were cut off have left."""
        remove(self.path / CONTENTS[0])
        self.clear_report()
        for name in CONTENTS:
            remove(self.path / name)
        self.tidy()

    def clear_report(self) -> None:
        """Delete the report and its figures."""
        self.remove_figures()
        for name in REPORT_FILES:
            remove(self.path / name)

    def remove_figures(self, keep: Container[str] = ()) -> None:
        """Delete the figures that the report says it has made, but those to ``keep``, and none by a link.

        What reports that were cut off have left goes too.
        """
        tidy(self.path, "report.")
        try:
            told = read_json(self.path / REPORT_FILES[0])
        except (OSError, ValueError):
            told = None
        names = told.get("figures") if isinstance(told, dict) else None
        figures = self.path / "figures"
        for name in names if isinstance(names, list) else ():
            if isinstance(name, str) and FIGURE.fullmatch(name) and name not in keep:
                file = figures / name
                if not any(place.is_symlink() for place in (figures, file.parent, file)) and file.is_file():
                    file.unlink()
        for folder in self.figure_folders():
            tidy(folder)
            if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
                folder.rmdir()

    def tidy(self) -> None:
        """Delete what writes that were cut off have left, in the folder and those of stages and figures."""
        stages = self.path / "stages"
        inner = stages.iterdir() if stages.is_dir() and not stages.is_symlink() else ()
        for folder in (self.path, stages, *inner, *self.figure_folders()):
            tidy(folder)

    def figure_folders(self) -> tuple[Path, Path]:
        """Where the figures of the report are, the inner folder first."""
        return self.path / "figures" / "narrow", self.path / "figures"

    def begin(
        self,
        config: RunConfig,
        dataset: Dataset,
        known: Source | None,
        source: Source | None,
        teacher: Flow | None,
    ) -> None:
        """Write what is known before training; the configuration last, which makes the folder a run.

        dataset: as it was loaded, with the preprocessing that training uses.  Some conditions of its training
        rows are kept, so that samples can be drawn under conditions as they occur in the data.
        """
        tensors: dict[str, Tensor] = {}
        named = {"source": source, "known": known}
        told = {
            name: None if distribution is None else source_to_json(distribution, tensors, f"{name}.")
            for name, distribution in named.items()
        }
        rows = dataset.train
        if tensors:
            write_tensors(self.path / "source.safetensors", tensors)
        if rows.condition is not None:
            as_they_occur = rows.thinned(seeded(config.seed, "conditions")).condition
            kept = pack_condition(take_condition(as_they_occur, slice(KEPT_CONDITIONS)))
            write_tensors(self.path / "conditions.safetensors", kept)
        data = {
            "schema": dataset.schema.to_json(),
            "preprocess": bijection_to_json(dataset.preprocess),
            **told,
            "dtype": str(rows.x.dtype).removeprefix("torch."),
            "fingerprint": fingerprint(dataset),
            **_outside(source, teacher),
        }
        write_json(self.path / "data.json", summed(data))
        write_json(self.path / "config.json", config.to_json())

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
        check_sum(self._data(), self._data_file)

    def check_data(self, dataset: Dataset, source: Source | None, teacher: Flow | None) -> None:
        """Raise ValueError, which says what, where data are not those that the run began with."""
        self.check_whole()
        data = self._data()
        old = data.get("fingerprint")
        if old is None:  # a run of an older version
            return
        told = changed(old, dataset, self.schema().to_json())
        for name, now in _outside(source, teacher).items():
            if data.get(name) != now:
                told.append(f"the {name.partition('_')[0]} is another one")
        if told:
            raise ValueError(
                f"{self.path}: the data are not those that the run began with: {'; '.join(told[:5])}"
                f"{'; ...' * (len(told) > 5)}; use another --out, or --overwrite"
            )

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


def read_numbers(file: Path) -> Numbers:
    """The numbers of a report.  Raises ValueError for one that is missing, damaged or of a newer version."""
    try:
        return check_numbers(read_json(file), str(file))
    except FileNotFoundError:
        raise ValueError(f"{file}: no such report; write it with `pushforward report`") from None


def check_numbers(data: Any, where: str) -> Numbers:
    """Plain data as the numbers of a report.  Raises ValueError, which says ``where``, for what is none."""
    found = as_type(data, Numbers, where)
    if found.get("format", 1) > REPORT:
        raise ValueError(f"{where}: written by a newer version (format {shown(found['format'])})")
    for i, line in enumerate(found["verdict"]):
        for key, value in line.items():
            if not isinstance(value, str):  # a baseline's, by its own name
                as_type(value, Number, where, f"verdict[{i}].{key}")
    return found


def planned(optim: OptimConfig) -> dict[str, Any]:
    """How long training is to last: what it has to reach to be finished."""
    return {"steps": optim.steps, "minutes": optim.minutes}


def _outside(source: Source | None, teacher: Flow | None) -> dict[str, str]:
    """Digests of what a run takes from elsewhere, besides its data: rows to start from, a teacher."""
    found = {}
    if isinstance(source, Empirical):
        found["source_digest"] = digest(source.rows)
    if teacher is not None:
        found["teacher_digest"] = of_module(teacher)
    return found


def check_out(path: Path, config: RunConfig, overwrite: bool) -> str:
    """What training into ``path`` would do: "new", "resume" or "extend"; writes nothing.

    Raises ValueError where files of somebody else or a finished run are in the way, and for a changed
    entry other than steps, devices and paths, which it names.
    """
    folder = RunFolder(path)
    if path.is_symlink() and not path.exists():
        raise ValueError(f"--out {path}: is a symbolic link that leads nowhere")
    if path.exists() and not path.is_dir():
        raise ValueError(f"--out {path}: is a file")
    if not path.exists() or not any(path.iterdir()):
        return "new"
    if not folder.is_ours():
        if overwrite:
            raise ValueError(f"--out {path}: is not a run folder, and --overwrite replaces nothing else")
        if (path / "config.json").exists():
            folder.config()  # says why it cannot be read
        raise ValueError(f"--out {path}: holds other files and is not a run folder")
    if overwrite or not (path / "config.json").exists():  # none: it was killed before it had begun
        return "new"
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
    if (path / "state").is_dir():
        raise ValueError(f"{path}: state/ is of an older version, which alone can go on; use --overwrite")
    longer = (config.optim.minutes or math.inf) > (old.optim.minutes or math.inf)
    finished = folder.finished(old.optim)
    if now > before or (finished and longer):
        return "extend"
    if finished and not (path / "report.html").exists():
        raise ValueError(
            f"{path}: trained; `pushforward report {shlex.quote(str(path))}` makes its report; "
            "to train again: --overwrite, another --out or more --steps"
        )
    if finished:
        raise ValueError(f"{path}: a finished run is there; use --overwrite, another --out or more --steps")
    return "resume"
