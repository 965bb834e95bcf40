"""Random draws from a ``torch.Generator``; in training, draws belong to rows.

A :class:`RowGenerator` is an ordinary generator that also knows which rows of the global batch it
serves.  Draws by :func:`normal` and :func:`uniform` are then the same for a row on every process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "BLOCK",
    "RowGenerator",
    "derive_seed",
    "normal",
    "of_rows",
    "seeded",
    "uniform",
]

#: Rows that share one underlying stream; a process draws whole blocks and keeps its own rows.
BLOCK = 512


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a function of ``parts`` alone.

    >>> derive_seed(0, "batch", 7) == derive_seed(0, "batch", 7)
    True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seeded(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by :func:`derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(*parts))


class RowGenerator(torch.Generator):
    """A generator for rows ``start`` to ``stop`` of a batch; draws do not depend on how it is divided.

    Row i of a draw depends only on (``parts``, i, the draws before it).  Rows come in blocks of ``block``,
    each with its own stream, and a process draws the blocks that contain its rows.  As a plain
    ``torch.Generator`` it is the stream of its first block.

    >>> whole = normal((512, 2), RowGenerator("demo", rows=(0, 512)))
    >>> part = normal((100, 2), RowGenerator("demo", rows=(300, 400)))
    >>> torch.equal(whole[300:400], part)
    True
    """

    def __new__(
        cls, *parts: int | str, rows: tuple[int, int], block: int = BLOCK, device: torch.device | str = "cpu"
    ):
        # torch's own signature is (device), which type checkers take for object's
        return super().__new__(cls, device)  # type: ignore[reportCallIssue]

    def __init__(
        self, *parts: int | str, rows: tuple[int, int], block: int = BLOCK, device: torch.device | str = "cpu"
    ):
        self.start, self.stop = rows
        self.block = block
        first, last = self.start // block, -(-self.stop // block)
        self.manual_seed(derive_seed(*parts, first))
        self.others = [seeded(*parts, i, device=device) for i in range(first + 1, last)]
        self.offset = self.start - first * block

    def draw(self, function: Callable[..., Tensor], shape: Sequence[int], **options: Any) -> Tensor:
        """Call ``function((block, *event))`` for each block and keep this generator's rows."""
        count = self.stop - self.start
        if shape[0] != count:
            raise ValueError(f"a generator of rows draws {count} rows at a time, not {shape[0]}")
        size = (self.block, *shape[1:])
        whole = function(size, generator=self, **options)
        if self.others:
            whole = torch.cat([whole, *(function(size, generator=g, **options) for g in self.others)])
        return whole if len(whole) == count else whole[self.offset : self.offset + count]


def of_rows(
    *parts: int | str, rows: tuple[int, int], size: int, device: torch.device | str = "cpu", steps: int = 1
) -> RowGenerator:
    """The generator of ``rows`` of a batch of ``size``; each row draws for so many ``steps``."""
    start, stop = rows
    block = min(BLOCK, size) * steps
    return RowGenerator(*parts, rows=(start * steps, stop * steps), block=block, device=device)


def _draw(
    function: Callable[..., Tensor],
    shape: Sequence[int],
    generator: torch.Generator | None,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> Tensor:
    dtype = dtype or torch.get_default_dtype()
    if isinstance(generator, RowGenerator):
        drawn = generator.draw(function, shape, dtype=dtype, device=generator.device)
    else:
        drawn = function(
            tuple(shape),
            generator=generator,
            dtype=dtype,
            device=device if generator is None else generator.device,
        )
    return drawn if device is None else drawn.to(device)


def normal(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Standard normal draws of ``shape``, made on the generator's device and moved to ``device``."""
    return _draw(torch.randn, shape, generator, dtype, device)


def uniform(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Uniform draws on [0, 1) of ``shape``, made on the generator's device and moved to ``device``."""
    return _draw(torch.rand, shape, generator, dtype, device)
