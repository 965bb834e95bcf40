"""Preprocessing as plain data, so that a run folder holds no code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..bijections import Affine, Bijection, Blur, Chain, Dequantise, PiecewiseLinear, Sigmoid, Whiten
from ..spaces import LatLon, Points, Turns
from ..typed import as_type, shown

__all__ = ["FLOATS", "Float", "bijection_from_json", "bijection_to_json", "entry_of", "made", "takes_shape"]

#: Dtypes of numbers that a run can store.
FLOATS = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
#: The name of one of :data:`FLOATS`.
Float = Literal["float16", "bfloat16", "float32", "float64"]


@dataclass(frozen=True)
class _Form:
    """How preprocessing is stored: by what its constructor takes, tensors, plain numbers or texts.

    broadcast: tensors that rows are broadcast with.  whole: those of the shape of a row.
    """

    make: type
    tensors: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    broadcast: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


#: Preprocessing that a run can store, besides a chain of such.
_FORMS = {
    form.make.__name__: form
    for form in (
        _Form(Affine, ("loc", "scale"), broadcast=("loc", "scale")),
        _Form(Whiten, ("loc", "covariance"), whole=("loc",)),
        _Form(Blur, ("scale",), broadcast=("scale",)),
        _Form(PiecewiseLinear, ("x", "y")),
        _Form(Sigmoid, options=("low", "high", "margin")),
        _Form(Dequantise, options=("low", "high", "step")),
        _Form(LatLon, options=("lat", "low")),
        _Form(Turns, options=("period", "low")),
        _Form(Points, texts=("manifold",)),
    )
}


def bijection_to_json(bijection: Bijection) -> dict[str, Any]:
    """A preprocessing chain as plain data.  Raises ValueError for a class that is not preprocessing."""
    name = type(bijection).__name__
    if isinstance(bijection, Chain):
        return {"class": name, "links": [bijection_to_json(link) for link in bijection.links]}
    form = _FORMS.get(name)
    if form is None:
        raise ValueError(f"a {name} is no preprocessing that a run can store")
    told = {"class": name, **{key: getattr(bijection, key) for key in (*form.options, *form.texts)}}
    if form.tensors:
        told["dtype"] = str(getattr(bijection, form.tensors[0]).dtype).removeprefix("torch.")
    return told | {key: getattr(bijection, key).tolist() for key in form.tensors}


def bijection_from_json(data: Mapping[str, Any], where: str = "preprocess") -> Bijection:
    """The inverse of :func:`bijection_to_json`.

    Raises ValueError, which says ``where`` the data stand, for what it did not write.
    """
    name = entry_of(data, "class", str, where)
    if name == Chain.__name__:
        _no_others(data, ("class", "links"), where)
        links = entry_of(data, "links", list[dict[str, Any]], where)
        return Chain(*(bijection_from_json(link, f"{where}.links[{i}]") for i, link in enumerate(links)))
    form = _FORMS.get(name)
    if form is None:
        known = ", ".join((Chain.__name__, *_FORMS))
        raise ValueError(f"{where}.class: expected one of {known}, got {shown(name)}")
    plain = (*form.options, *form.texts)
    _no_others(data, ("class", *(["dtype"] if form.tensors else []), *form.tensors, *plain), where)
    dtype = FLOATS[entry_of(data, "dtype", Float, where)] if form.tensors else None
    tensors = [_numbers(data, key, dtype, where) for key in form.tensors]
    hints = {**dict.fromkeys(form.options, float), **dict.fromkeys(form.texts, str)}
    options = {key: entry_of(data, key, hint, where) for key, hint in hints.items() if key in data}
    return made(where, form.make, *tensors, **options)


def takes_shape(bijection: Bijection, shape: tuple[int, ...]) -> bool:
    """Whether what :func:`bijection_from_json` made takes rows of this event shape, and leaves it."""
    if isinstance(bijection, Chain):
        return all(takes_shape(link, shape) for link in bijection.links)
    form = _FORMS[type(bijection).__name__]
    sizes = [getattr(bijection, key).shape for key in form.broadcast]
    try:
        fits = bijection.event_shape(bijection.inverse_event_shape(shape)) == shape
        fits = fits and all(torch.broadcast_shapes(size, shape) == shape for size in sizes)
    except RuntimeError:
        return False
    return fits and all(getattr(bijection, key).shape == shape for key in form.whole)


def entry_of(data: Mapping[str, Any], key: str, hint: Any, where: str) -> Any:
    """An entry that has to be there, as ``hint`` says."""
    if key not in data:
        raise ValueError(f"{where}.{key} is missing")
    return as_type(data[key], hint, f"{where}.{key}")


def _no_others(data: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in data:
        if key not in known:
            raise ValueError(f"{where}.{key}: unknown entry; known: {', '.join(known)}")


def made(where: str, make: Any, *arguments: Any, **options: Any) -> Any:
    """What ``make`` makes, its errors by where their cause stands."""
    try:
        return make(*arguments, **options)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _numbers(data: Mapping[str, Any], key: str, dtype: torch.dtype | None, where: str) -> Tensor:
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
