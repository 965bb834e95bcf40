"""What the headline of a report says, from its numbers alone.

Every rule is a function of numbers that returns a :class:`Cause` or None; :func:`conclude` makes the headline
of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from scipy.stats import beta, norm

from .densities import Density
from .formatting import Value, number, pair, percent
from .lines import Line
from .mass import Mass
from .validation import Course

Kind = Literal[
    "good",
    "beaten",
    "overfits",
    "copies",
    "underfits",
    "below-baseline",
    "wrong-density",
    "undecided",
]

#: Fewest held-out rows that allow a conclusion.
ROWS = 20
#: Standard errors that count as more than noise, and that leave no doubt.
ERRORS, DOUBTLESS = 2.0, 3.0
#: Deviations over draws that count as more than noise for distances; few draws give them, hence so many.
SPREADS = 4.0
#: A little more than one standard error: what a single row far out makes of a mean is its standard error.
ONE = 1.1
#: Share of a distance below which a difference does not matter.
SLIGHT = 0.05
#: Share of rows that repeat others from which on log-densities say little.
REPEATS = 0.05
#: Nats a row from which on a difference of log-densities matters, and which must be beyond doubt to matter.
MATERIAL, TRIFLE = 0.05, 0.02
#: Share of samples on training rows from which on the model does nothing but copy.
MOST = 0.9
#: How far from 1 the mass of a density may be.
MASS = 0.05
#: Two-sample accuracy from which on samples are easily told from real rows.
TOLD = 0.75


@dataclass(frozen=True)
class Cause:
    """Why a model is not good: ``key`` of the rule, and a sentence.

    clear: whether it is more than a narrow miss.
    """

    key: Literal["mass", "rows", "nothing", "repeats", "below", "gap", "rise", "copies", "beaten", "far"]
    text: str
    clear: bool = True


@dataclass(frozen=True)
class Headline:
    """The headline: its kind, what it says, why, and a command that mends it (empty where there is none)."""

    kind: Kind
    sentence: str
    causes: list[Cause] = field(default_factory=list)
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        causes = [{"key": cause.key, "text": cause.text} for cause in self.causes]
        return {"kind": self.kind, "causes": causes, "command": self.command}


# -- the rules ---------------------------------------------------------------------------------------------


def few_rows(held_out: int) -> Cause | None:
    """Whether there are too few held-out rows to conclude anything."""
    if held_out >= ROWS:
        return None
    if held_out == 0:
        return Cause("rows", "no rows were held out, so that overfitting could not be seen")
    return Cause("rows", f"only {held_out} rows were held out, and a conclusion takes {ROWS}")


def unmeasured(compared: bool, left_out: Mapping[str, str]) -> Cause | None:
    """Whether samples could not be compared with held-out rows in any measure."""
    if compared:
        return None
    why = f" ({left_out['samples']})" if "samples" in left_out else ""
    return Cause("nothing", f"samples could not be compared with held-out rows{why}")


def wrong_mass(mass: Mass) -> Cause | None:
    """Whether the mass of the density is not 1, by 5 % and by four standard errors."""
    if not mass.told or abs(mass.value - 1) <= max(MASS, SPREADS * mass.error):
        return None
    way = "high" if mass.value > 1 else "low"
    text = (
        f"the mass of the density is {pair(Value(mass.value, mass.error))} instead of 1, so that "
        f"log-densities are too {way} by about {number(abs(math.log(mass.value)), 2)} nats"
    )
    return Cause("mass", text)


def repeated(columns: Sequence[str], duplicates: int, rows: int) -> Cause | None:
    """Whether values or rows repeat so often that no log-density is bounded."""
    if columns:
        names = ", ".join(columns[:3]) + ", ..." * (len(columns) > 3)
        return Cause("repeats", f"log-densities mean little, for one value is repeated in {names}")
    if duplicates > REPEATS * rows:
        text = f"log-densities mean little, for {duplicates:,} of {rows:,} rows repeat others"
        return Cause("repeats", text)
    return None


def below(densities: Sequence[Density], names: Mapping[str, str]) -> Cause | None:
    """Whether a baseline gives held-out rows a higher log-density, by more than one standard error.

    Less than :data:`MATERIAL` must be three standard errors, and two fits of one Gaussian differ by trifles.
    Where a row has no density at all, no mean is comparable, and any baseline is better that has one.
    """
    if densities and densities[0].unlikely:
        mine = densities[0]
        return Cause("below", f"{mine.unlikely:,} of {mine.rows:,} held-out rows have no density at all")
    above = [d for d in densities if d.gain is not None and _lost(-d.gain, d.gain_error or 0.0)]
    if not above:
        return None
    best = max(above, key=lambda d: d.mean)
    assert best.gain is not None
    amount = nats(-best.gain, best.gain_error)
    text = f"held-out rows have {amount} nats per row less than under the {names[best.key]}"
    return Cause("below", text, -best.gain > max(MATERIAL, DOUBTLESS * (best.gain_error or 0.0)))


def nats(value: float, error: float | None) -> str:
    """An amount with its error, trifles to two places."""
    if max(abs(value), error or 0.0) < TRIFLE:
        return f"{abs(value):.2f} ± {error or 0.0:.2f}"
    return pair(Value(value, error))


def _lost(amount: float, error: float) -> bool:
    return amount > max(MATERIAL, ONE * error) or amount > max(TRIFLE, DOUBTLESS * error)


def overfitted(densities: Sequence[Density], names: Mapping[str, str], started: bool) -> Cause | None:
    """Whether training rows have a higher log-density than held-out rows, beyond what fitting explains.

    Any fitted density prefers its own rows, the more so the more numbers it has and the fewer rows.  So the
    gap must exceed noise, and that of a baseline too, by more than noise; and the difference must be larger
    than what the model gains on held-out rows, so that less than half of its advantage on training rows is
    real.  The baseline is the better one of the Gaussian and the mixture: kernels sit on training rows and
    have a wide gap by construction.  A flow that ``started`` from baselines may have the gap of any of them
    that it has not fallen behind.
    """
    if not densities or densities[0].gap is None:
        return None
    gap = Value(densities[0].gap, densities[0].gap_error)
    fitted = [d for d in densities[1:] if d.excess is not None and not d.key.startswith("kernel")]
    if not fitted:
        return None
    other = max(fitted, key=lambda d: d.mean)
    kept = [d for d in densities[1:] if d.gain is not None and not _lost(-d.gain, d.gain_error or 0.0)]
    if started and kept:
        other = min([other, *kept], key=lambda d: math.inf if d.excess is None else d.excess)
    assert other.excess is not None and other.gain is not None
    noise = ERRORS * max(gap.spread or 0.0, 0.0)
    wide = gap.value > noise and other.excess > ERRORS * (other.excess_error or 0.0)
    if not wide or other.excess <= max(MATERIAL, other.gain):
        return None
    text = f"training rows have {pair(gap)} nats per row more than held-out rows"
    if other.gap is not None:
        text += f" (under the {names[other.key]} {number(max(other.gap, 0.0), 2)})"
    return Cause("gap", text)


def risen(course: Course | None) -> Cause | None:
    """Whether the weights that are kept come long after the validation loss was least."""
    if course is None or not course.risen:
        return None
    text = f"the validation loss was least at step {course.best:,} and has risen since"
    return Cause("rise", text)


def copied(
    near: int,
    samples: int,
    real_near: int,
    real: int,
    train: int,
    kernels: tuple[int, int] | None = None,
    beside: tuple[int, int] | None = None,
) -> Cause | None:
    """Whether more samples than real rows lie nearer to a training row than 1 % of training rows do.

    Beyond two standard errors of both shares, by their exact binomial bounds (a few held-out rows of which
    none is near say little), and beyond 1 % too, give or take what ``train`` rows leave open.

    kernels: how many draws of a kernel density are as near, and of how many, for a flow that started from
    such: it may be as near as they are, unless it does nothing but copy.
    beside: how many samples come as near to held-out rows, and to as many training rows.  Samples that
    spread too little come near to both; copies come near to training rows, at least twice as often.
    """
    low, high = _bounds(near, samples)[0], _bounds(real_near, real)[1]
    nominal = 0.01 + ERRORS * math.sqrt(0.01 * 0.99 / train)
    share, other = near / samples, real_near / real
    if kernels is not None and share < MOST:
        high = max(high, _bounds(*kernels)[1])
    if low <= max(high, nominal):
        return None
    if beside is not None and beside[1] <= 2 * beside[0]:
        return None
    text = (
        f"{percent(share)} of the samples lie nearer to a training row than 1 % of the training rows do, "
        f"of the held-out rows {percent(other)}"
    )
    return Cause("copies", text, share >= MOST)


def _bounds(count: int, total: int) -> tuple[float, float]:
    """What a share may be, :data:`ERRORS` standard errors down and up (Clopper & Pearson 1934)."""
    tail = float(norm.sf(ERRORS))
    low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return low, high


def noise_of(line: Line, *others: str) -> float:
    """What a difference of two draws must exceed: four times the largest deviation over draws.

    For shares of labels, which are taken once, three standard errors.
    """
    spreads = [line.values[name].spread or 0.0 for name in ("model", "real", *others)]
    if line.key == "label_accuracy":
        return DOUBTLESS * math.hypot(*spreads)
    return SPREADS * max(*spreads, line.least_spread)


def beaten(line: Line, names: Mapping[str, str]) -> Cause | None:
    """Whether the draws of a baseline are nearer to held-out rows than the samples, beyond noise.

    Classifier accuracy on samples is to be that on real rows.
    """
    mine, sign = line.values["model"].value, 1 if line.better == "low" else -1
    others = {key: value for key, value in line.values.items() if key in names}
    if line.key == "label_accuracy":
        others["real"] = line.values["real"]
    if not others:
        return None
    key = min(others, key=lambda key: sign * others[key].value)
    noise = max(noise_of(line, key), SLIGHT * abs(others[key].value))
    if sign * (mine - others[key].value) <= noise:
        return None
    who = "real rows" if key == "real" else f"draws of the {names[key]}"
    text = f"{line.short} {line.text(mine)}, {who} {line.text(others[key].value)}"
    return Cause("beaten", text, sign * (mine - others[key].value) > 2 * noise)


def far(line: Line | None) -> Cause | None:
    """Whether samples are easily told from real rows."""
    if line is None:
        return None
    mine, real = line.values["model"].value, line.values["real"].value
    if mine < TOLD or mine - real <= noise_of(line):
        return None
    return Cause(
        "far", f"a classifier tells samples from held-out rows in {percent(mine)} of cases, by chance 50 %"
    )


# -- the conclusion ----------------------------------------------------------------------------------------


def kind_of(causes: Sequence[Cause], course: Course | None = None) -> Kind:
    """The kind of the headline, from all causes and the course of the validation loss."""
    by_key = {cause.key: cause for cause in causes}
    if "mass" in by_key:
        return "wrong-density"
    if "nothing" in by_key:
        return "undecided"
    if "rows" in by_key or set(by_key) == {"repeats"}:
        return "undecided"
    if "copies" in by_key and by_key["copies"].clear:
        return "copies"
    if "gap" in by_key or "rise" in by_key:
        return "overfits"
    if "copies" in by_key:
        return "copies"
    # What neither overfits nor copies and is clearly worse has learnt too little, unless it had settled.
    clear = any(cause.clear for cause in causes if cause.key in ("below", "beaten"))
    worse = "below" in by_key or sum(cause.key == "beaten" for cause in causes) > 1
    if clear and worse and not (course is not None and course.settled):
        return "underfits"
    if "below" in by_key:
        return "below-baseline"
    return "beaten" if causes else "good"
