"""The batches of a source, data rows and a coupling."""

from __future__ import annotations

from typing import Any

from ..couplings import Coupling, Independent
from ..nn.checks import check_count
from ..rows import Rows
from ..sources import Source
from ..tensors import TensorLike, condition_length, to_tensor
from .batches import Batches, DataRows, IndependentDraws, ModelSpace
from .pools import HeldPairs, PlannedPairs, Plans


def pairs(
    source: Source | Rows | TensorLike | None,
    target: Rows | TensorLike,
    coupling: Coupling | None = None,
    *,
    size: int,
    seed: int = 0,
    space: ModelSpace | None = None,
    plans: Plans | None = None,
) -> Batches:
    """Batches of source points and data rows, paired by ``coupling``, ``size`` per step over all processes.

    source: a distribution; rows where the coupling holds its pairs; None for data rows alone, which is what
        maximum likelihood takes.
    coupling: independent by default.  One that looks at the points has its plans made ahead, as ``plans``
        say.  One that holds its pairs (:attr:`~pushforward.couplings.Coupling.pairing`) has them taken in
        fresh orders.
    space: that of the model, into which data rows are taken; by default theirs, in single precision.

    Data rows come in a new order each epoch, without replacement.  Step k depends on (seed, k) alone.  Rows
    may be plain tensors, arrays and DataFrames.

    Raises ValueError for a target without rows or with values that are not finite, a size below 1, plans of
    more rows than there are, and a source that does not fit.

    >>> import torch
    >>> from pushforward import MinibatchOT, Normal
    >>> batch = pairs(Normal(2), torch.randn(100, 2), MinibatchOT(), size=10)(0)
    >>> batch.source.x.shape, batch.target.x.shape
    (torch.Size([10, 2]), torch.Size([10, 2]))
    """
    target = _as_rows(target, "target")
    if source is not None and not isinstance(source, Source):
        source = _as_rows(source, "source")
    if coupling is not None and not isinstance(coupling, Coupling):
        raise ValueError(f"coupling: expected a Coupling or None, got {coupling!r}")
    coupling = coupling or Independent()
    check_count("size", size)
    held = coupling.pairing is not None
    if source is None and (coupling.looks or held):
        raise ValueError("source: a coupling needs a source to pair with, got None")
    data = DataRows(target, space or ModelSpace(), seed)
    if isinstance(source, Rows):
        _check_events(source.x.shape[1:], data)
        if not held:
            raise ValueError("source: rows are for couplings that hold their pairs; others take a Source")
        return HeldPairs(source, data, coupling, size)
    if source is not None:
        _check_events(source.event_shape, data)
        if held:
            raise ValueError("source: expected the rows that the coupling pairs, got a distribution")
        if coupling.looks:
            return PlannedPairs(source, data, coupling, size, plans or Plans())
    return IndependentDraws(source, data, size)


def _check_events(given: Any, data: DataRows) -> None:
    events = tuple(given), tuple(data.kept.x.shape[1:])
    if events[0] != events[1]:
        raise ValueError(f"source, target: expected equal events, got {events[0]} and {events[1]}")


def _as_rows(given: Any, name: str) -> Rows:
    """At least one row of finite numbers, and as many of all that belongs to them."""
    rows = given if isinstance(given, Rows) else Rows(to_tensor(given, name))
    x = rows.x
    if x.ndim < 2:
        raise ValueError(f"{name}: expected rows (N, *event), got shape {tuple(x.shape)}")
    if len(x) == 0:
        raise ValueError(f"{name}: expected at least one row, got none")
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name}: expected finite numbers, got {int((~x.isfinite()).sum())} that are not")
    beside = {"mask": rows.mask, "weight": rows.weight}
    counts = {key: len(part) for key, part in beside.items() if part is not None}
    if rows.condition is not None:
        counts["condition"] = condition_length(rows.condition)
    for key, count in counts.items():
        if count != len(x):
            raise ValueError(f"{name}: expected a {key} for each of {len(x)} rows, got {count}")
    return rows
