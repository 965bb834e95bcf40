"""Guidance that is asked for when a run is sampled."""

from __future__ import annotations

from .. import registry
from ..fields import Guidance, as_guidance
from .open import Run

#: Guidance: a weight, a text such as ``zero-star,weight=2``, an object, or that of the run.
Asked = float | str | Guidance | None


def asked_guidance(run: Run, asked: float | str | Guidance) -> float | Guidance:
    """The guidance that is asked for.  Raises ValueError where the run takes none, or not this one."""
    if not isinstance(asked, str):
        made = asked
    elif registry.is_number(asked):
        made = float(asked)
    else:
        with registry.trusting((*run.trust, *registry.own_classes(asked))):
            made = registry.create("guidance", asked)
    compares = as_guidance(made, "--guidance").compares_absent
    if compares and run.schema.condition is None:
        raise ValueError("--guidance: this run was trained without a condition, which guidance needs")
    if not run.flow.flow.guided:
        raise ValueError(f"--guidance: a {type(run.flow.flow).__name__} takes none; leave it out")
    if compares and made != 1 and not run.config.model.drop_condition:
        raise ValueError(
            "--guidance: this run never hid its condition (--drop-condition 0), so it takes none"
        )
    return made
