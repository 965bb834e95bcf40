"""Limits of the size of a model, checked before memory is allocated."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from .. import registry
from ..files import read_header
from ..tensors import event_size

#: Numbers and tensors that a model has at most: 2 GiB of weights in single precision.
NUMBERS, TENSORS = 2**29, 10_000
#: The largest width, depth, ... of a model, and the most numbers of an event.
SIZE, EVENT = 10_000, 10**7
#: Sizes from which on a model is first built without memory.
LARGE = 128
#: A model may have so many numbers more, and so many times as many, as its file: some are not stored.
SPARE, TIMES = 10**6, 4

_most: ContextVar[int] = ContextVar("most", default=NUMBERS)


class _TooLarge(ValueError):
    """More than a model may have."""


@contextlib.contextmanager
def to_hold(file: Path) -> Iterator[None]:
    """Models made in the block are not much larger than what ``file`` holds of their weights, where it is.

    A size that is false in a configuration is so known before memory is taken for it.
    """
    stored = sum(map(event_size, read_header(file).values())) if file.exists() else NUMBERS
    token = _most.set(min(NUMBERS, SPARE + TIMES * stored))
    try:
        yield
    finally:
        _most.reset(token)


def create_module(
    component: registry.Component, event_shape: int | Sequence[int], *arguments: Any, **defaults: Any
) -> Any:
    """:meth:`~pushforward.registry.Component.build` for what has weights.

    Raises ValueError for a size above :data:`SIZE`, events of more than :data:`EVENT` numbers, and more than
    :data:`NUMBERS` numbers or :data:`TENSORS` tensors, without having taken the memory for them.  A class of
    the user's own is as large as it likes.
    """
    if component.own:
        return component.build(event_shape, *arguments, **defaults)
    event = event_shape if isinstance(event_shape, int) else event_size(event_shape)
    if event > EVENT:
        raise ValueError(f"{component.kind}: expected events of at most {EVENT:,} numbers, got {event:,}")
    sizes = {name: max(found) for name, value in component.options.items() if (found := _whole(value))}
    for name, size in sizes.items():
        if size > SIZE:
            raise ValueError(f"{component.where}: {name}: expected at most {SIZE:,}, got {size:,}")
    if max([event, *sizes.values()]) > LARGE:
        try:
            with torch.device("meta"), _counted():
                component.build(event_shape, *arguments, **defaults)
        except ValueError as error:
            if isinstance(error.__cause__, _TooLarge):
                raise
            # else: something that needs the values of its tensors; building it in earnest tells
    with _counted():
        return component.build(event_shape, *arguments, **defaults)


def _whole(value: Any) -> list[int]:
    """All whole numbers in the value of an option."""
    if isinstance(value, list | tuple):
        return [number for part in value for number in _whole(part)]
    return [abs(value)] if isinstance(value, int) else []


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    """Modules that this thread makes in the block have no more numbers and tensors than allowed."""
    thread, numbers, tensors, most = threading.get_ident(), 0, 0, _most.get()

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal numbers, tensors
        if tensor is None or threading.get_ident() != thread:
            return
        numbers, tensors = numbers + tensor.numel(), tensors + 1
        if numbers > most or tensors > TENSORS:
            stored = "" if most == NUMBERS else ", for what is stored of the weights"
            raise _TooLarge(f"too large: expected at most {most:,} numbers in {TENSORS:,} tensors{stored}")

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
