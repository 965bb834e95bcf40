"""What every method that carries points does first: make points and conditions what the flow takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..inputs import check_rows
from ..tensors import to_tensor

#: Where a flow's points lie.
Space = Literal["source", "data"]
#: The methods that carry points, and where those lie that they take.
CARRIES: dict[str, Space] = {
    "push": "source",
    "push_and_log_det": "source",
    "pull": "data",
    "pull_and_log_det": "data",
}


def checked(method: Callable[..., Any], space: Space) -> Callable[..., Any]:
    """``method`` with its points and conditions made what the flow takes, see :meth:`Flow.rows`."""

    @functools.wraps(method)
    def carries(self: Any, x: Any, condition: Any = None, *rest: Any, **options: Any) -> Any:
        x = check_rows(self.rows(x, space), self.space_shape(space), "x0" if space == "source" else "x")
        return method(self, x, self.conditions(condition), *rest, **options)

    return carries


def moments_of(times: Sequence[float] | Tensor) -> tuple[Tensor, bool]:
    """Times as a tensor, and whether they run from the source to the data, increasing, or not.

    Raises ValueError for times that are not one-dimensional.
    """
    moments = to_tensor(times, "times", torch.float64)
    if moments.ndim != 1:
        raise ValueError(f"times: expected one dimension, got shape {tuple(moments.shape)}")
    return moments, len(moments) < 2 or bool(moments[-1] > moments[0])
