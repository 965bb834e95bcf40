"""The tables of a report."""

from __future__ import annotations

from .densities import Densities
from .dynamics import FEW, LEAPS, TUNED, Curve, Dynamics, Motion, RoundTrip
from .evidence import Evidence
from .formatting import Value, number, pair
from .heads import HeadDensity
from .leaps import MANY, Leaps
from .loaded_run import LoadedRun
from .measures import SECTIONS, WAYS, Measure
from .memorisation import Memorisation
from .page import Table
from .rounding import Rounded
from .verdict import Verdict


def columns(evidence: Evidence) -> dict[str, str]:
    """The heads of the verdict's columns, by key: the model, the best baseline first, real rows last."""
    names = {key: name[0].upper() + name[1:] for key, name in evidence.names.items()}
    best = evidence.best
    if best and len(names) > 1:
        names = {best: "", **names}
        names[best] = f"best baseline: {evidence.names[best]}"
    return {"model": "this model", **names, "means": "class means", "real": "real rows"}


def verdict_tables(loaded: LoadedRun, verdict: Verdict) -> list[Table]:
    """Every measure beside baselines and real rows, and log-densities under every baseline."""
    heads = columns(verdict.evidence)
    names = [name for name in heads if any(name in line.values for line in verdict.lines)]
    rows, small, marks = [], [], {}
    for i, line in enumerate(verdict.lines):
        measure = line.measure
        rows.append([measure.label, *(_cell(measure, line.values.get(name)) for name in names)])
        small.append(", ".join(filter(None, (measure.unit, WAYS[measure.better]))))
        wins = bool(verdict.beats) and all(measure.key in won for won in verdict.beats.values())
        marks[(i, 1)] = "model" + (" win" if wins else "")
    head = ["measure", *(heads[name] for name in names)]
    found = [Table(head, rows, f"Against {loaded.rows:,} held-out rows", small, marks)] if rows else []
    densities = verdict.evidence.densities
    return [*found, _density_table(densities, loaded.element)] if densities.table else found


def _density_table(densities: Densities, element: str) -> Table:
    table = densities.table
    bits = any(density.bits is not None for density in table)
    head = ["density", "nats per row", "model minus baseline", "training minus held-out rows"]
    head += [f"bits per {element}"] if bits else []
    rows, marks = [], {(0, 1): "model"}
    for i, density in enumerate(table):
        gain = density.lead.gain if density.lead else None
        cells = [density.label, pair(density.mean), pair(gain), pair(density.gap)]
        rows.append([*cells, *([number(density.bits, 4)] if bits else [])])
        if gain is not None and gain.spread is not None:
            sure = abs(gain.value) > gain.spread
            marks[(i, 2)] = ("win" if gain.value > 0 else "loss") if sure else ""
    bound = "at least, " if densities.bound else ""
    caption = f"Log-density of {densities.facts['rows']:,} held-out rows, {bound}mean ± standard error"
    return Table(head, rows, caption, [density.note for density in table], marks)


def _cell(measure: Measure, value: Value | None) -> str:
    if value is None:
        return "–"
    if measure.unit == "share":
        spread = "" if value.spread is None else f" ± {100 * value.spread:.1f}"
        return f"{100 * value.value:.1f}{spread} %"
    return pair(value) if value.spread is not None else number(value.value, 4)


def advice(curve: Curve) -> str:
    """How few evaluations are nearly as good as the best."""
    points = [*curve.points, *curve.few]
    best = min(point.energy for point in points)
    good = max(1.25 * best, curve.floor + curve.floor_spread)
    point = min((p for p in points if p.energy <= good), key=lambda p: p.nfe)
    solver = {TUNED: "The tuned sampler", LEAPS: "The flow map"}.get(point.solver, point.solver)
    return (
        f"{solver} with {point.nfe:.0f} evaluation{'s' * (point.nfe != 1)} reaches an energy distance "
        f"of {number(point.energy)}; the best is {number(best)}, and real rows have {number(curve.floor)}."
    )


def map_sentences(dynamics: Dynamics) -> list[str]:
    """What is said of a flow map and its head, nothing of other flows."""
    found = [leaps_sentence(dynamics.leaps)] if dynamics.leaps else []
    return [*found, head_sentence(dynamics.head)] if dynamics.head else found


def head_sentence(head: HeadDensity) -> str:
    """How far the density of a head is from that of the velocity, in numbers."""
    estimated = "" if head.divergence == "exact" else f", its divergence from {head.divergence},"
    return (
        f"By its head the mean log-density of {head.rows:,} held-out rows is {pair(head.head)} nats, an "
        f"estimate in {head.steps} step{'s' * (head.steps != 1)}; along the velocity{estimated} it is "
        f"{pair(head.velocity)}. The head's defect, the mean of their differences, is {pair(head.defect)} "
        f"nats; one row differs by {number(head.apart)} (root mean square)."
    )


def leaps_sentence(leaps: Leaps) -> str:
    """How exact a flow map is, in numbers."""
    return (
        f"The composition error of the flow map is {number(leaps.composition)}: E|X(u, t, X(s, u, x)) − "
        f"X(s, t, x)|² over the variance at t, for s < u < t uniform; 0 is exact. One step and {MANY} steps "
        f"along its velocity, from the same noise, differ by {number(leaps.gap)} of the variance of the "
        f"samples. Measured on {leaps.rows:,} rows."
    )


def few_table(curve: Curve) -> Table:
    """The quality of all solvers at few evaluations: one row for each, one column for each number."""
    found = {(point.solver, round(point.nfe)): point for point in [*curve.points[:-1], *curve.few]}
    fitted = {nfe for solver, nfe in found if solver == TUNED}
    leapt = {nfe for solver, nfe in found if solver == LEAPS and nfe < min(FEW)}
    columns = [*sorted({*FEW, *fitted, *leapt})]
    solvers = [s for s in dict.fromkeys(s for s, _ in found) if any((s, nfe) in found for nfe in columns)]
    rows, marks = [], {}
    for i, solver in enumerate(solvers):
        points = [found.get((solver, nfe)) for nfe in columns]
        rows.append([solver, *("–" if point is None else number(point.energy, 3) for point in points)])
        for j, point in enumerate(points):
            near = point is not None and point.energy <= curve.floor + curve.floor_spread
            marks[(i, j + 1)] = "win" if near else ""
    head = ["energy distance after", *(f"{nfe} evaluations" for nfe in columns)]
    caption = (
        f"Solvers at few evaluations; marked where as near as real rows, which have {number(curve.floor)}"
    )
    return Table(head, rows, caption, marks=marks)


def memory_table(loaded: LoadedRun, evidence: Evidence, memory: Memorisation) -> Table:
    """How near samples, draws of baselines and held-out rows come to training rows."""
    heads = {key: evidence.names.get(key, key) for key in columns(evidence)}
    heads |= {"model": "samples", "real": "held out"}
    names = [name for name in heads if name in memory.distances]
    medians = [number(float(memory.distances[name].median())) for name in names]
    shares = [f"{100 * memory.share(name).value:.1f} %" for name in names]
    rows = [["Median distance", *medians], ["Near-copies", *shares]]
    small = [
        f"{loaded.distance_unit}, to the nearest of {len(memory.train):,} training rows",
        f"nearer than {number(memory.threshold)} {loaded.distance_unit}, as 1 % of training rows are",
    ]
    return Table(["to training rows", *(heads[name] for name in names)], rows, "", small)


def motion_tables(dynamics: Dynamics) -> list[Table]:
    """How straight and how far rows move, how exactly they come back, and how much is rounded at the end."""
    return [
        *_of_sections("Transport and round trip", motion=dynamics.motion, round_trip=dynamics.round_trip),
        *_of_sections("Rounding to tokens", rounding=dynamics.rounded),
    ]


def _of_sections(caption: str, **sections: Motion | RoundTrip | Rounded | None) -> list[Table]:
    """A table of sections of ``report.json``, none without any."""
    rows, small = [], []
    for section, found in sections.items():
        if found is None:
            continue
        numbers = found.to_json()
        for measure in SECTIONS[section]:
            rows.append([measure.label, measure.text(numbers[measure.key])])
            small.append(", ".join(filter(None, (measure.explanation, measure.unit))))
    return [Table(["quantity", "value"], rows, caption, small)] if rows else []
