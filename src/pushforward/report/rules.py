"""The rules of the headline: each is a function of numbers that returns a :class:`Cause` or None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy.stats import beta, norm

from .densities import Density
from .formatting import Value, number, pair, percent
from .headline import Cause
from .mass import Mass
from .measures import Judged, Line
from .validation import ValidationLoss

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


def few_rows(held_out: int) -> Cause | None:
    """Whether there are too few held-out rows to conclude anything."""
    if held_out >= ROWS:
        return None
    if held_out == 0:
        return Cause("rows", "no rows were held out, so overfitting cannot be seen")
    return Cause("rows", f"only {held_out} rows were held out, and a conclusion needs {ROWS}")


def unmeasured(compared: bool, left_out: Mapping[str, str]) -> Cause | None:
    """Whether samples could not be compared with held-out rows in any measure."""
    if compared:
        return None
    why = f" ({left_out['samples']})" if "samples" in left_out else ""
    return Cause("nothing", f"samples could not be compared with held-out rows{why}")


def wrong_mass(mass: Mass) -> Cause | None:
    """Whether the mass of the density is not 1, by 5 % and by four standard errors."""
    if not mass.reliable or abs(mass.value - 1) <= max(MASS, SPREADS * mass.error):
        return None
    way = "high" if mass.value > 1 else "low"
    text = (
        f"the mass of the density is {pair(Value(mass.value, mass.error))} instead of 1, so "
        f"log-densities are too {way} by about {number(abs(math.log(mass.value)), 2)} nats"
    )
    return Cause("mass", text)


def repeated(columns: Sequence[str], duplicates: int, rows: int) -> Cause | None:
    """Whether values or rows repeat so often that no log-density is bounded."""
    if columns:
        names = ", ".join(columns[:3]) + ", ..." * (len(columns) > 3)
        return Cause("repeats", f"log-densities mean little, because one value is repeated in {names}")
    if duplicates > REPEATS * rows:
        text = f"log-densities mean little, because {duplicates:,} of {rows:,} rows repeat others"
        return Cause("repeats", text)
    return None


def below(densities: Sequence[Density], names: Mapping[str, str]) -> Cause | None:
    """Whether a baseline gives held-out rows a higher log-density, by more than one standard error.

    Less than :data:`MATERIAL` must be three standard errors, and two fits of one Gaussian differ by trifles.
    Where a row has no density at all, no mean is comparable, and any baseline is better that has one.
    """
    if densities and densities[0].unlikely[0]:
        unlikely, rows = densities[0].unlikely
        return Cause("below", f"{unlikely:,} of {rows:,} held-out rows have density 0 under the model")
    above = [(d, d.lead.gain) for d in densities if d.lead is not None and _lost(d.lead.gain)]
    if not above:
        return None
    best, gain = max(above, key=lambda found: found[0].mean.value)
    behind = Value(-gain.value, gain.spread)
    text = (
        f"the mean log-density of held-out rows is {nats(behind)} nats lower than under the {names[best.key]}"
    )
    return Cause("below", text, behind.value > max(MATERIAL, DOUBTLESS * (gain.spread or 0.0)))


def nats(amount: Value) -> str:
    """An amount with its error, trifles to two places."""
    error = amount.spread or 0.0
    if max(abs(amount.value), error) < TRIFLE:
        return f"{abs(amount.value):.2f} ± {error:.2f}"
    return pair(amount)


def _lost(gain: Value) -> bool:
    """Whether a gain is a loss that matters, and more than noise."""
    loss, error = -gain.value, gain.spread or 0.0
    return loss > max(MATERIAL, ONE * error) or loss > max(TRIFLE, DOUBTLESS * error)


def overfitted(densities: Sequence[Density], names: Mapping[str, str], started: bool) -> Cause | None:
    """Whether training rows have a higher log-density than held-out rows, beyond what fitting explains.

    Any fitted density prefers its own rows, the more so the more numbers it has and the fewer rows.  So the
    gap must exceed noise, and that of a baseline too, by more than noise; and the difference must be larger
    than what the model gains on held-out rows, so that less than half of its advantage on training rows is
    real.  The baseline is the better one of the Gaussian and the mixture: kernels lie on training rows and
    have a wide gap by construction.  A flow that ``started`` from baselines may have the gap of any of them
    that it has not fallen behind.
    """
    found = [(d, d.lead) for d in densities[1:] if d.lead is not None]
    fitted = [each for each in found if not each[0].key.startswith("kernel")]
    if not fitted:
        return None
    gap = densities[0].gap
    other, lead = max(fitted, key=lambda each: each[0].mean.value)
    kept = [each for each in found if not _lost(each[1].gain)]
    if started and kept:
        other, lead = min([(other, lead), *kept], key=lambda each: each[1].excess.value)
    excess = lead.excess
    wide = gap.value > ERRORS * (gap.spread or 0.0) and excess.value > ERRORS * (excess.spread or 0.0)
    if not wide or excess.value <= max(MATERIAL, lead.gain.value):
        return None
    text = (
        f"the mean log-density of training rows is {pair(gap)} nats higher than that of held-out rows "
        f"({number(max(other.gap.value, 0.0), 2)} under the {names[other.key]})"
    )
    return Cause("gap", text)


def risen(loss: ValidationLoss | None) -> Cause | None:
    """Whether the weights that are kept come long after the validation loss was least."""
    if loss is None or not loss.risen:
        return None
    text = f"the validation loss was lowest at step {loss.best:,} and has risen since"
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
        f"{percent(share)} of the samples are nearer to a training row than 99 % of training rows are to "
        f"each other, compared with {percent(other)} of held-out rows"
    )
    return Cause("copies", text, share >= MOST)


def _bounds(count: int, total: int) -> tuple[float, float]:
    """What a share may be, :data:`ERRORS` standard errors down and up (Clopper & Pearson 1934)."""
    tail = float(norm.sf(ERRORS))
    low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return low, high


def _judged(line: Line) -> Judged:
    assert line.judged is not None
    return line.judged


def noise_of(line: Line, *others: str) -> float:
    """What a difference must exceed: four times the largest deviation over draws.

    Of measures whose spreads are standard errors, three standard errors.
    """
    spreads = [line.values[name].spread or 0.0 for name in ("model", "real", *others)]
    if _judged(line).by_error:
        return DOUBTLESS * math.hypot(*spreads)
    return SPREADS * max(*spreads, line.least_spread)


def beaten(line: Line, names: Mapping[str, str]) -> Cause | None:
    """Whether the draws of a baseline are nearer to held-out rows than the samples, beyond noise."""
    judged, mine = _judged(line), line.values["model"].value
    sign = 1 if line.measure.better == "low" else -1
    others = {key: value for key, value in line.values.items() if key in names}
    if judged.like_real:
        others["real"] = line.values["real"]
    if not others:
        return None
    key = min(others, key=lambda key: sign * others[key].value)
    noise = max(noise_of(line, key), SLIGHT * abs(others[key].value))
    if sign * (mine - others[key].value) <= noise:
        return None
    who = "real rows" if key == "real" else f"draws of the {names[key]}"
    best = line.measure.text(others[key].value)
    text = f"the {judged.name} is {line.measure.text(mine)} for the samples, and {best} for {who}"
    return Cause("beaten", text, sign * (mine - others[key].value) > 2 * noise)


def far(line: Line | None) -> Cause | None:
    """Whether samples are easily told from real rows."""
    if line is None:
        return None
    mine, real = line.values["model"].value, line.values["real"].value
    if mine < TOLD or mine - real <= noise_of(line):
        return None
    return Cause(
        "far", f"a classifier tells samples from held-out rows in {percent(mine)} of cases; 50 % is chance"
    )
