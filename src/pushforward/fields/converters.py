"""Fields of models that were trained with other packages, in the convention of this one.

Nothing of theirs is imported: the converters call what they are given as those packages do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..paths import Interpolant, Schedule, Tabulated
from ..tensors import Condition, expand_time
from .convert import Parameterised, Prediction

#: What diffusers calls a prediction.
DIFFUSERS: Mapping[str, Prediction] = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
#: A timestep that is nearer to a whole one than this is the whole one, at which models are trained.
WHOLE = 1e-3


class _Estimator(Protocol):
    """What is used of an estimator of sbi."""

    t_min: float
    t_max: float

    def ode_fn(self, input: Tensor, condition: Tensor, times: Tensor) -> Tensor: ...


def from_diffusers(model: Any, scheduler: Any, condition_name: str = "class_labels") -> Parameterised:
    """The velocity field of a diffusers ``model`` that was trained with ``scheduler``.

    Their timestep k runs from N - 1 (noise) to 0, with one more step to the clean data.  For models of noise
    (``epsilon``), data (``sample``) and v (``v_prediction``) k = N (1 - t) - 1, along the path alpha =
    sqrt(alphas_cumprod), sigma = sqrt(1 - alphas_cumprod), tabulated; a ``ddim`` solver on a uniform grid of
    S steps, where S divides N, does what their DDIM does with ``timestep_spacing="trailing"``.  For
    schedulers of flow matching k = N (1 - t), the model gives noise - data, and the path is the linear one;
    their ``shift`` only changes the grid.  The field has the path in its attribute ``path``.  What their
    samplers do to predictions on the way, such as ``clip_sample``, is left out.

    model: called as ``model(x, timesteps, ...)``; its output is a tensor, the first of a tuple, or in an
    attribute ``sample``.  A condition that is a mapping goes to the model by its names, another as
    ``condition_name``.

    Raises ValueError for a scheduler of another kind, and for an output that is not like x.

    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(num_train_timesteps=1000, prediction_type="epsilon")
    >>> scheduler = SimpleNamespace(config=config, alphas_cumprod=torch.linspace(0.9999, 0.01, 1000))
    >>> field = from_diffusers(lambda x, timesteps: torch.zeros_like(x), scheduler)
    >>> field(torch.tensor(0.5), torch.ones(1, 2)).shape, field.path.ends()[1].target_scale
    (torch.Size([1, 2]), 1.0)
    """
    config = getattr(scheduler, "config", scheduler)
    steps, kind = getattr(config, "num_train_timesteps", None), getattr(config, "prediction_type", None)
    products = getattr(scheduler, "alphas_cumprod", None)
    if steps is None or (kind not in DIFFUSERS if products is not None else not _flows(scheduler, kind)):
        raise ValueError(
            "scheduler: expected one of diffusers with alphas_cumprod and a prediction_type among "
            f"{', '.join(DIFFUSERS)}, or one of flow matching, got {type(scheduler).__name__} with {kind!r}"
        )
    if products is None:
        return Parameterised(
            _Diffusers(model, steps, condition_name, last=0, sign=-1.0), "velocity", Interpolant()
        )
    square = torch.cat([torch.ones(1, dtype=torch.float64), torch.as_tensor(products).double().cpu()]).flip(0)
    path = Interpolant(Tabulated(square.sqrt(), (1 - square).clamp(min=0).sqrt()))
    return Parameterised(_Diffusers(model, steps, condition_name, last=1), DIFFUSERS[str(kind)], path)


def _flows(scheduler: Any, kind: str | None) -> bool:
    """Whether it is a scheduler of flow matching: noise levels, and no choice of a prediction."""
    return kind is None and hasattr(scheduler, "sigmas")


class _Diffusers(nn.Module):
    """A model of diffusers as a function of our time: N (1 - t) - ``last`` are its timesteps."""

    def __init__(self, model: Any, steps: int, condition_name: str, last: int, sign: float = 1.0):
        super().__init__()
        self.model, self.steps, self.condition_name = model, steps, condition_name
        self.last, self.sign = last, sign

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        steps = (self.steps * (1 - _rows(t, x)) - self.last).clamp(min=0)
        whole = steps.round()
        steps = torch.where((steps - whole).abs() < WHOLE, whole, steps)
        found = self.model(x, steps, **_named(condition, self.condition_name))
        found = found[0] if isinstance(found, tuple) else getattr(found, "sample", found)
        return self.sign * _like(found, x)


def from_flow_matching(
    model: Any,
    scheduler: Callable[[Tensor], Any] | None = None,
    prediction: Prediction = "velocity",
    condition_name: str = "label",
) -> Parameterised:
    """The velocity field of a ``model(x=x, t=t, ...)`` of Meta's flow_matching, whose time is ours.

    scheduler: that of its ``AffineProbPath``, whose ``alpha_t``, ``sigma_t`` and slopes become the path of
    the field; CondOT if none is given.  prediction: what the model predicts, "velocity", "data" (their x_1)
    or "noise" (their x_0).  A condition that is a mapping goes to the model by its names, another as
    ``condition_name``.  Raises ValueError for an unknown prediction and an output that is not like x.

    >>> field = from_flow_matching(lambda x, t: t[:, None] * x)
    >>> field(torch.tensor(0.5), torch.ones(1, 2))
    tensor([[0.5000, 0.5000]])
    """
    path = Interpolant() if scheduler is None else Interpolant(_Scheduler(scheduler))
    return Parameterised(_Named(model, condition_name), prediction, path)


class _Scheduler(Schedule):
    """A scheduler of flow_matching as a schedule."""

    def __init__(self, scheduler: Callable[[Tensor], Any]):
        self.scheduler = scheduler

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found = self.scheduler(t)
        return found.alpha_t, found.sigma_t, found.d_alpha_t, found.d_sigma_t


class _Named(nn.Module):
    """A model that takes its arguments by the names x and t."""

    def __init__(self, model: Any, condition_name: str):
        super().__init__()
        self.model, self.condition_name = model, condition_name

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        named = _named(condition, self.condition_name)
        return _like(self.model(x=x, t=_rows(t, x), **named), x)


def from_torchcfm(model: Any, sigma: float = 0.0, condition_name: str = "y") -> Parameterised:
    """The velocity field of a ``model`` trained with torchcfm, whose time is ours.

    A model of one argument, such as its MLP, is called on x and t joined as columns; others, such as its
    UNet, as ``model(t, x, ...)``.  sigma: that of its ``ConditionalFlowMatcher``; the path of the field is
    that of this matcher, and has scores only where pairs were independent.  A condition goes to the model as
    ``condition_name``, or by its names.  Raises ValueError for an output that is not like x.

    >>> field = from_torchcfm(lambda joined: joined[:, -1:] * joined[:, :-1])
    >>> field(torch.tensor(0.5), torch.ones(1, 2))
    tensor([[0.5000, 0.5000]])
    """
    taken = inspect.signature(model.forward if isinstance(model, nn.Module) else model).parameters.values()
    needed = [p for p in taken if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return Parameterised(
        _TorchCFM(model, len(needed) == 1, condition_name), "velocity", Interpolant(gamma=sigma)
    )


class _TorchCFM(nn.Module):
    """A model of torchcfm; ``joined``, where it takes x and t as columns of one table."""

    def __init__(self, model: Any, joined: bool, condition_name: str):
        super().__init__()
        self.model, self.joined, self.condition_name = model, joined, condition_name

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        times, named = _rows(t, x), _named(condition, self.condition_name)
        if self.joined:
            return _like(self.model(torch.cat([x, times[:, None]], 1), **named), x)
        return _like(self.model(times, x, **named), x)


class FromSbi(nn.Module):
    """The velocity field of a vector field ``estimator`` of sbi, whose time runs from data to noise.

    u(t, x) = -T v(t_min + T (1 - t), x), T = t_max - t_min, v the estimator's ``ode_fn``: flow matching and
    score estimators alike.  Their parameters theta are x here, their observation x is the condition, which
    the field needs.  A flow starts from the base of the estimator, ``Normal(shape)`` where its mean is 0 and
    its deviation 1.  Raises ValueError without a condition.

    >>> from types import SimpleNamespace
    >>> ode_fn = lambda input, condition, times: times[:, None]
    >>> estimator = SimpleNamespace(t_min=0.0, t_max=1.0, ode_fn=ode_fn)
    >>> FromSbi(estimator)(torch.tensor(0.25), torch.ones(1, 1), torch.zeros(1, 3))
    tensor([[-0.7500]])
    """

    def __init__(self, estimator: _Estimator):
        super().__init__()
        self.estimator = estimator

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        if not isinstance(condition, Tensor):
            raise ValueError(
                "condition: expected the observation, a tensor (B, ...), which sbi's models need"
            )
        first, whole = float(self.estimator.t_min), float(self.estimator.t_max - self.estimator.t_min)
        times = first + whole * (1 - _rows(t, x))
        return -whole * _like(self.estimator.ode_fn(x, condition, times), x)


def _rows(t: Tensor | float, x: Tensor) -> Tensor:
    """One time for each row."""
    return expand_time(t, x).reshape(-1).to(x).expand(len(x))


def _named(condition: Condition | None, name: str) -> Mapping[str, Tensor]:
    """A condition as arguments by name."""
    if condition is None:
        return {}
    return {name: condition} if isinstance(condition, Tensor) else condition


def _like(found: Tensor, x: Tensor) -> Tensor:
    if found.shape != x.shape:
        raise ValueError(f"model: expected an output like x {tuple(x.shape)}, got {tuple(found.shape)}")
    return found
