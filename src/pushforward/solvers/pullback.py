"""Derivatives of a velocity without its graph: which tensors it depends on, and vector-Jacobian products."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from .state import Entries, Evaluation


def inputs_of(evaluation: Evaluation, t: Tensor, entries: Entries) -> tuple[Tensor, ...]:
    """The tensors besides the state that ``evaluation`` at ``t`` depends on and that need gradients.

    One evaluation is recorded, and its graph walked to the leaves: parameters wherever they are kept.
    Tensors that have a graph of their own, such as a condition that an encoder has made, are ends of the
    walk where the velocity hands them to a function of torch, so that nothing behind them is differentiated.
    """
    with torch.enable_grad():
        own = tuple(entry.detach().requires_grad_() for entry in entries)
        # nodes of the graph are numbered in the order in which they are made
        first = _number(torch.zeros((), requires_grad=True) + 0)
        with _Given(first) as given:
            slopes = evaluation(t, own)
    evaluation.calls -= 1
    known = {id(entry) for entry in own}
    return tuple(end for end in leaves_of(slopes, given.tensors.values()) if id(end) not in known)


def leaves_of(slopes: Sequence[Tensor], ends: Iterable[Tensor]) -> list[Tensor]:
    """What the graph of ``slopes`` ends in: leaves, and those of the tensors ``ends`` that it comes to."""
    known = {_edge(tensor): tensor for tensor in ends}
    found: dict[int, Tensor] = {}
    stack = [_edge(slope) for slope in slopes if slope.requires_grad]
    seen = set(stack)
    while stack:
        node, place = stack.pop()
        end = known.get((node, place), getattr(node, "variable", None))
        if end is not None:
            found[id(end)] = end
            continue
        for edge in node.next_functions:
            if edge[0] is not None and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return list(found.values())


def _edge(tensor: Tensor) -> tuple[Any, int]:
    """Where the gradient of ``tensor`` arrives in the graph."""
    edge = get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def _number(tensor: Tensor) -> int:
    node: Any = tensor.grad_fn
    return node._sequence_nr()


class _Given(TorchFunctionMode):
    """Collects the tensors with a graph that functions of torch are given, made before node ``first``."""

    def __init__(self, first: int):
        super().__init__()
        self.first = first
        self.tensors: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and not is_functorch_wrapped_tensor(value):
                with torch._C.DisableTorchFunction():
                    if value.grad_fn is not None and _number(value) < self.first:
                        self.tensors[id(value)] = value
        return func(*args, **(kwargs or {}))


def pullback(
    evaluate: Callable[[Tensor, Entries], Entries],
    t: Tensor,
    entries: Entries,
    inputs: Sequence[Tensor],
    along: Sequence[Tensor],
    leading: bool = False,
) -> tuple[Entries, tuple[Tensor, ...]]:
    """The velocity, and the products of ``along`` with its Jacobians by the entries and the ``inputs``.

    ``leading``: by the entries alone.

    Raises ValueError if the velocity depends on a leaf that is not among the inputs.
    """
    with torch.enable_grad():
        entries = tuple(entry.detach().requires_grad_() for entry in entries)
        slopes = evaluate(t, entries)
    wanted = (*entries, *inputs)
    pairs = [(slope, a) for slope, a in zip(slopes, along) if slope.requires_grad]
    known = {id(tensor) for tensor in wanted}
    if any(id(leaf) not in known for leaf in leaves_of(slopes, inputs)):
        raise ValueError(
            f"velocity: at t={t.flatten()[0].item():g} it uses a parameter that it did not use at the start; "
            "give all of them as parameters=..."
        )
    if not pairs:
        return slopes, tuple(map(torch.zeros_like, entries if leading else wanted))
    # a graph that an input brings with it is kept for the next evaluation; the velocity's own goes anyway
    products = torch.autograd.grad(
        [slope for slope, _ in pairs],
        entries if leading else wanted,
        [a for _, a in pairs],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return tuple(slope.detach() for slope in slopes), products
