"""The scaling loop of entropic transport, for many plans at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .entropic import Ended, EntropicPlan

#: Updates of both potentials between two exact ones.
WINDOW = 16

#: Updates after which the loop stops where nothing else is said.
LIMIT = 10_000

#: Error of the marginals that is allowed where nothing is said, and the share of the range of the costs below
#: which an epsilon wants a tenth of it.
TOLERANCE, FINE = 1e-3, 1e-3

#: Factor by which the regularisation falls on its way to the one asked for.
ANNEAL = 0.25

#: The largest over-relaxation; 2 would never converge.
RELAX = 1.98

#: Numbers of the kernel worked on together, so that they stay in the processor's cache.
CACHE = 2**16


def masses(mass: Tensor | None, cost: Tensor, axis: int, name: str) -> Tensor:
    """``mass`` for the rows (axis -2) or columns (axis -1) of ``cost``; None for equal ones of sum 1."""
    if cost.dtype not in (torch.float32, torch.float64) or cost.ndim < 2 or 0 in cost.shape:
        raise ValueError(
            f"cost: expected a float32 or float64 (..., n, m), got {cost.dtype} of shape {tuple(cost.shape)}"
        )
    rows = cost.shape[axis]
    if mass is None:
        return cost.new_full((*cost.shape[:-2], rows), 1 / rows)
    if mass.shape not in ((rows,), (*cost.shape[:-2], rows)):
        raise ValueError(f"{name}: expected {rows} masses, got shape {tuple(mass.shape)}")
    mass = mass.to(cost)
    if not bool((mass >= 0).all() & mass.isfinite().all() & (mass.sum(-1) > 0).all()):
        raise ValueError(f"{name}: expected finite non-negative masses with a positive sum")
    return mass.expand(*cost.shape[:-2], rows)


def check_sums(a: Tensor, b: Tensor) -> None:
    """Raise ValueError for masses ``(*batch, n)`` and ``(*batch, m)`` whose sums differ by more than 1e-5."""
    first, second = (mass.detach().double().sum(-1) for mass in (a, b))
    off = (first - second).abs() > 1e-5 * torch.maximum(first, second)
    if bool(off.any()):
        first, second = first[off][0], second[off][0]
        raise ValueError(
            f"a, b: expected masses of equal sums, got {float(first):g} and {float(second):g}; divide each "
            "by its sum, or leave mass out by `unbalanced` or `partial`"
        )


@dataclass(frozen=True)
class Scaling:
    """How the potentials of entropic plans are found, and when the search stops.

    tolerance: when to stop, on the L1 error of the marginals of each plan.  The mean cost may then be off by
        this share of the range of the costs.  None: 1e-3, and 1e-4 for an epsilon below a thousandth of the
        range, where the mean cost is a small part of it.
    max_iterations: where to stop otherwise; rounded up to a multiple of 16.  None: after 10,000, with a
        UserWarning; a given limit is left to the caller, who sees ``converged``.
    anneal: begin with a larger epsilon and lower it.  Not done where ``init`` is given.
    relax: over-relax the updates, as far as the observed rate of convergence suggests.
    init: potentials (f, g) to start from.

    Raises ValueError for a tolerance or a number of iterations that is not positive.

    >>> Scaling(tolerance=0.0)
    Traceback (most recent call last):
    ValueError: tolerance: expected a positive number, got 0.0
    """

    tolerance: float | None = None
    max_iterations: int | None = None
    anneal: bool = True
    relax: bool = True
    init: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        for name in ("tolerance", "max_iterations"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: expected a positive number, got {value}")


@torch.no_grad()
def scale(
    cost: Tensor, epsilon: float | Tensor, rho: float, a: Tensor, b: Tensor, scaling: Scaling
) -> EntropicPlan:
    """The loop behind :func:`sinkhorn` (``rho`` infinite) and :func:`~pushforward.plans.unbalanced`.

    With s_i = -epsilon log sum_j b_j exp((g_j - C_ij) / epsilon) the update is f_i = phi s_i, where phi =
    rho / (rho + epsilon); row i then has the mass a_i exp(-f_i / rho).  Columns likewise.
    """
    batch, (n, m) = cost.shape[:-2], cost.shape[-2:]
    limit = LIMIT if scaling.max_iterations is None else scaling.max_iterations
    whole, target = cost.reshape(-1, n, m), _regularisation(cost, epsilon).expand(batch).reshape(-1)
    allowed = _allowed(whole, target, scaling.tolerance)
    loop = _Loop(whole, target, rho, a.reshape(-1, n), b.reshape(-1, m), scaling.relax)
    if scaling.init is not None:
        loop.f, loop.g = (v.to(cost).expand(*batch, k).reshape(-1, k) for v, k in zip(scaling.init, (n, m)))
    elif scaling.anneal:
        spread = whole.mean((1, 2)) - whole.amin((1, 2))
        loop.epsilon = torch.maximum(target, spread)

    plans = len(whole)
    f, g, log_rows = cost.new_zeros(plans, n), cost.new_zeros(plans, m), cost.new_zeros(plans, n)
    iterations = torch.zeros(plans, dtype=torch.int64, device=cost.device)
    error = cost.new_zeros(plans)
    live, done = torch.arange(plans, device=cost.device), 0
    while True:
        if done >= limit:
            loop.epsilon = loop.target
        mismatch = loop.absorb()
        stop = (loop.epsilon <= loop.target) & ((mismatch <= allowed[live]) | (done >= limit))
        if bool(stop.any()):
            at = live[stop]
            f[at], g[at], log_rows[at] = loop.f[stop], loop.g[stop], loop.log_rows[stop]
            error[at], iterations[at] = mismatch[stop], done
            live = live[~stop]
            if len(live) == 0:
                break
            loop = loop.keep(~stop)
        loop.window()
        done += WINDOW
    found = (f, g, log_rows, iterations, error, error <= allowed)
    f, g, log_rows, *ended = (v.reshape((*batch, *v.shape[1:])) for v in found)
    return EntropicPlan(f, g, cost, a, b, target.reshape(batch), log_rows, Ended(*ended))


def _regularisation(cost: Tensor, epsilon: float | Tensor) -> Tensor:
    """``epsilon`` as a tensor () or of the shape of the batch.  Raises ValueError for a wrong one or cost."""
    batch = cost.shape[:-2]
    target = torch.as_tensor(epsilon, dtype=cost.dtype, device=cost.device)
    if target.shape not in ((), batch):
        raise ValueError(f"epsilon: expected a number or shape {tuple(batch)}, got {tuple(target.shape)}")
    if not bool(((target > 0) & target.isfinite()).all()):
        raise ValueError(f"epsilon: expected positive numbers, got {epsilon}")
    if not bool(cost.isfinite().all()):
        raise ValueError("cost: expected finite numbers")
    return target


def _allowed(cost: Tensor, epsilon: Tensor, tolerance: float | None) -> Tensor:
    """The error of the marginals at which each plan ``(plans, n, m)`` is done."""
    if tolerance is not None:
        return torch.full_like(epsilon, tolerance)
    small = epsilon < FINE * (cost.amax((1, 2)) - cost.amin((1, 2)))
    return torch.where(small, 0.1 * TOLERANCE, TOLERANCE).to(cost)


class _Loop:
    """Plans that have not converged yet, ``(plans, ...)``: potentials, and the kernel taken at them.

    The kernel holds P(j | i) at (f, g), and ``rows`` the share of each row in the mass, whose logarithm is
    ``total``; u and v are what has been added since to f / epsilon and g / epsilon.
    """

    def __init__(self, cost: Tensor, target: Tensor, rho: float, a: Tensor, b: Tensor, relax: bool):
        self.cost, self.target, self.rho, self.a, self.b, self.relax = cost, target, rho, a, b, relax
        self.epsilon, self.omega = target, torch.ones_like(target)
        # of omega: the most that is tried, the windows since it changed, the size of the moves then
        self.most, self.age = torch.full_like(target, RELAX), torch.zeros_like(target)
        self.mark = torch.full_like(target, math.inf)
        self.f, self.g = torch.zeros_like(a), torch.zeros_like(b)
        self.u, self.rows, self.log_rows = torch.zeros_like(a), a, a.log()
        self.total = a.sum(1, keepdim=True).log()
        self.kernel = _aligned(cost)
        # products of two factors and a mass must stay within the range of numbers
        self.limit = 0.4 * math.log(torch.finfo(cost.dtype).max)
        self.tiny = torch.finfo(cost.dtype).tiny

    def keep(self, which: Tensor) -> _Loop:
        """The plans marked in ``which``."""
        kept = _Loop.__new__(_Loop)
        for name, value in vars(self).items():
            setattr(kept, name, value[which] if isinstance(value, Tensor) else value)
        kept.kernel = _aligned(kept.kernel).copy_(kept.kernel)
        return kept

    def phi(self) -> Tensor:
        """rho / (rho + epsilon), ``(plans, 1)``."""
        return 1 / (1 + self.epsilon[:, None] / self.rho)

    def absorb(self) -> Tensor:
        """Update f exactly and take the kernel there; the share of mass by which the columns are off."""
        eps = self.epsilon[:, None]
        if math.isinf(self.rho):
            self._centre()
        score = self.g / eps + self.b.log()
        log_sum = torch.empty_like(self.f)
        plans, n, m = self.cost.shape
        size = max(1, CACHE // m) if self.cost.device.type == "cpu" else n
        for k in range(plans):
            for start in range(0, n, size):
                block = slice(start, start + size)
                entries = self.kernel[k, block]
                torch.mul(self.cost[k, block], -1 / self.epsilon[k], out=entries)
                entries += score[k]
                top = entries.amax(1, keepdim=True)
                entries -= top
                # denormal numbers would be slow, and what is this small does not count
                functional.threshold(entries, -2 * self.limit, -math.inf, inplace=True).exp_()
                total = entries.sum(1, keepdim=True)
                entries /= total
                log_sum[k, block] = (top + total.log()).squeeze(1)
        phi, f = self.phi(), -eps * self.phi() * log_sum
        if not math.isinf(self.rho):
            # the best constant to take from g and give to f; updates alone would be slow to find it
            totals = [
                (mass.log() - x / self.rho).logsumexp(1, keepdim=True)
                for mass, x in ((self.a, f), (self.b, self.g))
            ]
            shift = self.rho / (1 + phi) * (totals[0] - totals[1])
            f, self.f, self.g = f + phi * shift, self.f + shift, self.g - shift
        self.u = ((self.f - f) / eps).clamp(-self.limit, self.limit)
        self.f, self.log_rows = f, self.a.log() - f / self.rho
        self.total = self.log_rows.logsumexp(1, keepdim=True)
        self.rows = (self.log_rows - self.total).exp()
        wanted = (self.b.log() - self.g / self.rho - self.total).exp()
        return (_columns(self.kernel, self.rows) - wanted).abs().sum(1)

    def _centre(self) -> None:
        """Give f the constant of g where that is larger than its range, and would cost digits.

        The plan stays the same; far potentials come of a start that is far off.
        """
        constant = (self.b * self.g).sum(1, keepdim=True) / self.b.sum(1, keepdim=True)
        reach = self.g.amax(1, keepdim=True) - self.g.amin(1, keepdim=True)
        constant = torch.where(constant.abs() > reach, constant, 0.0)
        self.f, self.g = self.f + constant, self.g - constant

    def window(self) -> None:
        """Updates of both potentials by products with the kernel, then a smaller epsilon or a new omega."""
        eps, omega, phi = self.epsilon[:, None], self.omega[:, None], self.phi()
        # a column without mass has products of zero, and is not to move
        wanted = phi * (self.b.clamp(min=self.tiny).log() - self.total) - self.g / (self.rho + eps)
        u, v, moves = self.u, torch.zeros_like(self.g), []
        for _ in range(WINDOW):
            products = _columns(self.kernel, self.rows * u.exp()).clamp(min=self.tiny)
            v = torch.lerp(v, wanted - phi * products.log(), omega).clamp(-self.limit, self.limit)
            move = -phi * _rows(self.kernel, v.exp()).log() - u
            u = (u + omega * move).clamp(-self.limit, self.limit)
            # constants may drift from g to f without a change of the plan
            drift = (self.a * move).sum(1, keepdim=True) / self.a.sum(1, keepdim=True)
            moves.append((self.a * (move - drift).abs()).sum(1))
        self.f, self.g = self.f + eps * u, self.g + eps * v
        if self.relax:
            self._judge(moves[4], moves[-1], WINDOW - 5)
        self.epsilon = torch.maximum(self.target, ANNEAL * self.epsilon)

    def _judge(self, first: Tensor, last: Tensor, updates: int) -> None:
        """Raise omega where it is too small, judged by how far updates shrank the moves.

        Where they shrink by the factor r an update, plain updates would shrink them by l = (r + omega - 1)^2
        / (omega^2 r), and 2 / (1 + sqrt(1 - l)) is best (Young 1971, for two blocks of unknowns).  At that r
        is omega - 1, but moves may grow at first, so a new omega is given a window to settle.
        """
        omega, self.age = self.omega, self.age + 1
        rate = (last / first.clamp(min=self.tiny)) ** (1 / updates)
        plain = (rate + omega - 1).square() / (omega.square() * rate)
        best = torch.minimum(2 / (1 + (1 - plain).clamp(min=0).sqrt()), self.most)
        settled = (self.epsilon <= self.target) & ((omega == 1) | (self.age > 1))
        better = torch.where(settled & (rate < 1) & (rate > omega - 1), torch.maximum(best, omega), omega)
        diverged = last > 10 * self.mark
        self.most = torch.where(diverged, 0.5 * (1 + omega), self.most)
        self.omega = torch.where(diverged, 1.0, better)
        changed = self.omega != omega
        self.age, self.mark = torch.where(changed, 0, self.age), torch.where(changed, last, self.mark)


def _aligned(like: Tensor) -> Tensor:
    """Room for ``(plans, n, m)`` numbers, each plan at an address of its own multiple of 64 bytes.

    Products round by the address of their factors on some processors; so a plan is what it is alone.
    """
    plans, n, m = like.shape
    return like.new_empty(plans, -(-n * m // 16) * 16)[:, : n * m].unflatten(1, (n, m))


def _rows(kernel: Tensor, v: Tensor) -> Tensor:
    """sum_j K_ij v_j of each plan."""
    if kernel.device.type == "cpu":  # one by one is faster there, and the same for every size of the batch
        return torch.stack([k.mv(x.clone()) for k, x in zip(kernel.unbind(), v.unbind())])
    return torch.bmm(kernel, v.unsqueeze(2)).squeeze(2)


def _columns(kernel: Tensor, u: Tensor) -> Tensor:
    """sum_i K_ij u_i of each plan."""
    return _rows(kernel.transpose(1, 2), u)
