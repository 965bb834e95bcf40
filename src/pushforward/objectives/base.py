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
from ..rows import Rows
from ..tensors import Condition, drop_condition, to_tensor


@dataclass(frozen=True)
class Batch:
    """Paired rows: row i of every marginal belongs together.

    marginals: the source's rows, then the target's (more for several snapshots); plain tensors and
        arrays will do.
    weight: ``(B,)``, the weight of each pair, None for equal ones.
    normaliser: what the weighted sum of losses is divided by; None for the sum of the weights here.  On
        several processes it is the global sum of weights divided by their number.

    Raises ValueError for marginals of different lengths and a weight of another.
    """

    marginals: tuple[Rows, ...]
    weight: Tensor | None = None
    normaliser: Tensor | float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.marginals, Rows | Tensor) or len(self.marginals) == 0:
            raise ValueError(f"marginals: expected a tuple of rows, got a {type(self.marginals).__name__}")
        rows = tuple(
            part if isinstance(part, Rows) else Rows(to_tensor(part, f"marginals[{k}]"))
            for k, part in enumerate(self.marginals)
        )
        counts = [len(part) for part in rows]
        if len(set(counts)) > 1:
            raise ValueError(f"marginals: expected as many rows each, got {counts}")
        if self.weight is not None and self.weight.shape != (counts[0],):
            raise ValueError(f"weight: expected shape ({counts[0]},), got {tuple(self.weight.shape)}")
        object.__setattr__(self, "marginals", rows)

    @property
    def source(self) -> Rows:
        return self.marginals[0]

    @property
    def target(self) -> Rows:
        return self.marginals[-1]

    def __len__(self) -> int:
        return len(self.marginals[0])

    @property
    def mass(self) -> float:
        """The sum of the weights here."""
        return float(len(self)) if self.weight is None else float(self.weight.sum())

    def mean(self, per_sample: Tensor) -> Tensor:
        """sum_i w_i l_i over the global sum of w_i, for losses ``(B,)``."""
        if self.weight is not None:
            total = self.weight.sum() if self.normaliser is None else self.normaliser
            return (self.weight * per_sample).sum() / total
        return per_sample.mean() if self.normaliser is None else per_sample.sum() / self.normaliser

    def reduce(self, error: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to minimise and the detached errors of a :class:`Loss`, from errors ``(B, *event)``."""
        if self.weight is None and self.target.mask is None:
            # the mean of row means is the mean: one operation to differentiate instead of four
            share = 1.0 if self.normaliser is None else len(self) / self.normaliser
            value = error.mean()
            return value if share == 1.0 else value * share, error.detach()
        per_sample = row_mean(error, self.target.mask)
        return self.mean(per_sample), per_sample.detach()


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


def field_of(models: nn.ModuleDict, name: str = "field") -> Field:
    """The model ``name`` as a field; without conditions it may be a function of (t, x) alone.

    Raises ValueError if ``models`` has none of that name.

    >>> field_of(nn.ModuleDict({"field": nn.Bilinear(1, 1, 1)}))(torch.ones(2, 1), torch.ones(2, 1)).shape
    torch.Size([2, 1])
    """
    model = model_of(models, name)
    if model not in _alone:
        _alone[model] = isinstance(as_field(model, name), Unconditional)
    return Unconditional(model) if _alone[model] else model


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


def row_mean(error: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the valid elements of each row, ``(B, *event) -> (B,)``; a row without any counts 0."""
    if mask is None:
        return error.reshape(error.shape[0], -1).mean(1)
    valid = mask.reshape(*mask.shape, *([1] * (error.ndim - mask.ndim))).expand_as(error)
    total = torch.where(valid, error, 0.0).reshape(error.shape[0], -1).sum(1)
    return total / valid.reshape(error.shape[0], -1).sum(1).clamp(min=1)
