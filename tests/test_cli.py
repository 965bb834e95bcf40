"""The command line as a user meets it: what works, and what a mistake looks like."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward
from pushforward.cli import main
from pushforward.cli.commands import COMMANDS
from pushforward.entries import METHODS

SMALL = ["--steps", "20", "--batch", "64", "--network", "mlp,width=16,depth=2", "--no-report"]
#: small tables as large ones are: no baselines, no folds
SMALL += ["--source", "normal", "--folds", "0"]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A table with a far offset in one column and a text column."""
    g = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "table.csv"
    frame = pd.DataFrame({"length [mm]": g.normal(1e6, 3.0, 200), "mass [g]": g.normal(5.0, 0.1, 200)})
    frame["species"] = np.where(np.arange(200) % 2, "gannet", "auk")
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(table, tmp_path_factory) -> Path:
    """A small finished conditional run."""
    out = tmp_path_factory.mktemp("runs") / "birds"
    assert main(["train", str(table), "--condition", "species", "--out", str(out), *SMALL]) == 0
    return out


def fails(capsys, *arguments: str, says: str) -> None:
    """The command ends with status 2 and one line that contains ``says``."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1, err
    assert says in err, err


def test_help_is_quick_and_imports_no_torch():
    code = "import sys, pushforward.cli as c; c.main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert all(command in done.stdout for command in COMMANDS)
    times = []
    for _ in range(3):  # processor time: other work on the machine costs the clock more
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "pushforward.cli", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.7


def test_lists(capsys):
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert all(name in text and method.paper in text for name, method in METHODS.items())
    assert main(["datasets"]) == 0
    assert "digits" in capsys.readouterr().out


def test_a_method_sets_the_defaults_of_other_flags(table, tmp_path):
    assert (
        main(
            [
                "train",
                str(table),
                "--condition",
                "species",
                "--method",
                "ot-cfm",
                "--out",
                str(tmp_path / "a"),
                *SMALL,
            ]
        )
        == 0
    )
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["model"]["coupling"] == "ot" and config["model"]["method"] == "ot-cfm"


def test_samples_keep_names_units_and_conditions(run, tmp_path):
    out = tmp_path / "samples.csv"
    assert main(["sample", str(run), "-n", "50", "-o", str(out)]) == 0
    frame: Any = pd.read_csv(out)
    assert list(frame.columns) == ["length [mm]", "mass [g]", "species"]
    assert len(frame) == 50 and set(frame["species"]) == {"auk", "gannet"}
    assert abs(frame["length [mm]"].mean() - 1e6) < 10
    assert main(["sample", str(run), "-n", "5", "--condition", "auk", "-o", str(tmp_path / "a.npz")]) == 0
    assert np.load(tmp_path / "a.npz")["x"].shape == (5, 2)


def test_sampling_is_seeded_and_solvers_can_be_chosen(run, tmp_path):
    files = []
    for name, extra in {"a": [], "b": [], "c": ["--seed", "1"], "d": ["--solver", "euler,steps=3"]}.items():
        files.append(tmp_path / f"{name}.csv")
        assert main(["sample", str(run), "-n", "20", "-o", str(files[-1]), *extra]) == 0
    a, b, c, d = (file.read_text() for file in files)
    assert a == b and a != c and a != d


def test_scores_are_row_for_row_the_flows_log_prob(run, table, tmp_path):
    out = tmp_path / "scores.csv"
    assert main(["score", str(run), str(table), "-o", str(out)]) == 0
    scores = pd.read_csv(out)["log_prob"]
    frame = pd.read_csv(table)
    flow = pushforward.load(run)
    x = torch.tensor(frame[["length [mm]", "mass [g]"]].to_numpy())
    labels = torch.tensor((frame["species"] == "gannet").to_numpy().astype(int))
    assert np.allclose(scores, flow.log_prob(x, labels).numpy(), atol=1e-4)
    shuffled = tmp_path / "shuffled.csv"
    frame[["species", "mass [g]", "length [mm]"]].to_csv(shuffled, index=False)
    assert main(["score", str(run), str(shuffled), "-o", str(tmp_path / "again.csv")]) == 0
    assert (tmp_path / "again.csv").read_text() == out.read_text()


def test_training_goes_on_from_where_it_stopped_and_says_what_changed(table, tmp_path, capsys):
    out = str(tmp_path / "run")
    first = ["train", str(table), "--condition", "species", "--out", out, *SMALL]
    assert main(first) == 0
    fails(capsys, *first, says="trained; `pushforward report")
    fails(capsys, *first, "--lr", "0.5", says="optim.lr")
    fails(capsys, *first, "--steps", "10", says="cannot be shortened")
    assert main([*first, "--steps", "30"]) == 0
    assert "scheduled for that length" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["step"] == 30
    assert main([*first, "--overwrite", "--lr", "0.5"]) == 0


def test_frames_in_memory_train_from_python(tmp_path):
    from pushforward.config import ModelConfig, OptimConfig, RunConfig

    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 3)), columns=list("abc"))
    config = RunConfig(
        target="frame",
        model=ModelConfig(network="mlp,width=8,depth=1"),
        optim=OptimConfig(steps=5, batch=16),
    )
    run = pushforward.train(config, tmp_path / "run", target=frame, show_progress=False)
    assert run.flow.sample(3).shape == (3, 3) and run.schema.columns == ("a", "b", "c")


# -- mistakes ----------------------------------------------------------------------------------------


def bad_tables(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Files that cannot be learnt from: {name: (arguments, what the message says)}."""
    rows = [f"{i},{i % 7}" for i in range(60)]

    def write(name: str, lines: list[str]) -> str:
        (folder / name).write_text("\n".join(lines) + "\n")
        return str(folder / name)

    text = [*rows]
    text[4] = "3,heavy"
    holes = [*rows]
    holes[10] = "nan,1"
    ragged = [*rows]
    ragged[7] = "1,2,3"
    (folder / "broken.parquet").write_bytes(b"PAR1 not really")
    (folder / "empty").mkdir()
    from PIL import Image

    (folder / "mixed").mkdir()
    for i in range(40):
        Image.new("L", (8, 8 + (i == 20))).save(folder / "mixed" / f"{i:02d}.png")
    return {
        "missing file": ([str(folder / "nowhere.csv")], "nowhere.csv"),
        "unreadable parquet": ([str(folder / "broken.parquet")], "broken.parquet"),
        "ragged": ([write("ragged.csv", ["a,b", *ragged])], "line 9"),
        "text": ([write("text.csv", ["a,b", *text])], "'b'"),
        "nan": ([write("nan.csv", ["a,b", *holes])], "missing cells (1, at"),
        "constant": ([write("constant.csv", ["a,b", *(f"{i},3" for i in range(60))])], "'b'"),
        "few rows": ([write("few.csv", ["a,b", *rows[:20]])], "32"),
        "empty folder": ([str(folder / "empty")], "empty"),
        "image sizes": ([str(folder / "mixed")], "8"),
        "unknown data": (["moonz"], "'moons'"),
        "unknown method": (["moons", "--method", "ot-cmf"], "'ot-cfm'"),
        "unknown network": (["moons", "--network", "mpl"], "'mlp'"),
        "unknown option": (["moons", "--network", "mlp,widht=3"], "'width'"),
        "unknown solver": (["moons", "--solver", "dopri"], "did you mean 'dopri8'?"),
        "bad option value": (["moons", "--solver", "euler,steps=0"], "steps"),
        "no steps": (["moons", "--steps", "0"], "--steps"),
        "unknown column": ([write("ok.csv", ["a,b", *rows]), "--condition", "c"], "c"),
        "devices": (["moons", "--devices", "4096"], "--devices 4096"),
        "precision": (["moons", "--precision", "7-bit"], "--precision"),
    }


BAD = [
    "missing file",
    "unreadable parquet",
    "ragged",
    "text",
    "nan",
    "constant",
    "few rows",
    "empty folder",
    "image sizes",
    "unknown data",
    "unknown method",
    "unknown network",
    "unknown option",
    "unknown solver",
    "bad option value",
    "no steps",
    "unknown column",
    "devices",
    "precision",
]


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_writes_nothing(name, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    cases = bad_tables(tmp_path / "data")
    assert list(cases) == BAD
    arguments, says = cases[name]
    fails(capsys, "train", *arguments, "--out", str(tmp_path / "run"), "--no-report", says=says)
    assert not (tmp_path / "run").exists()


def test_bad_use_of_a_run(run, table, tmp_path, capsys):
    out = tmp_path / "x.csv"
    fails(capsys, "sample", str(run), "-n", "0", "-o", str(out), says="-n: expected at least 1, got 0")
    fails(capsys, "sample", str(run), "--condition", "puffin", "-o", str(out), says="'puffin'")
    fails(capsys, "sample", str(tmp_path / "none"), "-o", str(out), says="no such run folder")
    fails(capsys, "sample", str(table.parent), "-o", str(out), says="not a run folder")
    fails(capsys, "sample", str(run), "-o", str(tmp_path / "x.docx"), says=".csv")
    pd.read_csv(table).drop(columns="mass [g]").to_csv(tmp_path / "less.csv", index=False)
    fails(capsys, "score", str(run), str(tmp_path / "less.csv"), "-o", str(out), says="mass [g]")
    fails(capsys, "smaple", says="'sample'")
    assert not out.exists() and not (tmp_path / "x.docx").exists()


def test_a_damaged_or_newer_run_is_refused(run, tmp_path, capsys):
    import shutil

    for name, spoil, says in [
        ("config.json", lambda text: text[:40], "damaged"),
        ("config.json", lambda text: text.replace('"format": 1', '"format": 99'), "newer version"),
        ("config.json", lambda text: text.replace('"seed"', '"sede"'), "sede: unknown entry"),
        ("data.json", lambda text: text.replace("Whiten", "Mystery"), "data.json"),
    ]:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        (copy / name).write_text(spoil((copy / name).read_text()))
        fails(capsys, "sample", str(copy), "-o", str(tmp_path / "x.csv"), says=says)
    for name in ("ema.safetensors", "model.safetensors"):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        (copy / name).write_bytes((copy / name).read_bytes()[:100])
        flags = ["--last-weights"] if name.startswith("model") else []
        fails(capsys, "sample", str(copy), "-o", str(tmp_path / "x.csv"), *flags, says=name)


def test_other_peoples_files_are_never_overwritten(table, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    fails(
        capsys,
        "train",
        str(table),
        "--condition",
        "species",
        "--out",
        str(tmp_path / "mine"),
        *SMALL,
        says="not a run folder",
    )
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_continuous_condition_outside_the_training_range_warns(tmp_path, capsys):
    g = np.random.default_rng(0)
    dose = g.uniform(0, 10, 200)
    frame = pd.DataFrame({"response": dose + g.normal(size=200), "dose": dose})
    frame.to_csv(tmp_path / "dose.csv", index=False)
    out = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "dose.csv"), "--condition", "dose", "--out", out, *SMALL]) == 0
    capsys.readouterr()
    assert main(["sample", out, "-n", "4", "--condition", "99", "-o", str(tmp_path / "x.csv")]) == 0
    error = capsys.readouterr().err
    assert "warning" in error and "99" in error
    assert main(["sample", out, "-n", "4", "--condition", "5", "-o", str(tmp_path / "x.csv")]) == 0
    assert "warning" not in capsys.readouterr().err


def test_ctrl_c_leaves_a_run_that_loads_and_goes_on(tmp_path):
    import signal

    out = tmp_path / "run"
    command = [sys.executable, "-m", "pushforward.cli", "train", "moons", "--out", str(out), *SMALL]
    command[command.index("20")] = "100000"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command continues it" in error, error
    step = json.loads((out / "run.json").read_text())["step"]
    assert 0 < step < 100_000
    with pytest.warns(UserWarning, match=f"not finished: these are the weights of step {step} of 100,000"):
        assert pushforward.load(out).sample(2).shape == (2, 2)
    assert main(["sample", str(out), "-n", "3", "-o", str(tmp_path / "x.csv")]) == 0


def test_a_diverging_run_says_so_and_keeps_the_last_good_state(tmp_path, capsys):
    out = tmp_path / "run"
    flags = ["--lr", "10", "--weight-decay", "1000", "--warmup", "0", "--clip", "0", "--ema", "0"]
    assert main(["train", "moons", "--out", str(out), *SMALL, *flags]) == 2
    error = capsys.readouterr().err
    chosen, failed = error.strip().splitlines()
    assert "at most 20 steps" in chosen and "not finite at step" in failed
    assert (out / "state.safetensors").exists()
    with pytest.warns(UserWarning, match="not finished"):
        flow = pushforward.load(out)
    assert all(p.isfinite().all() for p in flow.parameters())
    assert main(["sample", str(out), "-n", "3", "-o", str(tmp_path / "x.csv")]) == 2
    assert "the solver failed on 64 of 64 rows" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["data", "noise", "score", "v"])
def test_every_prediction_trains_samples_and_scores(kind, tmp_path):
    out = str(tmp_path / "run")
    assert main(["train", "moons", "--prediction", kind, "--out", out, *SMALL]) == 0
    assert main(["sample", out, "-n", "64", "-o", str(tmp_path / "x.csv")]) == 0
    assert main(["score", out, str(tmp_path / "x.csv"), "-o", str(tmp_path / "s.csv")]) == 0
    assert np.isfinite(pd.read_csv(tmp_path / "s.csv")["log_prob"]).all()


@pytest.mark.parametrize("kind", ["data", "noise", "score", "v"])
def test_every_prediction_starts_from_the_baseline_of_a_small_table(kind, tmp_path):
    out = str(tmp_path / "run")
    network = ["--network", "mlp,width=16,depth=2"]
    small = ["--steps", "3", "--rows", "100", "--folds", "2", "--no-report", *network]
    assert main(["train", "moons", "--prediction", kind, "--out", out, *small]) == 0
    flow = pushforward.load(out)
    assert flow.source.is_white(1.0) and flow.score(0.5, torch.zeros(1, 2)).isfinite().all()


def test_double_precision_is_kept(tmp_path):
    out = tmp_path / "run"
    assert main(["train", "moons", "--precision", "64-true", "--out", str(out), *SMALL]) == 0
    flow = pushforward.load(out)
    assert {p.dtype for p in flow.parameters()} == {torch.float64}
    assert flow.sample(2).dtype == torch.float64


def test_own_components_are_found_in_the_working_folder(tmp_path):
    (tmp_path / "my_solvers.py").write_text("from pushforward import Euler as Mine\n")
    command = [
        sys.executable,
        "-c",
        "import sys; from pushforward.cli import main; sys.exit(main(sys.argv[1:]))",
    ]
    arguments = ["train", "moons", "--solver", "my_solvers:Mine,steps=2", "--out", "run", *SMALL]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
