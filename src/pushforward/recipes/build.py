"""The parts that a configuration names: path, source, coupling, networks, objective, flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import registry
from ..bijections import Bijection
from ..config import RunConfig
from ..couplings import Coupling
from ..data import Schema
from ..data.dataset import sharp
from ..fields import Around, BestLinear, BridgeField, Parameterised, Scaled
from ..flows import BijectiveFlow, ContinuousFlow, DensityFlow, DiffusionFlow, Flow, OneStep, Transformed
from ..flows.base import condition_shape as shape_of_condition
from ..nn import Network
from ..objectives import BridgeMatching, FlowMatching, MaximumLikelihood, Objective
from ..oracles import GaussianMixtureOracle, OracleOutput
from ..paths import Brownian, Gamma, Interpolant
from ..random import derive_seed
from ..sources import GaussianMixture, Source
from .limits import create_module

#: How far from t = 0 or t = 1 a flow stops where its prediction gives no velocity there.
MARGIN = 1e-3
#: Settings of a model that name a component, each called as its kind is in the registry.
COMPONENTS = ("flow", "base", "network", "coupling", "path", "gamma", "times", "weighting", "solver")


def own_classes(config: RunConfig) -> tuple[str, ...]:
    """The ``module:Class`` of every class of the user's own that a configuration names."""
    return registry.own_classes(*(getattr(config.model, key) for key in COMPONENTS))


def check_components(config: RunConfig, file: Path) -> None:
    """Raise ValueError, by ``file`` and key, for what no flow can be built from.

    That is a component which is neither registered nor trusted, options that it does not take, and null where
    the configuration has not been resolved.
    """
    try:
        flow = by_likelihood(config)
    except ValueError as error:
        raise ValueError(f"{file}: model.method: {error}") from None
    if not stages(config):
        raise ValueError(f"{file}: model.teacher: goes with reflow or distil, got neither")
    for key in ("flow",) if flow else ("network", "coupling", "path", "gamma", "prediction"):
        if getattr(config.model, key) is None:
            raise ValueError(f"{file}: model.{key}: expected a text, got null")
    for key in COMPONENTS:
        text = getattr(config.model, key)
        if text is None or (key == "gamma" and registry.is_number(text)):
            continue
        noisy = isinstance(text, str) and text.partition(",")[0] in registry.SDE_SOLVERS
        try:
            registry.check("sde-solver" if key == "solver" and noisy else key, text)
        except ValueError as error:
            raise ValueError(f"{file}: model.{key}: {error}") from None


def build_path(config: RunConfig) -> Interpolant:
    """The path that a configuration trains along."""
    gamma: Gamma | float
    assert config.model.gamma is not None and config.model.path is not None, "resolve the configuration first"
    if registry.is_number(config.model.gamma):
        gamma = float(config.model.gamma)
    else:
        gamma = registry.create("gamma", config.model.gamma)
    return Interpolant(registry.create("path", config.model.path), gamma)


def model_dtype(config: RunConfig) -> torch.dtype:
    """The dtype of the model's weights and of the space it works in."""
    return torch.float64 if config.compute.precision == "64-true" else torch.float32


def build_coupling(config: RunConfig) -> Coupling:
    """The coupling of a configuration.

    ``sinkhorn`` without an epsilon, along a Brownian path, takes the one of the Schroedinger bridge:
    2 sigma^2 for the cost |x0 - x1|^2.
    """
    defaults: dict[str, Any] = {}
    assert config.model.coupling is not None, "resolve the configuration first"
    gamma = build_path(config).gamma
    if registry.parse("coupling", config.model.coupling)[0].endswith(":SinkhornOT"):
        options = registry.parse("coupling", config.model.coupling)[1]
        if isinstance(gamma, Brownian) and "epsilon" not in options:
            defaults = {"epsilon": 2 * gamma.sigma**2, "relative": False}
    return registry.create("coupling", config.model.coupling, **defaults)


def needs_normal_source(config: RunConfig) -> bool:
    """Whether the path or the prediction has formulas for a normal source alone."""
    return build_path(config).ends()[0].target_scale != 0 or config.model.prediction != "velocity"


def by_likelihood(config: RunConfig) -> bool:
    """Whether a configuration trains a normalizing flow by maximum likelihood."""
    return registry.lookup("method", config.model.method).objective == "maximum-likelihood"


def build_normalizing_flow(config: RunConfig, schema: Schema, source: Source | None = None) -> DensityFlow:
    """The normalizing flow (or autoencoder) of a configuration, its weights drawn from the seed.

    source: what it starts from, None for the source that it has by itself.  Raises ValueError for a base
    under a model that has hidden variables instead.
    """
    spec = None if schema.condition is None else schema.condition.network_spec
    assert config.model.flow is not None, "resolve the configuration first"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "flow"))
        flow = create_module("flow", config.model.flow, schema.event_shape, spec)
        if config.model.base is not None:
            if not isinstance(flow, BijectiveFlow):
                raise ValueError(
                    f"--base {config.model.base}: is for flows that are bijections, got {config.model.flow}"
                )
            # its shape need not be that of the data: images are squeezed into patches or flattened
            flow.source = create_module("base", config.model.base, flow.source.event_shape)
        if source is not None:
            assert isinstance(flow, BijectiveFlow)
            flow.source = source
        return flow


def build_network(config: RunConfig, schema: Schema, name: str = "network") -> nn.Module:
    """A network of a configuration, its weights drawn from the seed and ``name``."""
    spec = None if schema.condition is None else schema.condition.network_spec
    assert config.model.network is not None, "resolve the configuration first"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, name))
        return create_module("network", config.model.network, schema.event_shape, spec)


def stages(config: RunConfig) -> list[str]:
    """The stages of a run, in order: train, reflow-1, reflow-2, ..., distil."""
    model = config.model
    rounds = [f"reflow-{k + 1}" for k in range(model.reflow or 0)]
    return [*([] if model.teacher else ["train"]), *rounds, *(["distil"] if model.distil else [])]


def build_models(
    config: RunConfig,
    schema: Schema,
    stage: str = "train",
    source: Source | None = None,
    known: GaussianMixture | None = None,
) -> nn.ModuleDict:
    """All networks of a stage by the names their objective knows them by.

    source: the distribution at t = 0.  known: a mixture in whose closed form the field starts.
    """
    if by_likelihood(config):
        flow = build_normalizing_flow(config, schema, source)
        return nn.ModuleDict({"flow": flow}).to(model_dtype(config))
    network = build_network(config, schema)
    path = build_path(config)
    first = stage == "train"
    from_baseline = first and config.data.source == "baseline"
    if from_baseline and isinstance(network, Network):
        network.start_at_zero()
    # large noise would swamp a network that sees x as it is
    field = Scaled(network, path) if first and path.ends()[0].target_scale != 0 else network
    if first and known is not None:
        assert config.model.prediction is not None
        field = Around(OracleOutput(GaussianMixtureOracle(known, path), config.model.prediction), field)
    elif from_baseline and not build_coupling(config).looks and path.open_ends == (False, False):
        field = Around(BestLinear(path), field)
    models = {"field": field}
    if first and bridge(config) is not None:
        score = build_network(config, schema, "score")
        models["score"] = score.start_at_zero() if from_baseline and isinstance(score, Network) else score
    return nn.ModuleDict(models).to(model_dtype(config))


def bridge(config: RunConfig) -> float | None:
    """The noise level sigma of bridge matching, None where a configuration descends something else.

    Raises ValueError for bridge matching along another path than Brownian bridges.
    """
    if registry.lookup("method", config.model.method).objective != "bridge-matching":
        return None
    gamma = build_path(config).gamma
    if not isinstance(gamma, Brownian) or config.model.path != "linear":
        raise ValueError(
            f"--method {config.model.method}: expected --path linear and --gamma brownian,sigma=..., "
            f"got {config.model.path} and {config.model.gamma}"
        )
    return gamma.sigma


def build_objective(config: RunConfig) -> Objective:
    """What the first stage of training descends."""
    model = config.model
    if by_likelihood(config):
        return MaximumLikelihood()
    times = registry.create("times", model.times or "uniform")
    assert model.prediction is not None, "resolve the configuration first"
    sigma = bridge(config)
    if sigma is not None:
        return BridgeMatching(sigma, model.drop_condition, times)
    return FlowMatching(
        build_path(config),
        model.prediction,
        model.drop_condition,
        times,
        # none rather than a factor of 1, which would cost a small network a hundredth of its step
        weighting=None if model.weighting == "uniform" else registry.create("weighting", model.weighting),
    )


def build_flow(
    config: RunConfig,
    schema: Schema,
    models: nn.ModuleDict,
    source: Source | None,
    preprocess: Bijection,
    dtype: torch.dtype,
    stage: str,
) -> Transformed:
    """The flow that the models of a stage make with the configuration's path, solver and preprocessing."""
    flow = inner_flow(config, schema, models, source, stage)
    return Transformed(flow.to(model_dtype(config)), sharp(preprocess), dtype)


def inner_flow(
    config: RunConfig, schema: Schema, models: nn.ModuleDict, source: Source | None, stage: str
) -> Flow:
    """The flow in the model's space after a stage: along straight lines after reflow, of one step after
    distillation.  ``source`` is what it starts from at t = 0, None where the model has its own."""
    if by_likelihood(config):
        flow = models["flow"]
        assert isinstance(flow, DensityFlow)
        return flow
    assert source is not None
    condition_shape = shape_of_condition(None if schema.condition is None else schema.condition.network_spec)
    if stage == "distil":
        return OneStep(models["field"], source, condition_shape=condition_shape)
    path, kind = build_path(config), config.model.prediction
    assert kind is not None, "resolve the configuration first"
    field, lo, hi = models["field"], 0.0, 1.0
    noisy = config.model.solver.partition(",")[0] in registry.SDE_SOLVERS
    sigma = bridge(config) if stage == "train" else None
    if noisy:
        if sigma is None:
            raise ValueError(f"--solver {config.model.solver}: only --method sf2m has a stochastic flow")
        solver = registry.create("sde-solver", config.model.solver)
        drift = BridgeField(field, models["score"], sigma=sigma, output="drift")
        return DiffusionFlow(drift, sigma, solver, source, condition_shape=condition_shape)
    if sigma is not None:
        field = BridgeField(field, models["score"], sigma=sigma)
    elif stage == "train" and kind != "velocity":
        open_start, open_end = path.open_ends
        lo = MARGIN if kind in ("noise", "score") or open_start else 0.0
        hi = 1.0 - MARGIN if kind == "data" or open_end else 1.0
        field = Parameterised(field, kind, path)
    return ContinuousFlow(
        field,
        registry.create("solver", config.model.solver),
        source,
        condition_shape=condition_shape,
        guidance=config.model.guidance,
        interval=(lo, hi),
    )
