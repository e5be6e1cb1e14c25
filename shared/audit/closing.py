"""Check that each round was closed when its decision claims, and that every prediction is accounted for.

The voter reads predictions in order and writes its results in order. So the predictions that a decision names show how
far the voter had read by then, at least. Three rules follow:

- A prediction before that point was in the round and must be in the decision.
- A round that had the predictions of all members by then must have been decided by then.
- A prediction that was read after the decision of its bar must have been recorded as late by then.

No clock is needed for these rules. A clock closes rounds of live bars (``deadline``), and the voter records it
(``decided_at``); ``shared.audit.clocks`` checks that.
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
"""Symbol, interval (ms), open time (ms)."""


class Fault(NamedTuple):
    """What is wrong with a bar. ``missing`` is True where the fault is that its decision does not exist."""

    bar: Bar
    detail: str
    missing: bool = False


class RoundMembers(NamedTuple):
    """The artifacts that vote under a version, and all whose predictions enter its rounds: members and shadows."""

    members: frozenset[ArtifactKey]
    keys: frozenset[ArtifactKey]


class OpenRounds:
    """The open rounds of a partition.

    ``reached`` is the number of the newest prediction that the voter is known to have read, from the decisions read so
    far."""

    def __init__(self, configurations: Configurations) -> None:
        self._configurations = configurations
        self.reached = 0
        self._too_late: list[tuple[int, str, Cast]] = []
        self._complete: list[tuple[int, Bar]] = []
        self._predicted: dict[Bar, set[ArtifactKey]] = {}
        self._late: set[str] = set()
        self._members: dict[int, RoundMembers] = {}

    def enters_round(self, event: PredictionEvent, key: ArtifactKey) -> bool:
        """Return whether the voter puts a prediction into a round.

        For a prediction without a stamp the exact configuration is not recorded: the two around its time must agree."""
        if not self._counts(event.control_version, key):
            return False
        return event.control_head is not None or self._counts(max(event.control_version - 1, 1), key)

    def _counts(self, version: int, key: ArtifactKey) -> bool:
        members = self._members.get(version)
        if members is None:
            members = self._members[version] = members_of(self._configurations.at(version))
        return key in members.keys

    def arrived(self, cast: Cast, too_late: bool) -> None:
        """Record a prediction that the voter read: after the decision of its bar (``too_late``), or into its round."""
        if too_late:
            insort(self._too_late, (cast.number, cast.event, cast))
            return
        event = cast.envelope.event
        if event.control_head is None:
            return
        members = self._members[event.control_version].members
        bar = (event.symbol, event.interval_ms, event.open_time)
        predicted = self._predicted.setdefault(bar, set())
        predicted.add(cast.key)
        if cast.key in members and members <= predicted:
            self._complete.append((cast.number, bar))

    def reach(self, number: int | None) -> None:
        """Record that the voter had read up to this prediction."""
        self.reached = max(self.reached, number or 0)

    def late(self, event: str) -> None:
        """Record that a ballot was written as late."""
        self._late.add(event)

    def close(self, window: Window, decision: DecisionMade) -> Iterator[Fault]:
        """Yield what is wrong with a decision whose ballots were found, and with the bars before it."""
        series = (decision.symbol, decision.interval_ms)
        for open_time, casts in window.close(series, decision.open_time).items():
            bar = (*series, open_time)
            self._predicted.pop(bar, None)
            if open_time == decision.open_time:
                yield from self._left_out(window, decision, casts)
            else:
                yield from self._skipped(window, bar, casts, decision)

    def _left_out(self, window: Window, decision: DecisionMade, casts: list[Cast]) -> Iterator[Fault]:
        bar = (decision.symbol, decision.interval_ms, decision.open_time)
        named = named_in(decision)
        keys = {cast.key for cast in casts if cast.event in named}
        configuration = self._configurations.at(decision.control_version)
        for cast in casts:
            if cast.number > self.reached and cast.event not in named:
                self.arrived(cast, True)  # a prediction that no decision mentions may still be recorded as late
                continue
            window.forget(cast.event)
            accounted = cast.event in named or cast.key in keys or self._leaves_no_trace(configuration, cast)
            if not accounted and cast.enters_round and self._counts(decision.control_version, cast.key):
                model, name = cast.key[0], cast.event[:12]
                yield Fault(bar, f"{model}'s ballot {name} at {cast.entry} had been read, but is left out")

    def _skipped(self, window: Window, bar: Bar, casts: list[Cast], after: DecisionMade) -> Iterator[Fault]:
        """Yield a fault where a bar had opened a round before a later bar was decided, and has no decision itself.

        Bars are decided in order."""
        opened = [
            cast for cast in casts if cast.enters_round and cast.number <= self.reached and cast.event not in self._late
        ]
        for cast in casts:
            if cast.number <= self.reached:
                window.forget(cast.event)
            else:
                self.arrived(cast, True)
        if any(self._counts(after.control_version, cast.key) for cast in opened):
            detail = (
                f"no decision was made on this bar, though {opened[0].key[0]}'s ballot {opened[0].event[:12]} "
                "had been read before a later bar was decided"
            )
            yield Fault(bar, detail, missing=True)

    def undecided(self, window: Window) -> Iterator[Fault]:
        """Yield a fault for each round that had the predictions of all members and was not decided."""
        while self._complete and self._complete[0][0] < self.reached:
            _, bar = self._complete.pop(0)
            if self._predicted.pop(bar, None) is not None and window.drop(bar[:2], bar[2]):
                yield Fault(
                    bar, "no decision was made on this bar, though every member had predicted the bar", missing=True
                )

    def unrecorded(self, window: Window) -> Iterator[Fault]:
        """Yield a fault for each prediction that was read after the decision of its bar and not recorded as late."""
        while self._too_late and self._too_late[0][0] < self.reached:
            _, event, cast = self._too_late.pop(0)
            window.forget(event)
            if event in self._late:
                self._late.discard(event)
                continue
            prediction = cast.envelope.event
            if not cast.enters_round or self._leaves_no_trace(
                self._configurations.at(prediction.control_version), cast
            ):
                continue
            detail = (
                f"{prediction.model}'s ballot {event[:12]} at {cast.entry} is neither in the decision on its bar nor "
                "recorded as late"
            )
            yield Fault((prediction.symbol, prediction.interval_ms, prediction.open_time), detail)

    def _leaves_no_trace(self, configuration: Configuration | None, cast: Cast) -> bool:
        """Return whether a prediction is the failure of a shadow, which no decision mentions."""
        return (
            isinstance(cast.envelope.event, PredictionFailed)
            and configuration is not None
            and cast.key in configuration.panel.shadows
        )

    def unjustified(self, decision: DecisionMade) -> str:
        """Return why a round cannot have been closed for the reason that its decision records, whatever the decisions
        around it."""
        silent = [absent for absent in decision.absent if absent.event is None]
        if decision.closed_by == "complete" and silent:
            return f"closed as complete, though {silent[0].model} had not predicted the bar"
        if decision.closed_by == "superseded" and not silent and decision.decided_at is not None:
            return "closed as superseded, though every member had predicted the bar"
        if decision.closed_by == "deadline" and decision.origin != "live":
            return f"closed by the clock, though its bar is {decision.origin}: such bars have no deadline"
        return ""


def named_in(decision: DecisionMade) -> set[str]:
    """Return the ids of the events that a decision names."""
    named = {ballot.event for ballot in decision.counted} | {ballot.event for ballot in decision.shadow}
    return named | {absent.event for absent in decision.absent if absent.event}


def members_of(configuration: Configuration | None) -> RoundMembers:
    """Return who votes under a configuration and whose predictions enter its rounds; empty where no model votes."""
    if configuration is None or not configuration.panel.members:
        return RoundMembers(frozenset(), frozenset())
    members = frozenset((member.model, member.artifact) for member in configuration.panel.members)
    return RoundMembers(members, members | configuration.panel.shadows)
