"""Read recorded rounds with their outcomes."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from schemas.common import ACTIONS, Probabilities
from schemas.decisions import DecisionMade
from schemas.scores import PredictionScored
from shared.audit.configurations import Configurations
from shared.audit.source import EntryRange, Recording
from shared.log import StreamKey
from shared.log.events import events_of, reported_elsewhere
from shared.voting.pool import Panel


class DecidedRound(NamedTuple):
    """A round that had a quorum, and its outcome. ``panel``: that of the configuration of the round. ``ends``: the last
    bar of the label (open time, ms). ``outcome`` is 0 SELL, 1 HOLD, 2 BUY; ``move`` the plain return over the horizon,
    ``cost`` that of entering and leaving."""

    symbol: str
    interval_ms: int
    open_time: int
    ends: int
    panel: Panel
    ballots: dict[str, Probabilities]
    outcome: int
    move: float
    cost: float


def recorded_rounds(source: Recording, configurations: Configurations, span: EntryRange) -> list[DecidedRound]:
    """Return the rounds of all partitions that have a score, in the order of their bars."""
    partitions = range(max(1, configurations.newest.partitions))
    rounds = [each for number in partitions for each in decided_rounds(source, configurations, number, span)]
    return sorted(rounds, key=lambda each: (each.open_time, each.symbol))


def decided_rounds(
    source: Recording, configurations: Configurations, partition: int, span: EntryRange
) -> Iterator[DecidedRound]:
    """Yield the rounds of a partition that have a score, in the order of their decisions."""
    scores: dict[str, PredictionScored] = {}
    for _, envelope in events_of(source.entries(StreamKey("scores", partition)), reported_elsewhere):
        event = envelope.event
        if isinstance(event, PredictionScored) and event.role == "voting" and event.decision is not None:
            scores.setdefault(event.decision.hex(), event)
    decisions = source.entries(StreamKey("decisions", partition), span.after, span.until)
    for _, envelope in events_of(decisions, reported_elsewhere):
        decision, score = envelope.event, scores.get(envelope.id.hex())
        if not isinstance(decision, DecisionMade) or score is None or decision.status != "decided":
            continue
        configuration = configurations.at(decision.control_version)
        if configuration is None:
            continue
        yield DecidedRound(
            symbol=decision.symbol,
            interval_ms=decision.interval_ms,
            open_time=decision.open_time,
            ends=score.ends,
            panel=configuration.panel,
            ballots={ballot.model: ballot.probabilities for ballot in decision.counted},
            outcome=ACTIONS.index(score.outcome),
            move=math.expm1(score.forward_return),
            cost=score.cost,
        )
