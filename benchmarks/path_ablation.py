"""Diffusion and optimal-transport paths, trained by score matching and by flow matching, on images.

python benchmarks/path_ablation.py run digits [--methods ...] [--seeds 0 1 2]
python benchmarks/path_ablation.py run mnist --mnist FILE [--methods ...] [--seeds 0]
python benchmarks/path_ablation.py page

The shape of table 1 of Lipman et al. 2023, arXiv 2210.02747: one network and one number of steps for every
method; then bits per dimension, the distance of samples to held-out images, and the evaluations that an
adaptive solver takes for a sample.  FILE is an npz file with ``images`` (10,000, 28, 28) of bytes, of which
the first 8,000 are trained on and the last 2,000 are held out.  ``run`` goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import keep, known, read, spread, write_page
from torch import Tensor

import pushforward
from pushforward.config import RunConfig
from pushforward.data import Dataset, load
from pushforward.flows import Hutchinson, Transformed
from pushforward.metrics import bits_per_dim, energy_distance
from pushforward.random import seeded
from pushforward.solvers import Dopri5

NAME = "path_ablation"

#: What is trained: the rows of the table.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "noise-vp": ("noise prediction, diffusion path (DDPM)", {"method": "vp"}),
    "score-vp": ("score matching, diffusion path", {"method": "vp", "prediction": "score"}),
    "fm-vp": ("flow matching, diffusion path", {"method": "fm", "path": "vp", "prediction": "velocity"}),
    "fm-ot": ("flow matching, OT path", {"method": "fm"}),
}
#: Network, steps, batch, learning rate; rows whose likelihood is taken, and samples that are judged.
SIZES: dict[str, dict[str, Any]] = {
    "digits": {"network": "unet,width=32", "steps": 4_000, "batch": 128, "lr": 1e-3, "scored": 359},
    "mnist": {"network": "unet,width=16", "steps": 5_000, "batch": 64, "lr": 1e-3, "scored": 200},
}
SAMPLES, TOLERANCE = 1_000, 1e-5


def data(name: str, mnist: Path | None, seed: int) -> Dataset:
    """What is trained on, with the images that are held out."""
    if name == "digits":
        return load("digits", seed=seed)
    if mnist is None:
        raise SystemExit("mnist: say where the images are with --mnist FILE")
    with np.load(mnist) as file:
        return load(file["images"], seed=seed)


def bits(flow: Transformed, images: Tensor) -> tuple[float, float]:
    """Bits per dimension of ``images`` and their standard error over images."""
    found = []
    generator = seeded("bits")
    with torch.no_grad():
        for part in images.split(100):
            found.append(flow.log_prob(part, generator=generator))
    value = bits_per_dim(torch.cat(found).double(), images[0].numel())
    assert isinstance(value, Tensor)
    return float(value.mean()), float(value.std() / len(value) ** 0.5)


@torch.no_grad()
def judge(run: pushforward.Run, seen: Tensor, held: Tensor, scored: int) -> dict[str, Any]:
    """The figures of a trained run."""
    flow = run.flow.replace(solver=Dopri5(rtol=TOLERANCE, atol=TOLERANCE), divergence=Hutchinson())
    core: Any = flow.core
    noise = core.source.sample(200, generator=seeded("noise"))
    evaluations = core.solver.solve(core.problem(), noise, *core.interval).nfe.double()
    samples = torch.cat([flow.sample(100, generator=seeded("sample", i)) for i in range(SAMPLES // 100)])
    mean, error = bits(flow, held[:scored])
    return {
        "bits": mean,
        "error": error,
        "energy": float(energy_distance(samples.flatten(1), held.flatten(1))),
        "floor": float(energy_distance(seen[:SAMPLES].flatten(1), held.flatten(1))),
        "nfe": float(evaluations.mean()),
    }


def run(name: str, method: str, seed: int, args: argparse.Namespace) -> None:
    """Train or go on, judge and keep the figures."""
    if known(NAME, data=name, method=method, seed=seed):
        return
    size, dataset = SIZES[name], data(name, args.mnist, seed)
    settings = METHODS[method][1] | {k: size[k] for k in ("network", "steps", "batch", "lr")}
    config = RunConfig.of(name, seed=seed, threads=1, ema=0.999, patience=0, **settings)
    trained = pushforward.train(config, args.runs / f"{name}-{method}-{seed}", target=dataset)
    if not trained.summary["finished"]:
        raise SystemExit("stopped; the same command continues it")
    row = {"data": name, "method": method, "seed": seed, "steps": trained.summary["step"]}
    row["seconds"] = round(trained.summary["seconds"])
    keep(NAME, row | judge(trained, dataset.train.x, dataset.test.x, size["scored"]))


def page() -> None:
    """The rows of each data set and method, averaged over seeds."""
    rows = []
    for name in SIZES:
        for method, (words, _) in METHODS.items():
            found = [r for r in read(NAME) if r["data"] == name and r["method"] == method]
            if not found:
                continue
            rows.append(
                {
                    "data": name,
                    "method": words,
                    "bits/dim": spread([r["bits"] for r in found], error=False),
                    "energy distance": spread([r["energy"] for r in found], 4, error=False),
                    "training images": spread([r["floor"] for r in found], 4),
                    "NFE": spread([r["nfe"] for r in found], 0, error=False),
                    "seeds": len(found),
                }
            )
    write_page(
        NAME,
        "Images: paths and objectives",
        "One U-Net, one number of steps. Bits per dimension of held-out images in units of one level, of "
        "which digits have 17 and MNIST 256 (a bound: uniform dequantisation); energy distance to held-out "
        "images, of 1,000 samples and of 1,000 training images; the mean evaluations of dopri5 at "
        f"{TOLERANCE:g} for a sample. Mean and deviation over seeds. The rows are "
        "those of table 1 of Lipman et al. 2023, arXiv 2210.02747.",
        "python benchmarks/path_ablation.py run digits && python benchmarks/path_ablation.py page",
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("data", choices=list(SIZES))
    runner.add_argument("--mnist", type=Path)
    runner.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    runner.add_argument("--seeds", nargs="+", type=int, default=[0])
    runner.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    commands.add_parser("page")
    args = parser.parse_args()
    if args.command == "page":
        page()
        return
    for seed in args.seeds:
        for method in args.methods:
            run(args.data, method, seed, args)


if __name__ == "__main__":
    main()
