"""The parts of docs/extending.md keep the contracts of their kinds, each with one line in a case table."""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import bijection_cases
import test_bijection_contract
import test_coupling_contract
import test_dataset_contract
import test_diffusion_contract
import test_divergence_contract
import test_flow_contract
import test_map_loss_contract
import test_metric_contract
import test_objective_contract
import test_path_contract
import test_recipe_contract
import test_solver_contract
import test_source_contract
import test_spaces
from pushforward.entries import KINDS
from pushforward.plugins import load_plugin
from pushforward.registry import create, found

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.M | re.S)
#: Lines of an example at most.
LONGEST = 45


def files() -> dict[str, str]:
    """The files of the page, by name."""
    return dict(FILE.findall(PAGE.read_text()))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every part of the page, registered from an empty folder as ``--plugin my_parts.py`` does."""
    folder = tmp_path_factory.mktemp("parts")
    for name, text in files().items():
        (folder / name).write_text(text)
    before, known = {name: dict(kind.entries) for name, kind in KINDS.items()}, set(sys.modules)
    path = list(sys.path)
    load_plugin(folder / "my_parts.py")
    yield
    sys.path[:] = path
    for name in {*sys.modules} - known:
        if name.startswith("my_"):
            del sys.modules[name]
    for name, kind in KINDS.items():
        for entry in {*kind.entries} - {*before[name]}:
            del kind.entries[entry]


def laplace(source: Any) -> test_source_contract.Truth:
    each: Any = stats.laplace(scale=float(source.log_scale.detach().exp()))
    variance = np.full(4, each.var())
    return test_source_contract.Truth(lambda x: each.logpdf(x).sum(1), np.zeros(4), variance)


def smirnov(x: torch.Tensor, y: torch.Tensor) -> float:
    """From its definition, at every point of both samples."""
    at = torch.cat([x[:, 0], y[:, 0]])
    f, g = ((rows[:, 0, None] <= at).double().mean(0) for rows in (x, y))
    return float((f - g).abs().max())


#: For every kind the module of its contract, the table of its cases, and what a part of the page adds to it.
ADDED: dict[str, tuple[ModuleType, str, str, Callable[[], Any]]] = {
    "path": (
        test_path_contract,
        "SCHEDULES",
        "curved",
        lambda: ("strength=3", lambda t: t**3, lambda t: 1 - t**3),
    ),
    "solver": (test_solver_contract, "CASES", "rk3", lambda: test_solver_contract.Case((3, 3, 3))),
    "loss": (test_map_loss_contract, "CASES", "thirds", lambda: test_map_loss_contract.Case()),
    "times": (test_objective_contract, "TIMES", "early", lambda: ("power=2", lambda t: t**0.5)),
    "base": (test_source_contract, "CASES", "laplace", lambda: ("scale=2.0", laplace)),
    "metric": (
        test_metric_contract,
        "CASES",
        "kolmogorov",
        lambda: test_metric_contract.Case(smirnov, 0.0),
    ),
    "flow": (
        test_flow_contract,
        "FLOWS",
        "columnwise",
        lambda: lambda: create("flow", "columnwise", (2,)),
    ),
    "divergence": (
        test_divergence_contract,
        "CASES",
        "one-element",
        lambda: test_divergence_contract.Case("one-element", test_divergence_contract.element),
    ),
    "diffusion": (
        test_diffusion_contract,
        "CASES",
        "early-noise",
        lambda: ("until=0.4", lambda t: np.sqrt(2 * (1 - t) * np.clip(1 - t / 0.4, 0, None))),
    ),
    "space": (test_spaces, "CASES", "hours", lambda: ("hours", 2)),
    "data": (test_dataset_contract, "CASES", "walks", lambda: test_dataset_contract.Case((2,), 400, "side")),
    "recipe": (test_recipe_contract, "CASES", "energy-matching", lambda: ("one-step", {})),
}


def tried(test: Callable[..., Any]) -> list[Any]:
    """The cases that a test of bijections runs over."""
    rows = [row for mark in getattr(test, "pytestmark", []) for row in mark.args[1]]
    return [row.values[0] for row in rows if hasattr(row, "values")]


def others(test: Callable[..., Any], argument: str) -> Iterator[dict[str, Any]]:
    """Every combination of what ``test`` is parametrised by beside ``argument``."""
    tables = []
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize" and isinstance(mark.args[0], str) and mark.args[0] != argument:
            tables.append([(mark.args[0], value) for value in mark.args[1]])
    for chosen in itertools.product(*tables):
        yield dict(chosen)


def of_everyone(module: ModuleType, table: str, argument: str = "name") -> list[Callable[..., Any]]:
    """The tests of a contract that run over the whole of a table, and ask for no fixture."""
    wanted = set(getattr(module, table))
    tests = []
    for name, test in vars(module).items():
        marks = [m for m in getattr(test, "pytestmark", []) if m.name == "parametrize"]
        over = [set(m.args[1]) for m in marks if m.args[0] == argument]
        asked = {*inspect.signature(test).parameters} if callable(test) and name.startswith("test_") else None
        if asked and over and over[0] >= wanted and asked == {m.args[0] for m in marks}:
            tests.append(test)
    return tests


@pytest.mark.parametrize("kind", ADDED)
def test_a_part_of_the_page_keeps_the_contract_of_its_kind(
    kind: str, parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, table, name, line = ADDED[kind]
    tests = of_everyone(module, table)
    assert tests
    monkeypatch.setitem(getattr(module, table), name, line())
    if hasattr(module, "CLASSES"):
        monkeypatch.setitem(module.CLASSES, name, found(kind, name))
    for test in tests:
        for values in others(test, "name"):
            test(name=name, **values)


def test_a_coupling_of_the_page_keeps_the_contract(parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = test_coupling_contract
    for group in ("PERMUTE", "ONCE"):  # it uses every row once
        monkeypatch.setattr(module, group, getattr(module, group) | {"sliced"})
    tests = of_everyone(module, "NAMES")
    assert tests
    for test in tests:
        for values in others(test, "name"):
            test(name="sliced", **values)


def test_a_bijection_of_the_page_keeps_the_contract(parts: None, tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(sys.modules["my_parts"].__file__ or "").parent))
    try:
        from my_bijections import Exp  # pyright: ignore[reportMissingImports]
    finally:
        del sys.path[0]
    alike = bijection_cases.CASES["sigmoid"]  # it has no parameters either, and another codomain
    case = bijection_cases.Case(lambda d: Exp(), scales=bijection_cases.NONE, reach=8.0)
    count = 0
    for name, test in vars(test_bijection_contract).items():
        if name == "test_density_integrates_to_one":  # over a grid of equal steps, too coarse near 0
            continue
        if name.startswith("test_") and alike in tried(test):
            fixed = {"scale": 0.0, "tmp_path": tmp_path}
            fixed = {key: fixed[key] for key in inspect.signature(test).parameters if key in fixed}
            for values in others(test, "case"):
                test(case=case, **fixed, **values)
            count += 1
    assert count > 8


def test_a_network_of_the_page_is_one(parts: None) -> None:
    """It begins at zero where asked, and refuses a condition that it does not know."""
    network = create("network", "linear-field", (3,), None)
    x = torch.randn(4, 3)
    assert network(torch.rand(4), x).shape == (4, 3) and not network.start_at_zero()(0.5, x).any()
    with pytest.raises(ValueError, match="condition"):
        network(0.5, x, torch.zeros(4))


@pytest.mark.parametrize("name", files())
def test_an_example_is_short(name: str) -> None:
    assert files()[name].count("\n") <= LONGEST


def test_every_kind_has_an_example(parts: None) -> None:
    """Weights and noise levels are as short as times, methods are named by recipes and flows, and a path of
    tokens is a path."""
    for kind, table in KINDS.items():
        own = [
            e for e in table.entries.values() if not getattr(e, "target", "pushforward.").startswith("push")
        ]
        assert own or kind in ("gamma", "weighting", "method", "tokens"), kind
