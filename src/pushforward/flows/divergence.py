"""The exact divergence of a field by batched reverse-mode differentiation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..tensors import event_size


@contextmanager
def _plain_attention() -> Iterator[None]:
    """The fused attention kernels have no second derivative; compute attention from plain products."""
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

    sum_i df_i/dx_i from one evaluation and one vector-Jacobian product per element of an event, batched
    over elements (in groups of ``chunk``) and rows.  Differentiable again; works under ``no_grad`` and
    ``inference_mode``.  Returns ``(f(x), div)`` with div of shape ``(B,)``.

    >>> divergence(lambda x: x**2, torch.tensor([[1.0, 2.0]]))
    (tensor([[1., 4.]]), tensor([6.]))
    """
    # Nothing can be derived from inference tensors, so leave that mode and copy what came from it.
    with torch.inference_mode(False), torch.set_grad_enabled(torch.is_grad_enabled()), _plain_attention():
        if x.is_inference():
            x = x.clone()
        d = event_size(x.shape[1:])
        basis = torch.eye(d, dtype=x.dtype, device=x.device).reshape(d, 1, *x.shape[1:])
        value, pull, *_ = torch.func.vjp(function, x)

        def along(direction: Tensor) -> Tensor:
            (slope,) = pull(direction.expand_as(value))
            return (slope * direction).reshape(x.shape[0], -1).sum(-1)

        slopes = torch.func.vmap(along, chunk_size=chunk)(basis)
        return value, slopes.sum(0)
