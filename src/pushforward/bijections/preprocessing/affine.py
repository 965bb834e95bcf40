"""Elementwise affine map; standardisation is one fitted to data."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from ...tensors import Condition, to_tensor
from ..base import Bijection


class Affine(Bijection):
    """y = loc + scale * x, elementwise, with log|det| = sum log|scale|.

    ``loc`` and ``scale`` broadcast against one event.  Raises ValueError where ``scale`` is zero, either is
    not finite, and where they do not broadcast.

    >>> y, log_det = Affine(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 4.0])).forward_and_log_det(
    ...     torch.ones(1, 2))
    >>> y, log_det
    (tensor([[3., 4.]]), tensor([2.0794]))
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor | float, scale: Tensor | float):
        super().__init__()
        self.register_buffer("loc", to_tensor(loc, "loc"))
        self.register_buffer("scale", to_tensor(scale, "scale"))
        if not bool((self.scale != 0).all() and self.scale.isfinite().all()):
            raise ValueError("scale: expected finite numbers other than zero")
        if not bool(self.loc.isfinite().all()):
            raise ValueError("loc: expected finite numbers")
        if not all(a == b or 1 in (a, b) for a, b in zip(self.loc.shape[::-1], self.scale.shape[::-1])):
            shapes = f"{tuple(self.loc.shape)} and {tuple(self.scale.shape)}"
            raise ValueError(f"loc, scale: expected shapes that broadcast, got {shapes}")

    @classmethod
    def standardise(cls, x: Tensor, per_element: bool = True) -> Self:
        """The map whose inverse gives data ``x`` of shape ``(B, *event)`` mean 0 and deviation 1.

        ``per_element=False`` uses one mean and one deviation for all elements (images).  Raises ValueError
        for no rows, values that are not finite and columns whose deviation is zero in their dtype.
        """
        if len(x) == 0 or not bool(x.isfinite().all()):
            raise ValueError("x: expected finite rows, at least one")
        dims = tuple(range(1 if per_element else x.ndim))
        loc = x.double().mean(dims)
        centred = x.double() - loc
        # in powers of two, which change no digits, since the squares of 1e200 and of 1e-200 are no numbers
        unit = 2.0 ** torch.frexp(centred.abs().amax(dims)).exponent.double()
        scale = (centred / unit).square().mean(dims).sqrt() * unit
        if bool((scale.to(x.dtype) == 0).any()):
            raise ValueError("x: a constant column has no deviation to divide by")
        return cls(loc.to(x.dtype), scale.to(x.dtype))

    def _log_det(self, x: Tensor) -> Tensor:
        return self.scale.abs().log().to(x).expand(x.shape[1:]).sum().expand(x.shape[0])

    def untouched(self, entries: Tensor, inverse: bool = False) -> Tensor | None:
        return entries

    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.loc.to(x) + self.scale.to(x) * x, self._log_det(x)

    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return (y - self.loc.to(y)) / self.scale.to(y), -self._log_det(y)
