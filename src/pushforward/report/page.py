"""The page: one HTML file with everything in it, readable on a laptop and on a phone, printable."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .figures.style import Picture, embedded

#: Characters that are not seen, and some of which change the order of what is.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: Characters from which on the text of a cell is broken into lines.
LONG = 28
#: Windows below this width show figures for a telephone, and rows of tables as blocks.
PHONE = "screen and (max-width: 760px)"

CSS = """
:root { --ink: #1f2933; --soft: #52606d; --line: #d9dfe6; --paper: #ffffff; --wash: #f5f7fa;
        --model: #b9590a; --data: #2b4c7e; --good: #23724f; --bad: #a3253b; --hair: #edf0f4;
        color-scheme: light dark; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ed; --soft: #a5b1bd; --line: #38434e; --paper: #1b2128; --wash: #12161b;
          --model: #f0994a; --data: #8fb4e8; --good: #5cc796; --bad: #f28b9c; --hair: #2a323b; }
  /* white paper becomes dark and hues stay; images of the data are shown as they are */
  figure:not(.photos) img { filter: invert(0.88) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--wash); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 32px 24px 64px; }
header { border-bottom: 1px solid var(--line); padding-bottom: 20px; }
h1, h2, p, li, figcaption, .long { overflow-wrap: anywhere; }
th { overflow-wrap: break-word; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 44px 0 8px; }
p { margin: 8px 0; max-width: 75ch; }
.kicker { color: var(--soft); margin: 0; }
.facts { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 16px 0 0; padding: 0; list-style: none; }
.facts li { font-variant-numeric: tabular-nums; }
.facts span { display: block; font-size: 0.8rem; color: var(--soft); }
.verdict { background: var(--paper); border: 1px solid var(--line); border-left: 5px solid var(--model);
           border-radius: 6px; padding: 16px 20px; margin: 20px 0; font-size: 1.08rem; }
.verdict.good { border-left-color: var(--good); }
.verdict.warning { border-left-color: var(--bad); }
.verdict p { margin: 0; max-width: none; }
.verdict ul { margin: 8px 0; padding-left: 20px; font-size: 0.95rem; }
.verdict ul + p, .verdict p + p { margin-top: 8px; }
.verdict pre { margin: 6px 0 0; padding: 8px 12px; }
.note { color: var(--soft); font-size: 0.88rem; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; background: var(--paper);
          border: 1px solid var(--line); border-radius: 6px; margin: 12px 0; }
.scroll:focus-visible { outline: 2px solid var(--data); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: 0.94rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 12px 16px 4px; font-weight: 600; }
th, td { padding: 9px 16px; text-align: right; white-space: nowrap; }
td.long { white-space: normal; min-width: 20ch; text-align: left; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 15ch; }
thead th { color: var(--soft); font-weight: 600; font-size: 0.85rem; border-bottom: 1px solid var(--line);
           vertical-align: bottom; white-space: normal; }
tbody tr + tr th, tbody tr + tr td { border-top: 1px solid var(--hair); }
tbody th { font-weight: 500; }
tbody th small { display: block; color: var(--soft); font-weight: 400; font-size: 0.8rem; }
td.model { font-weight: 700; }
td.win { color: var(--good); }
td.loss { color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px;
           margin: 14px 0; align-items: start; }
figure { margin: 0; background: var(--paper); border: 1px solid var(--line); border-radius: 6px;
         padding: 12px; }
figure.full { grid-column: 1 / -1; }
.figures .scroll { margin: 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: 0.88rem; margin-top: 8px; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: 6px; padding: 14px 16px;
      white-space: pre-wrap; overflow-wrap: anywhere;
      font: 0.85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
details { margin: 12px 0; }
summary { cursor: pointer; font-weight: 600; }
@media PHONE {
  main { padding: 20px 14px 48px; }
  h1 { font-size: 1.6rem; }
  .figures { grid-template-columns: minmax(0, 1fr); gap: 14px; }
  figure { padding: 8px; }
  .verdict { padding: 12px 14px; font-size: 1rem; }
  /* A row becomes a block, and every cell a line of it that begins with the head of its column. */
  thead { display: none; }
  .rows, .rows :is(caption, tbody, tr, th, td) { display: block; }
  .rows tbody tr { padding: 10px 14px; }
  .rows tr + tr { border-top: 1px solid var(--line); }
  .rows :is(th, td) { padding: 2px 0; border: 0 !important; }
  .rows th { font-weight: 600; margin-bottom: 4px; }
  .rows td { display: flex; justify-content: space-between; gap: 16px; }
  .rows td.long { text-align: right; }
  .rows td::before { content: attr(data-head); color: var(--soft); font-weight: 400; text-align: left;
                     white-space: normal; overflow-wrap: anywhere; }
}
@media print { body { background: white; } figure, .scroll { break-inside: avoid; } }
""".replace("PHONE", PHONE)


def readable(text: str) -> str:
    """Text without characters that are not seen."""
    return UNSEEN.sub("\ufffd", text)


def escape(text: str) -> str:
    """Text of anybody's as text of a page: no markup, in elements and in attributes, and nothing unseen.

    >>> escape("<b>\\x1b'")
    '&lt;b&gt;\ufffd&#x27;'
    """
    return html.escape(readable(text))


@dataclass
class Table:
    """Rows of texts under a head; the first cell of a row may carry a small second line.

    On a telephone a row of more than two cells is a block with a line for each of them.

    marks: a class of the style sheet for single cells, by (row, column).
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    small: Sequence[str] = ()
    marks: dict[tuple[int, int], str] = field(default_factory=dict)

    def html(self) -> str:
        """The table, in a box that scrolls sideways by itself."""
        head = "".join(f'<th scope="col">{escape(text)}</th>' for text in self.head)
        body = []
        for i, row in enumerate(self.rows):
            small = f"<small>{escape(self.small[i])}</small>" if i < len(self.small) and self.small[i] else ""
            cells = [f'<th scope="row">{escape(row[0])}{small}</th>']
            for j, text in enumerate(row[1:], 1):
                mark = self.marks.get((i, j), "")
                mark = f"{mark} long".strip() if len(text) > LONG else mark
                kind = f' class="{mark}"' if mark else ""
                head_of = escape(self.head[j])
                cells.append(f'<td{kind} data-head="{head_of}"><span>{escape(text)}</span></td>')
            body.append(f"<tr>{''.join(cells)}</tr>")
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        kind = ' class="rows"' if len(self.head) > 2 else ""
        label = escape(self.caption or self.head[0] or "table")
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table{kind}>{caption}'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        )


@dataclass
class Section:
    """A heading with paragraphs, figures and tables under it, in this order; empty ones are left out.

    beside: whether the tables stand in the grid of the figures.
    """

    title: str
    texts: Sequence[str] = ()
    pictures: Sequence[tuple[Picture, list[bytes]]] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    beside: bool = False

    def html(self) -> str:
        """The section."""
        if not (self.texts or self.pictures or self.tables or self.notes):
            return ""
        parts = [f"<section><h2>{escape(self.title)}</h2>"]
        parts += [f"<p>{escape(text)}</p>" for text in self.texts]
        if self.pictures:
            shown = "".join(
                figure(contents, p.caption, p.alt, [p.width, *["photos"] * p.photos])
                for p, contents in self.pictures
            )
            shown += "".join(table.html() for table in self.tables if self.beside)
            parts.append(f'<div class="figures">{shown}</div>')
        if not (self.beside and self.pictures):
            parts += [table.html() for table in self.tables]
        parts += [f'<p class="note">{escape(text)}</p>' for text in self.notes]
        return "\n".join([*parts, "</section>"])


def figure(contents: Sequence[bytes], caption: str, alt: str, kinds: Sequence[str] = ()) -> str:
    """A figure with its caption, the image inside the page; of two PNG the second is for a telephone."""
    wide, *narrow = (embedded(content) for content in contents)
    image = f'<img src="{wide}" alt="{escape(alt)}">'
    if narrow:
        image = f'<picture><source media="{PHONE}" srcset="{narrow[0]}">{image}</picture>'
    return f'<figure class="{" ".join(kinds)}">{image}<figcaption>{escape(caption)}</figcaption></figure>'


def page(
    title: str,
    kicker: str,
    facts: Sequence[tuple[str, str]],
    verdict: str,
    sections: Sequence[str],
    *,
    style: str = "",
    script: str = "",
) -> str:
    """The whole document, which loads nothing.

    script: the only program that a browser runs in it.  style: that of what the program moves.
    """
    chips = "".join(f"<li><span>{escape(name)}</span>{escape(value)}</li>" for name, value in facts)
    body = "\n".join(section for section in sections if section)
    program = f"<script>{script}</script>" if script else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(script)}">'
        f"<title>{escape(title)}</title><style>{CSS}{style}</style></head>\n<body><main>"
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(title)}</h1>'
        f'<ul class="facts">{chips}</ul></header>\n{verdict}\n{body}\n</main>{program}</body></html>\n'
    )


def policy(script: str) -> str:
    """What a browser may do in a page: run ``script``, known by its hash, and no other; fetch nothing.

    >>> policy("")
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    """
    allowed = ["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", "base-uri 'none'"]
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        allowed.append(f"script-src 'sha256-{digest}'")
    return "; ".join([*allowed, "form-action 'none'"])


def said(sentence: str, more: Sequence[str], command: str, good: bool) -> str:
    """The box of the headline: what is said, further reasons, and a command that may improve the model."""
    items = "".join(f"<li>{escape(text)}.</li>" for text in more)
    parts = [f"<p>{escape(sentence)}</p>", f"<ul>{items}</ul>" if items else ""]
    parts.append(f"<p>To improve it:</p><pre>{escape(command)}</pre>" if command else "")
    return f'<div class="verdict {"good" if good else "warning"}">{"".join(parts)}</div>'


def preformatted(title: str, text: str, shut: bool = False) -> str:
    """Text as it is, under a heading or folded away."""
    inner = f"<pre>{escape(text)}</pre>"
    if shut:
        return f"<details><summary>{escape(title)}</summary>{inner}</details>"
    return f"<section><h2>{escape(title)}</h2>{inner}</section>"


def as_json(data: Any) -> str:
    """Plain data, indented, for reading."""
    return json.dumps(data, indent=2, ensure_ascii=False)
