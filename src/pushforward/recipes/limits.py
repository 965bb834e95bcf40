"""How large a model may be: said before memory is taken."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from .. import registry
from ..tensors import event_size

#: Numbers and tensors that a model has at most: 2 GiB of weights in single precision.
NUMBERS, TENSORS = 2**29, 20_000
#: Sizes from which on a model is first built without memory.
LARGE = 1024


class _TooLarge(ValueError):
    """More than a model may have."""


def create_module(kind: str, spec: str, *arguments: Any) -> Any:
    """:func:`pushforward.registry.create` for what has weights.

    Raises ValueError for more than :data:`NUMBERS` numbers or :data:`TENSORS` tensors, without having taken
    the memory for them.
    """
    options = registry.check(kind, spec, len(arguments))[1]
    shapes = [shape for shape in arguments if isinstance(shape, tuple)]
    if max([0, *map(event_size, shapes), *_whole(options)]) > LARGE:
        try:
            with torch.device("meta"), _counted():
                registry.create(kind, spec, *arguments)
        except ValueError as error:
            if isinstance(error.__cause__, _TooLarge):
                raise
            # else: something that needs the values of its tensors; building it in earnest tells
    with _counted():
        return registry.create(kind, spec, *arguments)


def _whole(value: Any) -> list[int]:
    """All whole numbers in options."""
    if isinstance(value, dict):
        return _whole(list(value.values()))
    if isinstance(value, list | tuple):
        return [number for part in value for number in _whole(part)]
    return [abs(value)] if isinstance(value, int) else []


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    """Modules that this thread makes in the block have no more numbers and tensors than allowed."""
    thread, numbers, tensors = threading.get_ident(), 0, 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal numbers, tensors
        if tensor is None or threading.get_ident() != thread:
            return
        numbers, tensors = numbers + tensor.numel(), tensors + 1
        if numbers > NUMBERS or tensors > TENSORS:
            raise _TooLarge(f"too large: expected at most {NUMBERS:,} numbers in {TENSORS:,} tensors")

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
