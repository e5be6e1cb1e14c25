"""Watch a newly promoted champion: compare it bar by bar with the former champion, which continues in shadow. Pure
folds.

- ``harm``: an e-CUSUM of the loss minus the former champion's, in purged blocks of at least two hours. At 20 it
  recommends a lower step of the ladder, at 100 a rollback.
- ``money``: the same of the return after costs, less than the former champion's. Only a voting policy is watched by it:
  two of them may have the same probabilities and act differently.
- ``catastrophe``: three consecutive blocks more than 0.10 nats worse than the class prior, with at least 300 rows.
- Checks of every row: ``unreadable`` output; among the last 200 predictions ``constant`` (all equal), ``distinct`` or
  ``range`` too small, ``one_sided`` (BUY, or SELL, 90 % or more), and too many ``failures``.

A correct model of low skill may give few distinct confidences in a narrow range: the defaults of ``GuardPolicy`` allow
for that. The details of findings are recorded in events, so their wording is fixed (``ghost``: the former champion;
``guard``: a check of this watch, not the service that reverts probations).
"""

import math
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from shared.gates import blocks, ecusum
from shared.gates.blocks import Blocks
from shared.gates.ecusum import Cusum
from shared.gates.evidence import FLOOR
from shared.gates.rows import Row

Stage = Literal["continue", "demote", "rollback"]
TWO_HOURS: Final = 2 * 3_600_000
GRID: Final = 1000
_ORDER: Final[dict[Stage, int]] = {"continue": 0, "demote": 1, "rollback": 2}
_HARM, _OVER_PRIOR, _MONEY = range(3)


class GuardPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """The thresholds.

    ``window`` is in predictions, ``catastrophe`` in nats, ``least_range`` in probability of the model's own action.
    ``most_stale_bars`` is how many bars the last prediction may be older than the market's newest bar."""

    demote_at: float = 20.0
    rollback_at: float = 100.0
    catastrophe: float = 0.10
    catastrophe_blocks: int = 3
    catastrophe_rows: int = 300
    window: Annotated[int, Meta(ge=20, le=10_000)] = 200
    least_distinct: int = 5
    least_range: float = 0.002
    most_one_side: float = 0.90
    most_failures: float = 0.10
    most_stale_bars: int = 50


DEFAULT_GUARD: Final = GuardPolicy()


class Finding(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The result of one check of the guard. ``samples`` is in blocks or rows."""

    guard: str
    stage: Stage
    value: float
    threshold: float
    samples: int
    detail: str = ""


class ChampionWatch(Struct, array_like=True, forbid_unknown_fields=True):
    """The state of one guarded champion.

    ``scale`` is three standard deviations of the block means of the loss difference in the backtest, ``money_scale``
    of the difference of returns; 0: these are not compared. ``recent`` is a
    ring buffer of the last predictions, each as action * 1024 + thousandth of its probability. ``missed`` is a ring
    buffer with 1 for a failure and 0 for a prediction. ``last`` is its newest bar, of any origin. ``bad_blocks`` counts
    consecutive blocks over the threshold of ``catastrophe``."""

    scale: float
    interval_ms: int
    blocks: Blocks
    window: int
    watch: Cusum = field(default_factory=Cusum)
    bad_blocks: int = 0
    bad_rows: int = 0
    block_rows: int = 0
    catastrophe: float = DEFAULT_GUARD.catastrophe
    recent: list[int] = field(default_factory=list)
    place: int = 0
    missed: list[int] = field(default_factory=list)
    missed_place: int = 0
    unreadable: int = 0
    answered: int = 0
    last: int = -1
    money_scale: float = 0.0
    money: Cusum = field(default_factory=Cusum)


def initial(
    *,
    horizon: int,
    interval_ms: int,
    scale: float = 0.05,
    policy: GuardPolicy = DEFAULT_GUARD,
    fewest: int = 20,
    money_scale: float = 0.0,
) -> ChampionWatch:
    """Start guarding. A block is two hours, or twice the horizon where that is longer."""
    bars = max(2 * horizon, math.ceil(TWO_HOURS / interval_ms))
    open_block = Blocks(bars * interval_ms, horizon * interval_ms, 3 if money_scale else 2, fewest)
    return ChampionWatch(
        scale, interval_ms, open_block, policy.window, catastrophe=policy.catastrophe, money_scale=money_scale
    )


def evolve(state: ChampionWatch, row: Row) -> ChampionWatch:
    """Add one scored prediction of the champion.

    ``row.champion`` is the prediction of the *former* champion for the same bar, None where it made none."""
    p, outcome = row.probabilities, row.outcome
    _ring(state.missed, state.missed_place, 0, state.window)
    state.missed_place += 1
    if not (0 <= outcome <= 2 and 0 <= row.action <= 2 and abs(p[0] + p[1] + p[2] - 1.0) <= 1e-6 and min(p) >= 0.0):
        state.unreadable += 1
        return state
    loss = -math.log(max(p[outcome], FLOOR))
    prior = -math.log(max(row.prior[outcome], FLOOR))
    harm = None if row.champion is None else loss + math.log(max(row.champion[outcome], FLOOR))
    values: tuple[float | None, ...] = (harm, loss - prior)
    if state.money_scale:
        values += (None if row.net is None or row.champion_net is None else row.champion_net - row.net,)
    means = blocks.add(state.blocks, row.open_time, values)
    if means is not None:
        _close(state, means)
    state.block_rows += 1
    state.answered += 1
    _ring(state.recent, state.place, row.action * 1024 + int(p[row.action] * GRID + 0.5), state.window)
    state.place += 1
    state.last = max(state.last, row.open_time)
    return state


def fail(state: ChampionWatch) -> ChampionWatch:
    """Count a prediction that was due and failed."""
    _ring(state.missed, state.missed_place, 1, state.window)
    state.missed_place += 1
    return state


def findings(
    state: ChampionWatch, policy: GuardPolicy = DEFAULT_GUARD, lag_ms: int | None = None
) -> tuple[Finding, ...]:
    """Return the result of every check at present. ``lag_ms``: from the champion's newest live bar to the market's;
    None while no live bar was scored, which alone can show a lag."""
    return (
        _harm("harm", state.watch, policy, "e-CUSUM of the loss over the ghost's"),
        *_money(state, policy),
        _catastrophe(state, policy),
        _finding("unreadable", state.unreadable > 0, state.unreadable, 0, state.answered + state.unreadable),
        *_window(state, policy),
        _failures(state, policy),
        *([] if lag_ms is None else [_stale(state, policy, lag_ms)]),
    )


def verdict(findings_now: tuple[Finding, ...]) -> Stage:
    """Return the most severe stage of the findings."""
    return max((one.stage for one in findings_now), key=_ORDER.__getitem__, default="continue")


def _close(state: ChampionWatch, means: blocks.Means) -> None:
    harm, over_prior = means[_HARM], means[_OVER_PRIOR]
    if harm is not None:
        ecusum.observe(state.watch, harm / state.scale)
    if state.money_scale and (earned := means[_MONEY]) is not None:
        ecusum.observe(state.money, earned / state.money_scale)
    if over_prior is not None:
        if over_prior > state.catastrophe:
            state.bad_blocks, state.bad_rows = state.bad_blocks + 1, state.bad_rows + state.block_rows
        else:
            state.bad_blocks = state.bad_rows = 0
        state.block_rows = 0


def _ring(ring: list[int], place: int, value: int, size: int) -> None:
    if len(ring) < size:
        ring.append(value)
    else:
        ring[place % size] = value


def _finding(name: str, bad: bool, value: float, line: float, samples: int, detail: str = "") -> Finding:
    return Finding(name, "rollback" if bad else "continue", float(value), float(line), samples, detail)


def _harm(name: str, watch: Cusum, policy: GuardPolicy, detail: str) -> Finding:
    value = watch.peak if watch.peak >= policy.rollback_at else watch.value
    stage: Stage = "rollback" if value >= policy.rollback_at else "demote" if value >= policy.demote_at else "continue"
    line = policy.rollback_at if stage == "rollback" else policy.demote_at
    return Finding(name, stage, value, line, watch.blocks, detail)


def _money(state: ChampionWatch, policy: GuardPolicy) -> list[Finding]:
    detail = "e-CUSUM of the former champion's return over its own"
    return [_harm("money", state.money, policy, detail)] if state.money_scale else []


def _catastrophe(state: ChampionWatch, policy: GuardPolicy) -> Finding:
    bad = state.bad_blocks >= policy.catastrophe_blocks and state.bad_rows >= policy.catastrophe_rows
    detail = f"blocks in a row over {state.catastrophe} nats worse than the prior, {state.bad_rows} rows"
    return _finding("catastrophe", bad, state.bad_blocks, policy.catastrophe_blocks, state.watch.blocks, detail)


def _window(state: ChampionWatch, policy: GuardPolicy) -> list[Finding]:
    recent = state.recent
    full = len(recent) >= state.window
    count = max(1, len(recent))
    distinct = len(set(recent))
    confidences = [code % 1024 for code in recent] or [0]
    width = (max(confidences) - min(confidences)) / GRID
    sides = [sum(code // 1024 == action for code in recent) / count for action in (0, 2)]
    one_side = max(sides)
    n = len(recent)
    return [
        _finding("constant", full and distinct == 1, distinct, 1, n, "different answers, rounded to 1e-3"),
        _finding("distinct", full and distinct < policy.least_distinct, distinct, policy.least_distinct, n),
        _finding("range", full and width < policy.least_range, width, policy.least_range, n, "of the confidence"),
        _finding("one_sided", full and one_side >= policy.most_one_side, one_side, policy.most_one_side, n),
    ]


def _failures(state: ChampionWatch, policy: GuardPolicy) -> Finding:
    asked = len(state.missed)
    share = sum(state.missed) / max(1, asked)
    bad = asked >= 20 and share > policy.most_failures
    return _finding("failures", bad, share, policy.most_failures, asked, "of the last predictions")


def _stale(state: ChampionWatch, policy: GuardPolicy, lag_ms: int) -> Finding:
    lag = lag_ms / state.interval_ms
    return _finding("stale", lag > policy.most_stale_bars, lag, policy.most_stale_bars, state.answered, "bars")
