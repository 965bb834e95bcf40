"""What people do in their first minutes with the command line, each as they type it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

import pushforward
from pushforward.cli import main
from pushforward.cli.commands import COMMANDS
from pushforward.config import RunConfig
from pushforward.data import load, read_rows
from pushforward.flows.divergence import divergence
from pushforward.nn import MLP
from pushforward.recipes import open_run
from pushforward.training.devices import find_device

QUICK = ["--steps", "5", "--batch", "32", "--network", "mlp,width=8,depth=1", "--no-report"]
QUICK += ["--source", "normal", "--folds", "0"]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A table with two measured columns and others that are none: codes, dates, notes, empty cells."""
    g = np.random.default_rng(0)
    lines = ["code,length,mass,found,note"]
    for i in range(60):
        note = ['"grey, spotted"', "", "NA"][i % 3]
        lines.append(f"{i:05d},{g.normal(5, 1):.3f},{g.normal(1, 0.1):.2f}0,2024-03-{i % 28 + 1:02d},{note}")
    path = tmp_path_factory.mktemp("data") / "birds.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run(table, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "birds run"
    assert main(["train", str(table), "--columns", "length", "mass", "--out", str(out), *QUICK]) == 0
    return out


def fails(capsys, *arguments: str, says: str) -> None:
    """Status 2, one line that says so, nothing on standard output."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1 and says in err, err


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd)


# -- python -m pushforward ---------------------------------------------------------------------------


def test_the_module_runs_as_the_command_does():
    done = python("-m", "pushforward", "--help")
    assert done.returncode == 0 and all(name in done.stdout for name in COMMANDS)
    wrong = python("-m", "pushforward", "smaple")
    assert wrong.returncode == 2 and "did you mean 'sample'" in wrong.stderr


# -- info --------------------------------------------------------------------------------------------


def test_info_says_what_a_run_is_and_which_commands_follow(run, capsys, tmp_path, monkeypatch):
    capsys.readouterr()
    assert main(["info", str(run)]) == 0
    out = capsys.readouterr().out
    said = dict(line.split(None, 1) for line in out.splitlines())
    flow = pushforward.load(run)
    assert said["parameters"] == f"{sum(p.numel() for p in flow.parameters()):,}"
    assert said["row"] == "2 columns: length, mass" and "48 rows to train on, 12 held out" in said["data"]
    assert said["method"] == "fm" and said["steps"].startswith("5")
    commands = [line.split(None, 1)[1] for line in out.splitlines() if line.startswith("then")]
    assert [shlex.split(command)[1] for command in commands] == ["sample", "score", "report"]
    monkeypatch.chdir(tmp_path)
    for command in commands[:2]:
        assert main(shlex.split(command)[1:]) == 0
    assert len(pd.read_csv(tmp_path / "samples.csv")) == 1000
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 60


def test_info_tells_the_figures_of_the_report(run, capsys, tmp_path):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    numbers = {
        "verdict": [],
        "sentence": "It has learnt.",
        "density": [{"key": "model", "mean": -1.25, "error": 0.03125}],
    }
    (copy / "report.json").write_text(json.dumps(numbers))
    assert main(["info", str(copy)]) == 0
    out = capsys.readouterr().out
    assert "-1.250 +- 0.031 nats per row" in out and "It has learnt." in out


def test_info_of_a_run_that_has_not_begun_to_train(run, capsys, tmp_path):
    for name in ("config.json", "data.json"):
        (tmp_path / name).write_text((run / name).read_text())
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "no; the same command continues it" in out and "then" not in out


# -- score --keep ------------------------------------------------------------------------------------


def test_scores_stand_beside_all_columns_as_they_were(run, table, tmp_path):
    assert main(["score", str(run), str(table), "--keep", "-o", str(tmp_path / "kept.csv")]) == 0
    assert main(["score", str(run), str(table), "-o", str(tmp_path / "alone.csv")]) == 0
    before, after = table.read_text().splitlines(), (tmp_path / "kept.csv").read_text().splitlines()
    alone = (tmp_path / "alone.csv").read_text().splitlines()
    assert after == [f"{row},{score}" for row, score in zip(before, alone)]


def test_scores_beside_a_parquet_file_keep_its_types(run, table, tmp_path):
    frame = pd.read_csv(table, dtype={"code": str}).assign(found=pd.Timestamp("2024-03-01"))
    frame.iloc[::-1].to_parquet(tmp_path / "birds.parquet", index=False)
    out = tmp_path / "kept.parquet"
    flags = ["--keep", "--flag-below", "0.2"]
    assert main(["score", str(run), str(tmp_path / "birds.parquet"), *flags, "-o", str(out)]) == 0
    kept, given = pd.read_parquet(out), pd.read_parquet(tmp_path / "birds.parquet")
    assert list(kept.columns) == [*given.columns, "log_prob", "flag"]
    pd.testing.assert_frame_equal(kept.filter(given.columns), given)
    x = torch.tensor(given[["length", "mass"]].to_numpy())
    assert np.allclose(kept["log_prob"], pushforward.load(run).log_prob(x), atol=1e-5)
    # the other way round: text from a Parquet file
    text = tmp_path / "kept.csv"
    assert main(["score", str(run), str(tmp_path / "birds.parquet"), "--keep", "-o", str(text)]) == 0
    read = pd.read_csv(text, dtype={"code": str})
    assert read["code"].tolist() == given["code"].tolist() and len(read.columns) == 6


def test_what_cannot_be_kept_is_refused(run, table, tmp_path, capsys):
    kept = tmp_path / "kept.csv"
    assert main(["score", str(run), str(table), "--keep", "-o", str(kept)]) == 0
    again = ["score", str(run), str(kept), "--keep", "-o", str(tmp_path / "again.csv")]
    fails(capsys, *again, says="'log_prob' already")
    fails(capsys, "score", str(run), str(table), "-o", str(tmp_path / "x.xlsx"), says=".parquet")


# -- devices -----------------------------------------------------------------------------------------


def test_a_device_that_is_not_there_is_one_line(run, table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = ["-o", str(tmp_path / "x.csv")]
    for command in (["sample", str(run), *out], ["score", str(run), str(table), *out], ["report", str(run)]):
        fails(capsys, *command, "--device", "cuda", says="--device cuda: this machine has no cuda device")
    push = ["push", str(run), str(table), *out]
    fails(capsys, *push, "--device", "tpu", says="expected auto, cpu, cuda, mps")
    train = ["train", str(table), "--columns", "length", "mass", "--out", str(tmp_path / "run"), *QUICK]
    fails(capsys, *train, "--device", "cuda", says="--device cuda: this machine has no cuda device")
    assert not (tmp_path / "x.csv").exists() and not (tmp_path / "run").exists()


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("auto").type == "cuda" and find_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="cuda:2: this machine has 2 of cuda"):
        find_device("cuda:2")


@pytest.mark.parametrize("old, new", [("auto", "auto"), ("cpu", "cpu"), ("gpu", "cuda")])
def test_runs_of_older_versions_still_open(run, tmp_path, old, new):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    del config["compute"]["device"]
    config["compute"]["accelerator"] = old
    (copy / "config.json").write_text(json.dumps(config))
    assert open_run(copy).config.compute.device == new
    assert RunConfig.from_json(config).to_json()["compute"]["device"] == new


# -- imports -----------------------------------------------------------------------------------------


def test_sampling_and_scoring_import_only_what_they_use(run, table, tmp_path):
    heavy = ("scipy", "sklearn", "pandas", "matplotlib", "lightning_fabric", "ot", "PIL", "torch._dynamo")
    code = "import sys; from pushforward.cli import main; assert main(sys.argv[1:]) == 0; "
    code += f"print(*(name for name in {heavy} if name in sys.modules))"
    for command in (["sample", str(run), "-n", "3"], ["score", str(run), str(table)]):
        done = python("-c", code, *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "", done.stdout


@pytest.mark.parametrize("chunk", [None, 2])
def test_divergences_without_a_graph_are_those_with_one(chunk):
    """Bit for bit; and they hold no graph, so that memory does not grow with the steps of a solver."""
    torch.manual_seed(0)
    net, x = MLP(3), torch.randn(7, 3)
    for parameter in net.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))

    def field(x: torch.Tensor) -> torch.Tensor:
        return net(torch.full((7,), 0.3), x)

    with_graph = divergence(field, x, chunk)
    assert all(part.requires_grad for part in with_graph)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            without = divergence(field, x, chunk)
        assert not any(part.requires_grad for part in without)
        assert all(torch.equal(a, b) for a, b in zip(with_graph, without))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: net(torch.tensor([0.3]), row[None])[0]))(x)
    assert torch.allclose(with_graph[1], jacobian.diagonal(dim1=1, dim2=2).sum(1), atol=1e-6)
    # a tensor of inference mode in the field, which autograd does not take
    with torch.inference_mode():
        factor = torch.full((), 2.0)
        value, found = divergence(lambda x: factor * x**2, x, chunk)
    assert torch.allclose(found, 4 * x.sum(1)) and torch.allclose(value, 2 * x**2)
    with torch.no_grad():  # a field that does not depend on x
        assert torch.equal(divergence(torch.ones_like, x)[1], torch.zeros(7))


# -- samples as text ---------------------------------------------------------------------------------


def test_text_tables_are_those_of_pandas(tmp_path):
    from pushforward.data import ConditionSpec, Schema, write_rows

    x = torch.tensor([[1.5, -2e-7], [1e16, 3.0], [0.1, 1e300]], dtype=torch.float64)
    spec = ConditionSpec(kind="labels", columns=("kind, of",), classes=('a "b"', "c,d", "e"))
    schema = Schema(name="t", kind="table", event_shape=(2,), columns=("x", "y"), condition=spec)
    for dtype, points in ((np.float64, x), (np.float32, x[:2].float())):
        index = torch.arange(len(points))
        write_rows(tmp_path / "ours.csv", points, schema, index)
        frame = pd.DataFrame(points.numpy().astype(dtype), columns=["x", "y"])
        frame["kind, of"] = np.array(spec.classes)[index.numpy()]
        frame.to_csv(tmp_path / "theirs.csv", index=False)
        assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


# -- completion --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_scripts_name_commands_and_flags(shell, capsys):
    assert main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    for flag in ("--flag-below", "--keep", "--device", "--lr", "--exclude", "--guidance"):
        assert flag in script
    assert ("complete -F" if shell == "bash" else "#compdef pushforward") in script


def test_bash_completes_what_is_typed(capsys, tmp_path):
    assert main(["--print-completion", "bash"]) == 0
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    typed = 'COMP_WORDS=(pushforward "$@"); COMP_CWORD=$#; $(complete -p pushforward | cut -d" " -f3)'
    typed = f"source completion; {typed}; echo ${{COMPREPLY[@]}}"
    for words, found in ((["sco"], "score"), (["score", "--ke"], "--keep"), (["train", "--lr"], "--lr")):
        done = subprocess.run(
            ["bash", "-c", typed, "bash", *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.stdout.split() == [found], done.stderr


def test_an_unknown_shell_is_one_line(capsys):
    fails(capsys, "--print-completion", "fish", says="expected bash or zsh, got fish")
    fails(capsys, "--print-completion", says="expected bash or zsh, got nothing")


# -- folders of images -------------------------------------------------------------------------------


def photos(folder: Path, mode: str = "RGB", count: int = 40) -> list[Image.Image]:
    """Images of unlike sizes, as a camera leaves them."""
    folder.mkdir()
    g, images = np.random.default_rng(0), []
    for i in range(count):
        size = (int(g.integers(9, 30)), int(g.integers(9, 30)), 3)
        images.append(Image.fromarray(g.integers(0, 256, size, dtype=np.uint8)).convert(mode))
        images[-1].save(folder / f"{i:02d}.png")
    return images


def test_images_of_unlike_sizes_are_brought_to_one(tmp_path, capsys):
    images = photos(tmp_path / "photos")
    train = ["train", str(tmp_path / "photos"), "--steps", "2", "--batch", "8", "--no-report"]
    train += ["--network", "unet,width=8", "--out", str(tmp_path / "run")]
    fails(capsys, *train, says="bring all to one size with --resize")
    assert not (tmp_path / "run").exists()
    data = load(tmp_path / "photos", resize=8, holdout=0.0)
    found = {row.numpy().tobytes() for row in data.train.x}
    for image in images:  # Pillow's own: the shorter side to 8 pixels, the central square
        fitted = np.asarray(ImageOps.fit(image, (8, 8), Image.Resampling.BICUBIC), dtype=np.float32)
        assert np.ascontiguousarray(fitted.transpose(2, 0, 1)).tobytes() in found
    assert main([*train, "--resize", "8"]) == 0
    # new images are brought to the same size
    run = open_run(tmp_path / "run")
    assert read_rows(str(tmp_path / "photos"), run.schema).x.shape == (40, 3, 8, 8)
    with pytest.raises(ValueError, match="resize: expected a positive number of pixels, got 0"):
        load(tmp_path / "photos", resize=0)
    with pytest.raises(ValueError, match="resize: only images of a folder"):
        load("moons", resize=8)


@pytest.mark.parametrize(
    "mode, says",
    [
        ("RGBA", "1 of 41 images are partly transparent"),
        ("P", "1 of 41 images are of a palette"),
        ("L", "1 of 41 images are grey among colour ones"),
    ],
)
def test_images_that_are_read_as_others_are_spoken_of(tmp_path, mode, says):
    photos(tmp_path / "photos")
    Image.new("RGB", (12, 12), "red").convert(mode).save(tmp_path / "photos" / "other.png")
    with pytest.warns(UserWarning, match=says):
        load(tmp_path / "photos", resize=8)


def test_images_that_are_read_as_they_are_are_not_spoken_of(tmp_path, recwarn):
    for mode in ("RGB", "L"):
        photos(tmp_path / mode, mode)
        assert load(tmp_path / mode, resize=8).schema.event_shape == (1 if mode == "L" else 3, 8, 8)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "moons", "--nonsense"], "--nonsense"),
        (["train", "moons", "--steps", "abc"], "--steps: expected a whole number, got 'abc'"),
        (["train"], "Missing from pushforward train: DATA"),
        (["train", "moons", "--method"], "Missing value for argument '--method'"),
        (["sample", "RUN", "-n", "x"], "-n: expected a whole number, got 'x'"),
        (["sample", "nowhere"], "pushforward: nowhere: no such run folder"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], says: str, capsys) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and err.startswith("pushforward: ") and says in err, err
