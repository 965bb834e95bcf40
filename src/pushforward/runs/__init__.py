"""The run folder: what a training run leaves behind, and how it is read again.

``config.json`` (whole, re-runnable), ``data.json`` (the schema, the preprocessing and the source),
``source.safetensors`` (arrays of the source), ``choice.json`` and ``choice.safetensors`` (what
cross-validation chose), ``coupling.safetensors`` (what a coupling was fitted to), ``stages/`` (what earlier
stages of a run of several leave), ``metrics.jsonl``, ``model.safetensors`` and ``ema.safetensors``,
``state.safetensors`` (for resuming), ``run.json`` (how it ended), ``sampler.json`` (samplers of few
evaluations), ``run.lock`` (who trains it),
``report.html``, ``report.json``, ``figures/``.
"""

from .begin import KEPT_CONDITIONS, begin, check_data
from .folder import RunFolder, planned
from .layout import CONTENTS, FIGURE, clear, clear_report, remove_figures, tidy_run
from .numbers import REPORT, check_numbers, read_numbers
from .out import MAY_CHANGE, check_out

__all__ = [
    "CONTENTS",
    "FIGURE",
    "KEPT_CONDITIONS",
    "MAY_CHANGE",
    "REPORT",
    "RunFolder",
    "begin",
    "check_data",
    "check_numbers",
    "check_out",
    "clear",
    "clear_report",
    "planned",
    "read_numbers",
    "remove_figures",
    "tidy_run",
]
