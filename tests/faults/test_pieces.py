"""New rows that are read in pieces: the values and the errors of the whole, in little memory."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from memory import little_memory

from narrowing import by_name, one_tensor
from pushforward.couplings import Rows
from pushforward.data import ConditionSpec, MixedConditionSpec, Schema, load, read_rows, text_tables, toys
from pushforward.data.pieces import cells_in_pieces, read_pieces
from pushforward.data.text_tables import open_text

KIND = ConditionSpec(kind="labels", columns=("kind",), classes=("u", "v"))
AGE = ConditionSpec(kind="continuous", columns=("age",), low=(0.0,), high=(3.0,))
BOTH = ConditionSpec(kind="continuous", columns=("age", "b"), low=(0.0, -3.0), high=(3.0, 3.0))


def table(condition: ConditionSpec | MixedConditionSpec | None = None, *columns: str) -> Schema:
    columns = columns or ("a", "b")
    return Schema(name="t", kind="table", event_shape=(len(columns),), columns=columns, condition=condition)


SCHEMAS = {
    "plain": table(),
    "one column": table(None, "b"),
    "label": table(KIND),
    "number": table(AGE),
    "two numbers": table(BOTH, "a"),
    "mixed": table(MixedConditionSpec(parts=(AGE, KIND))),
    "images": Schema(name="t", kind="image", event_shape=(1, 4, 4), levels=(0.0, 16.0, 1.0)),
    "arrays": Schema(name="t", kind="array", event_shape=(2, 4, 4)),
}


def joined(pieces: list[Rows]) -> Rows:
    conditions = [piece.condition for piece in pieces]
    c = conditions[0]
    if isinstance(c, torch.Tensor):
        c = torch.cat([one_tensor(part) for part in conditions])
    elif c is not None:
        c = {name: torch.cat([by_name(part)[name] for part in conditions]) for name in c}
    return Rows(torch.cat([piece.x for piece in pieces]), c)


def outcome(call: Callable[[], Rows]) -> tuple[object, list[str]]:
    """All bits of some rows, or the error, and the warnings."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            rows = call()
            named = rows.condition if isinstance(rows.condition, dict) else {"": rows.condition}
            parts = {"x": rows.x, **{name: part for name, part in named.items() if part is not None}}
            found = {
                name: (part.dtype, part.shape, part.contiguous().numpy().tobytes())
                for name, part in parts.items()
            }
        except ValueError as error:
            found = str(error)
    return found, sorted(str(warning.message) for warning in told)


def same(path: Path, sizes: tuple[int, ...] = (1, 7, 1000)) -> set[str]:
    """Compare pieces of these sizes with the whole, for every schema; what came of it."""
    seen = set()
    for name, schema in SCHEMAS.items():
        for needed in (True, False):
            expected = outcome(lambda schema=schema, needed=needed: read_rows(path, schema, needed))
            seen.add("error" if isinstance(expected[0], str) else "rows")
            for size in sizes:
                found = outcome(
                    lambda schema=schema, needed=needed, size=size: joined(
                        [*read_pieces(path, schema, needed, rows=size)]
                    )
                )
                assert found == expected, (name, needed, size)
    return seen


#: Cells as people write them, and how often.
CELLS = {
    "1": 30, "2.5": 30, "-3": 20, "1e2": 5, "": 0.2, "NA": 0.2, "nan": 0.1, "inf": 0.1, "x": 0.1,
    "9007199254740993": 0.1, "+1.5": 0.3, " 7 ": 2, "007": 1, "1_0": 0.1, "0x1F": 0.1, '"2\n"': 0.2,
    '"quoted, comma"': 0.1, '"say ""hi"""': 0.1, "-0": 1, "1e400": 0.1, "12345678901234567890": 0.1,
}  # fmt: skip


def random_table(seed: int) -> bytes:
    """A text table with whatever can be wrong with one, now and then."""
    draw = random.Random(seed)
    end = draw.choice(["\n", "\r\n", "\r"])
    dirty = draw.random() < 0.5
    cells = (
        CELLS
        if dirty
        else {"1": 3, "2.5": 1, '"3\n"': 1, " 4": 1}
        if draw.random() < 0.5
        else {"1": 1, "22": 1}
    )
    lines = ["# a comment", ""] if draw.random() < 0.2 else []
    if draw.random() < 0.85:
        lines.append("a,b,kind,age")
    for _ in range(draw.choice([1, 20, 150])):
        row = draw.choices([*cells], [*cells.values()], k=2)
        row += draw.choices(["u", "v", "w", ""], [50, 50, 0.3 * dirty, 0.1 * dirty])
        row += draw.choices(["1", "2", "2.5", "50", "x"], [20, 20, 20, 1, 0.1 * dirty])
        lines.append(",".join(row[: 3 if draw.random() < 0.001 else 4]))
        if draw.random() < 0.02:
            lines.append("")
    text = end.join(lines) + end * (draw.random() < 0.8)
    return text.encode("utf-8-sig" if draw.random() < 0.3 else "utf-8")


def test_text_tables(tmp_path):
    path, seen = tmp_path / "t.csv", set()
    for seed in range(25):
        path.write_bytes(random_table(seed))
        seen |= same(path, (7,))
    assert seen == {"rows", "error"}


def test_parquet_files(tmp_path):
    g = np.random.default_rng(0)
    kinds = {
        "float": lambda n: g.normal(size=n),
        "single": lambda n: g.normal(size=n).astype(np.float32),
        "gap": lambda n: np.where(np.arange(n) == 5, np.nan, g.normal(size=n)),
        "byte": lambda n: g.integers(0, 100, n).astype(np.uint8),
        "nullable": lambda n: pd.array([None if i == 3 else 7 for i in range(n)], dtype="Int64"),
        "large": lambda n: np.where(np.arange(n) == 30, 2**60, 1),
        "text": lambda n: np.where(np.arange(n) == 25, "x", "1"),
        "numbers as text": lambda n: np.array(["1", "2.5", "3"] * n, dtype=object)[:n],
        "nothing": lambda n: np.array([None] * n, dtype=object),
        "truth": lambda n: g.random(n) < 0.5,
        "category": lambda n: pd.Categorical(g.integers(0, 3, n)),
    }
    seen = set()
    for name, make in kinds.items():
        n = 40
        frame = pd.DataFrame(
            {"b": make(n), "a": g.normal(size=n), "kind": ["u", "v"] * 20, "age": np.arange(n) % 4}
        )
        frame.index = pd.Index(range(n), name="row")
        frame.to_parquet(tmp_path / f"{name}.parquet", row_group_size=11)
        seen |= same(tmp_path / f"{name}.parquet", (7,))
    assert seen == {"rows", "error"}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f8", "i1", "u1", "i8", "?"])
def test_npy_files(tmp_path, dtype, order):
    g, seen = np.random.default_rng(0), set()
    shapes = [
        (30,),
        (30, 2),
        (30, 1),
        (30, 4),
        (30, 4, 4),
        (30, 1, 4, 4),
        (30, 2, 4, 4),
        (30, 4, 4, 1),
        (0, 2),
        (30, 0),
    ]
    for shape in shapes:
        for wrong in ("", "nan", "large", "level"):
            x = g.integers(0, 2, shape).astype(dtype)
            if wrong and x.size and not (wrong == "nan" and x.dtype.kind != "f"):
                bad = {"nan": np.nan, "large": 2**60, "level": 20}[wrong]
                x.flat[x.size // 2] = bad if wrong == "nan" or x.dtype.itemsize == 8 else 20
            np.save(tmp_path / "x.npy", np.asarray(x, order=order))
            seen |= same(tmp_path / "x.npy", (7,))
    assert "error" in seen
    assert "rows" in seen


def test_what_is_read_whole_comes_in_slices(tmp_path):
    g = np.random.default_rng(0)
    x = g.normal(size=(40, 2))
    np.savez(tmp_path / "x.npz", x=x, kind=np.array(["u", "v"] * 20), age=np.arange(40) % 4)
    assert same(tmp_path / "x.npz") == {"rows", "error"}
    pieces = [*read_pieces((x, ["u", "v"] * 20), SCHEMAS["label"], rows=16)]
    assert [len(piece) for piece in pieces] == [16, 16, 8]
    assert torch.equal(
        torch.cat([one_tensor(piece.condition) for piece in pieces]), torch.tensor([0, 1] * 20)
    )
    assert sum(map(len, read_pieces(pd.DataFrame(x, columns=["a", "b"]), SCHEMAS["plain"], rows=7))) == 40
    moons = load("moons", rows=100).schema
    assert torch.equal(joined([*read_pieces("moons", moons, rows=999)]).x, read_rows("moons", moons).x)


def test_a_wrong_cell_of_the_last_piece_is_known_before_the_first(tmp_path):
    path = tmp_path / "t.csv"
    lines = ["a,b,note"] + [f'{i}.5,{i},"two\nlines"' for i in range(500)]
    for last, said in (
        ("1,x,", "column 'b' holds 'x' at line 1002, expected numbers"),
        ("1,,", "1 of 1002 values are empty or not finite, the first in column 'b' at line 1002"),
        ("1,2", "line 1002 has 2 cells, expected 3 (a ragged table)"),
    ):
        path.write_text("\n".join([*lines, last]))
        with pytest.raises(ValueError, match="line 1002") as error:
            read_pieces(path, SCHEMAS["plain"], rows=10)  # nothing is drawn from it
        assert str(error.value) == f"{path}: {said}"


def test_a_column_is_what_all_of_it_is(tmp_path):
    """Texts of digits are texts in every piece where one of them is no number."""
    path = tmp_path / "t.csv"
    path.write_text("a,b,kind\n" + "1,2,01\n" * 20 + "1,2,u\n" * 20)
    schema = table(ConditionSpec(kind="labels", columns=("kind",), classes=("01", "1", "u")))
    for rows in (7, 1000):
        labels = joined([*read_pieces(path, schema, rows=rows)]).condition
        assert torch.equal(one_tensor(labels), torch.tensor([0, 2]).repeat_interleave(20))


def test_one_warning_counts_all_pieces(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,age\n" + "".join(f"1,2,{i % 10}\n" for i in range(100)))
    with pytest.warns(UserWarning) as told:
        pieces = [*read_pieces(path, SCHEMAS["number"], rows=9)]
    assert len(pieces) == 12
    assert [str(warning.message) for warning in told] == [
        "condition 'age': 60 of 100 values lie outside the training range [0, 3], the farthest is 9"
    ]


def test_long_cells_among_many_rows(tmp_path):
    """Cells longer than a block of the parser, in between and quoted, lose no row and no bit."""
    g = np.random.default_rng(0)
    x = g.normal(size=(60_000, 2))
    notes = np.full(len(x), "short", dtype=object)
    notes[[40_000, 59_999]] = "a,\n" * 700_000
    frame = pd.DataFrame({"a": x[:, 0], "note": notes, "b": x[:, 1]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    pieces = [*read_pieces(tmp_path / "t.csv", SCHEMAS["plain"], rows=5000)]
    assert torch.equal(joined(pieces).x, torch.from_numpy(x))
    assert {len(piece) for piece in pieces[:-1]} <= set(range(1, 5001))
    names, cells = cells_in_pieces(tmp_path / "t.csv")
    assert names == ("a", "note", "b")
    assert [row[1] for piece in cells for row in piece] == notes.tolist()


def test_pieces_of_long_rows_are_short(tmp_path, monkeypatch):
    monkeypatch.setattr(text_tables, "PIECE_BYTES", 2**20)
    path = tmp_path / "t.csv"
    path.write_text("a,b,note\n" + "".join(f"{i}.5,2,{'x' * 10_000}\n" for i in range(1000)))
    pieces = [*read_pieces(path, SCHEMAS["plain"])]
    assert len(pieces) > 3
    assert joined(pieces).x[:, 0].tolist() == [i + 0.5 for i in range(1000)]


def test_cells_stay_as_they_stand(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(b'\xef\xbb\xbfa\tb\r\n 1 \t"x\ty"\r\n\r\n1.50\t"say ""hi"""\r\nNA\t\xc3\xa9\r\n')
    expected = [[" 1 ", "x\ty"], ["1.50", 'say "hi"'], ["NA", "é"]]
    for rows in (1, 2, 100):
        names, pieces = cells_in_pieces(path, rows)
        pieces = [*pieces]
        assert names == ("a", "b")
        assert [row for piece in pieces for row in piece] == expected
        assert max(map(len, pieces)) <= rows
    assert [row for piece in open_text(path).cells(1024) for row in piece] == expected


def test_memory_does_not_grow_with_rows(tmp_path):
    g = np.random.default_rng(0)
    block = "".join(f"{a!r},{b!r}\n" for a, b in g.normal(size=(10_000, 2)).tolist())
    paths = {n: tmp_path / f"{n}.csv" for n in (100_000, 1_000_000)}
    for n, path in paths.items():
        path.write_text("a,b\n" + block * (n // 10_000))
    np.save(tmp_path / "x.npy", np.zeros((4_000_000, 2)))
    sum(map(len, read_pieces(paths[100_000], SCHEMAS["plain"])))
    with little_memory(60e6):  # the file has 40 MB, as texts and numbers several times as much
        assert sum(map(len, read_pieces(paths[1_000_000], SCHEMAS["plain"]))) == 1_000_000
    with little_memory(20e6):  # of 64 MB
        assert sum(map(len, read_pieces(tmp_path / "x.npy", SCHEMAS["plain"]))) == 4_000_000


def test_pieces_are_of_rows():
    moons = load("moons", rows=100).schema
    rows: Any
    for rows in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="rows"):
            read_pieces(toys.moons(50), moons, rows=rows)
