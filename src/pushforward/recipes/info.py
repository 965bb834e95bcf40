"""The description of a run in a few lines: data, method, sizes, figures, and commands that can follow."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..data import Schema
from ..entries import DATASETS
from ..registry import Trust
from ..runs import RunFolder, read_numbers
from .defaults import label, told
from .open import Run, reopen
from .parts import own_classes


def lines(path: str | Path, trust: Sequence[Trust] = ()) -> list[tuple[str, str]]:
    """Name and text of each line about a run, also of one that is not finished.

    trust: classes that the run may name, see :func:`~pushforward.recipes.open_run`.
    Raises ValueError for a folder that is missing, damaged or of a newer version.
    """
    folder = RunFolder(Path(path))
    config, schema = folder.config(), folder.schema()
    summary = folder.summary(config.optim)
    for name in ("steps", "batch", "lr", "weight_decay", "ema"):
        if getattr(config.optim, name) is None:
            raise ValueError(f"{folder.path / 'config.json'}: optim.{name}: expected a number, got null")
    held_out = f", {schema.rows_test:,} held out" if schema.rows_test else ", none held out"
    rows = [
        ("run", str(folder.path)),
        ("method", label(config)),
        ("data", f"{schema.source}: {schema.rows_train:,} rows to train on{held_out}"),
        ("row", _row(schema)),
        ("condition", _condition(schema)),
        ("chosen", told(config, schema)),
        ("source", summary.get("start") or str(config.data.source)),
        ("parameters", f"{summary['parameters']:,}" if "parameters" in summary else ""),
        ("finished", "yes" if summary.get("finished") else "no; the same command continues it"),
        ("steps", f"{summary.get('step', 0):,}, kept those of step {summary.get('kept_step', 0):,}"),
        ("learnt", learnt_in_words(summary.get("learnt"))),
        *_figures(folder),
        ("command", summary.get("command") or ""),
    ]
    if "step" in summary:
        rows += [("then", command) for command in commands(reopen(folder.path, trust=trust))]
    return [(name, text) for name, text in rows if text]


def commands(run: Run) -> list[str]:
    """Commands for a run, as they are typed: sample, score if there is a density, report."""
    schema, path = run.schema, shlex.quote(str(run.path))
    known = {"table": "samples.csv", "image": "samples.png", "text": "samples.txt"}
    samples = known.get(schema.kind, "samples.npy")
    if schema.condition is not None and schema.kind == "array":
        samples = "samples.npz"
    found = [f"pushforward sample {path} -n {16 if schema.kind in ('image', 'text') else 1000} -o {samples}"]
    if run.flow.density != "none" and run.flow.source.atoms is None:
        keep = " --keep" if schema.kind == "table" else ""
        found.append(f"pushforward score {path} {shlex.quote(_again(run))}{keep} -o scores.csv")
    trust = "".join(f" --trust {name}" for name in own_classes(run.config.model))
    return [f"{command}{trust}" for command in (*found, f"pushforward report {path}")]


def _again(run: Run) -> str:
    """Data to score: those that were trained on, where their name leads to them."""
    target = run.config.target
    there = target in DATASETS or Path(target).expanduser().exists()
    return target if there else "new.csv"


def _row(schema: Schema) -> str:
    if schema.kind == "text":
        return schema.row
    if not schema.columns:
        return f"{schema.kind} of {' x '.join(map(str, schema.event_shape))}"
    count = len(schema.columns)
    columns = ", ".join(schema.columns[:8]) + ", ..." * (count > 8)
    return f"{count} {'column' if count == 1 else 'columns'}: {columns}"


def _condition(schema: Schema) -> str:
    if schema.condition is None:
        return ""
    classes = ", ".join(schema.condition.classes[:8]) + ", ..." * (len(schema.condition.classes) > 8)
    return ", ".join(schema.condition.columns) + (f" ({classes})" if classes else "")


def _figures(folder: RunFolder) -> list[tuple[str, str]]:
    """The held-out likelihood and the headline of the report, where there is one."""
    if not (folder.path / "report.json").exists():
        return [("report", "none yet")]
    numbers = read_numbers(folder.path / "report.json")
    density = next((row for row in numbers.get("density") or [] if row.get("key") == "model"), None)
    found = []
    if density is not None and (mean := density.get("mean")) is not None:
        error = density.get("error")
        spread = "" if error is None else f" +- {error:.3f}"
        bound = ", a lower bound" if (numbers.get("density_facts") or {}).get("bound") else ""
        found.append(("held out", f"{mean:.3f}{spread} nats per row{bound}"))
    return [*found, ("headline", str(numbers.get("sentence", "")))]


def learnt_in_words(learnt: dict[str, object] | None) -> str:
    """A text about the gain over the baselines that a flow starts from.

    >>> learnt_in_words({"gain": 0.21, "error": 0.05, "rows": 142, "how": "cross-validation"})
    '0.210 +- 0.050 nats per row beyond the baselines it starts from (142 rows, cross-validation)'
    """
    if not learnt:
        return ""
    gain, error = learnt["gain"], learnt["error"]
    assert isinstance(gain, float) and isinstance(error, float)
    if gain == 0:
        return f"nothing beyond the baselines it starts from ({learnt['rows']} rows, {learnt['how']})"
    beyond = "nats per row beyond the baselines it starts from"
    if gain < 0:
        beyond = "nats per row below the baselines it starts from, which the noise at its end blurs"
    return f"{abs(gain):.3f} +- {error:.3f} {beyond} ({learnt['rows']} rows, {learnt['how']})"
