"""What a report says of text: samples beside training text, and how often pairs of characters occur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.prose import as_texts
from ..metrics import Metric, NGrams
from ..tensors import Condition
from .page import Table

if TYPE_CHECKING:
    from .loaded_run import LoadedRun

#: Samples that are shown, characters compared at once, and training windows searched at most.
SHOWN, HELD, SEARCHED = 12, 2**27, 200_000
#: Line ends as they are shown.
END = "↵"


@dataclass(frozen=True)
class Windows:
    """N-grams as a density of windows of ``length`` characters, of which nothing before is known."""

    grams: NGrams
    length: int

    def log_prob(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Log-probabilities ``(n,)`` of rows, float64."""
        return self.grams.log_prob(x)

    def sample(
        self, n: int, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws ``(n, length)``."""
        return self.grams.sample(n, self.length, generator)


class Pairs(Metric):
    """The total variation between the shares of pairs of neighbouring tokens, of all pairs that occur.

    >>> Pairs().measure(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 1.0]]))
    0.5
    """

    label = "Pairs of characters, total variation"
    short = "total variation of pairs of characters"

    def measure(self, x: Tensor, y: Tensor, seed: int = 0) -> float:
        size = int(max(x.max(), y.max())) + 1
        codes = [(size * z[:, :-1].long() + z[:, 1:].long()).flatten() for z in (x, y)]
        _, places = torch.cat(codes).unique(return_inverse=True)
        counts = [
            part.bincount(minlength=int(places.max()) + 1).double() / len(part)
            for part in places.split([len(codes[0]), len(codes[1])])
        ]
        return float(0.5 * (counts[0] - counts[1]).abs().sum())


def nearest_windows(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """In how many places ``x`` ``(n, L)`` differs from the nearest of ``rows`` ``(N, L)``, and which that is.

    >>> nearest_windows(torch.tensor([[0, 1, 2]]), torch.tensor([[2, 1, 0], [0, 1, 1]]))
    (tensor([1]), tensor([1]))
    """
    x, rows = x.to(torch.int16), rows.to(torch.int16)
    parts = [(part[:, None] != rows).sum(-1).min(1) for part in x.split(max(1, HELD // max(1, rows.numel())))]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def beside_nearest(loaded: LoadedRun) -> list[Table]:
    """The first samples, as text, beside the training windows that most characters agree with."""
    train = loaded.subset(loaded.run.dataset.train, SEARCHED, "windows").x
    alphabet, samples, held = loaded.schema.alphabet, loaded.drawn.x[:SHOWN], loaded.reference.x[:SHOWN]
    apart, index = nearest_windows(samples, train)
    real, _ = nearest_windows(held, train)
    pairs = zip(as_texts(samples, alphabet), as_texts(train[index], alphabet), (loaded.size - apart).tolist())
    rows = [[_shown(sample), _shown(near), str(same)] for sample, near, same in pairs]
    agree = f"{(loaded.size - real.double()).mean():.0f}"
    caption = (
        f"The first samples beside the nearest of {len(train):,} training windows; of {loaded.size} "
        f"characters {agree} agree where windows are held out"
    )
    return [Table(["sample", "nearest training window", "characters that agree"], rows, caption)]


def _shown(text: str) -> str:
    return text.replace("\n", END)


def notes(loaded: LoadedRun) -> list[str]:
    """What is compared with what."""
    often, _ = loaded.repeats
    return [
        f"Windows of {loaded.size} characters are compared with {loaded.rows:,} that were held out, in whole "
        f"stretches of the text; real rows are as many training windows, {often} draws of them. Values are "
        "means ± standard deviations over draws.",
        f"The model drew {loaded.samples:,} samples.",
        "N-grams count the text that the model was trained on, with weights for shorter contexts that fit a "
        "tenth of it best. Of what precedes a window neither they nor the model know anything.",
    ]
