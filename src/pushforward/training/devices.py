"""The devices of a run, and the first of its processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from ..config import ComputeConfig
from ..settings import shown
from .processes import check_nodes

# Fabric takes a second or two to import, and who samples does without it.
if TYPE_CHECKING:
    from lightning_fabric import Fabric


#: Kinds of devices that a run can use.
KINDS = ("cpu", "cuda", "mps")
#: How numbers are kept and processes share the work.
PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed")
STRATEGIES = ("auto", "ddp", "fsdp")


def find_device(name: str | torch.device) -> torch.device:
    """The device that ``--device`` names: ``auto`` is CUDA where there is one, else the CPU.

    Raises ValueError for another name, and for a device that this machine does not have.

    >>> find_device("cpu")
    device(type='cpu')
    """
    kind, colon, index = str(name).partition(":")
    if str(name) == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in KINDS or (colon and not index.isdecimal()):
        raise ValueError(f"--device {name}: expected auto, {', '.join(KINDS)} or one of several as cuda:1")
    if int(index or 0) >= _count(kind):
        has = f"{_count(kind)} of {kind}" if _count(kind) else f"no {kind} device"
        raise ValueError(f"--device {name}: this machine has {has}; leave it out, or --device cpu")
    return torch.device(kind, int(index)) if colon else torch.device(kind)


def _count(kind: str) -> int:
    """The number of devices of ``kind``; all processors together count as one."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(torch.backends.mps.is_available()) if kind == "mps" else 1


def check_compute(c: ComputeConfig) -> None:
    """Raise ValueError for devices, processors and names that this machine does not have."""
    device, processors = find_device(c.device), os.cpu_count() or 1
    for name, known in (("precision", PRECISIONS), ("strategy", STRATEGIES)):
        value = getattr(c, name)
        if value not in known:
            raise ValueError(f"--{name}: expected one of {', '.join(known)}, got {shown(value)}")
    if c.strategy == "fsdp" and device.type != "cuda":
        raise ValueError(f"--strategy fsdp: is for CUDA devices, got --device {c.device}")
    if c.precision == "16-mixed" and device.type == "cpu":
        raise ValueError("--precision 16-mixed: is for CUDA devices; on the CPU take bf16-mixed or 32-true")
    if c.threads is not None and c.threads > processors:
        raise ValueError(f"--threads {c.threads}: this machine has {processors} processors")
    available = processors if device.type == "cpu" else _count(device.type)
    if c.devices > (available if device.index is None else 1):
        raise ValueError(f"--devices {c.devices}: this machine has {available} for {device}")
    check_nodes(c)


def make_fabric(c: ComputeConfig) -> Fabric:
    """Devices, strategy and precision.  Raises ValueError for what this machine does not have."""
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    check_compute(c)
    device = find_device(c.device)
    try:
        return Fabric(
            accelerator=device.type,
            devices=c.devices if device.index is None or device.type == "cpu" else [device.index],
            num_nodes=c.nodes,
            # one process shares nothing, and is asked for no port and no names in the environment
            strategy=c.strategy if c.devices * c.nodes > 1 else "auto",
            precision=cast(Any, c.precision),
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise ValueError(f"--device, --strategy or --precision: {str(error).splitlines()[0]}") from None


def on_one_device(fabric: Fabric) -> bool:
    """Whether there is neither another device nor another process."""
    from lightning_fabric.strategies.single_device import SingleDeviceStrategy

    return isinstance(fabric.strategy, SingleDeviceStrategy)


def gather_objects(fabric: Fabric) -> Callable[[Any], Sequence[Any]] | None:
    """A function that gives the object of every process to all of them; None for a single process."""
    if fabric.world_size == 1:
        return None

    def gather(mine: Any) -> list[Any]:
        everybody: list[Any] = [None] * fabric.world_size
        torch.distributed.all_gather_object(everybody, mine)
        return everybody

    return gather


def is_first_process() -> bool:
    """Whether this process is the one that checks and writes, before processes know of each other."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
    return all(rank == "0" for rank in ranks)
