"""Wasserstein gradient flows: distributions that go down the slope of an energy."""

from .diffflow import diffflow as diffflow
from .diffflow import kernel_score as kernel_score
from .energies import Energy as Energy
from .energies import Entropy as Entropy
from .energies import Interaction as Interaction
from .energies import Potential as Potential
from .energies import Sum as Sum
from .energies import kullback_leibler as kullback_leibler
from .fokker_planck import fokker_planck as fokker_planck
from .gaussian import gaussian_jko as gaussian_jko
from .jko import JKO as JKO
from .jko import JKOStep as JKOStep
from .langevin import langevin as langevin
from .network import NetworkJKO as NetworkJKO
from .network import NetworkStep as NetworkStep
from .network import ProximalStep as ProximalStep
from .stein import stein as stein
from .support import Grid as Grid
from .support import Points as Points
from .support import Support as Support

__all__ = [
    "Energy",
    "Entropy",
    "Grid",
    "Interaction",
    "JKO",
    "JKOStep",
    "NetworkJKO",
    "NetworkStep",
    "Points",
    "Potential",
    "ProximalStep",
    "Sum",
    "Support",
    "diffflow",
    "fokker_planck",
    "gaussian_jko",
    "kernel_score",
    "kullback_leibler",
    "langevin",
    "stein",
]
