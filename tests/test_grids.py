"""Named time grids against what their papers say of them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from contract import classes
from pushforward.solvers import GRIDS, Gridded, Heun
from pushforward.solvers.grids import cosine, karras, shifted

named = pytest.mark.parametrize("name", GRIDS)


@named
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
def test_a_grid_rises_from_zero_to_one(name: str, steps: int) -> None:
    solver = Heun(steps, name)
    assert solver.steps == steps and len(solver.grid) == steps + 1
    assert solver.grid[0] == 0.0 and solver.grid[-1] == 1.0
    assert all(later > earlier for earlier, later in zip(solver.grid, solver.grid[1:]))
    assert repr(solver) == (
        f"Heun(steps={steps})" if name == "uniform" else f"Heun(steps={steps}, grid={name!r})"
    )


@named
def test_every_solver_of_fixed_steps_takes_every_grid(name: str) -> None:
    for cls in classes("solver").values():
        if issubclass(cls, Gridded):
            assert cls(steps=4, grid=name).grid == Heun(4, name).grid


def test_shifts_after_each_other_multiply() -> None:
    """Of the time of the noise 1 - t the shift is s tau / (1 + (s - 1) tau), as in the paper."""
    once = [1 - t for t in shifted(10, 3.0)]
    twice = [2 * tau / (1 + (2 - 1) * tau) for tau in once]
    assert twice == pytest.approx([1 - t for t in shifted(10, 6.0)])
    assert shifted(10, 1.0) == pytest.approx([i / 10 for i in range(11)])


def test_karras_spaces_the_roots_of_the_noise_equally() -> None:
    roots = [((1 - t) / t) ** (1 / 5) for t in karras(12, 5.0)[1:-1]]
    gaps = [a - b for a, b in itertools.pairwise(roots)]
    assert gaps == pytest.approx([gaps[0]] * len(gaps))
    assert roots[-1] ** 5 == pytest.approx(0.002) and (roots[0] + gaps[0]) ** 5 == pytest.approx(80)


def test_cosine_spaces_the_angle_of_the_noise_equally() -> None:
    angles = [math.atan2(t, 1 - t) for t in cosine(9)]
    assert angles == pytest.approx([i / 9 * math.pi / 2 for i in range(10)])


def test_a_grid_is_where_the_solver_evaluates() -> None:
    times: list[float] = []

    def velocity(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        times.append(float(t))
        return -x

    Heun(4, "karras:3").solve(velocity, torch.ones(1, 1).double(), 0.0, 0.5)
    assert sorted(set(times)) == pytest.approx([0.5 * g for g in karras(4, 3.0)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("karas", "unknown grid 'karas'; did you mean 'karras'"),
        ("shifted:-1", "shift: expected a finite number above 0, got -1"),
        ("shifted:", "shifted takes one number, shift, after the colon, got 'shifted:'"),
        ("cosine:2", "cosine takes no number, got 'cosine:2'"),
    ],
)
def test_wrong_texts_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Heun(3, text)
