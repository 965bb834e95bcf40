"""Bijections and normalizing flows of images: contract, causality, initialisation, bounds on bits."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.nn.attention import SDPBackend, sdpa_kernel

import pushforward
from pushforward.bijections import (
    ActNorm,
    Affine,
    Bijection,
    Chain,
    CouplingLayer,
    Dequantise,
    Haar,
    Inverse,
    InvertibleConv1x1,
    MultiScale,
    PiecewiseLinear,
    Squeeze,
    TransformerAutoregressive,
)
from pushforward.bijections.monotone import RationalQuadratic, ScaleShift
from pushforward.cli import main
from pushforward.data import load
from pushforward.flows import VAE, BijectiveFlow, Transformed, glow, multi_sample_bound, realnvp, tarflow
from pushforward.flows.image_flows import block_mask
from pushforward.metrics import bits_per_dim
from pushforward.nn import CausalTransformer, ConvConditioner
from pushforward.sources import Normal, Source

DOUBLE = torch.float64
SMALL = partial(CausalTransformer, width=8, depth=2, heads=2)
CONV = partial(ConvConditioner, size=(4, 4), width=6)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inverted(flow: BijectiveFlow) -> Bijection:
    """The chain of a flow, forward from the data."""
    return Inverse(flow.bijection)


#: Bijections with the shape of an event, built with fresh weights.
BIJECTIONS = {
    "piecewise linear": lambda: (
        PiecewiseLinear(torch.tensor([-1.0, 0.0, 0.5]).double(), torch.tensor([0.0, 3.0, 3.5]).double()),
        (3, 2),
    ),
    "actnorm": lambda: (ActNorm(2), (2, 4, 4)),
    "actnorm of vectors": lambda: (ActNorm(5), (5,)),
    "conv1x1": lambda: (InvertibleConv1x1(5), (5, 2, 3)),
    "conv1x1 of vectors": lambda: (InvertibleConv1x1(4), (4,)),
    "squeeze": lambda: (Squeeze(2), (2, 4, 4)),
    "squeeze by 4": lambda: (Squeeze(4), (1, 4, 8)),
    "haar": lambda: (Haar(), (2, 4, 6)),
    "multiscale": lambda: (
        MultiScale([Chain(Squeeze(2), InvertibleConv1x1(8)), Haar(), ActNorm(8)], (2, 4, 4)),
        (2, 4, 4),
    ),
    "coupling": lambda: (CouplingLayer([True, False, True], ScaleShift(), CONV), (3, 4, 4)),
    "transformer": lambda: (TransformerAutoregressive((2, 2, 2), SMALL), (2, 2, 2)),
    "transformer in reverse": lambda: (TransformerAutoregressive((2, 2, 3), SMALL, reverse=True), (2, 2, 3)),
    "transformer of splines": lambda: (
        TransformerAutoregressive((2, 3), SMALL, monotone=RationalQuadratic(4)),
        (2, 3),
    ),
}
FLOWS = {
    "glow": lambda shape, condition=None: glow(shape, condition, levels=2, steps=1, width=6),
    "realnvp": lambda shape, condition=None: realnvp(shape, condition, levels=2, layers=2, width=6),
    "tarflow": lambda shape, condition=None: tarflow(
        shape, condition, patch=2, blocks=2, width=8, layers=1, heads=2
    ),
}
EVENTS = {"1x4x4": (1, 4, 4), "2x4x4": (2, 4, 4)}
names = pytest.mark.parametrize("name", list(FLOWS))


def disturbed(module: torch.nn.Module, noise: float, seed: int = 0) -> None:
    """Every parameter moved, so that no zero initialisation hides anything."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=gen(seed), dtype=parameter.dtype)


def build(name: str, noise: float) -> tuple[Bijection, Tensor]:
    torch.manual_seed(0)
    bijection, shape = BIJECTIONS[name]()
    disturbed(bijection.double(), noise)
    return bijection, torch.randn(3, *shape, dtype=DOUBLE, generator=gen(1))


def check_contract(bijection: Bijection, x: Tensor, condition: Tensor | None = None) -> None:
    y, log_det = bijection.forward_and_log_det(x, condition)
    assert y.dtype == log_det.dtype == x.dtype and log_det.shape == (len(x),)
    assert y.shape[1:] == bijection.event_shape(x.shape[1:])
    assert x.shape[1:] == bijection.inverse_event_shape(y.shape[1:])
    back, back_log_det = bijection.inverse_and_log_det(y, condition)
    torch.testing.assert_close(back, x, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(back_log_det, -log_det, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(bijection.forward(bijection.inverse(y, condition), condition), y)
    given = None if condition is None else condition[:1]
    for carry, at, expected in ((bijection.forward, x, log_det), (bijection.inverse, y, back_log_det)):
        # the fused kernels of attention cannot be batched over directions
        with sdpa_kernel(SDPBackend.MATH):
            slope = jacobian(partial(carry, condition=given), at[:1].detach(), vectorize=True)
        assert isinstance(slope, Tensor)
        d = x[0].numel()
        torch.testing.assert_close(torch.linalg.slogdet(slope.reshape(d, d)).logabsdet, expected[0].detach())


@pytest.mark.parametrize("noise", [0.1, 0.5])
@pytest.mark.parametrize("name", list(BIJECTIONS))
def test_layers_keep_the_contract(name, noise):
    bijection, x = build(name, noise)
    check_contract(bijection, x)


@pytest.mark.parametrize("event", list(EVENTS))
@names
def test_flows_keep_the_contract(name, event):
    torch.manual_seed(0)
    flow = FLOWS[name](EVENTS[event], 3).double()
    disturbed(flow, 0.1)
    assert flow.event_shape == EVENTS[event]
    x = torch.randn(2, *EVENTS[event], dtype=DOUBLE, generator=gen(1))
    check_contract(inverted(flow), x, torch.tensor([2, 0]))


@names
def test_flows_keep_volume_to_begin_with_and_follow_their_condition(name):
    torch.manual_seed(0)
    flow = FLOWS[name]((1, 4, 4), 3)
    x = torch.randn(5, 1, 4, 4, generator=gen())
    labels = torch.tensor([0, 1, 2, 0, 1])
    z, log_det = flow.pull_and_log_det(x, labels)
    assert log_det.abs().max() < 1e-4
    torch.testing.assert_close(z.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
    disturbed(flow, 0.1)
    other = flow.log_prob(x, (labels + 1) % 3)
    assert ((flow.log_prob(x, labels) - other).abs() > 1e-3).all()
    assert flow.sample(2, labels).shape == (2, 5, 1, 4, 4)


@names
def test_gradients_are_finite_and_reach_every_parameter(name):
    flow = FLOWS[name]((1, 4, 4), 3)
    disturbed(flow, 0.1)
    x, labels = torch.randn(4, 1, 4, 4, generator=gen()), torch.tensor([0, 1, 2, -1])
    flow.log_prob(x, labels).sum().backward()
    for label, parameter in flow.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), label
        # triangular matrices have halves that are not used; every other number has a part in the density
        assert parameter.grad.any(), label


@names
def test_compiles_and_runs_in_inference_mode(name):
    flow = FLOWS[name]((1, 4, 4))
    disturbed(flow, 0.1)
    x = torch.randn(4, 1, 4, 4, generator=gen())
    torch._dynamo.reset()
    compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), flow(x))
    with torch.inference_mode():
        torch.testing.assert_close(flow.push(flow.pull(x)), x, atol=1e-4, rtol=1e-4)


# -- parts ---------------------------------------------------------------------------------------------


def test_actnorm_standardises_what_leaves_it():
    x = torch.tensor([5.0, -2.0])[:, None, None] + torch.randn(50, 2, 3, 3, generator=gen()) * 7
    for inverse in (True, False):
        layer = ActNorm(2)
        out = layer.initialise(x, inverse=inverse)
        torch.testing.assert_close(out, (layer.inverse if inverse else layer.forward)(x))
        torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(out.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5, rtol=0)


def test_actnorm_keeps_the_scale_of_a_channel_that_does_not_vary():
    layer = ActNorm(2)
    out = layer.initialise(torch.tensor([[3.0, 1.0], [3.0, 2.0]]), inverse=False)
    assert out[:, 0].eq(0).all() and layer.raw_log_scale[0] == 0


@names
def test_initialising_reaches_every_actnorm(name):
    torch.manual_seed(0)
    flow = FLOWS[name]((1, 8, 8), 2).double()
    disturbed(flow, 0.05)
    x = 100 + 30 * torch.randn(64, 1, 8, 8, dtype=DOUBLE, generator=gen()).cumsum(-1)
    labels = torch.arange(64) % 2
    before = flow.log_prob(x, labels)
    flow.initialise(x, labels)
    assert flow.log_prob(x, labels).mean() > before.mean() + 100
    seen: list[Tensor] = []

    class Watched(ActNorm):
        def forward_and_log_det(self, x, condition=None, generator=None):
            y, log_det = super().forward_and_log_det(x, condition, generator)
            seen.append(y.detach())
            return y, log_det

    for module in flow.modules():
        if isinstance(module, ActNorm):
            module.__class__ = Watched
    flow.pull(x, labels)
    assert len(seen) == sum(isinstance(module, ActNorm) for module in flow.modules())
    for y in seen:
        dims = [0, *range(2, y.ndim)]
        assert y.mean(dims).abs().max() < 1e-4 and (y.std(dims, correction=0) - 1).abs().max() < 1e-4


def test_initialising_goes_through_every_kind_of_composition():
    x = 5 + 3 * torch.randn(200, 1, 4, 4, generator=gen())
    first, second = ActNorm(1), ActNorm(1)
    # in the second the rows go through the affine map before, and forward
    for chain in (Chain(first, Affine(1.0, 2.0)), Inverse(Chain(Affine(0.0, 4.0), second))):
        flow = BijectiveFlow(chain, Normal((1, 4, 4)))
        flow.initialise(x)
        z = flow.pull(x)
        assert abs(z.mean()) < 1e-5 and abs(z.std(correction=0) - 1) < 1e-5
    scales = MultiScale([Chain(Squeeze(2), ActNorm(4)), Chain(Squeeze(2), ActNorm(8))], (1, 4, 4))
    out = scales.initialise(x, inverse=False)
    assert abs(out.mean()) < 1e-5 and abs(out.std(correction=0) - 1) < 1e-5
    back = scales.initialise(torch.randn(200, 16, generator=gen()), inverse=True)
    torch.testing.assert_close(back.mean((0, 2, 3)), torch.zeros(1), atol=1e-5, rtol=0)


def test_conv1x1_is_a_drawn_rotation_that_its_state_carries():
    torch.manual_seed(0)
    layer, other = InvertibleConv1x1(6), InvertibleConv1x1(6)
    eye = torch.eye(6)
    w = layer.forward(eye).T
    torch.testing.assert_close(w @ w.T, eye, atol=1e-5, rtol=0)
    assert not torch.allclose(w, other.forward(eye).T, atol=1e-2)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.forward(eye), layer.forward(eye))
    x = torch.randn(3, 6, 5, 7, generator=gen())
    torch.testing.assert_close(layer.forward(x), torch.nn.functional.conv2d(x, w[:, :, None, None]))


def test_haar_is_orthonormal_and_its_first_channels_are_means():
    x = torch.randn(2, 3, 4, 6, dtype=DOUBLE, generator=gen())
    y = Haar().double().forward(x)
    torch.testing.assert_close(y.square().sum((1, 2, 3)), x.square().sum((1, 2, 3)))
    torch.testing.assert_close(y[:, ::4], 2 * torch.nn.functional.avg_pool2d(x, 2))
    gradient = torch.arange(4.0).expand(4, 4)[None, None]
    assert Haar().forward(gradient)[:, 2:].eq(0).all()  # no difference of rows, none of diagonals


def test_masks_let_every_channel_move():
    for channels in (4, 8, 12):
        masks = [block_mask(channels, number) for number in range(6)]
        assert all(mask.sum() == channels / 2 for mask in masks)
        assert all(torch.equal(a, ~b) for a, b in zip(masks[::2], masks[1::2]))
        assert len({tuple(mask.tolist()) for mask in masks}) == 6


def test_levels_get_a_normal_law_each_where_they_hold_many_pixels():
    """Drawings: seven in ten pixels 0, one in ten 4, others evenly from 1 to 15."""
    g = np.random.default_rng(0)
    u = g.random((500, 1, 8, 8))
    images = np.where(u < 0.7, 0, np.where(u < 0.8, 4, g.integers(1, 16, u.shape))).astype(np.float32)
    pixels = torch.from_numpy(images)
    levels = PiecewiseLinear.of_levels(pixels, 0, 15)
    inner = Chain(levels, Dequantise(0, 15))
    z = inner.inverse(pixels, generator=gen())
    assert torch.equal(inner.forward(z), pixels)
    # 0 | 1 to 3 | 4 | 5 to 15
    groups = [pixels == 0, (pixels > 0) & (pixels < 4), pixels == 4, pixels > 4]
    for here, deviation in zip(groups, (1.0, 2.5, 1.0, 2.5)):
        own = z[here].double().numpy()
        # neighbours lie 2.3 deviations of both apart, so that 1 % of a distribution falls to its neighbour
        assert stats.kstest((own - np.median(own)) / deviation, "norm").statistic < 0.05
    assert (torch.stack([z[here].median() for here in groups]).diff() > 2).all()


@pytest.mark.parametrize("make", [glow, realnvp])
def test_what_leaves_is_moved_by_what_stays(make):
    inverse: Any = inverted(make((2, 8, 8), levels=2, width=4))
    chain = inverse.bijection.bijection
    scales = next(module for module in chain.modules() if isinstance(module, MultiScale))
    assert [part[0] for part in scales.parts] == [4, 16]
    level: Any = scales.levels[0]
    last = level.links[-1]
    assert isinstance(last, CouplingLayer) and last.active.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("reverse", [False, True])
def test_tarflow_is_causal_in_the_order_of_its_patches(reverse):
    torch.manual_seed(0)
    layer = TransformerAutoregressive((2, 3, 3), SMALL, reverse).double()
    disturbed(layer, 0.3)
    x = torch.randn(1, 2, 3, 3, dtype=DOUBLE, generator=gen())
    moved = jacobian(layer.forward, x)[0, :, :, :, 0].flatten(1, 2).flatten(3)  # (K, tokens, K, tokens)
    size = moved.abs().amax((0, 2))
    if reverse:
        size = size.flip(0, 1)
    later = torch.ones(9, 9, dtype=torch.bool).triu(1)
    assert size[later].eq(0).all() and size[later.T].gt(1e-6).all()
    assert size[0, 0] == 1  # the first patch stays


def test_sampling_token_by_token_solves_what_one_pass_evaluates():
    """The keys and values kept from earlier tokens give what the whole sequence at once gives."""
    torch.manual_seed(0)
    layer = TransformerAutoregressive((3, 3, 4), partial(SMALL, condition=4), reverse=True).double()
    disturbed(layer, 0.5)
    y, labels = torch.randn(5, 3, 3, 4, dtype=DOUBLE, generator=gen()), torch.tensor([0, 1, 2, 3, -1])
    x, log_det = layer.inverse_and_log_det(y, labels)
    again, there = layer.forward_and_log_det(x, labels)
    torch.testing.assert_close(again, y, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(there, -log_det, atol=1e-12, rtol=1e-12)
    tokens = torch.randn(2, 11, 3, dtype=DOUBLE, generator=gen())
    whole = layer.network(tokens, labels[:2])
    caches, parts = [], []
    for i in range(11):
        part, caches = layer.network.extend(tokens[:, i : i + 1], labels[:2], caches)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("side", "patch"), [(28, 4), (8, 2), (32, 4), (7, 1), (64, 8)])
def test_tarflow_finds_a_patch_that_fits(side, patch):
    flow = tarflow((1, side, side), blocks=1, width=4, layers=1)
    assert flow.source.event_shape == (patch**2, side // patch, side // patch)


# -- mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PiecewiseLinear(torch.zeros(2), torch.arange(2.0)), "x: expected at least two"),
        (lambda: PiecewiseLinear(torch.arange(2.0), torch.zeros(1)), "y: expected at least two"),
        (lambda: PiecewiseLinear(torch.arange(2.0), torch.arange(3.0)), "2 and 3"),
        (lambda: load("moons", rows=100, preprocess="histogram"), "histogram is for images"),
        (lambda: ActNorm(0), "channels"),
        (lambda: ActNorm(2).forward(torch.zeros(1, 3, 2, 2)), "2 entries"),
        (lambda: InvertibleConv1x1(0), "channels"),
        (lambda: InvertibleConv1x1(2).forward(torch.zeros(1, 3, 2, 2)), "2 entries"),
        (lambda: Squeeze(0), "factor"),
        (lambda: Squeeze(2).forward(torch.zeros(1, 1, 9, 6)), "of these they do: 3"),
        (lambda: Squeeze(2).forward(torch.zeros(1, 1, 7, 5)), "no others"),
        (lambda: Squeeze(2).forward(torch.zeros(1, 4)), r"\(C, H, W\)"),
        (lambda: Squeeze(2).inverse(torch.zeros(1, 3, 2, 2)), "multiple of 4"),
        (lambda: Haar().forward(torch.zeros(1, 1, 5, 4)), "divide"),
        (lambda: Haar().inverse(torch.zeros(1, 2, 4, 4)), "multiple of 4"),
        (lambda: MultiScale([], (1, 4, 4)), "at least one"),
        (lambda: MultiScale([ActNorm(1), ActNorm(1)], (1, 4, 4)), "level 1 leaves 1 channel"),
        (lambda: MultiScale([Squeeze(2)], (1, 4, 4)).forward(torch.zeros(1, 1, 2, 2)), r"\(1, 4, 4\)"),
        (lambda: MultiScale([Squeeze(2)], (1, 4, 4)).inverse(torch.zeros(1, 15)), r"\(16,\)"),
        (lambda: TransformerAutoregressive((4, 1, 1), SMALL), "two positions"),
        (lambda: TransformerAutoregressive((4, 2), SMALL).forward(torch.zeros(1, 4, 3)), "shape"),
        (lambda: CausalTransformer(4, 1, 1, width=6, heads=4), "heads"),
        (lambda: CausalTransformer(4, 1, 1, dropout=1.0), "dropout"),
        (lambda: ConvConditioner(1, 1, dropout=-0.1), "dropout"),
        (lambda: ConvConditioner(0, 1), "inputs"),
        (lambda: glow((1, 28, 28), levels=3), "halved 2 times; take levels=2"),
        (lambda: glow((1, 7, 7)), "tarflow takes them"),
        (lambda: glow((4,)), "images"),
        (lambda: glow((1, 8, 8), steps=0), "steps"),
        (lambda: realnvp((1, 6, 6)), "take levels=1"),
        (lambda: realnvp((1, 8, 8), layers=1), "steps"),
        (lambda: realnvp((8, 8)), "expected events"),
        (lambda: realnvp(4, levels=2), "levels: is for images"),
        (lambda: tarflow((1, 28, 28), patch=5), "of these they do: 2, 4, 7, 14, 28"),
        (lambda: tarflow((1, 28, 28), patch=28), "two positions"),
        (lambda: tarflow((3,)), "images"),
        (lambda: tarflow((1, 8, 8), blocks=0), "blocks"),
        (lambda: multi_sample_bound(glow((1, 4, 4)), torch.zeros(1, 1, 4, 4), 0), "samples"),
        (lambda: multi_sample_bound(Transformed(VAE(2), Chain()), torch.zeros(1, 2), 2), "VAE"),
    ],
)
def test_mistakes_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


# -- bits ----------------------------------------------------------------------------------------------


class Given(Source):
    """Every element from a torch distribution."""

    def __init__(self, shape: tuple[int, ...], distribution: torch.distributions.Distribution):
        super().__init__()
        self.event_shape, self.distribution = shape, distribution

    def sample(self, n, condition=None, generator=None):
        raise NotImplementedError  # only densities are asked of it

    def log_prob(self, x, condition=None):
        return self.distribution.log_prob(x.double()).flatten(1).sum(1).to(x)


def test_a_uniform_density_on_the_cube_takes_eight_bits():
    """Through the preprocessing of 8-bit images: [-1, 1] is carried to [0, 256), the line by a sigmoid."""
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
    low, high = torch.tensor([-1.0, 0.0], dtype=DOUBLE), torch.ones((), dtype=DOUBLE)
    logistic = torch.distributions.TransformedDistribution(
        torch.distributions.Uniform(low[1], high), [torch.distributions.SigmoidTransform().inv]
    )
    # the margin of the logit lies outside of [0, 256), so that a share of .1 is wasted
    distributions = {
        "auto": (torch.distributions.Uniform(low[0], high), 8.0),
        "logit": (logistic, 8 - math.log2(0.9)),
    }
    for preprocess, (distribution, expected) in distributions.items():
        data = load(images, preprocess=preprocess)
        flow = Transformed(BijectiveFlow(Chain(), Given((1, 6, 6), distribution)), data.preprocess)
        bits = bits_per_dim(flow.log_prob(data.train.x, generator=gen()), 36)
        assert isinstance(bits, Tensor) and flow.density == "bound"
        torch.testing.assert_close(bits, torch.full((len(data.train),), expected))


def test_the_bound_rises_with_samples_to_the_probability_of_the_cell():
    """Pixels in 0..3, each a cell of N(2, .7^2), within which the density varies."""
    flow = Transformed(
        BijectiveFlow(Chain(), Normal((1, 1, 2))), Chain(Affine(2.0, 0.7), Dequantise(0, 3))
    ).double()
    flow.dtype = DOUBLE
    x = torch.tensor([[0.0, 3.0], [1.0, 2.0], [3.0, 3.0]], dtype=DOUBLE)[:, None, None]
    distribution = stats.norm(2, 0.7)
    exact = torch.from_numpy(
        np.log(distribution.cdf(x.numpy() + 1) - distribution.cdf(x.numpy())).sum((1, 2, 3))
    )
    repeats = x.repeat(4000, 1, 1, 1)
    gaps = []
    for samples in (1, 4, 32):
        bound = multi_sample_bound(flow, repeats, samples, generator=gen()).reshape(4000, 3)
        gaps.append(exact - bound.mean(0))
    # over 4,000 repeats of a bound of deviation below 1 the mean is known to .05 at three standard errors
    assert (gaps[0] > gaps[1] + 0.05).all() and (gaps[1] > gaps[2] + 0.01).all()
    assert (gaps[2].abs() < 0.05).all()
    sure = BijectiveFlow(Chain(), Normal((1, 1, 2))).double()
    torch.testing.assert_close(multi_sample_bound(sure, x, 5), sure.log_prob(x))


# -- the command line ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_line_trains_glow_on_digits(tmp_path, capsys):
    out = tmp_path / "run"
    method = ["--method", "glow", "--flow", "glow,steps=2,width=8", "--preprocess", "histogram"]
    arguments = ["train", "digits", "--condition", "label", *method, "--batch", "64", "--out", str(out)]
    assert main([*arguments, "--steps", "30", "--log-every", "10", "--no-report"]) == 0
    run = pushforward.load(out)
    history = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in history if "loss" in row]
    assert losses[-1] < losses[0]
    inner = run.flow
    assert isinstance(inner, BijectiveFlow) and run.event_shape == (1, 8, 8) and run.density == "bound"
    # what the layers took from data is part of the weights
    assert any(module.raw_log_scale.any() for module in inner.modules() if isinstance(module, ActNorm))
    x = run.sample(4, torch.tensor(3), gen())
    assert x.shape == (4, 1, 8, 8) and x.min() >= 0 and x.max() <= 16 and x.frac().eq(0).all()
    assert run.log_prob(x, torch.tensor(3)).isfinite().all()
    np.savez(tmp_path / "new.npz", x=x[:, 0].byte().numpy(), label=np.full(4, "3"))
    means = []
    for count in ("1", "20"):
        table = ["--out", str(tmp_path / "scores.csv"), "--bound-samples", count]
        assert main(["score", str(out), str(tmp_path / "new.npz"), *table]) == 0
        means.append(np.loadtxt(tmp_path / "scores.csv", skiprows=1).mean())
    assert means[1] > means[0]
    np.save(tmp_path / "narrow.npy", np.random.default_rng(0).integers(0, 9, (40, 7, 7)))
    capsys.readouterr()
    assert (
        main(["train", str(tmp_path / "narrow.npy"), "--method", "glow", "--out", str(tmp_path / "no")]) == 2
    )
    assert "7 x 7, which can be halved 0 times" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
