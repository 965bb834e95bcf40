"""Draws, scores and moved points come in pieces: the same first rows whatever follows, and little memory."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward
from effort import first
from narrowing import known, one_tensor
from pushforward.cli import main
from pushforward.couplings import Rows
from pushforward.data.pieces import read_pieces
from pushforward.inference import carry, carry_pieces, draw, draw_pieces, piece_sizes, score, score_pieces

#: Runs by name: what they are trained on, and how.
RUNS = {
    "spline": {"method": "nsf"},
    "autoregressive": {"method": "maf"},
    "contractive": {"method": "residual"},
    "hidden": {"method": "vae"},
    "adaptive": {"method": "fm", "network": "mlp,width=8,depth=1"},
    "stochastic": {"method": "sf2m", "network": "mlp,width=8,depth=1", "solver": "euler-maruyama,steps=4"},
    "one step": {"method": "rectified-flow", "distil": True, "network": "mlp,width=8,depth=1", "pairs": 64},
    "moved": {"method": "fm", "source": "8gaussians", "network": "mlp,width=8,depth=1"},
    "labels": {"method": "fm", "condition": ["label"], "network": "mlp,width=8,depth=1"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run by its name in :data:`RUNS`, trained when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def get(name):
        if name not in made:
            options = {"steps": 2, "rows": 200, "show_progress": False, **RUNS[name]}
            pushforward.train("moons", folder / name, **options)
            made[name] = pushforward.recipes.open_run(folder / name)
        return made[name]

    return get


def equal(a, b):
    return (a is None and b is None) or torch.equal(known(a), known(b))


# -- the first rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_the_first_rows_of_a_draw_are_those_of_a_smaller_one(runs, name):
    run = runs(name)
    options = [{}]
    if name == "adaptive":
        options.append({"solver": "euler,steps=2"})
    if name == "labels":
        options += [{"conditions": ["1", "0", "1"]}, {"guidance": 2.0}]
    for option in options:
        x, condition = draw(run, 300, seed=3, **option)
        assert len(x) == 300 and x.unique(dim=0).shape[0] > (100 if name == "moved" else 299)
        for k in (1, 64, 65, 200):
            first, its = draw(run, k, seed=3, **option)
            assert torch.equal(first, x[:k]) and equal(
                its, None if condition is None else one_tensor(condition)[:k]
            )
        assert not torch.equal(draw(run, 5, seed=4, **option)[0], x[:5])


def test_given_conditions_take_turns_over_all_pieces(runs):
    condition = one_tensor(draw(runs("labels"), 500, ["1", "0", "1"])[1])
    assert condition.tolist() == ([1, 0, 1] * 167)[:500]


def test_pieces_are_those_of_a_draw_and_of_bounded_size(runs):
    run = runs("spline")
    sizes, pieces = [], []
    for x, _ in draw_pieces(run, 3000, seed=1):
        sizes.append(len(x))
        pieces.append(x)
    assert sizes == [64, 64, 128, 256, 512, 1024, 952]
    assert torch.equal(torch.cat(pieces), draw(run, 3000, seed=1)[0])


@pytest.mark.parametrize("event", [1, 2, 64, 65, 784, 3072, 3 * 256 * 256, 10**8])
def test_pieces_grow_and_hold_at_most_so_many_numbers(event):
    sizes, rows = piece_sizes(event, 2**20), 0
    for before, size in zip(first := [next(sizes) for _ in range(60)], first[1:]):
        rows += before
        assert size == 8 or (size in (before, 2 * before) and size * event <= 2**20)
        assert size <= max(before, rows // (1 if event <= 16 and size <= 1024 else 4))


@pytest.mark.parametrize("name", ["spline", "contractive", "adaptive", "hidden", "moved", "labels"])
def test_scores_and_moved_points_do_not_depend_on_the_rows_that_follow(runs, name):
    run = runs(name)
    x, condition = draw(run, 150, seed=5)
    rows = Rows(x, condition)
    whole = score(run, rows, seed=1)[1] if name != "moved" else None  # which has no density
    moved = carry(run, rows, seed=1)
    for k in (1, 63, 64, 100):
        first = rows.take(torch.arange(k))
        assert whole is None or score(run, first, seed=1)[1] == whole[:k]
        assert torch.equal(carry(run, first, seed=1), moved[:k])


@pytest.mark.parametrize("size", [1, 50, 64, 1000])
def test_rows_may_come_in_parts_of_any_size(runs, size):
    run = runs("labels")
    x, condition = draw(run, 700, seed=5)
    rows = Rows(x, condition)
    parts = [rows.take(torch.arange(700)[i : i + size]) for i in range(0, 700, size)]
    assert np.concatenate(list(score_pieces(run, parts))).tolist() == score(run, rows)[1]
    moved = list(carry_pieces(run, parts, back=True))
    assert torch.equal(torch.cat([x for x, _ in moved]), carry(run, rows, back=True))
    assert torch.equal(torch.cat([one_tensor(c) for _, c in moved]), one_tensor(condition))


def test_files_hold_what_python_draws_and_scores(runs, tmp_path):
    run = runs("labels")
    x, labels = draw(run, 200, seed=2)
    condition = one_tensor(labels)
    name = {suffix: str(tmp_path / f"x{suffix}") for suffix in (".csv", ".tsv", ".parquet", ".npz")}
    for path in name.values():
        assert main(["sample", str(run.path), "-n", "200", "--seed", "2", "-o", path]) == 0
    read = {
        ".csv": pd.read_csv(name[".csv"]),
        ".tsv": pd.read_csv(name[".tsv"], sep="\t"),
        ".parquet": pd.read_parquet(name[".parquet"]),
    }
    for table in read.values():
        assert list(table.columns) == ["x1", "x2", "label"]
        assert np.array_equal(table[["x1", "x2"]].to_numpy(), x.numpy())
        assert table["label"].tolist() == condition.tolist()
    with np.load(name[".npz"]) as file:
        assert np.array_equal(file["x"], x.numpy()) and np.array_equal(file["label"], condition.numpy())
    expected = score(run, next(read_pieces(name[".csv"], run.schema)))[1]
    for path in name.values():
        assert main(["score", str(run.path), path, "-o", str(tmp_path / "s.parquet")]) == 0
        assert pd.read_parquet(tmp_path / "s.parquet")["log_prob"].tolist() == expected


# -- what is refused before anything is computed -----------------------------------------------------


@pytest.mark.parametrize(
    "name, command, says",
    [
        ("adaptive", "sample RUN --guidance 2", "--guidance: this run was trained without a condition"),
        ("spline", "sample RUN --guidance 2", "--guidance: this run was trained without a condition"),
        ("labels", "sample RUN --guidance nan", "--guidance"),
        ("labels", "sample RUN --guidance inf", "--guidance"),
        ("labels", "sample RUN --condition 7", "no label '7'"),
        ("labels", "sample RUN -o x.npy", "write .npz"),
        ("adaptive", "sample RUN --condition 1", "--condition: this run was trained without a condition"),
        ("spline", "sample RUN --solver euler", "--solver"),
        ("spline", "sample RUN -n -3", "-n"),
        ("spline", "sample RUN -n 2000000 -o x.png", "at most 1,000,000 rows"),
        ("spline", "sample RUN --escape -o x.npy", "--escape"),
        (
            "spline",
            "score RUN x.csv --bound-samples 4",
            "--bound-samples: the density of this run is no bound",
        ),
        ("spline", "score RUN x.csv --bound-samples 0", "--bound-samples"),
        ("spline", "score RUN x.csv --flag-below nan", "--flag-below"),
        ("spline", "score RUN x.csv -o s.xlsx", "cannot write '.xlsx'"),
        ("spline", "score RUN x.csv -o s", "without a suffix"),
        ("spline", "score RUN x.csv --solver euler", "--solver"),
        ("hidden", "push RUN x.csv --back", "it has no inverse"),
    ],
)
def test_values_without_use_are_refused_by_name(runs, name, command, says, tmp_path, monkeypatch, capsys):
    run = runs(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("x1,x2\n0.5,0.25\n")
    assert main([str(run.path) if part == "RUN" else part for part in command.split()]) == 2
    out, err = capsys.readouterr()
    assert says in err and out == "" and len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_python_refuses_what_the_command_line_refuses(runs):
    with pytest.raises(ValueError, match="--guidance"):
        draw(runs("spline"), 5, guidance=2.0)
    with pytest.raises(ValueError, match="--guidance"):
        draw_pieces(runs("labels"), 5, guidance=float("nan"))  # before a piece is asked for
    with pytest.raises(ValueError, match="--bound-samples"):
        score_pieces(runs("spline"), [], bound_samples=3)


# -- memory ------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
from pathlib import Path
import torch
from pushforward.data import Schema
from pushforward.data.write import write_pieces
schema = Schema(name="t", kind="table", event_shape=(2,), columns=("a", "b"))
pieces = ((torch.rand(65_536, 2, dtype=torch.float64), None) for _ in range(int(sys.argv[2])))
write_pieces(Path(sys.argv[1]), pieces, schema)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("suffix", first([".csv", ".npy", ".npz", ".parquet"]))
def test_memory_does_not_grow_with_the_rows_written(suffix, tmp_path):
    few, many = (
        int(subprocess.check_output([sys.executable, "-c", PEAK, str(tmp_path / f"x{suffix}"), count]))
        / 2**10
        for count in ("4", "12" if suffix == ".csv" else "36")
    )
    assert many - few < 16, (few, many)  # of numbers held once 32 MiB, of texts 60


def test_a_draw_is_computed_when_it_is_asked_for(runs, monkeypatch):
    run, drawn = runs("spline"), []
    sample = type(run.flow).sample
    monkeypatch.setattr(
        type(run.flow), "sample", lambda self, n, *rest: drawn.append(n) or sample(self, n, *rest)
    )
    pieces = draw_pieces(run, 10**9)
    assert not drawn and len(next(pieces)[0]) == 64 and drawn == [64]
