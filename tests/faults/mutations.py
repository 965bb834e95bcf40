"""Damage to files, aware of what they hold: wrong values by type for every entry, and what bytes suffer."""

from __future__ import annotations

import copy
import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from pushforward.files import ENTRY, SUM, summed, write_tensors

#: Values that stand where others belong, by the type that they are of.
WRONG: dict[str, list[Any]] = {
    "null": [None],
    "bool": [True],
    "int": [-1, 0, 10**12, 10**400],
    "float": [-0.5, float("nan"), float("inf")],
    "text": ["", "fast", "../../etc", "x" * 5000, "a\nb"],
    "list": [[], [None], [-1], ["a", "b", "c"], [[[1]]]],
    "object": [{}, {"a": 1}],
}
#: What stands for a value of another type as well.
NUMBER = {"float": "int"}
#: What a byte level damage makes of a file, by name.
CUTS = range(0, 100, 10)


@dataclass(frozen=True)
class Damage:
    """Damage to one file of a folder: what was done, and how.

    fits: whether the file is still one that could have been meant: values of other content but of the same
    type, and a checksum that fits.
    """

    file: str
    what: str
    apply: Callable[[Path], object]
    fits: bool = False

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def damages(folder: Path) -> list[Damage]:
    """All that is known to go wrong with the files of ``folder``, in an order that is always the same."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in KINDS)
    found: list[Damage] = []
    for path in files:
        name = str(path.relative_to(folder))
        found += [*KINDS[path.suffix](path, name), *of_bytes(path, name)]
        found += [Damage(name, "is missing", lambda to, name=name: (to / name).unlink())]
    for one, other in itertools.pairwise(files):
        names = [str(each.relative_to(folder)) for each in (one, other)]
        found.append(Damage(names[0], f"changed places with {names[1]}", lambda to, n=names: _swap(to, *n)))
    for one, other in (("model", "source"), ("ema", "source"), ("model", "state"), ("choice", "conditions")):
        names = [f"{each}.safetensors" for each in (one, other)]
        if all((folder / each).exists() for each in names):
            found.append(
                Damage(names[0], f"changed places with {names[1]}", lambda to, n=names: _swap(to, *n))
            )
    return found


def spread(found: list[Damage], count: int, seed: int = 0) -> list[Damage]:
    """``count`` of them, as many of every file as there can be."""
    draw = random.Random(seed)
    by_file: dict[str, list[Damage]] = {}
    for damage in found:
        by_file.setdefault(damage.file, []).append(damage)
    for each in by_file.values():
        draw.shuffle(each)
    chosen: list[Damage] = []
    while len(chosen) < count and any(by_file.values()):
        for each in by_file.values():
            chosen += [each.pop()] if each and len(chosen) < count else []
    return chosen


def _swap(folder: Path, one: str, other: str) -> None:
    a, b, c = folder / one, folder / other, folder / "between"
    a.rename(c)
    b.rename(a)
    c.rename(b)


# -- bytes -------------------------------------------------------------------------------------------------


def of_bytes(path: Path, name: str) -> Iterator[Damage]:
    """A file cut off, flipped, of another kind, or of another encoding."""
    size = path.stat().st_size

    def change(what: str, edit: Callable[[bytes], bytes]) -> Damage:
        return Damage(name, what, lambda to: _rewrite(to / name, edit))

    for cut in CUTS:
        yield change(f"cut off at {cut} %", lambda data, cut=cut: data[: len(data) * cut // 100])
    for place in sorted({0, 8, 9, size // 3, size // 2, 2 * size // 3, size - 2} & {*range(size)}):
        yield change(
            f"byte {place} of {size} flipped",
            lambda data, at=place: data[:at] + bytes([data[at] ^ 0x11]) + data[at + 1 :],
        )
    yield change("zeros at its end", lambda data: data[:-9] + bytes(9))
    yield change("all zeros", lambda data: bytes(len(data)))
    yield change("with a byte more", lambda data: data + b"}")
    yield Damage(name, "a folder", lambda to: _replace(to / name, os.mkdir))
    yield Damage(name, "a pipe", lambda to: _replace(to / name, os.mkfifo))
    yield Damage(
        name, "a link that leads nowhere", lambda to: _replace(to / name, lambda p: p.symlink_to("no"))
    )
    if path.suffix != ".safetensors":
        yield change("with a byte order mark", lambda data: b"\xef\xbb\xbf" + data)
        yield change("in UTF-16", lambda data: data.decode().encode("utf-16"))
        yield change("in Latin-1", lambda data: data[:-1] + "é".encode("latin-1"))
        yield change("300 MB of spaces", lambda data: b" " * 300_000_000)
        yield change("nested deeply", lambda data: b"[" * 100_000)
        yield change("nested 500 deep", lambda data: b'{"a":' * 500 + b"1" + b"}" * 500)


def _rewrite(path: Path, edit: Callable[[bytes], bytes]) -> None:
    path.write_bytes(edit(path.read_bytes()))


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


# -- JSON --------------------------------------------------------------------------------------------------


def of_json(path: Path, name: str) -> Iterator[Damage]:
    """Every entry of a JSON file with values of other types, and entries that are not as they should be."""
    data = json.loads(path.read_text())
    has_sum = data.pop(SUM, None) is not None
    for what, damaged, fits in wrong(data):
        if has_sum and isinstance(damaged, dict):
            damaged = summed(json.loads(_dumped(damaged)))
        text = _dumped(damaged, indent=2)
        yield Damage(name, what, lambda to, text=text: (to / name).write_text(text), fits)
    first = next(iter(data)) if isinstance(data, dict) and data else ""
    yield Damage(
        name,
        f"{first} is given twice",
        lambda to: _rewrite(to / name, lambda text: f'{{"{first}": null,'.encode() + text.strip()[1:]),
    )


def wrong(data: Any) -> Iterator[tuple[str, Any, bool]]:
    """What was done to each entry of ``data``, what they became, and whether that is of the same type."""
    for value in (value for values in WRONG.values() for value in values):
        yield f"the whole is {_told(value)}", value, _kind(value) == _kind(data)
    for path in [*_paths(data)]:
        where, own = ".".join(map(str, path)), _at(data, path)
        for value in _wrong_for(own):
            fits = value is None or own is None or _kind(value) in (_kind(own), NUMBER.get(_kind(own)))
            yield f"{where} is {_told(value)}", _with(data, path, value), fits
        yield f"{where} is gone", _without(data, path), True
        if isinstance(own, dict):
            yield f"{where} has one entry more", _with(data, path, {**own, "zzz": 1}), True
        if isinstance(own, list) and own:
            yield f"{where} is shorter", _with(data, path, own[:-1]), True
            yield f"{where} is longer", _with(data, path, [*own, own[-1]]), True


def _kind(value: Any) -> str:
    kinds = {bool: "bool", int: "int", float: "float", str: "text", list: "list", dict: "object"}
    return kinds.get(type(value), "null")


def _wrong_for(value: Any) -> list[Any]:
    """Values of all types; of its own those that stand out, and none that is equal."""
    kind, found = _kind(value), []
    for other, values in WRONG.items():
        if kind == "float" and other == "int":
            values = values[2:]  # whole numbers are numbers
        found += [each for each in values if _dumped(each) != _dumped(value)]
    return found


def _paths(data: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for i, (key, value) in enumerate(entries):
        if isinstance(data, list) and i > 1:
            break
        yield (*prefix, key)
        yield from _paths(value, (*prefix, key))


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def _with(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    new = copy.deepcopy(data)
    _at(new, path[:-1])[path[-1]] = value
    return new


def _without(data: Any, path: tuple[Any, ...]) -> Any:
    new = copy.deepcopy(data)
    del _at(new, path[:-1])[path[-1]]
    return new


def _dumped(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent).replace("Infinity", "1e999")


def _told(value: Any) -> str:
    text = _dumped(value)
    return text if len(text) < 30 else f"{text[:20]}... of {len(text)}"


def of_lines(path: Path, name: str) -> Iterator[Damage]:
    """Rows of ``metrics.jsonl`` that are none."""
    lines = path.read_text().splitlines()
    row = json.loads(lines[0])
    for number in sorted({0, len(lines) // 2, len(lines) - 1}):

        def change(what: str, line: str, fits: bool = False, at: int = number) -> Damage:
            text = "\n".join([*lines[:at], line, *lines[at + 1 :]]) + "\n"
            return Damage(name, f"line {at + 1}: {what}", lambda to: (to / name).write_text(text), fits)

        for what, damaged, fits in wrong(row):
            yield change(what, _dumped(damaged), fits)
        yield change("cut off", lines[number][:-5])
        yield change("empty", "")
    torn = "\n".join(lines) + '\n{"step": 99, "lo'
    yield Damage(name, "a last line that is torn", lambda to: (to / name).write_text(torn))


# -- tensors -----------------------------------------------------------------------------------------------


def of_tensors(path: Path, name: str) -> Iterator[Damage]:
    """Tensors that are missing, of another name, shape, dtype or content, with a checksum that fits."""
    tensors, facts = _read(path)

    def change(what: str, new: dict[str, torch.Tensor], told: dict[str, Any] | None = None) -> Damage:
        facts_now = facts if told is None else told
        return Damage(name, what, lambda to: write_tensors(to / name, new, facts_now), True)

    names = [*tensors]
    for key in [*names[:4], *names[-4:]] if len(names) > 8 else names:
        value = tensors[key]
        rest = {other: each for other, each in tensors.items() if other != key}
        yield change(f"{key} is gone", rest)
        yield change(f"{key} has another name", {**rest, f"{key}x": value})
        yield change(
            f"{key} has a row more", {**rest, key: torch.cat([value.reshape(-1), torch.ones(1).to(value)])}
        )
        yield change(f"{key} has no rows", {**rest, key: value.reshape(-1)[:0]})
        yield change(f"{key} has a dimension more", {**rest, key: value[None]})
        yield change(f"{key} is flat", {**rest, key: value.reshape(-1)})
        for dtype in (torch.float64, torch.float16, torch.int64, torch.bool):
            if dtype != value.dtype:
                yield change(f"{key} is {dtype}", {**rest, key: value.to(dtype)})
        if value.is_floating_point():
            for bad in (float("nan"), float("inf")):
                yield change(f"{key} is {bad}", {**rest, key: torch.full_like(value, bad)})
        else:
            yield change(f"{key} is -5", {**rest, key: torch.full_like(value, -5)})
            yield change(f"{key} is 99", {**rest, key: torch.full_like(value, 99)})
    yield change("one tensor more", {**tensors, "zzz": torch.zeros(3)})
    yield change("no tensors", {})
    for what, told, _ in wrong(facts) if facts else ():
        if isinstance(told, dict):
            yield change(f"header: {what}", tensors, told)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        facts = json.loads((file.metadata() or {}).get(ENTRY, "{}"))
        facts.pop(SUM, None)
        return {name: file.get_tensor(name) for name in file.keys()}, facts


#: How files are damaged, by their suffix.
KINDS: dict[str, Callable[[Path, str], Iterator[Damage]]] = {
    ".json": of_json,
    ".jsonl": of_lines,
    ".safetensors": of_tensors,
}


def damaged(folder: Path, damage: Damage, copy_to: Path) -> Path:
    """A copy of ``folder`` with ``damage``."""
    shutil.copytree(folder, copy_to)
    damage.apply(copy_to)
    return copy_to
