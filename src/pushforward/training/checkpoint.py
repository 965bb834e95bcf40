"""The state of a training run as safetensors with JSON in the header; nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..contents import Best as BestFacts
from ..contents import State
from ..files import read_facts as read_header_facts
from ..files import read_tensors, write_tensors
from ..typed import as_type
from .best import Best
from .ema import EMA

#: The file of a run folder that training goes on from.
STATE = "state.safetensors"
#: What AdamW remembers of every parameter that it has changed.
ADAM = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Keeping:
    """The files of a training, by which it can be continued.

    folder: where checkpoints and ``metrics.jsonl`` go; None keeps nothing.
    run: which run, and which part of it, a checkpoint in the folder has to be of; kept in it.
    history: rows that ``metrics.jsonl`` begins with.
    """

    folder: Path | None = None
    run: str = ""
    history: Sequence[dict[str, Any]] = ()


class Weights:
    """All numbers that steps change: networks, their averages, the best of these, and the optimisers'."""

    def __init__(self, models: nn.ModuleDict, ema: EMA | None, best: Best | None):
        self.models, self.ema, self.best = models, ema, best
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self._names: dict[Tensor, str] = {p: name for name, p in models.named_parameters()}

    @property
    def averaged(self) -> nn.ModuleDict:
        """The averages, or the networks where there are none."""
        return self.models if self.ema is None else self.ema.models

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name."""
        tensors = {f"model/{name}": value for name, value in self.models.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{name}": value for name, value in self.ema.models.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            state = optimiser_tensors(optimiser, self._names)
            tensors |= {f"{name}/{key}": value for key, value in state.items()}
        best = {} if self.best is None else self.best.weights
        return tensors | {f"best/{name}": value for name, value in best.items()}

    def restore(self, file: Path, tensors: Mapping[str, Tensor], facts: State) -> None:
        """Put back what :meth:`tensors` were, read from ``file``.  Raises ValueError for those of others."""
        put_weights(file, self.models, tensors, "model/")
        if self.ema is not None:
            put_weights(file, self.ema.models, tensors, "ema/")
        for name, optimiser in self.optimisers.items():
            own = with_prefix(tensors, f"{name}/")
            restore_optimiser(file, optimiser, self._names, own, f"{name}/", facts["step"])
        if self.best is not None:
            if facts.get("best"):
                check_weights(file, self.best.models, tensors, "best/")
            self.best.restore(with_prefix(tensors, "best/"), facts.get("best", {}))


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def write_model(path: Path, module: nn.Module) -> None:
    """Write parameters and buffers; tied weights are stored once."""
    write_tensors(path, untied(module.state_dict()))


def read_model(path: Path, module: nn.Module) -> None:
    """Load what :func:`write_model` wrote.

    Raises ValueError for a file that is missing, damaged or of another model, and for weights that are not
    finite.
    """
    put_weights(path, module, read_tensors(path))


def put_weights(path: Path, module: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
    """Put ``tensors``, read from ``path``, into ``module``, those of a name beginning with ``prefix`` alone.

    Raises ValueError as :func:`check_weights`; ``module`` is then as it was.
    """
    module.load_state_dict(check_weights(path, module, tensors, prefix), strict=False)


def check_weights(
    path: Path, module: nn.Module, tensors: Mapping[str, Tensor], prefix: str = ""
) -> dict[str, Tensor]:
    """Those of ``tensors``, read from ``path``, whose name begins with ``prefix``, without it.

    Raises ValueError, which names the file and the weight, unless they are all weights of ``module``, finite
    and of their shapes and dtypes.
    """
    named = with_prefix(tensors, prefix)
    own = module.state_dict()
    for name, value in named.items():
        if name not in own:
            raise ValueError(f"{path}: {prefix}{name}: is no weight of the model that config.json describes")
        check_like(f"{path}: {prefix}{name}", value, own[name])
    given = {own[name].data_ptr() for name in named}
    for name, value in own.items():
        # a tied weight has the name that it was stored under
        if name not in named and (value.data_ptr() not in given or not value.numel()):
            raise ValueError(f"{path}: {prefix}{name}: is missing; config.json describes another model")
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name, value in named.items():
        if name in parameters or bool(own[name].isfinite().all()):
            if not bool(value.isfinite().all()):
                raise ValueError(f"{path}: {prefix}{name}: holds values that are not finite")
        elif bool(value.isnan().any()):
            raise ValueError(f"{path}: {prefix}{name}: holds values that are no numbers")
    return named


def check_like(where: str, value: Tensor, expected: Tensor) -> None:
    """Raise ValueError, which says ``where``, unless ``value`` has the shape and dtype of ``expected``."""
    if value.shape != expected.shape:
        raise ValueError(f"{where}: expected shape {tuple(expected.shape)}, got {tuple(value.shape)}")
    if value.dtype != expected.dtype:
        raise ValueError(f"{where}: expected {expected.dtype}, got {value.dtype}")


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The optimiser's state by parameter name, ``{"layer.weight/exp_avg": tensor}``."""
    return {
        f"{names[parameter]}/{key}": torch.as_tensor(value).contiguous()
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
    }


def restore_optimiser(
    path: Path,
    optimiser: torch.optim.Optimizer,
    names: Mapping[Tensor, str],
    tensors: Mapping[str, Tensor],
    prefix: str,
    steps: int,
) -> None:
    """Put back what :func:`optimiser_tensors` took, read from ``path`` under names beginning with ``prefix``.

    Raises ValueError, which names the file and the entry, for the state of other parameters, and for one of
    more than ``steps`` steps.
    """
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        where = f"{path}: {prefix}{key}"
        if name not in parameters or entry not in ADAM:
            raise ValueError(f"{where}: is of no parameter that is trained")
        parameter = parameters[name]
        if {f"{name}/{each}" for each in ADAM} - tensors.keys():
            raise ValueError(f"{where}: expected all of {', '.join(ADAM)}")
        check_like(where, value, torch.zeros(()) if entry == "step" else parameter)
        if not bool(value.isfinite().all()):
            raise ValueError(f"{where}: holds values that are not finite")
        if entry == "step" and float(value) > steps:
            raise ValueError(f"{where}: is {float(value):g}, in a state of step {steps}")
        if entry == "step":
            value = value.to(parameter.device if optimiser.defaults.get("fused") else "cpu")
        else:  # with the strides of the weights, which a fused optimiser takes for granted
            value = torch.empty_like(parameter).copy_(value)
        optimiser.state[parameter][entry] = value


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


def save_state(folder: Path, tensors: Mapping[str, Tensor], facts: State) -> None:
    """Replace the state in ``folder``; a crash leaves the one before."""
    write_tensors(folder / STATE, tensors, facts)


def load_state(folder: Path) -> tuple[dict[str, Tensor], State] | None:
    """The last state saved in ``folder``, or None.  Raises ValueError for a damaged one."""
    file = folder / STATE
    if not has_state(folder):
        return None
    tensors, facts = read_tensors(file), read_header_facts(file)
    return tensors, _checked(file, facts)


def read_facts(folder: Path) -> State:
    """The plain facts of the last state: its step, the steps planned, seconds, rows of ``metrics.jsonl``, ...

    Raises ValueError for a damaged one.
    """
    return _checked(folder / STATE, read_header_facts(folder / STATE))


def _checked(file: Path, facts: object) -> State:
    state = cast("State", as_type(facts, State, str(file)))
    if best := state.get("best"):
        as_type(best, BestFacts, f"{file}: best")
    if state["step"] > state["total"]:
        raise ValueError(
            f"{file}: step: expected at most {state['total']}, the steps planned, got {state['step']}"
        )
    return state


def check_run(folder: Path, facts: State, run: str) -> None:
    """Raise ValueError where the state in ``folder`` is of another run, or of another part of it."""
    if facts.get("run", run) != run:
        raise ValueError(f"{folder / STATE}: is of another run, or of another stage of this one")


def has_state(folder: Path) -> bool:
    """Whether training in ``folder`` came to a checkpoint."""
    return (folder / STATE).exists()


def load_weights(folder: Path, models: nn.ModuleDict, averaged: bool = True) -> State:
    """Put the weights of the last state, or their average, into ``models``; returns the state's facts.

    Raises ValueError for a state that is missing, damaged or of another model.
    """
    saved = load_state(folder)
    if saved is None:
        raise ValueError(f"{folder / STATE}: is missing")
    tensors, facts = saved
    prefix = "ema/" if averaged and any(name.startswith("ema/") for name in tensors) else "model/"
    put_weights(folder / STATE, models, tensors, prefix)
    return facts
