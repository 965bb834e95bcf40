"""Flow maps: samples in 1, 2 and 4 steps beside 100 of flow matching, from the same network, pairs and draws.

python benchmarks/few_step.py run [--systems N-8g ...] [--seeds 42 ...] [--methods lagrangian ...]
    [--pairs independent|ot] [--teachers FOLDER]
python benchmarks/few_step.py page
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from keeping import keep, known, read, spread, write_page
from systems import SYSTEMS, data, files, fresh_sources

import pushforward
from pushforward.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.flows import FlowMapFlow, Transformed
from pushforward.metrics import composition_error, wasserstein
from pushforward.random import seeded
from pushforward.solvers import Euler

NAME = "few_step"
#: Fewer frequencies of time than the default: fine structure in time costs a leap more than a velocity.
NETWORK, STEPS, BATCH = "resmlp,width=128,depth=3,frequencies=3", 5_000, 512
#: Points and draws of the source that samples are judged on; an exact plan of more takes minutes.
POINTS, DRAWS, NFE = 4_000, 2, (1, 2, 4)
#: By the name in the table: what is set beside the method, and whether it distils the run of flow matching.
METHODS: dict[str, tuple[dict[str, Any], bool]] = {
    "lagrangian": ({"loss": "lagrangian"}, False),
    "eulerian": ({"loss": "eulerian"}, False),
    "semigroup": ({"loss": "semigroup,diagonal=.5"}, False),
    "semigroup, uniform": ({"loss": "semigroup,diagonal=.5,between=uniform"}, False),
    "mean-flow": ({"loss": "mean-flow"}, False),
    "improved-mean-flow": ({"loss": "improved-mean-flow"}, False),
    "alpha-flow": ({"loss": "alpha-flow"}, False),
    "shortcut": ({"loss": "shortcut"}, False),
    "two-sided": ({"loss": "two-sided", "two_sided": True}, False),
    "consistency": ({"loss": "consistency"}, False),
    "scm": ({"loss": "scm"}, False),
    "moment-matching": ({"loss": "moment-matching,scale=3.5"}, False),
    "lagrangian, distilled": ({"loss": "lagrangian"}, True),
    "eulerian, distilled": ({"loss": "eulerian"}, True),
    "semigroup, distilled": ({"loss": "semigroup,diagonal=.5"}, True),
    "consistency, distilled": ({"loss": "consistency"}, True),
}
#: Other methods of few steps, by what is set beside their name; their samples take as many Euler steps.
OTHERS: dict[str, dict[str, Any]] = {"vrf": {}}
PAIRS = ("independent", "ot")
#: These take independent pairs with normal noise alone.
NORMAL = ("consistency", "scm", "consistency, distilled")
#: These are for pairs whose lines cross.
INDEPENDENT = ("vrf",)


def config(system: str, seed: int, folder: Path, method: str, **model: Any) -> RunConfig:
    target, distribution = files(system, seed, folder)
    return RunConfig(
        target=target,
        seed=seed,
        data=DataConfig(source=distribution, preprocess="none", holdout=0.0),
        model=ModelConfig(method=method, network=NETWORK, times="uniform", **model),
        optim=OptimConfig(steps=STEPS, batch=BATCH, lr=2e-3, checkpoint_every=10 * STEPS, log_every=500),
        compute=ComputeConfig(threads=1),
    )


def trained(settings: RunConfig, out: Path) -> tuple[Any, float]:
    """The flow of a training, and its processor seconds."""
    began = time.process_time()
    run = pushforward.train(settings, out, overwrite=True, show_progress=False)
    if not run.summary["finished"]:
        raise KeyboardInterrupt
    return run.flow, round(time.process_time() - began, 1)


def run(system: str, seed: int, methods: list[str], pairs: str, teachers: Path) -> None:
    """Flow matching and all ``methods``, judged on the same points."""
    test, sources = data(system, seed)[2][:POINTS], [x[:POINTS] for x in fresh_sources(system, seed)[:DRAWS]]

    def judged(push: Any) -> float:
        with torch.inference_mode():
            return statistics.fmean(wasserstein(push(x0), test) for x0 in sources)

    with tempfile.TemporaryDirectory() as name:
        place = {"system": system, "seed": seed, "pairs": pairs}
        folder, teacher = Path(name), teachers / f"{system}-{seed}-{pairs}"
        teacher.mkdir(parents=True, exist_ok=True)
        coupling = {"coupling": pairs}
        if not known(NAME, **place, method="fm") or not (teacher / "fm").exists():
            flow, seconds = trained(config(system, seed, teacher, "fm", **coupling), teacher / "fm")
            few = {str(k): judged(flow.replace(solver=Euler(steps=k)).push) for k in (*NFE, 100)}
            if not known(NAME, **place, method="fm"):
                keep(NAME, {**place, "method": "fm", "steps": STEPS, "seconds": seconds, "W2": few})
        for number, method in enumerate(methods):
            if known(NAME, **place, method=method):
                continue
            if method in NORMAL and not system.startswith("N-"):
                continue
            if method in (*NORMAL, *INDEPENDENT) and pairs != "independent":
                continue
            settings = config(system, seed, teacher, **chosen(method, teacher), **coupling)
            mapped, seconds = trained(settings, folder / f"map-{number}")
            solved = method in OTHERS
            few = {
                str(k): judged((mapped.following(Euler(steps=k)) if solved else mapped.replace(steps=k)).push)
                for k in NFE
            }
            found = {"method": method, "steps": STEPS, "seconds": seconds, "W2": few}
            keep(NAME, {**place, **found, "composition": composition(mapped, sources[0])})


def chosen(method: str, teacher: Path) -> dict[str, Any]:
    """What is set for a method by its name in the table."""
    if method in OTHERS:
        return {"method": method, **OTHERS[method]}
    options, distils = METHODS[method]
    return {"method": "flow-map", **options, **({"teacher": str(teacher / "fm")} if distils else {})}


@torch.inference_mode()
def composition(flow: Any, x0: torch.Tensor) -> float | None:
    """The composition error of a flow map; None for one that leaps to the data alone."""
    inner = flow.flow if isinstance(flow, Transformed) else flow  # which no preprocessing leaves as it is
    if not isinstance(inner, FlowMapFlow):
        return None
    return composition_error(inner.jump, x0, generator=seeded("times", 0))


def page() -> None:
    """Write benchmarks/results/few_step.json."""
    rows, table = read(NAME), []
    base = {(r["system"], r["seed"], r["pairs"]): r for r in rows if r["method"] == "fm"}
    for pairs in PAIRS:
        for system in SYSTEMS:
            for method in ("fm", *METHODS, *OTHERS):
                place = {"pairs": pairs, "system": system, "method": method}
                found = [r for r in rows if all(r[key] == value for key, value in place.items())]
                if found:
                    table.append(place | compared(found, base))
    write_page(
        NAME,
        "Flow maps in few steps",
        f"W2 to {POINTS:,} test points over that of flow matching with 100 Euler steps, the same network "
        f"({NETWORK}), pairs and {STEPS:,} steps of {BATCH}; mean and deviation over seeds, the same "
        f"{DRAWS} draws of the source. `fm` is flow matching with so few Euler steps. Seconds are processor "
        "time of training over that of flow matching; distilled maps come after it.",
        "python benchmarks/few_step.py run && python benchmarks/few_step.py page",
        table,
    )


def compared(found: list[dict[str, Any]], base: dict[tuple[str, int, str], dict[str, Any]]) -> dict[str, Any]:
    """The figures of a method on a system over those of flow matching on the same seeds."""
    fm = [base[r["system"], r["seed"], r["pairs"]] for r in found]
    ratio = {k: [r["W2"][str(k)] / f["W2"]["100"] for r, f in zip(found, fm, strict=True)] for k in NFE}
    seconds = [r["seconds"] / f["seconds"] for r, f in zip(found, fm, strict=True)]
    errors = [error for r in found if (error := r.get("composition")) is not None]
    return {
        "seeds": len(found),
        "W2 fm, 100 steps": f"{statistics.fmean(f['W2']['100'] for f in fm):.3f}",
        **{f"{k} {'step' if k == 1 else 'steps'}": spread(ratio[k], 2, error=False) for k in NFE},
        "worst, 1 step": f"{max(ratio[1]):.2f}",
        "composition error": f"{statistics.fmean(errors):.1e}" if errors else "",
        "seconds": f"{statistics.fmean(seconds):.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44, 45, 46])
    parser.add_argument("--methods", nargs="+", default=[*METHODS, *OTHERS], choices=[*METHODS, *OTHERS])
    parser.add_argument("--pairs", default="independent", choices=PAIRS)
    parser.add_argument("--teachers", type=Path, default=Path("runs/few_step"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
        return
    for seed in args.seeds:
        for system in args.systems:
            run(system, seed, args.methods, args.pairs, args.teachers)


if __name__ == "__main__":
    main()
