"""The start of the ascent to the potentials of semidiscrete transport."""

from __future__ import annotations

import torch
from torch import Tensor

from .search import FEW_DIMENSIONS


def first_heights(points: Tensor, x: Tensor, weights: Tensor) -> Tensor:
    """A start: the transport of Gaussians in few dimensions, else equal chances for independent scores."""
    if points.shape[1] <= FEW_DIMENSIONS:
        # the map from N(0, S_y) to N(0, S_x) is A = S_y^-1/2 (S_y^1/2 S_x S_y^1/2)^1/2 S_y^-1/2
        distribution = torch.einsum("n,nd,ne->de", weights, points, points)
        root, inverse = _roots(distribution)
        middle, _ = _roots(root @ (x.T @ x / len(x)) @ root)
        return -0.5 * ((points @ inverse @ middle @ inverse) * points).sum(1)
    scores = (x[:256].to(points) @ points.T).double()
    quantile = torch.special.ndtri((1 - weights).clamp(1e-12, 1 - 1e-12))
    return -scores.mean(0) - quantile * scores.std(0)


def _roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Square root of a symmetric matrix and its pseudo-inverse."""
    values, axes = torch.linalg.eigh(matrix)
    root = values.clamp(min=0).sqrt()
    inverse = torch.where(root > 1e-7 * root.amax(), 1 / root, 0.0)
    return axes * root @ axes.T, axes * inverse @ axes.T


def refine_heights(points: Tensor, coarse: Tensor, heights: Tensor, tangents: Tensor) -> Tensor:
    """Heights of ``points`` from those of fewer points, by blending tangent planes of the nearest.

    -h is convex and its slope at a point is the mean of the draws that the point wins, ``tangents``.
    Weights are those of Franke and Little, (1/r_k - 1/R)^2 with R the distance of the nearest left out.
    """
    from scipy.spatial import KDTree

    near = min(len(coarse), 2 * points.shape[1] + 3)
    tree = KDTree(coarse.cpu().numpy())
    distance, index = tree.query(points.cpu().numpy(), k=near)
    distance = torch.from_numpy(distance.reshape(-1, near)).to(points.device)
    index = torch.from_numpy(index.reshape(-1, near)).to(points.device)
    distance = distance.clamp(min=1e-9 * float(distance.amax()) + 1e-300)
    weight = (1 / distance - 1 / (1.0001 * distance[:, -1:])).square()
    plane = heights[index] - (tangents[index] * (points[:, None] - coarse[index])).sum(2)
    return (weight * plane).sum(1) / weight.sum(1)
