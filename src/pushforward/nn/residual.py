"""A residual perceptron whose blocks are modulated by time and condition."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from ..tensors import Condition, flatten_event
from .base import ModulatedNetwork, activation
from .checks import check_count, check_rate
from .embeddings import ConditionSpec, FourierFeatures
from .slopes import by_blocks, hooked, is_activation, is_linear, value_and_slope


class ResidualMLP(ModulatedNetwork):
    r"""Residual blocks on Fourier features of ``x``, scaled and shifted by time and condition.

    .. math:: h \leftarrow h + B\,\varphi(A(\mathrm{norm}(h)\,(1 + a(t, c)) + b(t, c)))

    event_shape: shape of one event, flattened inside; an int d stands for ``(d,)``.
    condition: see :class:`ConditionEmbedding`; None for an unconditional network.
    width, depth: units per layer, number of residual blocks of two layers each.
    frequencies: octaves of :class:`FourierFeatures`; None: 5 for events of up to 8 numbers, in which sharp
    edges matter, and none for larger ones.
    activation: elu, gelu, relu, selu, silu, softplus or tanh.
    dropout: dropout rate of the output of each block in training mode, drawn from PyTorch's global generator.
    spans: whether it takes a second time, see :class:`Network`.

    The output is zero before training, which is a sensible first guess of any velocity.  Raises
    ValueError for a size out of range or an unknown activation.  Modulation: Perez et al. 2018,
    arXiv 1709.07871 (FiLM), and Peebles & Xie 2023, arXiv 2212.09748, section 3.2.

    >>> import torch
    >>> net = ResidualMLP(2, width=32)
    >>> net(0.5, torch.ones(2, 2))
    tensor([[0., 0.], [0., 0.]], grad_fn=...)
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        condition: ConditionSpec = None,
        width: int = 256,
        depth: int = 4,
        frequencies: int | None = None,
        activation: str = "silu",
        dropout: float = 0.0,
        spans: bool = False,
    ):
        # Half the width is enough for time and condition, and halves what modulation costs.
        embedding = max(8, check_count("width", width) // 2)
        super().__init__(event_shape, condition, embedding, spans)
        check_count("depth", depth)
        if frequencies is None:
            frequencies = 5 if self.event_size <= 8 else 0
        self.features = FourierFeatures(self.event_size, check_count("frequencies", frequencies, 0))
        self._embed_times(embedding)
        self.enter = nn.Linear(self.features.size, width)
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * depth * width))
        check_rate("dropout", dropout)
        self.blocks = nn.ModuleList(_branch(width, activation, dropout) for _ in range(depth))
        self.leave = nn.Linear(width, self.event_size)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self,
        t: Tensor | float,
        x: Tensor,
        condition: Condition | None = None,
        span: Tensor | float | None = None,
    ) -> Tensor:
        h, scales = self._start(t, x, condition, span)
        for block, a, b in zip(self.blocks, scales[0::2], scales[1::2]):
            h = h + block(layer_norm(h, h.shape[-1:]) * (1 + a) + b)
        return self.leave(layer_norm(h, h.shape[-1:])).reshape(x.shape)

    def _start(
        self, t: Tensor | float, x: Tensor, condition: Condition | None, span: Tensor | float | None = None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The first hidden state; scale and shift of every block, in turn."""
        scales = self.modulate(self.embedded(t, x, condition, span)).chunk(2 * len(self.blocks), -1)
        return self.enter(self.features(flatten_event(x))), scales

    def value_and_divergence(
        self, t: Tensor | float, x: Tensor, condition: Condition | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """The value and its divergence, see :func:`pushforward.fields.offered`, from tangents in closed form.

        There is one tangent for each element of an event; without Fourier features no more than there are
        units, because tr(V X U) = tr(X U V).  None while dropout is on, and where a layer has been exchanged
        for one whose slope is not known.
        """
        blocks = [list(cast(nn.Sequential, block)) for block in self.blocks]
        known = is_linear(self.enter) and is_linear(self.leave) and all(map(_is_known, blocks))
        if not known or type(self.features) is not FourierFeatures or hooked(self.features):
            return None
        h, scales = self._start(t, x, condition)
        steps: list[Tensor] = []
        weights: list[tuple[Tensor, Tensor]] = []
        for (grow, act, shrink, *_), a, b in zip(blocks, scales[0::2], scales[1::2]):
            unit, inverse = _normalise(h)
            inner, slope = value_and_slope(act, grow(unit * (1 + a) + b))
            h = h + shrink(inner)
            steps += [unit, inverse * (1 + a), slope]
            weights.append((cast(Tensor, grow.weight), _centred(shrink)))
        unit, inverse = _normalise(h)
        value, leave = self.leave(unit).reshape(x.shape), self.leave.weight
        slopes, columns = self.features.slopes(flatten_event(x), _centred(self.enter))
        if mask is not None:
            slopes = slopes * flatten_event(mask)[..., None]
        elif slopes.shape[-1] == 1 and len(columns) > h.shape[-1]:
            slopes, columns = torch.ones_like(h)[..., None], (columns[:, 0].t() @ leave).t()[:, None]
            leave = torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
        rows = [*steps, unit, linear(unit, leave), slopes]
        tangents = functools.partial(_tangents, weights, columns, leave)
        return value, by_blocks(tangents, len(columns), rows) * inverse[:, 0]


def _tangents(
    weights: Sequence[tuple[Tensor, Tensor]], columns: Tensor, leave: Tensor, some: slice, *rows: Tensor
) -> Tensor:
    """Push ``some`` tangents through all blocks and the last norm, and sum their products with ``leave``.

    The mean over units is zero in every tangent, because the layers that add to them are centred: norms
    subtract it anyway.
    """
    *steps, unit, projected, slopes = rows
    tangent = torch.bmm(slopes[:, some].transpose(0, 1), columns[some])
    for (grow, shrink), y, scale, slope in zip(weights, steps[0::3], steps[1::3], steps[2::3]):
        along = (tangent * y).mean(-1, keepdim=True)
        inner = torch.addcmul(tangent * scale, along, y * scale, value=-1)
        tangent = tangent + linear(linear(inner, grow) * slope, shrink)
    along = (tangent * unit).mean(-1)
    return ((tangent * leave[some, None]).sum(-1) - along * projected.t()[some]).sum(0)


def _normalise(h: Tensor) -> tuple[Tensor, Tensor]:
    """``h`` with mean 0 and variance 1, and what it is multiplied by."""
    variance = (h - h.mean(-1, keepdim=True)).square().mean(-1, keepdim=True)
    return layer_norm(h, h.shape[-1:]), torch.rsqrt(variance + 1e-5)


def _centred(layer: nn.Module) -> Tensor:
    """The weight of a layer whose outputs have the mean over units subtracted."""
    weight = cast(Tensor, layer.weight)
    return weight - weight.mean(0)


def _is_known(block: Sequence[nn.Module]) -> bool:
    """Whether a block is two linear layers around an activation, and drops nothing."""
    first, act, second, *rest = block
    still = all(type(layer) is nn.Dropout and not layer.training and not hooked(layer) for layer in rest)
    return still and is_linear(first) and is_activation(act) and is_linear(second)


def _branch(width: int, name: str, dropout: float) -> nn.Sequential:
    layers = (nn.Linear(width, width), activation(name), nn.Linear(width, width))
    return nn.Sequential(*layers, *([nn.Dropout(dropout)] if dropout else []))
