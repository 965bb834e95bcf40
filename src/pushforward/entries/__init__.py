"""Every component by name: where it lives, what it is, which paper it comes from.  Standard library only.

An entry is one line, or two where it is long; the formatter, which would make six of it, is off for these.
"""

from .base import Entry, Kind, Method
from .data import DATASETS
from .matching import COUPLINGS, GAMMAS, GUIDANCES, LOSSES, SCHEDULES, TIMES, WEIGHTINGS
from .methods import METHODS, RECIPES, by_likelihood
from .metrics import METRICS
from .models import BASES, DIVERGENCES, FLOWS, NETWORKS, TOKENS
from .solvers import DIFFUSIONS, SOLVERS
from .spaces import SPACES

__all__ = [
    "BASES",
    "COUPLINGS",
    "DATASETS",
    "DIFFUSIONS",
    "DIVERGENCES",
    "Entry",
    "FLOWS",
    "GAMMAS",
    "GUIDANCES",
    "KINDS",
    "Kind",
    "LOSSES",
    "METHODS",
    "METRICS",
    "Method",
    "NETWORKS",
    "RECIPES",
    "SCHEDULES",
    "SOLVERS",
    "SPACES",
    "TIMES",
    "TOKENS",
    "WEIGHTINGS",
    "by_likelihood",
]

#: What is registered, by kind.  A class of the user's own is a subclass of the abstract class of its kind.
KINDS = {
    "network": Kind(NETWORKS, "pushforward.nn:Network", "--network", given=2),
    "flow": Kind(FLOWS, "pushforward.flows:DensityFlow", "--flow", method=by_likelihood, given=2),
    "base": Kind(BASES, "pushforward.sources:Source", "--base", given=1),
    "coupling": Kind(COUPLINGS, "pushforward.couplings:Coupling", "--coupling"),
    "path": Kind(SCHEDULES, "pushforward.paths:Schedule|pushforward.paths:Path", "--path"),
    "gamma": Kind(GAMMAS, "pushforward.paths:Gamma", "--gamma"),
    "times": Kind(TIMES, "pushforward.objectives:Times", "--times"),
    "weighting": Kind(WEIGHTINGS, "pushforward.objectives:Weighting", "--weighting"),
    "tokens": Kind(TOKENS, "pushforward.paths:TokenPath|pushforward.paths:TokenPoints", "--tokens", given=1),
    "loss": Kind(LOSSES, "pushforward.objectives:MapLoss|pushforward.objectives:TokenLoss", "--loss"),
    "divergence": Kind(DIVERGENCES, "pushforward.flows:Divergence", "--divergence"),
    "guidance": Kind(GUIDANCES, "pushforward.fields:Guidance", "--guidance"),
    "solver": Kind(SOLVERS, "pushforward.solvers:Solver", "--solver"),
    "diffusion": Kind(DIFFUSIONS, "pushforward.paths:DiffusionCoefficient", "--diffusion"),
    "method": Kind(METHODS, "", "--method", entry=Method),
    "recipe": Kind(RECIPES, "pushforward.recipes:Recipe", "--recipe"),
    "data": Kind(DATASETS, "", "DATA"),
    "space": Kind(SPACES, "pushforward.spaces:Space", "--space"),
    "metric": Kind(METRICS, "pushforward.metrics:Metric", "metric"),
}
