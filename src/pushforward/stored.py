"""Sources and preprocessing as plain data and tensors, so that a run folder holds no code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .bijections import Affine, Bijection, Blur, Chain, Dequantise, PiecewiseLinear, Sigmoid, Whiten
from .sources import Blend, Empirical, GaussianMixture, Kernels, LinearShift, Normal, Source

__all__ = [
    "bijection_from_json",
    "bijection_to_json",
    "source_from_json",
    "source_to_json",
]

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


def bijection_from_json(data: dict[str, Any]) -> Bijection:
    """The inverse of :func:`bijection_to_json`."""
    name, options = data["class"], {key: value for key, value in data.items() if key != "class"}
    if name == "Chain":
        return Chain(*(bijection_from_json(link) for link in options["links"]))
    for cls, names in _TENSORS.items():
        if name == cls.__name__:
            dtype = getattr(torch, options["dtype"])
            return cls(*(torch.tensor(options[key], dtype=dtype) for key in names))
    known = {cls.__name__: cls for cls in _OPTIONS}
    if name not in known:
        raise ValueError(f"unknown preprocessing {name!r}")
    return known[name](**options)


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
            return {"law": "normal", "event_shape": list(source.event_shape), **numbers, "dtype": dtype}
        case Empirical():
            put(rows=source.rows)
            return {"law": "rows", "noise": source.noise}
        case GaussianMixture():
            means = source.means.reshape(-1, *source.event_shape)
            put(means=means, axes=source.axes, variances=source.variances)
            put(log_weights=source.log_weights, labels=source.labels)
            return {"law": "mixture"}
        case Kernels():
            put(rows=source.rows.reshape(-1, *source.event_shape), root=source.root, widths=source.widths)
            if source.noise is not None:
                put(noise=source.noise)
            return {"law": "kernels"}
        case Blend():
            put(weights=source.log_weights.exp())
            parts = [source_to_json(part, tensors, f"{prefix}{i}.") for i, part in enumerate(source.sources)]
            return {"law": "blend", "note": source.note, "parts": parts}
        case LinearShift():
            put(slope=source.slope, known=source.known)
            noise = source_to_json(source.noise, tensors, f"{prefix}noise.")
            return {"law": "shift", "classes": list(source.classes), "noise": noise}
        case _:
            raise ValueError(f"a {type(source).__name__} is no source that a run can store")


def source_from_json(data: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str = "") -> Source:
    """The inverse of :func:`source_to_json`.  Raises KeyError or ValueError for what it did not write."""

    def get(name: str) -> Tensor:
        return tensors[prefix + name]

    match data["law"]:
        case "normal":
            law = Normal(data["event_shape"], data["scale"], data["loc"])
            return law.to(getattr(torch, str(data.get("dtype", "float32"))))
        case "rows":
            return Empirical(get("rows"), float(data.get("noise", 0.0)))
        case "mixture":
            return GaussianMixture.of_axes(
                get("means"), get("axes"), get("variances"), get("log_weights"), get("labels")
            )
        case "kernels":
            return Kernels.of_root(
                get("rows"), get("root"), tensors.get(prefix + "widths"), tensors.get(prefix + "noise")
            )
        case "blend":
            parts = [source_from_json(part, tensors, f"{prefix}{i}.") for i, part in enumerate(data["parts"])]
            law = Blend(parts, get("weights"))
            law.note = str(data.get("note", ""))
            return law
        case "shift":
            noise = source_from_json(data["noise"], tensors, f"{prefix}noise.")
            return LinearShift(noise, get("slope"), [int(k) for k in data["classes"]], get("known"))
        case name:
            raise ValueError(f"unknown source {name!r}")
