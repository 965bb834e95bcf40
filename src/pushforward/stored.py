"""Sources and preprocessing as plain data and tensors, so that a run folder holds no code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .bijections import Affine, Bijection, Blur, Chain, Dequantise, PiecewiseLinear, Sigmoid, Whiten
from .inputs import check_finite
from .sources import Blend, Empirical, GaussianMixture, Kernels, LinearShift, Normal, Source
from .tensors import event_size
from .typed import Count, as_type, shown

__all__ = [
    "FLOATS",
    "bijection_from_json",
    "bijection_to_json",
    "source_from_json",
    "source_to_json",
    "takes_shape",
]

#: Dtypes of numbers that a run can store.
FLOATS = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
_Float = Literal["float16", "bfloat16", "float32", "float64"]

#: Preprocessing that a run can store, by what its constructor takes: tensors, or plain numbers.
_TENSORS = {
    Affine: ("loc", "scale"),
    Whiten: ("loc", "covariance"),
    Blur: ("scale",),
    PiecewiseLinear: ("x", "y"),
}
_OPTIONS = {Sigmoid: ("low", "high", "margin"), Dequantise: ("low", "high", "step")}


def bijection_to_json(bijection: Bijection) -> dict[str, Any]:
    """A preprocessing chain as plain data.  Raises ValueError for a class that is not preprocessing."""
    if isinstance(bijection, Chain):
        return {"class": "Chain", "links": [bijection_to_json(link) for link in bijection.links]}
    for cls, names in _TENSORS.items():
        if isinstance(bijection, cls):
            numbers = {name: getattr(bijection, name) for name in names}
            dtype = str(numbers[names[0]].dtype).removeprefix("torch.")
            return {"class": cls.__name__, "dtype": dtype, **{k: v.tolist() for k, v in numbers.items()}}
    for cls, options in _OPTIONS.items():
        if isinstance(bijection, cls):
            return {"class": cls.__name__, **{name: getattr(bijection, name) for name in options}}
    raise ValueError(f"a {type(bijection).__name__} is no preprocessing that a run can store")


def bijection_from_json(data: Mapping[str, Any], where: str = "preprocess") -> Bijection:
    """The inverse of :func:`bijection_to_json`.

    Raises ValueError, which says ``where`` the data stand, for what it did not write.
    """
    name = _entry(data, "class", str, where)
    if name == "Chain":
        _no_others(data, ("class", "links"), where)
        links = _entry(data, "links", list[dict[str, Any]], where)
        return Chain(*(bijection_from_json(link, f"{where}.links[{i}]") for i, link in enumerate(links)))
    for cls, names in _TENSORS.items():
        if name == cls.__name__:
            _no_others(data, ("class", "dtype", *names), where)
            dtype = FLOATS[_entry(data, "dtype", _Float, where)]
            return _made(where, cls, *(_numbers(data, key, dtype, where) for key in names))
    for cls, names in _OPTIONS.items():
        if name == cls.__name__:
            _no_others(data, ("class", *names), where)
            return _made(where, cls, **{key: _entry(data, key, float, where) for key in names if key in data})
    known = ", ".join(each.__name__ for each in (Chain, *_TENSORS, *_OPTIONS))
    raise ValueError(f"{where}.class: expected one of {known}, got {shown(name)}")


def _entry(data: Mapping[str, Any], key: str, hint: Any, where: str) -> Any:
    """An entry that has to be there, as ``hint`` says."""
    if key not in data:
        raise ValueError(f"{where}.{key} is missing")
    return as_type(data[key], hint, f"{where}.{key}")


def _no_others(data: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in data:
        if key not in known:
            raise ValueError(f"{where}.{key}: unknown entry; known: {', '.join(known)}")


def _made(where: str, make: Any, *arguments: Any, **options: Any) -> Any:
    """What ``make`` makes, its errors by where their cause stands."""
    try:
        return make(*arguments, **options)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _numbers(data: Mapping[str, Any], key: str, dtype: torch.dtype, where: str) -> Tensor:
    """A number or nested lists of them, equally long at each depth, as a tensor."""
    shape: list[int] = []
    level = [data[key]] if key in data else []
    while level and all(isinstance(part, list) for part in level):
        lengths = {len(part) for part in level}
        if len(lengths) > 1:
            raise ValueError(f"{where}.{key}: expected lists of equal length")
        shape += lengths
        level = [part for parts in level for part in parts]
    if not level and key not in data:
        raise ValueError(f"{where}.{key} is missing")
    return torch.tensor(as_type(level, list[float], f"{where}.{key}"), dtype=dtype).reshape(shape)


def takes_shape(bijection: Bijection, shape: tuple[int, ...]) -> bool:
    """Whether what :func:`bijection_from_json` made takes rows of this event shape, and leaves it."""
    if isinstance(bijection, Chain):
        return all(takes_shape(link, shape) for link in bijection.links)
    if isinstance(bijection, Whiten):
        return shape == bijection.loc.shape
    if isinstance(bijection, Affine | Blur):
        numbers = [bijection.scale.shape, *([bijection.loc.shape] if isinstance(bijection, Affine) else [])]
        try:
            return all(torch.broadcast_shapes(each, shape) == shape for each in numbers)
        except RuntimeError:
            return False
    return True


def source_to_json(source: Source, tensors: dict[str, Tensor], prefix: str = "") -> dict[str, Any]:
    """A source as plain data; its large arrays go into ``tensors`` under names that begin with ``prefix``.

    Raises ValueError for a class that a run cannot store.
    """

    def put(**named: Tensor) -> None:
        for name, value in named.items():
            tensors[prefix + name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)

    match source:
        case Normal():
            dtype = str(source.loc.dtype).removeprefix("torch.")
            numbers = {"loc": float(source.loc), "scale": float(source.scale)}
            return {
                "distribution": "normal",
                "event_shape": list(source.event_shape),
                **numbers,
                "dtype": dtype,
            }
        case Empirical():
            put(rows=source.rows)
            return {"distribution": "rows", "noise": source.noise}
        case GaussianMixture():
            means = source.means.reshape(-1, *source.event_shape)
            put(means=means, axes=source.axes, variances=source.variances)
            put(log_weights=source.log_weights, labels=source.labels)
            return {"distribution": "mixture"}
        case Kernels():
            put(rows=source.rows.reshape(-1, *source.event_shape), root=source.root, widths=source.widths)
            if source.noise is not None:
                put(noise=source.noise)
            return {"distribution": "kernels"}
        case Blend():
            put(weights=source.log_weights.exp())
            parts = [source_to_json(part, tensors, f"{prefix}{i}.") for i, part in enumerate(source.sources)]
            return {"distribution": "blend", "note": source.note, "parts": parts}
        case LinearShift():
            put(slope=source.slope, known=source.known)
            noise = source_to_json(source.noise, tensors, f"{prefix}noise.")
            return {"distribution": "shift", "classes": list(source.classes), "noise": noise}
        case _:
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
    if name not in _SOURCES:
        raise ValueError(f"{where}.distribution: expected one of {', '.join(_SOURCES)}, got {shown(name)}")
    return _SOURCES[name](stored)


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
        return _entry(self.data, key, hint, self.where)

    def made(self, make: Any, *arguments: Any) -> Any:
        """What ``make`` makes, its errors by where their cause stands."""
        return _made(self.where, make, *arguments)

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


def _normal(stored: _Stored) -> Source:
    shape = tuple(stored.entry("event_shape", list[int]))
    source = stored.made(Normal, shape, stored.entry("scale", float), stored.entry("loc", float))
    return source.to(FLOATS[stored.entry("dtype", _Float) if "dtype" in stored.data else "float32"])


def _rows(stored: _Stored) -> Source:
    noise = stored.entry("noise", float) if "noise" in stored.data else 0.0
    return stored.made(Empirical, stored.floats("rows"), noise)


def _mixture(stored: _Stored) -> Source:
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


def _kernels(stored: _Stored) -> Source:
    rows = stored.floats("rows")
    size = event_size(rows.shape[1:])
    widths = stored.floats_if_there("widths", len(rows))
    noise = stored.floats_if_there("noise", size, size)
    return stored.made(Kernels.of_root, rows, stored.floats("root", size, size), widths, noise)


def _blend(stored: _Stored) -> Source:
    data = stored.entry("parts", list[dict[str, Any]])
    parts = [stored.inner(part, str(i), f"parts[{i}]") for i, part in enumerate(data)]
    blend = stored.made(Blend, parts, stored.floats("weights", len(parts)))
    blend.note = stored.entry("note", str) if "note" in stored.data else ""
    return blend


def _shift(stored: _Stored) -> Source:
    noise = stored.inner(stored.entry("noise", dict[str, Any]), "noise", "noise")
    classes = stored.entry("classes", list[Count])
    slope = stored.floats("slope", event_size(noise.event_shape), None)
    known = stored.floats("known", None, slope.shape[1])
    if sum(max(count, 1) for count in classes) > slope.shape[1]:
        at_most = f"expected at most {slope.shape[1]} in all, got {classes}"
        raise ValueError(f"{stored.where}.classes: {at_most}")
    return LinearShift(noise, slope, classes, known)


#: How each kind of source is read, by the name that it is stored under.
_SOURCES: dict[str, Callable[[_Stored], Source]] = {
    "normal": _normal,
    "rows": _rows,
    "mixture": _mixture,
    "kernels": _kernels,
    "blend": _blend,
    "shift": _shift,
}
