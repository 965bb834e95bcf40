"""Conditions of several columns of any kinds, from the table to samples, scores, reports and reflow."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

from narrowing import by_name, one_tensor
from pushforward import tensors
from pushforward.cli import main
from pushforward.config import DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.couplings import Rows
from pushforward.data import ConditionSpec, MixedConditionSpec, Schema, load, read_rows, write_rows
from pushforward.data.split import split
from pushforward.inference import draw, score
from pushforward.metrics import fit_gaussian
from pushforward.recipes import open_run, train
from pushforward.report import baselines, build
from pushforward.runs import RunFolder

KINDS = ("setosa", "Paris, France")
CONDITION = ("kind", "age", "site")


def table(n: int = 400) -> pd.DataFrame:
    """x follows the kind and the age, y the site: differences of 8 and 4 deviations and more."""
    g = np.random.default_rng(0)
    kind, age, site = g.integers(0, 2, n), g.integers(-15, 16, n) / 10, g.integers(1, 4, n)
    x = 8.0 * kind + 4 * age + g.normal(size=n)
    y = 4.0 * site + g.normal(size=n)
    return pd.DataFrame({"x": x, "y": y, "kind": np.array(KINDS)[kind], "age": age, "site": site})


SPEC = MixedConditionSpec(
    parts=(
        ConditionSpec(kind="labels", columns=("kind",), classes=KINDS),
        ConditionSpec(kind="continuous", columns=("age",), low=(-3.0,), high=(3.0,)),
        ConditionSpec(kind="labels", columns=("site",), classes=("1", "2", "3")),
    )
)


def as_lists(condition) -> dict[str, list[Any]]:
    return {name: values.tolist() for name, values in condition.items()}


# what a condition is


@pytest.mark.parametrize(
    "columns, kind, network_spec",
    [
        (["kind"], "auto", 2),
        (["site"], "auto", 3),
        (["age"], "auto", ()),
        (["age", "x"], "auto", (2,)),
        (["site", "age"], "continuous", (2,)),
        (["kind", "age"], "auto", {"kind": 2, "age": ()}),
        (["site", "kind"], "auto", {"site": 3, "kind": 2}),
        (["kind", "age", "site"], "auto", {"kind": 2, "age": (), "site": 3}),
        (["kind", "site"], "labels", {"kind": 2, "site": 3}),
    ],
)
def test_kinds_are_found_column_by_column(columns, kind, network_spec):
    frame = table()
    exclude = [] if "kind" in columns else ["kind"]
    data = load(frame, condition=columns, condition_kind=kind, exclude=exclude)
    spec = data.schema.condition
    assert spec is not None and spec.network_spec == network_spec and spec.columns == tuple(columns)
    assert Schema.from_json(json.loads(json.dumps(data.schema.to_json()))) == data.schema
    rows = read_rows(frame, data.schema)
    if not isinstance(network_spec, dict):
        assert isinstance(rows.condition, torch.Tensor)
        return
    condition = by_name(rows.condition)
    assert list(condition) == columns
    for name, part in condition.items():
        labels = network_spec[name] != ()
        assert part.shape == (len(frame),) and part.dtype == (torch.int64 if labels else torch.float64)
    decoded = spec.decode_columns(condition)
    assert all(np.array_equal(decoded[name], frame[name]) for name in columns)


def test_values_of_a_user_are_encoded():
    expected = {"kind": [1, 0], "age": [0.5, -1.0], "site": [2, 0]}
    pairs = [("Paris, France", 0.5, 3), ("setosa", "-1", "1")]
    frame = pd.DataFrame(pairs, columns=list(CONDITION))
    for values in (pairs, [list(pair) for pair in pairs], frame, dict(frame), np.array(pairs, dtype=object)):
        assert as_lists(SPEC.encode(values)) == expected
    assert as_lists(SPEC.parse(['"Paris, France",0.5,3', "setosa, -1, 1"])) == expected
    one = SPEC.encode(pairs[0])
    assert all(part.shape == () for part in one.values())
    with pytest.warns(UserWarning, match="'age': 1 of 1 values lie outside"):
        SPEC.parse(["setosa,4,1"])
    two = ConditionSpec(kind="continuous", columns=("age", "size"))
    assert two.parse(["1.5,40", "2,3"]).tolist() == [[1.5, 40], [2, 3]]
    # a single label may hold a comma
    assert SPEC.parts[0].parse(["Paris, France"]).tolist() == [1]


@pytest.mark.parametrize(
    "call, fragment",
    [
        (lambda: SPEC.parse(["setosa,1"]), "expected 3 values with commas between them (kind,age,site)"),
        (lambda: SPEC.parse(["Paris, France,1,1"]), "got 'Paris, France,1,1'"),
        (lambda: SPEC.parse(["setoza,1,1"]), "condition 'kind': no label 'setoza'; did you mean 'setosa'?"),
        (lambda: SPEC.parse(["setosa,old,1"]), "finite numbers for age, got 'old'"),
        (lambda: SPEC.encode("setosa"), "expected values of kind, age, site, got shape ()"),
        (lambda: SPEC.encode({"kind": ["setosa"], "age": [1]}), "'site' is missing"),
        (lambda: SPEC.encode({"kind": [], "age": [], "site": [], "size": []}), "'size' is unknown"),
        (lambda: SPEC.decode_columns(torch.zeros(2)), "expected a mapping of kind, age, site, got a tensor"),
        (lambda: SPEC.decode_columns({"kind": torch.zeros(2)}), "got kind"),
    ],
)
def test_bad_values(call, fragment):
    with pytest.raises(ValueError) as caught:
        call()
    assert fragment in str(caught.value)


def test_pairs_in_memory_may_mix_texts_and_numbers():
    frame = table()
    y = frame[["kind", "age"]]
    rows = list(y.itertuples(index=False, name=None))
    for given in (y, rows, [(kind, np.float32(age)) for kind, age in rows]):
        data = load((frame[["x", "y"]].to_numpy(), given))
        spec = data.schema.condition
        assert isinstance(spec, MixedConditionSpec) and list(spec.network_spec.values()) == [2, ()]
        rows = read_rows((frame[["x", "y"]].to_numpy(), given), data.schema)
        age = torch.tensor(frame.age.to_numpy().copy())
        torch.testing.assert_close(by_name(rows.condition)[spec.columns[1]], age, rtol=0, atol=1e-7)


def test_the_split_keeps_the_shares_of_every_combination():
    frame = table(600)
    data = load(frame, condition=CONDITION)

    def shares(rows: Rows) -> Counter[tuple[int, int]]:
        condition = by_name(rows.condition)
        return Counter(zip(condition["kind"].tolist(), condition["site"].tolist()))

    train, test = shares(data.train), shares(data.test)
    assert len(train) == 6
    for key in train:
        assert abs(test[key] - 0.2 * (train[key] + test[key])) < 1


def test_rare_combinations_are_held_out_together_and_every_label_is_trained_on():
    # 30 x 30 combinations of which most occur once; label 30 of the first column occurs in one row
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(30, (300, 2), generator=g)
    labels[0, 0] = 30
    for seed in range(20):
        train, test = split(300, 0.2, seed, labels)
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(300)) and 55 <= len(test) <= 60
        for column in labels.T:
            assert set(column.tolist()) == set(column[train].tolist())


def test_conditions_are_packed_for_files():
    mixed = SPEC.parse(["setosa,1,2"])
    others = {"source": torch.zeros(1), "target": torch.ones(1)}
    assert tensors.unpack_condition({**tensors.pack_condition(mixed), **others}) == mixed
    unpacked = tensors.unpack_condition(tensors.pack_condition(torch.ones(2)) | others)
    assert one_tensor(unpacked).tolist() == [1, 1]
    assert tensors.unpack_condition(others) is None and tensors.pack_condition(None) == {}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".png"])
def test_rows_are_written_with_their_conditions(tmp_path, suffix):
    data = load(table(), condition=CONDITION)
    path = tmp_path / f"rows{suffix}"
    write_rows(path, data.test.x, data.schema, data.test.condition)
    if suffix != ".png":
        back = read_rows(path, data.schema)
        assert torch.equal(back.x, data.test.x) and as_lists(back.condition) == as_lists(data.test.condition)
    one = SPEC.encode(("setosa", 0.5, 1))
    write_rows(path, data.test.x, data.schema, one)
    if suffix == ".csv":
        assert {*pd.read_csv(path)["age"]} == {0.5}


# whole runs


def config(path: Path, method: str, steps: int, **model) -> RunConfig:
    return RunConfig(
        target=str(path),
        data=DataConfig(condition=CONDITION),
        model=ModelConfig(method=method, **model),
        optim=OptimConfig(steps=steps, warmup=5, lr=1e-2, ema=0.9, batch=128, patience=0, validate_every=50),
    )


RUNS = {
    "nsf": ("nsf", 200, {"flow": "nsf,layers=2,width=32,bins=4"}),
    "fm": ("fm", 300, {"network": "mlp,width=64,depth=2", "solver": "heun,steps=10"}),
}


@pytest.fixture(scope="module", params=list(RUNS))
def run(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    table().to_csv(folder / "t.csv", index=False)
    method, steps, model = RUNS[request.param]
    train(config(folder / "t.csv", method, steps, **model), folder / "run", show_progress=False)
    return folder / "run"


def test_samples_and_densities_follow_every_column(run):
    opened = open_run(run)
    conditions = ["setosa,0,1", '"Paris, France",0,1', "setosa,1,1", "setosa,0,3"]
    x, condition = draw(opened, 800, conditions)
    assert as_lists(condition)["site"][:4] == [0, 0, 0, 2]
    base, kind, age, site = (x[i::4].mean(0) for i in range(4))
    # 8, 4 and 8 in truth, with standard errors of 0.1
    assert float(kind[0] - base[0]) > 4 and float(age[0] - base[0]) > 2 and float(site[1] - base[1]) > 4
    rows = read_rows(table(), opened.schema)
    given = by_name(rows.condition)
    turned = {**given, "kind": 1 - given["kind"]}
    own = score(opened, rows)[1]
    assert np.mean(own) > np.mean(score(opened, Rows(rows.x, turned))[1]) + 1
    swapped = {**given, "site": (given["site"] + 1) % 3}
    assert np.mean(own) > np.mean(score(opened, Rows(rows.x, swapped))[1]) + 1


def test_without_conditions_they_are_drawn_as_they_occur(run):
    opened = open_run(run)
    kept = RunFolder(run).conditions()
    assert isinstance(kept, dict) and kept["kind"].shape == (320,)
    occur = {*zip(*as_lists({name: kept[name] for name in CONDITION}).values())}
    condition = by_name(draw(opened, 50)[1])
    assert {*zip(*as_lists({name: condition[name] for name in CONDITION}).values())} <= occur


def test_the_command_line(run, tmp_path, capsys):
    out = tmp_path / "s.csv"
    sample = ["sample", str(run), "-n", "6", "-o", str(out)]
    assert main([*sample, "--condition", "setosa,1.5,2", '"Paris, France",0,1']) == 0
    frame = pd.read_csv(out)
    assert list(frame) == ["x", "y", *CONDITION]
    assert frame["kind"].tolist() == [*KINDS] * 3 and frame["age"].tolist() == [1.5, 0.0] * 3
    assert main([*sample, "--condition", "setosa,1.5"]) == 2
    assert "expected 3 values with commas between them (kind,age,site), got" in capsys.readouterr().err
    assert main(["push", str(run), str(out), "--back", "-o", str(tmp_path / "z.csv")]) == 0
    assert main(["push", str(run), str(tmp_path / "z.csv"), "-o", str(tmp_path / "x.csv")]) == 0
    there, back = (cast(Any, pd.read_csv(file)) for file in (out, tmp_path / "x.csv"))
    assert (there["kind"] == back["kind"]).all()
    assert np.abs(there[["x", "y"]] - back[["x", "y"]]).max(axis=None) < 0.5
    assert main(["score", str(run), str(out), "-o", str(tmp_path / "p.csv"), "--flag-below", "0.1"]) == 0
    assert len(pd.read_csv(tmp_path / "p.csv")) == 6


def test_the_report_is_written(run, monkeypatch):
    asked = []

    def fit(x, condition=None):
        asked.append(condition)
        return fit_gaussian(x, condition)

    monkeypatch.setattr(baselines, "fit_gaussian", fit)
    page = build(open_run(run), samples=300).read_text()
    assert asked and {*asked[0]} == {*CONDITION}
    assert "under the conditions of held-out rows" in page and "kind, age, site" in page
    found = json.loads((run / "report.json").read_text())
    assert "label_accuracy" not in json.dumps(found)


def test_guidance_and_resumption_take_several_columns(tmp_path):
    path = tmp_path / "t.csv"
    table(200).to_csv(path, index=False)
    model = {"network": "mlp,width=16,depth=1", "solver": "euler,steps=4", "coupling": "c2ot", "plan": 64}
    whole = train(config(path, "c2ot", 8, **model), tmp_path / "whole", show_progress=False)
    plain, _ = draw(whole, 5, ["setosa,1,2"])
    guided, _ = draw(whole, 5, ["setosa,1,2"], guidance=3.0)
    assert bool(guided.isfinite().all()) and not torch.equal(plain, guided)
    train(config(path, "c2ot", 4, **model), tmp_path / "part", show_progress=False)
    longer = train(config(path, "c2ot", 8, **model), tmp_path / "part", show_progress=False)
    assert longer.summary["finished"] and longer.summary["step"] == 8
    assert as_lists(RunFolder(tmp_path / "part").conditions()) == as_lists(
        RunFolder(tmp_path / "whole").conditions()
    )


def test_reflow_keeps_the_conditions_of_its_pairs(tmp_path):
    path = tmp_path / "t.csv"
    table(200).to_csv(path, index=False)
    model = {"network": "mlp,width=16,depth=1", "solver": "euler,steps=4", "reflow": 1, "pairs": 64}
    run = train(config(path, "fm", 4, distil=True, **model), tmp_path / "run", show_progress=False)
    file = tmp_path / "run" / "stages" / "reflow-1-pairs.safetensors"
    from safetensors.torch import load_file

    pairs = by_name(tensors.unpack_condition(load_file(file)))
    assert {*pairs} == {*CONDITION} and pairs["age"].shape == (64,)
    assert draw(run, 3)[0].shape == (3, 2)
