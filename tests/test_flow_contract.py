"""What every flow and every source keeps, whatever it is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from pushforward import (
    AB2,
    MLP,
    RK4,
    Chain,
    ContinuousFlow,
    DiffusionFlow,
    Drift,
    Empirical,
    FlowMapFlow,
    GaussianMixture,
    LatentFlow,
    Normal,
    Sigmoid,
    Tsit5,
    registry,
)
from pushforward.bijections import Affine
from pushforward.entries import KINDS
from pushforward.fields import Piecewise, Straight, TwoTimes, latent_spec
from pushforward.flows import (
    VAE,
    ConsistencyFlow,
    DensityFlow,
    Flow,
    InvertibleFlow,
    Transformed,
    divergence,
    nsf,
)
from pushforward.manifolds import Torus
from pushforward.nn import PairEncoder
from pushforward.sources import (
    Blend,
    Kernels,
    LearntMixture,
    LinearShift,
    ManifoldBase,
    Mapped,
    PositiveSphere,
    Source,
    StudentT,
)

DOUBLE = torch.float64
FLOWS: dict[str, Callable[[], Flow]] = {
    "continuous": lambda: ContinuousFlow(MLP(2), RK4(steps=4), Normal(2)),
    "adaptive": lambda: ContinuousFlow(MLP(2), Tsit5(), Normal(2)),
    "two steps": lambda: ContinuousFlow(MLP(2), AB2(steps=4), Normal(2)),
    "piecewise": lambda: ContinuousFlow(Piecewise([MLP(2), MLP(2)]), RK4(steps=4), Normal(2)),
    "diffusion": lambda: DiffusionFlow(Drift(MLP(2), MLP(2), 0.1), source=Normal(2)),
    "one step": lambda: FlowMapFlow(Straight(MLP(2)), Normal(2)),
    "flow map": lambda: FlowMapFlow(TwoTimes(MLP(2, spans=True)), Normal(2), steps=2),
    "consistency": lambda: ConsistencyFlow(TwoTimes(MLP(2, spans=True)), Normal(2), steps=2),
    "vae": lambda: VAE(2),
    "latent": lambda: LatentFlow(
        ContinuousFlow(MLP(2, latent_spec(None, 3)), RK4(steps=4), Normal(2)), 3, PairEncoder(2, 3), samples=2
    ),
    "in units": lambda: Transformed(nsf(2), Affine(0.0, 2.0), DOUBLE),
}
IMAGES = ("glow", "tarflow")
for _name in KINDS["flow"].entries:
    FLOWS[_name] = lambda name=_name: registry.create("flow", name, (1, 4, 4) if name in IMAGES else (2,))
SOURCES: dict[str, Callable[[], Source]] = {
    "Normal": lambda: Normal(2, 2.0, 1.0),
    "StudentT": lambda: StudentT(2, 3.0),
    "LearntMixture": lambda: LearntMixture(2, 3),
    "GaussianMixture": lambda: GaussianMixture(torch.eye(2), 0.5),
    "Kernels": lambda: Kernels(torch.eye(2), torch.eye(2)),
    "Blend": lambda: Blend([Normal(2), Normal(2, 2.0)], [0.5, 0.5]),
    "Mapped": lambda: Mapped(Normal(2), Affine(torch.zeros(2), torch.full((2,), 2.0))),
    "LinearShift": lambda: LinearShift(Normal(2), torch.ones(2, 1), (0,), torch.ones(3, 1)),
    "Empirical": lambda: Empirical(torch.eye(2)),
    "ManifoldBase": lambda: ManifoldBase(Torus(2)),
    "PositiveSphere": lambda: PositiveSphere(2),
}


def moved(name: str, dtype: torch.dtype = torch.float32) -> Flow:
    """A flow away from the identity."""
    torch.manual_seed(0)
    flow = FLOWS[name]().to(dtype).eval()
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return flow


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_every_source_is_here() -> None:
    import pushforward.sources

    known = {name for name, kind in vars(pushforward.sources).items() if isinstance(kind, type)}
    # that of tokens, which are no floats, is held to its probabilities in test_discrete.py
    assert known - {"Source", "TokenSource"} == set(SOURCES)


# -- no rows, several numbers of samples -------------------------------------------------------------


@pytest.mark.parametrize("name", FLOWS)
def test_no_rows_in_no_rows_out(name: str) -> None:
    flow = FLOWS[name]()
    event, start = flow.event_shape, flow.source.event_shape
    assert flow.sample(0).shape == (0, *event) and flow.push(torch.zeros(0, *start)).shape == (0, *event)
    if flow.density != "none":
        assert isinstance(flow, DensityFlow)
        assert flow.log_prob(torch.zeros(0, *event)).shape == (0,)
        assert flow.log_prob(torch.zeros(3, 0, *event)).shape == (3, 0)
    if flow.density != "none" and flow.invertible:
        assert isinstance(flow, InvertibleFlow)
        x, log_p = flow.sample_and_log_prob(0)
        assert x.shape == (0, *event) and log_p.shape == (0,)
        x0, log_det = flow.pull_and_log_det(torch.zeros(0, *event))
        assert x0.shape == (0, *start) and log_det.shape == (0,) and flow.pull(x).shape == (0, *start)


@pytest.mark.parametrize("name", SOURCES)
def test_no_rows_of_a_source(name: str) -> None:
    source = SOURCES[name]()
    assert source.sample(0).shape == (0, 2)
    if name != "Empirical":
        assert source.log_prob(torch.zeros(0, 2)).shape == (0,)


@pytest.mark.parametrize("name", FLOWS)
def test_samples_in_rows_and_columns(name: str) -> None:
    flow = moved(name)
    x = flow.sample((2, 3), generator=seeded())
    assert x.shape == (2, 3, *flow.event_shape)
    assert torch.equal(x.flatten(0, 1), flow.sample(6, generator=seeded()))
    for wrong in (-1, 2.0, (2, -1), "three", None):
        with pytest.raises(ValueError, match="n: expected"):
            flow.sample(wrong)  # type: ignore[arg-type]


# -- arrays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOWS)
def test_states_of_layers_lead_from_the_source_to_the_image(name: str) -> None:
    flow = moved(name)
    x0 = flow.source.sample(4, None, seeded())
    states = flow.states(x0)
    layered = name == "in units" or (name in KINDS["flow"].entries and name not in ("glow", "vae"))
    assert (states is not None) == layered
    if states is not None:
        assert len(states) > 1  # the source and at least one layer
        assert torch.equal(states[-1], flow.push(x0))
        none = flow.states(x0[:0])
        assert none is not None and none.shape == states[:, :0].shape


def test_arrays_tables_and_lists_are_taken_by_every_flow_in_its_dtype() -> None:
    for name in FLOWS:
        flow = moved(name)
        start = torch.randn(3, *flow.source.event_shape, generator=seeded())
        right = flow.push(start, generator=seeded())
        told: list[Any] = [start.numpy(), start.double().numpy(), start.double(), start.tolist()]
        for given in told:
            got = flow.push(given, generator=seeded())
            assert torch.equal(got, right), name
        if isinstance(flow, DensityFlow) and flow.density == "exact":
            x = right.detach()
            told = [x.numpy(), x.double().numpy(), x.double(), x.tolist()]
            told += [pd.DataFrame(x.numpy())] if x.ndim == 2 else []
            for given in told:
                assert torch.equal(flow.log_prob(given), flow.log_prob(x)), name


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "Empirical"])
def test_arrays_are_taken_by_every_source(name: str) -> None:
    source, x = SOURCES[name](), torch.randn(4, 2, generator=seeded())
    right, told = source.log_prob(x), x.double().numpy()
    arrays: list[Any] = [x.numpy(), pd.DataFrame(x.numpy())]
    for given in arrays:
        assert torch.equal(source.log_prob(given), right)
    # a source without parameters follows the dtype of what it is given
    double = source.log_prob(told)  # type: ignore[arg-type]
    assert double.dtype == (torch.float32 if list(source.parameters()) else DOUBLE)
    torch.testing.assert_close(double, right.to(double.dtype), rtol=1e-5, atol=1e-5)


def test_conditions_are_taken_as_arrays_and_numbers() -> None:
    flow = nsf(2, condition=3)
    x = torch.randn(4, 2, generator=seeded())
    right = flow.log_prob(x, torch.tensor([0, 1, 2, 1]))
    for given in (np.array([0, 1, 2, 1], dtype=np.int32), [0, 1, 2, 1], pd.Series([0, 1, 2, 1])):
        assert torch.equal(flow.log_prob(x, given), right)
    assert torch.equal(flow.log_prob(x, 2), flow.log_prob(x, torch.tensor(2)))
    assert flow.sample(5, 2).shape == (5, 2)
    assert flow.given(np.array([0, 1])).batch_shape == (2,)


# -- what cannot be taken is said ----------------------------------------------------------------------

WRONG: dict[str, tuple[Any, str]] = {
    "a number too many": (torch.zeros(3, 3), r"x: expected shape \(..., 2\), got \(3, 3\)"),
    "infinity": (torch.tensor([[0.0, math.inf]]), "x: expected finite values, got inf"),
    "not a number": (np.array([[0.0, np.nan]]), "x: expected finite values, got nan"),
    "texts": (np.array([["a", "b"]]), "x: expected numbers"),
    "objects": (np.array([[None, 1]]), "x: expected numbers"),
    "ragged": ([[1.0, 2.0], [3.0]], "x: expected rows of equal length"),
    "complex": (np.array([[1j, 2]]), "x: expected numbers"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["continuous", "nsf", "in units", "vae", "latent"])
def test_rows_that_do_not_fit_are_refused(name: str, wrong: str) -> None:
    given, says = WRONG[wrong]
    flow = FLOWS[name]()
    assert isinstance(flow, DensityFlow)
    with pytest.raises(ValueError, match=says):
        flow.log_prob(given)


def test_integers_are_numbers() -> None:
    x = torch.tensor([[1, 2]], dtype=torch.uint8)
    assert torch.equal(nsf(2).log_prob(x), nsf(2).log_prob(x.float()))


def test_another_device_says_which_to_move() -> None:
    with pytest.raises(ValueError, match=r"x: is on meta and the BijectiveFlow on cpu; move one of them"):
        nsf(2).log_prob(torch.zeros(1, 2, device="meta"))


def test_a_network_of_another_dtype_says_which_to_change() -> None:
    with pytest.raises(ValueError, match=r"x: is torch.float64 and the MLP torch.float32; change one"):
        MLP(2)(0.5, torch.zeros(1, 2, dtype=DOUBLE))
    hidden = nn.Linear(2, 2).double()
    flow = ContinuousFlow(lambda t, x: hidden(x), RK4(steps=2), Normal(2))
    with pytest.raises(ValueError, match=r"velocity: x is .* which the field does not take"):
        flow.sample(1)


# -- derivatives ---------------------------------------------------------------------------------------

SMOOTH = [name for name in FLOWS if name not in ("adaptive", *IMAGES) and FLOWS[name]().invertible]


@pytest.mark.parametrize("name", SMOOTH)
def test_first_and_second_derivatives_are_those_of_finite_differences(name: str) -> None:
    flow = moved(name, DOUBLE)
    assert isinstance(flow, InvertibleFlow)
    for p in flow.parameters():
        p.requires_grad_(False)
    z = torch.tensor([[0.3, -0.4], [-0.8, 0.6]], dtype=DOUBLE, requires_grad=True)
    for function in (flow.push, flow.pull, flow.log_prob):
        assert torch.autograd.gradcheck(function, z, atol=1e-5), name
        assert torch.autograd.gradgradcheck(function, z, atol=1e-4), name


@pytest.mark.parametrize("name", [name for name in FLOWS if name not in IMAGES])
def test_vmap_agrees_with_the_batch_or_is_refused_by_name(name: str) -> None:
    flow = moved(name, DOUBLE)
    if not isinstance(flow, DensityFlow) or flow.density == "none":
        return
    x = torch.randn(4, 2, dtype=DOUBLE, generator=seeded())
    mapped = torch.func.vmap(flow.log_prob)
    if name == "adaptive":
        with pytest.raises(ValueError, match=r"Tsit5 chooses its steps .* torch.func.vmap .* fixed steps"):
            mapped(x)
    elif name in ("vae", "latent"):  # torch wants to be told how its draws are shared
        assert torch.func.vmap(flow.log_prob, randomness="different")(x).isfinite().all()
    else:
        torch.testing.assert_close(mapped(x), flow.log_prob(x), rtol=1e-9, atol=1e-9)


class Opaque(torch.autograd.Function):
    """sin, with a derivative that neither forward mode nor torch.func knows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.saved_tensors[0].cos()


@pytest.mark.parametrize("graph", [False, True])
def test_divergence_of_layers_that_torch_func_does_not_know(graph: bool) -> None:
    x = torch.randn(5, 3, dtype=DOUBLE, generator=seeded()).requires_grad_()
    weight = torch.randn(3, 3, dtype=DOUBLE, generator=seeded())
    with torch.set_grad_enabled(graph):
        value, got = divergence(lambda y: Opaque.apply(y @ weight), x)
        assert torch.equal(value, (x @ weight).sin())
        right = ((x @ weight).cos() * weight.diagonal()).sum(1)
    torch.testing.assert_close(got, right)
    assert got.requires_grad == graph
    if graph:
        torch.testing.assert_close(
            torch.autograd.grad(got.sum(), x)[0], torch.autograd.grad(right.sum(), x)[0]
        )


# -- densities -----------------------------------------------------------------------------------------


def test_the_steps_heed_the_log_determinant() -> None:
    """A point that stands still while its neighbours part: the state says nothing of the density's error."""

    class Parting(nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            rate = 20 * torch.exp(-(((t - 0.5) / 0.15) ** 2) / 2)
            return rate.reshape(-1, 1) * x

    x = torch.zeros(1, 1, dtype=DOUBLE)
    flow = ContinuousFlow(Parting(), Tsit5(rtol=1e-8, atol=1e-8), Normal(1).double())
    peak = stats.norm(0.5, 0.15)
    right = stats.norm.logpdf(0.0) - 20 * 0.15 * math.sqrt(2 * math.pi) * (peak.cdf(1) - peak.cdf(0))
    assert abs(float(flow.log_prob(x)) - float(right)) < 1e-6  # some steps of 1e-8 each


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE, torch.bfloat16])
@pytest.mark.parametrize("df", [0.5, 1.0, 5.0, 99.0, 101.0, 1e4, 1e8, 1e15, 1e30])
def test_student_t_far_out_and_near_the_normal(df: float, dtype: torch.dtype) -> None:
    places = [0.0, 0.5, -3.0, 50.0, 1e10, -1e20, 1e30]
    x = torch.tensor(places, dtype=dtype)[:, None]
    got = StudentT(1, df).log_prob(x).double().detach()
    df = float(torch.tensor(math.log(df)).double().exp())  # the parameter is a float32 logarithm
    # for large df, where SciPy loses digits, the normal, from which the t differs by z^4 / (4 df)
    z = x[:, 0].double().numpy()
    right = torch.from_numpy(stats.t.logpdf(z, df) if df < 1e6 else stats.norm.logpdf(z))
    near = torch.tensor([abs(v) < 10 or df < 1e6 for v in places])
    error = ((got - right).abs() / (1 + right.abs()))[near]
    assert got.isfinite().all() and float(error.max()) < (0.01 if dtype == torch.bfloat16 else 2e-6)


def test_student_t_has_derivatives_everywhere() -> None:
    source = StudentT(1, 5.0).double()
    x = torch.tensor([[0.0], [1.0], [1e150], [-1e290]], dtype=DOUBLE, requires_grad=True)
    source.log_prob(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in source.parameters())


def test_a_flow_far_out_is_finite_in_single_precision() -> None:
    """Where the source's density underflows, its logarithm does not."""
    for name in ("nsf", "maf", "realnvp", "residual"):
        flow = moved(name)
        assert isinstance(flow, DensityFlow)
        assert flow.log_prob(torch.tensor([[1e6, -1e6]])).isfinite().all(), name


def test_half_precision_is_computed_or_refused_by_name() -> None:
    """bfloat16 has three digits: it gives the density to some hundredths, or a line that says why not."""
    x = torch.randn(20, 2, generator=seeded())
    for name in [name for name in FLOWS if name not in (*IMAGES, "vae", "latent")]:
        flow, half = FLOWS[name](), FLOWS[name]().to(torch.bfloat16)
        half.load_state_dict(flow.state_dict())
        if flow.density == "none" or not isinstance(flow, DensityFlow) or not isinstance(half, DensityFlow):
            continue
        if name in ("adaptive", "residual"):
            with pytest.raises(ValueError, match="float32 or float64"):
                half.log_prob(x)
        else:
            gap = half.log_prob(x).detach().double() - flow.log_prob(x).detach()
            assert float(gap.abs().max()) < 0.2, name


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "Empirical"])
def test_sources_in_half_precision(name: str) -> None:
    source, x = SOURCES[name](), torch.randn(20, 2, generator=seeded())
    got = source.log_prob(x.bfloat16()).detach()
    assert got.dtype == torch.bfloat16
    assert float((got.float() - source.log_prob(x).detach()).abs().max()) < 0.2  # 2^-8 of terms of some tens


def test_trajectories_take_arrays_and_no_rows() -> None:
    flow = ContinuousFlow(MLP(2), Tsit5(), Normal(2))
    for made in (flow, Transformed(flow, Affine(0.0, 2.0))):
        right = made.trajectory(torch.ones(3, 2), [0.0, 0.4, 1.0])
        told: Any = np.ones((3, 2))
        times: Any = np.array([0.0, 0.4, 1.0])
        got = made.trajectory(told, times)
        assert got.path is not None and right.path is not None and torch.equal(got.path, right.path)
        none = made.trajectory(torch.zeros(0, 2), [1.0, 0.0]).path
        assert none is not None and none.shape == (2, 0, 2)
    double = ContinuousFlow(lambda t, x: torch.ones_like(x), Tsit5(), Normal(1).double())
    path = double.trajectory(torch.zeros(1, 1, dtype=DOUBLE), [0.0, 0.1, 1.0]).path
    assert path is not None and abs(float(path[1]) - 0.1) < 1e-15


# -- constructors --------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a field that is none": (lambda: ContinuousFlow(5, source=Normal(2)), "field: expected a callable"),  # type: ignore[arg-type]
    "a field of one argument": (
        lambda: ContinuousFlow(lambda x: x, source=Normal(2)),  # type: ignore[arg-type]
        r"field: expected a callable \(t, x\)",
    ),
    "no source": (lambda: ContinuousFlow(MLP(2)), "source: expected"),
    "scale 0": (lambda: Normal(2, 0.0), "scale: expected a finite number"),
    "scale nan": (lambda: Normal(2, math.nan), "scale: expected a finite number"),
    "scale 1e200": (lambda: Normal(2, 1e200), "scale: expected a finite number"),
    "loc inf": (lambda: Normal(2, 1.0, math.inf), "loc: expected a finite number"),
    "events of size 0": (lambda: Normal(0), "event_shape: expected an integer of at least 1"),
    "df": (lambda: StudentT(2, -1.0), "df: expected a finite number"),
    "components": (lambda: LearntMixture(2, 0), "components: expected an integer"),
    "rows": (lambda: Empirical(torch.zeros(0, 2)), "x: expected floats"),
    "nan rows": (lambda: Empirical(torch.full((2, 2), math.nan)), "x: expected finite values"),
    "integer rows": (lambda: Empirical(torch.zeros(2, 2).long()), "x: expected floats"),
    "noise": (lambda: Empirical(torch.zeros(2, 2), -1.0), "noise: expected a finite number"),
    "asymmetric": (
        lambda: GaussianMixture(torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.0, 1.0]]])),
        "covariances: expected symmetric",
    ),
    "negative scales": (lambda: GaussianMixture(torch.zeros(1, 2), -1.0), "covariances: expected positive"),
    "zero covariance": (
        lambda: GaussianMixture(torch.zeros(1, 2), torch.zeros(1, 2, 2)),
        "covariances: expected positive definite",
    ),
    "labels": (lambda: GaussianMixture(torch.zeros(1, 2), 1.0, labels=[0, 1]), "labels: expected 1 integers"),
    "labels of floats": (
        lambda: GaussianMixture(torch.zeros(1, 2), 1.0, labels=[0.5]),  # type: ignore[list-item]
        "labels: expected 1 integers",
    ),
    "weights": (
        lambda: GaussianMixture(torch.zeros(2, 2), 1.0, [1.0, math.inf]),
        "weights: expected 2 finite",
    ),
    "nan weights": (lambda: Blend([Normal(1)], [math.nan]), "weights: expected 1 finite"),
    "kernels": (
        lambda: Kernels(torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [2.0, 1.0]])),
        "covariance: expected positive definite",
    ),
    "widths": (lambda: Kernels(torch.zeros(2, 1), torch.eye(1), torch.tensor([1.0, math.inf])), "widths: "),
    "maf of one column": (lambda: registry.create("flow", "maf", (1,)), "nsf-ar"),
    "iaf of one column": (lambda: registry.create("flow", "iaf", (1,)), "nsf-ar"),
    "nice of one column": (lambda: registry.create("flow", "nice", (1,)), "nsf-ar"),
    "realnvp of one column": (lambda: registry.create("flow", "realnvp", (1,)), "nsf-ar"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_are_checked(name: str) -> None:
    make, says = REFUSED[name]
    with pytest.raises(ValueError, match=says):
        make()


def test_fields_are_functions_of_time_and_place_too() -> None:
    """As the README says: any callable (t, x)."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return self.layer(x) * t.reshape(-1, 1)

    net = Net()
    flow = ContinuousFlow(net, RK4(steps=3), Normal(2))
    whole = ContinuousFlow(lambda t, x, condition=None: net(t, x), RK4(steps=3), Normal(2))
    x = torch.ones(2, 2)
    assert torch.equal(flow.log_prob(x), whole.log_prob(x)) and len(list(flow.parameters())) == 2
    step, plain = (FlowMapFlow(Straight(field), Normal(2)) for field in (net, lambda t, x: net(t, x)))
    assert torch.equal(step.push(x), plain.push(x))
    with pytest.raises(ValueError, match=r"condition: the field is a function of \(t, x\) alone"):
        flow.sample(2, torch.tensor([0, 1]))


def test_an_option_of_a_network_is_no_condition() -> None:
    def field(t: Tensor, x: Tensor, speed: float = 2.0) -> Tensor:
        return speed * torch.ones_like(x)

    flow = ContinuousFlow(field, RK4(steps=2), Normal(1))
    assert torch.equal(flow.push(torch.zeros(1, 1)), torch.full((1, 1), 2.0))


def test_a_mixture_in_other_units_is_the_same_mixture() -> None:
    """What is positive definite does not depend on the units of the columns."""
    units = torch.tensor([1e-9, 1e9], dtype=DOUBLE)
    covariance = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=DOUBLE) * units[:, None] * units
    source = Kernels(torch.zeros(1, 2, dtype=DOUBLE), covariance)
    got = source.log_prob((units * 0.3)[None])
    right = stats.multivariate_normal.logpdf([0.3, 0.3], cov=[[1, 0.5], [0.5, 1]])  # type: ignore[arg-type]
    assert abs(float(got) - right) < 1e-9  # the units' logarithms cancel


def test_bounded_data_keep_their_density() -> None:
    """Rows in (0, 1): mass of the density by quadrature."""
    flow = Transformed(registry.create("flow", "nsf-ar", (1,)), Chain(Sigmoid()))
    grid = torch.linspace(0.0005, 0.9995, 1000)[:, None]
    mass = float(flow.log_prob(grid).detach().exp().sum() * 0.001)
    assert abs(mass - 1) < 1e-3  # the midpoint rule's error, and 1e-4 of the mass beyond
