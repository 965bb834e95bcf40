"""Solvers of ordinary and of stochastic differential equations, and the noise of the latter."""

from .base import table

__all__ = ["DIFFUSIONS", "SOLVERS"]

# fmt: off
SOLVERS = table(
    "pushforward.solvers",
    ("euler", "Euler", "first order, fixed steps"),
    ("midpoint", "Midpoint", "second order, fixed steps"),
    ("heun", "Heun", "second order, fixed steps"),
    ("ab2", "AB2", "second order, one evaluation a step, fixed steps", "Bashforth & Adams 1883"),
    ("rk4", "RK4", "fourth order, fixed steps", "Kutta 1901"),
    ("dopri5", "Dopri5", "fifth order, adaptive, a step size per sample",
     "Dormand & Prince 1980, doi 10.1016/0771-050X(80)90013-3"),
    ("tsit5", "Tsit5", "fifth order, adaptive, a step size per sample",
     "Tsitouras 2011, doi 10.1016/j.camwa.2011.06.002"),
    ("bosh3", "Bosh3", "third order, adaptive, a step size per sample, for loose tolerances",
     "Bogacki & Shampine 1989, doi 10.1016/0893-9659(89)90079-7"),
    ("dopri8", "Dopri8", "eighth order, adaptive, a step size per sample, for tight tolerances",
     "Prince & Dormand 1981, doi 10.1016/0771-050X(81)90010-3"),
    ("euler-maruyama", "EulerMaruyama", "stochastic equations: weak order 1, fixed steps",
     "Maruyama 1955, doi 10.1007/BF02846028"),
    ("stochastic-heun", "StochasticHeun",
     "stochastic equations: weak order 2 for additive noise, fixed steps",
     "Kloeden & Platen 1992, doi 10.1007/978-3-662-12616-5"),
    ("ddim", "DDIM", "denoising: first order, one evaluation a step, fixed steps",
     "Song, Meng & Ermon 2021, arXiv 2010.02502"),
    ("dpm++", "DPMSolver", "denoising: second order, one evaluation a step, fixed steps",
     "Lu et al. 2022, arXiv 2211.01095"),
    ("fitted", "Fitted", "fitted to one field by tune_sampler, one evaluation a step, fixed steps",
     "Shaul et al. 2024, arXiv 2403.01329"),
    ("unipc", "UniPC", "denoising: third order, one evaluation a step, fixed steps",
     "Zhao et al. 2023, arXiv 2302.04867"),
    ("dpm++sde", "DPMSolverSDE",
     "denoising with noise: weak order 2, one evaluation a step, fixed steps",
     "Lu et al. 2022, arXiv 2211.01095"),
    ("edm", "EDMStochastic", "denoising with noise: Heun's method with churn, two evaluations a step",
     "Karras et al. 2022, arXiv 2206.00364"),
    ("tau-leaping", "TauLeaping", "tokens: a jump with probability 1 - exp(-h rate), corrector, temperature",
     "Gillespie 2001, doi 10.1063/1.1378322"),
    ("jump-euler", "JumpEuler", "tokens: a jump with probability h rate, corrector, temperature",
     "Campbell et al. 2024, arXiv 2402.04997"),
    ("single-jumps", "SingleJumps", "tokens: one at a time, each at its own moment",
     "Zheng et al. 2024, arXiv 2409.02908"),
)

DIFFUSIONS = table(
    "pushforward.paths",
    ("proportional", "Proportional", "g^2 = 2 scale s W, falls off with the noise that is left; the default",
     "Ma et al. 2024, arXiv 2401.08740"),
    ("constant", "ConstantDiffusion", "one level, that falls off where little noise is left",
     "Albergo et al. 2023, arXiv 2303.08797"),
    ("memoryless", "Memoryless", "g^2 = 2 s W / alpha, the reversed diffusion along vp and ve",
     "Domingo-Enrich et al. 2024, arXiv 2409.08861"),
)
