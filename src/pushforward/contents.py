"""What the JSON files of a run folder hold, for :func:`pushforward.typed.as_type`.

Only what is read is named; further entries are kept as they are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from .typed import AnyNumber, Count

__all__ = [
    "Best",
    "Data",
    "Learnt",
    "Row",
    "State",
    "Summary",
]

_Amount = Annotated[float, Meta(ge=0)]


class Data(TypedDict):
    """``data.json``: the schema, the preprocessing, and what the flow starts from."""

    schema: dict[str, Any]
    preprocess: dict[str, Any]
    source: NotRequired[dict[str, Any] | None]
    known: NotRequired[dict[str, Any] | None]
    dtype: NotRequired[Literal["float16", "bfloat16", "float32", "float64"]]
    fingerprint: NotRequired[dict[str, str]]


class Learnt(TypedDict):
    """What was learnt beyond the baselines, in nats a row."""

    gain: AnyNumber
    error: AnyNumber
    rows: Count
    how: str


class Summary(TypedDict, total=False):
    """``run.json``: how training came out."""

    command: str
    stage: str
    start: str | None
    device: str
    processes: Count
    threads: Count
    parameters: Count
    finished: bool
    ended: str | None
    planned: dict[str, float | None]
    step: Count
    steps: Count
    kept_step: Count
    seconds: _Amount
    learnt: Learnt | None
    versions: dict[str, str]


class Row(TypedDict):
    """A line of ``metrics.jsonl``."""

    step: Count
    loss: NotRequired[AnyNumber]
    val_loss: NotRequired[AnyNumber]
    val_nll: NotRequired[AnyNumber]
    val_loss_by_time: NotRequired[list[AnyNumber] | None]


class Best(TypedDict):
    """The validation of least loss."""

    loss: AnyNumber
    step: Count
    since: Count


class State(TypedDict):
    """The header of ``state.safetensors``: at which step of how many training was, after which time.

    rows: of ``metrics.jsonl`` then.  validated: rows that validations are of, once that is settled.
    best: a :class:`Best`, empty before there was one.
    """

    step: Count
    total: Count
    seconds: _Amount
    rows: Count
    validated: NotRequired[Count | None]
    best: NotRequired[dict[str, Any]]
