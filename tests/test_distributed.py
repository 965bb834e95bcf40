"""Two processes do what one does: same draws, same losses, same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import forks
import pushforward
from pushforward.data import load
from pushforward.flows import nsf

SMALL = "--steps 12 --batch 91 --rows 200 --no-report --log-every 1 --folds 0 --patience 0".split()
NETWORK = ["--network", "mlp,width=16,depth=2"]


def train(folder, *flags: str) -> subprocess.CompletedProcess[str]:
    flags = flags if "maf" in flags else (*NETWORK, *flags)
    if "2" not in flags:
        return forks.run("train", "moons", "--out", str(folder), *SMALL, *flags)
    command = [
        sys.executable,
        "-m",
        "pushforward.cli",
        "train",
        "moons",
        "--out",
        str(folder),
        *SMALL,
        *flags,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


#: In float32 the descent of a likelihood multiplies the roundings of half a batch, to 5e-6 in 12 steps, and
#: that of a pseudo-Huber loss to 2e-6.
DOUBLE = ("--precision", "64-true")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a process needs a core: --devices 2 is refused on one")
@pytest.mark.parametrize(
    "flags",
    [
        (),
        pytest.param(("--condition", "label", "--method", "ot-cfm"), marks=pytest.mark.thorough),
        pytest.param(("--method", "ssm"), marks=pytest.mark.thorough),
        pytest.param(("--method", "ddpm"), marks=pytest.mark.thorough),
        pytest.param(("--method", "cnf", "--strategy", "ddp", *DOUBLE), marks=pytest.mark.thorough),
        pytest.param(("--method", "ffjord", "--kinetic", "0.1", *DOUBLE), marks=pytest.mark.thorough),
        pytest.param(("--method", "flow-map"), marks=pytest.mark.thorough),
        pytest.param(("--method", "meanflow", "--condition", "label"), marks=pytest.mark.thorough),
        pytest.param(("--method", "shortcut"), marks=pytest.mark.thorough),
        pytest.param(("--method", "consistency", *DOUBLE), marks=pytest.mark.thorough),
    ],
    ids=[
        *("independent", "conditional optimal transport", "slices", "ddpm", "solver", "estimated divergence"),
        *("derivative in time", "derivative along pairs", "averaged targets", "levels"),
    ],
)
def test_two_processes_equal_one(tmp_path, flags):
    for devices in ("1", "2"):
        done = train(tmp_path / devices, "--devices", devices, *flags)
        assert done.returncode == 0, done.stderr
    one, two = (
        [json.loads(line) for line in (tmp_path / d / "metrics.jsonl").read_text().splitlines()] for d in "12"
    )
    assert [row["step"] for row in one if "loss" in row] == list(range(1, 13))
    assert len(one) == len(two)
    assert (tmp_path / "1" / "choice.json").exists() == (tmp_path / "2" / "choice.json").exists()
    for a, b in zip(one, two):
        for key in ("loss", "val_loss", "grad_norm"):
            assert (key in a) == (key in b)
            assert a.get(key, 0.0) == pytest.approx(b.get(key, 0.0), rel=1e-6, abs=1e-6)
    for name in ("model.safetensors", "ema.safetensors"):
        first, second = (load_file(tmp_path / d / name) for d in "12")
        for key, value in first.items():
            assert (value - second[key]).abs().max() < 1e-6
    assert json.loads((tmp_path / "2" / "run.json").read_text())["processes"] == 2


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a process needs a core: --devices 2 is refused on one")
@pytest.mark.thorough
def test_two_processes_cross_validate_as_one_does(tmp_path):
    found = []
    for devices in ("1", "2"):
        done = train(
            tmp_path / devices, "--devices", devices, "--method", "maf", "--folds", "2", "--patience", "3"
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / devices / "choice.json").read_text()))
    assert found[0]["steps"] == found[1]["steps"]
    for a, b in zip(found[0]["curve"], found[1]["curve"]):
        assert a["val_nll"] == pytest.approx(b["val_nll"], abs=1e-4)


def test_more_processes_than_the_machine_has_are_refused(tmp_path):
    done = train(tmp_path / "run", "--devices", "4096")
    assert done.returncode == 2 and "--devices 4096" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_one_process_is_not_asked_to_meet_others(tmp_path):
    """What the environment says, and that there is no group, is checked after every test."""
    short = {"rows": 64, "steps": 2, "folds": 0, "network": "mlp,width=4,depth=1", "source": "normal"}
    pushforward.train("moons", out=str(tmp_path / "run"), strategy="ddp", show_progress=False, **short)
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_batch_in_two_parts_trains_a_spline_flow_as_the_whole_does():
    """No operation of the flow amplifies rounding: at a small rate it stays what it is.

    The bound is twenty times the 6e-17 that 30 steps showed; at a rate of 1e-2 they come to 4e-15.
    """
    x = load("moons", rows=500).train.x.double()

    def trained(parts: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        flow = nsf((2,), layers=2, width=16).double()
        optimiser = torch.optim.AdamW(flow.parameters(), 1e-4, betas=(0.9, 0.99))
        draw = torch.Generator().manual_seed(0)
        for _ in range(30):
            batch = x[torch.randint(len(x), (64,), generator=draw)]
            optimiser.zero_grad()
            for part in batch.chunk(parts):
                (-flow.log_prob(part).mean() / parts).backward()
            optimiser.step()
        return [p.detach() for p in flow.parameters()]

    apart = max((a - b).abs().max() for a, b in zip(trained(1), trained(2)))
    assert 0 < apart < 1.2e-15
