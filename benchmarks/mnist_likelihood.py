"""Bits per dimension of RealNVP, Glow and TarFlow on 10,000 MNIST digits.

python benchmarks/mnist_likelihood.py run --mnist FILE [--models realnvp glow tarflow] [--size cpu|gpu]
python benchmarks/mnist_likelihood.py page

FILE is an npz file with ``images`` (10,000, 28, 28) of bytes: the first 8,000 are trained on, of which 400
choose the best weights, the last 2,000 are tested on.  ``run`` trains by `pushforward.train`, goes on where
it was stopped, keeps a row of figures per model and draws a grid of samples into docs/_static.  ``page``
gathers the rows into benchmarks/results.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import keep, read, write_page
from torch import Tensor

import pushforward
from pushforward.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.data import Dataset, load
from pushforward.data.pictures import write_grid
from pushforward.flows import Transformed, multi_sample_bound
from pushforward.metrics import bits_per_dim
from pushforward.random import seeded

NAME = "mnist_likelihood"
PICTURES = Path(__file__).parents[1] / "docs" / "_static"
TRAINED, TESTED, CHOOSING = 8_000, 2_000, 0.05
#: Draws of dequantisation noise that the tighter bound averages over.
DRAWS = 10

#: Published, of models trained on 60,000 images: Dinh et al. 2017 and Kingma & Dhariwal 2018 as in table 2
#: of Grathwohl et al. 2019, arXiv 1810.01367.
PUBLISHED = {"realnvp": 1.06, "glow": 1.05, "tarflow": None}

#: Flow, steps, rows of a step, learning rate, weight decay: for two cores, and for a GPU.
SIZES: dict[str, dict[str, tuple[str, int, int, float, float]]] = {
    "cpu": {
        "realnvp": ("realnvp,layers=6", 8_000, 32, 3e-3, 1e-3),
        "glow": ("glow,steps=6", 8_000, 32, 3e-3, 1e-3),
        "tarflow": ("tarflow,blocks=4,layers=1,width=96", 10_000, 32, 3e-3, 1e-2),
    },
    "gpu": {
        "realnvp": ("realnvp,layers=12,width=96,depth=2,dropout=0.2", 20_000, 128, 1e-3, 1e-2),
        "glow": ("glow,steps=16,width=96,depth=2,dropout=0.2", 20_000, 128, 1e-3, 1e-2),
        "tarflow": ("tarflow,blocks=6,layers=4,width=256,heads=8,dropout=0.2", 20_000, 128, 5e-4, 1e-2),
    },
}


def data(path: Path) -> tuple[Dataset, Tensor]:
    """What is trained on, and the images tested on."""
    with np.load(path) as file:
        images = file["images"]
    if images.shape != (TRAINED + TESTED, 28, 28):
        raise SystemExit(f"{path}: expected images of shape (10000, 28, 28), got {images.shape}")
    dataset = load(images[:TRAINED], holdout=CHOOSING, preprocess="histogram")
    return dataset, torch.from_numpy(images[TRAINED:]).float()[:, None]


def config(model: str, size: str, threads: int) -> RunConfig:
    """The run of a model."""
    flow, steps, batch, lr, decay = SIZES[size][model]
    return RunConfig(
        target=f"MNIST, {TRAINED:,} images",
        data=DataConfig(holdout=CHOOSING, preprocess="histogram"),
        model=ModelConfig(method=model, flow=flow),
        # twenty validations are all there are: training goes on to its end, the best weights are kept
        optim=OptimConfig(steps=steps, batch=batch, lr=lr, weight_decay=decay, ema=0.998, patience=20),
        compute=ComputeConfig(
            device="cuda" if size == "gpu" else "cpu", threads=None if size == "gpu" else threads
        ),
    )


@torch.inference_mode()
def judge(flow: Transformed, test: Tensor) -> dict[str, Any]:
    """Bits per dimension of the test images by one draw and by several, and how long samples take."""
    device = next(flow.parameters()).device
    generator = seeded("test", device=device)
    one, many = [], []
    for part in test.to(device).split(250):
        one.append(flow.log_prob(part, generator=generator))
        many.append(multi_sample_bound(flow, part, DRAWS, generator=generator))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        flow.sample(100, generator=generator).cpu()
        seconds.append(time.perf_counter() - start)
    bits = bits_per_dim(torch.cat(one).double(), 784)
    assert isinstance(bits, Tensor)
    return {
        "bits": float(bits.mean()),
        "error": float(bits.std() / len(bits) ** 0.5),
        "bits_many": float(bits_per_dim(float(torch.cat(many).double().mean()), 784)),
        "ms_per_100": 1e3 * min(seconds[1:]),
    }


def run(model: str, size: str, mnist: Path, runs: Path, threads: int) -> None:
    """Train or go on, judge, keep the figures, draw the samples."""
    dataset, test = data(mnist)
    trained = pushforward.train(config(model, size, threads), runs / f"{model}-{size}", target=dataset)
    if not trained.summary["finished"]:
        raise SystemExit("stopped; the same command continues it")
    flow = trained.flow.to(trained.device)
    best = min((row for row in trained.history if "val_loss" in row), key=lambda row: row["val_loss"])
    row = {
        "model": model,
        "size": size,
        "flow": SIZES[size][model][0],
        "parameters": trained.summary["parameters"],
        "steps": trained.summary["step"],
        "best_step": best["step"],
        "seconds": round(trained.summary["seconds"]),
        "threads": trained.summary["threads"],
    }
    keep(NAME, row | judge(flow, test))
    with torch.inference_mode():
        samples = flow.sample(100, generator=seeded("grid"))
    write_grid(PICTURES / f"mnist_{model}.png", samples, trained.schema)


def page() -> None:
    """The newest row of each model and size, as a table."""
    newest = {(row["model"], row["size"]): row for row in read(NAME)}
    order = [(model, size) for size in SIZES for model in PUBLISHED if (model, size) in newest]
    rows = [
        {
            "model": model,
            "configuration": f"{size}: `{row['flow']}`",
            "parameters": f"{row['parameters']:,}",
            "bits/dim": f"{row['bits']:.3f} +- {row['error']:.3f}",
            f"{DRAWS} draws": f"{row['bits_many']:.3f}",
            "training images": f"{TRAINED:,}",
            "published (60,000)": PUBLISHED[model] or "",
            "steps": f"{row['steps']:,}",
            "seconds": f"{row['seconds']:,}",
            "ms / 100 samples": f"{row['ms_per_100']:,.0f}",
        }
        for model, size in order
        for row in [newest[model, size]]
    ]
    write_page(
        NAME,
        "MNIST: bits per dimension",
        f"Held-out bits per dimension in the original 8-bit units, of {TESTED:,} images, with the standard "
        f"error over images; uniform dequantisation, `--preprocess histogram`; the second figure "
        f"averages the density over {DRAWS} draws of the noise. Trained on {TRAINED:,} images, of which "
        f"{CHOOSING:.0%} chose the best weights; the published models saw 60,000 (Dinh et al. 2017, arXiv "
        "1605.08803, and Kingma & Dhariwal 2018, arXiv 1807.03039, as given by Grathwohl et al. 2019, arXiv "
        "1810.01367). Seconds are of wall time, of which other work on the machine took a part.",
        "python benchmarks/mnist_likelihood.py run --mnist FILE && "
        "python benchmarks/mnist_likelihood.py page",
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("--mnist", type=Path, required=True)
    runner.add_argument("--models", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    runner.add_argument("--size", choices=list(SIZES), default="cpu")
    runner.add_argument("--runs", type=Path, default=Path("runs/mnist"))
    runner.add_argument("--threads", type=int, default=1)
    commands.add_parser("page")
    args = parser.parse_args()
    if args.command == "page":
        page()
        return
    for model in args.models:
        run(model, args.size, args.mnist, args.runs, args.threads)


if __name__ == "__main__":
    main()
