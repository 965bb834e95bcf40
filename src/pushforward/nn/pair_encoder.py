"""The distribution of a latent given a pair of points and where its path is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..tensors import event_size, flatten_event
from .checks import check_count, check_sizes
from .conditioners import Perceptron
from .conv_conditioner import ConvConditioner

#: What a :class:`PairEncoder` sees.
Sees = Literal["data", "path"]
#: Log-deviations stay within this of 0.
SPREAD = 5.0
#: Numbers of an image from which on the encoder is convolutional.
LARGE = 1024


class PairEncoder(nn.Module):
    """Mean and log-deviation, ``(B, latent)`` each, of a latent given (t, x0, x1, x_t).

    A perceptron on the flattened points; images of more than 1,024 numbers go through residual convolutions,
    whose outputs are averaged over the pixels.  Before training it gives N(0, I) for every pair.

    sees: "path" for all four, "data" for x1 alone: the latent then does not depend on the source point.
    width, depth: units per hidden layer, number of hidden layers; channels and blocks of convolutions.

    Raises ValueError for sizes below 1 and anything else to see.

    >>> encoder, x = PairEncoder(2, latent=3), torch.zeros(5, 2)
    >>> mean, log_scale = encoder(torch.rand(5), x, x, x)
    >>> mean.shape, log_scale.shape
    (torch.Size([5, 3]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        latent: int = 2,
        sees: Sees = "data",
        width: int = 64,
        depth: int = 3,
    ):
        super().__init__()
        if sees not in get_args(Sees):
            raise ValueError(f"sees: expected {' or '.join(get_args(Sees))}, got {sees!r}")
        self.event_shape = check_sizes("event_shape", event_shape)
        self.latent, self.sees = check_count("latent", latent), sees
        points, times = (1, 0) if sees == "data" else (3, 1)
        self.pixels = len(self.event_shape) == 3 and event_size(self.event_shape) > LARGE
        if self.pixels:
            channels, *size = self.event_shape
            inputs = points * channels + times
            self.network: nn.Module = ConvConditioner(inputs, 2 * latent, size, width=width, depth=depth)
        else:
            inputs = points * event_size(self.event_shape) + times
            self.network = Perceptron(inputs, 2 * latent, None, width, depth, "silu")

    def forward(self, t: Tensor | float, x0: Tensor, x1: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [x1] if self.sees == "data" else [x0, x1, x]
        if not self.pixels:
            parts = [flatten_event(part) for part in parts]
        if self.sees == "path":
            times = torch.as_tensor(t, dtype=x1.dtype, device=x1.device)
            shape = (len(x1), 1, *(self.event_shape[1:] if self.pixels else ()))
            parts.append(times.reshape(-1, *[1] * (len(shape) - 1)).expand(shape))
        told = self.network(torch.cat(parts, 1))
        mean, raw = (told.mean((2, 3)) if self.pixels else told).chunk(2, 1)
        return mean, SPREAD * torch.tanh(raw / SPREAD)
