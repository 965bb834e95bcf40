"""Do a diffusion in discrete time and flow matching learn the same field?

python benchmarks/score_agreement.py run [--seeds 101 102 103] [--steps N] [--method ddpm] [--out FILE]
python benchmarks/score_agreement.py page

A DDPM and a flow-matching model are trained on the same rows of a two-dimensional Gaussian mixture.  The
noise prediction of the DDPM is taken to the straight path (`ScheduleChange`), and its velocity is compared
there with the learnt velocity and with the exact one, at 19 times from 0.05 to 0.95 and points of the exact
marginals.  Samples of both are compared with fresh rows.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pushforward
from pushforward import GaussianMixture, GaussianMixtureOracle, Interpolant
from pushforward.fields import ScheduleChange
from pushforward.metrics import wasserstein
from pushforward.random import seeded

RESULTS = Path(__file__).parent / "results"
PAIRS = ("flow and score", "flow and exact", "score and exact")
TIMES = [round(0.05 * i, 2) for i in range(1, 20)]
ROWS, POINTS, DRAWS = 20_000, 4_000, 2_000


def mixture() -> GaussianMixture:
    """Five components of unequal weight and shape, about of unit variance."""
    means = torch.tensor([[-1.2, -0.6], [-0.4, 1.2], [0.7, 0.3], [1.3, -1.0], [0.0, -1.4]])
    roots = torch.tensor([[0.3, 0.1], [0.2, 0.35], [0.25, 0.0], [0.2, -0.2], [0.35, 0.1]])
    covariances = torch.stack([torch.diag(root.square() + 0.01) for root in roots])
    covariances[:, 0, 1] = covariances[:, 1, 0] = 0.5 * roots[:, 0] * roots[:, 1]
    return GaussianMixture(means, covariances, [1.0, 2.0, 3.0, 1.5, 1.0])


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's, over all elements."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1])


@torch.no_grad()
def one(seed: int, method: str, steps: int) -> dict[str, float]:
    """Train both, and compare."""
    target, path = mixture(), Interpolant()
    oracle = GaussianMixtureOracle(target, path)
    rows = target.sample(ROWS, generator=seeded("rows", seed)).numpy()
    flows = {}
    for name in ("fm", method):
        with torch.enable_grad():
            settings: dict[str, Any] = {"preprocess": "none", "steps": steps, "patience": 0, "seed": seed}
            run = pushforward.train(rows, method=name, show_progress=False, **settings)
        flows[name] = run.flow
    scored = flows[method].core
    fields = {
        "flow": flows["fm"].core.field,
        "score": ScheduleChange(scored.field, scored.path, path),
        "exact": oracle,
    }
    found: dict[str, list[float]] = {pair: [] for pair in PAIRS}
    everything: dict[str, list[Tensor]] = {name: [] for name in fields}
    for t in TIMES:
        x0 = torch.randn(POINTS, 2, generator=seeded("points", seed, str(t)))
        x = path.sample(torch.tensor(t), x0, target.sample(POINTS, generator=seeded("x1", seed, str(t)))).x
        velocities = {name: field(torch.tensor(t), x) for name, field in fields.items()}
        for name, velocity in velocities.items():
            everything[name].append(velocity)
        for pair, values in found.items():
            first, second = pair.split(" and ")
            values.append(correlation(velocities[first], velocities[second]))
    result = {}
    for pair, values in found.items():
        first, second = (torch.cat(everything[name]) for name in pair.split(" and "))
        result[f"{pair}, all times"], result[f"{pair}, lowest"] = correlation(first, second), min(values)
        result[f"{pair}, curve"] = values
    fresh, other = (target.sample(DRAWS, generator=seeded(name, seed)) for name in ("fresh", "other"))
    result["W2 floor"] = float(wasserstein(other, fresh))
    for name, flow in flows.items():
        drawn = flow.sample(DRAWS, generator=seeded("draws", seed))
        result[f"W2 {'flow' if name == 'fm' else 'score'}"] = float(wasserstein(drawn, fresh))
    return result


def spread(values: list[float], digits: int = 4) -> str:
    """Mean and standard deviation."""
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def page() -> None:
    """Write the rows of the page of benchmarks from the seeds that were run."""
    kept = json.loads((RESULTS / "rows" / "score_agreement.json").read_text())
    runs = list(kept["seeds"].values())
    figure(runs, RESULTS.parents[1] / "docs" / "_static" / "score_agreement.png")
    rows = [
        {
            "velocities": f"{pair}",
            "correlation, all times": spread([run[f"{pair}, all times"] for run in runs]),
            "at the worst of 19 times": spread([run[f"{pair}, lowest"] for run in runs]),
            "lowest of all seeds": f"{min(run[f'{pair}, lowest'] for run in runs):.4f}",
            "W2 of samples": "",
        }
        for pair in PAIRS
    ]
    for name in ("flow", "score", "floor"):
        cells = {key: "" for key in rows[0]}
        told = "fresh rows against fresh rows" if name == "floor" else f"samples of the {name}"
        rows.append(
            {**cells, "velocities": told, "W2 of samples": spread([run[f"W2 {name}"] for run in runs])}
        )
    gaps = [run["W2 score"] - run["W2 flow"] for run in runs]
    rows.append(
        {**dict.fromkeys(rows[0], ""), "velocities": "score minus flow", "W2 of samples": spread(gaps)}
    )
    data = {
        "title": "Score and flow agree",
        "note": f"`{kept['method']}` and `fm` trained on the same {ROWS:,} rows of a mixture of five normal "
        f"distributions in two dimensions, {kept['steps']:,} steps each, otherwise as they ship. The noise "
        "prediction is taken to the straight path and compared as a velocity with that of the flow and with "
        f"the exact one, at {POINTS:,} points of each of 19 times from 0.05 to 0.95. W2: exact, {DRAWS:,} "
        "samples against as many fresh rows. Means and deviations over seeds that no setting was chosen by. "
        "A published exercise reports a correlation of 0.95.",
        "command": "python benchmarks/score_agreement.py run && python benchmarks/score_agreement.py page",
        "torch": kept["torch"],
        "machine": kept["machine"],
        "seeds": " ".join(kept["seeds"]),
        "rows": rows,
    }
    (RESULTS / "score_agreement.json").write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def figure(runs: list[dict[str, Any]], file: Path) -> None:
    """Correlations by time, a thin line for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(figsize=(5, 2.6), dpi=110, layout="constrained")
    for pair, colour in zip(PAIRS, ("C0", "C1", "C2")):
        for number, run in enumerate(runs):
            label = pair if number == 0 else None
            axes.plot(TIMES, run[f"{pair}, curve"], color=colour, lw=1, label=label)
    axes.axhline(0.95, color="grey", ls=":", lw=1)
    axes.set(xlabel="t", ylabel="correlation of velocities", ylim=(0.94, 1.002))
    axes.legend(frameon=False, fontsize=8, loc=(0.02, 0.3))
    drawing.savefig(file)
    pyplot.close(drawing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[301, 302, 303])
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--method", default="ddpm")
    parser.add_argument("--out", type=Path, default=RESULTS / "rows" / "score_agreement.json")
    args = parser.parse_args()
    if args.what == "page":
        page()
        return
    torch.set_num_threads(1)
    kept: dict[str, Any] = {"method": args.method, "steps": args.steps, "torch": torch.__version__}
    kept |= {"machine": platform.machine(), "seeds": {}}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        kept["seeds"][str(seed)] = one(seed, args.method, args.steps)
        print(
            seed,
            {k: round(v, 4) for k, v in kept["seeds"][str(seed)].items() if "curve" not in k},
            flush=True,
        )
        args.out.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
