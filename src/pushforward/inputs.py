"""Checks of a user's arguments, each with a ValueError that names the argument."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from .tensors import Condition, parameter_dtype, to_tensor

__all__ = [
    "as_points",
    "check_device",
    "check_finite",
    "check_matrices",
    "check_rows",
    "check_same",
    "check_weights",
    "to_condition",
]


def to_condition(condition: Any, module: nn.Module) -> Condition | None:
    """A condition of ``module`` as tensors on its device: numbers in its dtype, labels as int64.

    Raises ValueError for anything but numbers, and for a tensor on another device.
    """
    if condition is None:
        return None
    if isinstance(condition, Mapping):
        return {key: _one_condition(part, f"condition[{key!r}]", module) for key, part in condition.items()}
    return _one_condition(condition, "condition", module)


def _one_condition(value: Any, name: str, module: nn.Module) -> Tensor:
    given = isinstance(value, Tensor)
    tensor = value if given else to_tensor(value, name, parameter_dtype(module))
    check_device(tensor, module, name)
    return tensor if given or tensor.is_floating_point() else tensor.long()


def check_device(x: Tensor, module: nn.Module, name: str = "x") -> None:
    """Raise ValueError unless ``x`` is on the device of the parameters, or buffers, of ``module``."""
    home = next(module.parameters(), None)
    home = next(module.buffers(), None) if home is None else home
    if home is not None and home.device != x.device:
        raise ValueError(
            f"{name}: is on {x.device} and the {type(module).__name__} on {home.device}; move one of them, "
            f"{name}.to({str(home.device)!r}) or the model's .to({str(x.device)!r})"
        )


def check_same(x: Tensor, module: nn.Module, name: str = "x") -> None:
    """Raise ValueError if ``module`` has parameters of another dtype than ``x``, outside autocast."""
    dtype = parameter_dtype(module)
    if dtype is None or dtype == x.dtype or torch.is_autocast_enabled(x.device.type):
        return
    raise ValueError(
        f"{name}: is {x.dtype} and the {type(module).__name__} {dtype}; change one of them, "
        f"{name}.to({dtype}) or the model's .to({x.dtype})"
    )


def check_finite(x: Tensor, name: str = "x") -> Tensor:
    """``x``, or a ValueError if a value is not finite; not checked under compilation and ``torch.func``."""
    if torch.compiler.is_compiling() or is_functorch_wrapped_tensor(x):
        return x
    if not bool(x.isfinite().all()):
        wrong = x[~x.isfinite()]
        raise ValueError(f"{name}: expected finite values, got {float(wrong[0])} and {len(wrong) - 1} more")
    return x


def check_rows(x: Tensor, event: Sequence[int], name: str = "x") -> Tensor:
    """``x``, with a ValueError unless its shape is ``(B, *event)``."""
    if x.ndim != len(event) + 1 or tuple(x.shape[1:]) != tuple(event):
        raise ValueError(
            f"{name}: expected shape ({', '.join(map(str, ('B', *event)))}), got {tuple(x.shape)}"
        )
    return x


def check_matrices(matrices: Tensor, name: str) -> Tensor:
    """``(..., d, d)``, with a ValueError unless it is symmetric and positive definite.

    Rows and columns are compared in units in which the diagonal is 1, whatever the units of the data.
    """
    check_finite(matrices, name)
    scale = matrices.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    unit = matrices / (scale[..., :, None] * scale[..., None, :])
    slack = math.sqrt(torch.finfo(matrices.dtype).eps)
    if not bool((scale > 0).all()) or bool(torch.linalg.cholesky_ex(unit + unit.mT)[1].any()):
        raise ValueError(f"{name}: expected positive definite matrices")
    if bool(((unit - unit.mT).abs() > slack).any()):
        raise ValueError(f"{name}: expected symmetric matrices")
    return matrices


def as_points(x: Any, name: str) -> Tensor:
    """At least one row ``(N, *event)`` of finite floats, as a tensor."""
    x = to_tensor(x, name)
    if x.ndim == 0 or len(x) == 0 or not x.is_floating_point():
        raise ValueError(f"{name}: expected floats (N, *event), got {x.dtype} of shape {tuple(x.shape)}")
    return check_finite(x, name)


def check_weights(weights: Any, count: int, name: str = "weights") -> Tensor:
    """``count`` weights as a tensor, with a ValueError unless they are non-negative with a positive sum."""
    w = weights if isinstance(weights, Tensor) else torch.as_tensor(weights, dtype=torch.float64)
    if w.shape != (count,) or not bool((w >= 0).all()) or not 0 < float(w.sum()) < math.inf:
        raise ValueError(f"{name}: expected {count} finite non-negative numbers with a positive sum")
    return w
