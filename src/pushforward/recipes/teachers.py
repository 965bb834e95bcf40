"""What flow maps learn from: the velocity of a trained flow, along the path of the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..fields import Field, Guidance, ScheduleChange
from ..flows import ContinuousFlow, Flow
from ..paths import Path
from ..sources import Normal
from ..tensors import Condition

#: Times at which two paths are compared.
TIMES = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)


class Within(nn.Module):
    """A field that is asked between two times only, and outside at the nearer of these.

    >>> Within(lambda t, x, condition: t * x, (0.1, 0.9))(torch.tensor(1.0), torch.ones(1, 1))
    tensor([[0.9000]])
    """

    def __init__(self, field: Field, interval: tuple[float, float]):
        super().__init__()
        self.field, self.interval = field, interval

    def forward(self, t: Tensor, x: Tensor, condition: Condition | None = None) -> Tensor:
        return self.field(t.clamp(*self.interval), x, condition)


def teach(teacher: Flow, path: Path, guidance: float | Guidance = 1.0) -> Flow:
    """The flow whose velocity a map along ``path`` learns: that of ``teacher``, under ``guidance``.

    Where the teacher has the distributions of another path, such as one that starts from data plus noise, its
    velocity is converted to ``path``, see :class:`~pushforward.fields.ScheduleChange`, and the flow starts
    from normal noise.  That is exact but for what the teacher does not know: where its path begins with more
    signal than ``path``, or ends with more noise.  Raises ValueError for a flow without a velocity, and for
    guidance that it does not take.

    >>> from pushforward.paths import Interpolant, Trigonometric
    >>> teacher = ContinuousFlow(lambda t, x: 0 * x, source=Normal(2), path=Interpolant(Trigonometric()))
    >>> x = torch.ones(1, 2)
    >>> teach(teacher, Interpolant()).velocity(torch.tensor(0.5), x)  # half the noise, of N(0, 1 / 2)
    tensor([[0., 0.]])
    """
    if teacher.guided:
        teacher = teacher.replace(guidance=guidance)
    elif guidance != 1:
        raise ValueError(f"a {type(teacher).__name__} takes no guidance")
    velocity = teacher.velocity
    old, interval = _marginals(teacher), getattr(teacher, "interval", (0.0, 1.0))
    moved = old is not None and not _equal(old, path)
    if not moved and interval == (0.0, 1.0):
        return teacher
    field: Field = Within(velocity, interval)
    source = teacher.source
    if moved:
        assert old is not None
        like = next((tensor for tensor in (*source.buffers(), *source.parameters())), torch.empty(0))
        field, source = ScheduleChange(field, old, path), Normal(teacher.event_shape).to(like)
    return ContinuousFlow(field, source=source, condition_shape=teacher.condition_shape, path=path)


def _marginals(teacher: Flow) -> Path | None:
    """The path whose distributions the teacher has, None where there is none."""
    try:
        return teacher.marginals
    except ValueError:
        return None


def _equal(one: Path, other: Path) -> bool:
    """Whether two paths have the same coefficients."""
    pairs = (
        (getattr(a, name), getattr(b, name))
        for a, b in [(path.coefficients(TIMES) for path in (one, other))]
        for name in ("alpha", "sigma", "gamma")
    )
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in pairs)
