"""The verdict of the report: models that are good, overfit, underfit or copy, and tables that are hard."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer

from effort import first
from narrowing import known, one_tensor
from pushforward import random
from pushforward.bijections import Affine, Chain
from pushforward.config import DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.couplings import Rows
from pushforward.data import ConditionSpec, Schema
from pushforward.flows import BijectiveFlow, ContinuousFlow, Transformed
from pushforward.metrics import KernelDensity, fit_gaussian
from pushforward.recipes import train
from pushforward.report import build, compare_text
from pushforward.report.loaded_run import LoadedRun
from pushforward.report.notes import verdict_notes
from pushforward.report.verdict import judge
from pushforward.solvers import Heun
from pushforward.sources import Empirical, GaussianMixture, Kernels, Normal
from report_cases import labelled_plane, make_run, plane_run, table_run

NAMES = {"gaussian": "Gaussian", "mixture": "Gaussian mixture", "kernel_gaussian": "Gaussian kernel density"}


def ring() -> GaussianMixture:
    angle = torch.arange(4, dtype=torch.float64) * math.pi / 2
    return GaussianMixture(3 * torch.stack([angle.cos(), angle.sin()], 1), 0.3)


def verdict_of(run):
    return judge(LoadedRun(run))


# -- models whose fault is known -----------------------------------------------------------------------------


def trained(path, rows: int, seed: int, held_out: int, steps: int, **optim):
    x = ring().sample(rows, None, random.seeded("trained", seed))
    config = RunConfig(
        target="memory",
        seed=seed,
        data=DataConfig(holdout=held_out / rows, source="normal", validation=0.2),
        model=ModelConfig(method="nsf", flow="nsf,layers=3,bins=16"),
        optim=OptimConfig(steps=steps, folds=0, **optim),
    )
    return train(config, path, target=pd.DataFrame(x.numpy(), columns=["a", "b"]), show_progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", first(range(3)))
def test_flow_trained_too_long_overfits(tmp_path, seed):
    run = trained(tmp_path / "run", 90, seed, 26, 300, patience=0, ema=0.0, lr=5e-3, batch=64, warmup=0)
    verdict = verdict_of(run)
    assert verdict.headline.kind == "overfits"
    assert {cause.key for cause in verdict.headline.causes} >= {"below", "gap", "rise"}
    assert verdict.sentence.startswith("The model overfits. The mean log-density of training rows is")
    assert "--patience 10" in verdict.headline.command


@pytest.mark.parametrize("seed", first(range(3)))
def test_flow_of_few_steps_underfits(tmp_path, seed):
    run = trained(tmp_path / "run", 1000, seed, 200, 20)
    verdict = verdict_of(run)
    assert verdict.headline.kind == "underfits"
    assert verdict.sentence.startswith("The model underfits. The mean log-density of held-out rows")
    assert "--steps 400" in verdict.headline.command


@pytest.mark.parametrize("method", first(["nsf", "ot-cfm"]))
def test_flow_that_no_step_made_better_is_its_baseline(tmp_path, method):
    x = Normal(2).double().sample(150, None, random.seeded("normal rows"))
    frame = pd.DataFrame(x.numpy(), columns=["a", "b"])
    run = train(frame, tmp_path / "run", method=method, steps=30, show_progress=False)
    assert run.summary["kept_step"] == 0 and not any("loss" in row for row in run.history)
    page = build(run, samples=200).read_text()
    numbers = json.loads((run.path / "report.json").read_text())
    assert numbers["headline"]["kind"] in ("good", "below-baseline", "beaten")
    assert "It has learnt nothing beyond the baseline it started from (" in numbers["sentence"]
    assert (run.path / "figures" / "loss.png").exists() and "the flow is what it started from" in page
    assert f'<p class="kicker">{method} · table' in page


@pytest.mark.parametrize("seed", range(3))
def test_training_rows_with_little_noise_are_copies(tmp_path, seed):
    x = ring().sample(300, None, random.seeded("copied", seed))
    run = table_run(tmp_path, Kernels(x[60:], 1e-6 * torch.eye(2).double()), x[60:], x[:60])
    verdict = verdict_of(run)
    assert verdict.headline.kind == "copies"
    assert verdict.sentence.startswith("The model copies training rows: 100 %")
    assert "--noise 0.05" in verdict.headline.command
    # Rows that repeat others hide nothing: their distance of 0 is not the measure of nearness.
    run = table_run(tmp_path, Kernels(x[60:], 1e-6 * torch.eye(2).double()), x[60:].repeat(2, 1), x[:60])
    assert verdict_of(run).headline.kind == "copies"


@pytest.mark.parametrize("seed", range(3))
def test_true_distribution_is_good(tmp_path, seed):
    x = ring().sample(500, None, random.seeded("good", seed))
    verdict = verdict_of(table_run(tmp_path, ring(), x[100:], x[:100]))
    assert verdict.headline.kind == "good" and not verdict.headline.causes and not verdict.headline.command
    assert verdict.evidence.best == "mixture"
    assert "On 100 rows its samples are as near to held-out rows as real rows are." in verdict.sentence
    # The draws of the best baseline and of the Gaussian stand between the model and real rows.
    assert list(verdict.lines[1].values) == ["model", "mixture", "gaussian", "real"]
    mine, *others = verdict.evidence.densities.table
    for density in others:
        excess = known(density.lead).excess
        assert excess.value == pytest.approx(mine.gap.value - density.gap.value) and known(excess.spread) > 0
    assert set(verdict.beats) == {"mixture", "gaussian"} and "log_density" in verdict.beats["gaussian"]


@pytest.mark.parametrize("rows", [100, 2000])
@pytest.mark.parametrize("seed", range(5))
def test_gaussian_of_gaussian_rows_is_not_accused(tmp_path, rows, seed):
    generator = random.seeded("gaussian", seed)
    root = random.normal((3, 3), generator, torch.float64)
    x = random.normal((rows, 3), generator, torch.float64) @ root.T
    held = rows // 5
    run = table_run(tmp_path, fit_gaussian(x[held:]), x[held:], x[:held])
    verdict = judge(LoadedRun(run, samples=800))
    assert verdict.headline.kind == "good" and not verdict.headline.causes
    assert "as good as the best baseline" in verdict.sentence or verdict.evidence.best != "gaussian"


def test_memorising_model_without_density(tmp_path):
    run = plane_run(tmp_path / "run", rows=100, solver=Heun(steps=2))
    stuck = run.dataset.train.x.clone()
    inner = ContinuousFlow(lambda t, x, condition: torch.zeros_like(x), Heun(steps=1), Empirical(stuck))
    run.flow = Transformed(inner, Chain(), torch.float64)
    build(run, samples=100)
    numbers = json.loads((run.path / "report.json").read_text())
    assert numbers["memorisation"]["share"]["model"] == 1.0
    assert numbers["memorisation"]["share"]["real"] < 0.1
    # A source known only by its samples has no density: said, not guessed.
    assert numbers["density"] == [] and "known only by its samples" in numbers["density_facts"]["omitted"]
    assert all(line["key"] != "log_density" for line in numbers["verdict"])
    assert "known only by its samples" in (run.path / "report.html").read_text()
    assert numbers["headline"]["kind"] == "copies"


# -- too little to conclude from ----------------------------------------------------------------------------


def test_too_few_held_out_rows_are_never_praised(tmp_path):
    x = Normal(2).double().sample(100, None, random.seeded("few"))
    for held, text in ((19, "only 19 rows"), (7, "only 7 rows"), (0, "no rows were held out")):
        verdict = verdict_of(table_run(tmp_path, Normal(2).double(), x[held:], x[:held]))
        assert verdict.headline.kind == "undecided"
        assert verdict.sentence.startswith("Nothing can be concluded") and text in verdict.sentence
        assert "--holdout 0.2" in verdict.headline.command
    assert verdict_of(table_run(tmp_path, Normal(2).double(), x[20:], x[:20])).headline.kind != "undecided"


# -- tables that are hard ------------------------------------------------------------------------------------


def test_gaussian_of_breast_cancer_is_the_closed_form(tmp_path):
    x = torch.from_numpy(load_breast_cancer(return_X_y=True)[0])
    x = x[torch.from_numpy(np.random.default_rng(0).permutation(len(x)))]
    verdict = judge(LoadedRun(table_run(tmp_path, fit_gaussian(x[114:]), x[114:], x[:114]), samples=300))
    seen = x[114:].numpy()
    # at unit deviation, without which SciPy takes the covariance for singular
    mean, scale = seen.mean(0), seen.std(0)
    correlation: Any = np.corrcoef(seen.T)
    truly = multivariate_normal(np.zeros(30), correlation)
    truth = truly.logpdf((x[:114].numpy() - mean) / scale) - np.log(scale).sum()
    by_key = {density.key: density for density in verdict.evidence.densities.table}
    assert by_key["gaussian"].mean.value == pytest.approx(truth.mean(), abs=1e-6)
    assert by_key["gaussian"].mean.spread == pytest.approx(truth.std(ddof=1) / 114**0.5, rel=1e-6)
    assert {"mixture", "kernel_gaussian", "kernel_exponential"} < set(by_key)
    assert by_key["mixture"].note.endswith("components") and by_key["kernel_gaussian"].note.startswith(
        "width"
    )
    # Thirty columns of radii and areas are not normal, and the report says so.
    assert verdict.headline.kind in ("below-baseline", "underfits") and "lower than under" in verdict.sentence


def test_fewer_rows_than_columns_and_nearly_equal_columns(tmp_path):
    x = random.normal((54, 30), random.seeded("wide"), torch.float64)
    verdict = verdict_of(table_run(tmp_path, Normal(30).double(), x[30:], x[:30]))
    notes = {density.key: density.note for density in verdict.evidence.densities.table}
    assert "singular covariance, shrunk by" in notes["gaussian"]
    assert verdict.headline.kind == "good"
    x = random.normal((300, 3), random.seeded("twins"), torch.float64)
    x[:, 2] = x[:, 1] + 1e-9 * x[:, 2]
    verdict = verdict_of(table_run(tmp_path, Normal(3).double(), x[60:], x[:60]))
    assert (
        verdict.headline.kind == "underfits" and "lower than under the Gaussian mixture" in verdict.sentence
    )


def test_units_of_the_columns_do_not_matter(tmp_path):
    x = ring().sample(500, None, random.seeded("units"))
    units = Affine(torch.tensor([5e9, 0.0]).double(), torch.tensor([1e9, 1e-9]).double())
    plain = verdict_of(table_run(tmp_path, ring(), x[100:], x[:100]))
    run = table_run(tmp_path, ring(), units.forward(x[100:]), units.forward(x[:100]))
    run.flow = BijectiveFlow(units, ring())
    spread = verdict_of(run)
    assert spread.headline.kind == plain.headline.kind == "good"
    for one, other in zip(plain.lines[1:], spread.lines[1:]):
        assert other.values["model"].value == pytest.approx(one.values["model"].value, rel=1e-4, abs=0.02)
    bad = table_run(
        tmp_path, fit_gaussian(units.forward(x[100:])), units.forward(x[100:]), units.forward(x[:100])
    )
    assert verdict_of(bad).headline.kind == "underfits"


@pytest.mark.parametrize("row", first([0, 450]))
def test_one_outlier_hides_nothing(tmp_path, row):
    x = ring().sample(500, None, random.seeded("outlier"))
    x[row, 0] = 1e6

    def judged(model):
        about = LoadedRun(table_run(tmp_path, model, x[100:], x[:100]))
        verdict = judge(about)
        assert any(
            "c0 (1) lie more than 20 standard deviations" in note for note in verdict_notes(about, verdict)
        )
        return verdict.headline.kind

    assert judged(ring()) == "good"
    assert judged(GaussianMixture(torch.zeros(1, 2).double(), 3.0)) != "good"


def test_atoms_and_repeats_leave_log_densities_out(tmp_path):
    x = random.normal((400, 2), random.seeded("atoms"), torch.float64)
    x[:, 1] = x[:, 1].clamp(min=0.0)
    about = LoadedRun(table_run(tmp_path, fit_gaussian(x[80:]), x[80:], x[:80]))
    verdict = judge(about)
    assert verdict.headline.kind != "good" and "below" not in {c.key for c in verdict.headline.causes}
    assert any(
        "5 % of the rows of c1. No density is bounded" in note for note in verdict_notes(about, verdict)
    )
    x = random.normal((200, 2), random.seeded("repeats"), torch.float64).repeat(2, 1)
    x = x[random.uniform((400,), random.seeded("order"), torch.float64).argsort()]
    schema = Schema(name="twice", kind="table", event_shape=(2,), columns=("a", "b"), duplicates=200)
    run = table_run(tmp_path, fit_gaussian(x[80:]), x[80:], x[:80], schema=schema)
    verdict = verdict_of(run)
    assert verdict.headline.kind == "undecided" and "200 of 400 rows repeat others" in verdict.sentence
    assert "--deduplicate" in verdict.headline.command


def test_baselines_that_cannot_be_fitted_are_named(tmp_path):
    x = Normal(2).double().sample(30, None, random.seeded("tiny"))
    verdict = verdict_of(table_run(tmp_path, Normal(2).double(), x[15:], x[:15]))
    assert verdict.evidence.missing == [
        "No Gaussian mixture: x: expected at least 16 rows for a mixture, got 15."
    ]
    assert verdict.headline.kind == "undecided"


def test_label_that_training_has_not_seen(tmp_path):
    run = labelled_plane(tmp_path)
    run.dataset.train = run.dataset.train.take((run.dataset.train.condition != 3).nonzero()[:, 0])
    about = LoadedRun(run, samples=100)
    assert set(one_tensor(about.test.condition).tolist()) == {0, 1, 2}
    assert all(math.isfinite(density.mean.value) for density in judge(about).evidence.densities.table)


def test_conditions_of_several_columns(tmp_path):
    generator = random.seeded("several")
    c = random.normal((300, 2), generator, torch.float64)
    x = c + random.normal((300, 2), generator, torch.float64)

    def field(t, x, condition):
        t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1)
        return condition + (2 * t - 1) / (1 - 2 * t + 2 * t**2) * (x - t * condition)

    spec = ConditionSpec(kind="continuous", columns=("c", "d"), low=(-3.0, -3.0), high=(3.0, 3.0))
    schema = Schema(name="t", kind="table", event_shape=(2,), columns=("a", "b"), condition=spec)
    flow = ContinuousFlow(field, Heun(steps=16), Normal(2).double())
    run = make_run(tmp_path, flow, schema, Rows(x[100:], c[100:]), Rows(x[:100], c[:100]))
    verdict = judge(LoadedRun(run, samples=200))
    assert {density.key for density in verdict.evidence.densities.table} == {"model", "gaussian", "mixture"}
    assert verdict.headline.kind == "good" and len(verdict.evidence.missing) == 2


# -- what stands beside --------------------------------------------------------------------------------------


def test_labels_are_asked_for_and_read(tmp_path):
    run = labelled_plane(tmp_path)

    def accuracy():
        verdict = judge(LoadedRun(run, samples=200))
        line = verdict.line("label_accuracy")
        assert line is not None
        return {name: value.value for name, value in line.values.items()}, verdict.headline

    # Neighbouring corners are sqrt(2) apart, 2.83 deviations from the border: .995 are read right.
    found, _ = accuracy()
    assert found["model"] > 0.97 and found["real"] > 0.95 and found["gaussian"] > 0.97
    # The same distribution, asked for the wrong labels, is caught.
    run.flow.field.mixture.labels = run.flow.field.mixture.labels.roll(1)
    found, head = accuracy()
    assert found["model"] < 0.1
    assert any("classifier accuracy" in cause.text for cause in head.causes)


def test_floor_has_the_labels_of_the_held_out_rows(tmp_path):
    run = labelled_plane(tmp_path / "run")
    about = LoadedRun(run)
    x = about.like_reference(0)
    nearest = torch.cdist(x, run.flow.field.mixture.means).argmin(1)
    wanted = one_tensor(about.condition(about.reference))
    assert float((nearest == wanted).double().mean()) > 0.95
    assert not torch.equal(x, about.like_reference(1))


def test_rows_are_compared_with_rows_not_with_themselves(tmp_path):
    mine = plane_run(tmp_path / "run", rows=60)
    about = LoadedRun(mine)
    table = torch.cdist(about.like_reference(0), about.reference.x)
    assert float(table.min()) > 0
    # Without held-out rows half of the training rows stand in, never on both sides.
    mine.dataset.test = Rows(mine.dataset.train.x[:0])
    about = LoadedRun(mine)
    assert not about.held_out and len(about.train) == len(about.test) == 90
    assert float(torch.cdist(about.train.x, about.test.x).min()) > 0


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_kernels_are_drawn_from_their_density(kernel):
    x = torch.tensor([[0.0, 0.0], [100.0, 100.0]]).double().repeat(20, 1)
    x += 0.1 * random.normal(x.shape, random.seeded("rows"), torch.float64)
    labels = (x[:, 0] > 50).long()
    kde = KernelDensity(x, kernel, labels, generator=random.seeded("folds"))
    wanted = torch.arange(4000) % 2
    drawn = kde.sample(4000, wanted, random.seeded("draws"))
    assert torch.equal((drawn[:, 0] > 50).long(), wanted)
    # The entropy of draws is the mean of -log p, which another 4000 draws give to within three errors.
    one, other = (kde.log_prob(kde.sample(4000, wanted, random.seeded("draws", i)), wanted) for i in (1, 2))
    assert float(one.mean()) == pytest.approx(
        float(other.mean()), abs=3 * float(one.std()) * (2 / 4000) ** 0.5
    )
    # In one dimension: E|noise|^2 / width^2 is 1 for normal kernels, Gamma(d + 2) / Gamma(d) = 2 for others.
    flat = KernelDensity(x[:, :1], kernel, labels, generator=random.seeded("folds"))
    draws = flat.sample(20_000, torch.zeros(20_000).long(), random.seeded("flat"))[:, 0]
    own = x[labels == 0, 0]
    noise = float(draws.var()) - float(own.var(correction=0))
    scale = float(x[:, 0].std(correction=0)) * flat.width
    assert noise / scale**2 == pytest.approx(1.0 if kernel == "gaussian" else 2.0, rel=0.15)


def test_old_reports_compare_with_new_ones(tmp_path):
    run = table_run(tmp_path / "run", ring(), *ring().sample(200, None, random.seeded("old")).split(150))
    build(run, samples=150)
    new = json.loads((run.path / "report.json").read_text())
    assert new["headline"]["kind"] == "good" and new["best_baseline"] == "mixture"
    old = {key: value for key, value in new.items() if key not in ("headline", "best_baseline", "beats")}
    old["density"] = [{"key": "model", "mean": 1.0}, {"key": "gaussian", "gain": 0.1}]
    text = compare_text(old, new)
    row = next(row for row in text.splitlines() if row.startswith("Log-density beyond the best baseline"))
    assert "–" in row and row[-1].isdigit()
    assert "Log-density of training rows beyond held-out rows" in text
