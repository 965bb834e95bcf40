"""The parts of flow matching: couplings, schedules, noise on the path, times, weights and guidance."""

from .base import table

__all__ = ["COUPLINGS", "GAMMAS", "GUIDANCES", "LOSSES", "SCHEDULES", "TIMES", "WEIGHTINGS"]

# fmt: off
COUPLINGS = table(
    "pushforward.couplings",
    ("independent", "Independent", "source and target drawn independently",
     "Lipman et al. 2023, arXiv 2210.02747"),
    ("ot", "MinibatchOT", "exact optimal transport of the batch", "Tong et al. 2024, arXiv 2302.00482"),
    ("sinkhorn", "SinkhornOT", "entropic optimal transport of the batch", "Cuturi 2013, arXiv 1306.0895"),
    ("unbalanced", "UnbalancedOT", "entropic transport that gives less weight to far rows",
     "Chizat et al. 2018, arXiv 1607.05816"),
    ("partial", "PartialOT", "exact transport of a share of the batch",
     "Chapel et al. 2020, arXiv 2002.08276"),
    ("c2ot", "ConditionalOT", "optimal transport that keeps conditions with their rows",
     "Cheng & Schwing 2025, arXiv 2503.10636"),
    ("semidiscrete", "SemidiscreteOT", "optimal transport to the whole data set, fitted once",
     "Mousavi-Hosseini et al. 2025, arXiv 2509.25519"),
    ("dataset", "DatasetOT", "one exact plan between a source that is data and the target",
     "Peyre & Cuturi 2019, arXiv 1803.00567"),
)

SCHEDULES = table(
    "pushforward.paths",
    ("linear", "Linear", "alpha = t, sigma = 1 - t (CondOT)", "Lipman et al. 2023, arXiv 2210.02747"),
    ("lipman", "LipmanOT", "alpha = t, sigma = 1 - (1 - sigma_min) t",
     "Lipman et al. 2023, arXiv 2210.02747"),
    ("vp", "VariancePreserving", "variance preserving diffusion", "Song et al. 2021, arXiv 2011.13456"),
    ("ve", "VarianceExploding", "variance exploding diffusion", "Song et al. 2021, arXiv 2011.13456"),
    ("sub-vp", "SubVariancePreserving", "sub-variance preserving diffusion",
     "Song et al. 2021, arXiv 2011.13456"),
    ("cosine", "Cosine", "variance preserving, with a squared cosine",
     "Nichol & Dhariwal 2021, arXiv 2102.09672"),
    ("ddpm", "DDPM", "variance preserving diffusion in discrete time, by its betas",
     "Ho et al. 2020, arXiv 2006.11239"),
    ("edm", "Karras", "alpha = 1, sigma from 80 to 0.002 by a power of t",
     "Karras et al. 2022, arXiv 2206.00364"),
    ("trig", "Trigonometric", "alpha = sin(pi t / 2), sigma = cos(pi t / 2)",
     "Albergo & Vanden-Eijnden 2023, arXiv 2209.15571"),
    ("polynomial", "Polynomial", "alpha = t^power, sigma = 1 - t^power",
     "Lipman et al. 2024, arXiv 2412.06264"),
    ("follmer", "Follmer", "alpha = t, sigma = sqrt(1 - t^2)", "Dai et al. 2023, arXiv 2309.03490"),
)

GAMMAS = table(
    "pushforward.paths",
    ("constant", "Constant", "noise of the same deviation at every t", "Tong et al. 2024, arXiv 2302.00482"),
    ("brownian", "Brownian", "sigma sqrt(t (1 - t)), the Brownian bridge",
     "Albergo et al. 2023, arXiv 2303.08797"),
    ("quadratic", "Quadratic", "scale t (1 - t)", "Albergo et al. 2023, arXiv 2303.08797"),
    ("sine", "SineSquared", "scale sin^2(pi t)", "Albergo et al. 2023, arXiv 2303.08797"),
)

TIMES = table(
    "pushforward.objectives",
    ("uniform", "Uniform", "uniform on [0, 1]"),
    ("late", "Late", "more times near the data, for sharp densities",
     "cf. Wildberger et al. 2023, arXiv 2305.17161"),
    ("logit-normal", "LogitNormal", "more times in the middle", "Esser et al. 2024, arXiv 2403.03206"),
    ("discrete", "Discrete", "the steps of a chain in discrete time", "Ho et al. 2020, arXiv 2006.11239"),
    ("edm", "LogNormalNoise", "noise levels of --path edm that are log-normal",
     "Karras et al. 2022, arXiv 2206.00364"),
    ("log-snr", "UniformLogSNR", "uniform in the logarithm of signal over noise, for likelihoods",
     "Song et al. 2021, arXiv 2101.09258"),
    ("u-shaped", "UShaped", "more times at both ends, for reflow", "Lee et al. 2024, arXiv 2405.20320"),
)

WEIGHTINGS = table(
    "pushforward.objectives",
    ("uniform", "Equal", "every time has the same weight"),
    ("min-snr", "MinSNR", "min(SNR, gamma) on the error of the data, in any prediction",
     "Hang et al. 2023, arXiv 2303.09556"),
    ("likelihood", "LikelihoodWeighting", "the bound of the likelihood, in any prediction",
     "Song et al. 2021, arXiv 2101.09258"),
    ("edm", "KarrasWeighting", "a loss of 1 for a network that knows the variance alone, in any prediction",
     "Karras et al. 2022, arXiv 2206.00364"),
    ("power", "Power", "t^early (1 - t)^late"),
)

GUIDANCES = table(
    "pushforward.fields",
    ("classifier-free", "ClassifierFree", "overstates what the condition changes; interval, rescaling",
     "Ho & Salimans 2022, arXiv 2207.12598"),
    ("zero-star", "CFGZeroStar", "the same with the unconditional velocity scaled to the conditional one",
     "Fan et al. 2025, arXiv 2503.18886"),
)

LOSSES = table(
    "pushforward.objectives",
    ("lagrangian", "Lagrangian", "the velocity where a leap lands, by a derivative in time",
     "Boffi et al. 2025, arXiv 2505.18825"),
    ("eulerian", "Eulerian", "the same landing from all along a trajectory, by a derivative in space too",
     "Boffi et al. 2025, arXiv 2505.18825"),
    ("semigroup", "Semigroup", "one leap is two leaps of its parts, without derivatives",
     "Boffi et al. 2025, arXiv 2505.18825"),
    ("mean-flow", "MeanFlow", "the mean velocity from the velocities of pairs, by a derivative along them",
     "Geng et al. 2025, arXiv 2505.13447"),
    ("improved-mean-flow", "ImprovedMeanFlow", "the same by a derivative along the map's own velocity",
     "Geng et al. 2025, arXiv 2512.02012"),
    ("alpha-flow", "AlphaFlow", "a first step along the pair, which shrinks as training goes on",
     "Zhang et al. 2025, arXiv 2510.20771"),
    ("shortcut", "Shortcut", "leaps over cells of dyadic grids, each two of half its length, no derivatives",
     "Frans et al. 2024, arXiv 2410.12557"),
    ("consistency", "Consistency", "neighbouring noise levels lead to the same data, without derivatives",
     "Song et al. 2023, arXiv 2303.01469, and Song & Dhariwal 2024, arXiv 2310.14189"),
    ("scm", "ContinuousConsistency", "the same in continuous time, by a derivative of bounded length",
     "Lu & Song 2025, arXiv 2410.11081"),
    ("two-sided", "TwoSided", "there and back, with the velocity of the pair on arrival",
     "Boffi et al. 2024, arXiv 2406.07507"),
    ("moment-matching", "MomentMatching", "leaps from neighbouring times have one distribution, by a kernel",
     "Zhou et al. 2025, arXiv 2503.07565"),
    ("elbo", "ELBO", "the bound on the log-likelihood of tokens",
     "Shaul et al. 2024, arXiv 2412.03487"),
    ("cross-entropy", "CrossEntropy", "the cross entropy of the posterior of tokens, all times alike",
     "Gat et al. 2024, arXiv 2407.15595"),
)
