"""The loss that one optimiser minimises, as the forward of a module."""

from __future__ import annotations

from torch import Tensor, nn

from ..objectives import Batch, Loss, Objective, Step


class Work:
    """The input of a phase; opaque, so that wrappers pass it through unchanged."""

    __slots__ = ("batch", "step")

    def __init__(self, batch: Batch, step: Step):
        self.batch, self.step = batch, step


class Answer:
    """A loss on its way out of the wrapped module, opaque likewise."""

    __slots__ = ("loss",)

    def __init__(self, loss: Loss):
        self.loss = loss


class Phase(nn.Module):
    """A module whose forward is the loss, so that all network calls stay inside the wrapper."""

    def __init__(self, objective: Objective, models: nn.ModuleDict, names: tuple[str, ...]):
        super().__init__()
        self.trained = nn.ModuleDict({name: models[name] for name in names or models})
        self._everything = (objective, models)

    def forward(self, work: Work) -> tuple[Tensor, Answer]:
        objective, models = self._everything
        loss = objective.loss(models, work.batch, work.step)
        return loss.value, Answer(loss)
