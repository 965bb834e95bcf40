"""Inverses without a closed form: bracketed roots of increasing functions, and derivatives of solutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._C._functorch import maybe_current_level
from torch.autograd import forward_ad
from torch.func import functional_call, vjp, vmap

from ...tensors import Condition, every, pack_condition, unpack_condition

#: u -> J^T u
Pull = Callable[[Tensor], Tensor]


class InverseFailed(RuntimeError):
    """An inverse that has no closed form did not reach its tolerance."""


def increasing_root(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    target: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int = 100,
) -> Tensor:
    """x with f(x) = ``target`` for an increasing f known to have it in [low, high], elementwise.

    ``function`` gives value and slope.  Newton's method, with a bisection wherever it leaves the bracket;
    it stops when no step moves any x by more than rounding does.  Raises InverseFailed where that takes
    more than ``iterations`` steps, and for targets that are not finite.
    """
    eps = torch.finfo(target.dtype).eps
    # rounding may have put the root a little outside
    slack = 4 * eps * torch.maximum(low.abs(), high.abs())
    low, high = low - slack, high + slack
    x = 0.5 * (low + high)
    done = torch.zeros_like(x, dtype=torch.bool)
    for iteration in range(iterations):
        value, slope = function(x)
        above = value >= target
        low, high = torch.where(above, low, x), torch.where(above, x, high)
        newton = x - (value - target) / slope
        inside = (newton >= low) & (newton <= high)
        if iteration % 4 == 3:  # rounding can keep Newton's method going round in circles
            inside = torch.zeros_like(inside)
        step = torch.where(inside, newton, 0.5 * (low + high))
        # what rounding in the value can move the root by
        noise = 4 * eps * (x.abs() + (value.abs() + target.abs()) / slope)
        # where the slope vanishes both are infinite, and say nothing
        near = ((newton - x).abs() <= noise) & noise.isfinite() | (high - low <= 2 * eps * x.abs())
        x = torch.where(done, x, torch.where(near, newton.clamp(low, high), step))
        done = done | near
        if every(done):
            return x
    raise InverseFailed(
        f"the inverse did not reach its tolerance in {iterations} steps; are the inputs finite?"
    )


def differentiating() -> bool:
    """Whether derivatives may be asked for: by autograd, or by forward mode, which ``no_grad`` leaves on."""
    return torch.is_grad_enabled() or forward_ad._current_level >= 0


def smooth_root(
    function: Callable[..., tuple[Tensor, Tensor]],
    bracket: Callable[..., tuple[Tensor, Tensor]],
    target: Tensor,
    *tensors: Tensor,
) -> Tensor:
    """:func:`increasing_root` of ``function(x, *tensors)``, with derivatives of any order.

    ``bracket(target, *tensors)`` gives its ends.  Neither function may use other tensors.
    """

    def solve(target: Tensor, *tensors: Tensor) -> Tensor:
        return increasing_root(lambda x: function(x, *tensors), target, *bracket(target, *tensors))

    def undo(pull: Pull, x: Tensor, g: Tensor, transposed: bool) -> Tensor:
        return g / pull(torch.ones_like(x))  # which is the slope

    equation = _Equation(solve, lambda x, *tensors: function(x, *tensors)[0], undo)
    return cast(Tensor, _Implicit.apply(equation, target, *tensors))


def smooth_inverse(
    module: nn.Module,
    function: Callable[[Tensor, Condition | None], Tensor],
    solve: Callable[[Tensor, Condition | None], Tensor],
    y: Tensor,
    condition: Condition | None,
) -> Tensor:
    """x = ``solve(y, condition)`` of ``function(x, condition)`` = y, with derivatives of any order.

    Rows ``(B, *event)``, each image depending on its own row alone.  Both functions may use parameters and
    buffers of ``module``, and no other tensors.
    """
    own = {**dict(module.named_parameters("module")), **dict(module.named_buffers("module"))}
    told = pack_condition(condition)
    value, find = (_with_tensors(_Called(module, f), list(own), list(told)) for f in (function, solve))

    def undo(pull: Pull, x: Tensor, g: Tensor, transposed: bool) -> Tensor:
        size = x.shape[1:].numel()
        eye = torch.eye(size, dtype=x.dtype, device=x.device)
        eye = eye.reshape(size, 1, *x.shape[1:]).expand(-1, *x.shape)
        jacobian = vmap(pull)(eye).movedim(0, 1).reshape(len(x), size, size)
        rows = g.reshape(len(x), size)
        return torch.linalg.solve(jacobian.mT if transposed else jacobian, rows).reshape(x.shape)

    return cast(Tensor, _Implicit.apply(_Equation(find, value, undo), y, *own.values(), *told.values()))


def _with_tensors(call: _Called, own: list[str], told: list[str]) -> Callable[..., Tensor]:
    """``call(x, condition)`` as a function of x and of all tensors it uses, named by ``own`` and ``told``."""

    def function(x: Tensor, *tensors: Tensor) -> Tensor:
        condition = unpack_condition(dict(zip(told, tensors[len(own) :])))
        return functional_call(call, dict(zip(own, tensors)), (x, condition))

    return function


class _Called(nn.Module):
    """A function of a module's parameters as something that ``functional_call`` can call."""

    def __init__(self, module: nn.Module, function: Callable[..., Tensor]):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, x: Tensor, condition: Condition | None) -> Tensor:
        return self.function(x, condition)


@dataclass(frozen=True)
class _Equation:
    """f(x, *tensors) = y: how x is found, f, and g -> J^-1 g or J^-T g from u -> J^T u, with J = df/dx."""

    solve: Callable[..., Tensor]
    value: Callable[..., Tensor]
    undo: Callable[[Pull, Tensor, Tensor, bool], Tensor]

    def pulls(
        self, x: Tensor, tensors: Sequence[Tensor], wanted: Sequence[bool]
    ) -> tuple[Pull, Callable[..., Any]]:
        """u -> J^T u, and u -> (df/dtensors)^T u for each of the tensors that are ``wanted``."""

        def value(x: Tensor, *moving: Tensor) -> Tensor:
            left = iter(moving)
            return self.value(x, *(next(left) if w else t for w, t in zip(wanted, tensors)))

        moving = [t for w, t in zip(wanted, tensors) if w]
        if torch.is_grad_enabled() or maybe_current_level() is not None:
            by_x = vjp(lambda x: value(x, *moving), x)[1]
            return lambda u: by_x(u)[0], lambda u: vjp(lambda *m: value(x, *m), *moving)[1](u)
        # nobody differentiates what comes out: one evaluation serves both
        with torch.enable_grad():
            x, *moving = (t.detach().requires_grad_() for t in (x, *moving))
            y = value(x, *moving)

        def by_tensors(u: Tensor) -> tuple[Tensor | None, ...]:
            return torch.autograd.grad(y, moving, u, allow_unused=True)

        return lambda u: torch.autograd.grad(y, x, u, retain_graph=True)[0], by_tensors


class _Implicit(torch.autograd.Function):
    """The solution x(y, *tensors) of an equation.

    dx = J^-1 (dy - df/dtensors dtensors).  What the derivative is made of is differentiable itself, x
    included, and so derivatives of all orders come out.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(equation: _Equation, y: Tensor, *tensors: Tensor) -> Tensor:
        return equation.solve(y, *tensors).clone()  # dual numbers take no views

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.equation = inputs[0]
        ctx.save_for_backward(output, *inputs[2:])
        ctx.save_for_forward(output, *inputs[2:])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grad_outputs
        x, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        by_x, by_tensors = ctx.equation.pulls(x, tensors, wanted)
        u = ctx.equation.undo(by_x, x, g, True)
        grads = iter(by_tensors(-u) if any(wanted) else ())
        return None, u, *(next(grads) if w else None for w in wanted)

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Tensor:
        _, y_dot, *dots = grad_inputs
        x, *tensors = ctx.saved_tensors
        wanted = [t.is_floating_point() for t in tensors]
        with torch.enable_grad():
            by_x, by_tensors = ctx.equation.pulls(x, tensors, wanted)
            if any(wanted):
                # the transpose of the transpose: torch does not nest forward derivatives
                push = vjp(by_tensors, torch.zeros_like(x))[1]
                y_dot = y_dot - push(tuple(d for w, d in zip(wanted, dots) if w))[0]
            return ctx.equation.undo(by_x, x, y_dot, False)
