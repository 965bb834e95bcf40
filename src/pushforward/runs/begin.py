"""The files that a run begins with, and the check that later data are the same."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..config import RunConfig
from ..data import Dataset
from ..data.fingerprint import changed, digest, fingerprint, of_module
from ..files import summed, write_json, write_tensors
from ..flows import Flow
from ..random import seeded
from ..sources import Empirical, Source
from ..tensors import pack_condition, take_condition
from .folder import RunFolder
from .preprocessing import bijection_to_json
from .sources import source_to_json

__all__ = ["KEPT_CONDITIONS", "begin", "check_data"]

#: Training conditions kept for sampling.
KEPT_CONDITIONS = 10_000


def begin(
    run: Path,
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
        write_tensors(run / "source.safetensors", tensors)
    if rows.condition is not None:
        as_they_occur = rows.thinned(seeded(config.seed, "conditions")).condition
        kept = pack_condition(take_condition(as_they_occur, slice(KEPT_CONDITIONS)))
        write_tensors(run / "conditions.safetensors", kept)
    data = {
        "schema": dataset.schema.to_json(),
        "preprocess": bijection_to_json(dataset.preprocess),
        **told,
        "dtype": str(rows.x.dtype).removeprefix("torch."),
        "fingerprint": fingerprint(dataset),
        **_outside(source, teacher),
    }
    write_json(run / "data.json", summed(data))
    write_json(run / "config.json", config.to_json())


def check_data(folder: RunFolder, dataset: Dataset, source: Source | None, teacher: Flow | None) -> None:
    """Raise ValueError, which says what, where data are not those that the run began with."""
    folder.check_whole()
    data = folder.data()
    old = data.get("fingerprint")
    if old is None:  # a run of an older version
        return
    told = changed(old, dataset, folder.schema().to_json())
    for name, now in _outside(source, teacher).items():
        if data.get(name) != now:
            told.append(f"the {name.partition('_')[0]} is another one")
    if told:
        raise ValueError(
            f"{folder.path}: the data are not those that the run began with: {'; '.join(told[:5])}"
            f"{'; ...' * (len(told) > 5)}; use another --out, or --overwrite"
        )


def _outside(source: Source | None, teacher: Flow | None) -> dict[str, str]:
    """Digests of what a run takes from elsewhere, besides its data: rows to start from, a teacher."""
    found = {}
    if isinstance(source, Empirical):
        found["source_digest"] = digest(source.rows)
    if teacher is not None:
        found["teacher_digest"] = of_module(teacher)
    return found
