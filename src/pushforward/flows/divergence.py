"""The exact divergence of a field by batched forward-mode differentiation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..tensors import event_size


@contextmanager
def _plain_attention() -> Iterator[None]:
    """The fused attention kernels have no forward mode; compute attention from plain products."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def divergence(
    function: Callable[[Tensor], Tensor], x: Tensor, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Value and divergence of a map ``(B, *event) -> (B, *event)`` that treats rows independently.

    sum_i df_i/dx_i from one Jacobian-vector product per element of an event, batched over elements (in
    groups of ``chunk``) and rows.  Differentiable again; works under ``inference_mode``.  Returns
    ``(f(x), div)`` with div of shape ``(B,)``.

    >>> divergence(lambda x: x**2, torch.tensor([[1.0, 2.0]]))
    (tensor([[1., 4.]]), tensor([6.]))
    """
    # Forward-mode duals cannot be made of inference tensors, so leave that mode and copy what came from it.
    with torch.inference_mode(False), torch.set_grad_enabled(torch.is_grad_enabled()):
        if x.is_inference():
            x = x.clone()
        d = event_size(x.shape[1:])
        basis = torch.eye(d, dtype=x.dtype, device=x.device).reshape(d, *x.shape[1:])

        def along(direction: Tensor) -> tuple[Tensor, Tensor]:
            value, slope, *_ = torch.func.jvp(function, (x,), (direction.expand_as(x),))
            return value, (slope * direction).reshape(x.shape[0], -1).sum(-1)

        with _plain_attention():
            # vmap's own chunks cannot return the value, which no direction changes, so split here.
            batched = torch.func.vmap(along, out_dims=cast(Any, (None, 0)))
            parts = [batched(part) for part in basis.split(chunk or d)]
        return parts[0][0], torch.stack([slopes.sum(0) for _, slopes in parts]).sum(0)
