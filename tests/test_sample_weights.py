"""Weights of rows: they leave the data, are refused where they are none, and tilt what is learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward
from effort import first
from narrowing import known
from pushforward.cli import main
from pushforward.couplings import Coupling, Pairing, Rows
from pushforward.data import load, read_rows
from pushforward.inference import score, threshold
from pushforward.recipes import open_run
from pushforward.rows import as_rows
from pushforward.sources import Normal
from pushforward.training import pairs

#: of the weights, on the left: 800 rows of weight 3 against 1,000 of weight 1
SHARE = 2400 / 3400
FAST = ["--steps", "400", "--batch", "128", "--no-report", "--seed", "3"]


def table(rows: int = 2000) -> pd.DataFrame:
    """Two clusters of rows, at x = -3 of weight 3 and at x = 3 of weight 1; every tenth has none."""
    rng = np.random.default_rng(0)
    right = np.arange(rows) % 2 == 1
    w = np.where(right, 1.0, 3.0)
    w[::10] = 0
    x = np.where(right, 3.0, -3.0) + 0.5 * rng.standard_normal(rows)
    return pd.DataFrame({"x": x, "w": w, "y": rng.standard_normal(rows), "side": np.where(right, "r", "l")})


def test_weights_leave_the_data_and_rows_without_weight_too() -> None:
    frame = table()
    data = load(frame.drop(columns="side"), sample_weight="w")
    assert data.schema.columns == ("x", "y") and data.schema.sample_weight == "w"
    assert (len(data.train), len(data.test)) == (1440, 360)
    for rows in (data.train, data.test):
        assert torch.equal(known(rows.weight), torch.where(rows.x[:, 0] > 0, 1.0, 3.0).double())
    again = read_rows(frame, data.schema)
    assert again.x.shape == (2000, 2) and again.weight is None


def test_a_table_without_names_is_read_again_with_its_weights(tmp_path: Path) -> None:
    table()[["x", "w", "y"]].to_csv(tmp_path / "t.csv", header=False, index=False)
    data = load(tmp_path / "t.csv", sample_weight="x2")
    assert data.schema.columns == ("x1", "x3")
    assert torch.equal(
        read_rows(tmp_path / "t.csv", data.schema).x, torch.tensor(table()[["x", "y"]].to_numpy())
    )


@pytest.mark.parametrize(
    "change, says",
    [
        ({"w": -1.0}, r"non-negative number .* got -1 at row 1"),
        ({"w": np.nan}, r"non-negative number .* got nan at row 1"),
        ({"w": "heavy"}, r"'w' holds 'heavy' at row 1, expected numbers"),
        ({"w": 0.0}, r"not all zero, got shape \(2000,\) with sum 0"),
    ],
)
def test_what_are_no_weights(change, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load(table().drop(columns="side").assign(**change), sample_weight="w")


def test_a_column_that_is_not_there_or_taken() -> None:
    with pytest.raises(ValueError, match="sample_weight: no column 'v'"):
        load(table(), sample_weight="v", condition=["side"])
    with pytest.raises(ValueError, match="sample_weight: 'w' is the condition already"):
        load(table(), sample_weight="w", condition=["w"])
    with pytest.raises(ValueError, match="31 rows of positive weight"):
        load(table()[["x", "y"]].assign(w=[1.0] * 31 + [0.0] * 1969), sample_weight="w")


class Tilted(Coupling):
    """Row by row, under weights that grow with the target's points."""

    def pair(self, source, target, generator=None):
        rows = as_rows(target)
        index = torch.arange(len(rows))
        return Pairing(torch.stack([index, index], 1), 1 + rows.x[:, 0] / 10)


@pytest.mark.parametrize("coupling", [None, Tilted()], ids=["of rows", "of pairs"])
def test_the_loss_is_the_weighted_mean_of_the_global_batch(coupling) -> None:
    """sum_i w_i l_i over the sum of all w_i, on one process and as the mean over three."""
    x = torch.arange(200.0)[:, None]
    batches = pairs(Normal(1), Rows(x, weight=1 + x[:, 0] / 10), coupling, size=64, seed=1)
    whole, parts = batches(0), [batches(0, rank, 3) for rank in range(3)]
    rows = whole.target.x[:, 0].numpy()
    expected = pytest.approx(np.average(rows**2, weights=1 + rows / 10), rel=1e-5)

    def error(batch):
        return batch.target.x[:, 0].square()

    assert float(whole.mean(error(whole))) == expected
    assert float(whole.reduce(error(whole)[:, None])[0]) == expected
    assert np.mean([float(part.mean(error(part))) for part in parts]) == expected


def test_thinned_rows_follow_the_weighted_distribution() -> None:
    x = torch.arange(40_000.0)[:, None]
    weight = torch.tensor([1.0, 2.0, 4.0, 0.0]).repeat(10_000)
    kept = Rows(x, weight=weight).thinned(torch.Generator().manual_seed(0))
    counts = torch.bincount(kept.x[:, 0].long() % 4, minlength=4)
    # binomial counts: five deviations of at most 50 each
    assert kept.weight is None and (counts - torch.tensor([2500, 5000, 10_000, 0])).abs().max() < 250
    rows = Rows(x)
    assert rows.thinned() is rows


@pytest.mark.parametrize("method", first(["fm", "nsf", "ot-cfm"]))
def test_samples_follow_the_weighted_distribution(method: str, tmp_path: Path) -> None:
    table().drop(columns="side").to_csv(tmp_path / "t.csv", index=False)
    flags = ["--sample-weight", "w", "--method", method, "--out", str(tmp_path / "run"), *FAST]
    assert main(["train", str(tmp_path / "t.csv"), *flags]) == 0
    x = pushforward.load(tmp_path / "run").sample(2000, generator=torch.Generator().manual_seed(0))
    # counts alone would give .44; a deviation of 2,000 draws is .01, the rest is the short training
    assert abs(float((x[:, 0] < 0).double().mean()) - SHARE) < 0.06


@pytest.mark.thorough
def test_a_report_and_drawn_conditions_follow_the_weighted_distribution(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "t.csv", index=False)
    flags = ["--sample-weight", "w", "--condition", "side", "--method", "nsf", "--out", str(tmp_path / "run")]
    assert main(["train", str(tmp_path / "t.csv"), *flags, *FAST]) == 0
    assert main(["sample", str(tmp_path / "run"), "-n", "1000", "-o", str(tmp_path / "s.csv")]) == 0
    # about 900 rows stay, a deviation of .015, and so much again for the draws
    assert abs((pd.read_csv(tmp_path / "s.csv").side == "l").mean() - SHARE) < 0.09
    run = open_run(tmp_path / "run")
    limit, count = threshold(run, 0.3)
    w = known(run.dataset.test.weight)
    scores = torch.tensor(score(run, run.dataset.test)[1], dtype=torch.float64)
    below = [float(w[scores < limit + step].sum() / w.sum()) for step in (-1e-9, 1e-9)]
    assert count == 360 and below[0] < 0.3 <= below[1], below
    assert main(["report", str(tmp_path / "run")]) == 0
    rows = json.loads((tmp_path / "run" / "report.json").read_text())["sizes"]
    # of 360 held-out rows 160 stay, and a third of 200: a deviation of 9 with that of the split
    assert 180 < rows["test"] < 275, rows
