"""Metrics of samples, each a line of the report."""

from .base import table

__all__ = ["METRICS"]

# fmt: off
METRICS = table(
    "pushforward.metrics",
    ("two-sample-accuracy", "TwoSampleAccuracy", "how often a classifier tells a sample from real rows",
     "Lopez-Paz & Oquab 2017, arXiv 1610.06545"),
    ("energy-distance", "EnergyDistance", "energy distance over all pairs",
     "Szekely & Rizzo 2013, doi 10.1016/j.jspi.2013.03.018"),
    ("wasserstein", "Wasserstein", "Wasserstein distance W2, by the exact plan",
     "Peyre & Cuturi 2019, arXiv 1803.00567"),
    ("sliced-wasserstein", "SlicedWasserstein", "W2 averaged over projections to a line",
     "Bonneel et al. 2015, doi 10.1007/s10851-014-0506-3"),
)
