"""Inductive moment matching: groups, their times, the kernel distance, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from sklearn.metrics.pairwise import euclidean_distances
from torch import Tensor, nn

from pushforward import Batch, Rows, Step
from pushforward.cli import main
from pushforward.objectives import FlowMapMatching, MomentMatching
from pushforward.random import normal, seeded

DOUBLE = torch.float64


class Constant(nn.Module):
    """A map of one velocity that keeps the times it was called with."""

    def __init__(self, velocity: Tensor):
        super().__init__()
        self.velocity, self.calls = velocity, list[tuple[Tensor, Tensor]]()

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        self.calls.append((s, t))
        return self.velocity.expand_as(x)


def found(rule: MomentMatching, rows: int, d: int = 1, **state: Any) -> tuple[Any, Constant, Batch]:
    model = Constant(torch.zeros(d, dtype=DOUBLE))
    batch = Batch(tuple(Rows(normal((rows, d), seeded("imm", k), DOUBLE)) for k in range(2)))
    step = Step(**state, generator=seeded("imm"))
    return FlowMapMatching(rule).loss(nn.ModuleDict({"field": model}), batch, step), model, batch


@pytest.mark.parametrize("rows", [12, 14, 13, 3])
def test_groups_share_their_times_and_no_others_do(rows: int) -> None:
    """What the size does not divide, or reach, is a smaller group."""
    _, model, _ = found(MomentMatching(4, diagonal=0.0), rows)
    for times in (model.calls[0][0], model.calls[1][0]):
        parts = times.split(4)
        assert all(bool((part == part[0]).all()) for part in parts)
        assert len({float(part[0]) for part in parts}) == len(parts)
    assert torch.equal(model.calls[0][1], model.calls[1][1])


def test_spans_of_groups_are_uniform_and_starts_on_what_is_left() -> None:
    """By Kolmogorov-Smirnov at a level of 0.001 for one seed."""
    _, model, _ = found(MomentMatching(4, diagonal=0.0), 8000)
    s, t = (x[::4] for x in model.calls[1])  # the target is called before
    span = t - s
    assert stats.kstest(span.numpy(), "uniform").pvalue > 0.001
    assert stats.kstest((s / (1 - span)).numpy(), "uniform").pvalue > 0.001


def test_the_target_begins_one_decrement_of_noise_later() -> None:
    s = torch.tensor([0.0, 0.004, 0.2, 0.5, 0.8, 0.999], dtype=DOUBLE)
    rule = MomentMatching(halvings=9)
    u = rule.later(s, torch.ones_like(s))
    levels = [(1 - v) / v for v in (0.2, 0.5)]
    torch.testing.assert_close(u[2:4], torch.tensor([1 / (1 + v - 160 / 512) for v in levels], dtype=DOUBLE))
    assert u[4:].tolist() == [1.0, 1.0] and bool((u - s >= 1e-3 - 1e-12).all())
    assert torch.equal(rule.later(s, s + 1e-4), s + 1e-4)


def test_the_loss_is_the_kernel_distance_of_each_group() -> None:
    """With distances of scikit-learn, of maps that stand still: leaps arrive where the pairs are."""
    rule = MomentMatching(5, scale=1.5, diagonal=0.0)
    loss, model, batch = found(rule, 10, d=3)
    (u, _), (s, t) = model.calls
    x0, x1 = (rows.x for rows in batch.marginals)
    values = []
    for group in (slice(0, 5), slice(5, 10)):
        y, z = ((1 - v[group, None]) * x0[group] + v[group, None] * x1[group] for v in (s, u))
        width = 1.5 * float(t[group][0] - s[group][0]) * 3
        yy, zz, yz = (
            torch.exp(-torch.as_tensor(euclidean_distances(a, b)) / width).mean()
            for a, b in ((y, y), (z, z), (y, z))
        )
        v = s[group][0]
        weight = torch.sigmoid(4 - 2 * torch.logit(v)) / ((1 - v) * (v**2 + (1 - v) ** 2))
        values.append(1.5**2 * weight * (yy + zz - 2 * yz))
    # distances below 1e-4 of the kernel's unit count as that
    torch.testing.assert_close(loss.value, torch.stack(values).mean(), rtol=1e-3, atol=1e-4)


def test_two_halves_of_whole_groups_do_what_the_batch_does() -> None:
    """Rows that processes draw for themselves have the loss that they have in the whole batch."""
    rule = MomentMatching(4)
    a, b = (torch.rand(32, dtype=DOUBLE, generator=seeded("halves", k)) for k in range(2))
    whole = rule.times(a, b, lambda u: u, Step())
    halves = [rule.times(a[half], b[half], lambda u: u, Step()) for half in (slice(0, 16), slice(16, 32))]
    for place in (0, 1):
        assert torch.equal(whole[place], torch.cat([times[place] for times in halves]))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("group=1", "group: expected an integer of at least 2, got 1"),
        ("halvings=0", "halvings: expected an integer from 1 to 24, got 0"),
        ("halvings=25", "halvings: expected an integer from 1 to 24, got 25"),
        ("scale=0", "scale: expected a finite number above 0, got 0"),
        ("diagonal=2", "diagonal: expected a number from 0 to 1, got 2"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: str, says: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--method", "flow-map", "--loss", f"moment-matching,{options}"]
    assert main(["train", "moons", *flags, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_run_learns_from_data_and_from_a_teacher(tmp_path: Any) -> None:
    quick = [
        "--network",
        "mlp,width=8,depth=1",
        "--steps",
        "4",
        "--rows",
        "60",
        "--folds",
        "0",
        "--no-report",
    ]
    loss = ["--method", "flow-map", "--loss", "moment-matching"]
    assert main(["train", "moons", *loss, *quick, "--out", str(tmp_path / "map")]) == 0
    out = tmp_path / "two.csv"
    assert main(["sample", str(tmp_path / "map"), "-n", "5", "--nfe", "2", "-o", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 6
    assert main(["train", "moons", *quick, "--out", str(tmp_path / "fm")]) == 0
    distil = ["distil", str(tmp_path / "fm"), *loss, "--steps", "4", "--no-report"]
    assert main([*distil, "--out", str(tmp_path / "taught")]) == 0
