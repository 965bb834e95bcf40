"""Every component by name: where it lives, what it is, which paper it comes from.  Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "ABSTRACT",
    "BASES",
    "COUPLINGS",
    "DATASETS",
    "Entry",
    "FLOWS",
    "GAMMAS",
    "KINDS",
    "METHODS",
    "Method",
    "NETWORKS",
    "SCHEDULES",
    "RECIPES",
    "SDE_SOLVERS",
    "SOLVERS",
    "TIMES",
    "WEIGHTINGS",
]


@dataclass(frozen=True)
class Entry:
    """One row of a registry.

    small: options for tables of few rows.  one_column: the name of what stands in for it where there is a
    single column.  own_source: whether it has hidden variables, or a shape, that leave no choice of a source.
    """

    target: str
    summary: str
    paper: str = ""
    small: str = ""
    one_column: str = ""
    own_source: bool = False


NETWORKS = {
    "mlp": Entry("pushforward.nn:MLP", "plain multilayer perceptron on (t, x)"),
    "resmlp": Entry("pushforward.nn:ResidualMLP", "residual perceptron, Fourier features of x and t"),
    "unet": Entry(
        "pushforward.nn:UNet", "compact U-Net for (C, H, W)", "Ronneberger et al. 2015, arXiv 1505.04597"
    ),
}
COUPLINGS = {
    "independent": Entry(
        "pushforward.couplings:Independent",
        "source and target drawn independently",
        "Lipman et al. 2023, arXiv 2210.02747",
    ),
    "ot": Entry(
        "pushforward.couplings:MinibatchOT",
        "exact optimal transport of the batch",
        "Tong et al. 2024, arXiv 2302.00482",
    ),
    "sinkhorn": Entry(
        "pushforward.couplings:SinkhornOT",
        "entropic optimal transport of the batch",
        "Cuturi 2013, arXiv 1306.0895",
    ),
    "unbalanced": Entry(
        "pushforward.couplings:UnbalancedOT",
        "entropic transport that uses far rows less",
        "Chizat et al. 2018, arXiv 1607.05816",
    ),
    "partial": Entry(
        "pushforward.couplings:PartialOT",
        "exact transport of a share of the batch",
        "Chapel et al. 2020, arXiv 2002.08276",
    ),
    "c2ot": Entry(
        "pushforward.couplings:ConditionalOT",
        "optimal transport that keeps conditions with their rows",
        "Cheng & Schwing 2025, arXiv 2503.10636",
    ),
    "semidiscrete": Entry(
        "pushforward.couplings:SemidiscreteOT",
        "optimal transport to the whole data set, fitted once",
        "Mousavi-Hosseini et al. 2025, arXiv 2509.25519",
    ),
    "dataset": Entry(
        "pushforward.couplings:DatasetOT",
        "one exact plan between a source that is data and the target",
        "Peyre & Cuturi 2019, arXiv 1803.00567",
    ),
}
SCHEDULES = {
    "linear": Entry(
        "pushforward.paths:Linear",
        "alpha = t, sigma = 1 - t (CondOT)",
        "Lipman et al. 2023, arXiv 2210.02747",
    ),
    "lipman": Entry(
        "pushforward.paths:LipmanOT",
        "alpha = t, sigma = 1 - (1 - sigma_min) t",
        "Lipman et al. 2023, arXiv 2210.02747",
    ),
    "vp": Entry(
        "pushforward.paths:VariancePreserving",
        "the diffusion of constant variance, backwards",
        "Song et al. 2021, arXiv 2011.13456",
    ),
    "ve": Entry(
        "pushforward.paths:VarianceExploding",
        "data with less and less noise",
        "Song et al. 2021, arXiv 2011.13456",
    ),
    "trig": Entry(
        "pushforward.paths:Trigonometric",
        "alpha = sin(pi t / 2), sigma = cos(pi t / 2)",
        "Albergo & Vanden-Eijnden 2023, arXiv 2209.15571",
    ),
    "polynomial": Entry(
        "pushforward.paths:Polynomial",
        "alpha = t^power, sigma = 1 - t^power",
        "Lipman et al. 2024, arXiv 2412.06264",
    ),
    "follmer": Entry(
        "pushforward.paths:Follmer",
        "alpha = t, sigma = sqrt(1 - t^2)",
        "Dai et al. 2023, arXiv 2309.03490",
    ),
}
GAMMAS = {
    "constant": Entry(
        "pushforward.paths:Constant", "the same noise at every t", "Tong et al. 2024, arXiv 2302.00482"
    ),
    "brownian": Entry(
        "pushforward.paths:Brownian",
        "sigma sqrt(t (1 - t)), the Brownian bridge",
        "Albergo et al. 2023, arXiv 2303.08797",
    ),
    "quadratic": Entry(
        "pushforward.paths:Quadratic", "scale t (1 - t)", "Albergo et al. 2023, arXiv 2303.08797"
    ),
    "sine": Entry(
        "pushforward.paths:SineSquared", "scale sin^2(pi t)", "Albergo et al. 2023, arXiv 2303.08797"
    ),
}
TIMES = {
    "uniform": Entry("pushforward.objectives:Uniform", "uniform on [0, 1]"),
    "late": Entry(
        "pushforward.objectives:Late",
        "more times near the data, for sharp densities",
        "cf. Wildberger et al. 2023, arXiv 2305.17161",
    ),
    "logit-normal": Entry(
        "pushforward.objectives:LogitNormal",
        "more times in the middle",
        "Esser et al. 2024, arXiv 2403.03206",
    ),
    "u-shaped": Entry(
        "pushforward.objectives:UShaped",
        "more times at both ends, for reflow",
        "Lee et al. 2024, arXiv 2405.20320",
    ),
}
WEIGHTINGS = {
    "uniform": Entry("pushforward.objectives:Equal", "every time counts the same"),
    "min-snr": Entry(
        "pushforward.objectives:MinSNR",
        "min(SNR, gamma) on the error of the data, in any prediction",
        "Hang et al. 2023, arXiv 2303.09556",
    ),
    "power": Entry("pushforward.objectives:Power", "t^early (1 - t)^late"),
}
SOLVERS = {
    "euler": Entry("pushforward.solvers:Euler", "first order, fixed steps"),
    "midpoint": Entry("pushforward.solvers:Midpoint", "second order, fixed steps"),
    "heun": Entry("pushforward.solvers:Heun", "second order, fixed steps"),
    "ab2": Entry(
        "pushforward.solvers:AB2",
        "second order, one evaluation a step, fixed steps",
        "Bashforth & Adams 1883",
    ),
    "rk4": Entry("pushforward.solvers:RK4", "fourth order, fixed steps", "Kutta 1901"),
    "dopri5": Entry(
        "pushforward.solvers:Dopri5",
        "fifth order, adaptive, a step size per sample",
        "Dormand & Prince 1980, doi 10.1016/0771-050X(80)90013-3",
    ),
    "tsit5": Entry(
        "pushforward.solvers:Tsit5",
        "fifth order, adaptive, a step size per sample",
        "Tsitouras 2011, doi 10.1016/j.camwa.2011.06.002",
    ),
}

SDE_SOLVERS = {
    "euler-maruyama": Entry(
        "pushforward.solvers:EulerMaruyama",
        "weak order 1, fixed steps",
        "Maruyama 1955, doi 10.1007/BF02846028",
    ),
    "stochastic-heun": Entry(
        "pushforward.solvers:StochasticHeun",
        "weak order 2 for additive noise, fixed steps",
        "Kloeden & Platen 1992, doi 10.1007/978-3-662-12616-5",
    ),
}


FLOWS = {
    "nice": Entry(
        "pushforward.flows:nice",
        "additive couplings, a scale",
        "Dinh et al. 2015, arXiv 1410.8516",
        small="layers=4,width=32",
        one_column="nsf-ar",
    ),
    "realnvp": Entry(
        "pushforward.flows:realnvp",
        "affine couplings",
        "Dinh et al. 2017, arXiv 1605.08803",
        small="layers=4,width=32",
        one_column="nsf-ar",
    ),
    "nsf": Entry(
        "pushforward.flows:nsf",
        "rational-quadratic spline couplings",
        "Durkan et al. 2019, arXiv 1906.04032",
        small="layers=4,width=32",
        one_column="nsf-ar",
    ),
    "maf": Entry(
        "pushforward.flows:maf",
        "masked affine autoregressive, slow to sample",
        "Papamakarios et al. 2017, arXiv 1705.07057",
        small="layers=2,width=32",
        one_column="nsf-ar",
    ),
    "iaf": Entry(
        "pushforward.flows:iaf",
        "inverse autoregressive, slow to score and to train",
        "Kingma et al. 2016, arXiv 1606.04934",
        small="layers=2,width=32",
        one_column="nsf-ar",
    ),
    "nsf-ar": Entry(
        "pushforward.flows:nsf_ar",
        "autoregressive rational-quadratic splines, slow to sample",
        "Durkan et al. 2019, arXiv 1906.04032",
        small="layers=2,width=32",
    ),
    "residual": Entry(
        "pushforward.flows:residual",
        "residual flow: layers x + g(x), g a contraction, slow to sample",
        "Chen et al. 2019, arXiv 1906.02735",
        small="layers=4",
    ),
    "vae": Entry(
        "pushforward.flows:VAE",
        "variational autoencoder, which only bounds the density",
        "Kingma & Welling 2014, arXiv 1312.6114",
        own_source=True,
    ),
    "glow": Entry(
        "pushforward.flows:glow",
        "images: couplings and 1x1 convolutions at several scales",
        "Kingma & Dhariwal 2018, arXiv 1807.03039",
        own_source=True,
    ),
    "tarflow": Entry(
        "pushforward.flows:tarflow",
        "images: autoregressive transformers over patches, slow to sample",
        "Zhai et al. 2024, arXiv 2412.06329",
        own_source=True,
    ),
}

BASES = {
    "normal": Entry(
        "pushforward.sources:Normal", "the standard normal distribution, which flows take by themselves"
    ),
    "student-t": Entry(
        "pushforward.sources:StudentT",
        "heavy tails, of learnt degrees of freedom",
        "Jaini et al. 2020, arXiv 1907.04481",
    ),
    "mixture": Entry(
        "pushforward.sources:LearntMixture",
        "several normal distributions, learnt",
        "Izmailov et al. 2020, arXiv 1912.13025",
    ),
}


RECIPES = {
    "flow-matching": Entry(
        "pushforward.recipes.matching:Matching",
        "regression on the velocities of a path",
        "Lipman et al. 2023, arXiv 2210.02747",
    ),
    "bridge-matching": Entry(
        "pushforward.recipes.bridges:Bridges",
        "regression on velocity and score of Brownian bridges",
        "Tong et al. 2024, arXiv 2307.03672",
    ),
    "maximum-likelihood": Entry(
        "pushforward.recipes.likelihood:Likelihood",
        "minus the mean log-density of the data",
        "Dinh et al. 2017, arXiv 1605.08803",
    ),
}


@dataclass(frozen=True)
class Method:
    """A name for a set of defaults of a recipe, with the paper it comes from.

    recipe: the family that it is of, which trains it.
    """

    summary: str
    paper: str
    defaults: dict[str, Any] = field(default_factory=dict)
    recipe: str = "flow-matching"
    #: whether its flow may start from any distribution of data points
    starts_anywhere: bool = True


METHODS = {
    "fm": Method("flow matching on straight paths", "Lipman et al. 2023, arXiv 2210.02747"),
    "i-cfm": Method(
        "conditional flow matching, independent coupling, noise 0.1",
        "Tong et al. 2024, arXiv 2302.00482",
        {"coupling": "independent", "gamma": "0.1"},
    ),
    "ot-cfm": Method(
        "conditional flow matching, minibatch optimal transport",
        "Tong et al. 2024, arXiv 2302.00482",
        {"coupling": "ot"},
    ),
    "sb-cfm": Method(
        "the Schroedinger bridge's probability flow: entropic plan, Brownian bridges",
        "Tong et al. 2024, arXiv 2302.00482",
        {"coupling": "sinkhorn", "gamma": "brownian,sigma=0.5"},
    ),
    "sf2m": Method(
        "velocity and score of the Schroedinger bridge; ODE, or SDE with --solver euler-maruyama",
        "Tong et al. 2024, arXiv 2307.03672",
        {"coupling": "sinkhorn", "gamma": "brownian,sigma=0.5"},
        recipe="bridge-matching",
    ),
    "vp": Method(
        "variance preserving diffusion path, noise prediction",
        "Song et al. 2021, arXiv 2011.13456, and Lipman et al. 2023, arXiv 2210.02747",
        {"path": "vp", "prediction": "noise"},
    ),
    "ve": Method(
        "variance exploding diffusion path, noise prediction",
        "Song et al. 2021, arXiv 2011.13456, and Lipman et al. 2023, arXiv 2210.02747",
        {"path": "ve,sigma_max=10", "prediction": "noise"},
    ),
    "rectified-flow": Method(
        "flow matching, then a round of reflow; --distil for one step",
        "Liu et al. 2023, arXiv 2209.03003, and Lee et al. 2024, arXiv 2405.20320",
        {"reflow": 1},
    ),
    "c2ot": Method(
        "optimal transport that keeps conditions with their rows",
        "Cheng & Schwing 2025, arXiv 2503.10636",
        {"coupling": "c2ot"},
    ),
    "semidiscrete-ot": Method(
        "optimal transport to the whole data set, fitted once",
        "Mousavi-Hosseini et al. 2025, arXiv 2509.25519",
        {"coupling": "semidiscrete"},
    ),
}

DATASETS = {
    "moons": Entry("pushforward.data.toys:moons", "two half circles that interlock, 2 labels"),
    "8gaussians": Entry(
        "pushforward.data.toys:eight_gaussians", "eight normal distributions on a circle, 8 labels"
    ),
    "circles": Entry("pushforward.data.toys:circles", "two rings, 2 labels"),
    "checkerboard": Entry("pushforward.data.toys:checkerboard", "uniform on eight squares"),
    "pinwheel": Entry(
        "pushforward.data.toys:pinwheel", "five bent arms, 5 labels", "Johnson et al. 2016, arXiv 1603.06277"
    ),
    "spirals": Entry("pushforward.data.toys:spirals", "two spiral arms, 2 labels"),
    "swissroll": Entry("pushforward.data.toys:swissroll", "the side of a Swiss roll"),
    "scurve": Entry("pushforward.data.toys:scurve", "the letter S"),
    "gaussian": Entry("pushforward.data.toys:gaussian", "one correlated normal distribution"),
    "digits": Entry(
        "pushforward.data.builtin:digits",
        "1,797 handwritten digits, 8 x 8 pixels, 10 labels",
        "Alpaydin & Kaynak 1998, doi 10.24432/C50P49",
    ),
    "iris": Entry(
        "pushforward.data.builtin:iris",
        "150 flowers, 4 columns, 3 labels",
        "Fisher 1936, doi 10.24432/C56C76",
    ),
    "wine": Entry(
        "pushforward.data.builtin:wine",
        "178 wines, 13 columns, 3 labels",
        "Aeberhard & Forina 1992, doi 10.24432/C5PC7J",
    ),
    "breast-cancer": Entry(
        "pushforward.data.builtin:breast_cancer",
        "569 tumours, 30 columns, 2 labels",
        "Wolberg et al. 1993, doi 10.24432/C5DW2B",
    ),
    "diabetes": Entry(
        "pushforward.data.builtin:diabetes",
        "442 patients, 10 columns, condition `progression`",
        "Efron et al. 2004, doi 10.1214/009053604000000067",
    ),
}

METHODS |= {
    name: Method(entry.summary, entry.paper, {"flow": name}, "maximum-likelihood", not entry.own_source)
    for name, entry in FLOWS.items()
}

KINDS = {
    "network": NETWORKS,
    "flow": FLOWS,
    "base": BASES,
    "coupling": COUPLINGS,
    "path": SCHEDULES,
    "gamma": GAMMAS,
    "times": TIMES,
    "weighting": WEIGHTINGS,
    "solver": SOLVERS,
    "sde-solver": SDE_SOLVERS,
    "method": METHODS,
    "recipe": RECIPES,
}

#: The abstract class of each kind, of which a class of the user's own has to be a subclass.
ABSTRACT = {
    "network": "pushforward.nn:Network",
    "flow": "pushforward.flows:DensityFlow",
    "base": "pushforward.sources:Source",
    "coupling": "pushforward.couplings:Coupling",
    "path": "pushforward.paths:Schedule",
    "gamma": "pushforward.paths:Gamma",
    "times": "pushforward.objectives:Times",
    "weighting": "pushforward.objectives:Weighting",
    "solver": "pushforward.solvers:Solver",
    "sde-solver": "pushforward.solvers:StochasticSolver",
    "recipe": "pushforward.recipes:Recipe",
}
