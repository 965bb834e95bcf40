r"""# Minibatches and the bias of optimal transport

OT-CFM pairs the rows of each batch by exact optimal transport. Each of the plans has the right marginals, but
their mean over batches is not the optimal plan: it costs more,

$$\operatorname{E} \lvert x_0 - x_1 \rvert^2 = W_2^2 + b(n), \qquad b(n) = O(n^{-2/d}), \quad d > 4 .$$

How large must a batch be? Between two normal distributions $W_2$ has a closed form, so that the bias can be
measured without training.
"""

from itertools import pairwise

import numpy as np
import torch
from drawing import COLOURS, canvas, dress, legend
from study import Study, main
from torch import Tensor

from pushforward import MinibatchOT
from pushforward.random import seeded

DIMENSIONS = (2, 8, 32)
MEAN, SCALE = 1.0, 0.5


def bias(d: int, n: int, rows: int, seed: int) -> tuple[float, float]:
    """Excess over W2^2 as a share of that of independent pairs, and its standard error.

    The optimal map is linear, so that the share is 1 - the correlation of the pairs.
    """
    shares = []
    for group in range(max(4, rows // max(n, 256))):
        batches = [normal_pairs(n, d, f"{seed} {d} {n} {group} {k}") for k in range(max(1, 256 // n))]
        x0, x1 = (torch.cat(side) for side in zip(*batches))
        product = ((x0 - x0.mean(0)) * (x1 - x1.mean(0))).mean()
        shares.append(1 - float(product / (x0.std(correction=0) * (x1 - x1.mean(0)).std(correction=0))))
    return float(np.mean(shares)), float(np.std(shares, ddof=1) / len(shares) ** 0.5)


def normal_pairs(n: int, d: int, key: str) -> tuple[Tensor, Tensor]:
    """A batch of N(0, I) and N(1, I/4), paired by its optimal plan."""
    generator = seeded("batch", key)
    x0 = torch.randn(n, d, generator=generator)
    return MinibatchOT()(x0, MEAN + SCALE * torch.randn(n, d, generator=generator))


def run(study: Study) -> None:
    sizes = study.pick(small=[1, 4, 16, 64, 256], full=[1, 4, 16, 64, 256, 1024, 4096])
    rows, seed = study.pick(small=4_096, full=32_768), study.seeds()[0]
    found = {d: [bias(d, n, rows, seed) for n in sizes] for d in DIMENSIONS}
    figure, axes = canvas(9.6, 3.3, 1, 3)
    ax = dress(axes[0, 0], "bias of the cost", "rows in a batch", "share of that of independent pairs")
    for colour, (d, values) in zip(COLOURS, found.items()):
        ax.errorbar(sizes, *zip(*values), fmt="o-", color=colour, ms=3, label=f"d = {d}")
    ax.set(xscale="log", yscale="log")
    legend(ax)
    for ax, n in zip(axes[0, 1:], (4, 256)):
        pairs = [normal_pairs(n, 1, f"{seed} {n} {k}") for k in range(2_048 // n)]
        x0, x1 = (torch.cat(side).numpy() for side in zip(*pairs))
        dress(ax, f"pairs of batches of {n}, d = 1", "x0", "x1").scatter(
            x0, x1, s=2, color=COLOURS[0], linewidths=0
        )
        ax.plot([-3, 3], [MEAN - 3 * SCALE, MEAN + 3 * SCALE], color=COLOURS[1], linewidth=1)
    seen = "Bias against batch size in three dimensions; pairs in one dimension around the optimal map."
    study.figure("bias", figure, seen)
    columns = [f"n = {n}" for n in sizes]
    study.table(
        "Excess cost over W2^2, as a share of that of independent pairs (standard error)",
        [
            {"d": d, **{c: f"{mean:.4f} ({error:.4f})" for c, (mean, error) in zip(columns, values)}}
            for d, values in found.items()
        ],
    )
    for d, values in found.items():
        mean, error = values[0]
        study.check(f"d = {d}: batches of one are independent pairs", mean, near=1.0, within=4 * error)
        rises = [(after[0] - before[0]) / after[1] for before, after in pairwise(values)]
        study.check(
            f"d = {d}: the bias falls with the size, largest rise in standard errors", max(rises), at_most=2.0
        )
    slopes = {d: np.polyfit(np.log(sizes[2:]), np.log([v[0] for v in found[d][2:]]), 1)[0] for d in (8, 32)}
    study.check("d = 8: slope of the bias, theory -2/8", slopes[8], near=-0.25, within=0.1)
    study.text(
        f"""In 2 dimensions a batch of 256 has {found[2][sizes.index(256)][0]:.1%} of the bias of independent
        pairs, in 8 dimensions {found[8][sizes.index(256)][0]:.0%}, in 32 dimensions
        {found[32][sizes.index(256)][0]:.0%}. The slopes in 8 and 32 dimensions are {slopes[8]:.2f} and
        {slopes[32]:.2f}, where $-2/d$ is -.25 and -.06. Larger batches hardly remove the bias in many
        dimensions; plans against the whole data set (`--coupling semidiscrete`) do."""
    )


if __name__ == "__main__":
    main(run)
