"""Flow maps: one network of two times, trained from data or from a teacher, for samples in a few steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..data import Schema
from ..entries import METHODS
from ..fields import AtWeight, LogDetHead, TwoTimes, WithLogDet, weight_spec
from ..flows import ConsistencyFlow, Exact, Flow, FlowMapFlow
from ..flows.shapes import condition_shape
from ..objectives import FlowMapMatching, LogDetMatching, MapLoss, MapObjective, Objective, Penalised
from ..objectives.flow_maps.forward_mode import without_derivatives
from ..paths import Path
from ..settings import spelt
from ..tensors import event_size
from .base import Stage
from .matching import MARGIN, Matching, MatchingStage
from .parts import Parts
from .teachers import teach

if TYPE_CHECKING:
    from .start import Start


#: Evaluations of a density by a head, and of a sample beside it, where no other number is asked for.
HEAD_STEPS = 8
#: Elements of an event up to which a head learns from determinants of leaps; above it from divergences, which
#: take as many derivatives and no matrices.
DETERMINANTS = 64


class FlowMaps(Matching):
    """Flow maps (Boffi et al. 2024, arXiv 2406.07507; Geng et al. 2025, arXiv 2505.13447)."""

    needs = (*Matching.needs, "loss")
    ignores = ("solver", "divergence", "weighting", "prediction", "around", "reflow", "distil")
    ranged = True
    takes = ("loss", "two_sided", "head", "volume", "curvature")

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.loss: MapLoss = parts.loss(MapLoss)
        #: a density runs from the data to the source
        self.two_sided = self.model.two_sided or self.model.head
        if self.two_sided and not self.loss.two_sided:
            flag = "--head" if self.model.head else "--two-sided"
            raise ValueError(f"{flag}: --loss {self.model.loss} leaps towards the data alone; leave it out")
        if self.loss.needs_two_sided and not self.two_sided:
            raise ValueError(f"--loss {self.model.loss}: leaps there and back; say --two-sided too")
        if self.loss.to_data and parts.weights is not None:
            raise ValueError(
                f"--guidance {self.model.guidance}: --loss {self.model.loss} takes one weight, from a teacher"
            )
        if self.loss.to_data and self.weight != 1:
            flag = f"--guidance {spelt(self.model.guidance)}"
            raise ValueError(f"{flag}: --loss {self.model.loss} takes it from a teacher alone")
        if self.loss.to_data and self.data.source is not None and isinstance(self.marginals, str):
            raise ValueError(f"--loss {self.model.loss}: takes independent normal noise; {self.marginals}")
        if self.loss.derivative and parts.compute.strategy == "fsdp":
            raise ValueError(
                f"--strategy fsdp: --loss {self.model.loss} takes forward-mode derivatives, which divided "
                f"weights do not have; take --loss {without_derivatives()}"
            )
        penalty = next((key for key in ("volume", "curvature") if getattr(self.model, key)), "")
        if penalty and self.loss.to_data:
            raise ValueError(f"--{penalty}: --loss {self.model.loss} leaps to the data alone; leave it out")
        derived = penalty or ("head" if self.model.head else "")
        if derived and parts.compute.strategy == "fsdp":
            raise ValueError(
                f"--strategy fsdp: --{derived} takes derivatives, which divided weights do not have"
            )
        if self.ends[0].target_scale != 0:
            raise ValueError(
                f"--path {self.model.path}: a flow map needs a path that starts from the source itself, "
                "such as linear or trig"
            )

    @property
    def weight(self) -> float:
        """The weight of guidance that is learnt from data; a teacher is guided by itself."""
        if self.model.teacher is not None or self.parts.weights is not None:
            return 1.0
        guidance = self.parts.guidance
        return float(guidance) if isinstance(guidance, int | float) else 1.0

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (MapStage(self),)

    @property
    def known_marginals(self) -> Path | str:
        """The path whose distributions its flow has, or why it is known to have none."""
        if self.model.guidance != 1:
            return "its velocity is guided, and not that of the path; train with --guidance 1"
        if self.model.teacher is not None:  # which may have those of another path, of none, or be guided
            return "it learnt the velocity of a teacher, and not that of the path; ask the teacher"
        return self.marginals

    def network_spec(self, schema: Schema) -> Any:
        spec = schema.network_spec
        return spec if self.parts.weights is None else weight_spec(spec)

    @classmethod
    def uses_teacher(cls, model: ModelConfig) -> bool:
        return True

    @classmethod
    def refuse(cls, parts: Parts) -> None:
        super().refuse(parts)
        parts.loss(MapLoss)
        model = parts.model
        if parts.weights is not None:
            return
        if model.teacher is None and not isinstance(parts.guidance, int | float):
            raise ValueError(
                f"--guidance {spelt(model.guidance)}: expected a weight, or a teacher (pushforward distil)"
            )

    def taught_by(self, teacher: Flow) -> Flow:
        try:
            guidance = 1.0 if self.parts.weights is not None else self.parts.guidance
            return teach(teacher.to(self.dtype), self.path, guidance)
        except ValueError as error:
            text = str(error).removeprefix("guidance: ")
            flag = f"--guidance {spelt(self.model.guidance)}" if "guidance" in str(error) else "--teacher"
            raise ValueError(f"{flag}: {text}") from None

    @classmethod
    def by_size(cls, schema: Schema, small: bool) -> dict[str, Any]:
        return {"times": "uniform"}

    @classmethod
    def label(cls, model: ModelConfig) -> str | None:
        plain = {"coupling": "independent", "path": "linear", "gamma": "0"}
        if all(getattr(model, key) == value for key, value in plain.items()):
            for name, method in METHODS.items():
                if method.defaults.get("loss") == model.loss:
                    return name
        return None


class MapStage(MatchingStage):
    """Training from data, and from the velocity of a teacher where there is one."""

    recipe: FlowMaps

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        network = self.recipe.network(schema, spans=True)
        if self._from_baseline:
            network.start_at_zero()
        if start.teacher is not None:
            inherit(network, start.teacher)
        models = nn.ModuleDict({"field": TwoTimes(network)})
        if self.recipe.model.head:
            head = self.recipe.network(schema, "head", spans=True)
            models["head"] = LogDetHead(head.start_at_zero() if self._from_baseline else head)
        return models.to(self.recipe.dtype)

    def objective(self, start: Start) -> Objective:
        recipe = self.recipe
        objective: MapObjective = FlowMapMatching(
            recipe.loss,
            recipe.path,
            recipe.times,
            None if start.teacher is None else start.teacher.velocity,
            recipe.model.drop_condition,
            recipe.two_sided,
            MARGIN,
            recipe.weight if recipe.parts.weights is None else recipe.parts.weights,
        )
        if recipe.model.volume or recipe.model.curvature:
            objective = Penalised(objective, recipe.model.volume, recipe.model.curvature)
        if not recipe.model.head:
            return objective
        assert start.initial is not None
        small = event_size(start.initial.event_shape) <= DETERMINANTS
        return LogDetMatching(objective, None if small else Exact())

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        assert start.initial is not None
        recipe = self.recipe
        shape = condition_shape(schema.network_spec)
        if recipe.loss.to_data:
            field, path = models["field"], recipe.path
            return ConsistencyFlow(field, start.initial, path=path, condition_shape=shape)
        open_start, open_end = recipe.path.open_ends
        field = WithLogDet(models["field"], models["head"]) if recipe.model.head else models["field"]
        flow = FlowMapFlow(
            field if recipe.parts.weights is None else AtWeight(field, recipe.parts.weights),
            start.initial,
            HEAD_STEPS if recipe.model.head else 1,
            two_sided=recipe.two_sided,
            condition_shape=shape,
            interval=(MARGIN * open_start, 1.0 - MARGIN * open_end),
            path=recipe.known_marginals,
        )
        return flow.replace(known_steps=recipe.loss.steps)


@torch.no_grad()
def inherit(network: nn.Module, teacher: Flow) -> None:
    """Start ``network`` from the weights of a teacher's, where these have the same names and sizes.

    A layer with more inputs takes what it shares, and its other inputs, the spans, count nothing at first.
    """
    field = getattr(teacher, "field", None)
    theirs = field.state_dict() if isinstance(field, nn.Module) else {}
    theirs |= {name.removeprefix("network."): value for name, value in theirs.items()}  # of a flow map
    for name, mine in network.state_dict().items():
        other = theirs.get(name)
        if isinstance(other, Tensor) and other.shape == mine.shape:
            mine.copy_(other)
        elif isinstance(other, Tensor) and other.ndim == 2 and mine.ndim == 2 and len(other) == len(mine):
            shared = other.shape[1]
            if shared < mine.shape[1]:
                mine[:, :shared].copy_(other)
                mine[:, shared:].zero_()
