"""Data and layers of which no normalizing flow can be made, and what is said of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward
from pushforward.bijections import (
    Affine,
    Autoregressive,
    Bijection,
    Chain,
    CouplingLayer,
    Elementwise,
    Inverse,
    LULinear,
    Permutation,
    Reverse,
)
from pushforward.bijections.monotone import ScaleShift
from pushforward.cli import main
from pushforward.config import DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.data.atoms import check_atoms
from pushforward.flows import BijectiveFlow, nsf
from pushforward.nn import MaskedPerceptron, Perceptron
from pushforward.sources import Normal, StudentT

QUICK = ["--steps", "3", "--batch", "32", "--no-report"]


def fails(capsys, *arguments: str, says: tuple[str, ...]) -> None:
    capsys.readouterr()
    assert main(["train", *arguments, *QUICK]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1 and all(text in err for text in says), err


def table(path: Path, **columns: np.ndarray) -> str:
    pd.DataFrame(columns).to_csv(path, index=False)
    return str(path)


def numbers(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n)


# -- layers ------------------------------------------------------------------------------------------


def coupling(*active: int) -> CouplingLayer:
    return CouplingLayer([bool(i) for i in active], ScaleShift(), Perceptron)


@pytest.mark.parametrize(
    ("bijection", "left"),
    [
        (Chain(coupling(1, 0, 0), coupling(1, 1, 0)), [2]),
        (Inverse(Chain(coupling(1, 0, 0), coupling(1, 1, 0))), [2]),
        (Chain(coupling(1, 0, 0), Affine(0.0, 2.0), Chain(coupling(0, 1, 0))), [2]),
        # the first entry goes to the end, where nothing else would move it
        (Chain(coupling(1, 0, 0), Reverse(), coupling(1, 0, 0)), [1]),
        (Chain(coupling(0, 0, 1), Permutation([1, 2, 0]), coupling(0, 0, 1)), [0]),
        (Inverse(Chain(coupling(0, 0, 1), Permutation([1, 2, 0]), coupling(0, 0, 1))), [1]),
        (Chain(coupling(1, 0, 0), coupling(0, 1, 1)), []),
        (Chain(coupling(1, 0, 0), Permutation([2, 0, 1]), coupling(1, 0, 1)), []),
        (Chain(coupling(1, 0, 0), LULinear(3), coupling(1, 0, 0)), []),
        (Chain(coupling(1, 0, 0), Elementwise(3)), []),
        (Chain(coupling(1, 0, 0), Autoregressive(3, ScaleShift(), MaskedPerceptron)), []),
        (Chain(), []),
    ],
)
def test_entries_that_no_mask_holds(bijection: Bijection, left: list[int]) -> None:
    if left:
        with pytest.raises(
            ValueError, match=rf"masks together move every entry .* none that moves \[{left[0]}\]"
        ):
            BijectiveFlow(bijection, Normal(3))
    else:
        BijectiveFlow(bijection, Normal(3))
    # the truth: noise in every parameter, and whose distribution of the data is some entry's of the source
    with torch.no_grad():
        for parameter in bijection.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        y = bijection.forward(x)
        scales = [y[:, i, None] / x for i in range(3)]
        kept = [i for i in range(3) if bool((scales[i].std(0) < 1e-5).any())]
    assert kept == left or not any(isinstance(m, CouplingLayer) for m in bijection.modules())


def test_an_entry_may_keep_the_law_of_a_source_that_is_learnt() -> None:
    assert BijectiveFlow(coupling(1, 0), StudentT(2)).density == "exact"


def test_a_coupling_needs_two_columns(tmp_path: Path, capsys) -> None:
    path = table(tmp_path / "one.csv", a=numbers(100, 0))
    for method in ("nice", "realnvp", "nsf"):
        # one column takes their autoregressive kin, and the run says so
        out = tmp_path / method
        assert main(["train", path, "--method", method, "--out", str(out), *QUICK]) == 0
        assert "nsf-ar for 80 rows" in capsys.readouterr().err
    with pytest.raises(ValueError, match="active: expected booleans, some true and some false"):
        CouplingLayer([True], ScaleShift(), Perceptron)
    with pytest.raises(ValueError, match="at least 2 dimensions, got 1"):
        nsf(1)


def test_images_that_do_not_squeeze(tmp_path: Path, capsys) -> None:
    flow = "glow,levels=4"
    fails(capsys, "digits", "--method", "glow", "--flow", flow, says=("halved 4 times", "take levels=3"))


# -- atoms -------------------------------------------------------------------------------------------


def test_a_column_with_an_atom_is_refused_by_likelihoods_without_noise(tmp_path: Path, capsys) -> None:
    clipped = numbers(300, 1).clip(-1.0)
    path = table(tmp_path / "t.csv", wide=numbers(300, 0), low=clipped, steps=np.arange(300) % 4)
    out = str(tmp_path / "run")
    says = ("column 'low' is -1 in ", "column 'steps' is", "of 240 rows", "5%", "--condition")
    fails(capsys, path, "--method", "nsf", "--noise", "0", "--out", out, says=says)
    assert not Path(out).exists()
    assert main(["train", path, "--method", "fm", "--out", out, *QUICK]) == 0
    # as a condition a column may repeat
    frame = table(tmp_path / "c.csv", wide=numbers(300, 0), other=numbers(300, 2), steps=np.arange(300) % 4)
    flags = ["--method", "nsf", "--condition", "steps", "--out", str(tmp_path / "given")]
    assert main(["train", frame, *flags, *QUICK]) == 0


def test_a_row_with_an_atom_is_refused_until_there_is_one_of_each(tmp_path: Path, capsys) -> None:
    a, b = numbers(400, 0), numbers(400, 1)
    a[:9], b[:9] = 1.5, -2.0
    path = table(tmp_path / "t.csv", a=a, b=b)
    flags = ["--method", "maf", "--out", str(tmp_path / "run")]
    fails(capsys, path, *flags, "--noise", "0", says=("of 320 rows are (1.5, -2)", "1%", "--deduplicate"))
    assert main(["train", path, *flags, "--deduplicate", *QUICK]) == 0


def test_lesser_repeats_are_a_line_of_warning(tmp_path: Path, capsys) -> None:
    a, b = numbers(400, 0), numbers(400, 1)
    a[:4], b[:4] = 1.5, -2.0
    b[100:106] = 7.0
    path = table(tmp_path / "t.csv", a=a, b=b)
    assert main(["train", path, "--method", "maf", "--out", str(tmp_path / "run"), *QUICK]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1
    assert "of 320 rows repeat earlier ones" in said[0] and "column 'b' is 7 in" in said[0]


def test_the_shares_are_over_five_and_over_one_percent() -> None:
    x = np.stack([numbers(1000, 0), numbers(1000, 1)], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_atoms("x", x)
    x[:50, 1] = 3.0
    with pytest.warns(UserWarning, match=r"element \[1\] is 3 in 50 of 1,000 rows"):
        check_atoms("x", x)
    x[50, 1] = 3.0
    with pytest.raises(ValueError, match=r"element \[1\] is 3 in 51 of 1,000 rows"):
        check_atoms("x", x)
    x = np.stack([numbers(1000, 0), numbers(1000, 1)], 1)
    x[:10] = x[0]
    with pytest.warns(UserWarning, match="9 of 1,000 rows repeat"):
        check_atoms("x", x)
    x[10] = x[0]
    with pytest.raises(ValueError, match="11 of 1,000 rows are"):
        check_atoms("x", x)


def test_many_columns_with_atoms_are_counted() -> None:
    with pytest.raises(ValueError, match=r"column 'c' is 0 in 40 of 40 rows and 2 more columns"):
        check_atoms("x", np.zeros((40, 5)), "abcde")


def test_pixels_are_refused_only_where_they_are_not_dequantised(tmp_path: Path, capsys) -> None:
    flags = ["--method", "glow", "--flow", "glow,levels=1,steps=1,width=8", "--out", str(tmp_path / "run")]
    fails(capsys, "digits", *flags, "--preprocess", "none", says=("element [0, 0, 0] is 0 in",))
    assert main(["train", "digits", *flags, *QUICK]) == 0


def test_arrays_in_memory_are_looked_at_too(tmp_path: Path) -> None:
    config = RunConfig(
        target="table",
        data=DataConfig(noise="0"),
        model=ModelConfig(method="nsf", flow="nsf"),
        optim=OptimConfig(steps=2),
    )
    x = np.stack([numbers(100, 0), np.arange(100) % 2], 1)
    with pytest.raises(ValueError, match="of 80 rows"):
        pushforward.train(config, tmp_path / "run", target=x, show_progress=False)


# -- no numbers --------------------------------------------------------------------------------------


def test_nan_in_a_table_is_refused(tmp_path: Path, capsys) -> None:
    a = numbers(100, 0)
    a[41] = np.nan
    path = table(tmp_path / "t.csv", a=a, b=numbers(100, 1))
    flags = ["--method", "nsf", "--out", str(tmp_path / "run")]
    fails(capsys, path, *flags, says=("column 'a' has missing cells (1, at line 43)", "--exclude a"))
    assert not (tmp_path / "run").exists()
