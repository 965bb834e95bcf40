"""The scheme of Jordan, Kinderlehrer and Otto by networks, each step a block of a continuous flow."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..fields import AnyField, Piecewise
from ..flows import ContinuousFlow
from ..nn import MLP
from ..nn.checks import check_count, check_number
from ..objectives import Batch, Loss, Objective, Step
from ..objectives.base import model_of
from ..rows import Rows
from ..solvers import RK4, Solver
from ..sources import Source
from ..tensors import sum_event
from .energies import Energy, check_step

#: Particles at which the curvature of a potential is looked at, and that are drawn to train each block.
LOOKED, POOL = 2048, 8192
#: By how much the next step may be longer, where steps are even.
LONGER = 2.0


class ProximalStep(Objective):
    r"""A step of the scheme for the map T of a block, a short continuous flow, from rho to its image:

    .. math:: F(T_\# \rho) + \frac{1}{2h} E\|T(x) - x\|^2, \quad x \sim \rho

    up to a constant and per element of an event.  Among all maps to one distribution the second term chooses
    the shortest, so that it is W_2^2 / (2h) (Xu, Cheng & Xie 2023, arXiv 2212.14424, eq. 8).

    ``models`` holds the block under ``name``, a :class:`~pushforward.flows.ContinuousFlow` whose solver and
    divergence are those of the training; it alone is trained.

    energy: F.  step: h.  backwards: whether the step goes from the end of the flow's time to its start, as in
        a flow from noise to data whose data the energy carries to noise.

    Raises ValueError for a step that is not positive, and for an energy of a kind without a value at moved
    particles.

    >>> from pushforward import Normal
    >>> from pushforward.gradient_flows import kullback_leibler
    >>> block = ContinuousFlow(MLP(2, width=8, depth=1).start_at_zero(), RK4(3), Normal(2))
    >>> objective = ProximalStep(kullback_leibler(Normal(2).log_prob), step=0.5)
    >>> objective.loss(nn.ModuleDict({"block": block}), Batch((Rows(torch.zeros(4, 2)),)), Step()).value
    tensor(0.9189, grad_fn=...)
    """

    main = "block"

    def __init__(self, energy: Energy, step: float, name: str = "block", backwards: bool = False):
        if not isinstance(energy, Energy):
            raise ValueError(f"energy: expected an Energy, got a {type(energy).__name__}")
        self.energy, self.step = energy, check_number("step", step, 0)
        self.name, self.backwards, self.phases = name, backwards, {"train": (name,)}

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        rows = batch.target
        flow, x, size = cast(ContinuousFlow, model_of(models, self.name)), rows.x, float(rows.x[0].numel())
        problem = flow.augmented(rows.condition, flow.divergence.draw(x, step.generator))
        t0, t1 = flow.interval
        t0, t1 = (t1, t0) if self.backwards else (t0, t1)
        solution = flow.solver.solve(problem, (x, x.new_zeros(len(x))), t0, t1)
        moved, log_det = solution.x
        energies = self.energy.moved(moved, log_det) / size
        far = sum_event((moved - x).square()) / (2 * self.step * size)
        # training stops at a loss that is not finite, and says so
        errors = torch.where(solution.status == 0, energies + far, torch.nan)
        value, energy = batch.mean(errors), batch.mean(energies.detach())
        return Loss(value, errors.detach(), terms={"energy": energy, "distance": value.detach() - energy})


@dataclass(frozen=True)
class NetworkStep:
    """A step of the scheme by a network.

    flow: from the start of the scheme, through the blocks of all steps so far, to the new distribution.
    x: ``(n, d)``, particles of the new distribution; row i is always the image of the same draw.
    energy: F, their mean.  step: h.  distance: W_2 from the old distribution, the root mean square way.
    """

    flow: ContinuousFlow
    x: Tensor
    energy: float
    step: float
    distance: float


class NetworkJKO:
    r"""Implicit Euler in the space of distributions, as :class:`JKO` but in any dimension: each step trains a
    network as :class:`ProximalStep` says, a block of a flow that has samples and a density at each step.

    With the KL divergence to N(0, I) and data as the start this is JKO-iFlow, the method ``jko-iflow`` (Xu,
    Cheng & Xie 2023, arXiv 2212.14424).

    energy: F; each of its parts has a value at moved particles, as those of this package do.
    step: h, or one for each step.
    network: makes a field ``(t, x)`` from d, by default two layers of 64 softplus units.  Each block starts
        as a copy of the one before.
    iterations, batch, lr: of Adam, with cosine decay; the first block, which starts from nothing, takes twice
        as many iterations.
    particles: of every :class:`NetworkStep`.  Blocks are trained on other draws.
    solver: of each block; its fixed steps are those of the training as well.

    Raises ValueError for a step so long that the problem is not convex at the particles, as :class:`JKO`
    does, and for what does not fit.

    >>> from pushforward import Normal
    >>> from pushforward.gradient_flows import kullback_leibler
    >>> scheme = NetworkJKO(kullback_leibler(Normal(1).log_prob), step=0.5, iterations=40, batch=128, lr=0.02)
    >>> generator = torch.Generator().manual_seed(0)
    >>> [step] = scheme.run(Normal(1, scale=2.0), 1, generator)  # gaussian_jko: variance 2.4
    >>> abs(step.x.var().item() - 2.4) < 0.3, step.flow.sample(3).shape
    (True, torch.Size([3, 1]))
    """

    def __init__(
        self,
        energy: Energy,
        step: float | Sequence[float],
        network: Callable[[int], AnyField] | None = None,
        iterations: int = 300,
        batch: int = 256,
        lr: float = 5e-3,
        particles: int = 4096,
        solver: Solver | None = None,
    ):
        self.steps = [step] if isinstance(step, int | float) else [*step]
        if not self.steps:
            raise ValueError("step: expected a number, or one for each step, got none")
        for h in self.steps:
            ProximalStep(energy, h)
        self.energy, self.network = energy, network or _perceptron
        self.iterations, self.batch = check_count("iterations", iterations), check_count("batch", batch)
        self.particles, self.lr = check_count("particles", particles), check_number("lr", lr, 0)
        self.solver = solver or RK4(steps=3)

    def run(
        self, start: Source, steps: int, generator: torch.Generator | None = None, even: bool = False
    ) -> Iterator[NetworkStep]:
        """So many steps from the distribution ``start``, one after the other.

        even: each step after the first is as long as brings its distance to that of the first, and at most
            twice as long as the one before.  Where h stays, distances fall.
        """
        count = check_count("steps", steps)
        if len(self.steps) not in (1, count) or (even and len(self.steps) > 1):
            wanted = "one number, the first of even steps" if even else f"one number or {count}"
            raise ValueError(f"step: expected {wanted}, got {len(self.steps)}")
        sizes = self.steps if len(self.steps) == count else self.steps * count
        x0 = start.sample(self.particles, None, generator)
        x, log_det = x0, x0.new_zeros(len(x0))
        fields: list[AnyField] = []
        first, h = math.nan, sizes[0]
        for number in range(count):
            h = h if even else sizes[number]
            pool = self._pool(start, fields, sizes, generator)
            check_step(self.energy, pool[:LOOKED], h)
            fields.append(self._field(fields, x0, generator))
            sizes[number] = h
            block = self._flow(fields[-1:], [h], start)
            iterations = self.iterations if number else 2 * self.iterations
            self._train(block, ProximalStep(self.energy, h), pool, iterations, generator)
            with torch.no_grad():
                new, change = block.push_and_log_det(x)
            distance = float((new - x).square().sum(1).mean().sqrt())
            x, log_det = new, log_det + change
            energy = self._value(start, x0, x, log_det)
            yield NetworkStep(self._flow(fields, sizes, start), x, energy, h, distance)
            first = distance if number == 0 else first
            h *= min(LONGER, first / max(distance, 1e-12))

    def _flow(self, fields: Sequence[AnyField], sizes: Sequence[float], start: Source) -> ContinuousFlow:
        return ContinuousFlow(Piecewise(fields, sizes[: len(fields)]), self.solver, start)

    @torch.no_grad()
    def _pool(
        self,
        start: Source,
        fields: Sequence[AnyField],
        sizes: Sequence[float],
        generator: torch.Generator | None,
    ) -> Tensor:
        """New particles where the blocks so far have brought them."""
        x = start.sample(POOL, None, generator)
        return self._flow(fields, sizes, start).push(x) if fields else x

    def _field(self, before: Sequence[AnyField], like: Tensor, generator: torch.Generator | None) -> AnyField:
        """The network of the next block: a copy of the last one, or one whose weights are drawn."""
        if before:
            return copy.deepcopy(before[-1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator, device=like.device)))
            field = self.network(like.shape[1])
        return field.to(like) if isinstance(field, nn.Module) else field

    def _train(
        self,
        block: ContinuousFlow,
        objective: ProximalStep,
        pool: Tensor,
        iterations: int,
        generator: torch.Generator | None,
    ) -> None:
        models = nn.ModuleDict({objective.name: block})
        optimiser = torch.optim.Adam(block.parameters(), self.lr)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
        for _ in range(iterations):
            rows = torch.randint(len(pool), (self.batch,), generator=generator, device=pool.device)
            optimiser.zero_grad()
            objective.loss(models, Batch((Rows(pool[rows]),)), Step(generator=generator)).value.backward()
            optimiser.step()
            decay.step()

    def _value(self, start: Source, x0: Tensor, x: Tensor, log_det: Tensor) -> float:
        """F of the image ``x`` of draws ``x0`` of the start."""
        heat = self.energy.diffusion
        known = heat * start.log_prob(x0) if heat else x.new_zeros(len(x))
        return float((self.energy.moved(x, log_det) + known).mean())


def _perceptron(d: int) -> nn.Module:
    return MLP(d, width=64, depth=2, activation="softplus")
