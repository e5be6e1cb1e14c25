"""The layer of ballots: each ballot that a decision names is the one on ``predictions``, and none that had
come was left out.

Predictions are read only as far as the decisions need, so what is held is the rounds that are open.
"""

from collections.abc import Iterator
from typing import Any, Final

from schemas.codec import Envelope
from schemas.decisions import CountedBallot, DecisionMade, ShadowBallot
from schemas.predictions import PredictionFailed, PredictionMade
from shared.audit.configurations import Configuration, Configurations
from shared.audit.findings import Findings, Layer
from shared.audit.source import Read, Source, Span, difference, order, readable
from shared.log import Place
from shared.rounds import Voice

APART_MS: Final = 60_000
"""How far the clocks behind the ids of two streams may be apart. Ids order one stream: of two, in the same
millisecond, the sequence says nothing, and a server's clock that was set back shows in one before the other."""


class Window:
    """Ballots that were read and whose round is not decided yet, so that a decision finds its own."""

    def __init__(self, predictions: Iterator[Read]) -> None:
        self._predictions = predictions
        self._events: dict[str, Envelope[Any]] = {}
        self._rounds: dict[tuple[str, int], dict[int, list[str]]] = {}
        self._ahead: Read | None = None
        self.decided: dict[tuple[str, int], int] = {}

    def find(self, event: str, moment: int) -> Envelope[Any] | None:
        """The prediction of this id, reading on until it comes; None where none came by about a ``moment`` (ms)."""
        while event not in self._events:
            read = self._ahead or next(self._predictions, None)
            self._ahead = None
            if read is None:
                return None
            if order(read.entry)[0] > moment + APART_MS:
                self._ahead = read
                return None
            self._keep(read.found.envelope)
        return self._events[event]

    def _keep(self, envelope: Envelope[Any]) -> None:
        event = envelope.event
        series = (event.symbol, event.interval_ms)
        name = envelope.id.hex()
        if event.open_time <= self.decided.get(series, -1):
            return
        self._events[name] = envelope
        self._rounds.setdefault(series, {}).setdefault(event.open_time, []).append(name)

    def close(self, decision: DecisionMade) -> list[Envelope[Any]]:
        """What had been read about a decision's bar, and forgets it and all before it."""
        series = (decision.symbol, decision.interval_ms)
        self.decided[series] = decision.open_time
        waiting = self._rounds.get(series, {})
        came = [self._events[name] for name in waiting.get(decision.open_time, ())]
        for open_time in [time for time in waiting if time <= decision.open_time]:
            for name in waiting.pop(open_time):
                del self._events[name]
        return came


def check_ballots(source: Source, configurations: Configurations, partition: int, span: Span) -> Findings:
    """Every ballot of every decision of a partition within ``span``."""
    findings = Findings()
    place = Place("decisions", partition)
    window = Window(_predictions(source, partition, span))
    for read in readable(source, place, "vote", Findings(), span):
        decision = read.found.envelope.event
        if read.found.fault or not isinstance(decision, DecisionMade):
            continue
        fault = _unfounded(window, decision, order(read.entry)[0])
        fault = _left_out(configurations, window.close(decision), decision) or fault
        if span.holds(read.entry):
            findings.see("ballots", equal=fault is None)
            if fault is not None:
                findings.differ(difference(fault[0], place, read.entry, read.found, fault[1]))
    return findings


def _predictions(source: Source, partition: int, span: Span) -> Iterator[Read]:
    """Predictions as they are; whether each is what it should be is another layer's question."""
    return readable(source, Place("predictions", partition), "ballot", Findings(), Span(span.until, span.until))


def _unfounded(window: Window, decision: DecisionMade, moment: int) -> tuple[Layer, str] | None:
    """A ballot in the decision that is not the one on ``predictions``."""
    named: tuple[CountedBallot | ShadowBallot, ...] = (*decision.counted, *decision.shadow)
    for ballot in named:
        found = window.find(ballot.event, moment)
        if found is None:
            return "ballot", f"{ballot.model}'s ballot {ballot.event[:12]} is not on predictions"
        event = found.event
        about = (ballot.model, ballot.artifact, decision.symbol, decision.interval_ms, decision.open_time)
        if not isinstance(event, PredictionMade) or event.probabilities != ballot.probabilities:
            return "vote", f"{ballot.model}'s ballot {ballot.event[:12]} says another thing on predictions"
        if about != (event.model, event.artifact.hex(), event.symbol, event.interval_ms, event.open_time):
            return "vote", f"{ballot.model}'s ballot {ballot.event[:12]} is about another bar or artifact"
    for absent in decision.absent:
        if absent.event is None:
            continue
        found = window.find(absent.event, moment)
        if found is None:
            return "ballot", f"{absent.model}'s failure {absent.event[:12]} is not on predictions"
        if isinstance(found.event, PredictionFailed) and not absent.reason.startswith(found.event.reason):
            return "vote", f"{absent.model} failed with {found.event.reason}; the decision says {absent.reason}"
    return None


def _left_out(
    configurations: Configurations, came: list[Envelope[Any]], decision: DecisionMade
) -> tuple[Layer, str] | None:
    """An answer that had come before the round closed, by one who was heard, and is not in the decision."""
    named = {ballot.event for ballot in decision.counted} | {ballot.event for ballot in decision.shadow}
    if len(came) == len(named):
        return None
    named |= {absent.event for absent in decision.absent if absent.event}
    spoken = {(each.model, each.artifact) for each in decision.counted}
    spoken |= {(each.model, each.artifact) for each in decision.shadow}
    spoken |= {(each.model, each.artifact) for each in decision.absent if each.event}
    for envelope in came:
        event = envelope.event
        voice = (event.model, event.artifact.hex())
        if envelope.id.hex() in named or voice in spoken or not isinstance(event, PredictionMade):
            continue
        versions = {max(event.control_version - 1, 1), event.control_version, decision.control_version}
        if all(_heard(configurations.at(version), voice) for version in versions):
            return "vote", f"{event.model}'s ballot {envelope.id.hex()[:12]} had come, and is left out"
    return None


def _heard(configuration: Configuration | None, voice: Voice) -> bool:
    if configuration is None:
        return False
    panel = configuration.panel
    return voice in panel.shadows or any((m.model, m.artifact) == voice for m in panel.members)
