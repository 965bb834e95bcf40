"""The parts that a configuration names: path, source, coupling, networks, objective, flow."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .. import registry
from ..bijections import Bijection
from ..config import RunConfig
from ..couplings import Coupling, Rows
from ..data import Schema
from ..data import load as load_data
from ..fields import BridgeField, Parameterised, Scaled
from ..flows import BijectiveFlow, ContinuousFlow, DensityFlow, DiffusionFlow, Flow, OneStep, Transformed
from ..flows.base import condition_shape as shape_of_condition
from ..objectives import BridgeMatching, FlowMatching, MaximumLikelihood, Objective
from ..paths import Brownian, Gamma, Interpolant
from ..random import derive_seed
from ..sources import Empirical, Normal, Source
from ..training import in_model_space

#: How far from t = 0 or t = 1 a flow stops where its prediction gives no velocity there.
MARGIN = 1e-3


def build_path(config: RunConfig) -> Interpolant:
    """The path that a configuration trains along."""
    gamma: Gamma | float
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
    gamma = build_path(config).gamma
    if registry.parse("coupling", config.model.coupling)[0].endswith(":SinkhornOT"):
        options = registry.parse("coupling", config.model.coupling)[1]
        if isinstance(gamma, Brownian) and "epsilon" not in options:
            defaults = {"epsilon": 2 * gamma.sigma**2, "relative": False}
    return registry.create("coupling", config.model.coupling, **defaults)


def build_source(config: RunConfig, target: Rows, preprocess: Bijection) -> Source:
    """The law of x0 in the model's space, for training rows ``target`` in data units.

    Raises ValueError for events of another shape and paths that need a normal source.
    """
    dtype = model_dtype(config)
    if config.data.source == "normal":
        return Normal(target.x.shape[1:]).to(dtype)
    if build_path(config).ends()[0].target_scale != 0 or config.model.prediction != "velocity":
        raise ValueError(
            f"--source {config.data.source}: --path {config.model.path} with --prediction "
            f"{config.model.prediction} needs a normal source; any source will do for velocities along "
            "linear, lipman, trig, polynomial and follmer"
        )
    d = config.data
    seed = derive_seed(config.seed, "source") % 2**31
    entry = registry.DATASETS.get(d.source)
    rows = d.rows if entry is not None and ".toys:" in entry.target else None
    columns, exclude = (d.columns, d.exclude) if entry is None else ((), ())
    found = load_data(
        d.source,
        columns=columns,
        exclude=exclude,
        holdout=d.holdout,
        seed=seed,
        rows=rows,
        preprocess="none",
    )
    if found.train.x.shape[1:] != target.x.shape[1:]:
        raise ValueError(
            f"--source {d.source}: expected rows of shape {tuple(target.x.shape[1:])} like the target's, "
            f"got {tuple(found.train.x.shape[1:])}"
        )
    start = Rows(found.train.x.to(target.x.dtype))
    return Empirical(in_model_space(start, preprocess, dtype, config.seed).x)


def start_law(config: RunConfig, source: Source, target: Rows, preprocess: Bijection) -> Source:
    """The law of the path at t = 0, from which the flow starts, given that of x0.

    Where the target enters it (variance exploding paths, a little also variance preserving ones) the
    normal law of the same mean and variance stands for the mixture, as is customary.
    """
    start, _ = build_path(config).ends()
    if isinstance(source, Empirical):
        return Empirical(start.source_scale * source.rows, start.noise_scale)
    spread, mean = start.source_scale**2 + start.noise_scale**2, 0.0
    dtype = model_dtype(config)
    if start.target_scale != 0:
        x = in_model_space(target, preprocess, dtype, config.seed).x.double()
        mean = start.target_scale * float(x.mean())
        spread += start.target_scale**2 * float((x - x.mean()).square().mean())
    return Normal(source.event_shape, spread**0.5, mean).to(dtype)


def by_likelihood(config: RunConfig) -> bool:
    """Whether a configuration trains a normalizing flow by maximum likelihood."""
    return registry.lookup("method", config.model.method).objective == "maximum-likelihood"


def build_normalizing_flow(config: RunConfig, schema: Schema) -> DensityFlow:
    """The normalizing flow (or autoencoder) of a configuration, its weights drawn from the seed.

    Raises ValueError for a base under a model that has hidden variables instead.
    """
    spec = None if schema.condition is None else schema.condition.network_spec
    assert config.model.flow is not None, "resolve the configuration first"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "flow"))
        flow = registry.create("flow", config.model.flow, schema.event_shape, spec)
        if config.model.base is not None:
            if not isinstance(flow, BijectiveFlow):
                raise ValueError(
                    f"--base {config.model.base}: is for flows that are bijections, got {config.model.flow}"
                )
            # its shape need not be that of the data: images are squeezed into patches or flattened
            flow.source = registry.create("base", config.model.base, flow.source.event_shape)
        return flow


def build_network(config: RunConfig, schema: Schema, name: str = "network") -> nn.Module:
    """A network of a configuration, its weights drawn from the seed and ``name``."""
    spec = None if schema.condition is None else schema.condition.network_spec
    assert config.model.network is not None, "resolve the configuration first"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, name))
        return registry.create("network", config.model.network, schema.event_shape, spec)


def stages(config: RunConfig) -> list[str]:
    """The stages of a run, in order: train, reflow-1, reflow-2, ..., distil."""
    model = config.model
    rounds = [f"reflow-{k + 1}" for k in range(model.reflow)]
    return [*([] if model.teacher else ["train"]), *rounds, *(["distil"] if model.distil else [])]


def build_models(config: RunConfig, schema: Schema, stage: str = "train") -> nn.ModuleDict:
    """All networks of a stage by the names their objective knows them by."""
    if by_likelihood(config):
        flow = build_normalizing_flow(config, schema)
        return nn.ModuleDict({"flow": flow}).to(model_dtype(config))
    network = build_network(config, schema)
    path = build_path(config)
    # large noise would swamp a network that sees x as it is
    large = stage == "train" and path.ends()[0].target_scale != 0
    models = {"field": Scaled(network, path) if large else network}
    if stage == "train" and bridge(config) is not None:
        models["score"] = build_network(config, schema, "score")
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
    return Transformed(flow.to(model_dtype(config)), preprocess, dtype)


def inner_flow(
    config: RunConfig, schema: Schema, models: nn.ModuleDict, source: Source | None, stage: str
) -> Flow:
    """The flow in the model's space after a stage: along straight lines after reflow, of one step after
    distillation.  ``source`` is its law at t = 0, None where the model has its own."""
    if by_likelihood(config):
        flow = models["flow"]
        assert isinstance(flow, DensityFlow)
        return flow
    assert source is not None
    condition_shape = shape_of_condition(None if schema.condition is None else schema.condition.network_spec)
    if stage == "distil":
        return OneStep(models["field"], source, condition_shape=condition_shape)
    path, kind = build_path(config), config.model.prediction
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
