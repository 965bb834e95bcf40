"""The player as a part of the page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ..figures.style import LABELS
from ..loaded_run import LoadedRun
from ..page import PHONE, escape
from .film import Film, shoot
from .packing import BEHIND, packed_images, packed_points

#: Speeds that can be chosen; at the speed 1 the flow takes 4 seconds.
SPEEDS = (0.25, 0.5, 1, 2)
#: The files of the program, in the order in which they run.
PROGRAM = ("points.js", "images.js", "player.js")


@dataclass(frozen=True)
class Player:
    """A section of the page, with its style sheet and its program.

    numbers: what ``report.json`` says of it.
    """

    html: str
    style: str
    script: str
    numbers: dict[str, Any]


def make_player(loaded: LoadedRun) -> Player | None:
    """The player of a run; None for flows without trajectories and without layers."""
    film = shoot(loaded)
    if film is None:
        return None
    image = loaded.look == "image"
    data = (packed_images if image else packed_points)(loaded, film)
    kind = "player images" if image else "player"
    data["layers"] = len(film.times) - 1 if film.layers else 0
    text = _caption(loaded, film, data)
    body = [
        f'<section id="player"><h2>From source to data</h2><p class="note">{escape(text)}</p>',
        "<noscript><p>The player needs JavaScript; everything else on this page does not.</p></noscript>",
        f'<div class="{kind}" role="group" tabindex="0" aria-label="Player of the flow" hidden>',
        f'<div class="stage"><canvas role="img" aria-label="{escape(_seen(data))}"></canvas>{_TIME}</div>',
        f'<div class="choices">{_choices(data)}{_key(loaded, data)}</div>',
        f'<script type="application/json">{_json(data)}</script></div></section>',
    ]
    source = files("pushforward.report.player")
    style = source.joinpath("player.css").read_text("utf-8").replace("PHONE", PHONE)
    parts = "\n".join(source.joinpath(name).read_text("utf-8") for name in PROGRAM)
    script = f'(() => {{\n"use strict";\n{parts}\n}})();'
    numbers = {"kind": data["kind"], "count": data["count"], "times": film.times, "layers": film.layers}
    return Player("\n".join(body), style, script, numbers)


_TIME = (
    '<div class="time"><button type="button">Play</button><label><span>time</span>'
    '<input type="range" min="0" max="1" step="any" value="1"></label><output>t = 1.00</output></div>'
)


def _json(data: dict[str, Any]) -> str:
    """Plain data within a page: no text in it can end the element or begin another."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _choices(data: dict[str, Any]) -> str:
    """What can be chosen beside time."""
    rates = [(str(speed), f"{speed:g} ×") for speed in SPEEDS]
    parts = [_select("speed", rates, "1"), _tick("repeat", "repeat", False)]
    if data["kind"] == "images":
        return "".join(parts)
    names = [(str(i), name) for i, name in enumerate(data["names"])]
    if len(names) > 2:
        parts = [_select("across", names, "0", "wide"), _select("up", names, "1", "wide"), *parts]
    colours = [("one", "one"), ("start", "by start"), *([("label", "by label")] if "labels" in data else [])]
    parts.append(_select("colour", colours, colours[-1][0] if "labels" in data else "one"))
    parts += [_tick("trails", "trails", True), _tick("density", "density of the particles", True)]
    return "".join([*parts, _tick("data", "rows of the data", True)])


def _select(name: str, options: list[tuple[str, str]], chosen: str, kind: str = "") -> str:
    found = "".join(
        f'<option value="{value}"{" selected" * (value == chosen)}>{escape(text)}</option>'
        for value, text in options
    )
    return f'<label class="{kind}"><span>{name}</span><select name="{name}">{found}</select></label>'


def _tick(name: str, label: str, on: bool) -> str:
    mark = " checked" if on else ""
    return f'<label class="tick"><input type="checkbox" name="{name}"{mark}><span>{label}</span></label>'


def _key(loaded: LoadedRun, data: dict[str, Any]) -> str:
    """The colours of the labels, where there are few enough to tell apart."""
    if "labels" not in data or len(loaded.classes) > len(LABELS):
        return ""
    items = (
        f'<li style="--swatch: var(--c{i})">{escape(str(name))}</li>' for i, name in enumerate(loaded.classes)
    )
    return f'<ul aria-label="Colours of the labels">{"".join(items)}</ul>'


def _seen(data: dict[str, Any]) -> str:
    """What the picture shows, for those who do not see it."""
    if data["kind"] == "images":
        return "A grid of images on their way from the source to the data, at the time of the slider."
    return "Particles on their way from the source to the data, at the time of the slider."


def _caption(loaded: LoadedRun, film: Film, data: dict[str, Any]) -> str:
    what = "images" if data["kind"] == "images" else "particles"
    text = f"{data['count']:,} {what}, drawn from the source at t = 0 and carried to the data at t = 1"
    if film.layers:
        text += f", after each of {len(film.times) - 1} layers; in between they are drawn on straight lines"
    text += ". Space plays, arrow keys go in steps."
    if data["kind"] == "images":
        return text + (" Images of one label stand together." if film.labels is not None else "")
    text += " Trails are those of 300 particles; the density is a smoothed histogram of all particles"
    if loaded.size == 1:
        return f"{text}. Upwards is where a particle started."
    rows = min(BEHIND, len(loaded.reference.x))
    text += f"; pale points are {rows:,} {'held-out ' * loaded.held_out}rows."
    if loaded.size > len(data["names"]):
        text += f" The first {len(data['names'])} of {loaded.size} columns can be chosen."
    return text
