"""Derivatives of perceptrons in closed form, from the slopes of their activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.modules import module as torch_module

#: Numbers of a block of tangents: as many as stay in the cache of one core.
CACHED = 2**17
#: The same on an accelerator, which wants large products.
LARGE = 2**25


def _silu(z: Tensor, h: Tensor, layer: Any) -> Tensor:
    s = torch.sigmoid(z)
    return torch.addcmul(s, h, 1 - s)


def _gelu(z: Tensor, h: Tensor, layer: Any) -> Tensor:
    below = 0.5 + 0.5 * torch.erf(z * 0.5**0.5)
    return below + z * torch.exp(-0.5 * z.square()) * (2 * torch.pi) ** -0.5


def _softplus(z: Tensor, h: Tensor, layer: Any) -> Tensor:
    z = layer.beta * z
    return torch.where(z > layer.threshold, 1.0, torch.sigmoid(z))


def _selu(z: Tensor, h: Tensor, layer: Any) -> Tensor:
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    return torch.where(z > 0, scale, h + scale * alpha)


#: The slope of an activation at ``z``, where its value is ``h``.  Subclasses may compute something else.
_SLOPES: dict[type[nn.Module], Callable[[Tensor, Tensor, Any], Tensor]] = {
    nn.ELU: lambda z, h, layer: torch.where(z > 0, 1.0, h + layer.alpha),
    nn.GELU: _gelu,
    nn.ReLU: lambda z, h, layer: (z > 0).to(z.dtype),
    nn.SELU: _selu,
    nn.SiLU: _silu,
    nn.Softplus: _softplus,
    nn.Tanh: lambda z, h, layer: 1 - h.square(),
}


def hooked(module: nn.Module) -> bool:
    """Whether a call of ``module`` does more than its class's ``forward``: hooks, or one of its own."""
    own = vars(module)
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in own or any(own[name] for name in hooks) or bool(torch_module._has_any_global_hook())


def is_linear(layer: nn.Module) -> bool:
    """Whether ``layer`` computes ``weight @ x + bias`` and nothing else, its weight parametrised or not."""
    return getattr(type(layer), "forward", None) is nn.Linear.forward and not hooked(layer)


def is_activation(layer: nn.Module) -> bool:
    """Whether ``layer`` is an activation whose slope is known here, and leaves its input as it is."""
    if type(layer) not in _SLOPES or hooked(layer):
        return False
    # the approximate GELU is another function
    return not getattr(layer, "inplace", False) and getattr(layer, "approximate", "none") == "none"


def value_and_slope(layer: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """An activation and its derivative at ``z``.

    >>> value_and_slope(nn.Tanh(), torch.zeros(1))
    (tensor([0.]), tensor([1.]))
    """
    h = layer(z)
    return h, _SLOPES[type(layer)](z, h, layer)


def contract(
    first: Tensor,
    weights: Sequence[Tensor],
    last: Tensor,
    slopes: Sequence[Tensor],
    factor: Tensor | None = None,
) -> Tensor:
    r"""Traces of the Jacobians of perceptrons, ``(B,)``, one for each row of ``slopes``.

    .. math:: \sum_n f_n\, l_n^\top D_K W_K D_{K-1} \cdots W_2 D_1\, a_n

    with ``a_n`` the rows of ``first`` ``(N, w_1)``, ``l_n`` those of ``last`` ``(N, w_K)``, D_k the diagonal
    matrices of ``slopes``, K tensors ``(B, w_k)``, and ``weights`` W_2, ..., W_K.  ``factor`` ``(B, N)`` is
    1 if it is None.  The tangents W_k ... D_1 a_n are computed in blocks that stay in the cache; without any
    ``weights`` there are none, and the sum is a bilinear form.

    >>> identity = torch.eye(2)
    >>> contract(identity, [], identity, [torch.tensor([[1.0, 2.0]])])
    tensor([3.])
    """
    if not weights:
        each = slopes[0] @ (first * last).t()
        return each.sum(-1) if factor is None else (each * factor).sum(-1)
    first = first.contiguous()

    def block(some: slice, *rows: Tensor) -> Tensor:
        tangent = first[some, None] * rows[0]
        if factor is not None:
            tangent = tangent * rows[-1][:, some].t()[:, :, None]
        for weight, slope in zip(weights[:-1], rows[1:]):
            tangent = linear(tangent, weight) * slope
        return (linear(tangent, weights[-1]) * last[some, None]).sum(0)

    rows = [*slopes[:-1], *([] if factor is None else [factor])]
    # the last slope is the same for every tangent: it multiplies their sum
    return (by_blocks(block, len(first), rows) * slopes[-1]).sum(-1)


def by_blocks(block: Callable[..., Tensor], count: int, rows: Sequence[Tensor]) -> Tensor:
    """The sum over tangents of what ``block(some, *rows)`` gives for each row.

    some: a slice of the ``count`` tangents.  rows: tensors ``(B, ...)``, the first ``(B, width)``, which are
    handed on in parts.  Blocks are of some tangents and some rows, so that each stays in the cache.
    """
    first = rows[0]
    size = max(1, (CACHED if first.device.type == "cpu" else LARGE) // first.shape[1])
    found: list[Tensor] = []
    for part in zip(*(row.split(size) for row in rows)):
        # a compiler arranges one large block better than many small ones
        several = count if torch.compiler.is_compiling() else max(1, size // max(1, len(part[0])))
        total = block(slice(0, several), *part)
        for start in range(several, count, several):
            total = total + block(slice(start, start + several), *part)
        found.append(total)
    return torch.cat(found) if len(found) > 1 else found[0]
