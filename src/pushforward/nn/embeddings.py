"""Embeddings of time, of low-dimensional points and of conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..tensors import Condition, event_size, flatten_event
from .checks import check_count, check_number, check_sizes, is_whole

#: What a network is conditioned on: K class labels, a continuous event shape, several by name, nothing.
ConditionSpec = int | Sequence[int] | Mapping[str, "int | Sequence[int]"] | None


class TimeEmbedding(nn.Module):
    r"""Embed times in [0, 1]: sines and cosines of geometric frequencies, then a small perceptron.

    .. math:: \mathrm{MLP}(\sin \omega_k t, \cos \omega_k t),\quad \omega_k \in [1, 64]

    The highest frequency is low because a field that oscillates in time needs many solver steps.  ``t``
    ``(N,)`` gives ``(N, width)``.  After Vaswani et al. 2017, arXiv 1706.03762, section 3.5.

    >>> TimeEmbedding(16)(torch.rand(5)).shape
    torch.Size([5, 16])
    """

    frequencies: Tensor

    def __init__(self, width: int, features: int = 32, highest: float = 64.0):
        super().__init__()
        check_count("width", width)
        check_count("features", features, 2)
        check_number("highest", highest, 0)
        self.register_buffer("frequencies", torch.logspace(0.0, math.log10(highest), features // 2))
        self.perceptron = nn.Sequential(
            nn.Linear(2 * (features // 2), width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        angle = t.to(self.frequencies.dtype)[:, None] * self.frequencies
        return self.perceptron(torch.cat([angle.sin(), angle.cos()], -1))


class FourierFeatures(nn.Module):
    r"""Fourier features of a low-dimensional point in octaves, so that a perceptron can learn sharp edges.

    .. math:: (x, \sin 2^k x, \cos 2^k x),\quad k = 0, \dots, K - 1

    ``(B, d)`` gives ``(B, size)`` with ``size = d (1 + 2 K)``; K = 0 gives ``x``.
    Tancik et al. 2020, arXiv 2006.10739, section 4 ("positional encoding").

    >>> FourierFeatures(2, 3)(torch.zeros(5, 2)).shape
    torch.Size([5, 14])
    """

    octaves: Tensor

    def __init__(self, dimension: int, frequencies: int):
        super().__init__()
        check_count("dimension", dimension)
        self.size = dimension * (1 + 2 * check_count("frequencies", frequencies, 0))
        self.register_buffer("octaves", 2.0 ** torch.arange(frequencies))

    def forward(self, x: Tensor) -> Tensor:
        if self.octaves.shape[0] == 0:
            return x
        angle = (x[:, :, None] * self.octaves).flatten(1)
        return torch.cat([x, angle.sin(), angle.cos()], -1)

    def slopes(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives of ``weight`` @ features along each element, as factors and columns.

        x: ``(B, d)``.  weight: ``(N, size)``.  Returns factors ``(B, d, 1 + 2 K)`` and columns
        ``(d, 1 + 2 K, N)``, whose product over the middle is the derivative ``(B, N)`` along element i.

        >>> factors, columns = FourierFeatures(2, 3).slopes(torch.zeros(5, 2), torch.zeros(4, 14))
        >>> factors.shape, columns.shape
        (torch.Size([5, 2, 7]), torch.Size([2, 7, 4]))
        """
        (rows, d), count, n = x.shape, self.octaves.shape[0], len(weight)
        angle = x[:, :, None] * self.octaves
        along = [x.new_ones(rows, d, 1), self.octaves * angle.cos(), -self.octaves * angle.sin()]
        plain, sines, cosines = weight.t().split([d, d * count, d * count])
        parts = [plain.reshape(d, 1, n), sines.reshape(d, count, n), cosines.reshape(d, count, n)]
        return torch.cat(along, -1), torch.cat(parts, 1)


class ConditionEmbedding(nn.Module):
    """Embed a condition, ``(B, width)``; an absent one becomes a learnt vector.

    condition: an int K for labels ``(B,)`` in 0..K-1; a shape such as ``()`` or ``(3,)`` for a continuous
    condition ``(B, *shape)``; a mapping from names to such for several, whose embeddings are summed.

    Absent is the label -1, a row with any NaN, a name left out of a mapping, or None for all rows, which
    gives a single row ``(1, width)``.  A tensor stands for the entry ``condition`` of a mapping that has one.
    Labels of K and more are detected by :meth:`calibrate` only; a check
    at every call would stall an accelerator.  Raises ValueError for a wrong shape or name.  As in Ho &
    Salimans 2022, arXiv 2207.12598, algorithm 1, guidance compares with the absent condition.

    >>> embed = ConditionEmbedding({"kind": 3, "weight": ()}, 16)
    >>> embed({"kind": torch.tensor([0, 2]), "weight": torch.tensor([0.5, math.nan])}, 2).shape
    torch.Size([2, 16])
    """

    def __init__(self, condition: int | Sequence[int] | Mapping[str, int | Sequence[int]], width: int):
        super().__init__()
        check_count("width", width)
        named = condition if isinstance(condition, Mapping) else {"condition": condition}
        if not named:
            raise ValueError("condition: expected at least one name, got an empty mapping")
        self.single = not isinstance(condition, Mapping)
        # A list, not a dict, of modules: a name of the user's may hold a dot, which a module's may not.
        self.names = list(named)
        self.parts = nn.ModuleList(
            (_Labels if is_whole(spec) else _Continuous)(name, cast(Any, spec), width)
            for name, spec in named.items()
        )

    def forward(self, condition: Condition | None, rows: int) -> Tensor:
        """The embedding of ``rows`` rows."""
        given = self._named(condition)
        total = self.parts[0](given.get(self.names[0]), rows)
        for name, part in zip(self.names[1:], self.parts[1:]):
            total = total + part(given.get(name), rows)
        return total

    @torch.no_grad()
    def calibrate(self, condition: Condition) -> None:
        """Standardise continuous conditions by the mean and deviation of the rows that are present.

        Raises ValueError for a label outside -1..K-1.
        """
        given = self._named(condition)
        for name, part in zip(self.names, self.parts):
            if name in given:
                cast("_Labels | _Continuous", part).fit(given[name])

    def _named(self, condition: Condition | None) -> Mapping[str, Tensor]:
        if condition is None:
            return {}
        if isinstance(condition, Mapping):
            unknown = [name for name in condition if self.single or name not in self.names]
            if unknown:
                expected = "a tensor" if self.single else f"names among {self.names}"
                raise ValueError(f"condition: expected {expected}, got a mapping with {unknown}")
            return condition
        if "condition" not in self.names:
            raise ValueError(f"condition: expected a mapping with {self.names}, got a tensor")
        return {"condition": condition}


class _Labels(nn.Module):
    """A vector per label; the first row of the table is for an absent label, -1."""

    def __init__(self, name: str, classes: int, width: int):
        super().__init__()
        self.name, self.classes = name, check_count(name, classes)
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, labels: Tensor | None, rows: int) -> Tensor:
        if labels is None:
            return self.table.weight[:1]
        self._check(labels, rows)
        try:
            return self.table(labels.long() + 1)
        except IndexError:  # raised on CPUs; a look at every label beforehand would wait for a GPU
            raise ValueError(
                f"{self.name}: expected labels from 0 to {self.classes - 1}, or -1, got "
                f"{int(labels.min())} to {int(labels.max())}"
            ) from None

    def fit(self, labels: Tensor) -> None:
        self._check(labels, len(labels))
        low, high = int(labels.min()), int(labels.max())
        if low < -1 or high >= self.classes:
            raise ValueError(
                f"{self.name}: expected labels from 0 to {self.classes - 1}, or -1, got {low} to {high}"
            )

    def _check(self, labels: Tensor, rows: int) -> None:
        if labels.is_floating_point() or labels.shape != (rows,):
            raise ValueError(
                f"{self.name}: expected integer labels of shape ({rows},), got {labels.dtype} of shape "
                f"{tuple(labels.shape)}"
            )


class _Continuous(nn.Module):
    """A perceptron on the standardised values; an absent condition is a learnt vector."""

    loc: Tensor
    scale: Tensor

    def __init__(self, name: str, shape: Sequence[int], width: int):
        super().__init__()
        self.name, self.shape = name, check_sizes(name, shape)
        size = event_size(self.shape)
        self.register_buffer("loc", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.perceptron = nn.Sequential(nn.Linear(size, width), nn.SiLU(), nn.Linear(width, width))
        self.absent = nn.Parameter(torch.randn(width))

    def forward(self, values: Tensor | None, rows: int) -> Tensor:
        if values is None:
            return self.absent[None]
        values = self._flat(values, rows)
        missing = values.isnan().any(-1, keepdim=True)
        # NaN must go before the perceptron: behind it, the gradient of `where` would be 0 * NaN.
        standard = (torch.where(missing, self.loc, values) - self.loc) / self.scale
        return torch.where(missing, self.absent, self.perceptron(standard))

    def fit(self, values: Tensor) -> None:
        values = self._flat(values, len(values))
        values = values[~values.isnan().any(-1)]
        if len(values) == 0:
            raise ValueError(f"{self.name}: every row is absent, so there is nothing to calibrate with")
        if not bool(values.isfinite().all()):
            raise ValueError(f"{self.name}: expected finite values, got an infinite one")
        deviation = values.std(0, correction=0)
        self.loc.copy_(values.mean(0))
        self.scale.copy_(torch.where(deviation > 0, deviation, 1.0))

    def _flat(self, values: Tensor, rows: int) -> Tensor:
        if values.shape != (rows, *self.shape):
            raise ValueError(f"{self.name}: expected shape {(rows, *self.shape)}, got {tuple(values.shape)}")
        return flatten_event(values.to(self.loc.dtype))
