"""Checks of the arguments of a trainer, and batches in the dtype of its models."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..config import OptimConfig
from ..objectives import Batch, Objective
from ..rows import Rows


def check_trainer(
    objective: Objective,
    models: nn.Module,
    batches: Any,
    optim: OptimConfig,
    device: torch.device | None,
    validation: Batch | None,
) -> None:
    """Raise ValueError for what a :class:`~pushforward.training.Trainer` cannot use.

    device: where it is asked to train, None where nothing was said.
    """
    if not isinstance(objective, Objective):
        raise ValueError(f"objective: expected an Objective, got {_kind(objective)}")
    if not isinstance(models, nn.Module):
        raise ValueError(f"models: expected a module, or a ModuleDict of them, got {_kind(models)}")
    first = next((p for p in models.parameters() if p.requires_grad), None)
    if first is None:
        raise ValueError(f"models: expected parameters to train, got {_kind(models)} without any")
    if device is None and first.device.type != "cpu":
        raise ValueError(
            f"models: are on {first.device} and the trainer works on cpu; move them, .cpu(), or give "
            f"fabric=make_fabric(ComputeConfig(device={first.device.type!r}))"
        )
    if not callable(batches) or not hasattr(batches, "rows") or not hasattr(batches, "size"):
        raise ValueError(f"batches: expected Batches such as pairs(...), got {_kind(batches)}")
    if validation is not None and not isinstance(validation, Batch):
        raise ValueError(f"validation: expected a Batch, got {_kind(validation)}")
    if validation is not None and len(validation) == 0:
        raise ValueError("validation: expected at least one row, got none")
    if optim.steps is None:
        raise ValueError("optim.steps: expected at least 1, got None")


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def in_dtype(batch: Batch, dtype: torch.dtype | None, device: torch.device) -> Batch:
    """The batch with its points in ``dtype``, itself where they are.

    Raises ValueError where they are on another device than the models.
    """
    seen = {(rows.x.dtype, rows.x.device) for rows in batch.marginals if rows.x.numel()}
    for _, home in seen:
        if home.type != device.type or (home.index or 0) != (device.index or 0):
            raise ValueError(
                f"batches: the rows are on {home} and the models on {device}; give the batches "
                f"device={str(device)!r}, or the trainer a fabric for {home.type}"
            )
    if dtype is None or all(found == dtype or not found.is_floating_point for found, _ in seen):
        return batch
    marginals = tuple(
        Rows(rows.x.to(dtype), rows.condition, rows.mask, rows.weight) for rows in batch.marginals
    )
    return Batch(marginals, batch.weight, batch.normaliser)
