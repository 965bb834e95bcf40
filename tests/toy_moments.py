"""First and second moments of the toys, by quadrature."""

from __future__ import annotations

import numpy as np
from scipy import integrate


def average(function, low, high, density=None):
    """The mean of ``function`` over [low, high] under ``density`` (uniform), by quadrature."""
    weight = density or (lambda a: 1 / (high - low))
    return integrate.quad(lambda a: weight(a) * function(a), low, high, epsabs=1e-12, limit=200)[0]


def curve_moments(x, y, low, high, noise, density=None):
    """Mean and second moments of (x(a), y(a)) + N(0, noise^2 I), by quadrature over a."""
    mean = [average(f, low, high, density) for f in (x, y)]
    second = [[average(lambda a, f=f, g=g: f(a) * g(a), low, high, density) for g in (x, y)] for f in (x, y)]
    return np.array(mean), np.array(second) + noise**2 * np.eye(2)


def moons_moments():
    outer = curve_moments(np.cos, np.sin, 0, np.pi, 0.05)
    inner = curve_moments(lambda a: 1 - np.cos(a), lambda a: 0.5 - np.sin(a), 0, np.pi, 0.05)
    return (outer[0] + inner[0]) / 2, (outer[1] + inner[1]) / 2


def pinwheel_moments():
    """By symmetry the mean is 0 and the second moments are those of one arm's radius, shared equally."""
    return np.zeros(2), 2 * (1 + 0.3**2 + 0.1**2) * np.eye(2)


def spiral_moments():
    end = 3 * np.pi
    x, y = (lambda a: a * np.cos(a) / 3), (lambda a: a * np.sin(a) / 3)
    return np.zeros(2), curve_moments(x, y, 0, end, 0.1, lambda a: 2 * a / end**2)[1]


MOMENTS = {
    "moons": moons_moments,
    "eight_gaussians": lambda: (np.zeros(2), (5.0**2 / 2 + 0.5**2) * np.eye(2)),
    "circles": lambda: (np.zeros(2), ((1 + 0.25) / 4 + 0.05**2) * np.eye(2)),
    "checkerboard": lambda: (np.zeros(2), np.array([[16 / 3, 1], [1, 16 / 3]])),
    "pinwheel": pinwheel_moments,
    "spirals": spiral_moments,
    "swissroll": lambda: curve_moments(
        lambda a: a * np.cos(a) / 5, lambda a: a * np.sin(a) / 5, 1.5 * np.pi, 4.5 * np.pi, 0.1
    ),
    "scurve": lambda: curve_moments(
        np.sin, lambda a: np.sign(a) * (np.cos(a) - 1), -1.5 * np.pi, 1.5 * np.pi, 0.05
    ),
    "gaussian": lambda: (np.array([1, -1]), np.array([[2, -1 + 0.8], [-1 + 0.8, 2]])),
}
