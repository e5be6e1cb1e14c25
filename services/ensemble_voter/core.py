"""Rounds: ballots in, decisions out. Pure; the package's docstring has the rules."""

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
from shared.runtime.service import Batch, Received
from shared.voting.decision import SILENT, Answer, ClosedBy, Round, Series, Voice, decide
from shared.voting.pool import Panel, panel_of

GROUP: Final = "ensemble-voter"
SUMS_WITHIN: Final = 1e-6
KEPT: Final = 64
"""Versions whose electorates are kept at hand."""


class Electorate(NamedTuple):
    """One version of the configuration, the panel that votes under it, and whose answers count or are recorded."""

    control: Control
    panel: Panel
    voices: frozenset[Voice]


class State(Struct):
    """Open rounds in the order of their opening, the last decided bar of each series, and every version of the
    configuration. ``decided`` has rows as the memo has them, which is written with every decision. ``reached``: the
    latest bar each voice answered, by series; it only saves looking again at rounds that are known to be answered.
    ``unswept``: whether rounds may be complete without another ballot (after a start). ``versions``: the
    configuration after each command; ``electorates``: who votes under the versions that were asked for. ``halted``:
    the fence of the partition is closed."""

    versions: list[Control]
    decided: dict[Series, tuple[str, int, int]]
    rounds: dict[tuple[str, int, int], Round]
    waiting: dict[Series, list[int]]
    reached: dict[Series, dict[Voice, int]]
    unswept: bool = True
    halted: bool = False
    electorates: dict[int, Electorate] = {}

    def under(self, version: int) -> "Electorate":
        """Who votes, and who is in shadow, under a stamp."""
        found = self.electorates.get(version)
        if found is None:
            control = self.versions[version - 1] if version else EMPTY
            panel = panel_of(control)
            voices = panel.shadows | {(member.model, member.artifact) for member in panel.members}
            while len(self.electorates) >= KEPT:
                del self.electorates[next(iter(self.electorates))]
            found = self.electorates[version] = Electorate(control, panel, voices)
        return found


class Voter:
    """The ensemble-voter as the runtime hosts it."""

    group = GROUP
    reads: tuple[str, ...] = ("predictions",)
    follows_control = True

    def __init__(self, ticks: int = 50) -> None:
        self.ticks = ticks

    def initial(self, memo: bytes) -> State:
        """Nothing open; the memo says which bars were decided."""
        rows: list[tuple[str, int, int]] = msgspec.msgpack.decode(memo, type=list[tuple[str, int, int]]) if memo else []
        return State([], {row[:2]: row for row in rows}, {}, {}, {})

    def snapshot(self, state: State) -> bytes:
        """The last decided bar of each series."""
        return msgspec.msgpack.encode(list(state.decided.values()))

    def replay_from(self, state: State) -> Mapping[str, str]:
        """Everything since the first ballot of the oldest open round must be read again."""
        for oldest in state.rounds.values():
            return {"predictions": preceding(oldest.entry)}
        return {}

    @property
    def recalls(self) -> tuple[str, ...]:
        """Its decisions: no bar is decided twice, whatever else is lost."""
        return ("decisions",)

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        """See ``shared.runtime.service.Recallable``: the last decided bar of each series."""
        decided = self.initial(memo).decided
        for received in written:
            event = received.envelope.event
            if isinstance(event, DecisionMade):
                series = (event.symbol, event.interval_ms)
                decided[series] = max(decided.get(series, (*series, 0)), (*series, event.open_time))
        return msgspec.msgpack.encode(list(decided.values()))

    def reapply(self, state: State, batch: Batch) -> None:
        """See ``shared.runtime.service.Recallable``."""
        self.apply(state, batch)

    def apply(self, state: State, batch: Batch) -> None:
        """Takes in commands and ballots; closes nothing."""
        _configure(state, batch)
        for received in batch.events:
            record(state, received.envelope, received.entry, batch.now)

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """Takes in commands, then ballots, then the time; closes what is complete or overdue."""
        outputs: list[Encoded] = []
        _configure(state, batch)
        if state.unswept:
            state.unswept = False
            for waiting in list(state.rounds.values()):
                _close_if_complete(state, waiting, batch.now, outputs)
        for received in batch.events:
            touched_rounds, refusal = record(state, received.envelope, received.entry, batch.now)
            if refusal is not None:
                outputs.append(refusal)
            for touched in touched_rounds:
                _close_if_complete(state, touched, batch.now, outputs)
        if batch.now is not None:
            _close_overdue(state, batch.now, outputs)
        return outputs


def _configure(state: State, batch: Batch) -> None:
    state.halted = batch.halted
    for envelope in batch.control:
        state.versions.append(fold(state.versions[-1] if state.versions else EMPTY, envelope.event))


def record(
    state: State, envelope: Envelope[PredictionEvent], entry: str, now: int | None
) -> tuple[Sequence[Round], Encoded | None]:
    """Notes one answer in its round, opening it if need be. Returns the rounds that know more now,
    oldest first, and what to write at once: a late ballot, or a dead letter for a second opinion."""
    event = envelope.event
    voice = (event.model, event.artifact.hex())
    series = (event.symbol, event.interval_ms)
    decided = state.decided.get(series)
    if decided is not None and event.open_time <= decided[2]:
        return (), _late(envelope, voice)
    current = state.rounds.get((*series, event.open_time))
    electorate = state.under(current.version if current else event.control_version)
    if not electorate.panel.members or voice not in electorate.voices:
        return (), None
    if current is None:
        current = _open(state, envelope, series, entry, now)
    known = current.answers.get(voice)
    if known is not None and known.event is not None:
        same = known.event == envelope.id.hex()
        return (), None if same else _second(envelope, entry, known)
    current.answers[voice] = _answer(envelope)
    passed = _pass_over(state, series, voice, event.open_time)
    return (*passed, current), None


def _open(state: State, envelope: Envelope[PredictionEvent], series: Series, entry: str, now: int | None) -> Round:
    event = envelope.event
    opened_at = now if event.origin == "live" else None
    opened = Round(
        series,
        event.open_time,
        event.origin,
        envelope.correlation,
        envelope.flags,
        entry,
        opened_at,
        {},
        event.control_version,
    )
    for voice, reached in state.reached.get(series, {}).items():
        if reached > event.open_time:
            opened.answers[voice] = Answer(None, None, SILENT)
    state.rounds[*series, event.open_time] = opened
    insort(state.waiting.setdefault(series, []), event.open_time)
    return opened


def _pass_over(state: State, series: Series, voice: Voice, open_time: int) -> list[Round]:
    """Who answers a later bar will not answer the ones before it: a worker goes in order."""
    reached = state.reached.setdefault(series, {})
    times = state.waiting[series]
    first = bisect_right(times, reached.get(voice, -1))
    passed = []
    for earlier in times[first : bisect_left(times, open_time)]:
        answers = state.rounds[*series, earlier].answers
        if voice not in answers:
            answers[voice] = Answer(None, None, SILENT)
            passed.append(state.rounds[*series, earlier])
    reached[voice] = max(open_time, reached.get(voice, -1))
    return passed


def _answer(envelope: Envelope[PredictionEvent]) -> Answer:
    match envelope.event:
        case PredictionMade(probabilities=p):
            total = p[0] + p[1] + p[2]
            if abs(total - 1) > SUMS_WITHIN:
                return Answer(envelope.id.hex(), None, f"probabilities sum to {total:.6g}")
            return Answer(envelope.id.hex(), p, "")
        case PredictionFailed(reason=reason, detail=detail):
            return Answer(envelope.id.hex(), None, f"{reason}: {detail}" if detail else reason)


def _late(envelope: Envelope[PredictionEvent], voice: Voice) -> Encoded:
    event = envelope.event
    late = BallotLate(
        event.symbol, event.interval_ms, event.open_time, event.origin, voice[0], voice[1], envelope.id.hex()
    )
    return encode("decisions", late, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)


def _second(envelope: Envelope[PredictionEvent], entry: str, first: Answer) -> Encoded:
    event = envelope.event
    letter = DeadLetter(
        GROUP,
        f"predictions@{entry}",
        "conflict",
        f"{event.model} answered {event.symbol} {event.open_time} twice; the first, {first.event}, counts",
        envelope.id.hex(),
    )
    return encode("dead", letter, causation=envelope.id, correlation=envelope.correlation)


def _close_if_complete(state: State, current: Round, now: int | None, outputs: list[Encoded]) -> None:
    panel = state.under(current.version).panel
    cause = _cause(panel, current)
    if panel.members and cause is not None:
        _close(state, current, cause, now, outputs)


def _cause(panel: Panel, current: Round) -> ClosedBy | None:
    """Why a round closes by what was answered: every member did, or has moved on; None while one may still answer."""
    closed_by: ClosedBy = "complete"
    for member in panel.members:
        answer = current.answers.get((member.model, member.artifact))
        if answer is None:
            return None
        if answer.event is None:
            closed_by = "superseded"
    return closed_by


def _close_overdue(state: State, now: int, outputs: list[Encoded]) -> None:
    """A live round waits until ``deadline_ms`` after the close of its bar. Where its first ballot came
    only after that (a backlog), it waits as long from there: everybody gets a chance to answer."""
    for current in _live(state.rounds.values()):
        panel = state.under(current.version).panel
        wait = panel.policy.deadline_ms
        deadline = current.open_time + current.series[1] + wait
        if (current.opened_at or 0) >= deadline:
            deadline = (current.opened_at or 0) + wait
        if now >= deadline and panel.members:
            _close(state, current, "deadline", now, outputs)


def _live(rounds: Iterable[Round]) -> list[Round]:
    return [current for current in rounds if current.origin == "live"]


def _close(state: State, current: Round, closed_by: ClosedBy, now: int | None, outputs: list[Encoded]) -> None:
    """Decides a round, and before it every older one of its series: bars are decided in order. An older round in which
    a member may still answer is closed by what closes the later one: its deadline, or that it is superseded by a
    round in which that member has no vote any more."""
    times = state.waiting.get(current.series, [])
    while times and times[0] <= current.open_time:
        open_time = times.pop(0)
        bar = (*current.series, open_time)
        closing = state.rounds.pop(bar)
        electorate = state.under(closing.version)
        cause = closed_by
        if closing is not current:
            forced: ClosedBy = "deadline" if closed_by == "deadline" else "superseded"
            cause = _cause(electorate.panel, closing) or forced
        state.decided[current.series] = bar
        outputs.extend(decide(electorate.control, electorate.panel, closing, cause, now, halted=state.halted))
    if not times:
        state.waiting.pop(current.series, None)
