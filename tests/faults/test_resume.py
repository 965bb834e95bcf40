"""What goes on is what was begun: the same data, one process, rows of metrics once, signals that save."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from effort import first
from pushforward.cli import main
from pushforward.cli.program import Signals
from pushforward.training.interrupt import Interrupt

TINY = ["--network", "mlp,width=8,depth=1", "--batch", "16", "--source", "normal", "--folds", "0"]
TINY += ["--checkpoint-every", "5", "--log-every", "1", "--no-report"]


def table(rows: int = 80, seed: int = 0) -> pd.DataFrame:
    g = np.random.default_rng(seed)
    frame = pd.DataFrame({"size": g.normal(size=rows), "age": g.integers(0, 90, rows), "w": g.random(rows)})
    frame["kind"] = g.choice(["a", "b"], rows)
    return frame


def train(frame: pd.DataFrame | None, folder: Path, *flags: str) -> int:
    file = folder / "table.csv"
    if frame is not None:
        frame.to_csv(file, index=False)
    command = ["train", str(file), "--condition", "kind", "--sample-weight", "w", *TINY, *flags]
    return main([*command, "--out", str(folder / "run")])


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


# -- the data ----------------------------------------------------------------------------------------

CHANGES = {
    "a value": (
        lambda t: t.assign(size=t["size"].where(t.index != 70, 1.5)),
        "column 'size' has other values",
    ),
    "a last digit": (lambda t: t.assign(size=t["size"] * (1 + 1e-15)), "column 'size' has other values"),
    "rows fewer": (lambda t: t.iloc[:-5], "training rows instead of 64"),
    "rows in another order": (lambda t: t.iloc[::-1], "has other values"),
    "a column more": (lambda t: t.assign(height=t["size"] ** 2), "column 'height' is new"),
    "a column less": (lambda t: t.drop(columns="age"), "column 'age' is gone"),
    "a column renamed": (
        lambda t: t.rename(columns={"age": "years"}),
        "column 'age' is gone; column 'years' is new",
    ),
    "columns swapped": (lambda t: t[["age", "size", "w", "kind"]], "another order"),
    "whole numbers as others": (
        lambda t: t.assign(age=t["age"] + 0.5),
        "column 'age' holds other kinds of numbers",
    ),
    "conditions": (lambda t: t.assign(kind=t["kind"].replace("b", "c")), "condition"),
    "weights": (lambda t: t.assign(w=t["w"] + 1.0), "the weights has other values"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_data_are_refused_by_name_of_what_changed(change, tmp_path, capsys):
    assert train(table(), tmp_path, "--steps", "4") == 0
    before = snapshot(tmp_path / "run")
    capsys.readouterr()
    edit, says = CHANGES[change]
    assert train(edit(table()), tmp_path, "--steps", "8") == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1, error
    assert snapshot(tmp_path / "run") == before
    assert train(table(), tmp_path, "--steps", "8") == 0


def test_the_same_data_under_another_path_go_on(tmp_path):
    assert train(table(), tmp_path, "--steps", "4") == 0
    (tmp_path / "table.csv").rename(tmp_path / "moved.csv")
    command = ["train", str(tmp_path / "moved.csv"), "--condition", "kind", "--sample-weight", "w", *TINY]
    assert main([*command, "--steps", "8", "--out", str(tmp_path / "run")]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["target"] == str(tmp_path / "moved.csv") and config["optim"]["steps"] == 8


def test_a_changed_source_and_a_changed_teacher_are_refused(tmp_path, capsys):
    for name, seed in (("from.csv", 1), ("to.csv", 2)):
        table(seed=seed)[["size", "age"]].to_csv(tmp_path / name, index=False)
    flags = [flag for flag in TINY if flag not in ("--source", "normal")]
    moved = ["train", str(tmp_path / "to.csv"), "--source", str(tmp_path / "from.csv"), *flags]
    moved += ["--out", str(tmp_path / "run")]
    assert main([*moved, "--steps", "4"]) == 0
    table(seed=3)[["size", "age"]].to_csv(tmp_path / "from.csv", index=False)
    assert main([*moved, "--steps", "8"]) == 2
    assert "the source is another one" in capsys.readouterr().err
    teach = ["train", str(tmp_path / "to.csv"), *TINY, "--steps", "4", "--out", str(tmp_path / "teacher")]
    learn = [
        "train",
        str(tmp_path / "to.csv"),
        *flags,
        "--pairs",
        "64",
        "--teacher",
        str(tmp_path / "teacher"),
    ]
    learn += ["--distil", "--out", str(tmp_path / "pupil")]
    assert main(teach) == 0 and main([*learn, "--steps", "4"]) == 0
    assert main([*teach, "--seed", "1", "--overwrite"]) == 0
    capsys.readouterr()
    assert main([*learn, "--steps", "8"]) == 2
    assert "the teacher is another one" in capsys.readouterr().err


# -- metrics -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail", ['{"step": 9, "loss"', '{"step": 9, "loss": 1.0}\n{"st', '{"step": 9, "loss": 1.0}\n', "\n\n"]
)
def test_no_row_of_the_metrics_is_there_twice_or_glued_to_a_torn_one(tail, tmp_path):
    """Rows beyond the last checkpoint are of steps that are done again."""
    assert train(table(), tmp_path, "--steps", "4") == 0
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write(tail)
    assert train(table(), tmp_path, "--steps", "8") == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 9))


def test_rows_of_a_training_that_came_to_no_checkpoint_are_cut_back_to_nothing(tmp_path):
    assert train(table(), tmp_path, "--steps", "4") == 0
    for name in ("state.safetensors", "run.json", "model.safetensors", "ema.safetensors"):
        (tmp_path / "run" / name).unlink()
    assert train(table(), tmp_path, "--steps", "4") == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]


# -- processes ---------------------------------------------------------------------------------------


def start(folder: Path, *flags: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pushforward", "train", "moons", "--rows", "200", *TINY]
    command += ["--steps", "1000000", "--out", str(folder), *flags]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **options
    )
    deadline = time.monotonic() + 120
    while not _trains(folder, process.pid) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


def _trains(folder: Path, process: int) -> bool:
    """Whether the process has the lock and has come to a checkpoint."""
    lock = folder / "run.lock"
    return (
        lock.exists()
        and f'"process": {process},' in lock.read_text()
        and (folder / "state.safetensors").exists()
    )


def test_one_training_per_folder_and_the_second_says_who_has_it(tmp_path, capsys):
    out = tmp_path / "run"
    process = start(out)
    same = ["train", "moons", "--rows", "200", *TINY, "--steps", "1000000", "--out", str(out)]
    try:
        for command in (same, [*same, "--overwrite"]):
            assert main(command) == 2
            error = capsys.readouterr().err
            assert f"is being trained by process {process.pid} on " in error and error.count("\n") == 1
        assert process.poll() is None and (out / "state.safetensors").exists()
    finally:
        process.kill()
        process.communicate()
    # a lock whose process is gone is none
    with pytest.warns(UserWarning, match="not finished"):
        import pushforward

        pushforward.load(out)
    again = start(out)
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    assert again.returncode == 130


def test_a_signal_that_an_import_has_lost_ends_the_training():
    """An exception of a signal can be swallowed by a library; the training then knows of the signal."""
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signals = Signals()
    try:
        signals.watch()
        with Interrupt() as interrupt:
            assert not interrupt.requested
        with pytest.raises(KeyboardInterrupt):  # here is where the library has its "except"
            signal.raise_signal(signal.SIGINT)
        with Interrupt() as interrupt:
            assert interrupt.requested
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)


@pytest.mark.parametrize("name", first(["SIGTERM", "SIGINT", "SIGHUP"]))
def test_signals_save(name, tmp_path):
    process = start(tmp_path / "run")
    process.send_signal(getattr(signal, name))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command continues it" in error and "Traceback" not in error
    step = json.loads((tmp_path / "run" / "run.json").read_text())["step"]
    assert step > 0 and f"stopped at step {step} " in error.replace(",", "")
    assert load_file(tmp_path / "run" / "state.safetensors")


@pytest.mark.thorough
def test_who_is_told_to_ignore_a_closed_terminal_does(tmp_path):
    """As nohup does."""
    process = start(tmp_path / "run", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_after_a_hard_kill_the_newest_checkpoint_is_used_and_said(tmp_path, capsys):
    out = tmp_path / "run"
    process = start(out)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "run.json").exists()
    for command in (
        ["sample", str(out), "-n", "5", "-o", str(tmp_path / "x.csv")],
        ["score", str(out), "moons", "-o", str(tmp_path / "s.csv")],
    ):
        assert main(command) == 0
        assert "not finished: these are the weights of step" in capsys.readouterr().err
    assert main(["info", str(out)]) == 0
    assert "no; the same command continues it" in capsys.readouterr().out


# -- folders of others -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", ['{"learning_rate": 1}', "{", "[]", '{"format": 1}', '{"format": "one", "target": "x"}']
)
def test_overwrite_touches_no_folder_that_is_not_a_run(config, tmp_path, capsys):
    out = tmp_path / "theirs"
    (out / "figures").mkdir(parents=True)
    (out / "state").mkdir()
    (out / "config.json").write_text(config)
    (out / "figures" / "thesis.png").write_bytes(b"theirs")
    (out / "state" / "notes.txt").write_text("theirs")
    before = snapshot(out)
    for flags in ([], ["--overwrite"]):
        assert main(["train", "moons", *TINY, "--steps", "2", "--out", str(out), *flags]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert snapshot(out) == before


def test_overwrite_keeps_what_a_run_has_not_written(tmp_path):
    out = tmp_path / "run"
    command = ["train", "moons", "--rows", "64", *TINY, "--steps", "2", "--out", str(out)]
    assert main(command) == 0
    (out / "notes.txt").write_text("mine")
    (out / "figures").mkdir()
    (out / "figures" / "mine.png").write_bytes(b"mine")
    assert main([*command, "--overwrite"]) == 0
    assert (out / "notes.txt").read_text() == "mine" and (
        out / "figures" / "mine.png"
    ).read_bytes() == b"mine"


def test_a_folder_that_a_killed_command_left_is_begun_anew(tmp_path):
    """With a lock and half-written files alone, whatever they are called."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.lock").write_text('{"format": 1, "process": 1, "host": "gone", "since": "long ago"}\n')
    (out / ".config.0a1b2c3d.partial.json").write_text('{"form')
    (out / ".state.00000000.partial.safetensors").write_bytes(b"\0")
    (out / "data.json").write_text('{"schema": ')
    assert main(["train", "moons", "--rows", "64", *TINY, "--steps", "2", "--out", str(out)]) == 0
    assert not [name for name in os.listdir(out) if name.startswith(".")]


@pytest.mark.parametrize("flags", [["--seed", "1"], ["--prediction", "data"], ["--rows", "201"]])
def test_the_state_of_another_run_of_the_same_shapes_is_refused(flags, tmp_path, capsys):
    for name, own in (("run", []), ("other", flags)):
        command = [
            "train",
            "moons",
            "--rows",
            "200",
            *TINY,
            *own,
            "--steps",
            "6",
            "--out",
            str(tmp_path / name),
        ]
        assert main(command) == 0
    state = "state.safetensors"
    (tmp_path / "run" / state).write_bytes((tmp_path / "other" / state).read_bytes())
    (tmp_path / "run" / "run.json").unlink()
    capsys.readouterr()
    again = ["train", "moons", "--rows", "200", *TINY, "--steps", "6", "--out", str(tmp_path / "run")]
    for command in (again, ["sample", str(tmp_path / "run"), "-o", str(tmp_path / "x.csv")]):
        assert main(command) == 2
        assert "is of another run" in capsys.readouterr().err


def test_a_run_that_is_interrupted_before_its_first_step_loads_and_goes_on(tmp_path, monkeypatch):
    from pushforward.training import trainer

    command = ["train", "moons", "--rows", "64", *TINY, "--steps", "4", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_stop", lambda self, interrupt: True)
        assert main(command) == 130
    assert main(["sample", str(tmp_path / "run"), "-n", "3", "-o", str(tmp_path / "x.csv")]) == 0
    assert main(command) == 0
