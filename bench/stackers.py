"""What stackers gain over the mean walk forward: fitted on earlier folds' predictions of rows that no member saw, and
judged on later folds. For ``bench.skill``.

In a fold the members are other artifacts than in the folds before, so a stacker is carried from former artifacts to new
ones. The first fold has none before it, so it is left out for all that is compared here. The other comparison is within
a fold: fitted on the first 60 % of its rows, with those of earlier folds or without, and judged on the rest.

Tries that are not shipped are here with the one that is: nine numbers a member, one number, other choices of the
penalty, each penalty, and regime terms (volatility, its ratio, hour, weekday, how far members differ), each as a bias
on *moves* and as a factor of the members' mean. A regime term is standardised by the first fold.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.harness import Figure
from bench.walk_forward import FOLDS, INTERVALS, LIBRARIES, SEED, SYMBOLS, Data, Floats, Fold, Ints, places
from shared.artifacts.scoring import Interval, block_interval, block_of, log_losses
from shared.training.fitting import HORIZON
from shared.tuning import stacking
from shared.tuning.stacking import PENALTIES, TO_LOGITS, Fitting, NoStackerError, TriedPenalty, terms_of

Chosen = NDArray[np.bool_]
Choice = Callable[[Fitting], Floats | None]
"""Returns the numbers of a stacker; None where there is none."""

LIGHTER: Final = (0.03, 0.01, 0.003)
"""Penalties that are not shipped."""
CUT: Final = 0.6
UNIT: Final = 0.2
"""The standard deviation of a regime term: about that of the members' evidence, since all have one penalty."""
REGIMES: Final[Mapping[str, tuple[str, ...]]] = {
    "volatility": ("log_sigma",),
    "ratio of volatilities": ("sigma_ratio_10",),
    "hour": ("minute_sin", "minute_cos"),
    "weekday": ("weekday_sin", "weekday_cos"),
}


class Stacked:
    """Rows of all folds with the pool (the mean of the members) and the terms of a stacker on top of it."""

    def __init__(self, rows: Fold, members: Sequence[str], interval_ms: int) -> None:
        self.rows = rows
        answers = [rows.answers[name] for name in members]
        self.pool = np.asarray(np.mean([each.p for each in answers], axis=0))
        self.offset = np.log(np.maximum(self.pool, 1e-9))
        self.evidence = np.stack([np.log(np.maximum(each.p, 1e-9)) - each.mean_log for each in answers], axis=1)
        self.terms = terms_of(self.evidence)
        self.end = rows.time + HORIZON * interval_ms
        self.later = rows.fold > 0

    def fitted(self, terms: Floats, choice: Choice, before: Ints, now: Ints) -> Floats:
        """Return the probabilities of the rows ``now`` from a fit on the rows ``before``; the pool's without one."""
        rounds = Fitting(self.offset, terms, self.rows.y, self.rows.symbol)
        numbers = choice(rounds.of(before))
        return self.pool[now] if numbers is None else stacking.stacked_probabilities(numbers, rounds.of(now))

    def carried(self, terms: Floats, choice: Choice) -> Floats:
        """Return the probabilities where each fold's stacker is fitted on the folds before it."""
        out = self.pool.copy()
        for number in range(1, FOLDS):
            now = np.flatnonzero(self.rows.fold == number)
            before = np.flatnonzero((self.rows.fold < number) & (self.end < self.rows.time[now].min()))
            out[now] = self.fitted(terms, choice, before, now)
        return out

    def within(self, choice: Choice, *, earlier: bool) -> tuple[Floats, Ints]:
        """Return the probabilities of the last 40 % of each fold from a fit on the first 60 %, and those rows.
        ``earlier``: whether the folds before it belong to the fit."""
        out, judged = self.pool.copy(), []
        for number in range(FOLDS):
            of_fold = np.flatnonzero(self.rows.fold == number)
            cut = self.rows.time[of_fold][int(CUT * len(of_fold))]
            now = of_fold[self.rows.time[of_fold] >= cut]
            first = 0 if earlier else number
            known = (self.rows.fold >= first) & (self.rows.fold <= number) & (self.end < cut)
            out[now] = self.fitted(self.terms, choice, np.flatnonzero(known), now)
            judged.append(now)
        return out, np.concatenate(judged)


def shipped(rounds: Fitting) -> Floats | None:
    """Choose as ``conclave vote propose --stacker`` does."""
    try:
        return stacking.chosen_fit(rounds).numbers
    except NoStackerError:
        return None


def lighter(rounds: Fitting) -> Floats | None:
    """Choose as ``shipped`` does, with lighter penalties among the tried ones."""
    tried = [each for each in stacking.tried_penalties(rounds, (*PENALTIES, *LIGHTER)) if each.least >= 0.0]
    best = max(tried, key=lambda each: each.certain, default=None)
    return None if best is None or best.certain <= 0.0 else stacking.fit(rounds, best.penalty)


def chosen_by(key: Callable[[TriedPenalty], float], least: Callable[[TriedPenalty], float]) -> Choice:
    """Return the choice of the penalty that is best by ``key``, where ``least`` of it is above zero."""

    def choice(rounds: Fitting) -> Floats | None:
        best = max(stacking.tried_penalties(rounds), key=key)
        return stacking.fit(rounds, best.penalty) if least(best) > 0.0 else None

    return choice


LARGEST: Final = chosen_by(lambda each: each.gain, lambda each: each.certain)
CHOICES: Final[Mapping[str, Choice]] = {
    "a symbol may lose": chosen_by(lambda each: each.certain, lambda each: each.certain),
    "largest gain": LARGEST,
    "lighter penalties too": lighter,
    "one standard error": chosen_by(lambda each: each.gain - each.error, lambda each: each.gain - each.error),
}
"""Choices that are not shipped."""


def fixed(penalty: float) -> Choice:
    """Return the choice of one penalty, whatever it gains."""
    return lambda rounds: stacking.fit(rounds, penalty)


def compared_stackers(rows: Fold, data: Data, members: Sequence[str], within: str) -> dict[str, Figure]:
    """Return the skill on later folds of the stacker, of the mean, of the members and of the libraries, and what each
    stacker gains over the mean."""
    made = Stacked(rows, members, INTERVALS[within])
    stacker = made.carried(made.terms, shipped)
    forecasts = {"stacker": stacker, "mean": made.pool} | {
        name: rows.answers[name].p for name in (*members, *LIBRARIES)
    }
    figures: dict[str, Figure] = {}
    base = log_losses(rows.prior, rows.y)
    for name, p in forecasts.items():
        gain = base - log_losses(p, rows.y)
        figures[f"{within} later folds, {name}"] = _figure(rows, gain, made.later)
        for number, symbol in enumerate(sorted(SYMBOLS)):
            of_symbol = made.later & (rows.symbol == number)
            figures[f"{within} later folds, {symbol}, {name}"] = _figure(rows, gain, of_symbol)

    def over(label: str, p: Floats, other: Floats, chosen: Ints | None = None, goal: str = "") -> None:
        kept = made.later if chosen is None else np.isin(np.arange(len(rows.y)), chosen)
        figures[f"{within} {label}"] = _figure(rows, log_losses(other, rows.y) - log_losses(p, rows.y), kept, goal)

    over("stacker over mean", stacker, made.pool, goal=">= 0")
    best = min([*members, *LIBRARIES], key=lambda name: float(log_losses(rows.answers[name].p, rows.y).mean()))
    over(f"stacker over the best ({best})", stacker, rows.answers[best].p)
    for number, symbol in enumerate(sorted(SYMBOLS)):
        of_symbol = np.flatnonzero(made.later & (rows.symbol == number))
        over(f"stacker over mean, {symbol}", stacker, made.pool, of_symbol, ">= 0")
    for label, choice in CHOICES.items():
        over(f"stacker, {label}, over mean", made.carried(made.terms, choice), made.pool)
    for label, terms in _forms(made.evidence).items():
        for way, choice in (("", shipped), (", largest gain", LARGEST)):
            over(f"stacker, {label}{way}, over mean", made.carried(terms, choice), made.pool)
    for penalty in (*PENALTIES, *LIGHTER):
        over(f"stacker, penalty {penalty:g}, over mean", made.carried(made.terms, fixed(penalty)), made.pool)
    for label, earlier in (("own rows", False), ("own rows and earlier folds", True)):
        p, judged = made.within(shipped, earlier=earlier)
        over(f"stacker within a fold, {label}, over mean", p, made.pool, judged)
    for label, terms in _regimes(made, data).items():
        p = made.carried(np.concatenate([made.terms, terms]), shipped)
        over(f"stacker with {label}, over the stacker", p, stacker)
    return figures


def _forms(evidence: Floats) -> dict[str, Floats]:
    """Return the terms of other forms of a stacker."""
    by_member = evidence.transpose(1, 0, 2)
    full = np.einsum("mnj,kc->mjknc", by_member, np.eye(3)).reshape(-1, len(evidence), 3)
    return {"nine numbers a member": full, "one number a member": np.ascontiguousarray(by_member)}


def _regimes(made: Stacked, data: Data) -> dict[str, Floats]:
    """Return the terms of each regime: a bias on *moves*, and a factor of the members' mean evidence on it."""
    at = np.searchsorted(places(data.newest.time, data.newest.symbol), places(made.rows.time, made.rows.symbol))
    newest = data.newest.windows[at, -1].astype(np.float64)
    columns = {label: [newest[:, data.trees.names.index(name)] for name in names] for label, names in REGIMES.items()}
    moves = made.evidence @ stacking.OF_EVIDENCE[0]
    columns["difference of members"] = [np.log(moves.std(axis=1) + 1e-3)]
    terms = {}
    for label, values in columns.items():
        units = np.stack([_standardised(value, made.rows.fold == 0) for value in values])
        terms[f"a bias by {label}"] = UNIT * units[:, :, None] * TO_LOGITS[0]
        terms[f"a factor by {label}"] = (units * moves.mean(axis=1))[:, :, None] * TO_LOGITS[0]
    return terms


def _standardised(values: Floats, known: Chosen) -> Floats:
    return np.asarray(np.clip((values - values[known].mean()) / values[known].std(), -4.0, 4.0))


def _figure(rows: Fold, gain: Floats, kept: Chosen, goal: str = "") -> Figure:
    """Return a mean gain (mnat) over some rows, with its interval and the mean of each fold."""
    found: Interval = block_interval(1000.0 * gain[kept], rows.time[kept], block_of(rows.time[kept], HORIZON), SEED)
    fold = rows.fold[kept]
    each = ", ".join(f"{1000.0 * float(gain[kept][fold == number].mean()):+.1f}" for number in np.unique(fold))
    about = f"[{found.low:+.2f}, {found.high:+.2f}]; folds {each}"
    return Figure(found.value, "mnat", goal, about)
