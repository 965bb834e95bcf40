"""The flow that is asked for when a run is used: its guidance, solver, noise or number of evaluations."""

from __future__ import annotations

from typing import Any

from .. import registry
from ..fields import Guidance, as_guidance
from ..flows import Transformed
from ..solvers import SDE, Solver
from .open import Run
from .samplers import few_steps

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


def adjusted(
    run: Run,
    guidance: Asked = None,
    solver: str | Solver | None = None,
    diffusion: str | None = None,
    nfe: int | None = None,
) -> Transformed:
    """The flow of ``run`` with another guidance, solver, noise or number of evaluations.

    Raises ValueError if it takes none.
    """
    changes: dict[str, Any] = {}
    if guidance is not None:
        changes["guidance"] = asked_guidance(run, guidance)
    if nfe is not None:
        if solver is not None or diffusion is not None:
            raise ValueError(f"--nfe {nfe}: has a solver of its own; leave out --solver and --diffusion")
        return few_steps(run, nfe, guidance).replace(**changes)
    flow, made = run.flow.replace(**changes), _made(run, "solver", solver)
    try:
        if diffusion is None:
            return flow if made is None else flow.following(made)
        if made is not None and made.solves is not SDE:
            raise ValueError(f"--diffusion: needs a stochastic solver such as euler-maruyama, got {solver}")
        if registry.is_number(diffusion):
            diffusion = f"constant,g={diffusion}"
        return flow.stochastic(_made(run, "diffusion", diffusion), made)
    except ValueError as error:
        where = f"--solver {solver}" if diffusion is None else f"--diffusion {diffusion}"
        text = str(error)
        raise ValueError(
            text if text.startswith("--") else f"{where}: {text.removeprefix('solver: ')}"
        ) from None


def _made(run: Run, kind: str, text: str | Solver | None) -> Any:
    """The component that a flag names, or that is given as it is; None where it is not given."""
    if not isinstance(text, str):
        return text
    with registry.trusting((*run.trust, *registry.own_classes(text))):
        return registry.create(kind, text)
