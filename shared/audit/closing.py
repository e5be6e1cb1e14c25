"""Was each round closed when it says, and is every prediction accounted for?

The voter reads predictions in order and writes what follows in order. So what a decision names shows how far the
voter had read by then, at least: whatever stands before that on ``predictions`` was in the round, and must be in
the decision; a round that had every answer by then must have been decided by then; an answer that was read after the
decision of its bar must be recorded as late by then. No clock is needed for any of this. A clock closes rounds of
live bars (``deadline``), and the voter records it (``decided_at``); see ``shared.audit.clocks``.
"""

from bisect import insort
from collections.abc import Iterator
from typing import NamedTuple

from schemas.decisions import DecisionMade
from schemas.predictions import PredictionEvent, PredictionFailed
from shared.audit.configurations import Configuration, Configurations
from shared.audit.window import Cast, Window
from shared.voting.decision import ArtifactKey

Bar = tuple[str, int, int]
"""Symbol, interval, open time."""


class Fault(NamedTuple):
    """What is wrong with a bar: a sentence, and whether it is that its decision is missing."""

    bar: Bar
    detail: str
    missing: bool = False


class Electorate(NamedTuple):
    """Who votes under a version, and whose answers are taken in: members and shadows."""

    members: frozenset[ArtifactKey]
    voices: frozenset[ArtifactKey]


class OpenRounds:
    """The rounds of a partition, as far as the decisions read so far show what the voter had read (``reached``: the
    number of that prediction)."""

    def __init__(self, configurations: Configurations) -> None:
        self._configurations = configurations
        self.reached = 0
        self._overdue: list[tuple[int, str, Cast]] = []
        self._complete: list[tuple[int, Bar]] = []
        self._answered: dict[Bar, set[ArtifactKey]] = {}
        self._late: set[str] = set()
        self._electorates: dict[int, Electorate] = {}

    def hears(self, event: PredictionEvent, voice: ArtifactKey) -> bool:
        """Whether the voter takes a prediction into a round. Of one without a stamp it is not recorded which
        configuration that was: those about its time must agree."""
        if not self._heard(event.control_version, voice):
            return False
        return event.control_head is not None or self._heard(max(event.control_version - 1, 1), voice)

    def _heard(self, version: int, voice: ArtifactKey) -> bool:
        found = self._electorates.get(version)
        if found is None:
            found = self._electorates[version] = electorate(self._configurations.at(version))
        return voice in found.voices

    def arrived(self, cast: Cast, overdue: bool) -> None:
        """Notes a prediction that the voter takes in: after the decision of its bar, or into its round."""
        if overdue:
            insort(self._overdue, (cast.number, cast.event, cast))
            return
        event = cast.envelope.event
        if event.control_head is None:
            return
        members = self._electorates[event.control_version].members
        bar = (event.symbol, event.interval_ms, event.open_time)
        answered = self._answered.setdefault(bar, set())
        answered.add(cast.voice)
        if cast.voice in members and members <= answered:
            self._complete.append((cast.number, bar))

    def reach(self, number: int | None) -> None:
        """The voter had read so far."""
        self.reached = max(self.reached, number or 0)

    def late(self, event: str) -> None:
        """A ballot was recorded as late."""
        self._late.add(event)

    def close(self, window: Window, decision: DecisionMade) -> Iterator[Fault]:
        """What is wrong with a decision whose ballots were found, and with the bars before it."""
        series = (decision.symbol, decision.interval_ms)
        for open_time, casts in window.close(series, decision.open_time).items():
            bar = (*series, open_time)
            self._answered.pop(bar, None)
            if open_time == decision.open_time:
                yield from self._left_out(window, decision, casts)
            else:
                yield from self._skipped(window, bar, casts, decision)

    def _left_out(self, window: Window, decision: DecisionMade, casts: list[Cast]) -> Iterator[Fault]:
        bar = (decision.symbol, decision.interval_ms, decision.open_time)
        named = named_in(decision)
        spoken = {cast.voice for cast in casts if cast.event in named}
        configuration = self._configurations.at(decision.control_version)
        for cast in casts:
            if cast.number > self.reached and cast.event not in named:
                self.arrived(cast, True)  # even one that leaves no trace in a decision may be recorded as late
                continue
            window.forget(cast.event)
            quiet = cast.event in named or cast.voice in spoken or self._mute(configuration, cast)
            if not quiet and cast.heard and self._heard(decision.control_version, cast.voice):
                model, name = cast.voice[0], cast.event[:12]
                yield Fault(bar, f"{model}'s ballot {name} at {cast.entry} had come, and is left out")

    def _skipped(self, window: Window, bar: Bar, casts: list[Cast], after: DecisionMade) -> Iterator[Fault]:
        """Bars are decided in order: one that had opened a round before a later one was decided had its decision."""
        opened = [cast for cast in casts if cast.heard and cast.number <= self.reached and cast.event not in self._late]
        for cast in casts:
            if cast.number <= self.reached:
                window.forget(cast.event)
            else:
                self.arrived(cast, True)
        if any(self._heard(after.control_version, cast.voice) for cast in opened):
            detail = (
                f"no decision was made on this bar, though {opened[0].voice[0]}'s ballot {opened[0].event[:12]} "
                "had come by the time a later bar was decided"
            )
            yield Fault(bar, detail, missing=True)

    def undecided(self, window: Window) -> Iterator[Fault]:
        """Rounds in which every member's answer had been read a while ago, and that were not decided."""
        while self._complete and self._complete[0][0] < self.reached:
            _, bar = self._complete.pop(0)
            if self._answered.pop(bar, None) is not None and window.drop(bar[:2], bar[2]):
                yield Fault(bar, "no decision was made on this bar, though every member had answered", missing=True)

    def unrecorded(self, window: Window) -> Iterator[Fault]:
        """Answers that the voter has read since, after the decision of their bar, and that are not recorded as late."""
        while self._overdue and self._overdue[0][0] < self.reached:
            _, event, cast = self._overdue.pop(0)
            window.forget(event)
            if event in self._late:
                self._late.discard(event)
                continue
            said = cast.envelope.event
            if not cast.heard or self._mute(self._configurations.at(said.control_version), cast):
                continue
            detail = (
                f"{said.model}'s ballot {event[:12]} at {cast.entry} is neither in the decision on its bar nor "
                "recorded as late"
            )
            yield Fault((said.symbol, said.interval_ms, said.open_time), detail)

    def _mute(self, configuration: Configuration | None, cast: Cast) -> bool:
        """A failure of a shadow leaves no trace in a decision."""
        return (
            isinstance(cast.envelope.event, PredictionFailed)
            and configuration is not None
            and cast.voice in configuration.panel.shadows
        )

    def unjustified(self, decision: DecisionMade) -> str:
        """Why a round cannot have been closed as it says, whatever came before and after it."""
        silent = [gone for gone in decision.absent if gone.event is None]
        if decision.closed_by == "complete" and silent:
            return f"closed as complete, though {silent[0].model} had not answered"
        if decision.closed_by == "superseded" and not silent and decision.decided_at is not None:
            return "closed as superseded, though every member had answered"
        if decision.closed_by == "deadline" and decision.origin != "live":
            return f"closed by the clock, though its bar is {decision.origin}: such bars have no deadline"
        return ""


def named_in(decision: DecisionMade) -> set[str]:
    """The events that a decision names."""
    named = {ballot.event for ballot in decision.counted} | {ballot.event for ballot in decision.shadow}
    return named | {absent.event for absent in decision.absent if absent.event}


def electorate(configuration: Configuration | None) -> Electorate:
    """Who votes under a configuration, and whom the voter hears; nobody, where no model votes."""
    if configuration is None or not configuration.panel.members:
        return Electorate(frozenset(), frozenset())
    members = frozenset((member.model, member.artifact) for member in configuration.panel.members)
    return Electorate(members, members | configuration.panel.shadows)
