"""The abstract objective: a loss of the models on a batch of paired rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .. import random
from ..fields.base import Field, Unconditional, as_field
from ..fields.masked import Masked
from ..rows import Batch, row_mean
from ..tensors import Condition, drop_condition


@dataclass(frozen=True)
class Step:
    """The state of training when a loss is computed.

    index, total: this optimiser step and how many there are.
    phase: the optimiser that takes the step.
    ema: the averaged models, None where there are none.
    generator: for every draw of the objective.
    rows: (start, total) of the rows of this batch within the global batch, None for all of it.
    """

    index: int = 0
    total: int = 1
    phase: str = "train"
    ema: nn.ModuleDict | None = None
    generator: torch.Generator | None = None
    rows: tuple[int, int] | None = None


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise and its parts.

    value: scalar.  errors: ``(B,)`` or ``(B, *event)``, detached.  t: ``(B,)`` the times at which the rows
    were evaluated, None for losses without time.  terms: named parts, for the log.
    """

    value: Tensor
    errors: Tensor
    t: Tensor | None = None
    terms: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def per_sample(self) -> Tensor:
        """``(B,)``, the mean error of each row, computed when asked for."""
        return self.errors if self.errors.ndim == 1 else row_mean(self.errors)


class Objective(ABC):
    """Turns models and a batch into a loss."""

    #: optimisers that take turns within a step, and the models each one trains (none named: all)
    phases: Mapping[str, tuple[str, ...]] = MappingProxyType({"train": ()})
    #: factors of their learning rates, where they are not 1
    rates: Mapping[str, float] = MappingProxyType({})
    #: what ``models`` calls a single module
    main: str = "field"

    @abstractmethod
    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        """The loss of ``models`` on ``batch``."""


#: Which modules are functions of (t, x) alone, looked up once.
_alone: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def model_of(models: nn.ModuleDict, name: str) -> nn.Module:
    """The model ``name`` that an objective needs.  Raises ValueError if there is none."""
    if name not in models:
        raise ValueError(f"models: expected one named {name!r}, got {', '.join(models) or 'none'}")
    return models[name]


def field_of(models: nn.ModuleDict, name: str = "field", mask: Tensor | None = None) -> Field:
    """The model ``name`` as a field; without conditions it may be a function of (t, x) alone.

    With a ``mask`` of the rows it is :class:`~pushforward.fields.Masked`.

    Raises ValueError if ``models`` has none of that name.

    >>> field_of(nn.ModuleDict({"field": nn.Bilinear(1, 1, 1)}))(torch.ones(2, 1), torch.ones(2, 1)).shape
    torch.Size([2, 1])
    """
    model = model_of(models, name)
    if model not in _alone:
        _alone[model] = isinstance(as_field(model, name), Unconditional)
    field = Unconditional(model) if _alone[model] else model
    return field if mask is None else Masked(field, mask)


def check_share(drop_condition: float) -> float:
    """``drop_condition``, or a ValueError if it is not a probability."""
    if isinstance(drop_condition, bool) or not 0 <= drop_condition <= 1:
        raise ValueError(f"drop_condition: expected a probability, got {drop_condition}")
    return drop_condition


def partly_hidden(batch: Batch, share: float, step: Step) -> Condition | None:
    """The target's conditions, that of each row hidden with probability ``share``."""
    condition = batch.target.condition
    if condition is None or share == 0:
        return condition
    u = random.uniform((len(batch),), step.generator, torch.float32, batch.target.x.device)
    return drop_condition(condition, u < share)
