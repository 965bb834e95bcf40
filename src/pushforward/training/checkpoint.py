"""The state of a training run as safetensors and JSON; nothing is pickled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` so that a reader sees the old file or the new one, never a half."""
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_text(json.dumps(data, indent=2) + "\n")
    os.replace(scratch, path)


def write_model(path: Path, module: nn.Module) -> None:
    """Write parameters and buffers; tied weights are stored once."""
    scratch = path.with_name(path.name + ".tmp")
    save_model(module, str(scratch))
    scratch.chmod(0o644)  # safetensors leaves files that only their owner can read
    os.replace(scratch, path)


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
    """Replace ``folder`` by a new one with ``state.safetensors`` and ``state.json``.

    A crash in between leaves ``folder`` or ``folder.old``, and :func:`load_state` takes either.
    """
    scratch, old = folder.with_name(folder.name + ".tmp"), folder.with_name(folder.name + ".old")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    save_file(
        {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
        scratch / "state.safetensors",
    )
    write_json(scratch / "state.json", dict(facts))
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(scratch, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last state saved, or None.  Raises ValueError for a damaged one."""
    for place in (folder, folder.with_name(folder.name + ".old")):
        if (place / "state.json").exists():
            try:
                facts = json.loads((place / "state.json").read_text())
                return load_file(place / "state.safetensors"), facts
            except (OSError, SafetensorError, json.JSONDecodeError) as error:
                raise ValueError(f"{place}: damaged state ({error})") from None
    return None
