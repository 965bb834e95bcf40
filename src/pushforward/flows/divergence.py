"""The exact divergence of a field by batched reverse-mode differentiation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor, peek_interpreter_stack
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..fields import Field, offered
from ..tensors import Condition, derivable, differentiable, event_size, flatten_event, sum_event

#: Numbers of all tangents that are pulled back at once on a CPU: a network's hidden layers are some times
#: larger, and in its cache products are up to a third quicker.
CACHED = 2**15


@contextmanager
def plain_attention() -> Iterator[None]:
    """The fused attention kernels have no second derivative; compute attention from plain products."""
    if torch.compiler.is_compiling():  # the switch of whole modules cannot be traced
        with sdpa_kernel(SDPBackend.MATH):
            yield
        return
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _value_and_pull(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``function(x)`` and its vector-Jacobian product."""
    plain = not (torch.is_grad_enabled() or torch.compiler.is_compiling() or peek_interpreter_stack())
    found = _plain_value_and_pull(function, x) if plain else None
    if found is not None:
        return found
    value, pull, *_ = torch.func.vjp(function, x)
    return value, lambda v: pull(v)[0]


def _plain_value_and_pull(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """The same, bit for bit, where nothing differentiates it again: torch.func.vjp loads torch's compiler,
    which takes longer than to score a table.  None where ``function`` holds tensors of inference mode, which
    torch.func takes and autograd does not."""
    x = x.detach().requires_grad_()
    try:
        with torch.enable_grad():
            value = function(x)
    except RuntimeError:
        return None
    if not value.requires_grad:
        return value, torch.zeros_like
    return value.detach(), lambda v: torch.autograd.grad(
        value, x, v, create_graph=True, materialize_grads=True
    )[0]


def field_divergence(
    field: Field, t: Tensor, x: Tensor, condition: Condition | None = None, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Value ``(B, *event)`` and exact divergence ``(B,)`` of a field at time ``t``.

    As the field itself computes them, see :func:`~pushforward.fields.offered`, else by :func:`divergence`.

    >>> field_divergence(lambda t, x, condition=None: x**2, torch.tensor(0.5), torch.tensor([[1.0, 2.0]]))
    (tensor([[1., 4.]]), tensor([6.]))
    """
    found = offered(field, t, x, condition)
    return found if found is not None else divergence(lambda y: field(t, y, condition), x, chunk)


def divergence(
    function: Callable[[Tensor], Tensor], x: Tensor, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Value and divergence of a map ``(B, *event) -> (B, *event)`` that treats rows independently.

    sum_i df_i/dx_i from one evaluation and one vector-Jacobian product per element of an event, batched over
    rows and elements; one after the other if ``torch.func`` cannot transform a layer of the map.  Elements
    are taken in groups of ``chunk``; without one, all, or on a CPU and without gradients as many as the cache
    holds.  The result is differentiable; works under ``no_grad`` and ``inference_mode``.  Returns
    ``(f(x), div)`` with div of shape ``(B,)``.

    >>> divergence(lambda x: x**2, torch.tensor([[1.0, 2.0]]))
    (tensor([[1., 4.]]), tensor([6.]))
    """
    with differentiable(), plain_attention():
        x = derivable(x)
        try:
            return _batched(function, x, chunk)
        except (RuntimeError, NotImplementedError):
            if is_functorch_wrapped_tensor(x):
                raise
            return _one_by_one(function, x)


def _batched(function: Callable[[Tensor], Tensor], x: Tensor, chunk: int | None) -> tuple[Tensor, Tensor]:
    d = event_size(x.shape[1:])
    basis = torch.eye(d, dtype=x.dtype, device=x.device).reshape(d, 1, *x.shape[1:])
    value, pull = _value_and_pull(function, x)
    if chunk is None and x.device.type == "cpu" and not torch.is_grad_enabled() and x.numel():
        chunk = max(4, CACHED // x.numel())

    def along(direction: Tensor) -> Tensor:
        slope = pull(direction.expand_as(value))
        return sum_event(slope * direction)

    slopes = torch.func.vmap(along, chunk_size=chunk)(basis)
    return value, slopes.sum(0)


def _one_by_one(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The same by plain differentiation, an element at a time."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        value = function(x)
        total, count = x.new_zeros(x.shape[0]), event_size(x.shape[1:]) if value.requires_grad else 0
        for element in range(count):
            (slope,) = torch.autograd.grad(
                flatten_event(value)[:, element].sum(),
                x,
                retain_graph=True,
                create_graph=again,
                allow_unused=True,
            )
            total = total if slope is None else total + flatten_event(slope)[:, element]
    return (value, total) if again else (value.detach(), total.detach())
