"""What is measured of a data point: linear functions of its elements."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ...inputs import check_finite


class Measurement(nn.Module, ABC):
    """A linear function A of a data point, of ``count`` numbers.

    shape: that of one data point.
    """

    shape: tuple[int, ...]
    count: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A x for rows ``(..., *event)``: ``(..., count)``."""

    @abstractmethod
    def transpose(self, values: Tensor) -> Tensor:
        """A^T v for rows ``(..., count)``: ``(..., *event)``."""

    @abstractmethod
    def whiten(self, values: Tensor, variance: Tensor, noise: float) -> Tensor:
        """(variance A A^T + noise^2 I)^-1 v for rows ``(B, count)``, ``variance`` a scalar or ``(B, 1)``."""


class KnownElements(Measurement):
    """The elements of an event where ``mask``, shaped like one event, is True.

    Raises ValueError for a mask without a True element.

    >>> KnownElements(torch.tensor([True, False, True]))(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 3.]])
    """

    index: Tensor

    def __init__(self, mask: Tensor):
        super().__init__()
        mask = torch.as_tensor(mask)
        if mask.dtype != torch.bool or not bool(mask.any()):
            raise ValueError(f"mask: expected booleans, one at least True, got {mask.dtype} {mask.tolist()}")
        self.shape, self.count = tuple(mask.shape), int(mask.sum())
        self.register_buffer("index", mask.flatten().nonzero()[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[: x.ndim - len(self.shape)]
        return x.reshape(*lead, -1)[..., self.index]

    def transpose(self, values: Tensor) -> Tensor:
        lead = values.shape[:-1]
        whole = values.new_zeros(*lead, torch.Size(self.shape).numel())
        return whole.index_copy(-1, self.index, values).reshape(*lead, *self.shape)

    def whiten(self, values: Tensor, variance: Tensor, noise: float) -> Tensor:
        return _divided(values, variance + noise**2)


class LinearMeasurement(Measurement):
    """The product of ``matrix`` ``(count, d)`` with an event of d elements, flattened.

    ``shape`` is that of an event, by default ``(d,)``.  Raises ValueError for anything but a matrix of finite
    numbers, and a shape of another number of elements.

    >>> LinearMeasurement(torch.tensor([[0.5, 0.5]]))(torch.tensor([[1.0, 2.0]]))
    tensor([[1.5000]])
    """

    matrix: Tensor
    axes: Tensor
    squares: Tensor

    def __init__(self, matrix: Tensor, shape: tuple[int, ...] | None = None):
        super().__init__()
        matrix = torch.as_tensor(matrix)
        if matrix.ndim != 2 or not matrix.is_floating_point() or not len(matrix):
            raise ValueError(f"matrix: expected floats (count, d), got {matrix.dtype} {tuple(matrix.shape)}")
        self.shape, self.count = shape or (matrix.shape[1],), len(matrix)
        if torch.Size(self.shape).numel() != matrix.shape[1]:
            raise ValueError(f"shape: expected {matrix.shape[1]} elements as matrix has, got {self.shape}")
        squares, axes = torch.linalg.eigh(check_finite(matrix, "matrix") @ matrix.T)
        self.register_buffer("matrix", matrix)
        self.register_buffer("axes", axes)
        self.register_buffer("squares", squares.clamp(min=0))

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[: x.ndim - len(self.shape)]
        return x.reshape(*lead, -1) @ self.matrix.T

    def transpose(self, values: Tensor) -> Tensor:
        return (values @ self.matrix).reshape(*values.shape[:-1], *self.shape)

    def whiten(self, values: Tensor, variance: Tensor, noise: float) -> Tensor:
        return _divided(values @ self.axes, variance * self.squares + noise**2) @ self.axes.T


def _divided(values: Tensor, by: Tensor) -> Tensor:
    """``values / by``, and 0 where a direction has no variance, about which nothing can be learnt."""
    positive = by > torch.finfo(by.dtype).eps * by.amax(-1, keepdim=True) if by.ndim else by > 0
    return torch.where(positive, values / torch.where(positive, by, 1.0), 0.0)


def solve_symmetric(matrices: Tensor, values: Tensor) -> Tensor:
    """S^-1 v for covariances ``(B, count, count)`` and rows ``(B, count)``.

    Directions whose variance is not positive, which only errors of a network make, are left out.
    """
    variances, axes = torch.linalg.eigh((matrices + matrices.mT) / 2)
    turned = (values[:, None] @ axes)[:, 0]
    return (_divided(turned, variances)[:, None] @ axes.mT)[:, 0]


def as_values(measurement: Measurement, value: Tensor) -> Tensor:
    """A measured value, ``(count,)`` or ``(B, count)``.  Raises ValueError for another shape."""
    value = torch.as_tensor(value)
    if value.ndim not in (1, 2) or value.shape[-1] != measurement.count or not value.is_floating_point():
        raise ValueError(
            f"value: expected floats ({measurement.count},) or (B, {measurement.count}), got {value.dtype} "
            f"{tuple(value.shape)}"
        )
    return check_finite(value, "value")
