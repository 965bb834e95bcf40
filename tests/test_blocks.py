"""Normalizing flows that are trained block by block."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import pushforward
from pushforward.config import RunConfig
from pushforward.gradient_flows import gaussian_jko
from pushforward.oracles import TwoMoons
from pushforward.random import seeded
from pushforward.recipes import Run, recipe_of, resolve
from pushforward.recipes.open import load_dataset


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Tensor]:
    """A run on N(0, 4 I) in four blocks of h = 0.3, and its training rows."""
    x = 2 * torch.randn(5000, 2, generator=seeded("blocks"))
    settings: dict[str, Any] = {"blocks": 4, "horizon": 1.2, "growth": 1.0, "steps": 150, "ema": 0.97}
    settings |= {"network": "mlp,width=32,depth=2,activation=tanh", "lr": 2e-2, "holdout": 0.1}
    out = tmp_path_factory.mktemp("blocks") / "run"
    run = pushforward.train(x, out, method="jko-iflow", preprocess="none", show_progress=False, **settings)
    return run, run.dataset.train.x


def test_each_stage_is_a_step_of_the_scheme(normal: tuple[Run, Tensor]) -> None:
    """The rows that the blocks so far carry away have the variance of the closed form, within 4 per cent."""
    run, x = normal
    m, c = torch.zeros(2), torch.cov(x.T)
    for number in range(1, 5):
        m, c = gaussian_jko(m, c, 1.0, 0.3)
        flow = pushforward.load(run.path, stage=f"block-{number}")
        carried = torch.cov(flow.pull(x).T)
        assert float(carried.trace()) == pytest.approx(float(c.trace()), rel=0.04)


def test_the_density_is_that_of_the_rows_carried_to_a_normal_distribution(normal: tuple[Run, Tensor]) -> None:
    """A map of the closed form takes 2 x to N(0, v), which the flow calls N(0, 1)."""
    run, x = normal
    y = 2 * torch.randn(4000, 2, generator=seeded("density"))
    m, c = torch.zeros(2), torch.cov(x.T)
    for _ in range(4):
        m, c = gaussian_jko(m, c, 1.0, 0.3)
    spread = 2 / float((c.trace() / 2).sqrt())
    wanted = torch.distributions.Normal(0.0, spread).log_prob(y).sum(1)
    assert float((run.flow.log_prob(y) - wanted).abs().mean()) < 0.1
    assert float((run.flow.push(run.flow.pull(y)) - y).abs().max()) < 1e-4
    drawn = run.flow.sample(4000, generator=seeded("drawn"))
    # 8,000 numbers, whose variance has a relative deviation of 0.016
    assert float(drawn.var()) == pytest.approx(spread**2, rel=0.07)
    path = run.flow.trajectory(run.flow.pull(y), torch.linspace(0, 1, 5)).path
    assert path is not None and bool((path[1:].var((1, 2)) > path[:-1].var((1, 2))).all())


def test_sizes_grow_geometrically_to_the_horizon() -> None:
    config = RunConfig.of("moons", method="jko-iflow", blocks=3, horizon=7.0, growth=2.0, rows=100)
    recipe: Any = recipe_of(resolve(config, load_dataset(config).schema))
    assert recipe.sizes == [1.0, 2.0, 4.0]
    assert [stage.name for stage in recipe.stages] == ["block-1", "block-2", "block-3"]


def test_labels_have_flows_of_their_own() -> None:
    x = torch.randn(600, 2, generator=seeded("labels"))
    y = (torch.arange(600) % 2).long()
    x = x + 4 * y[:, None]
    run = pushforward.train((x, y), method="jko-iflow", blocks=2, steps=60, show_progress=False)
    means = [run.flow.sample(300, torch.tensor(k), generator=seeded(k)).mean() for k in range(2)]
    assert means[0].item() < 1 and means[1].item() > 3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"folds": 3}, "folds 3: method jko-iflow trains block by block; say folds 0"),
        ({"guidance": 2.0, "condition": "label"}, "guidance 2: method jko-iflow takes none"),
        ({"source": "baseline"}, "source baseline: method jko-iflow has a source of its own"),
        ({"source": "8gaussians"}, "source 8gaussians: method jko-iflow needs a source of known density"),
        ({"drop_condition": 0.5}, "drop_condition 0.5: does not go with method jko-iflow"),
        ({"path": "vp"}, "path vp: does not go with method jko-iflow"),
        ({"blocks": 0}, "blocks: expected at least 1, got 0"),
        ({"horizon": 0.0}, "horizon: expected a number in (0, 1e+06], got 0.0"),
        ({"growth": 0.0}, "growth: expected a number in [0.01, 100], got 0.0"),
        ({"train_solver": "euler-maruyama"}, "follows an ODE"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        pushforward.train("moons", method="jko-iflow", rows=100, steps=2, show_progress=False, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.thorough
def test_two_moons_come_within_a_tenth_of_their_entropy() -> None:
    truth = TwoMoons(0.05)
    run = pushforward.train("moons", method="jko-iflow", rows=4000, seed=3, show_progress=False)
    x = truth.sample(4000, generator=seeded("moons"))
    assert float((truth.log_prob(x) - run.flow.log_prob(x)).mean()) < 0.1
    assert float((run.flow.push(run.flow.pull(x)) - x).abs().max()) < 1e-3
