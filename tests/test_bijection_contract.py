"""The contract of every bijection, as :class:`~pushforward.bijections.Bijection` states it, over the table in
``bijection_cases``; derivatives are in ``test_bijection_derivatives``."""

from __future__ import annotations

import copy
import inspect
import math
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bijection_cases import (
    CASES,
    DOUBLE,
    EACH,
    LABELS,
    SURJECTIONS,
    Case,
    allowed,
    apart,
    at_noise,
    by_row,
    gen,
    inputs,
    jacobians,
    labels,
    perturbed,
    way,
)
from pushforward import bijections
from pushforward.bijections import Bijection, Chain, Inverse, InverseFailed, monotone
from pushforward.bijections.monotone import Monotone


def public(module: ModuleType, base: type) -> set[type]:
    found = {v for v in vars(module).values() if isinstance(v, type) and issubclass(v, base)}
    return {v for v in found if not inspect.isabstract(v)}


def missing(wanted: set[type], found: set[type]) -> list[str]:
    return sorted(kind.__name__ for kind in wanted - found)


def test_every_public_class_has_a_case() -> None:
    layers = [m for case in CASES.values() for m in case.new().modules()]
    found = {*map(type, layers), *(type(make()) for make in SURJECTIONS.values())}
    families = {type(m.monotone) for m in layers if hasattr(m, "monotone")}
    left = missing(public(bijections, Bijection), found) + missing(public(monotone, Monotone), families)
    assert not left, f"tests/bijection_cases.py has no case of {', '.join(left)}"


# -- shapes, randomness, conditions ------------------------------------------------------------------


@EACH
def test_shapes_and_intervals_are_as_declared(case: Case) -> None:
    bijection = perturbed(case, case.scales[0])
    shape = bijection.event_shape(case.shape())
    assert bijection.inverse_event_shape(shape) == case.shape()
    for inverse, given, image in ((False, case.shape(), shape), (True, shape, case.shape())):
        x = inputs(bijection, given, rows=9, reach=case.reach, inverse=inverse)
        y, log_det = way(bijection, inverse)(x, labels(case, 9))
        interval = bijection.domain if inverse else bijection.codomain
        assert y.shape == (9, *image) and log_det.shape == (9,)
        assert bool(((y >= interval.low) & (y <= interval.high)).all())


@EACH
def test_the_same_arguments_give_the_same_bits_and_no_global_generator_is_read(case: Case) -> None:
    bijection = perturbed(case, case.scales[0])
    assert bijection.density == "exact"
    for inverse in (False, True):
        shape = bijection.event_shape(case.shape()) if inverse else case.shape()
        x, c = inputs(bijection, shape, rows=9, reach=case.reach, inverse=inverse), labels(case, 9)
        state = torch.get_rng_state()
        first, again = (way(bijection, inverse)(x, c) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, again))
        assert torch.equal(torch.get_rng_state(), state)


@EACH
def test_a_condition_is_ignored_by_what_has_no_use_for_it(case: Case) -> None:
    if not case.conditional:
        bijection = perturbed(case, case.scales[0])
        x = inputs(bijection, case.shape(), rows=9, reach=case.reach)
        given = bijection.forward_and_log_det(x, torch.arange(9) % LABELS)
        assert all(torch.equal(a, b) for a, b in zip(given, bijection.forward_and_log_det(x)))


@pytest.mark.parametrize("name", SURJECTIONS)
def test_surjections_draw_from_the_generator_alone_and_say_so(name: str) -> None:
    layer = SURJECTIONS[name]()
    whole = Inverse(Chain(layer))
    assert layer.stochastic and whole.stochastic and whole.density == "bound"
    y = torch.arange(6.0, dtype=DOUBLE).reshape(3, 2)
    state = torch.get_rng_state()
    x, again, other = (layer.inverse_and_log_det(y, generator=gen(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x[0], again[0]) and not torch.equal(x[0], other[0])
    assert x[0].shape == y.shape and x[0].dtype == x[1].dtype == DOUBLE and x[1].shape == (3,)


# -- inverses ----------------------------------------------------------------------------------------


@at_noise(where=lambda case: case.single)
def test_both_round_trips_to_rounding(case: Case, scale: float) -> None:
    # numbers that single precision holds, so that one Jacobian serves both
    double = perturbed(case, scale, fixed=True)
    with torch.no_grad():
        for parameter in double.parameters():
            parameter.copy_(parameter.float())
    single = copy.deepcopy(double).float()
    for inverse in (False, True):
        shape = double.event_shape(case.shape()) if inverse else case.shape()
        start = inputs(double, shape, reach=case.reach, inverse=inverse).float()
        c = labels(case, len(start))
        back = torch.linalg.inv(jacobians(double, inverse, start.double(), c))
        for bijection, x in ((single, start), (double, start.double())):
            with torch.no_grad():
                image = way(bijection, inverse)(x, c)[0]
                again = way(bijection, not inverse)(image, c)[0]
            assert image.dtype == x.dtype and image.isfinite().all()
            error, bound = apart(again, x, double), allowed(x, image, back, case.magnitude)
            assert (error <= bound).all(), (x.dtype, inverse, (error / bound).max())


@at_noise(5.0, where=lambda case: case.event is None)
def test_what_is_no_number_never_comes_back_as_one(case: Case, scale: float) -> None:
    bijection = perturbed(case, scale)
    y = torch.full((1, 3), math.nan, dtype=DOUBLE)
    try:
        x, log_det = bijection.inverse_and_log_det(y, labels(case, 1))
    except (InverseFailed, ValueError):
        return
    assert x.isnan().all(), log_det


# -- log-determinants --------------------------------------------------------------------------------


@at_noise()
def test_log_det_is_that_of_the_jacobian_both_ways(case: Case, scale: float) -> None:
    bijection = perturbed(case, scale)
    for inverse in (False, True):
        shape = bijection.event_shape(case.shape()) if inverse else case.shape()
        x = inputs(bijection, shape, rows=12, reach=8.0, inverse=inverse)
        c = labels(case, len(x))
        jacobian = jacobians(bijection, inverse, x, c)
        log_det = way(bijection, inverse)(x, c)[1]
        truth = torch.linalg.slogdet(jacobian).logabsdet
        # rounding in the elimination grows with the condition number
        slack = 1e-9 + 1e-13 * torch.linalg.cond(jacobian)
        assert log_det.shape == (12,)
        assert ((log_det - truth).abs() <= slack).all(), ((log_det - truth).abs() / slack).max()


@at_noise(0.1, 1.0, where=lambda case: not (case.event or case.conditional or case.jumps))
def test_density_integrates_to_one(case: Case, scale: float) -> None:
    # at 1 some splines are too steep for grids that take seconds, at 0.5 those of a wild conditioner
    wide = scale == 1
    bijection = perturbed(case, 0.5 if wide else scale, dim=2, fixed=wide)
    domain = bijection.domain
    circle = math.isfinite(domain.low)
    # beyond 5.5 deviations there is less than 1e-7 of a normal distribution
    low, high = (domain.low, domain.high) if circle else (-5.5, 5.5)
    n = 240 if wide else 120
    line = torch.linspace(low, high, n, dtype=DOUBLE)
    with torch.no_grad():
        image = bijection.forward(torch.cartesian_prod(line, line))
        # nodes where the image is dense, and between its ends where it is not
        shares = torch.linspace(0, 1, n, dtype=DOUBLE)
        axes = []
        for values in image.unbind(1):
            first, last = (low, high) if circle else (values.min(), values.max())
            even = first + (last - first) * shares
            axes.append(torch.cat([even, values.quantile(shares)]).sort().values)
        x, log_det = bijection.inverse_and_log_det(torch.cartesian_prod(*axes))
    log_p = -0.5 * x.square().sum(1) - math.log(2 * math.pi)
    if circle:  # the source is uniform there
        log_p = torch.full_like(log_p, -2 * math.log(high - low))
    density = (log_p + log_det).exp().reshape(2 * n, 2 * n)
    mass = torch.trapezoid(torch.trapezoid(density, axes[1]), axes[0]).item()
    assert abs(mass - 1) < 1e-3, mass


@at_noise(1.0)
def test_log_scales_are_bounded_at_any_parameters(case: Case, scale: float) -> None:
    bijection = perturbed(case, 1e4 * scale, fixed=True)
    x = inputs(bijection, case.shape(), rows=12, reach=8.0)
    y, log_det = bijection.forward_and_log_det(x, labels(case, 12))
    # most bound the logarithm of a slope by 5 or 10; that of a spline grows with the logarithm of the
    # slopes at its knots, of a sum of steps with that of their heights, here log(1e4) or so
    assert y.isfinite().all() and (log_det.abs() <= 30 * x[0].numel()).all()


# -- conditions --------------------------------------------------------------------------------------


@at_noise(1.0, where=lambda case: case.conditional)
def test_each_row_obeys_its_own_condition(case: Case, scale: float) -> None:
    bijection = perturbed(case, scale)
    row = inputs(bijection, case.shape(), rows=6, reach=4.0)[5:]
    c = torch.arange(LABELS)
    for inverse in (False, True):
        together, log_det = way(bijection, inverse)(row.expand(LABELS, -1), c)
        for label in range(LABELS):
            alone, its_log_det = way(bijection, inverse)(row, c[label : label + 1])
            assert torch.allclose(alone[0], together[label], rtol=1e-10, atol=1e-10)
            assert torch.allclose(its_log_det[0], log_det[label], rtol=1e-8, atol=1e-10)
        assert (together[0] - together[1]).abs().max() > 1e-3
        assert (together[1] - together[2]).abs().max() > 1e-3


# -- what else a layer must survive ------------------------------------------------------------------


@at_noise(1.0)
def test_the_same_under_inference_mode_vmap_and_copies(case: Case, scale: float, tmp_path) -> None:
    bijection = perturbed(case, scale)
    other = case.new(seed=7).double()
    if dict(bijection.state_dict()):
        save_file({k: v.contiguous() for k, v in bijection.state_dict().items()}, tmp_path / "b.safetensors")
        other.load_state_dict(load_file(tmp_path / "b.safetensors"))
    for inverse in (False, True):
        shape = bijection.event_shape(case.shape()) if inverse else case.shape()
        x = inputs(bijection, shape, rows=9, reach=case.reach, inverse=inverse)
        c = labels(case, len(x))
        with torch.no_grad():
            y, log_det = way(bijection, inverse)(x, c)
        assert y.dtype == log_det.dtype == DOUBLE
        with torch.inference_mode():
            found = {
                "inference mode": way(bijection, inverse)(x, c),
                "vmap": by_row(bijection, inverse, x, c),
                "deep copy": way(copy.deepcopy(bijection), inverse)(x, c),
                "safetensors": way(other, inverse)(x, c),
            }
        for name, (z, z_log_det) in found.items():
            assert torch.allclose(z, y, rtol=1e-9, atol=1e-9), name
            assert torch.allclose(z_log_det, log_det, rtol=1e-9, atol=1e-9), name


@EACH
def test_arrays_are_as_good_as_tensors(case: Case) -> None:
    bijection = perturbed(case, case.scales[0]).float()
    dtype = next((p.dtype for p in bijection.parameters()), DOUBLE)
    c = labels(case, 9)
    for inverse in (False, True):
        shape = bijection.event_shape(case.shape()) if inverse else case.shape()
        x = inputs(bijection, shape, rows=9, reach=4.0, inverse=inverse)
        with torch.no_grad():
            found = way(bijection, inverse)(x.numpy(), None if c is None else c.numpy())
            truth = way(bijection, inverse)(x.to(dtype), c)
            array: Any = x.numpy()
            alone = (bijection.inverse if inverse else bijection.forward)(array, c)
        assert found[0].dtype == dtype and torch.equal(alone, truth[0])
        assert all(torch.equal(a, b) for a, b in zip(found, truth))


@EACH
def test_no_rows_in_no_rows_out(case: Case) -> None:
    bijection = perturbed(case, case.scales[0])
    shape = bijection.event_shape(case.shape())
    for inverse, given, other in ((False, case.shape(), shape), (True, shape, case.shape())):
        x = torch.zeros(0, *given, dtype=DOUBLE, requires_grad=True)
        y, log_det = way(bijection, inverse)(x, labels(case, 0))
        assert y.shape == (0, *other) and log_det.shape == (0,)
        if y.requires_grad:
            (y.sum() + log_det.sum()).backward()
        with torch.no_grad():
            y, log_det = way(bijection, inverse)(x, labels(case, 0))
        assert y.shape == (0, *other) and log_det.shape == (0,)


@EACH
def test_forward_compiles_whole(case: Case) -> None:
    bijection = perturbed(case, case.scales[0])
    x = inputs(bijection, case.shape(), rows=9, reach=case.reach)
    c = labels(case, len(x))
    torch._dynamo.reset()
    compiled = torch.compile(bijection.forward_and_log_det, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for a, b in zip(compiled(x, c), bijection.forward_and_log_det(x, c)):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)
