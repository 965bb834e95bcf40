"""Places on earth: held-out log-densities of flow matching on the sphere, beside a kernel and published ones.

    python benchmarks/earth.py run [--data DIR] [--tables volcano ...] [--seeds 0 ...] [--rows raw distinct]
    python benchmarks/earth.py page

DIR, or the environment's PUSHFORWARD_DATA, holds volerup.csv, quakes_all.csv, flood.csv and fire.csv; a table
that is not there is left out.  Rows are added to results/rows/earth.jsonl one by one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from keeping import keep, known, read, spread, write_page

import pushforward
from pushforward.manifolds import Sphere
from pushforward.metrics.baselines.manifold_kernels import ManifoldKernels
from pushforward.random import seeded

NAME = "earth"
SPACE = "sphere,lat=0,lon=1"
FILES = {"volcano": "volerup.csv", "earthquake": "quakes_all.csv", "flood": "flood.csv", "fire": "fire.csv"}
#: Whether exact repeats of a place are dropped, before the rows are divided.
ROWS = {"raw": False, "distinct": True}
SEEDS = range(5)
#: Of the raw rows, held-out -log p as printed in Chen & Lipman 2024 (2302.03660) and Rozen et al. 2021
#: (2108.08052), means and deviations of five divisions.
PUBLISHED = {
    "volcano": ("-7.93 +- 1.67", "-4.21 +- 0.17"),
    "earthquake": ("-0.28 +- 0.08", "-0.16 +- 0.06"),
    "flood": ("0.42 +- 0.05", "0.57 +- 0.10"),
    "fire": ("-1.86 +- 0.11", "-1.28 +- 0.05"),
}
#: Chosen on seed 100, which is not among those reported: the network, and steps and rows of a batch by table.
#: Volcanoes that erupt again are learnt by heart, which takes longer than the 267 places alone.
NETWORK = "resmlp,width=128,depth=3,frequencies=7"
LENGTHS = {"volcano": (16000, 128), "earthquake": (4000, 512), "flood": (3000, 512), "fire": (10000, 128)}
PLACES_ALONE = {**LENGTHS, "volcano": (4000, 128)}


def run(table: str, rows: str, seed: int, file: Path, longer: float) -> dict[str, Any]:
    """A training on four fifths, its weights chosen by a tenth, and the scores of the last tenth."""
    settings: dict[str, Any] = {"holdout": 0.1, "validation": 1 / 9, "folds": 0, "deduplicate": ROWS[rows]}
    steps, batch = (LENGTHS if rows == "raw" else PLACES_ALONE)[table]
    steps = round(longer * steps)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        made = pushforward.train(
            str(file),
            Path(folder) / "run",
            space=SPACE,
            seed=seed,
            threads=1,
            checkpoint_every=10 * steps,
            show_progress=False,
            network=NETWORK,
            steps=steps,
            batch=batch,
            **settings,
        )
        if not made.summary["finished"]:
            raise KeyboardInterrupt
        flow, data = made.flow, made.dataset
        kept = made.summary["kept_step"]
    with torch.inference_mode():
        scores = flow.log_prob(data.test.x).double()
    seconds = round(time.process_time() - began, 1)
    # the kernel is given what chose the weights of the flow, too
    train, test = (data.preprocess.inverse(part.x.double()) for part in (data.train, data.test))
    kernel = ManifoldKernels(Sphere(2), train, generator=seeded(seed, "kernel"))
    gain = scores - kernel.log_prob(test)
    return {
        **{"table": table, "rows": rows, "seed": seed, "steps": steps, "batch": batch},
        **{"train": len(train), "test": len(test)},
        **{"nll": -float(scores.mean()), "kernel": -float(kernel.log_prob(test).mean())},
        **{"width": kernel.width, "gain": float(gain.mean()), "error": float(gain.std()) / len(gain) ** 0.5},
        **{"kept": kept, "seconds": seconds},
    }


def page() -> None:
    """Write benchmarks/results/earth.json from the rows."""
    found, lines = read(NAME), []
    for rows in ROWS:
        for table, (rfm, moser) in PUBLISHED.items():
            these = [row for row in found if row["table"] == table and row["rows"] == rows]
            if not these:
                continue
            raw = rows == "raw"
            better = sum(row["gain"] > 0 for row in these)
            lines.append(
                {
                    "table": f"{table}, {rows} rows",
                    "train, test": f"{these[0]['train']:,}, {these[0]['test']:,}",
                    "seeds": len(these),
                    "ours": spread([row["nll"] for row in these], 2, error=False),
                    "kernel": spread([row["kernel"] for row in these], 2, error=False),
                    "better than the kernel": f"{better} of {len(these)}",
                    "RFM, published": rfm if raw else "",
                    "Moser flow, published": moser if raw else "",
                    "processor s": f"{statistics.fmean(row['seconds'] for row in these):.0f}",
                }
            )
    each = [f"{name} {steps:,} steps of {batch} rows" for name, (steps, batch) in LENGTHS.items()]
    told = f"{', '.join(each)}, distinct volcanoes {PLACES_ALONE['volcano'][0]:,}"
    write_page(NAME, "Places on earth", NOTE.format(network=NETWORK, steps=told), COMMAND, lines)


COMMAND = "python benchmarks/earth.py run --data DIR && python benchmarks/earth.py page"
NOTE = (
    "Mean held-out -log p in nats, per unit area of the unit sphere, of Riemannian flow matching on "
    "places on earth; lower is better, the uniform distribution has 2.53. Mean and deviation over seeds, "
    "each with its own random tenth to test on and tenth that chooses the weights. Raw rows repeat "
    "places, volcanoes two thirds of them, so that their scores reward memory and have no bound; distinct "
    "rows are each place once, before they are divided. The kernel is that of von Mises and Fisher, its "
    "width by the likelihood of rows that are left out, and is given the rows that choose the weights "
    "too. Published are Chen & Lipman 2024, 2302.03660, and Rozen et al. 2021, 2108.08052, as printed. "
    "Ours is `{network}` and one core of a processor for about a minute: {steps}. RFM took up to 12 "
    "layers of 2,048 units, batches of thousands of rows and up to a million steps."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--data", type=Path, default=os.environ.get("PUSHFORWARD_DATA"))
    parser.add_argument("--tables", nargs="+", default=list(FILES), choices=FILES)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--longer", type=float, default=1.0, help="times as many steps; shown, not kept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
        return
    if args.data is None:
        parser.error("run needs --data DIR, or PUSHFORWARD_DATA")
    for seed in args.seeds:
        for table in args.tables:
            file = Path(args.data) / FILES[table]
            if not file.exists():
                print(f"{file}: not found; {table} is left out")
                continue
            for rows in args.rows:
                if args.longer != 1:
                    print(run(table, rows, seed, file, args.longer), flush=True)
                elif not known(NAME, table=table, rows=rows, seed=seed):
                    keep(NAME, run(table, rows, seed, file, 1.0))


if __name__ == "__main__":
    main()
