"""Every recipe from the command line: it trains, its flow loads, samples and says what it cannot do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pushforward
from pushforward.cli import main
from pushforward.couplings import SinkhornOT
from pushforward.entries import METHODS
from pushforward.flows import ConsistencyFlow, ContinuousFlow, DiffusionFlow
from pushforward.metrics import energy_distance, transport_cost
from pushforward.recipes.base import family
from pushforward.recipes.defaults import label
from pushforward.sources import Empirical

SMALL = [
    "--steps",
    "20",
    "--batch",
    "64",
    "--plan",
    "64",
    "--reuse",
    "2",
    "--pairs",
    "100",
    "--no-report",
    "--folds",
    "0",
    "--validation",
    "0",
    "--source",
    "normal",
]


def small(*flags: str) -> list[str]:
    """:data:`SMALL`, with a small network for methods that have one."""
    method = flags[flags.index("--method") + 1] if "--method" in flags else "fm"
    if family(method).takes_tokens:
        return [*SMALL, "--network", "transformer,width=8,depth=1", "--steps", "5"]
    return SMALL if "flow" in METHODS[method].defaults else [*SMALL, "--network", "mlp,width=16,depth=2"]


def train(out, *flags, data="moons", end=0):
    rows = ["--rows", "300"] if data == "moons" else []
    assert main(["train", data, "--out", str(out), *small(*flags), *rows, *flags]) == end
    return pushforward.load(out)


def fails(capsys, *arguments: str, says: str) -> None:
    capsys.readouterr()
    assert main(list(arguments)) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1 and says in err, err


#: recipes for images alone, with a small network
FOR_IMAGES = {
    "glow": "glow,levels=1,steps=1,width=8",
    "tarflow": "tarflow,blocks=2,layers=1,width=16,heads=2",
}


#: methods of tokens
TOKENS = {method for method in METHODS if family(method).takes_tokens}


@pytest.mark.parametrize("method", sorted(METHODS.keys() - FOR_IMAGES.keys() - TOKENS))
def test_every_recipe_trains_and_samples(method, tmp_path):
    flow = train(tmp_path / "run", "--method", method, "--condition", "label")
    x = flow.sample(50, torch.tensor([0, 1]))
    assert x.shape == (50, 2, 2) and bool(x.isfinite().all())
    main(["sample", str(tmp_path / "run"), "-n", "10", "-o", str(tmp_path / "x.csv")])
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 11
    if flow.density == "none":
        return
    logs = flow.log_prob(flow.sample(8, torch.tensor(0)), torch.tensor(0))
    assert logs.shape == (8,) and bool(logs.isfinite().all())


@pytest.mark.parametrize("method", sorted(FOR_IMAGES))
def test_every_recipe_for_images_trains_and_samples(method, tmp_path):
    flags = ("--method", method, "--flow", FOR_IMAGES[method], "--condition", "label")
    flow = train(tmp_path / "run", *flags, data="digits")
    x = flow.sample(3, torch.tensor([0, 1]))
    assert x.shape == (3, 2, 1, 8, 8) and bool(x.isfinite().all())


@pytest.mark.parametrize("tokens", ["masked", "uniform --coupling ot --plan 128", "metric,scale=30"])
def test_levels_are_trained_sampled_and_scored_as_tokens(tokens, tmp_path, capsys):
    run = str(tmp_path / "run")
    network = ("--network", "transformer,width=8,depth=1")
    flags = ("--method", "dfm", "--tokens", *tokens.split(), "--steps", "5", *network, "--condition", "label")
    assert main(["train", "digits", "--out", run, "--no-report", *flags]) == 0
    flow = pushforward.load(run)
    x = flow.sample(3, torch.tensor([0, 1]))
    assert x.shape == (3, 2, 1, 8, 8) and bool(((x >= 0) & (x <= 16) & (x == x.round())).all())
    assert flow.density == "bound" and flow.log_prob(x[:, 0], torch.tensor([0, 0, 0])).shape == (3,)
    drawn = str(tmp_path / "x.npz")
    mended = "0" if "coupling" in tokens else "2"
    guided = ("--guidance", "2", "--solver", f"jump-euler,steps=4,corrector={mended},temperature=0.8")
    assert main(["sample", run, "-n", "20", *guided, "-o", drawn]) == 0
    capsys.readouterr()
    assert main(["score", run, drawn, "-o", str(tmp_path / "scores.csv")]) == 0
    told = capsys.readouterr().err
    assert "mean log_prob_bound of 20 rows" in told and "at most" in told and "bits per dimension" in told
    drawn_bounds = str(tmp_path / "bounds.csv")
    assert main(["score", run, drawn, "--probes", "3", "-o", drawn_bounds]) == 0
    assert (tmp_path / "bounds.csv").read_text().startswith("log_prob_bound,log_prob_bound_error\n")
    # 17 levels that are all equally likely are 4.09 bits, but the bound from uniform noise is not tight
    assert 3 < float(told.partition("at most ")[2].partition(" ")[0]) < 6


def test_the_loss_of_tokens_is_chosen(tmp_path):
    def field(**settings):
        network = {"network": "transformer,width=8,depth=1", "steps": 3}
        run = pushforward.train(
            "digits", tmp_path / f"{settings}", method="dfm", show_progress=False, **network, **settings
        )
        return run, run.flow.state_dict()

    (plain, first), (_, same), (other, changed) = field(), field(loss="elbo"), field(loss="cross-entropy")
    assert all(torch.equal(value, same[key]) for key, value in first.items())
    assert any(not torch.equal(value, changed[key]) for key, value in first.items())
    assert plain.config.model.loss is None and label(plain.config) == "dfm"
    assert label(other.config) == "dfm (loss cross-entropy)"


def test_what_tokens_refuse(tmp_path, capsys):
    digits = ("train", "digits", "--method", "dfm", "--out", str(tmp_path / "run"))
    for flags, says in (
        (
            ("train", "moons", "--method", "dfm"),
            "preprocess: tokens are whole levels, such as those of images",
        ),
        ((*digits, "--solver", "rk4"), "--solver rk4: tokens jump; take tau-leaping"),
        ((*digits, "--network", "mlp"), "--network mlp: is not for tokens, got --method dfm"),
        (("train", "digits", "--network", "transformer"), "--network transformer: is for tokens alone"),
        ((*digits, "--path", "vp"), "--path vp: "),
        (
            (*digits, "--tokens", "metric", "--path", "trig"),
            "--path trig: --tokens metric follows no schedule",
        ),
        ((*digits, "--preprocess", "logit"), "--preprocess logit: --method dfm takes levels as tokens"),
        ((*digits, "--coupling", "ot"), "--coupling ot: along --tokens masked it changes nothing"),
        ((*digits, "--coupling", "ot", "--tokens", "metric"), "--coupling ot: along --tokens metric it"),
        ((*digits, "--coupling", "sinkhorn", "--tokens", "uniform"), "--coupling sinkhorn: compares numbers"),
        ((*digits, "--source", "moons"), "--source moons: --method dfm has its own"),
        ((*digits, "--loss", "lagrangian"), "--loss lagrangian: --method dfm takes elbo or cross-entropy"),
        ((*digits, "--loss", "cross-entropy,times=late"), "unknown option 'times'; it takes none"),
        (
            ("train", "moons", "--method", "flow-map", "--loss", "elbo"),
            "--loss elbo: --method flow-map takes lagrangian, eulerian, semigroup, ",
        ),
        (("train", "moons", "--loss", "elbo"), "--loss elbo: does not go with --method fm"),
        (("train", "moons", "--tokens", "masked"), "--tokens masked: does not go with --method fm"),
    ):
        fails(capsys, *flags, says=says)


@pytest.mark.parametrize("path", ["lipman", "trig", "polynomial,power=2", "follmer", "vp", "ve,sigma_max=10"])
@pytest.mark.parametrize("gamma", ["0", "0.05", "brownian,sigma=0.2", "quadratic", "sine"])
def test_every_path_and_gamma_trains(path, gamma, tmp_path):
    flow = train(tmp_path / "run", "--path", path, "--gamma", gamma)
    assert bool(flow.sample(20).isfinite().all())


@pytest.mark.parametrize(
    "flags",
    [("--times", "logit-normal"), ("--times", "u-shaped,a=2"), ("--weighting", "power,late=1")],
    ids=lambda flags: flags[1],
)
def test_times_and_weightings_train(flags, tmp_path):
    assert bool(train(tmp_path / "run", *flags).sample(5).isfinite().all())


def test_a_source_by_name_is_where_the_flow_starts(tmp_path, capsys):
    flow = train(tmp_path / "run", "--source", "8gaussians", "--method", "ot-cfm", "--preprocess", "none")
    distribution = flow.source
    assert isinstance(distribution, Empirical) and distribution.rows.shape == (300, 2)
    # eight modes at radius 5
    assert float(distribution.rows.norm(dim=1).mean()) == pytest.approx(5, abs=0.2)
    rows = {tuple(row) for row in distribution.rows.tolist()}
    assert all(tuple(row) in rows for row in distribution.sample(50).tolist())
    fails(capsys, "score", str(tmp_path / "run"), "moons", says="known only by its samples")


def test_a_source_given_as_a_file_is_moved_like_the_data(tmp_path):
    """In the model's space the source is standardised by the target's numbers, so units stay common."""
    g = np.random.default_rng(0)
    target = g.normal([1000.0, -3.0], [5.0, 0.1], (400, 2))
    start = g.normal([990.0, -2.9], [5.0, 0.1], (300, 2))
    np.savetxt(tmp_path / "t.csv", target, delimiter=",", header="a,b", comments="")
    np.savetxt(tmp_path / "s.csv", start, delimiter=",", header="a,b", comments="")
    flow = train(tmp_path / "run", "--source", str(tmp_path / "s.csv"), data=str(tmp_path / "t.csv"))
    back = flow.bijection.forward(flow.source.rows.double())
    known = {tuple(row) for row in np.round(start, 3).tolist()}
    assert all(tuple(row) in known for row in np.round(back.numpy(), 3).tolist())


def test_given_points_are_carried_over_and_back(tmp_path, capsys):
    """Units are the file's on both sides; the way back ends where the points were."""
    g = np.random.default_rng(0)
    for name, mean in (("t", [1000.0, -3.0]), ("s", [990.0, -2.9])):
        np.savetxt(
            tmp_path / f"{name}.csv",
            g.normal(mean, [5.0, 0.1], (300, 2)),
            delimiter=",",
            header="a,b",
            comments="",
        )
    run, start = str(tmp_path / "run"), str(tmp_path / "s.csv")
    flow = train(tmp_path / "run", "--source", start, data=str(tmp_path / "t.csv"))
    moved, back = tmp_path / "moved.csv", tmp_path / "back.npy"
    tight = ["--solver", "dopri5,rtol=1e-6,atol=1e-6"]
    assert main(["push", run, start, "-o", str(moved), *tight]) == 0
    assert main(["push", run, str(moved), "-o", str(back), "--back", *tight]) == 0
    points = np.loadtxt(start, delimiter=",", skiprows=1)
    assert np.abs((np.load(back) - points) / [5.0, 0.1]).max() < 1e-3
    table = np.loadtxt(moved, delimiter=",", skiprows=1)
    expected = flow.push(flow.bijection.inverse(torch.from_numpy(points)).float()).detach().numpy()
    assert np.abs((table - expected) / [5.0, 0.1]).max() < 1e-2
    capsys.readouterr()

    one = str(tmp_path / "one")
    train(tmp_path / "one", "--distil", "--reflow", "1", "--pairs", "200")
    assert main(["push", one, "moons", "-o", str(moved)]) == 0
    fails(capsys, "push", one, "moons", "--back", says="runs one way")


def test_latent_points_of_images_are_not_written_as_images(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    train(tmp_path / "run", "--network", "mlp,width=16", data=str(tmp_path / "x.npy"))
    push = ["push", str(tmp_path / "run"), str(tmp_path / "x.npy"), "-o", str(tmp_path / "moved.npy")]
    fails(capsys, *push, says="latent points of images")


def test_a_plan_between_two_whole_data_sets_and_one_fitted_to_the_target(tmp_path, capsys):
    flow = train(tmp_path / "a", "--source", "8gaussians", "--coupling", "dataset", "--rows", "200")
    assert flow.source.rows.shape == (200, 2)
    fails(
        capsys,
        *["train", "moons", "--out", str(tmp_path / "b"), *small(), "--coupling", "dataset"],
        says="expected the rows of a data set",
    )
    fails(
        capsys,
        *["train", "moons", "--out", str(tmp_path / "b"), *small(), "--method", "semidiscrete-ot"],
        *["--source", "8gaussians"],
        says="two finite sets are paired by the coupling `dataset`",
    )
    assert not (tmp_path / "b").exists()
    train(tmp_path / "c", "--method", "semidiscrete-ot")
    state = load_file(tmp_path / "c" / "coupling.safetensors")
    assert state["potentials"].shape == (300,) and float(state["info.chi_square"]) < 0.05


def test_sources_that_do_not_fit_are_refused(tmp_path, capsys):
    np.save(tmp_path / "three.npy", np.random.default_rng(0).normal(size=(100, 3)))
    out = str(tmp_path / "run")
    common = ["train", "moons", "--out", out, *small()]
    fails(capsys, *common, "--source", str(tmp_path / "three.npy"), says="expected rows of shape (2,)")
    fails(capsys, *common, "--source", "8gaussian", says="8gaussians")
    fails(
        capsys,
        *common,
        "--source",
        "8gaussians",
        "--method",
        "vp",
        says="velocities can start from any source along",
    )
    fails(capsys, *common, "--source", "8gaussians", "--prediction", "data", says="needs a normal source")
    assert not (tmp_path / "run").exists()


def test_constant_noise_is_added_to_the_start_and_not_to_x0(tmp_path):
    """x_0 = x0 + gamma z: the flow starts from deviation sqrt(1 + gamma^2)."""
    flow = train(tmp_path / "run", "--gamma", "0.5")
    assert float(flow.source.scale) == pytest.approx(1.25**0.5)


def test_the_bridges_plan_has_the_epsilon_of_its_noise(tmp_path):
    from pushforward.config import ModelConfig, RunConfig
    from pushforward.recipes import by_method, recipe_of

    def coupling(**model):
        config = RunConfig(target="moons", model=ModelConfig(coupling="sinkhorn", **model))
        found = recipe_of(by_method(config)).coupling
        assert isinstance(found, SinkhornOT)
        return found

    matched = coupling(gamma="brownian,sigma=0.3")
    assert matched.epsilon == pytest.approx(2 * 0.3**2) and not matched.relative
    assert coupling(gamma="0").relative


def test_sf2m_samples_by_its_ode_and_by_its_sde(tmp_path, capsys):
    flow = train(tmp_path / "ode", "--method", "sf2m")
    assert isinstance(flow.flow, ContinuousFlow)
    noisy = train(tmp_path / "sde", "--method", "sf2m", "--solver", "euler-maruyama,steps=10")
    assert isinstance(noisy.flow, DiffusionFlow)
    x0 = noisy.source.sample(5)
    g = [torch.Generator().manual_seed(k) for k in (0, 0, 1)]
    a, b, c = (noisy.push(x0, None, generator) for generator in g)
    assert torch.equal(a, b) and not torch.equal(a, c)
    fails(capsys, "score", str(tmp_path / "sde"), "moons", says="no inverse and no density")
    drawn = ["-n", "3", "-o", str(tmp_path / "drawn.csv"), "--solver"]
    assert main(["sample", str(tmp_path / "sde"), *drawn, "stochastic-heun,steps=5"]) == 0
    says = "solves an ODE, and this flow follows an SDE"
    fails(capsys, "sample", str(tmp_path / "sde"), *drawn, "heun", says=says)
    assert main(["sample", str(tmp_path / "ode"), *drawn, "euler-maruyama,steps=5"]) == 0
    flags = ["--method", "fm", "--solver", "euler-maruyama,steps=10"]
    out = str(tmp_path / "fm")
    fails(
        capsys,
        "train",
        "moons",
        "--out",
        out,
        *small(),
        *flags,
        says="say pushforward sample RUN --solver euler-maruyama,steps=10",
    )
    flags = ["--method", "sf2m", "--gamma", "0.1"]
    fails(capsys, "train", "moons", "--out", out, *small(), *flags, says="--gamma brownian")


def test_noise_of_a_sample_is_chosen_or_refused_with_the_reason(tmp_path, capsys):
    run, out = str(tmp_path / "fm"), str(tmp_path / "x.csv")
    flow = train(run)
    for noise in ("0.5", "memoryless,floor=0.01", "proportional"):
        flags = ["--solver", "stochastic-heun,steps=5", "--diffusion", noise]
        assert main(["sample", run, "-n", "5", "-o", out, *flags]) == 0
    assert main(["sample", run, "-n", "5", "-o", out, "--diffusion", "0.5"]) == 0
    x = torch.randn(4, 2)
    t = torch.tensor(0.4)
    assert flow.score(t, x).shape == flow.data(t, x).shape == (4, 2)

    def refused(*flags: str, says: str, run: str = run) -> None:
        fails(capsys, "sample", run, "-n", "5", "-o", out, *flags, says=says)

    refused(
        "--diffusion", "-1", says="--diffusion 'constant,g=-1': g: expected a finite number of at least 0"
    )
    refused("--diffusion", "sometimes", says="unknown diffusion 'sometimes'")
    says = "--diffusion: needs a stochastic solver such as euler-maruyama, got heun"
    refused("--diffusion", "1", "--solver", "heun", says=says)
    train(tmp_path / "ot", "--method", "ot-cfm")
    reasons = {
        "ot": "--coupling ot makes noise depend on the data, so that -noise / sigma is not the score",
        "reflow": "reflow trains on pairs of its own starts and ends",
        "moved": "--source 8gaussians is not normal",
        "sf2m": "it follows a drift",
        "nsf": "it does not follow a velocity field",
    }
    train(tmp_path / "reflow", "--method", "rectified-flow")
    train(tmp_path / "moved", "--source", "8gaussians")
    train(tmp_path / "sf2m", "--method", "sf2m", "--solver", "euler-maruyama,steps=5")
    train(tmp_path / "nsf", "--method", "nsf")
    for name, says in reasons.items():
        refused("--diffusion", "0.5", says=says, run=str(tmp_path / name))
        with pytest.raises(ValueError, match="no score, data prediction or noise"):
            pushforward.load(tmp_path / name).score(t, x)


@pytest.mark.parametrize(
    "flags",
    [
        ("--source", "8gaussians"),
        ("--method", "rectified-flow", "--distil"),
        ("--method", "sf2m", "--solver", "euler-maruyama,steps=5"),
        ("--method", "vp"),
    ],
    ids=["data as source", "one step", "stochastic", "diffusion path"],
)
def test_flows_of_every_kind_have_a_report(flags, tmp_path, capsys):
    flags = [flag for flag in small(*flags) if flag != "--no-report"] + list(flags)
    assert main(["train", "moons", "--rows", "300", "--out", str(tmp_path / "run"), *flags]) == 0
    assert "no report" not in capsys.readouterr().err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["round_trip"] is None) == ("--distil" in flags or "sf2m" in flags)


@pytest.mark.slow
def test_reflow_straightens_and_distillation_takes_one_step(tmp_path):
    """After one round Euler's single step is nearer to the flow than before; distilled, nearer still."""
    flags = ["--network", "mlp,width=64,depth=2", "--steps", "1500", "--batch", "256", "--pairs", "10000"]
    common = ["--solver", "heun,steps=20", "--rows", "4000"]
    teacher = train(tmp_path / "fm", *flags, *common)
    straight = train(tmp_path / "rf", *flags, *common, "--reflow", "1", "--teacher", str(tmp_path / "fm"))
    distilled = train(
        tmp_path / "one", *flags, *common, "--reflow", "1", "--distil", "--teacher", str(tmp_path / "fm")
    )
    assert isinstance(distilled.flow, ConsistencyFlow)
    x0 = teacher.source.sample(2000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ends = teacher.push(x0)
        one = pushforward.solvers.Euler(steps=1)
        before = transport_cost(teacher.replace(solver=one).push(x0), ends)
        after = transport_cost(straight.replace(solver=one).push(x0), ends)
        last = transport_cost(distilled.push(x0), ends)
    assert after < 0.25 * before and last < after
    with torch.no_grad():
        x = distilled.sample(2000, generator=torch.Generator().manual_seed(1))
        other = teacher.sample(2000, generator=torch.Generator().manual_seed(2))
    # two samples of one distribution of 2,000 points each: their energy distance is near (1/n + 1/m) E|X -
    # X'|
    assert energy_distance(x, other) < 5 * 2 / 2000 * float(torch.cdist(other, other).mean())
    with pytest.raises(ValueError, match="no inverse and no density"):
        distilled.log_prob(x)


def test_a_run_of_several_stages_stops_and_goes_on(tmp_path, capsys, monkeypatch):
    """Interrupted in its second stage it loads; the same command ends where an uninterrupted run does."""
    from pushforward.training import trainer

    flags = ["--method", "rectified-flow", "--distil", "--checkpoint-every", "5"]
    whole = train(tmp_path / "whole", *flags)

    class Tired(trainer.Interrupt):
        fits = 0

        def __enter__(self):
            Tired.fits += 1
            return super().__enter__()

    def stop(self, interrupt):
        return Tired.fits == 2 and self.ema is not None and len(self.log.pending.get("train", [])) >= 7

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "Interrupt", Tired)
        patch.setattr(trainer.Trainer, "_stop", stop)
        with pytest.warns(UserWarning, match="of stage reflow-1"):
            train(tmp_path / "part", *flags, end=130)
    state = json.loads((tmp_path / "part" / "stages" / "reflow-1" / "run.json").read_text())
    assert state["stage"] == "reflow-1" and state["ended"] is None
    assert (tmp_path / "part" / "stages" / "train" / "run.json").exists()
    capsys.readouterr()
    again = train(tmp_path / "part", *flags)
    assert "stage 2 of 3: reflow-1" in capsys.readouterr().err
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    fails(
        capsys,
        *["train", "moons", "--out", str(tmp_path / "part"), *small(), "--rows", "300", *flags],
        *["--steps", "30"],
        says="--steps and --minutes cannot change in a run of several stages",
    )


def test_teachers_that_do_not_fit_are_refused(tmp_path, capsys):
    train(tmp_path / "iris", data="iris")
    common = ["train", "moons", "--out", str(tmp_path / "run"), *small(), "--teacher", str(tmp_path / "iris")]
    fails(capsys, *common, says="say --reflow 1 or --distil")
    fails(capsys, *common, "--reflow", "1", says="was trained on")
    train(tmp_path / "labelled", "--condition", "label")
    common[-1] = str(tmp_path / "labelled")
    fails(capsys, *common, "--reflow", "1", says="expected the same --condition")


def test_an_earlier_stage_of_a_finished_run_opens_without_a_warning(tmp_path):
    train(tmp_path / "run", "--method", "rectified-flow", "--pairs", "64", "--rows", "100")
    assert pushforward.load(tmp_path / "run", stage="train").sample(2).shape == (2, 2)
