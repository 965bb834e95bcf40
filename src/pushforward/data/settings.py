"""Settings for reading and splitting data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .conditions import ConditionKind
from .dataset import Preprocess
from .limits import MAX_SIZE, checked_max_size
from .split import check_share
from .text import is_whole

#: Fewer rows than this are not enough to train on.
LEAST = 32


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """The arguments of :func:`pushforward.data.load` besides the data.

    condition: columns that become the condition and leave the data.  Built-in data and image folders
        with classes offer ``label``, an npz file its other arrays.  Labels beside numbers or other labels
        become a mapping from their names to tensors ``(B,)``.
    condition_kind: how to read them, see :func:`pushforward.data.conditions.fit_condition`.
    columns: the columns of a table that are data, and no others; empty: all.
    exclude: columns that are no data.
    sample_weight: column of weights, non-negative numbers, which leaves the data; an npz file offers its
        other arrays.  Rows of weight 0 are left out.
    holdout: share of rows to test on, drawn by ``seed`` label by label.  A toy draws test rows afresh, as
        many as training rows, unless the share is 0.
    deduplicate: drop rows that repeat an earlier row exactly.
    space: the manifold of which rows are points, see :mod:`pushforward.spaces`; it is then the preprocessing.
    preprocess, noise: see :func:`pushforward.data.dataset.fit_preprocess`.
    rows: how many rows a toy draws, 10,000 by default.
    resize: pixels of the shorter side of a folder's images, of which the central square is kept.
    window: characters of a window of a text, 64 by default.
    max_size: gigabytes that the numbers of a file or of a folder of images may take; it is checked before
        they take it.

    Raises ValueError for values that are none of these.
    """

    condition: Sequence[str] = ()
    condition_kind: ConditionKind = "auto"
    columns: Sequence[str] = ()
    exclude: Sequence[str] = ()
    sample_weight: str | None = None
    holdout: float = 0.2
    seed: int = 0
    deduplicate: bool = False
    space: str | None = None
    preprocess: Preprocess = "auto"
    noise: str | None = None
    rows: int | None = None
    resize: int | None = None
    window: int | None = None
    max_size: float = MAX_SIZE

    def __post_init__(self) -> None:
        for name in ("condition", "columns", "exclude"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        if len(set(self.condition)) < len(self.condition):
            raise ValueError(f"condition: a column is named twice in {', '.join(self.condition)}")
        if self.condition_kind not in ("auto", "labels", "continuous"):
            raise ValueError(
                f"condition_kind: expected auto, labels or continuous, got {self.condition_kind!r}"
            )
        if self.rows is not None and (not is_whole(self.rows) or self.rows < LEAST):
            raise ValueError(f"rows: expected a whole number of at least {LEAST}, got {self.rows!r}")
        if self.window is not None and (not is_whole(self.window) or self.window < 2):
            raise ValueError(f"window: expected a whole number of at least 2, got {self.window!r}")
        if not is_whole(self.seed):
            raise ValueError(f"seed: expected a whole number, got {self.seed!r}")
        check_share(self.holdout)
        checked_max_size(self.max_size)
