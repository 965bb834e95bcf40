"""The contents of the JSON files of a run folder, for :func:`pushforward.typed.as_type`.

Only what is read is named; further entries are kept as they are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from .typed import AnyNumber, Count

__all__ = [
    "Best",
    "Chosen",
    "Data",
    "FewSteps",
    "Learnt",
    "Line",
    "Number",
    "Numbers",
    "Row",
    "Samplers",
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
    """The gain over the baselines, in nats per row."""

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
    ended: Literal["steps", "patience", "time"] | None
    planned: dict[str, float | None]
    step: Count
    steps: Count
    kept_step: Count
    moved: Count
    seconds: _Amount
    learnt: Learnt | None
    versions: dict[str, str]


class Number(TypedDict):
    """A measured number; null where it was not finite."""

    value: float | None


class Line(TypedDict):
    """A measure of a report.  Further entries that are objects are a :class:`Number` of a baseline each."""

    label: str
    unit: str
    better: str
    model: Number
    real: NotRequired[Number]


class Density(TypedDict):
    """The log-density of rows under the model or a baseline."""

    key: str
    mean: NotRequired[float | None]
    error: NotRequired[float | None]
    gain: NotRequired[float | None]
    gap: NotRequired[float | None]


class Motion(TypedDict, total=False):
    """Straightness and cost of trajectories."""

    straightness: float | None
    relative_straightness: float | None
    cost: float | None
    least: float | None
    nfe: float | None
    cost_over_least: float | None
    normalised_path_energy: float | None


class RoundTrip(TypedDict, total=False):
    """Errors of rows that were pulled back and pushed out again."""

    largest: float | None
    median: float | None


class Rounding(TypedDict, total=False):
    """What rounding vectors to tokens changes."""

    distance: float | None
    undecided: float | None


class Point(TypedDict):
    """The quality of samples after so many evaluations."""

    solver: str
    nfe: float
    energy: float | None


class Evaluations(TypedDict, total=False):
    """Quality against evaluations."""

    unit: str
    points: list[Point]


class Sampler(TypedDict, total=False):
    """The solver of the samples."""

    nfe: float | None


class Headline(TypedDict):
    """The conclusion of a report, and a command that can improve the model."""

    command: str


class Numbers(TypedDict):
    """``report.json``: what is read of a report."""

    verdict: list[Line]
    format: NotRequired[Count]
    name: NotRequired[str]
    sentence: NotRequired[str]
    headline: NotRequired[Headline]
    left_out: NotRequired[dict[str, str]]
    best_baseline: NotRequired[str | None]
    density: NotRequired[list[Density] | None]
    density_facts: NotRequired[dict[str, Any] | None]
    motion: NotRequired[Motion | None]
    round_trip: NotRequired[RoundTrip | None]
    rounding: NotRequired[Rounding | None]
    evaluations: NotRequired[Evaluations | None]
    sampler: NotRequired[Sampler | None]
    summary: NotRequired[Summary | None]
    config: NotRequired[dict[str, Any] | None]


class Row(TypedDict):
    """A line of ``metrics.jsonl``."""

    step: Count
    loss: NotRequired[AnyNumber]
    val_loss: NotRequired[AnyNumber]
    val_nll: NotRequired[AnyNumber]
    val_loss_by_time: NotRequired[list[AnyNumber] | None]


class Chosen(TypedDict):
    """``choice.json``: what cross-validation chose."""

    steps: Count
    learnt: Learnt | None
    curve: list[Row]


class FewSteps(TypedDict):
    """A solver for a number of evaluations: its name and its options."""

    solver: str
    steps: Count
    grid: str | list[float]
    start: NotRequired[list[float]]
    weights: NotRequired[list[float]]
    error: AnyNumber


class Samplers(TypedDict):
    """``sampler.json``: samplers by their evaluations, and the weights and the guidance that they are of."""

    weights: str
    guidance: float | str
    samplers: dict[str, FewSteps]


class Best(TypedDict):
    """The validation of least loss."""

    loss: AnyNumber
    step: Count
    since: Count


class State(TypedDict):
    """The header of ``state.safetensors``: at which step of how many training was, after which time.

    rows: of ``metrics.jsonl`` then.  validated: rows that validations are of, once that is settled.
    run: which run and stage it is of.  best: a :class:`Best`, empty before there was one.
    """

    step: Count
    total: Count
    seconds: _Amount
    rows: Count
    validated: NotRequired[Count | None]
    run: NotRequired[str]
    best: NotRequired[dict[str, Any]]
