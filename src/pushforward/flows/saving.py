"""Flows in one file: their structure as JSON, their tensors beside it, nothing pickled."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import math
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..fields import Straight
from ..files import SUM, check_file, checksum, json_of, replacing
from ..paths import Interpolant
from .base import Flow

#: The entry of a file's header that holds the structure, and its format.
ENTRY, FORMAT = "pushforward-flow", 1
#: Where the classes of a file may come from, besides those that the reader names.
TRUSTED = (
    *(
        f"pushforward.{name}."
        for name in "bijections fields flows manifolds nn paths solvers sources".split()
    ),
    "torch.nn.modules.",
)
#: What a module holds besides its own attributes.
KEPT = frozenset(vars(nn.Module()))
#: What is no object with attributes of its own.
FUNCTIONS = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
#: Why reading fails on a file that something else wrote, or that was cut off or edited.
BROKEN = (KeyError, IndexError, TypeError, AttributeError, ImportError, ValueError, RuntimeError)


def save(flow: Flow, path: str | Path) -> None:
    """Write ``flow`` to one file, structure and weights, for :func:`load_flow` or ``pushforward.load``.

    The parts of a flow are written with their attributes: modules of this library and of ``torch.nn``, your
    own modules, solvers and paths.  Attributes may be numbers, texts, tensors and containers of these.  The
    file is safetensors with JSON in its header; it replaces an older one when it is complete.

    Raises ValueError for anything but a module, and for an attribute of another kind, such as a function: to
    save a flow whose field is a function, make the field a module.

    >>> import tempfile
    >>> from pushforward.flows import nsf
    >>> flow, path = nsf(2), Path(tempfile.mkdtemp()) / "flow.safetensors"
    >>> save(flow, path)
    >>> bool((load_flow(path).log_prob(torch.ones(1, 2)) == flow.log_prob(torch.ones(1, 2))).all())
    True
    """
    if not isinstance(flow, nn.Module):
        raise ValueError(f"flow: expected a flow, got {type(flow).__name__}")
    path, writer = Path(path), _Writer()
    root = writer.value(flow, "flow")
    content = {
        "format": FORMAT,
        "root": root,
        "objects": writer.objects,
        "channels_last": writer.channels_last,
    }
    header = json.dumps({**content, SUM: checksum(writer.tensors, content)})
    with replacing(path) as scratch:
        save_file(writer.tensors, scratch, {ENTRY: header})


def load_flow(path: str | Path, trust: Sequence[type] = (), device: str | torch.device = "cpu") -> Flow:
    """The flow that :func:`save` wrote, on ``device``.

    Classes come from this library and from ``torch.nn``; ``trust`` lists your own classes that may be
    constructed.  Nothing in the file is executed, and no ``__init__`` is called.  Raises ValueError for a
    file that is not of this kind, was cut off or edited, needs a class that is not trusted, or has weights
    that are not finite.
    """
    path = Path(path)
    check_file(path)
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            header = (file.metadata() or {}).get(ENTRY)
            if header is None:
                raise ValueError(f"{path}: expected a file that pushforward.save wrote")
            content = json_of(header, str(path))
            last = set(content.get("channels_last", ()))
            # Tensors lie in memory as they did before: how sums are rounded depends on it.
            tensors = {
                name: file.get_tensor(name).clone(
                    memory_format=torch.channels_last if name in last else torch.preserve_format
                )
                for name in file.keys()
            }
        found = content.pop(SUM, None)  # none in files of older versions
        if found is not None and found != checksum({k: v.cpu() for k, v in tensors.items()}, content):
            raise ValueError(f"{path}: damaged or edited (its checksum does not fit)")
        if content["format"] > FORMAT:
            raise ValueError(f"{path}: written by a newer version (format {content['format']})")
        flow = _Reader(content["objects"], tensors, trust).value(content["root"])
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a file that pushforward.save wrote, got one of {error}") from None
    except BROKEN as error:
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        told = " ".join(told.split())
        raise ValueError(told if told.startswith(str(path)) else f"{path}: {told}") from None
    if not isinstance(flow, Flow):
        raise ValueError(f"{path}: expected a flow, got a {type(flow).__name__}")
    for name, weight in flow.named_parameters():
        if not bool(weight.isfinite().all()):
            raise ValueError(f"{path}: {name}: holds values that are not finite")
    return flow


def _one_step(flow: Any) -> None:
    """What older versions call a OneStep holds a field where others hold a map, and takes one step."""
    flow.field, flow.noising, flow.known_steps = Straight(flow.field), Interpolant(), (1,)


#: Classes of older versions that are others now: which one, and what is changed in one as it was.
RENAMED: dict[str, tuple[str, Callable[[Any], None]]] = {
    "pushforward.flows.one_step:OneStep": ("pushforward.flows.consistency:ConsistencyFlow", _one_step)
}


class _Writer:
    """Values as JSON; modules and other objects once each, tensors by number."""

    def __init__(self):
        self.objects: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}
        #: names of kernels whose channels are last in memory
        self.channels_last: list[str] = []
        self.known: dict[int, dict[str, Any]] = {}
        self.alive: list[Any] = []  # an id is that of one object only while it lives

    def value(self, value: Any, where: str) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, torch.dtype | torch.device):
            return {type(value).__name__: str(value).removeprefix("torch.")}
        if isinstance(value, list | tuple | set | frozenset):
            kind = "list" if isinstance(value, list) else "tuple" if isinstance(value, tuple) else "set"
            return {kind: [self.value(part, f"{where}[{i}]") for i, part in enumerate(value)]}
        if isinstance(value, dict):
            return {
                "dict": [[self.value(k, where), self.value(v, f"{where}[{k!r}]")] for k, v in value.items()]
            }
        if id(value) not in self.known:
            self.alive.append(value)
            self.known[id(value)] = (
                self._tensor(value) if isinstance(value, Tensor) else self._object(value, where)
            )
        return self.known[id(value)]

    def _tensor(self, value: Tensor) -> dict[str, Any]:
        name = str(len(self.tensors))
        self.tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        if value.ndim == 4 and value.stride(1) == 1 and value.stride() != self.tensors[name].stride():
            self.channels_last.append(name)
        kind = "parameter" if isinstance(value, nn.Parameter) else "tensor"
        return {kind: name} | ({"learnt": value.requires_grad} if kind == "parameter" else {})

    def _object(self, value: Any, where: str) -> dict[str, Any]:
        kind = type(value)
        own = vars(value) if hasattr(value, "__dict__") else None
        if isinstance(value, FUNCTIONS) or own is None:
            raise ValueError(
                f"{where}: expected modules, numbers, texts and tensors, got {kind.__qualname__}"
            )
        number = len(self.objects)
        entry: dict[str, Any] = {"class": f"{kind.__module__}:{kind.__qualname__}"}
        self.objects.append(entry)
        self.known[id(value)] = {"object": number}
        if isinstance(value, nn.Module):
            entry |= {
                part: {k: self.value(v, f"{where}.{k}") for k, v in own[f"_{part}"].items()}
                for part in ("parameters", "buffers", "modules")
            }
            entry |= {"training": value.training, "passing": sorted(own["_non_persistent_buffers_set"])}
            own = {name: part for name, part in own.items() if name not in KEPT}
        entry["attributes"] = {name: self.value(part, f"{where}.{name}") for name, part in own.items()}
        return self.known[id(value)]


class _Reader:
    """The inverse of :class:`_Writer`; objects are made without their ``__init__``, of trusted classes."""

    def __init__(self, objects: list[dict[str, Any]], tensors: dict[str, Tensor], trust: Sequence[type]):
        self.objects, self.tensors = objects, tensors
        self.trust = {kind.__qualname__: kind for kind in trust}
        self.made: dict[int, Any] = {}
        self.parameters: dict[str, nn.Parameter] = {}

    def value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        (kind, content), *rest = value.items()
        makers: dict[str, Callable[[Any], Any]] = {
            "float": float,
            "dtype": lambda name: _is(getattr(torch, str(name)), torch.dtype),
            "device": lambda name: torch.device(str(name)),
            "list": lambda parts: [self.value(part) for part in parts],
            "tuple": lambda parts: tuple(self.value(part) for part in parts),
            "set": lambda parts: {self.value(part) for part in parts},
            "dict": lambda pairs: {self.value(k): self.value(v) for k, v in pairs},
            "tensor": lambda name: self.tensors[name],
            "parameter": lambda name: self._parameter(name, bool(dict(rest)["learnt"])),
            "object": self._object,
        }
        return makers[kind](content)

    def _parameter(self, name: str, learnt: bool) -> nn.Parameter:
        if name not in self.parameters:
            self.parameters[name] = nn.Parameter(self.tensors[name], learnt)
        return self.parameters[name]

    def _object(self, number: int) -> Any:
        if number in self.made:
            return self.made[number]
        entry = self.objects[number]
        told = str(entry["class"])
        name, change = RENAMED.get(told, ("", None))
        kind = self._class(name or told)
        self.made[number] = made = object.__new__(kind)
        if isinstance(made, nn.Module):
            nn.Module.__init__(made)
            made.training = bool(entry["training"])
            for name, part in entry["parameters"].items():
                made.register_parameter(name, self.value(part))
            for name, part in entry["buffers"].items():
                made.register_buffer(name, self.value(part), persistent=name not in entry["passing"])
            for name, part in entry["modules"].items():
                made.add_module(name, self.value(part))
        for name, part in entry["attributes"].items():
            if name.startswith("__") or name in KEPT or _is_method(kind, name):
                raise ValueError(f"a {kind.__name__} has no attribute {name!r} of its own")
            vars(made)[name] = self.value(part)
        for name, part in getattr(kind, "later", {}).items():
            if not hasattr(made, name):
                vars(made)[name] = part
        if change is not None:
            change(made)
        return made

    def _class(self, told: str) -> type:
        module, name = str(told).split(":")
        if name in self.trust:
            return self.trust[name]
        if not module.startswith(TRUSTED):
            raise ValueError(
                f"needs the class {name} of {module}; if you trust it: load(path, trust=[{name}])"
            )
        try:
            home = importlib.import_module(module)
        except ModuleNotFoundError:  # it moved since the file was written; its package still has the name
            module = module.rpartition(".")[0]
            home = importlib.import_module(module)
        found = _is(getattr(home, name), type)
        if not f"{found.__module__}.".startswith(f"{module}."):
            raise ValueError(f"{module} has no class {name} of its own")
        return found


def _is_method(kind: type, name: str) -> bool:
    """Whether the class has a method or a class of that name; a default that can be called is neither."""
    found = getattr(kind, name, None)
    return inspect.isroutine(found) or isinstance(found, type)


def _is(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"expected a {kind.__name__}, got {value!r}")
    return value
