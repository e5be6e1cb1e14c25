"""Collect predictions in rounds and decide each round. Pure; the package's docstring has the rules."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from schemas.codec import Encoded, Envelope, encode
from schemas.decisions import BallotLate, DecisionMade
from schemas.operations import DeadLetter
from schemas.predictions import PredictionEvent, PredictionFailed, PredictionMade
from shared.control import EMPTY, fold
from shared.control import State as Control
from shared.log import preceding
from shared.log.leases import id_order
from shared.runtime.service import Batch, Received
from shared.voting.deadline import wait_ms
from shared.voting.decision import SILENT, ArtifactKey, Ballot, ClosedBy, Round, Series, decide
from shared.voting.pool import Panel, panel_of

GROUP: Final = "ensemble-voter"
SUMS_WITHIN: Final = 1e-6
CACHED: Final = 64
"""Number of versions whose electorates are cached."""
CLOCK: Final = ("", 0)
"""The row of the snapshot that has the clock of the partition. No symbol is empty, so it is no series; releases that do
not know it take it for one, and ignore it."""


class Electorate(NamedTuple):
    """One version of the configuration, its panel, and the artifacts whose predictions enter a round."""

    control: Control
    panel: Panel
    keys: frozenset[ArtifactKey]


class State(Struct):
    """The state of one partition.

    - ``versions``: the configuration after each command.
    - ``decided``: the last decided bar of each series, in the rows of the snapshot, which is written with every
      decision.
    - ``clock``: the newest ``decided_at`` of the partition, also in the snapshot. The time of a decision never falls
      below it, whichever process decides and however the server's clock is set.
    - ``rounds``: the open rounds, in the order of their opening. ``waiting``: their open times, by series.
    - ``reached``: the latest bar that each artifact predicted, by series. It only saves looking at rounds that are
      known to have its prediction.
    - ``unswept``: True after a start, until all rounds were checked: some may be complete without another prediction.
    - ``halted``: True where the fence of the partition is closed.
    - ``electorates``: a cache of the electorates that were asked for, by version."""

    versions: list[Control]
    decided: dict[Series, tuple[str, int, int]]
    rounds: dict[tuple[str, int, int], Round]
    waiting: dict[Series, list[int]]
    reached: dict[Series, dict[ArtifactKey, int]]
    unswept: bool = True
    halted: bool = False
    clock: int = 0
    electorates: dict[int, Electorate] = {}

    def electorate(self, version: int) -> "Electorate":
        """Return the electorate under a version."""
        electorate = self.electorates.get(version)
        if electorate is None:
            control = self.versions[version - 1] if version else EMPTY
            panel = panel_of(control)
            keys = panel.shadows | {(member.model, member.artifact) for member in panel.members}
            while len(self.electorates) >= CACHED:
                del self.electorates[next(iter(self.electorates))]
            electorate = self.electorates[version] = Electorate(control, panel, keys)
        return electorate


class Voter:
    """The ensemble-voter as the runtime hosts it."""

    group = GROUP
    reads: tuple[str, ...] = ("predictions",)
    follows_control = True

    def __init__(self, ticks: int = 50) -> None:
        self.ticks = ticks

    def initial(self, memo: bytes) -> State:
        """Return a state without open rounds; ``memo`` is a snapshot: the bars that were decided."""
        rows: list[tuple[str, int, int]] = msgspec.msgpack.decode(memo, type=list[tuple[str, int, int]]) if memo else []
        decided = {row[:2]: row for row in rows}
        clock = decided.pop(CLOCK, (*CLOCK, 0))[2]
        return State([], decided, {}, {}, {}, clock=clock)

    def snapshot(self, state: State) -> bytes:
        """Return the last decided bar of each series and the clock, encoded."""
        return _snapshot(state.decided, state.clock)

    def replay_from(self, state: State) -> Mapping[str, str]:
        """Return the position before the first ballot of the oldest open round, from which predictions must be read
        again."""
        for oldest in state.rounds.values():
            return {"predictions": preceding(oldest.entry)}
        return {}

    @property
    def recalls(self) -> tuple[str, ...]:
        """The stream that restores the snapshot: the service's own decisions, so that no bar is decided twice."""
        return ("decisions",)

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        """Return a snapshot with the decisions in ``written`` added. See ``shared.runtime.service.Recallable``."""
        state = self.initial(memo)
        decided, clock = state.decided, state.clock
        for received in written:
            event = received.envelope.event
            if isinstance(event, DecisionMade):
                series = (event.symbol, event.interval_ms)
                decided[series] = max(decided.get(series, (*series, 0)), (*series, event.open_time))
                clock = max(clock, event.decided_at or 0)
        return _snapshot(decided, clock)

    def reapply(self, state: State, batch: Batch) -> None:
        """Apply a batch again. See ``shared.runtime.service.Recallable``."""
        self.apply(state, batch)

    def apply(self, state: State, batch: Batch) -> None:
        """Apply commands and predictions to the state; close no round."""
        _configure(state, batch)
        for received in batch.events:
            record(state, received.envelope, received.entry, None)

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """Apply commands, then predictions, then the time; return the decisions of all rounds that are complete or
        overdue."""
        outputs: list[Encoded] = []
        _configure(state, batch)
        moment = _moment(state, batch)
        if state.unswept:
            state.unswept = False
            if moment is not None:
                _resume_waits(state, moment)
            for waiting in list(state.rounds.values()):
                _close_if_complete(state, waiting, moment, outputs)
        for received in batch.events:
            touched_rounds, refusal = record(state, received.envelope, received.entry, moment)
            if refusal is not None:
                outputs.append(refusal)
            for touched in touched_rounds:
                _close_if_complete(state, touched, moment, outputs)
        if moment is not None:
            _close_overdue(state, moment, outputs)
        return outputs


class Moment(NamedTuple):
    """The time of a batch: of the partition's clock, which never goes back, and of the steady clock (ms)."""

    at: int
    steady: int


def _moment(state: State, batch: Batch) -> Moment | None:
    """Return the time of a batch. Where the server's clock was set back, it is that of the last decision."""
    if batch.now is None:
        return None
    return Moment(max(batch.now, state.clock), batch.now if batch.steady is None else batch.steady)


def _snapshot(decided: Mapping[Series, tuple[str, int, int]], clock: int) -> bytes:
    rows = [*decided.values(), (*CLOCK, clock)] if clock else list(decided.values())
    return msgspec.msgpack.encode(rows)


def _resume_waits(state: State, moment: Moment) -> None:
    """Let the rounds that were restored wait on, from the time that the server gave to the entry of their first
    ballot."""
    for restored in _live(state.rounds.values()):
        if restored.opened_steady is None:
            restored.opened_at = min(id_order(restored.entry)[0], moment.at)
            restored.opened_steady = moment.steady - (moment.at - restored.opened_at)


def _configure(state: State, batch: Batch) -> None:
    state.halted = batch.halted
    for envelope in batch.control:
        state.versions.append(fold(state.versions[-1] if state.versions else EMPTY, envelope.event))


def record(
    state: State, envelope: Envelope[PredictionEvent], entry: str, moment: Moment | None
) -> tuple[Sequence[Round], Encoded | None]:
    """Record a prediction in its round, which is opened at ``moment`` if necessary.

    Return the rounds that changed, oldest first, and an event to write at once: a late ballot, or a dead letter for a
    second, different prediction of one artifact for one bar."""
    event = envelope.event
    key = (event.model, event.artifact.hex())
    series = (event.symbol, event.interval_ms)
    decided = state.decided.get(series)
    if decided is not None and event.open_time <= decided[2]:
        return (), _late(envelope, key)
    current = state.rounds.get((*series, event.open_time))
    electorate = state.electorate(current.version if current else event.control_version)
    if not electorate.panel.members or key not in electorate.keys:
        return (), None
    if current is None:
        current = _open(state, envelope, series, entry, moment)
    earlier = current.ballots.get(key)
    if earlier is not None and earlier.event is not None:
        same = earlier.event == envelope.id.hex()
        return (), None if same else _second(envelope, entry, earlier)
    current.ballots[key] = _ballot_of(envelope)
    passed = _pass_over(state, series, key, event.open_time)
    return (*passed, current), None


def _open(
    state: State, envelope: Envelope[PredictionEvent], series: Series, entry: str, moment: Moment | None
) -> Round:
    event = envelope.event
    now, steady = moment if moment is not None and event.origin == "live" else (None, None)
    opened = Round(
        series=series,
        open_time=event.open_time,
        origin=event.origin,
        correlation=envelope.correlation,
        flags=envelope.flags,
        entry=entry,
        opened_at=now,
        ballots={},
        version=event.control_version,
        opened_steady=steady,
    )
    for key, reached in state.reached.get(series, {}).items():
        if reached > event.open_time:
            opened.ballots[key] = Ballot(None, None, SILENT)
    state.rounds[*series, event.open_time] = opened
    insort(state.waiting.setdefault(series, []), event.open_time)
    return opened


def _pass_over(state: State, series: Series, key: ArtifactKey, open_time: int) -> list[Round]:
    """Record in each earlier round that the artifact did not predict its bar, and return those rounds.

    A worker predicts bars in order, so after a later bar no prediction for an earlier one follows."""
    reached = state.reached.setdefault(series, {})
    times = state.waiting[series]
    first = bisect_right(times, reached.get(key, -1))
    passed = []
    for open_time_before in times[first : bisect_left(times, open_time)]:
        ballots = state.rounds[*series, open_time_before].ballots
        if key not in ballots:
            ballots[key] = Ballot(None, None, SILENT)
            passed.append(state.rounds[*series, open_time_before])
    reached[key] = max(open_time, reached.get(key, -1))
    return passed


def _ballot_of(envelope: Envelope[PredictionEvent]) -> Ballot:
    match envelope.event:
        case PredictionMade(probabilities=p):
            total = p[0] + p[1] + p[2]
            if abs(total - 1) > SUMS_WITHIN:
                return Ballot(envelope.id.hex(), None, f"probabilities sum to {total:.6g}")
            return Ballot(envelope.id.hex(), p, "")
        case PredictionFailed(reason=reason, detail=detail):
            return Ballot(envelope.id.hex(), None, f"{reason}: {detail}" if detail else reason)


def _late(envelope: Envelope[PredictionEvent], key: ArtifactKey) -> Encoded:
    event = envelope.event
    late = BallotLate(
        symbol=event.symbol,
        interval_ms=event.interval_ms,
        open_time=event.open_time,
        origin=event.origin,
        model=key[0],
        artifact=key[1],
        event=envelope.id.hex(),
    )
    return encode("decisions", late, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)


def _second(envelope: Envelope[PredictionEvent], entry: str, first: Ballot) -> Encoded:
    event = envelope.event
    letter = DeadLetter(
        service=GROUP,
        source=f"predictions@{entry}",
        reason="conflict",
        detail=f"{event.model} answered {event.symbol} {event.open_time} twice; the first, {first.event}, counts",
        raw=envelope.id.hex(),
    )
    return encode("dead", letter, causation=envelope.id, correlation=envelope.correlation)


def _close_if_complete(state: State, current: Round, moment: Moment | None, outputs: list[Encoded]) -> None:
    panel = state.electorate(current.version).panel
    cause = _cause(panel, current)
    if panel.members and cause is not None:
        _close(state, current, cause, moment, outputs)


def _cause(panel: Panel, current: Round) -> ClosedBy | None:
    """Return why a round may close without the clock: every member has predicted the bar or a later one. None
    otherwise."""
    closed_by: ClosedBy = "complete"
    for member in panel.members:
        ballot = current.ballots.get((member.model, member.artifact))
        if ballot is None:
            return None
        if ballot.event is None:
            closed_by = "superseded"
    return closed_by


def _close_overdue(state: State, moment: Moment, outputs: list[Encoded]) -> None:
    """Close live rounds whose deadline has passed (``shared.voting.deadline``)."""
    for current in _live(state.rounds.values()):
        if current.opened_at is None or current.opened_steady is None:
            continue
        panel = state.electorate(current.version).panel
        wait = wait_ms(current.open_time + current.series[1], current.opened_at, panel.policy.deadline_ms)
        if moment.steady - current.opened_steady >= wait and panel.members:
            _close(state, current, "deadline", moment, outputs)


def _live(rounds: Iterable[Round]) -> list[Round]:
    return [current for current in rounds if current.origin == "live"]


def _close(state: State, current: Round, closed_by: ClosedBy, moment: Moment | None, outputs: list[Encoded]) -> None:
    """Decide a round, and before it every older round of its series: bars are decided in order.

    An older round in which a member may still predict closes for the same reason as the later one: ``deadline``, or
    ``superseded`` by a round in which that member has no vote."""
    times = state.waiting.get(current.series, [])
    while times and times[0] <= current.open_time:
        open_time = times.pop(0)
        bar = (*current.series, open_time)
        closing = state.rounds.pop(bar)
        electorate = state.electorate(closing.version)
        cause = closed_by
        if closing is not current:
            forced: ClosedBy = "deadline" if closed_by == "deadline" else "superseded"
            cause = _cause(electorate.panel, closing) or forced
        now = moment.at if moment is not None and closing.origin == "live" else None
        if moment is not None and cause == "deadline" and closing.opened_steady is not None:
            closing.waited_ms = max(moment.steady - closing.opened_steady, 0)
        state.decided[current.series] = bar
        state.clock = max(state.clock, now or 0)
        outputs.extend(decide(electorate.control, electorate.panel, closing, cause, now, halted=state.halted))
    if not times:
        state.waiting.pop(current.series, None)
