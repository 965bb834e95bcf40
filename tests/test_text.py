"""Text from a file to samples: windows, the alphabet, n-grams, and what is refused."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import pushforward
from pushforward.cli import main
from pushforward.data import Schema, load, read_rows
from pushforward.data.prose import BETWEEN, NUMBERS, as_texts, is_prose
from pushforward.metrics import NGrams
from pushforward.nn import TextTransformer
from pushforward.random import seeded
from pushforward.recipes import open_run

TINY = [
    "--network",
    "transformer,width=8,depth=1",
    "--steps",
    "3",
    "--batch",
    "8",
    "--window",
    "8",
    "--no-report",
]


def words(count: int, seed: int = 0) -> str:
    """A text in which every word is followed by one of two."""
    order = np.random.default_rng(seed).integers(2, size=count)
    known = ("the cat ", "the dog\n", "a bird ", "sees it. ")
    place, found = 0, []
    for step in order:
        place = (2 * place + int(step)) % 4
        found.append(known[place])
    return "".join(found)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "animals.txt"
    path.write_text(words(400))
    return path


@pytest.fixture(scope="module")
def run(text, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "animals"
    assert main(["train", str(text), *TINY, "--out", str(out)]) == 0
    return out


def test_the_method_of_text_needs_no_name(run):
    assert open_run(run).config.model.method == "dfm"


def test_windows_are_those_of_the_text(text):
    data, whole = load(str(text), window=8), text.read_text()
    alphabet = data.schema.alphabet
    assert alphabet == "".join(sorted(set(whole))) and data.schema.levels == (0, len(alphabet) - 1, 1)
    for rows in (data.train, data.test):
        assert all(window in whole for window in as_texts(rows.x, alphabet))
    assert as_texts(data.preprocess.inverse(data.train.x), alphabet) == as_texts(data.train.x, alphabet)


@pytest.mark.parametrize("holdout, seed", [(0.2, 0), (0.5, 1)])
def test_held_out_windows_share_no_character_with_the_others(tmp_path, holdout, seed):
    # every character occurs once, so that a shared one would be seen
    path = tmp_path / "all.txt"
    path.write_text("".join(chr(0x4E00 + i) for i in range(3000)))
    data = load(path, window=6, holdout=holdout, seed=seed)
    rest, apart = data.set_apart(0.25, 3)
    parts = [{*data.train.x[rest].flatten().tolist()}, {*data.train.x[apart].flatten().tolist()}]
    parts.append({*data.test.x.flatten().tolist()})
    assert all(not one & other for one, other in itertools.combinations(parts, 2))
    # held out are whole stretches of 187 of the 3,000 characters, windows side by side
    assert len(parts[2]) == len(data.test) * 6 and abs(len(data.test) * 6 / 3000 - holdout) < 0.04
    assert data.stretches is not None
    texts = data.stretches.texts(data.train.x)
    assert bool((texts.diff(dim=1) == 1).all()) and texts.numel() + 6 * 187 >= 3000 * (1 - holdout)
    beside = data.train.x[data.stretches.beside(len(data.train), 6)]
    assert len({*beside.flatten().tolist()}) == beside.numel()


def test_windows_overlap_as_far_as_there_is_room(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("ab\n" * 40_000)
    data = load(path, window=60, holdout=0.0)
    assert data.stretches is not None and data.stretches.apart == 2 and data.train.x.numel() <= NUMBERS


@pytest.mark.parametrize(
    "content, prose",
    [
        ("x1,x2\n1,2\n3,4\n", False),
        ("1.5\n2.5\n", False),
        ("1 2 3\n4 5 6\n", False),
        ("name,age\nann,3\nbob,x\n", False),
        ("# a comment\na;b\n1;2\n", False),
        ("In 1990, two\nof them, say,\nwent.\n", True),
        ("one line without an end", True),
        ("", False),
    ],
)
def test_tables_stay_tables(tmp_path, content, prose):
    path = tmp_path / "a.txt"
    path.write_text(content)
    assert is_prose(path) is prose
    path.with_suffix(".csv").write_text(content)
    assert not is_prose(path.with_suffix(".csv"))


def test_ngrams_are_a_distribution_and_draw_from_it():
    rows = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), 50 * 12, True, generator=seeded(0)).reshape(
        50, 12
    )
    rows[:, 1::2] = (rows[:, ::2] + 1) % 3
    for order in (1, 2, 3):
        grams = NGrams(rows, 3, order)
        every = torch.cartesian_prod(*[torch.arange(3)] * 4)
        assert float(grams.log_prob(every).exp().sum()) == pytest.approx(1, abs=1e-12)
        three = torch.cartesian_prod(*[torch.arange(3)] * 3)
        drawn = (grams.sample(40_000, 3, seeded(1)).long() * torch.tensor([9, 3, 1])).sum(1)
        wanted = grams.log_prob(three).exp()
        found = drawn.bincount(minlength=27) / 40_000
        # 4.5 standard errors of a share of 40,000
        assert bool(((found - wanted).abs() < 4.5 * (wanted / 40_000).sqrt() + 1e-9).all())


def test_ngrams_of_one_token_are_the_shares():
    rows = torch.tensor([[0, 0, 1, 2], [0, 1, 0, 0]] * 500)
    probs = NGrams(rows, 4, 1).probs(torch.tensor([[0, 1, 2, 3]]))[0]
    # the weight of the uniform distribution is next to nothing, and what never came has no more
    assert probs == pytest.approx([5 / 8, 2 / 8, 1 / 8, 0], abs=2e-3) and probs[3] > 0


def test_longer_contexts_predict_text_that_has_them():
    rows = torch.tensor([[ord(c) for c in words(40, seed)[:250]] for seed in range(40)])
    train, test = rows[:32], rows[32:]
    bits = [float(-NGrams(train, 128, n).log_prob(test).mean() / 250 / np.log(2)) for n in (1, 2, 3, 5)]
    assert bits == sorted(bits, reverse=True)
    # a word of 8 characters is one of two: about 1/8 bit a character
    assert bits[-1] < 0.6 < 2 < bits[0]


def test_ngrams_refuse():
    with pytest.raises(ValueError, match="rows: expected at least 2, got 1"):
        NGrams(torch.zeros(1, 4), 2, 1)
    with pytest.raises(ValueError, match="rows: expected whole numbers from 0 to 1"):
        NGrams(torch.full((3, 4), 2), 2, 1)


def test_from_a_file_to_samples_and_scores(run, text, tmp_path, capsys):
    assert main(["sample", str(run), "-n", "5", "-o", str(tmp_path / "out.txt")]) == 0
    drawn = (tmp_path / "out.txt").read_text().split(BETWEEN)
    alphabet = open_run(run).schema.alphabet
    assert [len(each) for each in drawn] == [8] * 5 and {*"".join(drawn)} <= {*alphabet}
    other = tmp_path / "other.txt"
    other.write_text(text.read_text()[3:83])
    assert main(["score", str(run), str(other), "-o", str(tmp_path / "scores.csv")]) == 0
    told = capsys.readouterr().err
    assert "at most" in told and "bits per character" in told
    lines = (tmp_path / "scores.csv").read_text().split()
    assert lines[0] == "log_prob_bound" and len(lines) == 11
    bits = float(told.split("at most ")[1].split()[0])
    assert bits == pytest.approx(-np.mean([float(line) for line in lines[1:]]) / 8 / np.log(2), abs=1e-3)
    # codes are what texts are read as
    codes = read_rows(other, open_run(run).schema)
    assert as_texts(codes.x, alphabet) == [other.read_text()[i : i + 8] for i in range(0, 80, 8)]
    assert main(["sample", str(run), "-n", "3", "-o", str(tmp_path / "codes.npy")]) == 0
    assert np.load(tmp_path / "codes.npy").shape == (3, 8)
    codes = read_rows(tmp_path / "codes.npy", open_run(run).schema)
    assert as_texts(codes.x, alphabet) == drawn[:3]


def test_the_same_command_resumes_and_other_text_is_told(text, tmp_path, capsys):
    out, mine = tmp_path / "run", tmp_path / "mine.txt"
    shutil.copy(text, mine)
    command = ["train", str(mine), "--method", "dfm", *TINY, "--out", str(out)]
    assert main(command) == 0
    command[command.index("--steps") + 1] = "5"
    mine.write_text(mine.read_text().replace("cat", "cow"))
    assert main(command) == 2
    assert "the data are not those that the run began with" in capsys.readouterr().err
    shutil.copy(text, mine)
    assert main(command) == 0 and open_run(out).summary["step"] == 5


@pytest.mark.parametrize(
    "content, flags, says",
    [
        (words(800), ["--method", "nsf"], "animals.txt is text, which is tokens; take dfm"),
        (words(400), ["--method", "dfm", "--condition", "label"], "condition: "),
        (words(400), ["--method", "dfm", "--resize", "8"], "resize: "),
        (words(400), ["--method", "dfm", "--preprocess", "whiten"], "--preprocess whiten"),
        (words(400), ["--method", "dfm", "--window", "1"], "--window"),
        (words(20), ["--method", "dfm"], "characters, expected at least 4,096, which are 64 windows of 64"),
        ("aaaaaaaa\n" * 4, ["--method", "dfm"], "36 characters"),
        ("a" * 5000, ["--method", "dfm"], "different characters, got only 'a'"),
        ("ab\0" * 5000, ["--method", "dfm"], "character 3 is NUL"),
        (words(400).encode() + b"\xff", ["--method", "dfm"], "not a text file in UTF-8"),
    ],
)
def test_training_refuses_in_one_line(tmp_path, capsys, content, flags, says):
    path, out = tmp_path / "animals.txt", tmp_path / "run"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["train", str(path), *flags, "--out", str(out), "--no-report"]) == 2
    told = capsys.readouterr().err.strip()
    assert says in told and "\n" not in told and not out.exists()


def test_windows_are_of_texts_alone(capsys, tmp_path):
    assert main(["train", "moons", "--window", "8", "--out", str(tmp_path / "run")]) == 2
    assert "window: only a text has windows" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content, says",
    [
        ("the cat sees\na Zebra", "line 2 has the character 'Z', which is not among the"),
        ("the", "3 characters, expected at least a window of 8"),
        (b"\xff\xfe", "not a text file in UTF-8"),
    ],
)
def test_scoring_refuses_in_one_line(run, tmp_path, capsys, content, says):
    path = tmp_path / "new.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["score", str(run), str(path), "-o", str(tmp_path / "s.csv")]) == 2
    told = capsys.readouterr().err.strip()
    assert says in told and "\n" not in told and not (tmp_path / "s.csv").exists()


def test_more_than_a_window_and_columns_are_refused(run, text, tmp_path, capsys):
    np.save(tmp_path / "long.npy", np.zeros((4, 9)))
    assert main(["score", str(run), str(tmp_path / "long.npy"), "-o", str(tmp_path / "s.csv")]) == 2
    assert "expected windows of the 8 characters that the flow was trained for" in capsys.readouterr().err
    assert main(["score", str(run), str(text), "--keep", "-o", str(tmp_path / "s.csv")]) == 2
    assert "holds text, which has no columns to keep" in capsys.readouterr().err
    assert main(["sample", str(run), "-n", "2", "-o", str(tmp_path / "s.csv")]) == 2
    assert "texts are written as .txt, .npy or .npz" in capsys.readouterr().err
    assert main(["push", str(run), str(text), "-o", str(tmp_path / "s.txt")]) == 2
    assert "latent points of texts are not texts" in capsys.readouterr().err
    with pytest.raises(ValueError, match="x: expected"):
        open_run(run).flow.log_prob(np.zeros((4, 9)))


def test_a_warning_tells_what_fills_no_window(run, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("the cat the d")
    with pytest.warns(UserWarning, match="the last 5 characters fill no window of 8"):
        assert len(read_rows(path, open_run(run).schema)) == 1


@pytest.mark.parametrize("alphabet, levels", [("abb", (0, 2, 1)), ("ab", (0, 2, 1)), ("ab", None)])
def test_an_alphabet_fits_its_levels(alphabet, levels):
    with pytest.raises(ValueError, match="schema: alphabet: expected different characters"):
        Schema(name="a", kind="text", event_shape=(4,), levels=levels, alphabet=alphabet)


def test_another_alphabet_in_a_run_is_refused(run, text, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(run, other)
    data = json.loads((other / "data.json").read_text())
    data["schema"]["alphabet"] = data["schema"]["alphabet"][:-1]
    data.pop("checksum", None)
    (other / "data.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="alphabet"):
        open_run(other)
    shutil.copy(text, tmp_path / "a.txt")
    fine = pushforward.train(
        str(tmp_path / "a.txt"), tmp_path / "b", method="dfm", window=8, show_progress=False,
        network="transformer,width=8,depth=1", steps=2,
    )  # fmt: skip
    (tmp_path / "a.txt").write_text(words(400).replace("cat", "cow"))
    with pytest.raises(ValueError, match="the data or the run have changed"):
        assert open_run(fine.path).dataset


def test_report_shows_samples_beside_training_text(run, text):
    assert main(["report", str(run), "--samples", "60"]) == 0
    numbers, page = json.loads((run / "report.json").read_text()), (run / "report.html").read_text()
    bits = {row["label"]: row["bits"] for row in numbers["density"]}
    assert list(bits) == ["this model", "Unigram", "3-gram", "5-gram"] and not numbers["left_out"]
    # the letters of the text have an entropy of 3.7 bits, and words of two are told by their first letters
    assert max(bits["3-gram"], bits["5-gram"]) < 1 < 3 < bits["Unigram"] < 3.7 < bits["this model"]
    pairs = next(line for line in numbers["verdict"] if line["key"] == "pairs")
    assert pairs["real"]["value"] < pairs[numbers["best_baseline"]]["value"] + 0.1 < pairs["model"]["value"]
    assert "Bits per character" in page and "Energy distance" not in page
    shown = page.partition("nearest training window</th>")[2].partition("</table>")[0]
    near = [cell.partition(">")[2] for cell in shown.split("<td")[1::2]]
    near = [cell.partition("<span>")[2].partition("</span>")[0].replace("↵", "\n") for cell in near]
    assert len(near) == 12 and all(window in text.read_text() for window in near)


def test_attention_over_text_depends_on_distances():
    layer: Any = TextTransformer(40, size=7, width=16, heads=2).double().layers[0]
    q, k = (torch.randn(8, dtype=torch.float64, generator=seeded("turns", i)).expand(40, 8) for i in range(2))
    scores = layer.turned(q) @ layer.turned(k).T
    # angles are in single precision
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1], rtol=0, atol=1e-5)
    assert scores[0].std() > 0.1 and (scores - scores.T).abs().max() > 0.1
    torch.testing.assert_close(scores.diag(), (q * k).sum(1))  # no turn at distance 0


def test_windows_of_text_have_a_network_of_their_own(run):
    opened = open_run(run)
    assert opened.config.model.network == "text-transformer,width=8,depth=1"
    assert isinstance(cast(Any, opened.flow.core).field.network, TextTransformer)
    for event, width in (((4, 4), 16), (8, 12)):
        with pytest.raises(ValueError, match="event_shape, heads: expected one dimension and an even"):
            TextTransformer(event, width=width, heads=4)
