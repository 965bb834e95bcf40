"""The page of a report: what is said, and in which order."""

from __future__ import annotations

from ..recipes import by_method, label
from .dynamics import Dynamics
from .figures.style import Picture
from .loaded_run import LoadedRun
from .notes import verdict_notes
from .page import Section, as_json, page, preformatted, said
from .player import Player
from .tables import advice, few_table, map_sentences, memory_table, motion_tables, verdict_tables
from .text_samples import beside_nearest
from .verdict import Verdict


def render(
    loaded: LoadedRun,
    verdict: Verdict,
    dynamics: Dynamics,
    saved: dict[str, list[tuple[Picture, list[bytes]]]],
    player: Player | None = None,
) -> str:
    """The page."""
    near, curve = verdict.evidence.memorisation, dynamics.curve
    run, schema = loaded.run, loaded.schema
    attempt, text = loaded.left_out.attempt, loaded.look == "text" and verdict.sampled
    texts = attempt("samples beside training text", [], beside_nearest, loaded) if text else []
    sections = [
        Section("Verdict", tables=verdict_tables(loaded, verdict), notes=verdict_notes(loaded, verdict)),
        Section("Left out", loaded.left_out.sentences()),
        Section("Samples", pictures=saved["samples"], tables=texts),
        Section(
            "Quality with few evaluations",
            [advice(curve)] if curve else [],
            saved["evaluations"],
            [few_table(curve)] if curve else [],
        ),
        Section(
            "One step beside many",
            map_sentences(dynamics),
            saved["leaps"],
        ),
        Section(
            "How the flow moves",
            pictures=saved["motion"],
            tables=motion_tables(dynamics),
            beside=True,
        ),
        Section(
            "Nearest training rows",
            [],
            saved["memory"],
            [memory_table(loaded, verdict.evidence, near)] if near else [],
            beside=True,
        ),
        Section("Training", pictures=saved["training"]),
    ]
    versions = run.summary.get("versions", {})
    made = {key: value for key, value in run.summary.items() if key not in ("versions", "command")}
    end = [
        preformatted("Command", run.command or "not recorded"),
        preformatted("Configuration", as_json(run.config.to_json()), shut=True),
        preformatted("Run and versions", as_json({**made, **versions}), shut=True),
    ]
    kicker = f"{label(by_method(run.config))} · {schema.kind} · {run.config.target}"
    title = f"{schema.name}: report of the trained flow"
    head = verdict.headline
    others = [cause.text for cause in head.causes if cause.text.lower() not in head.sentence.lower()]
    box = said(
        head.sentence, [text[0].upper() + text[1:] for text in others], head.command, head.kind == "good"
    )
    shown = [section.html() for section in sections]
    if player is None:
        return page(title, kicker, _facts(loaded), box, [*shown, *end])
    shown.insert(3, player.html)  # after the samples
    return page(title, kicker, _facts(loaded), box, [*shown, *end], style=player.style, script=player.script)


def _facts(loaded: LoadedRun) -> list[tuple[str, str]]:
    summary, schema = loaded.run.summary, loaded.schema
    shape = " × ".join(str(size) for size in loaded.event)
    row = f"{shape} number{'s' * (loaded.size != 1)}, {loaded.unit}"
    row = schema.row if loaded.look == "text" else row
    train, test = f"{len(loaded.train):,}", f"{len(loaded.test):,}" if loaded.held_out else "none"
    if schema.sample_weight is not None:
        train = f"{schema.rows_train:,}, of which {train} drawn by {schema.sample_weight}"
        test = f"{schema.rows_test:,}, of which {test} drawn"
    facts = [
        ("training rows", train),
        ("held-out rows", test),
        ("a row", row),
    ]
    if loaded.spec is not None:
        kind = f"{len(loaded.classes)} labels" if loaded.labelled else ", ".join(loaded.spec.columns)
        facts.append(("condition", kind))
    for key, name in (("parameters", "parameters"), ("step", "steps"), ("steps", "steps")):
        if key in summary:
            facts.append((name, f"{summary[key]:,}"))
    if "seconds" in summary:
        facts.append(("trained for", f"{summary['seconds']:,.0f} s on {summary.get('device', 'cpu')}"))
    return [*facts, ("seed", str(loaded.seed))]
