"""Samplers of few evaluations that belong to a run, in its ``sampler.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import registry
from ..contents import FewSteps, Samplers
from ..entries import SOLVERS
from ..files import check_sum, checksum, summed, write_json
from ..flows import Transformed, Tuned, tune_sampler
from ..random import seeded
from ..runs import RunFolder
from ..settings import BOUNDS, spelt
from ..solvers import ODE, Gridded, Solver
from ..tensors import condition_to, event_size

if TYPE_CHECKING:
    from ..fields import Guidance
    from .asked import Asked
    from .open import Run

__all__ = ["few_steps", "kept", "tune", "tuned"]

#: The file in the run folder.
FILE = "sampler.json"
#: Numbers of an event up to which it is small, and pairs and iterations of the fit for small and large ones.
SMALL, FEW, MANY = 16, (512, 100), (128, 40)


def tune(run: Run, nfe: int, seed: int = 0) -> Tuned:
    """Find the sampler of ``run`` for ``nfe`` evaluations, and write it into the run folder beside others.

    See :func:`~pushforward.flows.tune_sampler`.  Raises ValueError as that does, and for a run whose
    ``sampler.json`` is damaged; where that is of other weights it is begun anew.
    """
    _check_field(run, str(run.path))
    condition = None
    if run.schema.condition is not None:
        condition = condition_to(RunFolder(run.path).conditions(), run.device)
    pairs, iterations = FEW if event_size(run.flow.core.event_shape) <= SMALL else MANY
    found = tune_sampler(
        run.flow,
        nfe,
        condition,
        pairs=pairs,
        iterations=iterations,
        generator=seeded(seed, "tune", device=run.device),
    )
    known, identity = _read(run), _identity(run)
    kept = known["samplers"] if known is not None and _fits(known, identity) else {}
    samplers = {**kept, str(nfe): {**_options(found.solver), "error": found.error}}
    write_json(run.path / FILE, summed({**identity, "samplers": samplers}))
    return found


def few_steps(run: Run, nfe: int, guidance: Asked = None) -> Transformed:
    """The flow of ``run`` that takes ``nfe`` evaluations for a draw.

    A flow map and jumps of tokens take as many equal steps; a velocity field is followed by the sampler that
    :func:`tune` has written.  Raises ValueError for fewer than one evaluation, and as :func:`tuned`.
    """
    BOUNDS["nfe"].check("--nfe", nfe)
    try:
        core = run.flow.core.in_evaluations(nfe)
    except ValueError as error:
        raise ValueError(f"--nfe {nfe}: {error}") from None
    if core is not None:
        return run.flow.replace(flow=core)
    return run.flow.following(tuned(run, nfe, guidance))


def tuned(run: Run, nfe: int, guidance: Asked = None) -> Solver:
    """The sampler for ``nfe`` evaluations that :func:`tune` has written.

    Raises ValueError where there is none, or it is of other weights or another ``guidance``.
    """
    _check_field(run, f"--nfe {nfe}")
    again = f"run pushforward tune {run.path} --nfe {nfe}"
    known = _read(run)
    if known is None or str(nfe) not in known["samplers"]:
        raise ValueError(f"--nfe {nfe}: {run.path} has no sampler of {nfe} evaluations; {again}")
    if not _fits(known, _identity(run)):
        raise ValueError(f"--nfe {nfe}: the sampler was fitted to other weights of {run.path}; {again}")
    if guidance is not None and _told(guidance) != spelt(known["guidance"]):
        fitted = f"the sampler was fitted to --guidance {spelt(known['guidance'])}"
        raise ValueError(f"--nfe {nfe}: {fitted}, got --guidance {_told(guidance)}")
    return _made(known["samplers"][str(nfe)], nfe, f"{run.path / FILE}: samplers: {nfe}")


def _told(guidance: float | str | Guidance) -> str:
    return spelt(guidance) if isinstance(guidance, int | float | str) else repr(guidance)


def kept(run: Run) -> dict[int, Solver]:
    """The samplers that are of the run's weights, by evaluations.  Raises ValueError as :func:`tuned`."""
    known = _read(run)
    if known is None or not _fits(known, _identity(run)):
        return {}
    return {int(nfe): tuned(run, int(nfe)) for nfe in known["samplers"]}


def _check_field(run: Run, where: str) -> None:
    """Raise ValueError, which says ``where``, for a flow that evaluates no field step by step."""
    if run.flow.core.in_evaluations(1) is not None:
        kind = type(run.flow.core).__name__
        raise ValueError(f"{where}: a {kind} takes steps of its own; sample --nfe needs nothing else")
    if run.flow.core.equation is not ODE:
        kind = type(run.flow.core).__name__
        raise ValueError(f"{where}: samplers of few evaluations follow a velocity field, got a {kind}")


def _made(entry: FewSteps, nfe: int, where: str) -> Solver:
    """The solver of an entry.  Raises ValueError, which says ``where``, for what makes none."""
    if entry["solver"] not in SOLVERS:  # a file never names classes of others
        got = registry.quoted(entry["solver"])
        raise ValueError(f"{where}: solver: expected the name of a solver of the library, got {got}")
    if entry["steps"] > nfe:
        raise ValueError(f"{where}: steps: expected at most {nfe}, got {entry['steps']}")
    options = {name: value for name, value in entry.items() if name not in ("solver", "error")}
    try:
        return registry.found("solver", entry["solver"])(**options)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from None


def _read(run: Run) -> Samplers | None:
    if not (run.path / FILE).exists():
        return None
    known = RunFolder(run.path).read(FILE, Samplers)
    check_sum(known, str(run.path / FILE))
    return known


def _identity(run: Run) -> dict[str, Any]:
    """The weights and the guidance that a sampler is of."""
    weights = {name: value.detach().cpu() for name, value in run.flow.core.state_dict().items()}
    return {"weights": checksum(weights, {}), "guidance": run.config.model.guidance}


def _fits(known: Samplers, identity: dict[str, Any]) -> bool:
    return known["weights"] == identity["weights"] and known["guidance"] == identity["guidance"]


def _options(solver: Gridded) -> dict[str, Any]:
    """What makes ``solver``: its name, and the options of its constructor."""
    name = next(name for name in SOLVERS if registry.found("solver", name) is type(solver))
    return {"solver": name, **solver.options}
