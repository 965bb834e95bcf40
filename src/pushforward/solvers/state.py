"""States and times of all solvers: their checks, and the evaluation of the velocity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from .problems import State, StateT, Velocity

#: A state inside a solver: always a tuple.
Entries = tuple[Tensor, ...]


def as_entries(x: State, whole: bool = False) -> Entries:
    """``x`` as a tuple; ValueError unless its tensors are floating and agree in B, dtype and device.

    With ``whole`` they are tokens, int64, instead.
    """
    entries = (x,) if isinstance(x, Tensor) else tuple(x)
    if not entries:
        raise ValueError("x: expected a tensor or a tuple of tensors, got an empty tuple")
    first = entries[0]
    for entry in entries:
        fits = entry.dtype == torch.int64 if whole else entry.is_floating_point()
        if entry.ndim == 0 or not fits:
            kind = "int64" if whole else "floating"
            raise ValueError(
                f"x: expected {kind} tensors (B, *event), got {entry.dtype} of shape {tuple(entry.shape)}"
            )
        if entry.shape[0] != first.shape[0] or entry.dtype != first.dtype or entry.device != first.device:
            raise ValueError(
                "x: the tensors of a state must agree in rows, dtype and device, got "
                + ", ".join(f"{tuple(e.shape)} {e.dtype} on {e.device}" for e in entries)
            )
    return entries


def like(x: StateT, entries: Entries) -> StateT:
    """Undo :func:`as_entries`: a tensor where ``x`` is one."""
    return cast(StateT, entries[0] if isinstance(x, Tensor) else entries)


class Evaluation:
    """The velocity on tuples, counted, with the shape of every result checked.

    A result in another dtype (an autocast field) is brought back to the state's.  ``name`` is what errors
    call the velocity.  Where only ``leading`` entries are wanted and the velocity can give these alone, as
    :class:`~pushforward.solvers.WithIntegrals` does, the slopes of the others are zeros.
    """

    def __init__(self, velocity: Velocity, x: State, name: str = "velocity"):
        self.velocity = velocity
        self.x = x
        self.name = name
        self.calls = 0

    def __call__(self, t: Tensor | float, entries: Entries, leading: bool = False) -> Entries:
        self.calls += 1
        some = getattr(self.velocity, "leading", None) if leading else None
        # a fill, not a copy from the host, so that a fixed-step loop never waits for the device
        time = t if isinstance(t, Tensor) else entries[0].new_full((), t)
        try:
            slope = (some or self.velocity)(time, like(self.x, entries))
        except RuntimeError as error:
            # torch names the two that differ, but not whose they are
            if "dtype" not in str(error) and "device" not in str(error):
                raise
            first = entries[0]
            raise ValueError(
                f"{self.name}: x is {first.dtype} on {first.device}, which the field does not take; move x "
                f"or the field to the other's dtype and device ({str(error).splitlines()[0]})"
            ) from error
        slopes = (slope,) if isinstance(slope, Tensor) else tuple(slope)
        if some is not None:
            slopes += tuple(entry.new_zeros(entry.shape) for entry in entries[len(slopes) :])
        if [s.shape for s in slopes] != [e.shape for e in entries]:
            raise ValueError(
                f"{self.name}: expected the shapes of x, {[tuple(e.shape) for e in entries]}, "
                f"got {[tuple(s.shape) for s in slopes]}"
            )
        return tuple(s if s.dtype == e.dtype else s.to(e.dtype) for s, e in zip(slopes, entries))


def finite_rows(*tensors: Tensor) -> Tensor:
    """``(B,)``: whether all elements of a row are finite in every tensor."""
    rows = [tensor.detach().isfinite().flatten(1).all(1) for tensor in map(_matrix, tensors)]
    result = rows[0]
    for row in rows[1:]:
        result = result & row
    return result


def _matrix(x: Tensor) -> Tensor:
    return x[:, None] if x.ndim == 1 else x


def check_interval(t0: float, t1: float) -> None:
    """Raise ValueError unless both ends are finite."""
    if not (abs(t0) < math.inf and abs(t1) < math.inf):  # comparisons trace where t0 is symbolic
        raise ValueError(f"t0, t1: expected finite times, got {t0} and {t1}")


def check_save_at(
    save_at: Sequence[float] | Tensor | None, t0: float, t1: float, dtype: torch.dtype
) -> tuple[list[float] | None, float]:
    """``save_at`` as floats within [t0, t1], and the distance below which two times are equal.

    That tolerance is a few roundings of the coarsest type in play: ``torch.linspace(0, 1, 11)`` in
    float32 is meant to hit the nodes of ten steps.
    """
    eps = torch.finfo(dtype).eps
    if isinstance(save_at, Tensor):
        if save_at.ndim != 1:
            raise ValueError(f"save_at: expected one dimension, got shape {tuple(save_at.shape)}")
        if save_at.is_floating_point():
            eps = max(eps, torch.finfo(save_at.dtype).eps)
        save_at = save_at.tolist()
    tolerance = 4 * eps * max(abs(t0), abs(t1))
    if save_at is None:
        return None, tolerance
    times = [float(s) for s in save_at]
    sign = 1.0 if t1 >= t0 else -1.0
    for earlier, later in zip([t0, *times], [*times, t1]):
        if not (later - earlier) * sign >= -tolerance:
            raise ValueError(
                f"save_at: expected times going from t0={t0} to t1={t1} without turning back, got {times}"
            )
    low, high = min(t0, t1), max(t0, t1)
    return [min(max(s, low), high) for s in times], tolerance


def stack_states(states: Sequence[Entries], entries: Entries) -> Entries:
    """Stack S states in front: ``(S, B, *event)`` for each entry, also when S is zero."""
    return tuple(
        torch.stack([state[i] for state in states]) if states else entry.new_empty((0, *entry.shape))
        for i, entry in enumerate(entries)
    )
