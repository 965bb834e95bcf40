"""Values that no command can use: one line that names the flag, exit status 2, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_lines import Outcome, flags, kind_of, outcome

import pushforward
from pushforward.cli.commands import COMMANDS
from pushforward.training.processes import MEETING, STARTERS


@pytest.fixture(autouse=True)
def no_starter(monkeypatch):
    """What a training on several processes has told this process is forgotten."""
    for name in (*STARTERS, *MEETING):
        monkeypatch.delenv(name, raising=False)


HUGE = "1" + "0" * 30
LONG = "a" * 300
#: Arguments, and what the line says.
REFUSED = [
    ("train moons --steps 1e30", "--steps: expected a whole number, got '1e30'"),
    (f"train moons --steps {HUGE}", "--steps: expected at most 1,000,000,000, got about 1e+30"),
    ("train moons --steps 0", "--steps: expected at least 1"),
    ("train moons --threads 100000", "--threads 100000: this machine has"),
    ("train moons --threads 0", "--threads: expected at least 1"),
    ("train moons --device foo", "--device foo: expected auto, cpu"),
    ("train moons --device cuda:99", "--device cuda:99: this machine has"),
    ("train moons --devices 100000", "--devices: expected at most"),
    ("train moons --devices 4000", "--devices 4000: this machine has"),
    (
        "train moons --nodes 5",
        "--nodes 5: MASTER_ADDR, MASTER_PORT, NODE_RANK not set; run the same command on each",
    ),
    ("train moons --precision foo", "--precision: expected one of 32-true"),
    ("train moons --strategy foo", "--strategy: expected one of auto, ddp, fsdp"),
    ("train moons --strategy fsdp --device cpu", "--strategy fsdp: is for CUDA devices"),
    ("train moons --precision 16-mixed --device cpu", "--precision 16-mixed: is for CUDA devices"),
    ("train moons --seed -1", "--seed: expected at least 0"),
    (f"train moons --seed {HUGE}", "--seed: expected at most"),
    ("train moons --seed x", "--seed: expected a whole number, got 'x'"),
    ("train moons --batch 1000000000000", "--batch: expected at most 1,000,000"),
    ("train moons --lr inf", "--lr: expected a number in (0, 10], got inf"),
    ("train moons --lr 0", "--lr: expected a number in (0, 10]"),
    ("train moons --lr x", "--lr: expected a number, got 'x'"),
    ("train moons --ema 1", "--ema: expected a number in [0, 1), got 1"),
    ("train moons --guidance nan", "--guidance: expected a number in [-1000, 1000], got nan"),
    ("train moons --guidance 2", "--guidance 2: guidance needs a condition; give --condition"),
    ("train moons --guidance 2 --condition label --drop-condition 0", "--guidance 2 and --drop-condition 0"),
    ("train moons --guidance 2 --method maf", "--guidance 2: --method maf takes none"),
    ("train moons --drop-condition 1", "--drop-condition: expected a number in [0, 1)"),
    ("train moons --folds 1000000000", "--folds: expected at most 1,000"),
    (
        "train moons --rows 100 --folds 60",
        "--folds 60: expected at least 2 training rows a fold, so at most 50",
    ),
    ("train moons --rows 1000000000000", "--rows: expected at most 1,000,000"),
    ("train moons --resize 1000000000", "--resize: expected at most 4,096"),
    ("train moons --plan 0", "--plan: expected at least 1"),
    ("train moons --reuse 0", "--reuse: expected at least 1"),
    ("train moons --pairs 1", "--pairs: expected at least 32"),
    ("train moons --log-every 0", "--log-every: expected at least 1"),
    ("train moons --checkpoint-every 0", "--checkpoint-every: expected at least 1"),
    ("train moons --warmup 1000000000000", "--warmup: expected at most"),
    ("train moons --patience -1", "--patience: expected at least 0"),
    ("train moons --holdout nan", "--holdout: expected a number in [0, 0.9]"),
    ("train moons --validation 0.95", "--validation: expected a number in [0, 0.9]"),
    ("train moons --minutes inf", "--minutes: expected a number in (0, 525600]"),
    ("train moons --minutes 0", "--minutes: expected a number in (0, 525600]"),
    ("train moons --noise nan", "--noise: expected a number, auto or scott"),
    ("train moons --noise foo", "--noise: expected a number, auto or scott"),
    ("train moons --noise 1e9", "--noise: expected a number in [0, 100]"),
    ("train moons --gamma 1e9", "--gamma: expected a number in [0, 1000]"),
    ("train moons --jitter nan", "--jitter: expected a number in [0, 100]"),
    ("train moons --clip -1", "--clip: expected a number in [0, 1e+09]"),
    ("train moons --times foo", "unknown times 'foo'"),
    ("train moons --weighting foo", "unknown weighting 'foo'"),
    ("train moons --prediction foo", "--prediction"),
    ("train moons --stepss 4", "--stepss"),
    ("train moons --step 4", "--step"),
    ("train moons digits", "digits"),
    ("train moons --steps", "--steps"),
    ("train moons --condition a --condition b", "--condition: given twice"),
    ("train moons --out /dev/null", "--out /dev/null: expected a folder, and a file is there"),
    ("train moons --out /dev/null/x", "--out /dev/null/x: expected folders above it"),
    (f"train moons --out {LONG}", "--out: expected names of at most 255 bytes, got one of 300"),
    ("sample RUN -n 0", "-n: expected at least 1, got 0"),
    ("sample RUN -n 1e3", "-n: expected a whole number, got '1e3'"),
    (f"sample RUN -n {HUGE}", "-n: expected at most"),
    ("sample RUN --guidance inf", "--guidance: expected a number"),
    ("sample RUN --seed -1", "--seed: expected at least 0"),
    ("sample RUN -o /dev", "--out /dev: expected a file, and a folder is there"),
    ("report RUN --samples 0", "--samples: expected at least 5"),
    (f"report RUN --samples {HUGE}", "--samples: expected at most"),
    ("score RUN x.csv --bound-samples 0", "--bound-samples: expected at least 1"),
    ("score RUN x.csv --flag-below 0.5", "--flag-below: expected a number in (0, 0.5)"),
    ("methods foo", "foo"),
    ("datasets --foo", "--foo"),
    (f"foo{LONG}", "unknown command 'foo"),
]


def refused(done: Outcome, says: str) -> None:
    assert done.status == 2, (done.status, done.error)
    assert len(done.lines) == 1 and done.error.startswith("pushforward: "), done.error
    assert says in done.error and len(done.error) < 1100, done.error
    assert done.left == []


@pytest.mark.parametrize(("command", "says"), REFUSED, ids=[command[:60] for command, _ in REFUSED])
def test_a_value_out_of_bounds_is_refused(tmp_path: Path, command: str, says: str) -> None:
    refused(outcome(command.split(), tmp_path), says)


#: What is no text, and what is said of it.
NO_TEXT = {
    "": "expected a value, got an empty text",
    " ": "expected a value, got an empty text",
    "a\nb": "with the character '\\n'",
    "a\0b": "with the character '\\x00'",
    "a\udcff": "expected text in UTF-8",
    "z" * 5000: "expected at most 4,096 characters, got 5,000",
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_texts_that_are_none_are_refused_by_every_flag(tmp_path: Path, command: str) -> None:
    known = flags(command)
    before = ["x" for flag in known if flag.positional]
    for flag in known:
        if flag.positional or kind_of(flag.hint) is bool:
            continue
        name = f"--{flag.name.replace('_', '-')}"
        for text, says in NO_TEXT.items():
            refused(outcome([command, *before, name, text], tmp_path), f"{name}: ")
            refused(outcome([command, *before, f"{name}={text}"], tmp_path), says)
    for text, says in NO_TEXT.items():
        refused(outcome([command, *before, text], tmp_path), says)


KEYWORDS = [
    ({"lr": float("inf")}, "lr: expected a number in (0, 10], got inf"),
    ({"ema": 1}, "ema: expected a number in [0, 1), got 1"),
    ({"steps": 10**30}, "steps: expected at most 1,000,000,000, got about 1e+30"),
    ({"steps": True}, "steps: expected a whole number, got True"),
    ({"steps": "10"}, "steps: expected a whole number, got '10'"),
    ({"guidance": 2.0}, "guidance 2: guidance needs a condition; give condition"),
    ({"threads": 10**6}, "threads 1000000: this machine has"),
    ({"folds": 150}, "folds 150: expected at least 2 training rows a fold"),
    ({"compile": "yes"}, "compile: expected True or False, got 'yes'"),
    ({"prediction": "foo"}, "prediction: expected velocity or data or noise or score or v, got 'foo'"),
    ({"network": ""}, "network: expected a value, got an empty text"),
    ({"condition": [""]}, "condition: expected a value, got an empty text"),
    ({"device": None}, "device: expected a text, got None"),
    ({"out": ""}, "out: expected a value, got an empty text"),
    ({"out": "/dev/null"}, "out /dev/null: expected a folder, and a file is there"),
    ({"nodes": 2}, "nodes 2: MASTER_ADDR, MASTER_PORT, NODE_RANK not set"),
]


@pytest.mark.parametrize(("settings", "says"), KEYWORDS, ids=[says[:40] for _, says in KEYWORDS])
def test_python_speaks_of_keywords(tmp_path: Path, monkeypatch, settings: dict[str, Any], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        pushforward.train("moons", **{"rows": 100, "show_progress": False, **settings})
    assert str(caught.value).startswith(says), caught.value
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "nodes", [("2", "x", "0"), ("2", "29500", "2"), ("2", "29500", "-1"), ("2", "70000", "0")]
)
def test_machines_that_cannot_meet_are_refused(
    tmp_path: Path, monkeypatch, nodes: tuple[str, str, str]
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", nodes[1])
    monkeypatch.setenv("NODE_RANK", nodes[2])
    refused(outcome(["train", "moons", "--nodes", nodes[0]], tmp_path), "--nodes 2: expected ")


@pytest.mark.parametrize("command", sorted(COMMANDS))
@pytest.mark.parametrize("columns", ["20", "1", "0", "10000", "abc", "-5"])
def test_help_can_be_read_at_any_width(capsys, monkeypatch, command: str, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    from pushforward.cli import main

    assert main([command, "--help"]) == 0
    assert os.environ["COLUMNS"] == columns
    printed = capsys.readouterr().out
    assert "usage: pushforward" in printed and max(map(len, printed.splitlines())) <= 200
    words = [word for line in printed.splitlines() for word in line.strip("│ ").split()]
    assert sum(len(word) == 1 for word in words) < 0.2 * len(words), "words are cut letter by letter"
    assert len(printed.splitlines()) < 400


def program(shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a shell of its own; P is the program."""
    env = {**os.environ, "P": f"{sys.executable} -m pushforward", **environment}
    return subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=120, env=env)


@pytest.mark.parametrize(
    ("shell", "status", "says"),
    [
        ("set -o pipefail; $P methods | true", (0, 141), ""),
        ("$P train --help | true; exit ${PIPESTATUS[0]}", (0, 141), ""),
        ("$P methods > /dev/full", (2,), "pushforward: standard output: No space left on device\n"),
        ("$P --help > /dev/full", (2,), "pushforward: standard output: No space left on device\n"),
        ("$P train --help > /dev/full", (2,), "pushforward: standard output: No space left on device\n"),
        ("$P methods >&-", (0,), ""),
        ("$P methods foo 2> /dev/full", (2,), ""),
        ("$P methods foo 2>&-", (2,), ""),
        ("LC_ALL=C PYTHONIOENCODING=ascii $P methods", (0,), ""),
        ("LC_ALL=C PYTHONIOENCODING=ascii $P train --help", (0,), ""),
        (
            "LC_ALL=C PYTHONIOENCODING=ascii $P train mööns --lr 0",
            (2,),
            "pushforward: --lr: expected a number",
        ),
    ],
)
def test_streams_that_are_gone_or_narrow(shell: str, status: tuple[int, ...], says: str) -> None:
    done = program(shell)
    assert done.returncode in status, done
    assert done.stderr.startswith(says) and done.stderr.count("\n") == (1 if says else 0), done.stderr


@pytest.mark.thorough
def test_memory_that_is_short_is_one_line(tmp_path: Path) -> None:
    """In a process that may take little, a training ends by the allocator."""
    limited = (
        f"ulimit -v 6000000; cd {tmp_path}; OMP_NUM_THREADS=1 $P train moons --rows 1000 --batch 1000000 "
    )
    done = program(
        limited + "--network mlp,width=512,depth=4 --source normal --folds 0 --no-report --steps 2"
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert "not enough memory" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
