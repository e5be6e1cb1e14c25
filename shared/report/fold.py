"""Fold scores into the data of a report: one series per artifact, in bounded memory.

A series is about one artifact in one role against one champion, like the evidence of the gates (``shared.gates``). When
the role or the champion changes, the series restarts, and earlier scores are only counted. E-values and calibration are
computed by the folds of the gates.
"""

import math
from typing import Final

from msgspec import Struct, field

from schemas.common import ACTIONS
from schemas.scores import (
    BallotMissing,
    InterferenceChecked,
    PredictionScored,
    PredictionUnscored,
    Role,
    ScoreEvent,
    TradeJoined,
)
from shared.gates import betting, classic, evidence
from shared.gates.classic import Tally
from shared.gates.evidence import CHAMPION, FLOOR, POOL, PRIOR, Evidence
from shared.gates.policy import DefaultPolicy
from shared.gates.rows import Key, Plan, Triple, row_of
from shared.labels.parts import gain_parts
from shared.report import acting
from shared.report.acting import ActingFold
from shared.report.timeline import Path, Timeline, add, follow

ROWS, SELL, HOLD, BUY, GAIN, COMPARED, CHAMPION_GAIN = range(7)
"""The sums in a span of the timeline: rows, actions, gain in log score over the prior (nats), rows with a champion,
gain over the champion."""
LONGEST_DETAIL: Final = 200


def _matrix() -> list[list[int]]:
    return [[0, 0, 0], [0, 0, 0], [0, 0, 0]]


def _no_gains() -> list[float]:
    return [0.0, 0.0, 0.0]


class ReportSeries(Struct, array_like=True, forbid_unknown_fields=True):
    """The scores of one artifact in one role against one champion. Sums are over scored rows; returns are fractions.

    - ``came``: counts by [action of the artifact][outcome].
    - ``decided``: counts by [action of the artifact][action of the decision].
    - ``earlier``: the number of scores in another role or against another champion.
    - ``unscored``: rows without a score, by reason. ``details``: the newest detail of each reason.
    - ``losses``: log loss of the artifact and of the class prior.
    - ``gains``: gain in log score over the class prior, over the champion, and of the ensemble by the artifact.
    - ``moves``: the part of each gain that is about moves (``shared.labels.parts``). It has no default, so that a file
      of a release without it is not read, and the streams are folded again."""

    model: str
    artifact: str
    role: Role
    champion: str | None
    moves: list[float]
    evidence: Evidence
    tally: Tally
    timeline: Timeline
    path: Path = field(default_factory=Path)
    rows: int = 0
    late: int = 0
    earlier: int = 0
    hits: int = 0
    losses: list[float] = field(default_factory=lambda: [0.0, 0.0])
    brier: float = 0.0
    signed_return: float = 0.0
    gains: list[float] = field(default_factory=_no_gains)
    compared: int = 0
    came: list[list[int]] = field(default_factory=_matrix)
    decided: list[list[int]] = field(default_factory=_matrix)
    origins: dict[str, int] = field(default_factory=dict)
    unscored: dict[str, int] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    missing: int = 0
    first_version: int = 0
    version: int = 0
    since: int = 0
    until: int = 0


class Trades(Struct, array_like=True, forbid_unknown_fields=True):
    """The numbers of closed trades with and without a known decision, and the sum of their net returns."""

    joined: int = 0
    alone: int = 0
    net: float = 0.0


class Shadows(Struct, array_like=True, forbid_unknown_fields=True):
    """The state of the fold. ``checked``: (decisions checked, decisions equal) by partition. ``unequal``: the ids of
    the first decisions that are not equal. ``model``: fold only this model; None: all. ``acting``: how often the
    ensemble acts."""

    policy: DefaultPolicy
    model: str | None = None
    series: dict[str, ReportSeries] = field(default_factory=dict)
    checked: dict[int, tuple[int, int]] = field(default_factory=dict)
    unequal: list[str] = field(default_factory=list)
    trades: Trades = field(default_factory=Trades)
    unreadable: int = 0
    acting: ActingFold = field(default_factory=ActingFold)


def evolve(state: Shadows, event: ScoreEvent, partition: int = 0) -> Shadows:
    """Fold the next event of ``scores``, in place and with constant work."""
    match event:
        case InterferenceChecked():
            state.checked[partition] = (event.checked, event.equal_so_far)
            if not event.equal and len(state.unequal) < 5:
                state.unequal.append(event.decision.hex())
        case TradeJoined():
            trades = state.trades
            trades.joined += event.joined
            trades.alone += not event.joined
            trades.net += event.net
        case PredictionScored() if state.model in {None, event.model}:
            acting.evolve(state.acting, event)
            series = _series_of(state, event)
            if series is not None:
                _score(series, event)
        case PredictionUnscored() | BallotMissing() if state.model in {None, event.model}:
            _unscored(state, event)
        case _:
            pass
    return state


def _series_of(state: Shadows, event: PredictionScored) -> ReportSeries | None:
    """Return the series of an event, a new one if the event is its first; None if its series has ended."""
    name = f"{event.model} {event.artifact.hex()}"
    champion = event.incumbent_artifact.hex() if event.incumbent_artifact else None
    series = state.series.get(name)
    earlier = 0
    if series is not None and series.rows:
        same = champion is None or series.champion is None or champion == series.champion
        if same and event.role == series.role:
            series.champion = series.champion or champion
            return series
        if event.control_version <= series.version:
            series.earlier += 1
            return None
        earlier = series.earlier + series.rows
    started = _started(state.policy, event, champion)
    started.earlier = earlier
    if series is not None:
        started.unscored, started.details, started.missing = series.unscored, series.details, series.missing
    state.series[name] = started
    return started


def _started(policy: DefaultPolicy, event: PredictionScored, champion: str | None) -> ReportSeries:
    artifact = event.artifact.hex()
    key = Key(event.model, artifact, champion or "", "", "", "")
    plan = Plan(key, event.horizon, event.interval_ms)
    return ReportSeries(
        event.model,
        artifact,
        event.role,
        champion,
        _no_gains(),
        evidence.initial(plan, policy.margin, block_of(policy, event)),
        classic.initial(),
        Timeline(event.interval_ms),
        first_version=event.control_version,
        since=event.open_time,
    )


def _score(series: ReportSeries, event: PredictionScored) -> None:
    row = row_of(event)
    blocks = series.evidence.bets[PRIOR].blocks
    evidence.evolve(series.evidence, row)
    classic.evolve(series.tally, row)
    prior = cut_loss(event.prior, row.outcome)
    gain = prior - cut_loss(event.probabilities, row.outcome)
    champion = 0.0
    if event.incumbent is not None:
        champion = gain - (prior - cut_loss(event.incumbent, row.outcome))
    pool = cut_loss(event.pool_without, row.outcome) - cut_loss(event.pool_with, row.outcome)
    acted = [0.0, 0.0, 0.0]
    acted[row.action] = 1.0
    add(series.timeline, event.open_time, (1.0, *acted, gain, float(event.incumbent is not None), champion))
    if series.evidence.bets[PRIOR].blocks != blocks:
        wealth = tuple(betting.log_e(series.evidence.bets[j]) for j in (PRIOR, CHAMPION, POOL))
        follow(series.path, event.open_time, wealth)
    _count(series, event)
    series.gains[0] += gain
    series.gains[1] += champion
    series.gains[2] += pool
    _add_moves(series, event, row.outcome)
    series.compared += event.incumbent is not None
    series.came[row.action][row.outcome] += 1
    if 0 <= row.ensemble <= 2:
        series.decided[row.action][row.ensemble] += 1


def _add_moves(series: ReportSeries, event: PredictionScored, outcome: int) -> None:
    """Add what the gains are about moves. The rest of each is about direction."""
    predicted = event.probabilities
    pairs = ((predicted, event.prior), (predicted, event.incumbent), (event.pool_with, event.pool_without))
    for number, (one, base) in enumerate(pairs):
        if base is not None:
            series.moves[number] += gain_parts(one, base, outcome, FLOOR).moves


def _count(series: ReportSeries, event: PredictionScored) -> None:
    series.rows += 1
    series.late += event.late
    series.hits += event.hit
    series.losses[0] += event.log_loss
    series.losses[1] -= math.log(max(event.prior[ACTIONS.index(event.outcome)], 1e-9))
    series.brier += event.brier
    series.signed_return += event.signed_return
    series.origins[event.origin] = series.origins.get(event.origin, 0) + 1
    series.version = max(series.version, event.control_version)
    series.since = min(series.since, event.open_time)
    series.until = max(series.until, event.open_time)


def _unscored(state: Shadows, event: PredictionUnscored | BallotMissing) -> None:
    series = state.series.get(f"{event.model} {event.artifact.hex()}")
    if series is None:
        series = state.series[f"{event.model} {event.artifact.hex()}"] = _silent(state.policy, event)
    if isinstance(event, BallotMissing):
        series.missing += 1
        return
    series.unscored[event.reason] = series.unscored.get(event.reason, 0) + 1
    series.details[event.reason] = event.detail[:LONGEST_DETAIL]


def _silent(policy: DefaultPolicy, event: PredictionUnscored | BallotMissing) -> ReportSeries:
    """Return a series without scores. Its horizon is known only from the first score."""
    artifact = event.artifact.hex()
    plan = Plan(Key(event.model, artifact, "", "", "", ""), 1, event.interval_ms)
    empty = evidence.initial(plan, policy.margin)
    timeline = Timeline(event.interval_ms)
    return ReportSeries(
        event.model, artifact, event.role, None, _no_gains(), empty, classic.initial(), timeline, since=event.open_time
    )


def block_of(policy: DefaultPolicy, event: PredictionScored) -> int:
    """Return the block length (ms) of the policy if it is a whole number of bars and longer than the label; otherwise
    0, for the default of the fold."""
    valid = policy.block_ms % event.interval_ms == 0 and policy.block_ms > event.horizon * event.interval_ms
    return policy.block_ms if valid else 0


def cut_loss(probabilities: Triple, outcome: int) -> float:
    """Return the log loss (nats). Probabilities below 0.01 count as 0.01, as in the gates."""
    return -math.log(max(probabilities[outcome], FLOOR))
