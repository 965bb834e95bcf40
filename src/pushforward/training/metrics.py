"""``metrics.jsonl``: rows of losses and rates, one JSON object a line."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..contents import Row
from ..files import append_line, json_of, read_text, remove, write_text
from ..typed import as_type

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: The file of a run folder.
METRICS = "metrics.jsonl"


def read_metrics(folder: Path, most: int | None = None) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``, none without the file; a last line cut short by a crash and empty
    ones are left out.

    most: as many as a checkpoint tells of; what comes after them is not looked at.

    Raises ValueError, which says the line, for a damaged one.
    """
    path = folder / METRICS
    try:
        lines = read_text(path, errors="replace").split("\n")
    except FileNotFoundError:
        return []
    if most is not None and len(lines) > most:
        lines = [*lines[:most], ""]
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        where = f"{path}: line {number}"
        try:
            if line.strip():
                rows.append(as_type(json_of(line, where), Row, where))
        except ValueError:
            if number < len(lines):
                raise
    return rows


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient became infinite or not a number."""


class Log:
    """The history of a training: its rows, and losses of the steps since the last of them.

    folder: of ``metrics.jsonl``, which the first process writes; None for no file.
    phases: optimisers whose losses there are.
    """

    def __init__(self, folder: Path | None, fabric: Fabric, phases: tuple[str, ...]):
        self.fabric, self.phases = fabric, phases
        self._read = None if folder is None else folder / METRICS
        self._written = self._read if fabric.global_rank == 0 else None
        self.rows: list[dict[str, Any]] = []
        #: losses with gradient norms by phase, and the terms of losses
        self.pending: dict[str, list[Tensor]] = {}

    def add(self, phase: str, both: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Take note of a step's loss and gradient norm, ``(2,)``, and of what the loss is made of."""
        self.pending.setdefault(phase, []).append(both)
        for term, amount in terms.items():
            self.pending.setdefault(f"{phase}/{term}", []).append(amount.detach())

    def record(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self.rows.append(row)
        if self._written is not None:
            append_line(self._written, json.dumps(row))

    def write(self, step: int, facts: Mapping[str, Any]) -> float:
        """Add the row of ``step``, with means over the steps since the last one; returns the mean loss.

        Raises NonFiniteLoss where it is infinite or not a number.
        """
        row: dict[str, Any] = {"step": step}
        for name, values in self.pending.items():
            mean = torch.stack(values).mean(0)
            if self.fabric.world_size > 1:
                mean = self.fabric.all_reduce(mean, reduce_op="mean")
                assert isinstance(mean, Tensor)
            if name not in self.phases:
                row[name] = mean.item()
                continue
            suffix = "" if len(self.phases) == 1 else f"/{name}"
            row |= zip((f"loss{suffix}", f"grad_norm{suffix}"), mean.tolist())
        self.pending.clear()
        losses = [value for name, value in row.items() if name.startswith("loss")]
        if not all(math.isfinite(loss) for loss in losses):
            raise NonFiniteLoss(
                f"the loss is not finite before step {step}; the last checkpoint is kept; try a lower --lr"
            )
        self.record({**row, **facts})
        return losses[0]

    def clear(self) -> None:
        """Remove a file with rows of steps that no checkpoint holds."""
        if self._written is not None:
            remove(self._written)

    def restore(self, pending: Mapping[str, Tensor], count: int) -> None:
        """Take up the losses ``pending`` in a checkpoint, and the ``count`` rows that it tells of."""
        assert self._read is not None
        self.pending = {name: list(values.to(self.fabric.device)) for name, values in pending.items()}
        self.rows = read_metrics(self._read.parent, count)
        if len(self.rows) < count:
            warnings.warn(
                f"{self._read}: holds {len(self.rows)} of the {count} rows that were "
                "written before the checkpoint; the others are lost, the weights are not touched by it",
                stacklevel=2,
            )
        if self._written is not None:
            write_text(self._written, "".join(json.dumps(row) + "\n" for row in self.rows))
