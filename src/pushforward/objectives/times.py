"""How training times are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import random
from .base import Step


def stratified_uniform(like: Tensor, step: Step) -> Tensor:
    """Times ``(B,)``, one in each of the global batch's equal strata: t_i = (i + U_i) / B.

    Every t_i is as good as uniform, since rows come in random order, and the mean loss varies less from
    batch to batch than with independent times.
    """
    count = len(like)
    start, total = step.rows or (0, count)
    u = random.uniform((count,), step.generator, like.dtype, like.device)
    return (torch.arange(start, start + count, dtype=like.dtype, device=like.device) + u) / total
