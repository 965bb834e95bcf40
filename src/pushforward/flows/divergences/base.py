"""The abstract divergence, and the products with Jacobians that estimates are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

from ... import random
from ...fields import Field
from ...tensors import Condition, derivable, differentiable, event_size
from ..divergence import plain_attention

Noise = Literal["rademacher", "gaussian"]

#: Random directions of one estimate at most: all are pulled back at once, in memory that grows with them.
MOST_PROBES = 1000


class Divergence(ABC):
    """sum_i df_i/dx_i of a velocity field f, by which a density changes along its flow.

    exact: whether it is the divergence itself.  An estimate is right on average over the noise that
    :meth:`draw` draws, for each row on its own.
    """

    exact: ClassVar[bool] = False

    @abstractmethod
    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """Noise for one solve that starts with rows ``x`` ``(B, *event)``: rows first, or None for none.

        It stays the same along the whole solve, which keeps the right-hand side a smooth function of time.
        """

    @abstractmethod
    def __call__(
        self, field: Field, t: Tensor, x: Tensor, condition: Condition | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``field(t, x, condition)`` ``(B, *event)`` and its divergence ``(B,)``; rows do not mix.

        Both can be differentiated in ``x`` and in the parameters where gradients are recorded.
        """


def check_noise(noise: Noise) -> Noise:
    """``noise``, or a ValueError for an unknown one."""
    if noise not in get_args(Noise):
        raise ValueError(f"noise: expected one of {', '.join(get_args(Noise))}, got {noise!r}")
    return noise


def directions(kind: Noise, probes: int, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random directions e with E[e e^T] = I, ``probes`` for each row of ``x``: ``(B, probes, d)``."""
    shape = (x.shape[0], probes, event_size(x.shape[1:]))
    if kind == "gaussian":
        return random.normal(shape, generator, x.dtype, x.device)
    u = random.uniform(shape, generator, x.dtype, x.device)
    return torch.where(u < 0.5, -1.0, 1.0).to(x)


def value_and_products(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``function(x)`` and its vector-Jacobian products, n vectors v a row, ``(B, n, d)``, to J^T v.

    One evaluation, then one reverse pass for all n vectors of every row, which every network can do that was
    trained.  Forward-mode products of a perceptron take 1.5 to 3 times as long, in training too.
    """
    with differentiable(), plain_attention():
        x = derivable(x)
        again = torch.is_grad_enabled()
        # a copy of x that takes derivatives would leave them on the value, where nothing else wants any
        if torch.compiler.is_compiling() or peek_interpreter_stack() or (again and not x.requires_grad):
            return _by_transform(function, x)
        try:
            return _by_autograd(function, x, again)
        except RuntimeError:  # tensors of inference mode in ``function``, which torch.func takes
            return _by_transform(function, x)


def _by_transform(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    value, pull, *_ = torch.func.vjp(function, x)
    of_all = torch.func.vmap(lambda v: pull(v.reshape(value.shape))[0].reshape(v.shape), 1, 1)
    return value, of_all


def _by_autograd(
    function: Callable[[Tensor], Tensor], x: Tensor, again: bool
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    with torch.enable_grad():
        x = x if again else x.detach().requires_grad_()
        value = function(x)
    if not value.requires_grad:
        return value, torch.zeros_like

    def products(v: Tensor) -> Tensor:
        shape, count = v.shape, v.shape[1]
        several = count != 1
        v = v.transpose(0, 1).reshape(count, *value.shape) if several else v.reshape(value.shape)
        with differentiable(), plain_attention():
            (found,) = torch.autograd.grad(
                value,
                x,
                v,
                retain_graph=True,
                create_graph=again,
                materialize_grads=True,
                is_grads_batched=several,
            )
        return found.reshape(count, len(value), -1).transpose(0, 1) if several else found.reshape(shape)

    return (value if again else value.detach()), products
