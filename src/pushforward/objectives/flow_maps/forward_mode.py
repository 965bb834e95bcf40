"""Forward-mode derivatives of flow maps, and what to say of a network that has none."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from ... import registry
from ...entries import LOSSES
from ...flows.divergence import plain_attention

#: How PyTorch says that an operation has no forward-mode derivative.
_LACKING = re.compile(r"forward AD|forward.mode|functorch transforms|jvp|tangent", re.I)


def derivative(
    function: Callable[..., Tensor], points: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """``function(*points)`` and its derivative along ``tangents``.

    Attention is computed from plain products, since its fused kernels have no such derivative.  Raises
    ValueError, which names the layer, for another operation that has none.

    >>> derivative(lambda x: x**2, (torch.tensor(3.0),), (torch.tensor(1.0),))
    (tensor(9.), tensor(6.))
    """
    if torch.compiler.is_compiling():
        with plain_attention():
            both = torch.func.jvp(function, points, tangents)
        return both[0], both[1]
    try:
        with plain_attention():
            both = torch.func.jvp(function, points, tangents)
    except (NotImplementedError, RuntimeError) as error:
        if _LACKING.search(str(error)) is None:
            raise
        raise ValueError(
            f"field: {_layer(error.__traceback__)} has no forward-mode derivative, which this loss takes; "
            f"{_instead()}"
        ) from error
    return both[0], both[1]


def check_dropout(model: nn.Module, what: str = "field") -> None:
    """Raise ValueError, which names the layer, for dropout in training mode.

    A value and its derivative would be those of different networks.
    """
    for name, module in model.named_modules():
        rate = getattr(module, "dropout", 0.0) if type(module) is nn.MultiheadAttention else 0.0
        rate = module.p if isinstance(module, _DropoutNd) else rate
        if module.training and rate > 0:
            raise ValueError(
                f"{what}: {_called(name, module)} drops out {rate:g} of its inputs, and this loss takes "
                f"derivatives; set dropout to 0, or {_instead()}"
            )


def without_derivatives() -> str:
    """The names of the losses of flow maps that take no derivatives, as text.

    >>> without_derivatives()
    'semigroup, alpha-flow, shortcut, consistency or moment-matching'
    """
    names = [name for name in LOSSES if not getattr(registry.found("loss", name), "derivative", True)]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _instead() -> str:
    """What is possible without forward-mode derivatives."""
    return f"take a loss without derivatives: {without_derivatives()}"


def _layer(trace: TracebackType | None) -> str:
    """The innermost module that was being called, by its name within the outermost one."""
    modules: list[nn.Module] = []
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            modules.append(owner)
        trace = trace.tb_next
    while modules and type(modules[0]).__name__.startswith("_"):  # wrappers that a user does not see
        del modules[0]
    if not modules:
        return "the flow map"
    names = {module: name for name, module in modules[0].named_modules()}
    return _called(names.get(modules[-1], ""), modules[-1])


def _called(name: str, module: nn.Module) -> str:
    """A module by its class, and its name where it has one."""
    return f"{type(module).__name__} ({name})" if name else type(module).__name__
