"""# Change of variables, seen on a grid

What does a flow do to space? It carries a grid of small squares to a grid of small
quadrilaterals. A square that grows by the factor $|\\det J|$ holds the same mass in more room, so that
the density falls by the same factor:

$$\\log p(f(z)) = \\log p_0(z) - \\log |\\det J_f(z)|.$$

Left is the source with its grid, right what a flow trained on two moons makes of both. The areas are
measured by the corners of the quadrilaterals alone, and the determinants come from the flow: that the two
agree is the theorem.
"""

import torch
from drawing import HEAT, canvas, plane
from matplotlib.collections import PolyCollection
from study import Study, main
from torch import Tensor

import pushforward
from pushforward import TwoMoons
from pushforward.random import seeded


def areas(corners: Tensor) -> Tensor:
    """Of the quadrilaterals of a grid of corners (rows, columns, 2), by the shoelace formula, with sign."""
    a, b = corners[:-1, :-1], corners[1:, :-1]
    c, d = corners[1:, 1:], corners[:-1, 1:]
    first, second = c - a, d - b
    return 0.5 * (first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])


def run(study: Study) -> None:
    rows = TwoMoons(noise=0.15).sample(study.pick(small=3_000, full=20_000), generator=seeded("moons"))
    learnt = pushforward.train(
        rows.numpy(), method="nsf", steps=study.pick(small=200, full=1_000), show_progress=False, seed=1
    )
    flow = learnt.flow.double()
    side, reach = study.pick(small=161, full=401), 3.0
    axis = torch.linspace(-reach, reach, side, dtype=torch.float64)
    nodes = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    middles = (nodes[:-1, :-1] + nodes[1:, 1:]) / 2
    with torch.no_grad():
        corners = flow.push(nodes.reshape(-1, 2)).reshape(side, side, 2)
        ends = flow.push(middles.reshape(-1, 2))
        gain = flow.log_prob(ends).reshape(side - 1, side - 1)
    cell = (axis[1] - axis[0]).square()
    grown = areas(corners)
    normal = -middles.square().sum(-1) / 2 - torch.log(torch.tensor(2 * torch.pi))
    log_det = normal - gain
    off = (grown.abs() / cell / log_det.exp() - 1).abs().flatten()
    mass = gain.exp() * grown.abs()
    study.check("areas and determinants, median relative difference", off.median().item(), at_most=0.015)
    study.check("mass of the cells, sum of density times area", mass.sum().item(), near=0.9946, within=0.004)
    flips = (grown.sign() != grown.flatten()[0].sign()).double().mean().item()
    study.check("share of cells that are turned over", flips, at_most=0.0005)
    study.text(
        f"""The grid reaches to {reach:g} deviations either way, which holds .9946 of the mass. Cells are
        {6 / (side - 1):.3f} wide. Half of the areas differ from the determinants by less than
        {off.median():.2g}, and 99 % of them by less than {off.quantile(0.99):.2g}, for the determinant
        changes inside of a cell. A cell that the flow folds within itself can seem turned over by its
        corners; that is so for {flips:.1g} of them."""
    )
    every = (side - 1) // 40
    middle = torch.tensor([0.5, 0.25])
    thick = corners[::every, ::every], nodes[::every, ::every]
    figure, axes = canvas(9, 4.9, 1, 2)
    for ax, grid, density, reach_, title in (
        (axes[0, 0], thick[1], normal.exp(), 3.1, "the source"),
        (axes[0, 1], thick[0] - middle, gain.exp(), 2.1, "what the flow makes of it"),
    ):
        squares = torch.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], -2).reshape(
            -1, 4, 2
        )
        values = density[every // 2 :: every, every // 2 :: every].flatten()
        cells = PolyCollection(list(squares.numpy()), cmap=HEAT, linewidths=0.25, edgecolors="#8b95a5")
        cells.set_array(values.numpy())
        plane(ax, reach_, title).add_collection(cells)
    study.figure(
        "grid",
        figure,
        "A square grid coloured by the normal density, and its image: the grid bent into two moons.",
    )


if __name__ == "__main__":
    main(run)
