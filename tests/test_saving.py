"""Flows in one file: what comes back is what was saved, and a file can do no harm."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pushforward import (
    MLP,
    Chain,
    ContinuousFlow,
    DiffusionFlow,
    Drift,
    Flow,
    FlowMapFlow,
    GaussianMixture,
    Interpolant,
    LatentFlow,
    Normal,
    Parameterised,
    ResidualMLP,
    Sigmoid,
    Transformed,
    UNet,
    VariancePreserving,
)
from pushforward.bijections import Affine, Inverse
from pushforward.fields import Straight, TwoTimes, latent_spec
from pushforward.files import SUM
from pushforward.flows import (
    VAE,
    ConsistencyFlow,
    DensityFlow,
    InvertibleFlow,
    glow,
    iaf,
    load_flow,
    maf,
    nice,
    nsf,
    nsf_ar,
    realnvp,
    residual,
    save,
    tarflow,
)
from pushforward.flows.saving import ENTRY
from pushforward.nn import PairEncoder
from pushforward.sources import LearntMixture


class Own(nn.Module):
    """A network of a user's."""

    def __init__(self):
        super().__init__()
        self.layer, self.power = nn.Linear(2, 2), 2

    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * t**self.power


FLOWS: dict[str, Callable[[], Flow]] = {
    "nsf": lambda: nsf(2),
    "nsf-ar": lambda: nsf_ar(2),
    "maf": lambda: maf(2),
    "iaf": lambda: iaf(2),
    "nice": lambda: nice(2),
    "realnvp": lambda: realnvp(2),
    "residual": lambda: residual(2, layers=2).eval(),
    "vae": lambda: VAE(2),
    "latent": lambda: LatentFlow(
        ContinuousFlow(MLP(2, latent_spec(None, 3)), source=Normal(2)),
        3,
        PairEncoder(2, 3),
        LearntMixture(3, 2),
        2,
    ),
    "glow": lambda: glow((1, 4, 4), steps=2),
    "tarflow": lambda: tarflow((1, 4, 4), blocks=2, width=16),
    "mlp": lambda: ContinuousFlow(MLP(2), source=Normal(2)),
    "resmlp": lambda: ContinuousFlow(ResidualMLP(2), source=GaussianMixture(torch.zeros(2, 2), 1.0)),
    "unet": lambda: ContinuousFlow(UNet((1, 4, 4), width=8), source=Normal((1, 4, 4))),
    "noise": lambda: ContinuousFlow(
        Parameterised(MLP(2), "noise", Interpolant(VariancePreserving())),
        source=Normal(2),
        interval=(0.01, 0.99),
    ),
    "stochastic": lambda: DiffusionFlow(Drift(MLP(2), MLP(2), 1.0), source=Normal(2)),
    "one-step": lambda: FlowMapFlow(Straight(MLP(2)), Normal(2)),
    "consistency": lambda: ConsistencyFlow(TwoTimes(MLP(2, spans=True)), Normal(2), 3),
    "flow map": lambda: FlowMapFlow(TwoTimes(UNet((1, 4, 4), width=8, spans=True)), Normal((1, 4, 4)), 2),
    "in units": lambda: Transformed(nsf(2).double(), Chain(Affine(0.0, 2.0), Sigmoid()), torch.float64),
}


@pytest.mark.parametrize("name", FLOWS)
def test_what_was_saved_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    flow, file = FLOWS[name](), tmp_path / "flow.safetensors"
    for p in flow.parameters():
        p.data.add_(0.01 * torch.randn_like(p))
    save(flow, file)
    again = load_flow(file)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in flow.parameters()]
    assert again.state_dict().keys() == flow.state_dict().keys()
    generators = [torch.Generator().manual_seed(1) for _ in range(4)]
    x = flow.sample(3, generator=generators[0])
    assert torch.equal(x, again.sample(3, generator=generators[1]))
    if flow.density != "none":
        assert isinstance(flow, DensityFlow) and isinstance(again, DensityFlow)
        assert torch.equal(
            flow.log_prob(x, generator=generators[2]), again.log_prob(x, generator=generators[3])
        )


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    field = MLP(2)
    first, second = field.layers[2], field.layers[4]
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    second.weight = first.weight
    save(ContinuousFlow(field, source=Normal(2)), tmp_path / "flow")
    state = load_flow(tmp_path / "flow").state_dict()
    assert state["field.layers.4.weight"].data_ptr() == state["field.layers.2.weight"].data_ptr()
    assert len(load_file(tmp_path / "flow")) == len(list(field.parameters())) + 2  # and the source's two


def test_own_modules_want_trust(tmp_path: Path) -> None:
    flow, file = ContinuousFlow(Own(), source=Normal(2)), tmp_path / "flow"
    save(flow, file)
    with pytest.raises(ValueError, match=r"needs the class Own .*trust=\[Own\]"):
        load_flow(file)
    x = torch.ones(2, 2)
    assert torch.equal(load_flow(file, trust=[Own]).push(x), flow.push(x))


def test_functions_are_refused_by_name(tmp_path: Path) -> None:
    flow = ContinuousFlow(lambda t, x, condition=None: x, source=Normal(2))
    with pytest.raises(ValueError, match=r"flow.field: expected modules, .* got function"):
        save(flow, tmp_path / "flow")
    assert not list(tmp_path.iterdir())


def edited(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    with safe_open(file, "pt") as opened:
        content = json.loads(opened.metadata()[ENTRY])
    del content[SUM]  # which would tell any change
    change(content)
    save_file(load_file(file), file, {ENTRY: json.dumps(content)})


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a class of another package": lambda c: c["objects"][0].update({"class": "subprocess:Popen"}),
    "a function": lambda c: c["objects"][0].update({"class": "torch.nn.modules.module:_addindent"}),
    "a module that runs": lambda c: c["objects"][0].update({"class": "pushforward.__main__:Run"}),
    "a borrowed class": lambda c: c["objects"][0].update({"class": "pushforward.flows.base:Path"}),
    "a method": lambda c: c["objects"][0]["attributes"].update({"push": 1}),
    "a hook": lambda c: c["objects"][0]["attributes"].update({"_forward_hooks": 1}),
    "a dunder": lambda c: c["objects"][0]["attributes"].update({"__class__": 1}),
    "a missing tensor": lambda c: c["objects"][0]["attributes"].update({"extra": {"tensor": "9999"}}),
    "a missing object": lambda c: c.update({"root": {"object": 10**6}}),
    "an unknown kind": lambda c: c.update({"root": {"call": "os.system"}}),
    "no format": lambda c: c.pop("format"),
    "a newer format": lambda c: c.update({"format": 99}),
    "no flow": lambda c: c.update({"root": 3}),
    "no objects": lambda c: c.update({"objects": 5}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_edited_file_is_one_line(name: str, tmp_path: Path) -> None:
    file = tmp_path / "flow"
    save(nice(2), file)
    edited(file, HOSTILE[name])
    with pytest.raises(ValueError, match=str(file)) as error:
        load_flow(file)
    assert "\n" not in str(error.value)


def test_a_file_written_before_modules_moved_is_read(tmp_path: Path) -> None:
    file, x = tmp_path / "flow", torch.rand(3, 2)
    flow = Transformed(nsf(2), Chain(Affine(1.0, 2.0), Inverse(Sigmoid(0.0, 16.0))))
    save(flow, file)
    loaded = load_flow(file)
    assert isinstance(loaded, InvertibleFlow)
    truth = loaded.log_prob(x)

    def older(content: dict[str, Any]) -> None:
        found = [entry["class"] for entry in content["objects"]]
        for entry in content["objects"]:
            entry["class"] = re.sub("bijections.(layers|preprocessing).", "bijections.", entry["class"])
        assert [entry["class"] for entry in content["objects"]] != found

    edited(file, older)
    loaded = load_flow(file)
    assert isinstance(loaded, InvertibleFlow) and torch.equal(loaded.log_prob(x), truth)


def test_a_file_cut_off_anywhere_is_one_line(tmp_path: Path) -> None:
    file, part = tmp_path / "flow", tmp_path / "part"
    save(nice(2, layers=2, width=4), file)
    whole = file.read_bytes()
    for size in [0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1]:
        part.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="expected a file that"):
            load_flow(part)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "flow"
    save(nice(2), file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="got function"):
        save(ContinuousFlow(lambda t, x, condition=None: x, source=Normal(2)), file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


class OneStep(Flow):
    """As version 0.1 before flow maps had it."""

    def __init__(self, field: nn.Module):
        super().__init__()
        self.field, self.source, self.condition_shape = field, Normal(2), ()

    def push(self, x0: Any, condition: Any = None, generator: Any = None) -> Any:
        return x0 + self.field(torch.zeros(()), x0)


def test_a_one_step_of_an_older_version_is_a_consistency_flow(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(OneStep, "__module__", "pushforward.flows.one_step")
    flow, x = OneStep(MLP(2)), torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    save(flow, tmp_path / "flow")
    again = load_flow(tmp_path / "flow")
    assert type(again).__name__ == "ConsistencyFlow" and torch.equal(again.push(x), flow.push(x))
    with pytest.raises(ValueError, match="steps: expected 1, for which the map was trained, got 2"):
        again.replace(steps=2)
