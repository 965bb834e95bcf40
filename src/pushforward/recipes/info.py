"""What a run is, in a few lines, from its resolved parts."""

from __future__ import annotations

from .defaults import label, told
from .open import Run


def lines(run: Run) -> list[tuple[str, str]]:
    """Name and text of everything that is said of a run."""
    schema, summary, config = run.schema, run.summary, run.config
    columns = ", ".join(schema.columns[:8]) + ", ..." * (len(schema.columns) > 8)
    rows = [
        ("run", str(run.path)),
        ("method", label(config)),
        ("data", f"{schema.source}: {schema.rows_train:,} rows to train on, {schema.rows_test:,} held out"),
        ("row", columns or " x ".join(map(str, schema.event_shape))),
        ("chosen", told(config, schema)),
        ("source", summary.get("start") or str(config.data.source)),
        ("finished", "yes" if summary.get("finished") else "no"),
        ("steps", f"{summary.get('step', 0):,}, kept those of step {summary.get('kept_step', 0):,}"),
        ("learnt", learnt_in_words(summary.get("learnt"))),
        ("command", run.command),
    ]
    if schema.condition is not None:
        rows.insert(4, ("condition", ", ".join(schema.condition.columns)))
    return [(name, text) for name, text in rows if text]


def learnt_in_words(learnt: dict[str, object] | None) -> str:
    """What was learnt beyond the baselines that a flow starts from.

    >>> learnt_in_words({"gain": 0.21, "error": 0.05, "rows": 142, "how": "cross-validation"})
    '0.210 +- 0.050 nats a row beyond the baselines it starts from (142 rows, cross-validation)'
    """
    if not learnt:
        return ""
    gain, error = learnt["gain"], learnt["error"]
    assert isinstance(gain, float) and isinstance(error, float)
    if gain == 0:
        return f"nothing beyond the baselines it starts from ({learnt['rows']} rows, {learnt['how']})"
    beyond = "nats a row beyond the baselines it starts from"
    return f"{gain:.3f} +- {error:.3f} {beyond} ({learnt['rows']} rows, {learnt['how']})"
