"""The contract of every bijection and flow, driven by the registry in ``bijection_cases``."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from bijection_cases import CASES, DOUBLE, LABELS, Case, inputs, labels, perturbed
from pushforward import bijections
from pushforward.bijections import Bijection, InverseFailed, Surjection, monotone
from pushforward.bijections.monotone import Monotone
from pushforward.flows import BijectiveFlow, iaf, maf, nice, nsf, nsf_ar, realnvp

DTYPES = (DOUBLE, torch.float32)
EACH = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])


def at_noise(*wanted: float, where: Callable[[Case], bool] = lambda case: True) -> pytest.MarkDecorator:
    """Every case with noise of each of its scales, or of those ``wanted``, in its parameters."""
    rows = [
        pytest.param(case, scale, id=f"{name}, noise {scale:g}")
        for name, case in CASES.items()
        if where(case)
        for scale in case.scales
        if not wanted or scale in (0, *wanted)
    ]
    return pytest.mark.parametrize(("case", "scale"), rows)


def way(bijection: Bijection, inverse: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    return bijection.inverse_and_log_det if inverse else bijection.forward_and_log_det


def by_row(bijection: Bijection, inverse: bool, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same rows one by one, under ``vmap``."""

    def one(row: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        y, log_det = way(bijection, inverse)(row[None], None if label is None else label[None])
        return y[0], log_det[0]

    with sdpa_kernel(SDPBackend.MATH):  # vmap has no rule for the others
        return vmap(one, in_dims=(0, None if c is None else 0))(x, c)


def jacobians(bijection: Bijection, inverse: bool, x: Tensor, c: Tensor | None) -> Tensor:
    """``(B, outputs, inputs)`` by autograd."""

    def one(row: Tensor, label: Tensor | None) -> Tensor:
        return way(bijection, inverse)(row[None], None if label is None else label[None])[0].flatten()

    with sdpa_kernel(SDPBackend.MATH):
        jacobian = vmap(jacrev(one), in_dims=(0, None if c is None else 0))(x, c)
    return jacobian.flatten(2)


def apart(a: Tensor, b: Tensor, bijection: Bijection) -> Tensor:
    """|a - b|, around the circle where the bijection is one of circles."""
    gap = (a.double() - b.double()).abs()
    circle = bijection.domain.low == -math.pi and bijection.domain.high == math.pi
    return torch.minimum(gap, (2 * math.pi - gap).abs()) if circle else gap


def allowed(start: Tensor, image: Tensor, back: Tensor, magnitude: float) -> Tensor:
    """100 epsilons times |start| + |d start / d image| |image|; ``magnitude`` counts with both."""
    spread = back.abs() @ (image.double().abs().flatten(1) + magnitude)[..., None]
    size = start.double().abs() + magnitude + spread.reshape(start.shape)
    return 100 * torch.finfo(start.dtype).eps * size


def public(module: ModuleType, base: type) -> set[type]:
    found = {v for v in vars(module).values() if isinstance(v, type) and issubclass(v, base)}
    return {v for v in found if not inspect.isabstract(v)}


def test_every_public_bijection_and_monotone_map_is_here() -> None:
    layers = [m for case in CASES.values() for m in case.new().modules()]
    wanted = public(bijections, Bijection) - public(bijections, Surjection)
    assert wanted <= {type(m) for m in layers}
    assert public(monotone, Monotone) <= {type(m.monotone) for m in layers if hasattr(m, "monotone")}


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


# -- derivatives -------------------------------------------------------------------------------------


@at_noise(1.0, 5.0)
def test_gradients_are_finite_everywhere_both_ways(case: Case, scale: float) -> None:
    bijection = perturbed(case, scale, fixed=True)
    for inverse in (False, True):
        shape = bijection.event_shape(case.shape()) if inverse else case.shape()
        x = inputs(bijection, shape, reach=case.reach, inverse=inverse).requires_grad_()
        y, log_det = way(bijection, inverse)(x, labels(case, len(x)))
        wanted = [x, *bijection.parameters()]
        grads = torch.autograd.grad(y.sum() + log_det.sum(), wanted, allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in grads) and grads[0] is not None


@at_noise(1.0)
def test_derivatives_of_the_inverse_are_those_of_an_inverse(case: Case, scale: float) -> None:
    # f^-1(f(x)) = x at any parameters, and the log-determinants cancel
    bijection = perturbed(case, scale)
    # without the first rows, where log-determinants of splines have kinks
    x = inputs(bijection, case.shape(), rows=15, reach=4.0)[6:].requires_grad_()
    c = labels(case, len(x))
    y, there = bijection.forward_and_log_det(x, c)
    again, back = bijection.inverse_and_log_det(y, c)
    # rounding grows along the rows of an autoregressive inverse; where it moves x by e, it moves derivatives
    # by their slope times e, and slopes of derivatives are below 300 here
    tolerance = 1e-6 + 300 * float((again - x).detach().abs().max())
    assert tolerance < 1e-2
    weights = torch.randn(again.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    wanted = [x, *bijection.parameters()]
    for value, truth in (((weights * again).sum(), weights), ((there + back).sum(), 0.0)):
        if not value.requires_grad:
            continue
        grads = torch.autograd.grad(value, wanted, allow_unused=True, retain_graph=True)
        first = torch.zeros_like(x) if grads[0] is None else grads[0]
        assert torch.allclose(first, torch.as_tensor(truth, dtype=DOUBLE), atol=tolerance)
        assert all(g is None or g.abs().max() < tolerance for g in grads[1:])


class Carried(nn.Module):
    """Image and log-determinant of rows as a function that ``functional_call`` takes."""

    def __init__(self, bijection: Bijection, inverse: bool, c: Tensor | None):
        super().__init__()
        self.bijection, self.inverse, self.c = bijection, inverse, c

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return way(self.bijection, self.inverse)(x, self.c)


@at_noise(1.0)
@pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
def test_first_and_second_derivatives_by_finite_differences(case: Case, scale: float, inverse: bool) -> None:
    # by inputs and by all parameters, of images and log-determinants
    # a wild network's derivatives change too fast for differences; one of deviation 0.3 is wild enough
    bijection = perturbed(case, min(scale, 0.3))
    shape = bijection.event_shape(case.shape()) if inverse else case.shape()
    # rows 5 and 8 are none of the special points, at which some derivatives jump
    x = inputs(bijection, shape, rows=9, reach=2.0, inverse=inverse)[[5, 8]].requires_grad_()
    carried = Carried(bijection, inverse, labels(case, 2))
    names = [name for name, _ in carried.named_parameters()]

    def function(x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        return functional_call(carried, dict(zip(names, parameters)), (x,))

    wanted = (x, *(p.detach().clone().requires_grad_() for p in carried.parameters()))
    with sdpa_kernel(SDPBackend.MATH):  # torch's others have no second derivatives
        kinds = {"fast_mode": True, "atol": 1e-5, "rtol": 1e-4}
        assert torch.autograd.gradcheck(function, wanted, **kinds)
        if any(y.requires_grad for y in function(*wanted)):
            assert torch.autograd.gradgradcheck(function, wanted, gen_non_contig_grad_outputs=True, **kinds)


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


@at_noise(0.1)
def test_densities_and_gradients_of_single_rows_under_vmap(case: Case, scale: float) -> None:
    bijection = perturbed(case, scale)
    c = labels(case, 3)

    def log_p(x: Tensor, label: Tensor | None) -> Tensor:
        y, log_det = bijection.inverse_and_log_det(x[None], None if label is None else label[None])
        return log_det[0] - 0.5 * y.square().sum()

    shape = bijection.event_shape(case.shape())
    # without the first rows, where log-determinants of splines have kinks
    x = inputs(bijection, shape, rows=9, reach=4.0, inverse=True)[6:].requires_grad_()
    y, log_det = bijection.inverse_and_log_det(x, c)
    truth = log_det - 0.5 * y.square().flatten(1).sum(1)
    (gradient,) = torch.autograd.grad(truth.sum(), x)
    rows = (0, None if c is None else 0)
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.allclose(vmap(log_p, rows)(x, c), truth, atol=1e-8)
        assert torch.allclose(vmap(grad(log_p), rows)(x, c), gradient, atol=1e-6)


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
            alone = (bijection.inverse if inverse else bijection.forward)(x.numpy(), c)
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


# -- whole flows -------------------------------------------------------------------------------------


def trained(build: Callable[..., BijectiveFlow]) -> BijectiveFlow:
    """A flow after a few steps of maximum likelihood on two half circles."""
    torch.manual_seed(0)
    flow = build(2, width=16, layers=4)
    angle = math.pi * torch.rand(256)
    side = (torch.arange(256) % 2) * 2.0 - 1
    x = torch.stack([side * (angle.cos() - 0.5), side * (angle.sin() - 0.25)], 1)
    x = 1.5 * x + 0.15 * torch.randn(256, 2)
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    before = flow(x).mean().item()
    for _ in range(60):
        optimiser.zero_grad()
        (-flow(x).mean()).backward()
        optimiser.step()
    assert flow(x).mean().item() > before + 0.2
    return flow


@pytest.mark.parametrize("build", [nice, realnvp, nsf, maf, iaf, nsf_ar], ids=lambda f: f.__name__)
def test_trained_flows_round_trip_within_six_deviations(build: Callable[..., BijectiveFlow]) -> None:
    flow = trained(build)
    line = torch.linspace(-6, 6, 13)
    for dtype in DTYPES:
        flow = flow.to(dtype)
        inner = torch.cartesian_prod(line, line).to(dtype)
        with torch.no_grad():
            outer, there = flow.push_and_log_det(inner)
            again, back = flow.pull_and_log_det(outer)
            once_more = flow.push(again)
        # what one layer may err by, for numbers up to 6, in each of 4
        exact = copy.deepcopy(flow.bijection).double()
        jacobian = jacobians(exact, False, inner.double(), None)
        slack = 4 * allowed(inner, outer, torch.linalg.inv(jacobian), 6.0)
        assert ((again - inner).abs() <= slack).all()
        assert ((once_more - outer).abs() <= 4 * allowed(outer, inner, jacobian, 6.0)).all()
        # within a narrow bin the logarithm of the slope changes by up to some hundred per unit
        off = (again - inner).abs().amax(1)
        assert ((there + back).abs() <= 100 * 4 * 6 * torch.finfo(dtype).eps + 100 * off).all()
