"""The verdict: how near the model comes to held-out rows, compared with baselines and real rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from . import rules, sentences
from .evidence import Evidence, gather
from .headline import Cause, Headline, kind_of
from .loaded_run import LoadedRun
from .measures import Line, comparisons
from .remedy import remedy
from .validation import validation_loss


@dataclass(frozen=True)
class Verdict:
    """What a report concludes, and all that it rests on."""

    evidence: Evidence
    lines: list[Line]
    headline: Headline

    @property
    def sentence(self) -> str:
        """What the headline says."""
        return self.headline.sentence

    @property
    def sampled(self) -> bool:
        """Whether samples were compared with anything."""
        return self.evidence.memorisation is not None or any(line.judged for line in self.lines)

    @cached_property
    def beats(self) -> dict[str, list[str]]:
        """The measures in which the model is better, for every baseline that was drawn from."""
        return {
            key: [line.measure.key for line in self.lines if self._better(line, key)]
            for key in self.evidence.drawn
        }

    def _better(self, line: Line, key: str) -> bool:
        """Whether the model has the better number than a baseline."""
        if line.measure.better == "real" or key not in line.values:
            return False
        if line.measure.key == "log_density":
            density = self.evidence.densities.of(key)
            return density is not None and density.lead is not None and density.lead.gain.value > 0
        mine, other = line.values["model"].value, line.values[key].value
        return mine > other if line.measure.better == "high" else mine < other

    def line(self, key: str) -> Line | None:
        """The line of a measure, if it was taken."""
        return line_of(self.lines, key)


def line_of(lines: Sequence[Line], key: str) -> Line | None:
    """The line of a measure, if it is among ``lines``."""
    return next((line for line in lines if line.measure.key == key), None)


def judge(loaded: LoadedRun) -> Verdict:
    """Take every measure that applies to the run, and conclude; see :meth:`LeftOut.attempt`."""
    evidence = gather(loaded)
    applying = [each for each in comparisons(loaded.left_out) if each.when(loaded, evidence)]
    attempt = loaded.left_out.attempt
    found = [attempt(each.measure.label, None, each.line, loaded, evidence) for each in applying]
    lines = [line for line in found if line is not None]
    return Verdict(evidence, lines, conclude(loaded, evidence, lines))


def conclude(loaded: LoadedRun, evidence: Evidence, lines: list[Line]) -> Headline:
    """Apply every rule, and say what follows."""
    summary, densities = loaded.run.summary, evidence.densities
    near, names = evidence.memorisation, evidence.names
    # where values repeat, log-densities have no bound, and a comparison of them says nothing
    repeats = rules.repeated(densities.facts.get("atoms", []), loaded.schema.duplicates, loaded.total)
    wrong = None if evidence.mass is None else rules.wrong_mass(evidence.mass)
    sound = [] if repeats or wrong else densities.table
    judged = [line for line in lines if line.judged]
    ran = validation_loss(loaded.run)
    found: list[Cause | None] = [
        wrong,
        rules.few_rows(loaded.unseen),
        rules.unmeasured(bool(judged), loaded.left_out),
        repeats,
        rules.below(sound, names),
        rules.overfitted(sound, names, bool(summary.get("start"))),
        rules.risen(ran),
        near
        and rules.copied(
            *near.near("model"), *near.near("real"), len(near.train), evidence.kernels, near.beside
        ),
        *(rules.beaten(line, names) for line in judged),
        rules.far(line_of(lines, "two_sample_accuracy")),
    ]
    causes = [cause for cause in found if cause is not None]
    kind = kind_of(causes, ran)
    if kind == "good":
        text = sentences.praise(sound, evidence.best, lines, names, loaded.rows)
    else:
        text = sentences.sentence_of(kind, causes)
    if loaded.map is not None and sound:
        text = f"{text} {sentences.OF_VELOCITY}"
    more = sentences.learnt_beyond(summary)
    text = f"{text} {more}" if more else text
    return Headline(kind, text, causes, remedy(kind, loaded.run, ran))
