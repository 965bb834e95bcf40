"""scikit-learn estimators: densities and outlier detection by flows."""

from .density import FlowDensity as FlowDensity
from .mixed import FlowTable as FlowTable
from .outliers import FlowOutlierDetector as FlowOutlierDetector

__all__ = [
    "FlowDensity",
    "FlowOutlierDetector",
    "FlowTable",
]
