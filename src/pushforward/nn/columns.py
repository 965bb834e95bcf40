"""A network over the columns of a mixed table: scores of its tokens, and velocities of its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .checks import check_count
from .residual import ResidualMLP


@dataclass(frozen=True)
class ColumnLayout:
    """Where the columns of a mixed table stand in a row of tokens and numbers ``(T + M,)``.

    sizes: how many values each of T tokens has.
    token_columns, number_columns: the column that each token, and each of M numbers, belongs to.
    numbered: below which value of each token the numbers of its column exist; they are NaN elsewhere.

    A column may have one token, numbers or both.  Raises ValueError for sizes below 2, a column with two
    tokens, lengths that differ, or no column at all.

    >>> layout = ColumnLayout((3, 2), (0, 1), (1, 2), numbered=(1, 1))
    >>> layout.columns, layout.owners
    (3, (1, -1))
    >>> layout.exists(torch.tensor([[2, 0], [2, 1]]))
    tensor([[ True,  True],
            [False,  True]])
    """

    sizes: tuple[int, ...]
    token_columns: tuple[int, ...]
    number_columns: tuple[int, ...]
    numbered: tuple[int, ...]

    def __post_init__(self) -> None:
        for size in self.sizes:
            check_count("sizes", size, 2)
        if len(self.sizes) != len(self.token_columns) or len({*self.token_columns}) < len(self.sizes):
            raise ValueError(
                f"token_columns: expected another column for each of {len(self.sizes)} tokens, "
                f"got {self.token_columns}"
            )
        if len(self.numbered) != len(self.sizes):
            raise ValueError(f"numbered: expected {len(self.sizes)} values, got {self.numbered}")
        if not self.sizes and not self.number_columns:
            raise ValueError("number_columns: expected at least one token or number")

    @property
    def tokens(self) -> int:
        """T, how many tokens a row has."""
        return len(self.sizes)

    @property
    def numbers(self) -> int:
        """M, how many numbers a row has."""
        return len(self.number_columns)

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return max((*self.token_columns, *self.number_columns)) + 1

    @property
    def owners(self) -> tuple[int, ...]:
        """For each number the token that says whether it exists, -1 where it always does."""
        places = {column: i for i, column in enumerate(self.token_columns)}
        return tuple(places.get(column, -1) for column in self.number_columns)

    def exists(self, tokens: Tensor) -> Tensor:
        """Which numbers exist, ``(B, M)``, by tokens ``(B, T)``."""
        free = torch.ones(len(tokens), 1, dtype=torch.bool, device=tokens.device)
        below = tokens < torch.tensor(self.numbered, device=tokens.device)
        return torch.cat([below, free], 1)[:, list(self.owners)]  # the last of which is owner -1

    def of_tokens(self, columns: Tensor) -> Tensor:
        """What is said of columns ``(B, C)``, of each token ``(B, T)``."""
        return columns[:, list(self.token_columns)]

    def of_numbers(self, columns: Tensor) -> Tensor:
        """What is said of columns ``(B, C)``, of each number ``(B, M)``."""
        return columns[:, list(self.number_columns)]


@dataclass(frozen=True)
class Seen:
    """What a network is shown of B rows.

    tokens: ``(B, T)`` int64, K of a hidden one.  numbers: ``(B, M)``, 0 where ``known`` ``(B, M)`` is False.
    """

    tokens: Tensor
    numbers: Tensor
    known: Tensor


def show(layout: ColumnLayout, tokens: Tensor, numbers: Tensor, tokens_seen: Tensor, known: Tensor) -> Seen:
    """Rows of which tokens where ``tokens_seen``, and numbers where ``known``, are shown."""
    hidden = torch.tensor(layout.sizes, device=tokens.device)
    return Seen(torch.where(tokens_seen, tokens, hidden), torch.where(known, numbers, 0.0), known)


class ColumnNetwork(nn.Module):
    """One network for all questions about rows of a mixed table, of which any part may be seen.

    An encoder of what is seen, residual blocks on embeddings of tokens and on numbers, gives the scores of
    all tokens; the velocities of numbers are those of a :class:`ResidualMLP` under its last state.

    layout: the columns.  width, depth: of both parts.  Raises ValueError for sizes below 1.

    >>> layout = ColumnLayout((3, 2), (0, 1), (1, 2), numbered=(1, 1))
    >>> net = ColumnNetwork(layout, width=16, depth=1)
    >>> tokens, numbers = torch.tensor([[2, 0]]), torch.zeros(1, 2)
    >>> seen = show(layout, tokens, numbers, tokens > 0, tokens > 5)
    >>> [tuple(part.shape) for part in net.scores(seen)], net.velocity(0.5, numbers, seen).shape
    ([(1, 3), (1, 2)], torch.Size([1, 2]))
    """

    def __init__(self, layout: ColumnLayout, width: int = 256, depth: int = 3):
        super().__init__()
        check_count("width", width)
        check_count("depth", depth)
        self.layout = layout
        widths = [min(32, 2 + size // 2) for size in layout.sizes]
        self.embeddings = nn.ModuleList(
            nn.Embedding(size + 1, wide) for size, wide in zip(layout.sizes, widths)
        )
        self.enter = nn.Linear(sum(widths) + 2 * layout.numbers, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.heads = nn.Linear(width, max(1, sum(layout.sizes)))
        nn.init.zeros_(self.heads.weight)
        nn.init.zeros_(self.heads.bias)
        self.moves = (
            ResidualMLP(layout.numbers, condition=(width,), width=width, depth=depth)
            if layout.numbers
            else None
        )

    def encoded(self, seen: Seen) -> Tensor:
        """The state of the encoder, ``(B, width)``."""
        parts = [table(seen.tokens[:, i]) for i, table in enumerate(self.embeddings)]
        h = self.enter(torch.cat([*parts, seen.numbers, seen.known.to(seen.numbers)], -1))
        for block in self.blocks:
            h = h + block(h)
        return self.norm(h)

    def scores(self, seen: Seen) -> Sequence[Tensor]:
        """Scores of the values of each token, T tensors ``(B, K)``."""
        return self.heads(self.encoded(seen)).split(list(self.layout.sizes), -1) if self.layout.sizes else ()

    def velocity(self, t: Tensor | float, x: Tensor, seen: Seen) -> Tensor:
        """The velocity of the numbers x ``(B, M)`` that are not seen, at the times ``t``."""
        assert self.moves is not None, "a table without numbers has no velocity"
        return self.moves(t, x, self.encoded(seen))
