"""Which devices a run uses, and which of its processes comes first."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from ..config import ComputeConfig

# Fabric takes a second or two to import, and who samples does without it.
if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(c: ComputeConfig) -> Fabric:
    """Devices, strategy and precision.  Raises ValueError for what this machine does not have."""
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    kind = c.accelerator
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    available = (
        torch.cuda.device_count() if kind in ("cuda", "gpu") else 1 if kind == "mps" else os.cpu_count()
    )
    if c.devices > (available or 1):
        raise ValueError(f"--devices {c.devices}: this machine has {available} for {kind}")
    try:
        return Fabric(
            accelerator=kind,
            devices=c.devices,
            num_nodes=c.nodes,
            strategy=c.strategy,
            precision=cast(Any, c.precision),
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise ValueError(f"--accelerator, --strategy or --precision: {str(error).splitlines()[0]}") from None


def on_one_device(fabric: Fabric) -> bool:
    """Whether there is neither another device nor another process."""
    from lightning_fabric.strategies.single_device import SingleDeviceStrategy

    return isinstance(fabric.strategy, SingleDeviceStrategy)


def gather_objects(fabric: Fabric) -> Callable[[Any], Sequence[Any]] | None:
    """What hands every process's object to all of them; None where there is but one."""
    if fabric.world_size == 1:
        return None

    def gather(mine: Any) -> list[Any]:
        everybody: list[Any] = [None] * fabric.world_size
        torch.distributed.all_gather_object(everybody, mine)
        return everybody

    return gather


def is_first_process() -> bool:
    """Whether this process is the one that checks and writes, before processes know of each other."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return all(rank == "0" for rank in ranks)
