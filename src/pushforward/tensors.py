"""Tensor helpers of all layers: arrays, time broadcasting, event shapes, conditions."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor

__all__ = [
    "Condition",
    "ConditionLike",
    "TensorLike",
    "arrays_in",
    "condition_length",
    "condition_to",
    "derivable",
    "differentiable",
    "drop_condition",
    "event_size",
    "every",
    "expand_time",
    "flatten_event",
    "is_vmapped",
    "join_conditions",
    "map_condition",
    "mask_rows",
    "pack_condition",
    "parameter_dtype",
    "sum_event",
    "take_condition",
    "takes_arrays",
    "to_tensor",
    "unpack_condition",
    "valid_elements",
]

#: A condition: labels ``(B,)``, a tensor ``(B, ...)``, or a mapping of such tensors.
Condition = Tensor | Mapping[str, "Tensor"]


class _Table(Protocol):
    def to_numpy(self) -> np.ndarray[Any, Any]: ...


#: What becomes a tensor: an array, a DataFrame or Series, nested lists of numbers.
TensorLike = Tensor | np.ndarray[Any, Any] | _Table | Sequence[Any]
#: What becomes a condition: one of such, a number, or a mapping of them.
ConditionLike = TensorLike | float | Mapping[str, "TensorLike"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def to_tensor(value: Any, name: str = "x", dtype: torch.dtype | None = None) -> Tensor:
    """A tensor as it is; an array, DataFrame, Series or nested list of numbers as a tensor.

    Floats of an array get ``dtype``, if one is given; integers stay integers, because they may be labels.
    Raises ValueError for anything but an array of numbers.

    >>> to_tensor([[1.0, 2.0]]), to_tensor(np.zeros(2), dtype=torch.float32)
    (tensor([[1., 2.]]), tensor([0., 0.]))
    """
    if isinstance(value, Tensor):
        return value
    try:
        array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except ValueError:
        raise ValueError(f"{name}: expected rows of equal length") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected numbers, got {type(value).__name__} of {array.dtype}")
    # torch has no tensors that run backwards, and none of another byte order
    tensor = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    if dtype is None and not isinstance(value, np.ndarray) and not hasattr(value, "to_numpy"):
        dtype = torch.get_default_dtype()  # of a list of numbers, as torch.tensor has it
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def parameter_dtype(module: nn.Module) -> torch.dtype | None:
    """The dtype of a module's first floating parameter, in which it computes; None without parameters."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def takes_arrays(function: _Function) -> _Function:
    """``function`` with every NumPy array, DataFrame and Series among its arguments made a tensor.

    Mappings of such are too.  Floats get the dtype of the parameters of the first argument, where that is a
    module that has some.

    >>> takes_arrays(lambda x: x.square())(np.array([2.0]))
    tensor([4.], dtype=torch.float64)
    """

    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **options)
        if any(map(_is_array, args)) or any(map(_is_array, options.values())):
            first = args[0] if args else None
            dtype = parameter_dtype(first) if isinstance(first, nn.Module) else None
            named = [*names, *names[-1:] * len(args)]  # the last name is that of *rest, too
            args = tuple(_as_tensors(value, name, dtype) for name, value in zip(named, args))
            options = {name: _as_tensors(value, name, dtype) for name, value in options.items()}
        return function(*args, **options)

    # its type stays that of ``function``, though it takes arrays and tables as well
    return wrapped  # type: ignore[return-value]


def plain(method: _Function) -> _Function:
    """A bound method that :func:`takes_arrays` has wrapped, without the wrapper: for tensors alone."""
    inner = getattr(method, "__wrapped__", None)
    # called as ``method`` is, which type checkers cannot know
    return method if inner is None else functools.partial(inner, method.__self__)  # type: ignore[return-value]


def arrays_in(cls: type, *names: str) -> None:
    """Let the methods ``names`` that ``cls`` itself defines take arrays, see :func:`takes_arrays`.

    For the ``__init_subclass__`` of an abstract class, so that every subclass does, also a user's.
    """
    for name in names:
        if name in cls.__dict__:
            setattr(cls, name, takes_arrays(cls.__dict__[name]))


def _is_array(value: Any) -> bool:
    if value is None or isinstance(value, Tensor | str | int | float | nn.Module):
        return False
    if isinstance(value, dict):
        return any(map(_is_array, value.values()))
    return isinstance(value, np.ndarray) or hasattr(value, "to_numpy")


def _as_tensors(value: Any, name: str, dtype: torch.dtype | None) -> Any:
    if isinstance(value, dict):
        return {key: _as_tensors(part, f"{name}[{key!r}]", dtype) for key, part in value.items()}
    return to_tensor(value, name, dtype) if _is_array(value) else value


def expand_time(t: Tensor | float, x: Tensor) -> Tensor:
    """Give ``t`` the shape that multiplies ``x`` of shape ``(B, *event)`` row by row.

    This is the only place where time is broadcast.  A scalar stays a scalar, ``(B,)`` becomes
    ``(B, 1, ..., 1)``, and a tensor with as many dimensions as ``x`` (an operator-valued time) is kept.

    >>> expand_time(torch.zeros(3), torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 1, 1, 1])
    """
    if not isinstance(t, Tensor):
        return torch.full((), t, dtype=x.dtype, device=x.device)
    if t.ndim == 0 or t.ndim == x.ndim:
        return t
    if t.ndim == 1 and t.shape[0] in (1, x.shape[0]):
        return t.reshape(-1, *([1] * (x.ndim - 1)))
    raise ValueError(
        f"t: expected a scalar, shape ({x.shape[0]},) or {x.ndim} dimensions, got shape {tuple(t.shape)}"
    )


def valid_elements(mask: Tensor, x: Tensor) -> Tensor:
    """``mask`` ``(B, ...)`` of the first dimensions of events as one of all elements of ``x``.

    Raises ValueError for a mask of another shape.

    >>> valid_elements(torch.tensor([[True, False]]), torch.zeros(1, 2, 2))
    tensor([[[ True,  True],
             [False, False]]])
    """
    if mask.ndim > x.ndim or mask.shape != x.shape[: mask.ndim]:
        raise ValueError(
            f"mask: expected the first dimensions of {tuple(x.shape)}, got shape {tuple(mask.shape)}"
        )
    return mask.bool().reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)).expand_as(x)


def mask_rows(mask: Tensor, lead: Sequence[int], event: Sequence[int]) -> Tensor:
    """One mask for each row of leading dimensions ``lead``: ``(rows, ...)``.

    ``mask`` has the leading dimensions and then the first dimensions of an event, or the latter alone, for a
    mask that all rows share.  Raises ValueError for another shape.

    >>> mask_rows(torch.ones(5), (3,), (5, 2)).shape, mask_rows(torch.ones(3, 5, 2), (3,), (5, 2)).shape
    (torch.Size([3, 5]), torch.Size([3, 5, 2]))
    """
    shape, lead, event = tuple(mask.shape), tuple(lead), tuple(event)
    own = shape[len(lead) :]
    if shape[: len(lead)] == lead and own and own == event[: len(own)]:
        return mask.reshape(-1, *own)
    if shape and shape == event[: len(shape)]:
        return mask.expand(*lead, *shape).reshape(event_size(lead), *shape)
    raise ValueError(
        f"mask: expected {lead} and the first dimensions of {event}, or these alone, got {shape}"
    )


def sum_event(x: Tensor) -> Tensor:
    """Sum all but the first dimension: ``(B, *event) -> (B,)``."""
    return flatten_event(x).sum(-1)


def flatten_event(x: Tensor) -> Tensor:
    """One vector a row: ``(B, *event) -> (B, D)``, also of no rows."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def is_vmapped(x: Tensor) -> bool:
    """Whether ``x`` stands for a batch of tensors that ``torch.func.vmap`` hides."""
    while is_functorch_wrapped_tensor(x):
        if is_batchedtensor(x):
            return True
        x = get_unwrapped(x)
    return False


def every(x: Tensor) -> bool:
    """Whether all entries of a boolean tensor are true, also over a batch that ``torch.func`` may hide."""
    while is_functorch_wrapped_tensor(x):
        x = get_unwrapped(x)
    return bool(x.all())


@contextmanager
def differentiable() -> Iterator[None]:
    """Leave inference mode, whose tensors have no derivatives; gradients stay enabled or disabled."""
    again = torch.is_grad_enabled()  # before inference_mode(False), which switches it on
    with torch.inference_mode(False), torch.set_grad_enabled(again):
        yield


def derivable(x: Tensor) -> Tensor:
    """``x``, or a copy of a tensor of inference mode, which takes no derivatives.

    Tensors that ``torch.compile`` traces are taken as they are: it runs graphs without inference mode.
    """
    return x.clone() if not torch.compiler.is_compiling() and x.is_inference() else x


def event_size(shape: Sequence[int]) -> int:
    """Number of elements of one event."""
    return math.prod(shape)


def map_condition(function: Callable[[Tensor], Tensor], condition: Condition | None) -> Condition | None:
    """Apply ``function`` to every tensor of a condition (None stays None)."""
    if condition is None:
        return None
    if isinstance(condition, Tensor):
        return function(condition)
    return {key: function(value) for key, value in condition.items()}


def condition_length(condition: Condition) -> int:
    """The number of rows of a condition."""
    return len(condition if isinstance(condition, Tensor) else next(iter(condition.values())))


def take_condition(condition: Condition | None, index: Tensor | slice) -> Condition | None:
    """The conditions of the rows at ``index``."""
    return map_condition(lambda c: c[index], condition)


def condition_to(condition: Condition | None, device: torch.device | str) -> Condition | None:
    """The same condition on ``device``."""
    return map_condition(lambda c: c.to(device), condition)


def join_conditions(*parts: Condition | None) -> Condition | None:
    """The conditions of all parts, concatenated by rows; None where none has any.

    >>> join_conditions(torch.tensor([1]), torch.tensor([2, 3])), join_conditions(None, None)
    (tensor([1, 2, 3]), None)
    """
    named = [part for part in parts if isinstance(part, Mapping)]
    if named:
        return {name: torch.cat([part[name] for part in named]) for name in named[0]}
    given = [part for part in parts if isinstance(part, Tensor)]
    return torch.cat(given) if given else None


def pack_condition(condition: Condition | None) -> dict[str, Tensor]:
    """A condition as tensors of a file: ``condition``, or ``condition/NAME`` for each of a mapping.

    >>> sorted(pack_condition({"age": torch.zeros(2), "kind": torch.ones(2)}))
    ['condition/age', 'condition/kind']
    """
    if condition is None:
        return {}
    named = {"condition": condition} if isinstance(condition, Tensor) else condition
    prefix = "" if isinstance(condition, Tensor) else "condition/"
    return {prefix + name: c.contiguous() for name, c in named.items()}


def unpack_condition(tensors: Mapping[str, Tensor]) -> Condition | None:
    """The inverse of :func:`pack_condition` on a file that may hold other tensors too."""
    if "condition" in tensors:
        return tensors["condition"]
    prefix = "condition/"
    named = {name.removeprefix(prefix): c for name, c in tensors.items() if name.startswith(prefix)}
    return named or None


def drop_condition(condition: Condition | None, rows: Tensor | None = None) -> Condition | None:
    """Mark conditions as absent: label -1, or NaN in a continuous condition.

    ``rows``, a boolean ``(B,)``, is True for the rows that lose their condition (None: all of them).
    Networks replace an absent condition by a learnt vector; ``condition=None`` means absent everywhere.

    >>> drop_condition(torch.tensor([3, 1]), torch.tensor([True, False]))
    tensor([-1,  1])
    """

    def drop(c: Tensor) -> Tensor:
        absent = torch.full_like(c, math.nan if c.is_floating_point() else -1)
        if rows is None:
            return absent
        return torch.where(rows.reshape(-1, *([1] * (c.ndim - 1))), absent, c)

    return map_condition(drop, condition)
