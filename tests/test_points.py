"""Vectors that move to the points of tokens, against closed forms, and what rounds them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

import pushforward
from effort import first
from pushforward import random
from pushforward.cli import main
from pushforward.entries import METHODS
from pushforward.fields import PosteriorVelocity, TokenPosterior
from pushforward.flows import RoundedFlow, load_flow, save
from pushforward.manifolds import Sphere
from pushforward.nn import TokenTransformer
from pushforward.objectives import Batch, CrossEntropy, DiscreteMatching, Step
from pushforward.oracles import TokenOracle
from pushforward.paths import (
    EmbeddedTokens,
    GeodesicPath,
    Polynomial,
    SimplexTokens,
    Trigonometric,
    VarianceExploding,
)
from pushforward.report.compare import compare_text
from pushforward.report.measures import SECTIONS
from pushforward.rows import Rows
from pushforward.solvers import Euler, Midpoint, TauLeaping
from pushforward.sources import PositiveSphere

GRID = torch.tensor([[4.0, 1, 2], [1, 6, 1], [3, 1, 9]], dtype=torch.float64) / 28
DOUBLE = torch.float64


def embedded(size=3, **options: Any) -> EmbeddedTokens:
    """Points of random directions."""
    path = EmbeddedTokens(size, **options).double().requires_grad_(False)
    path.weight.copy_(random.normal(path.weight.shape, random.seeded("points"), DOUBLE))
    return path


PATHS = [SimplexTokens(3).double(), embedded(width=4), embedded(width=2, schedule=Trigonometric())]
each_path = pytest.mark.parametrize("path", PATHS, ids=["simplex", "embedded", "trigonometric"])


def flow_of(path, solver=None, table=GRID):
    return RoundedFlow(TokenOracle(table, path), path, table.ndim, solver)


def test_geodesics_to_corners_are_those_of_the_sphere():
    path, space = SimplexTokens(5).double(), Sphere(4)
    x0 = PositiveSphere((3, 5)).double().sample(40, generator=random.seeded(0))
    tokens = torch.randint(5, (40, 3), generator=random.seeded(1))
    t = 0.999 * torch.rand(40, dtype=DOUBLE, generator=random.seeded(2))
    found, corners = path.sample(t, x0, tokens), torch.eye(5, dtype=DOUBLE)[tokens]
    wanted = GeodesicPath(space).sample(t.repeat_interleave(3), x0.flatten(0, 1), corners.flatten(0, 1))
    torch.testing.assert_close(found.x.flatten(0, 1), wanted.x, rtol=0, atol=1e-12)
    assert found.velocity is not None and wanted.velocity is not None
    torch.testing.assert_close(found.velocity.flatten(0, 1), wanted.velocity, rtol=0, atol=1e-10)
    # and the end is a corner, also from a corner
    end = path.sample(torch.tensor(1.0), corners, tokens.roll(1, 0))
    torch.testing.assert_close(end.x, corners.roll(1, 0), rtol=0, atol=1e-12)


@each_path
def test_velocities_are_the_slopes_of_the_path(path):
    tokens = torch.randint(3, (20, 2), generator=random.seeded(1))
    x0 = path.source((2,)).double().sample(20, generator=random.seeded(0))
    for t in (0.2, 0.9):
        time = torch.tensor(t, dtype=DOUBLE)
        slope = torch.func.jacfwd(lambda s: path.sample(s, x0, tokens).x)(time)
        torch.testing.assert_close(path.sample(time, x0, tokens).velocity, slope, rtol=1e-8, atol=1e-8)


def test_the_likelihood_of_a_corner_is_a_change_of_variables():
    """The uniform density divided by the volume that the flow to a corner leaves, by derivatives."""
    path, t = SimplexTokens(4).double(), torch.tensor(0.6, dtype=DOUBLE)
    x0 = PositiveSphere(4).double().sample(6, generator=random.seeded(0))
    token = torch.tensor([2])

    def moved(x):
        return path.sample(t, x[None, None], token[None]).x[0, 0]

    def tangents(x):
        return torch.linalg.svd(x[None])[2][1:]

    volumes, found = [], []
    for x in x0:
        jacobian = torch.func.jacfwd(moved)(x)
        volumes.append(torch.linalg.det(tangents(moved(x)) @ jacobian @ tangents(x).T).abs().log())
        found.append(path.log_likelihood(t, moved(x)[None, None])[0, 0, 2])
    level = torch.stack(found) + torch.stack(volumes)
    torch.testing.assert_close(level, level[:1].expand(6), rtol=0, atol=1e-10)
    # what cannot have come from the noise is impossible
    beyond = torch.tensor([[[0.0, 0.0, 0.05, 1.0]]], dtype=DOUBLE)
    assert float(path.log_likelihood(t, beyond / beyond.norm()).softmax(-1)[0, 0, 2]) < 1e-100


def test_the_likelihood_of_an_embedding_is_normal():
    for path in PATHS[1:]:
        t, x = torch.tensor([0.3, 0.8], dtype=DOUBLE), torch.randn(2, 5, path.width, dtype=DOUBLE)
        alpha, sigma, *_ = (value.reshape(2, 1, 1, 1) for value in path.schedule(t))
        normal = torch.distributions.Normal(alpha * path.points, sigma)
        wanted = normal.log_prob(x[:, :, None]).sum(-1).log_softmax(-1)
        torch.testing.assert_close(path.log_likelihood(t, x).log_softmax(-1), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "path, solver",
    first(
        [(PATHS[0], Euler(64)), (PATHS[1], Euler(64)), (PATHS[0], Midpoint(128)), (PATHS[2], Euler(256))], 2
    ),
)
def test_samples_have_the_probabilities_of_the_table(path, solver):
    n = 20_000
    x = flow_of(path, solver).sample(n, generator=random.seeded("samples"))
    counts = torch.bincount(x @ torch.tensor([3, 1]), minlength=9).double()
    # the distance of a multinomial draw: half the sum of E|count / n - p| = sqrt(2 p (1 - p) / pi n)
    floor = 0.5 * float((2 * GRID * (1 - GRID) / (torch.pi * n)).sqrt().sum())
    assert 0.5 * float((counts / n - GRID.flatten()).abs().sum()) < 3 * floor


def test_the_marginal_velocity_is_the_mean_of_those_of_the_pairs():
    """By draws: what flow matching would regress on, where x_t is near a given point."""
    path, t, n = PATHS[0], torch.tensor(0.25, dtype=DOUBLE), 100_000
    drawn = torch.multinomial(GRID.sum(1), n, True, generator=random.seeded("draws"))[:, None]
    point = path.sample(t, drawn, generator=random.seeded("points"))
    centre = torch.tensor([0.6, 0.5, (1 - 0.36 - 0.25) ** 0.5], dtype=DOUBLE)
    near = (point.x[:, 0] - centre).norm(dim=-1) < 0.1
    assert int(near.sum()) > 400 and point.velocity is not None
    field = PosteriorVelocity(TokenOracle(GRID.sum(1), path), path)
    wanted = field(t, point.x[near]).mean(0)
    error = point.velocity[near].std(0) / int(near.sum()) ** 0.5
    assert bool(((point.velocity[near].mean(0) - wanted).abs() < 4 * error).all())


@pytest.mark.parametrize("path", first([EmbeddedTokens, SimplexTokens]))
def test_training_finds_the_table_and_keeps_embeddings_apart(path):
    torch.manual_seed(0)
    places: Any = path(3)
    field = TokenPosterior(TokenTransformer(2, size=3, width=32, depth=1), places)
    data = torch.multinomial(GRID.flatten(), 4000, True, generator=random.seeded("data"))
    rows = torch.stack([data // 3, data % 3], 1).float()
    objective, models = DiscreteMatching(None, CrossEntropy()), nn.ModuleDict({"field": field})
    optimiser = torch.optim.Adam(field.parameters(), 5e-3)
    for step in range(200):
        batch = Batch((Rows(rows[torch.randint(4000, (256,), generator=random.seeded("batch", step))]),))
        loss = objective.loss(models, batch, Step(step, generator=random.seeded("loss", step)))
        optimiser.zero_grad()
        loss.value.backward()
        optimiser.step()
    field.requires_grad_(False)
    flow = RoundedFlow(field, places, 2, Euler(32))
    x = flow.sample(10_000, generator=random.seeded("samples"))
    table = torch.bincount(x @ torch.tensor([3, 1]), minlength=9).double().reshape(3, 3) / 10_000
    alone = GRID.sum(1)[:, None] * GRID.sum(0)
    # a training as short as this is off by .03 to .06 on seeds 0 to 2; independent tokens are, by .13
    assert float((table - GRID).abs().max()) < 0.08 < float((GRID - alone).abs().max())
    points = places.points
    assert float(torch.cdist(points, points).fill_diagonal_(9).min()) > 0.5


def test_rounding_errors_fall_with_the_steps():
    flow = flow_of(PATHS[0])
    few, many = (flow.in_evaluations(n).rounding_error(500, generator=random.seeded(0)) for n in (2, 64))
    assert 0 < many.distance < 0.05 < few.distance < 1 and many.undecided <= few.undecided <= 1
    sure = flow_of(PATHS[0], table=torch.eye(3, dtype=DOUBLE)[:1].T @ torch.eye(3, dtype=DOUBLE)[:1])
    assert sure.rounding_error(100, generator=random.seeded(0)).undecided == 0


def test_trajectories_end_with_the_samples_and_flows_are_saved(tmp_path):
    path = EmbeddedTokens(4)
    field = TokenPosterior(TokenTransformer((2, 3), size=4, width=8), path)
    flow = RoundedFlow(field, path, (2, 3), Euler(4))
    save(flow, tmp_path / "flow.safetensors")
    again = load_flow(tmp_path / "flow.safetensors")
    with torch.inference_mode():
        x0 = flow.source.sample(5, generator=random.seeded(0))
        found = flow.trajectory(x0, [0.0, 0.5, 1.0])
        assert found.path is not None and found.path.shape == (3, 5, 2, 3)
        assert torch.equal(found.x, flow.push(x0)) and torch.equal(found.x, again.push(x0))
        assert flow.sample((2, 3), generator=random.seeded(0)).shape == (2, 3, 2, 3)


@pytest.mark.parametrize("method", sorted(name for name in METHODS if METHODS[name].recipe == "points"))
def test_levels_are_trained_and_sampled_as_points(method, tmp_path, capsys):
    run = str(tmp_path / "run")
    flags = ("--network", "transformer,width=8,depth=1", "--steps", "4", "--condition", "label")
    assert main(["train", "digits", "--method", method, "--out", run, "--no-report", *flags]) == 0
    flow = pushforward.load(run)
    assert flow.sample(3, torch.tensor([0, 1])).shape == (3, 2, 1, 8, 8) and flow.density == "none"
    guided = ("--guidance", "2", "--solver", "midpoint,steps=2", "-o", str(tmp_path / "x.npz"))
    assert main(["sample", run, "-n", "20", *guided]) == 0
    assert main(["sample", run, "-n", "20", "--nfe", "3", "-o", str(tmp_path / "x.npz")]) == 0
    capsys.readouterr()
    assert main(["score", run, str(tmp_path / "x.npz"), "-o", str(tmp_path / "scores.csv")]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1 and "rounds vectors to tokens" in err, err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["solver"] == "euler,steps=64"


def test_the_report_has_the_rounding_error(tmp_path):
    run = tmp_path / "run"
    flags = ("--method", "embedding-flow", "--network", "transformer,width=8,depth=1", "--steps", "4")
    assert main(["train", "digits", *flags, "--condition", "label", "--out", str(run), "--no-report"]) == 0
    assert main(["report", str(run), "--samples", "60"]) == 0
    numbers, page = json.loads((run / "report.json").read_text()), (run / "report.html").read_text()
    found = numbers["rounding"]
    assert found["rows"] == 256 and "rounding to tokens" not in numbers["left_out"]
    # of the same flow by other draws: 16,384 tokens, which a network that knows nothing leaves undecided
    again = pushforward.load(run).flow.rounding_error(8, torch.arange(10), random.seeded(1))
    assert found["distance"] == pytest.approx(again.distance, rel=0.1)
    assert found["undecided"] == pytest.approx(again.undecided, abs=0.02)
    table = page.partition("Rounding to tokens")[2].partition("</table>")[0]
    for measure in SECTIONS["rounding"]:
        assert measure.label in table and measure.text(found[measure.key]) in table
        assert measure.label in compare_text(numbers, numbers)


def test_what_points_refuse(tmp_path, capsys):
    digits = ("train", "digits", "--out", str(tmp_path / "run"), "--method")
    for flags, says in (
        ((*digits, "embedding-flow", "--solver", "tau-leaping"), "--solver tau-leaping: vectors follow"),
        ((*digits, "embedding-flow", "--path", "ve"), "schedule: expected alpha from 0 to 1"),
        ((*digits, "fisher-flow", "--path", "trig"), "--path trig: --tokens simplex follows no schedule"),
        (
            (*digits, "fisher-flow", "--tokens", "masked"),
            "--tokens masked: --method fisher-flow takes embedded",
        ),
        ((*digits, "dfm", "--tokens", "simplex"), "--tokens simplex: --method dfm takes masked or uniform"),
        (
            (*digits, "fisher-flow", "--coupling", "ot"),
            "--coupling ot: does not go with --method fisher-flow",
        ),
        (
            (*digits, "embedding-flow", "--loss", "cross-entropy"),
            "--loss cross-entropy: does not go with --method embedding-flow",
        ),
        ((*digits, "fisher-flow", "--network", "unet"), "--network unet: is not for tokens"),
        (("train", "moons", "--method", "fisher-flow"), "tokens are whole levels"),
    ):
        capsys.readouterr()
        assert main(list(flags)) == 2
        err = capsys.readouterr().err
        assert len(err.strip().splitlines()) == 1 and says in err, err


def test_refuses():
    path, tokens = SimplexTokens(3), torch.tensor([[0, 1]])
    flow, half = flow_of(PATHS[0]), torch.tensor(0.5)
    field = TokenPosterior(lambda t, x: x[..., :2], path)
    for call, message in (
        (lambda: path.sample(half, tokens + 2), "x1: expected whole numbers from 0 to 2, got 3"),
        (
            lambda: path.sample(half, tokens - 1),
            "x1: expected whole numbers from 0 to 2, got -1",
        ),
        (lambda: path.sample(half, tokens + 0.5), "x1: expected whole numbers from 0 to 2"),
        (lambda: flow.rows([[0, 3]]), "x: expected whole numbers from 0 to 2, got 3"),
        (lambda: flow.push(torch.zeros(2, 2)), r"x0: expected shape \(B, 2, 3\)"),
        (lambda: flow.log_prob(tokens), "a RoundedFlow rounds vectors to tokens"),
        (lambda: flow.trajectory(flow.source.sample(2), [1.0, 0.0]), "times: expected increasing times"),
        (lambda: flow.replace(solver=TauLeaping()), "solver: TauLeaping.* solves no ODE"),
        (lambda: EmbeddedTokens(3, VarianceExploding()), "schedule: expected alpha from 0 to 1"),
        (lambda: EmbeddedTokens(3, width=1), "width: expected an integer of at least 2"),
        (
            lambda: EmbeddedTokens(3, Polynomial(2.0)).sample(half, tokens + 2),
            "x1: expected whole",
        ),
        (lambda: SimplexTokens(1), "size: expected an integer of at least 2"),
        (lambda: field(torch.tensor(0.5), torch.ones(2, 4, 3)), "network: expected scores of shape"),
        (lambda: TokenTransformer(3, size=4)(0.5, torch.zeros(2, 3, 5)), "x: expected tokens of int64"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            call()
