"""The page of a report: what is said, in which order, and the tables."""

from __future__ import annotations

from .dynamics import Curve, Motion, RoundTrip
from .figures.style import Picture
from .formatting import Value, number, pair
from .lines import Line
from .loaded_run import LoadedRun
from .memorisation import Memory
from .notes import verdict_notes
from .page import Section, Table, as_json, page, preformatted, said
from .run_like import label_of
from .verdict import Verdict

#: How it is said which way is better.
WAYS = {"high": "higher is better", "low": "lower is better", "real": "like real rows is best"}


def render(
    loaded: LoadedRun,
    verdict: Verdict,
    curve: Curve | None,
    motion: Motion | None,
    trip: RoundTrip | None,
    saved: dict[str, list[tuple[Picture, list[bytes]]]],
) -> str:
    """The page."""
    run, schema = loaded.run, loaded.schema
    sections = [
        Section("Verdict", tables=_verdict_tables(loaded, verdict), notes=verdict_notes(loaded, verdict)),
        Section("Left out", loaded.left_out.sentences()),
        Section("Samples", pictures=saved["samples"]),
        Section(
            "Few evaluations",
            [_advice(curve)] if curve else [],
            saved["evaluations"],
        ),
        Section(
            "How the flow moves",
            pictures=saved["motion"],
            tables=[_motion_table(loaded, motion, trip)] if motion or trip else [],
            beside=True,
        ),
        Section(
            "Nearest training rows",
            [],
            saved["memory"],
            [_memory_table(loaded, verdict, verdict.memory)] if verdict.memory else [],
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
    kicker = f"{label_of(run.config)} · {schema.kind} · {run.config.target}"
    title = f"{schema.name}: what the flow has learnt"
    head = verdict.headline
    others = [cause.text for cause in head.causes if cause.text.lower() not in head.sentence.lower()]
    box = said(
        head.sentence, [text[0].upper() + text[1:] for text in others], head.command, head.kind == "good"
    )
    return page(title, kicker, _facts(loaded), box, [*(s.html() for s in sections), *end])


def _facts(loaded: LoadedRun) -> list[tuple[str, str]]:
    summary, schema = loaded.run.summary, loaded.schema
    shape = " × ".join(str(size) for size in loaded.event)
    train, test = f"{len(loaded.train):,}", f"{len(loaded.test):,}" if loaded.held_out else "none"
    if schema.sample_weight is not None:
        train = f"{schema.rows_train:,}, of which {train} drawn by {schema.sample_weight}"
        test = f"{schema.rows_test:,}, of which {test} drawn"
    facts = [
        ("training rows", train),
        ("held-out rows", test),
        ("a row", f"{shape} number{'s' * (loaded.size != 1)}, {loaded.unit}"),
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


def columns(verdict: Verdict) -> dict[str, str]:
    """The heads of the verdict's columns, by key: the model, the best baseline first, real rows last."""
    names = {key: name[0].upper() + name[1:] for key, name in verdict.names.items()}
    if verdict.best and len(names) > 1:
        names = {verdict.best: names[verdict.best], **names}
        names[verdict.best] = f"best baseline: {verdict.names[verdict.best]}"
    return {"model": "this model", **names, "means": "class means", "real": "real rows"}


def _verdict_tables(loaded: LoadedRun, verdict: Verdict) -> list[Table]:
    heads = columns(verdict)
    names = [name for name in heads if any(name in line.values for line in verdict.lines)]
    rows, small, marks = [], [], {}
    for i, line in enumerate(verdict.lines):
        rows.append([line.label, *(_cell(line, line.values.get(name)) for name in names)])
        small.append(f"{line.unit}, {WAYS[line.better]}")
        wins = bool(verdict.beats) and all(line.key in won for won in verdict.beats.values())
        marks[(i, 1)] = "model" + (" win" if wins else "")
    head = ["measure", *(heads[name] for name in names)]
    found = [Table(head, rows, f"Against {loaded.rows:,} held-out rows", small, marks)] if rows else []
    if verdict.densities:
        found.append(_density_table(verdict))
    return found


def _density_table(verdict: Verdict) -> Table:
    bits = any(density.bits is not None for density in verdict.densities)
    head = ["density", "nats per row", "the model has more by", "training rows have more by"]
    head += ["bits per dimension"] if bits else []
    rows = [
        [
            density.label,
            pair(Value(density.mean, density.error)),
            pair(None if density.gain is None else Value(density.gain, density.gain_error)),
            pair(None if density.gap is None else Value(density.gap, density.gap_error)),
            *([number(density.bits, 4)] if bits else []),
        ]
        for density in verdict.densities
    ]
    bound = "at least, " if verdict.density_facts["bound"] else ""
    count = verdict.density_facts["rows"]
    caption = f"Log-density of {count:,} held-out rows, {bound}mean ± standard error"
    marks = {(0, 1): "model"}
    for i, density in enumerate(verdict.densities):
        if density.gain is not None and density.gain_error is not None:
            sure = abs(density.gain) > density.gain_error
            marks[(i, 2)] = ("win" if density.gain > 0 else "loss") if sure else ""
    return Table(head, rows, caption, [density.note for density in verdict.densities], marks)


def _cell(line: Line, value: Value | None) -> str:
    if value is None:
        return "–"
    if line.unit == "share":
        spread = "" if value.spread is None else f" ± {100 * value.spread:.1f}"
        return f"{100 * value.value:.1f}{spread} %"
    return pair(value) if value.spread is not None else number(value.value, 4)


def _advice(curve: Curve) -> str:
    """How few evaluations are nearly as good as the best."""
    best = min(point.energy for point in curve.points)
    good = max(1.25 * best, curve.floor + curve.floor_spread)
    point = min((p for p in curve.points if p.energy <= good), key=lambda p: p.nfe)
    return (
        f"{point.solver} with {point.nfe:.0f} evaluation{'s' * (point.nfe != 1)} reaches an energy distance "
        f"of {number(point.energy)}; the best is {number(best)}, real rows reach {number(curve.floor)}."
    )


def _memory_table(loaded: LoadedRun, verdict: Verdict, memory: Memory) -> Table:
    heads = {key: verdict.names.get(key, key) for key in columns(verdict)}
    heads |= {"model": "samples", "real": "held out"}
    names = [name for name in heads if name in memory.distances]
    medians = [number(float(memory.distances[name].median())) for name in names]
    shares = [f"{100 * memory.share(name).value:.1f} %" for name in names]
    rows = [["Median distance", *medians], ["Nearer than the 1 % quantile", *shares]]
    small = [
        f"{loaded.distance_unit}, to the nearest of {len(memory.train):,} training rows",
        f"{number(memory.threshold)} {loaded.distance_unit}: 1 % of training rows have a nearer neighbour",
    ]
    return Table(["to training rows", *(heads[name] for name in names)], rows, "", small)


def _motion_table(loaded: LoadedRun, motion: Motion | None, trip: RoundTrip | None) -> Table:
    rows, small = [], []

    def add(name: str, value: float | None, text: str) -> None:
        rows.append([name, number(value, 3)])
        small.append(text)

    if motion is not None:
        facts = motion.to_json()
        add(
            "Straightness S",
            motion.straightness,
            "∫ E|dx/dt − (x1 − x0)|² dt, model units squared; 0 is straight",
        )
        add("S relative to transport cost", facts["relative_straightness"], "0 is straight")
        add("Transport cost", motion.cost, "E|x1 − x0|², model units squared")
        add("Least transport cost", motion.least, f"W2² of the same {motion.rows:,} starts and ends")
        add("Transport cost over the least", facts["cost_over_least"], "1 is optimal")
        add(
            "Normalised path energy",
            facts["normalised_path_energy"],
            "|∫ E|dx/dt|² dt − W2²| / W2²; 0 is optimal",
        )
        add("Field evaluations", motion.nfe, f"mean per row, {loaded.solver!r}")
    if trip is not None:
        text = f"|push(pull(x)) − x| of {trip.rows:,} held-out rows, in deviations of the data"
        add("Round trip, largest error", trip.largest, text)
        add("Round trip, median error", trip.median, text)
    return Table(["quantity", "value"], rows, "Transport and round trip", small)
