"""Flow matching along interpolants: coupling, path, prediction, and reflow and distillation after it."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from ..config import ModelConfig
from ..couplings import Coupling, MinibatchOT
from ..data import Schema
from ..entries import FLOWS
from ..fields import Around, BestLinear, Field, OfNormalData, Parameterised, Prediction, Scaled
from ..files import read_tensors, write_tensors
from ..flows import ContinuousFlow, Flow
from ..flows.shapes import condition_shape
from ..objectives import Batch, FlowMatching, Objective, Times
from ..oracles import GaussianMixtureOracle, OracleOutput
from ..paths import End, Path, check_rising
from ..random import seeded
from ..rows import Rows
from ..solvers import ODE, Problem, Solver
from ..training import Batches, Plans, pairs
from .base import NO_START, VALIDATION_ROWS, Recipe, Stage
from .parts import Parts
from .reflow import Distil, Reflow

if TYPE_CHECKING:
    from .job import Job
    from .start import Start

#: How far from t = 0 or t = 1 a flow stops where its prediction gives no velocity there.
MARGIN = 1e-3
#: Deviations of the noise where a path starts from data plus noise: less is no noise, and of data under more
#: single precision knows nothing.
LEAST_NOISE, MOST_NOISE = 1.0, 1e5


class Matching(Recipe):
    """Flow matching (Lipman et al. 2023, arXiv 2210.02747; Tong et al. 2024, arXiv 2302.00482)."""

    needs = ("network", "coupling", "path", "gamma", "prediction")
    #: what the solver of its flow may solve
    problems: ClassVar[tuple[type[Problem], ...]] = (ODE,)

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        assert parts.model.prediction is not None, "resolve the configuration first"
        self.prediction: Prediction = parts.model.prediction
        self.path, self.weighting = parts.path, parts.weighting
        self._ends = self.path.ends()
        #: whether pairs are planned
        self.looks = parts.coupling.looks
        self._check_path()
        self._check_noise()
        self.times = self._times()
        if self.data.source == "baseline" and not parts.given.starts_at_zero:
            raise ValueError(NO_START)

    @property
    def stages(self) -> tuple[Stage, ...]:
        model = self.model
        trained = () if model.teacher else (self.first,)
        rounds = (Reflow(self, number + 1) for number in range(model.reflow or 0))
        return (*trained, *rounds, *((Distil(self),) if model.distil else ()))

    @property
    def first(self) -> Stage:
        """The stage that is trained on data."""
        return MatchingStage(self)

    @cached_property
    def solver(self) -> Solver:
        """The solver of its flow.  Raises ValueError for one of a problem that the flow does not pose."""
        solver = self.parts.solver
        if solver.solves not in self.problems:
            raise ValueError(
                f"--solver {self.model.solver}: a run has densities by its solver too, one of an ODE; "
                f"leave it out, and say pushforward sample RUN --solver {self.model.solver}"
            )
        return solver

    @property
    def coupling(self) -> Coupling:
        return self.parts.coupling

    @property
    def ends(self) -> tuple[End, End]:
        return self._ends

    @property
    def normal_source(self) -> bool:
        return self.ends[0].target_scale != 0 or self.prediction != "velocity"

    @property
    def closed_forms(self) -> bool:
        return self.path.affine

    @property
    def marginals(self) -> Path | str:
        """The path whose distributions its trained field has, or why scores of that are not known."""
        data, model = self.data, self.model
        if not self.path.affine:
            return f"--path {model.path} is not affine"
        if self.looks:
            return (
                f"--coupling {model.coupling} makes noise depend on the data, so that -noise / sigma is not "
                "the score; train with --coupling independent"
            )
        if data.source != "normal" and not (data.source == "baseline" and self.normal_source):
            return f"--source {data.source} is not normal; train with --source normal"
        try:
            return check_rising(self.path)
        except ValueError as error:
            return str(error)

    def _check_path(self) -> None:
        """Raise ValueError for what only affine paths have."""
        if self.path.affine:
            return
        name = f"--path {self.model.path}"
        if self.prediction != "velocity":
            raise ValueError(
                f"--prediction {self.prediction}: {name} is not affine, and has velocities alone to predict"
            )
        if self.model.around == "normal":
            raise ValueError(f"--around normal: {name} is not affine, and has no closed form for normal data")
        if self.data.source == "baseline" and self.normal_source:
            raise ValueError(f"--source baseline: {name} is not affine, and has no closed forms to start at")

    def _check_noise(self) -> None:
        """Raise ValueError for a path from data plus noise, in units of the data, that leads nowhere."""
        first, last = self._ends
        if not first.target_scale:
            return
        start, stop = (end.source_scale / end.target_scale for end in (first, last))
        if not LEAST_NOISE <= start <= MOST_NOISE or stop >= LEAST_NOISE:
            raise ValueError(
                f"--path {self.model.path}: expected noise of {LEAST_NOISE:g} to {MOST_NOISE:g} deviations "
                f"of the data at t = 0, and below {LEAST_NOISE:g} at t = 1, got {start:.3g} and {stop:.3g}"
            )

    def _times(self) -> Times | None:
        """How training times are drawn along the path; None for uniform ones."""
        times = self.parts.times
        try:
            return None if times is None else times.along(self.path)
        except ValueError as error:
            raise ValueError(f"--times {self.model.times} and --path {self.model.path}: {error}") from None

    @classmethod
    def refuse(cls, parts: Parts) -> None:
        model, known = parts.model, ", ".join(FLOWS)
        if model.flow is not None:
            raise ValueError(
                f"--flow {model.flow}: goes with the methods {known}, got --method {model.method}"
            )
        if model.base is not None:
            raise ValueError(
                f"--base {model.base}: is for normalizing flows ({known}), got --method {model.method}, "
                "which starts from --source"
            )
        if model.teacher is not None and not cls.uses_teacher(model):
            raise ValueError(
                "--teacher: a teacher is for reflow and distillation; say --reflow 1 or --distil"
            )

    @classmethod
    def uses_teacher(cls, model: ModelConfig) -> bool:
        return bool(model.reflow or model.distil)

    @classmethod
    def adapted(cls, model: ModelConfig, schema: Schema, small: bool) -> ModelConfig:
        """A network of noise or scores learns the difference to what is right for normal data."""
        if model.around is not None or model.prediction not in ("noise", "score"):
            return model
        return dataclasses.replace(model, around="normal")

    def ode(
        self,
        field: Field,
        schema: Schema,
        start: Start,
        interval: tuple[float, float] = (0.0, 1.0),
        path: Path | str = "",
    ) -> ContinuousFlow:
        """The flow of a velocity field, with the marginals of ``path``, or why it has those of none."""
        assert start.initial is not None
        flow = ContinuousFlow(
            field,
            self.solver,
            start.initial,
            condition_shape=condition_shape(schema.network_spec),
            interval=interval,
            path=path,
            divergence=self.parts.divergence,
        )
        hides = schema.condition is not None and self.model.drop_condition > 0
        return flow.replace(knows_absent=hides, guidance=self.parts.guidance)


class MatchingStage(Stage):
    """Training from data along the path."""

    name, from_data = "train", True

    def __init__(self, recipe: Matching) -> None:
        self.recipe = recipe

    def models(self, schema: Schema, start: Start) -> nn.ModuleDict:
        recipe, path = self.recipe, self.recipe.path
        network = self._network(schema)
        # large noise would swamp a network that sees x as it is
        field = Scaled(network, path) if recipe.ends[0].target_scale != 0 and path.affine else network
        if start.known is not None:
            oracle = GaussianMixtureOracle(start.known, path)
            field = Around(OracleOutput(oracle, recipe.prediction), field)
        elif self._from_baseline and self._linear_known:
            field = Around(BestLinear(path), field)
        elif recipe.model.around == "normal":
            # errors of noise and scores grow by 1 / alpha, and where no data are a network knows nothing
            field = Around(OfNormalData(path, recipe.prediction), field)
        return nn.ModuleDict({"field": field}).to(recipe.dtype)

    def _network(self, schema: Schema, seed: str = "network") -> nn.Module:
        """A network that is nothing at first, where the flow starts from a baseline."""
        network = self.recipe.network(schema, seed)
        if self._from_baseline:
            network.start_at_zero()
        return network

    @property
    def _linear_known(self) -> bool:
        """Whether the best linear field is known, for independent pairs and finite slopes."""
        recipe, path = self.recipe, self.recipe.path
        return not recipe.looks and path.affine and path.open_ends == (False, False)

    @property
    def _from_baseline(self) -> bool:
        return self.recipe.data.source == "baseline"

    def objective(self, start: Start) -> Objective:
        recipe = self.recipe
        return FlowMatching(
            recipe.path,
            recipe.prediction,
            recipe.model.drop_condition,
            recipe.times,
            weighting=recipe.weighting,
        )

    def flow(self, models: nn.ModuleDict, schema: Schema, start: Start) -> Flow:
        kind, path = self.recipe.prediction, self.recipe.path
        if kind == "velocity":
            return self.recipe.ode(models["field"], schema, start, path=self.recipe.marginals)
        open_start, open_end = path.open_ends
        lo = MARGIN if kind in ("noise", "score") or open_start else 0.0
        hi = 1.0 - MARGIN if kind == "data" or open_end else 1.0
        field = Parameterised(models["field"], kind, path)
        return self.recipe.ode(field, schema, start, (lo, hi), self.recipe.marginals)

    def batches(self, job: Job, flow: Flow | None) -> tuple[Batches, Batch | None]:
        recipe, start = self.recipe, job.start.source
        assert start is not None
        rows = job.space().rows(job.dataset.train, recipe.seed)
        coupling = fitted(job, recipe.coupling, rows)
        if rows.condition is not None and coupling.looks and not coupling.keeps_condition:
            job.say(
                f"note: --coupling {recipe.model.coupling} ignores the condition, which biases it; see c2ot"
            )
        source = start if coupling.pairing is None or start.atoms is None else Rows(start.atoms)
        return job.pairs(source, coupling, recipe.optim.jitter), _held_out(job, coupling)


def _held_out(job: Job, coupling: Coupling) -> Batch | None:
    """Validation rows, paired."""
    scored, start = min(len(job.validation), VALIDATION_ROWS), job.start.source
    if not scored:
        return None
    # held-out rows are not among those that a coupling of whole data sets was fitted to
    held = MinibatchOT() if coupling.whole or coupling.pairing is not None else coupling
    plans = Plans(rows=scored, steps=1)
    seed, space = job.recipe.seed, job.space()
    batches = pairs(start, job.validation, held, size=scored, seed=seed, space=space, plans=plans)
    validation = batches(0)
    batches.close()
    return validation


def fitted(job: Job, coupling: Coupling, target: Rows) -> Coupling:
    """The coupling as fitted to the whole data; what it found is kept in the run folder for resuming."""
    start, generator = job.start.source, seeded(job.recipe.seed, "coupling")
    assert start is not None
    source = start if start.atoms is None else Rows(start.atoms)
    if not coupling.fits_long:
        return coupling.fit(source, target, generator)
    file = job.folder.path / "coupling.safetensors"
    if job.first and not file.exists():
        job.say(f"fitting the plan to all {len(target):,} rows")
        coupling = coupling.fit(start, target, generator)
        job.say(f"chi^2 {coupling.info['chi_square']:.3f} after {coupling.info['seconds']:.0f} s")
        write_tensors(file, coupling.state_dict())
    job.fabric.barrier()
    # also where it has just been fitted: numbers read back are those of a resumed run
    coupling.load_state_dict(read_tensors(file))
    return coupling
