"""The state of a training run as safetensors with JSON in the header; nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from ..files import read_tensors, replacing, write_tensors

#: The file of a run folder that training goes on from, and the entry of its header that holds plain facts.
STATE, FACTS = "state.safetensors", "facts"


def write_model(path: Path, module: nn.Module) -> None:
    """Write parameters and buffers; tied weights are stored once."""
    with replacing(path) as scratch:
        save_model(module, str(scratch))


def read_model(path: Path, module: nn.Module) -> None:
    """Load what :func:`write_model` wrote.  Raises ValueError for a damaged file or another model."""
    try:
        load_model(module, str(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged, or of another model ({str(error).splitlines()[0]})") from None


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The optimiser's state by parameter name, ``{"layer.weight/exp_avg": tensor}``."""
    return {
        f"{names[parameter]}/{key}": torch.as_tensor(value).contiguous()
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what :func:`optimiser_tensors` took."""
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        parameter = parameters[name]
        home = "cpu" if entry == "step" and not optimiser.defaults.get("fused") else parameter.device
        optimiser.state[parameter][entry] = value.to(home)


def untied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the second and later names of a tensor that is stored already."""
    seen: set[tuple[object, ...]] = set()
    kept = {}
    for name, value in tensors.items():
        key = (value.data_ptr(), value.shape, value.stride()) if value.numel() else (name,)
        if key not in seen:
            seen.add(key)
            kept[name] = value
    return kept


def load_untied(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load what :func:`untied` kept.  Raises ValueError where a name is missing that is no tie."""
    outcome = module.load_state_dict(dict(tensors), strict=False)
    own = module.state_dict()
    loaded = {own[name].data_ptr() for name in tensors if name in own}
    lost = [name for name in outcome.missing_keys if own[name].data_ptr() not in loaded]
    if lost or outcome.unexpected_keys:
        raise ValueError(f"the saved state is of another model ({(lost + outcome.unexpected_keys)[0]})")


def save_state(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Replace the state in ``folder``; a crash leaves the one before."""
    write_tensors(folder / STATE, tensors, {FACTS: json.dumps(dict(facts))})


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last state saved in ``folder``, or None.  Raises ValueError for a damaged one."""
    file = folder / STATE
    if not file.exists():
        return None
    return read_tensors(file), read_facts(folder)


def read_facts(folder: Path) -> dict[str, Any]:
    """The plain facts of the last state: its step, the steps planned, seconds, rows of ``metrics.jsonl``, ...

    Raises ValueError for a damaged one.
    """
    file = folder / STATE
    try:
        with safe_open(file, "pt") as content:
            return json.loads((content.metadata() or {})[FACTS])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{file}: damaged ({error})") from None


def has_state(folder: Path) -> bool:
    """Whether training in ``folder`` came to a checkpoint."""
    return (folder / STATE).exists()


def load_weights(folder: Path, models: nn.ModuleDict, averaged: bool = True) -> dict[str, Any]:
    """Put the weights of the last state, or their average, into ``models``; returns the state's facts.

    Raises ValueError for a state that is missing, damaged or of another model.
    """
    saved = load_state(folder)
    if saved is None:
        raise ValueError(f"{folder / STATE}: missing")
    tensors, facts = saved
    prefix = "ema/" if averaged and any(name.startswith("ema/") for name in tensors) else "model/"
    weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        load_untied(models, weights)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{folder / STATE}: {str(error).splitlines()[0]}") from None
    return facts
