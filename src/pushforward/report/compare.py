"""Two runs side by side, from what their reports say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import flatten
from ..contents import Numbers
from ..files import write_text
from ..recipes import label_of
from ..runs import check_numbers, read_numbers
from ..typed import shortened
from .figures.style import NARROW_FOLDER
from .formatting import number
from .measures import SECTIONS
from .page import Section, Table, figure, page

#: Figures that are set side by side where both runs have them.
SHOWN = ("samples", "density", "times", "pairs", "marginals", "quality", "straightness", "nearest", "loss")
#: How a PNG begins, and how many bytes a figure has at most.
PNG, LARGEST_FIGURE = b"\x89PNG\r\n\x1a\n", 32 * 2**20
#: A quantity: its name, unit, "high", "low" or nothing for which way is better.
Quantity = tuple[str, str, str]


def load(report: Path | str | Mapping[str, Any]) -> Numbers:
    """The numbers of a report: a mapping, a ``report.json`` or the run folder that holds it.

    Raises ValueError where there is none or it is damaged.
    """
    if isinstance(report, Mapping):
        return check_numbers(dict(report), "report")
    path = Path(report)
    return read_numbers(path / "report.json" if path.is_dir() else path)


def quantities(report: Numbers) -> dict[Quantity, float | None]:
    """The numbers of a report that can be compared, by name."""
    found: dict[Quantity, float | None] = {}
    best = report.get("best_baseline")
    for line in report["verdict"]:
        others: Mapping[str, Any] = line
        found[(line["label"], line["unit"], line["better"])] = line["model"]["value"]
        for key, name in ((best, "the best baseline"), ("real", "real rows")):
            if isinstance(others.get(key or ""), dict):
                found[(f"{line['label']}, {name}", line["unit"], "")] = others[key or ""]["value"]
    for section, measures in SECTIONS.items():
        numbers = _section(report, section)
        for measure in measures:
            if measure.key in numbers:
                found[(measure.label, measure.unit, measure.better)] = numbers[measure.key]
        if section == "round_trip":
            found |= _by_evaluations(report)
    return found


def _section(report: Numbers, section: str) -> Mapping[str, Any]:
    """The numbers of a section by their keys; of densities those of the table of measures."""
    if section != "density":
        numbers: Mapping[str, Any] = report
        return numbers.get(section) or {}
    densities: Mapping[str, Mapping[str, Any]] = {each["key"]: each for each in report.get("density") or []}
    best, model = densities.get(report.get("best_baseline") or "", {}), densities.get("model", {})
    found = {"gain": best.get("gain"), "gap": model.get("gap")}
    return {key: value for key, value in found.items() if value is not None}


def _by_evaluations(report: Numbers) -> dict[Quantity, float | None]:
    """The quality of Euler's method for every number of evaluations."""
    evaluations = report.get("evaluations") or {}
    points = [point for point in evaluations.get("points", []) if point["solver"] == "Euler"]
    unit = evaluations.get("unit", "")
    return {
        (f"Energy distance of Euler, {point['nfe']:.0f} evaluations", unit, "low"): point["energy"]
        for point in points
    }


def _rows(a: Numbers, b: Numbers) -> list[tuple[str, str, str, str, int]]:
    """Name, unit, both numbers as text, and which one is better: 0 the first, 1 the second, -1 neither."""
    first, second = quantities(a), quantities(b)
    rows = []
    for key in [*first, *(key for key in second if key not in first)]:
        x, y = first.get(key), second.get(key)
        better = -1
        if x is not None and y is not None and x != y and key[2] in ("high", "low"):
            better = int((y < x) == (key[2] == "low"))
        rows.append((key[0], key[1], number(x, 4), number(y, 4), better))
    return rows


def _differences(a: Numbers, b: Numbers) -> list[list[str]]:
    """Entries of the configurations that are not the same."""
    one, two = flatten(a.get("config") or {}), flatten(b.get("config") or {})
    keys = [key for key in sorted({*one, *two}) if one.get(key) != two.get(key)]
    return [[key, str(one.get(key, "–")), str(two.get(key, "–"))] for key in keys]


def _titles(a: Numbers, b: Numbers) -> tuple[str, str]:
    names = []
    for report in (a, b):
        names.append(f"{report.get('name', 'run')}, {_label(report.get('config') or {})}")
    return (names[0], names[1]) if names[0] != names[1] else (f"{names[0]} (1)", f"{names[1]} (2)")


def _label(config: Mapping[str, Any]) -> str:
    """What a configuration trained; the name of its method where this version cannot read it."""
    try:
        return label_of(config)
    except ValueError:
        model = config.get("model")
        return shortened(model.get("method", "flow") if isinstance(model, dict) else "flow")


def compare_text(a: Path | str | Mapping[str, Any], b: Path | str | Mapping[str, Any]) -> str:
    """Two reports as a table for the terminal; ``*`` marks the better number, a dash what one lacks.

    Takes the numbers themselves, a ``report.json`` or a run folder.  Raises ValueError as :func:`load`.

    >>> line = {"label": "W2", "unit": "cm", "better": "low"}
    >>> a = {"name": "a", "verdict": [{**line, "model": {"value": 1.0}}]}
    >>> b = {"name": "b", "verdict": [{**line, "model": {"value": 2.0}}], "sampler": {"nfe": 8.0}}
    >>> print(compare_text(a, b))
                                  a, flow  b, flow
    W2, cm                          1.000*   2.000
    Field evaluations per sample         –   8.000
    """
    one, two = load(a), load(b)
    titles = _titles(one, two)
    body = [
        (
            f"{name}, {unit}" if unit else name,
            x + ("*" if better == 0 else " "),
            y + ("*" if better == 1 else " "),
        )
        for name, unit, x, y, better in _rows(one, two)
    ]
    wide = max([len(name) for name, _, _ in body] + [0])
    widths = [max([len(row[i]) for row in body] + [len(titles[i - 1]) + 1]) for i in (1, 2)]
    lines = [f"{'':<{wide}}  {titles[0] + ' ':>{widths[0]}} {titles[1] + ' ':>{widths[1]}}"]
    lines += [f"{name:<{wide}}  {x:>{widths[0]}} {y:>{widths[1]}}" for name, x, y in body]
    return "\n".join(line.rstrip() for line in lines)


def compare(run_a: Path | str, run_b: Path | str, out: Path | str) -> Path:
    """Write a page with two reports side by side, their figures too, and return its path.

    ``run_a`` and ``run_b`` are run folders (or their ``report.json``).  Raises ValueError where a report is
    missing or damaged.
    """
    one, two = load(run_a), load(run_b)
    titles = _titles(one, two)
    rows = _rows(one, two)
    marks = {(i, 1 + better): "model win" for i, (*_, better) in enumerate(rows) if better >= 0}
    sections = [
        Section(
            "Numbers",
            tables=[
                Table(
                    ["quantity", *titles], [[r[0], r[2], r[3]] for r in rows], "", [r[1] for r in rows], marks
                )
            ],
            notes=["Bold green is the better of the two; a difference may be within the spread."],
        ).html()
    ]
    differences = _differences(one, two)
    if differences:
        sections.append(
            Section("Settings that differ", tables=[Table(["setting", *titles], differences)]).html()
        )
    photos = [report.get("kind") == "image" for report in (one, two)]
    sections.append(_figures(run_a, run_b, titles, photos))
    said = [f"{title}: {report.get('sentence', '')}" for title, report in zip(titles, (one, two))]
    texts = Section("What the reports say", said).html()
    out = Path(out)
    write_text(
        out, page(f"{titles[0]} and {titles[1]}", "comparison of two runs", [], "", [texts, *sections])
    )
    return out


def _figures(run_a: Path | str, run_b: Path | str, titles: tuple[str, str], photos: Sequence[bool]) -> str:
    """The figures that both runs have, in pairs; of wide ones what a telephone shows too.

    photos: whether samples of either run are images.
    """
    folders = [(p if p.is_dir() else p.parent) / "figures" for p in (Path(run_a), Path(run_b))]
    shown = []
    for name in SHOWN:
        files = [folder / f"{name}.png" for folder in folders]
        if not all(file.is_file() for file in files):
            continue
        for title, file, images in zip(titles, files, photos):
            narrow = file.parent / NARROW_FOLDER / file.name
            contents = [png for each in (file, narrow) if (png := _png(each))]
            if not contents:
                continue
            caption = f"{title}: {name.replace('_', ' ')}"
            kinds = ["full"] * (len(contents) > 1) + ["photos"] * (images and name == "samples")
            shown.append(figure(contents, caption, caption, kinds))
    return f'<section><h2>Figures</h2><div class="figures">{"".join(shown)}</div></section>' if shown else ""


def _png(file: Path) -> bytes:
    """A PNG of a report's size, empty for any other file."""
    if not file.is_file() or file.stat().st_size > LARGEST_FIGURE:
        return b""
    content = file.read_bytes()
    return content if content.startswith(PNG) else b""
