"""Sources as plain data and tensors, so that a run folder holds no code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..inputs import check_finite
from ..manifolds import manifold_of
from ..sources import Blend, Empirical, GaussianMixture, Kernels, LinearShift, ManifoldBase, Normal, Source
from ..tensors import event_size
from ..typed import Count, shown
from .preprocessing import FLOATS, Float, entry_of, made

__all__ = ["source_from_json", "source_to_json"]


def source_to_json(source: Source, tensors: dict[str, Tensor], prefix: str = "") -> dict[str, Any]:
    """A source as plain data; its large arrays go into ``tensors`` under names that begin with ``prefix``.

    Raises ValueError for a class that a run cannot store.
    """
    for name, (cls, write, _) in _FORMS.items():
        if type(source) is cls:
            return {"distribution": name, **write(source, _Writing(tensors, prefix))}
    raise ValueError(f"a {type(source).__name__} is no source that a run can store")


def source_from_json(
    data: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    prefix: str = "",
    where: str = "source",
    file: str = "tensors",
) -> Source:
    """The inverse of :func:`source_to_json`.

    Raises ValueError, which says ``where`` the data stand or which tensor of ``file`` it is, for what it did
    not write.
    """
    stored = _Stored(data, tensors, prefix, where, file)
    key = "distribution" if "distribution" in data or "law" not in data else "law"  # the latter in older runs
    name = stored.entry(key, str)
    if name not in _FORMS:
        raise ValueError(f"{where}.distribution: expected one of {', '.join(_FORMS)}, got {shown(name)}")
    return _FORMS[name][2](stored)


@dataclass(frozen=True)
class _Writing:
    """The tensors of a source that is being stored."""

    tensors: dict[str, Tensor]
    prefix: str

    def put(self, **named: Tensor) -> None:
        """Store tensors under these names."""
        for name, value in named.items():
            self.tensors[self.prefix + name] = (
                value.detach().cpu().clone(memory_format=torch.contiguous_format)
            )

    def inner(self, source: Source, name: str) -> dict[str, Any]:
        """A source within, whose tensors have ``name`` before theirs."""
        return source_to_json(source, self.tensors, f"{self.prefix}{name}.")


@dataclass(frozen=True)
class _Stored:
    """A source that was stored: its plain data, and its tensors among those of a file."""

    data: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    prefix: str
    where: str
    file: str

    def entry(self, key: str, hint: Any) -> Any:
        """An entry that has to be there, as ``hint`` says."""
        return entry_of(self.data, key, hint, self.where)

    def made(self, make: Any, *arguments: Any) -> Any:
        """What ``make`` makes, its errors by where their cause stands."""
        return made(self.where, make, *arguments)

    def inner(self, data: Mapping[str, Any], name: str, key: str) -> Source:
        """A source within, whose tensors have ``name`` before theirs, and whose data stand at ``key``."""
        where = f"{self.where}.{key}"
        return source_from_json(data, self.tensors, f"{self.prefix}{name}.", where, self.file)

    def wrong(self, name: str, what: str) -> ValueError:
        """The error of a tensor."""
        return ValueError(f"{self.file}: {self.prefix}{name}: {what}")

    def tensor(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of ``shape``, in which None is any size; of any shape where none is said."""
        found = self.tensors.get(self.prefix + name)
        if found is None:
            raise self.wrong(name, "is missing")
        fits = len(shape) == found.ndim and all(b in (None, a) for a, b in zip(found.shape, shape))
        if shape and not fits:
            sizes = ", ".join("n" if size is None else str(size) for size in shape)
            raise self.wrong(name, f"expected shape ({sizes}), got {tuple(found.shape)}")
        return found

    def floats(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of finite numbers."""
        found = self.tensor(name, *shape)
        if found.dtype not in (torch.float32, torch.float64):
            raise self.wrong(name, f"expected torch.float32 or float64, got {found.dtype}")
        return check_finite(found, f"{self.file}: {self.prefix}{name}")

    def floats_if_there(self, name: str, *shape: int | None) -> Tensor | None:
        """The same, None where there is none."""
        return self.floats(name, *shape) if self.prefix + name in self.tensors else None

    def logarithms(self, name: str, count: int) -> Tensor:
        """Logarithms of ``count`` weights, of which some may be 0."""
        found = self.tensor(name, count)
        if found.dtype not in (torch.float32, torch.float64) or not bool((found < torch.inf).all()):
            raise self.wrong(name, "expected logarithms of weights")
        return found


def _write_normal(source: Normal, writing: _Writing) -> dict[str, Any]:
    numbers = {"loc": float(source.loc), "scale": float(source.scale)}
    dtype = str(source.loc.dtype).removeprefix("torch.")
    return {"event_shape": list(source.event_shape), **numbers, "dtype": dtype}


def _read_normal(stored: _Stored) -> Source:
    shape = tuple(stored.entry("event_shape", list[int]))
    source = stored.made(Normal, shape, stored.entry("scale", float), stored.entry("loc", float))
    return source.to(FLOATS[stored.entry("dtype", Float) if "dtype" in stored.data else "float32"])


def _write_rows(source: Empirical, writing: _Writing) -> dict[str, Any]:
    writing.put(rows=source.rows)
    return {"noise": source.noise}


def _read_rows(stored: _Stored) -> Source:
    noise = stored.entry("noise", float) if "noise" in stored.data else 0.0
    return stored.made(Empirical, stored.floats("rows"), noise)


def _write_mixture(source: GaussianMixture, writing: _Writing) -> dict[str, Any]:
    means = source.means.reshape(-1, *source.event_shape)
    writing.put(means=means, axes=source.axes, variances=source.variances)
    writing.put(log_weights=source.log_weights, labels=source.labels)
    return {}


def _read_mixture(stored: _Stored) -> Source:
    means = stored.floats("means")
    count, size = len(means) if means.ndim else 0, event_size(means.shape[1:])
    weights = stored.logarithms("log_weights", count)
    variances = stored.floats("variances", count, size)
    if bool((variances < 0).any()):
        raise stored.wrong("variances", "expected numbers of at least 0")
    axes, labels = stored.floats("axes", count, size, size), stored.tensor("labels", count)
    if labels.dtype != torch.int64:
        raise stored.wrong("labels", f"expected torch.int64, got {labels.dtype}")
    return stored.made(GaussianMixture.of_axes, means, axes, variances, weights, labels)


def _write_kernels(source: Kernels, writing: _Writing) -> dict[str, Any]:
    rows = source.rows.reshape(-1, *source.event_shape)
    writing.put(rows=rows, root=source.root, widths=source.widths)
    if source.noise is not None:
        writing.put(noise=source.noise)
    return {}


def _read_kernels(stored: _Stored) -> Source:
    rows = stored.floats("rows")
    size = event_size(rows.shape[1:])
    widths = stored.floats_if_there("widths", len(rows))
    noise = stored.floats_if_there("noise", size, size)
    return stored.made(Kernels.of_root, rows, stored.floats("root", size, size), widths, noise)


def _write_blend(source: Blend, writing: _Writing) -> dict[str, Any]:
    writing.put(weights=source.log_weights.exp())
    parts = [writing.inner(part, str(i)) for i, part in enumerate(source.sources)]
    return {"note": source.note, "parts": parts}


def _read_blend(stored: _Stored) -> Source:
    data = stored.entry("parts", list[dict[str, Any]])
    parts = [stored.inner(part, str(i), f"parts[{i}]") for i, part in enumerate(data)]
    blend = stored.made(Blend, parts, stored.floats("weights", len(parts)))
    blend.note = stored.entry("note", str) if "note" in stored.data else ""
    return blend


def _write_shift(source: LinearShift, writing: _Writing) -> dict[str, Any]:
    writing.put(slope=source.slope, known=source.known)
    return {"classes": list(source.classes), "noise": writing.inner(source.noise, "noise")}


def _read_shift(stored: _Stored) -> Source:
    noise = stored.inner(stored.entry("noise", dict[str, Any]), "noise", "noise")
    classes = stored.entry("classes", list[Count])
    slope = stored.floats("slope", event_size(noise.event_shape), None)
    known = stored.floats("known", None, slope.shape[1])
    if sum(max(count, 1) for count in classes) > slope.shape[1]:
        at_most = f"expected at most {slope.shape[1]} in all, got {classes}"
        raise ValueError(f"{stored.where}.classes: {at_most}")
    return LinearShift(noise, slope, classes, known)


def _write_base(source: ManifoldBase, writing: _Writing) -> dict[str, Any]:
    dtype = str(source.like.dtype).removeprefix("torch.")
    return {"manifold": repr(source.space), "scale": source.scale, "dtype": dtype}


def _read_base(stored: _Stored) -> Source:
    manifold = stored.made(manifold_of, stored.entry("manifold", str))
    source = stored.made(ManifoldBase, manifold, stored.entry("scale", float))
    return source.to(FLOATS[stored.entry("dtype", Float)])


#: Those without large arrays.
PLAIN = ("normal", "manifold")
#: By the name that a source is stored under: its class, how it is written, and how it is read.
_FORMS: dict[str, tuple[type, Callable[[Any, _Writing], dict[str, Any]], Callable[[_Stored], Source]]] = {
    "normal": (Normal, _write_normal, _read_normal),
    "rows": (Empirical, _write_rows, _read_rows),
    "mixture": (GaussianMixture, _write_mixture, _read_mixture),
    "kernels": (Kernels, _write_kernels, _read_kernels),
    "blend": (Blend, _write_blend, _read_blend),
    "shift": (LinearShift, _write_shift, _read_shift),
    "manifold": (ManifoldBase, _write_base, _read_base),
}
