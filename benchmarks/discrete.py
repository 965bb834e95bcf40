"""Flows of tokens on digits and on text, beside n-grams, autoregression and the solver of a peer.

python benchmarks/discrete.py digits [--seeds 42 43 44]
python benchmarks/discrete.py text [--seeds 42]
python benchmarks/discrete.py speed
python benchmarks/discrete.py page
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from keeping import keep, known, read, spread, write_page
from torch import Tensor, nn
from torch.nn.functional import conv1d, cross_entropy, layer_norm, linear, pad, scaled_dot_product_attention

import pushforward
from pushforward import registry
from pushforward.config import ComputeConfig, DataConfig, ModelConfig, OptimConfig, RunConfig
from pushforward.data import load
from pushforward.metrics import NGrams, bits_per_dim, energy_distance, wasserstein
from pushforward.nn import TextTransformer, TokenTransformer
from pushforward.objectives import Batch, Loss, Objective, Step
from pushforward.paths import MaskedTokens, TokenPath, UniformTokens
from pushforward.random import seeded
from pushforward.solvers import Jump, JumpEuler, Solver, TauLeaping

DIGITS, TEXT, SPEED = "discrete_digits", "discrete_text", "discrete_speed"
#: Steps of sampling, images compared, windows drawn, and draws of a bound.
STEPS, IMAGES, WINDOWS, DRAWS = (4, 8, 16, 64, 256), 180, 200, 32
PATHS = ("masked", "uniform", "diffused", "metric", "walk")
AUTOREGRESSIVE = "autoregressive"
#: The networks of digits and of text.
IMAGE, WINDOW = "transformer,width=64,depth=2", "text-transformer,width=128,depth=3"


class Causal(nn.Module):
    """The blocks of a transformer over tokens where each token sees those before it alone.

    Perceptrons over places are masked like attention, and convolutions end at the token itself; the token
    before the first is one more value.
    """

    def __init__(self, net: Any):
        super().__init__()
        self.net = net
        n = net.event_size
        before = torch.ones(n, n).tril()
        self.register_buffer("wide", before.repeat_interleave(2, 0))
        self.register_buffer("narrow", before.repeat_interleave(2, 1))

    takes_tokens = True

    def forward(self, t: Tensor | float, x: Tensor, condition: Any = None) -> Tensor:
        """Scores ``(B, *event, K)`` of each token of the data ``x``, given those before it."""
        net, flat = self.net, x.flatten(1).long()
        shifted = pad(flat[:, :-1], (1, 0), value=net.values - 1)
        time = net.embed_time(net.place.new_zeros(1))
        changes = net.modulate(time)[:, None].chunk(4 * len(net.layers), -1)
        h = net.enter(shifted) + net.place
        for number, layer in enumerate(net.layers):
            h = self._layer(cast(Any, layer), h, changes[4 * number : 4 * number + 4])
        return net.leave(layer_norm(h, h.shape[-1:])).reshape(*x.shape, -1)

    def _layer(self, layer: Any, h: Tensor, changes: Any) -> Tensor:
        rows, count, width = h.shape
        unit = layer_norm(h, h.shape[-1:]) * (1 + changes[0]) + changes[1]
        turned, beside = getattr(layer, "turned", lambda x: x), torch.zeros(())
        if isinstance(self.net, TextTransformer):
            size = layer.beside.kernel_size[0]
            earlier = pad(unit.transpose(1, 2), (size - 1, 0))
            unit = unit + conv1d(earlier, layer.beside.weight, layer.beside.bias, groups=width).transpose(
                1, 2
            )
        else:
            first, act, last = layer.places
            wide = act(linear(unit.transpose(1, 2), first.weight * self.wide, first.bias))
            beside = linear(wide, last.weight * self.narrow, last.bias).transpose(1, 2)
        q, k, v = layer.inputs(unit).reshape(rows, count, 3, layer.heads, -1).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        h = h + layer.output(seen.transpose(1, 2).reshape(rows, count, width)) + beside
        return h + layer.perceptron(layer_norm(h, h.shape[-1:]) * (1 + changes[2]) + changes[3])

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probabilities of rows, in nats."""
        scores = self(0.0, x).flatten(1, -2)
        return -cross_entropy(scores.transpose(1, 2), x.flatten(1).long(), reduction="none").double().sum(1)

    def sample(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """``n`` rows, token by token."""
        x = torch.zeros(n, self.net.event_size, dtype=torch.int64)
        for place in range(x.shape[1]):
            probs = self(0.0, x.reshape(n, *shape)).flatten(1, -2)[:, place].softmax(-1)
            x[:, place] = torch.multinomial(probs, 1, generator=generator)[:, 0]
        return x.reshape(n, *shape)


class NextToken(Objective):
    """The negative log-likelihood of each token given those before it."""

    def loss(self, models: nn.ModuleDict, batch: Batch, step: Step) -> Loss:
        x = batch.marginals[-1].x.long()
        scores = cast(Any, models["field"]).network(0.0, x)
        each = cross_entropy(scores.flatten(0, -2), x.flatten(), reduction="none").reshape(x.shape)
        value, errors = batch.reduce(each)
        return Loss(value, errors)


def trained(
    target: str, network: str, seed: int, out: Path, name: str, optim: dict[str, Any]
) -> tuple[Any, float]:
    """The run of a training, and its seconds; ``name`` is a path of tokens, or that of autoregression."""
    alone = name == AUTOREGRESSIVE
    config = RunConfig(
        target=target,
        seed=seed,
        data=DataConfig(),
        model=ModelConfig(
            method="dfm",
            tokens="masked" if alone else name,
            network=None if alone else network,
        ),
        optim=OptimConfig(checkpoint_every=10**6, log_every=500, **optim),
        compute=ComputeConfig(threads=1),
    )
    more: dict[str, Any] = {}
    if alone:
        data = load(target, seed=seed, preprocess="tokens")
        assert data.schema.levels is not None
        size, shape = round(data.schema.levels[1]) + 1, data.schema.event_shape
        torch.manual_seed(seed)
        more["network"] = Causal(
            registry.component("network", network).build(shape, size=size, values=size + 1)
        )
        settings = {**vars_of(config), "objective": NextToken(), **more}
        run = pushforward.train(target, out, show_progress=False, **settings)
    else:
        run = pushforward.train(config, out, show_progress=False)
    if not run.summary["finished"]:
        raise KeyboardInterrupt
    return run, run.summary["seconds"]


def vars_of(config: RunConfig) -> dict[str, Any]:
    """The settings of a configuration that are not defaults, by name."""
    plain, found = RunConfig(target=""), {"seed": config.seed}
    for part in ("data", "model", "optim", "compute"):
        mine, theirs = vars(getattr(config, part)), vars(getattr(plain, part))
        found |= {key: value for key, value in mine.items() if value != theirs[key]}
    return found


def causal_of(run: Any) -> Causal:
    """The autoregressive network of a run."""
    return run.flow.core.field.network


def factorised(train: Tensor, test: Tensor, size: int) -> Tensor:
    """Log-probabilities of test rows where tokens are independent, their shares smoothed by one count."""
    shares = torch.nn.functional.one_hot(train.long(), size).double().sum(0) + 1
    shares = shares / shares.sum(-1, keepdim=True)
    found = shares.expand(len(test), *shares.shape).gather(-1, test.long()[..., None])[..., 0]
    return found.log().flatten(1).sum(1)


@torch.no_grad()
def bits(run: Any, name: str, seed: int) -> tuple[float, float]:
    """Bits per token of held-out rows, at most, and their standard error."""
    test = run.dataset.test.x
    if name == AUTOREGRESSIVE:
        found = causal_of(run).log_prob(test)
    else:
        parts = test.split(256)
        found = torch.cat(
            [run.flow.core.elbo(x, DRAWS, generator=seeded(seed, i))[0] for i, x in enumerate(parts)]
        )
    size = test[0].numel()
    each = torch.as_tensor(bits_per_dim(found, size))
    return float(each.mean()), float(each.std() / len(each) ** 0.5)


def drawn(run: Any, name: str, n: int, steps: int, seed: int) -> Tensor:
    """Samples of a run in so many steps."""
    generator = seeded(seed, "samples", steps)
    with torch.inference_mode():
        if name == AUTOREGRESSIVE:
            return causal_of(run).sample(n, run.schema.event_shape, generator).float()
        return run.flow.replace(solver=TauLeaping(steps=steps)).sample(n, generator=generator).float()


def each_run(
    page: str,
    target: str,
    network: str,
    seed: int,
    names: tuple[str, ...],
    optim: dict[str, Any],
    judge: Callable[..., Any],
) -> None:
    """Train what is not known yet, and keep its bits, and what ``judge`` says of its samples."""
    for name in names:
        if known(page, seed=seed, method=name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            run, seconds = trained(target, network, seed, Path(folder), name, optim)
            mean, error = bits(run, name, seed)
            count = sum(p.numel() for p in run.flow.parameters())
            row = {"seed": seed, "method": name, "bits": mean, "error": error}
            row |= {"parameters": count, "steps": run.summary["step"], "seconds": seconds}
            counts = (0,) if name == AUTOREGRESSIVE else STEPS
            row["samples"] = {str(steps): judge(run, name, steps) for steps in counts}
            keep(page, row)


def digits(seed: int, methods: tuple[str, ...], optim: dict[str, Any]) -> None:
    """Digits of 8 x 8 with 17 levels."""

    def judge(run: Any, name: str, steps: int) -> dict[str, float]:
        held = run.dataset.test.x[:IMAGES].flatten(1)
        x = drawn(run, name, IMAGES, steps, seed).flatten(1)
        return {"W2": float(wasserstein(x, held)), "energy": float(energy_distance(x, held))}

    data = load("digits", seed=seed, preprocess="tokens")
    if not known(DIGITS, seed=seed, method="factorised"):
        found = bits_per_dim(factorised(data.train.x, data.test.x, 17), 64)
        held = data.test.x[:IMAGES].flatten(1)
        order = torch.randperm(len(data.train), generator=seeded(seed))[:IMAGES]
        x = data.train.x[order].flatten(1)
        floor = {"W2": float(wasserstein(x, held)), "energy": float(energy_distance(x, held))}
        row = {"seed": seed, "method": "factorised", "bits": float(torch.as_tensor(found).mean())}
        keep(DIGITS, {**row, "samples": {}, "real": floor})
    each_run(DIGITS, "digits", IMAGE, seed, methods or (*PATHS, AUTOREGRESSIVE), optim, judge)


def pairs(x: Tensor, size: int) -> Tensor:
    """Shares of all pairs of neighbours."""
    codes = (x[:, :-1].long() * size + x[:, 1:].long()).flatten()
    return codes.bincount(minlength=size**2).double() / len(codes)


def text(seed: int, methods: tuple[str, ...], optim: dict[str, Any]) -> None:
    """The topics of Python's help."""
    from pydoc_data.topics import topics

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "topics.txt"
        path.write_text("\n\n".join(topics.values()), encoding="utf-8")
        data = load(path, seed=seed)
        assert data.stretches is not None
        size, held = len(data.schema.alphabet), data.test.x
        seen = data.stretches.texts(data.train.x)
        grams = {n: NGrams(seen, size, n) for n in (1, 3, 5)}

        def about(x: Tensor) -> dict[str, float]:
            apart = 0.5 * (pairs(x, size) - pairs(held, size)).abs().sum()
            return {
                "bits of 5-gram": float(bits_per_dim(grams[5].log_prob(x).mean(), x.shape[1])),
                "pairs": float(apart),
            }

        for n, gram in grams.items():
            if not known(TEXT, seed=seed, method=f"{n}-gram"):
                each = torch.as_tensor(bits_per_dim(gram.log_prob(held), held.shape[1]))
                row = {"seed": seed, "method": f"{n}-gram", "bits": float(each.mean())}
                row["samples"] = {"0": about(gram.sample(WINDOWS, held.shape[1], seeded(seed)))}
                order = torch.randperm(len(data.train), generator=seeded(seed))[:WINDOWS]
                keep(TEXT, {**row, "real": about(data.train.x[order]), "held": about(held)})

        def judge(run: Any, name: str, steps: int) -> dict[str, float]:
            return about(drawn(run, name, WINDOWS, steps, seed))

        each_run(TEXT, str(path), WINDOW, seed, methods or ("masked", AUTOREGRESSIVE), optim, judge)


def speed(rounds: int) -> None:
    """Time of a step of sampling over that of the peer's solver, the same network and batch, in turn."""
    peer = importlib.import_module("flow_matching.solver").MixtureDiscreteEulerSolver
    mixture = importlib.import_module("flow_matching.path").MixtureDiscreteProbPath
    scheduler = importlib.import_module("flow_matching.path.scheduler").PolynomialConvexScheduler
    wrapper = importlib.import_module("flow_matching.utils").ModelWrapper
    rows, steps = 64, 32
    for source, size, length in (
        ("uniform", 17, 64),
        ("masked", 17, 64),
        ("uniform", 103, 64),
        ("masked", 103, 64),
    ):
        path: TokenPath = (UniformTokens if source == "uniform" else MaskedTokens)(size)
        torch.manual_seed(0)
        net = TokenTransformer(length, size=path.values, values=path.values, width=64, depth=2).eval()
        for network, called in ((net, "transformer"), (Constant(length, path.values), "none")):

            class Wrapped(wrapper):
                def forward(self, x: Tensor, t: Tensor, **extras: Any) -> Tensor:
                    return self.model(t, x).softmax(-1)

            theirs = peer(Wrapped(network), mixture(scheduler(1.0)), path.values)
            x0 = path.draw_start((rows, length), torch.rand(rows, length))
            ours = {"Euler": JumpEuler(steps=steps), "tau-leaping": TauLeaping(steps=steps)}
            problem = jumps(network, path)

            def peers(theirs: Any = theirs, x0: Tensor = x0) -> None:
                theirs.sample(x_init=x0, step_size=1 / steps)

            def mine(solver: Solver, problem: Jump = problem, x0: Tensor = x0) -> Callable[[], None]:
                return lambda: solver.solve(problem, x0, 0.0, 1.0, generator=seeded(0)) and None

            runs = {"peer": peers, **{name: mine(solver) for name, solver in ours.items()}}
            found: dict[str, list[float]] = {name: [] for name in runs}
            with torch.inference_mode():
                for turn in range(rounds + 1):
                    for name, call in runs.items():
                        begin = time.perf_counter()
                        call()
                        if turn:
                            found[name].append(time.perf_counter() - begin)
            for name in ours:
                ratio = [a / b for a, b in zip(found[name], found["peer"])]
                row = {"source": source, "values": size, "network": called, "solver": name}
                keep(SPEED, {**row, "ratio": statistics.median(ratio), "rounds": rounds})


class Constant(nn.Module):
    """Scores that take no time, so that what is left is the solver's own."""

    def __init__(self, length: int, values: int):
        super().__init__()
        self.scores = nn.Parameter(torch.randn(length, values))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.scores.expand(len(x), *self.scores.shape)


def jumps(network: nn.Module, path: TokenPath) -> Jump:
    """The process of a network's posterior, as a flow has it."""
    from pushforward.flows import DiscreteFlow

    def posterior(t: Tensor, x: Tensor, condition: Any = None) -> Tensor:
        return network(t.float(), x)[..., : path.size]

    return DiscreteFlow(posterior, path, 64).problem()


def page() -> None:
    """Write benchmarks/results/discrete_*.json of what is known."""
    for write in (digits_page, text_page, speed_page):
        write()


def digits_page() -> None:
    rows = read(DIGITS)
    if not any(row["method"] == "masked" for row in rows):
        return
    real = {r["seed"]: r["real"] for r in rows if "real" in r}
    table = []
    for name in dict.fromkeys(r["method"] for r in rows):
        found = [r for r in rows if r["method"] == name]
        row = {"method": name, "seeds": len(found), "bits per pixel": spread([r["bits"] for r in found], 3)}
        for steps in map(str, STEPS):
            some = [r["samples"].get(steps, r["samples"].get("0")) for r in found]
            ratio = [s["W2"] / real[r["seed"]]["W2"] for s, r in zip(some, found) if s]
            row[f"W2, {steps} steps"] = spread(ratio, 2) if ratio else "-"
        table.append(row)
    first = next(r for r in rows if r["method"] == "masked")
    write_page(
        DIGITS,
        "Digits as tokens",
        f"Digits of 8 x 8 with 17 levels, {first['steps']:,} steps of training each, network {IMAGE}, "
        f"weights chosen by validation.  Bits per pixel of held-out images: an "
        f"upper bound from {DRAWS} times of paths of tokens, exact of others.  W2 of {IMAGES} samples to as "
        "many held-out images, over that of training images; autoregression takes 64 steps always.  Mean and "
        "standard error over seeds.",
        "python benchmarks/discrete.py digits && python benchmarks/discrete.py page",
        table,
    )


def text_page() -> None:
    rows = read(TEXT)
    if not any(row["method"] == "masked" for row in rows):
        return
    table = []
    for name in dict.fromkeys(r["method"] for r in rows):
        found = [r for r in rows if r["method"] == name]
        for steps in found[0]["samples"]:
            some = [r["samples"][steps] for r in found]
            table.append(
                {
                    "method": name,
                    "seeds": len(found),
                    "bits per character": spread([r["bits"] for r in found], 3),
                    "steps": "64" if name == AUTOREGRESSIVE else "-" if steps == "0" else steps,
                    "samples under the 5-gram, bits": spread([s["bits of 5-gram"] for s in some], 3),
                    "pairs, total variation": spread([s["pairs"] for s in some], 3),
                }
            )
    real = [r["real"] for r in rows if "real" in r and r["method"] == "1-gram"]
    held = [r["held"] for r in rows if "held" in r and r["method"] == "1-gram"]
    under = spread([h["bits of 5-gram"] for h in held], 3)
    first = next(r for r in rows if r["method"] == "masked")
    write_page(
        TEXT,
        "Text as tokens",
        "The topics of Python's help, 465,000 characters, in windows of 64 of which nothing before is known; "
        f"{first['steps']:,} steps of training of 32 windows, network {WINDOW}.  Bits per "
        "character of held-out windows: an upper bound for the path of tokens, exact for the others.  "
        f"{WINDOWS} samples: their bits under the 5-gram, which are {under} of held-out windows, and the "
        f"total variation of their pairs of characters to held-out ones, which is "
        f"{spread([r['pairs'] for r in real], 3)} for as many training windows.",
        "python benchmarks/discrete.py text && python benchmarks/discrete.py page",
        table,
    )


def speed_page() -> None:
    rows = read(SPEED)
    if not rows:
        return
    table = [
        {
            "source": r["source"],
            "values": r["values"],
            "network": r["network"],
            "solver": r["solver"],
            "time / peer's": f"{r['ratio']:.2f}",
        }
        for r in rows
    ]
    write_page(
        SPEED,
        "A step of sampling tokens",
        "Sampling 64 rows of 64 tokens in 32 steps, time over that of MixtureDiscreteEulerSolver of "
        "flow_matching 1.0.10 with the same network, in turn, median of rounds; without a network what is "
        "left is the solver's own time.",
        "python benchmarks/discrete.py speed && python benchmarks/discrete.py page",
        table,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("digits", "text", "speed", "page"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--methods", nargs="+", default=[], help="paths of tokens, or autoregressive")
    parser.add_argument(
        "--steps", type=int, help="of training; default 1,000 of 64 images, 4,000 of 32 windows"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "page":
        page()
    elif args.what == "speed":
        speed(rounds=7)
    elif args.what == "digits":
        for seed in args.seeds:
            digits(seed, tuple(args.methods), {"steps": args.steps or 1000, "batch": 64})
    else:
        for seed in args.seeds:
            text(seed, tuple(args.methods), {"steps": args.steps or 4000, "batch": 32})


if __name__ == "__main__":
    main()
