"""What the baseline that a flow starts from loses by the noise with which the path of the flow ends."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ..data.dataset import sharp
from ..flows import ContinuousFlow
from .base import Stage

if TYPE_CHECKING:
    from .job import Job

#: Nats per row from which on the loss is counted: what smooth densities lose is far below.
COUNTED = 0.01


def lost_at_end(job: Job, stage: Stage, models: nn.ModuleDict, rows: int) -> Tensor | None:
    """Nats that the first validation rows lose under the baseline at the end of a flow, ``(rows,)`` float64.

    A diffusion ends with noise s on the data, and a field that starts in the closed form of a mixture p then
    has the density of alpha x + s n, x drawn from p, and not p itself.  For smooth densities that is the
    same; of values that are repeated, such as those of a column of whole numbers, p is sharper than s.

    None where the field starts at no mixture, and where the mean is below :data:`COUNTED`.
    """
    known = None if job.start.known is None else copy.deepcopy(job.start.known).double()
    if known is None:
        return None
    flow = cast(ContinuousFlow, stage.flow(models, job.dataset.schema, job.start))
    held = job.validation.take(torch.arange(min(rows, len(job.validation))))
    space = sharp(job.start.preprocess or job.dataset.preprocess)
    z = space.inverse_and_log_det(held.x, held.condition)[0].to(known.means)
    c = job.recipe.parts.path.coefficients(torch.tensor(flow.interval[1], dtype=torch.float64))
    blurred = known.convolved(float(c.alpha), float(c.noise_scale))
    lost = (known.log_prob(z) - blurred.log_prob(z)).cpu()
    return lost if float(lost.mean()) > COUNTED else None
