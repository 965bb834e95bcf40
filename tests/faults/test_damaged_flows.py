"""Flows in one file, and what Python reads of a run: a value, or one line that says what is wrong."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mutations import Damage, of_bytes, of_tensors, wrong
from safetensors import safe_open
from safetensors.torch import save_file

import pushforward
from pushforward.files import SUM, checksum, summed
from pushforward.flows import nice, save
from pushforward.flows.saving import ENTRY, load_flow
from pushforward.recipes import Run, open_run

#: Structures that are tried.
COUNT = 150


def one_line(make: Callable[[], Any], named: str) -> Any:
    """What ``make`` gives, None where it refuses in one line that names the file."""
    try:
        return make()
    except ValueError as error:
        assert "\n" not in str(error) and named in str(error), error
        return None


@pytest.fixture(scope="module")
def flow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small flow in a file."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("flow") / "flow.safetensors"
    save(nice(2, layers=2, width=4), file)
    return file


def test_a_flow_of_damaged_bytes_is_refused(flow_file: Path, tmp_path: Path) -> None:
    for damage in of_bytes(flow_file, "flow.safetensors"):
        folder = tmp_path / "copy"
        shutil.copytree(flow_file.parent, folder)
        damage.apply(folder)
        file = folder / "flow.safetensors"
        if file.exists() and not (file.is_file() and file.read_bytes() == flow_file.read_bytes()):
            assert one_line(lambda file=file: load_flow(file), file.name) is None, damage
        shutil.rmtree(folder)


def test_a_flow_of_a_wrong_structure_is_made_or_refused(flow_file: Path, tmp_path: Path) -> None:
    with safe_open(flow_file, "pt") as opened:
        content = json.loads(opened.metadata()[ENTRY])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    del content[SUM]
    found = [(what, new) for what, new, _ in wrong(content)]
    made = 0
    for _, new in random.Random(0).sample(found, COUNT):
        told = {**new, SUM: checksum(tensors, new)} if isinstance(new, dict) else new
        file = tmp_path / "flow.safetensors"
        save_file(tensors, file, {ENTRY: json.dumps(told)})
        made += one_line(lambda file=file: load_flow(file), file.name) is not None
    assert 0 < made < COUNT  # some entries matter when the flow is used alone


def test_weights_of_a_flow_that_are_not_finite_are_said(flow_file: Path, tmp_path: Path) -> None:
    flow = load_flow(flow_file)
    with torch.no_grad():
        next(flow.parameters()).fill_(torch.nan)
    save(flow, tmp_path / "flow")
    with pytest.raises(ValueError, match="holds values that are not finite"):
        load_flow(tmp_path / "flow")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose steps were cross-validated."""
    out = tmp_path_factory.mktemp("run") / "run"
    return pushforward.train(
        "moons", out, rows=60, steps=5, batch=16, network="mlp,width=8,depth=1", folds=2, show_progress=False
    )


def test_what_cross_validation_left_is_read_or_refused(run: Run, tmp_path: Path) -> None:
    file = run.path / "choice.safetensors"
    found: list[Damage] = [*of_bytes(file, file.name), *of_tensors(file, file.name)]
    first = run.crossed()
    assert first is not None
    for damage in found:
        folder = tmp_path / "copy"
        shutil.copytree(run.path, folder)
        damage.apply(folder)
        there = (folder / file.name).exists()
        now = one_line(open_run(folder).crossed, file.name)
        if now is not None and not damage.fits:
            assert torch.equal(now.nan_to_num(0), first.nan_to_num(0)), damage
        if not there:
            assert now is None
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "name, path, value, says",
    [
        ("config.json", "optim.lr", "fast", 'config.json: optim.lr: expected a number or null, got "fast"'),
        ("config.json", "optim.steps", True, "config.json: optim.steps: expected a whole number or null"),
        ("config.json", "optim.lr", float("nan"), "optim.lr: expected a finite number or null, got NaN"),
        ("config.json", "optim.stps", 1, "config.json: optim.stps: unknown entry; did you mean steps?"),
        ("config.json", "compute.threads", -1, "config.json: compute.threads: expected at least 1, got -1"),
        ("config.json", "format", 99, "written by a newer version"),
        ("data.json", "schema.columns", ["x1"], "data.json: schema: event_shape: expected (1,)"),
        ("data.json", "schema.event_shape", [10**12], "data.json: schema: event_shape: expected at most"),
        (
            "data.json",
            "schema.kind",
            None,
            "schema.kind: expected one of table, image, array, text, got",
        ),
        ("data.json", "dtype", "int8", "dtype: expected one of float16, bfloat16, float32, float64"),
        ("data.json", "preprocess.class", "os:system", "preprocess.class: expected one of Chain"),
        ("data.json", "source.distribution", "os:system", "source.distribution: expected one of normal"),
        ("run.json", "step", "many", 'run.json: step: expected a whole number of at least 0, got "many"'),
        ("run.json", "stage", "reflow-1", "run.json: stage: expected train by config.json, got reflow-1"),
    ],
)
def test_an_error_says_file_entry_what_was_expected_and_what_came(
    name: str, path: str, value: Any, says: str, run: Run, tmp_path: Path
) -> None:
    folder = shutil.copytree(run.path, tmp_path / "copy")
    data = json.loads((folder / name).read_text())
    at = data
    for key in path.split(".")[:-1]:
        at = at[key]
    at[path.split(".")[-1]] = value
    if data.pop(SUM, None):
        data = summed(data)
    (folder / name).write_text(json.dumps(data))
    with pytest.raises(ValueError) as caught:
        open_run(folder)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_an_edit_of_the_data_is_said_and_can_be_meant(run: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(run.path, tmp_path / "copy")
    data = json.loads((folder / "data.json").read_text())
    data["schema"]["rows_test"] += 1
    (folder / "data.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="damaged or edited"):
        open_run(folder)
    del data[SUM]
    (folder / "data.json").write_text(json.dumps(data))
    assert open_run(folder).schema.rows_test == run.schema.rows_test + 1
