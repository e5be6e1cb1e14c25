"""Check that members without a ballot in a decision had really not predicted its bar.

A round is ``superseded`` if every member without a prediction for its bar had predicted a later bar. If such a member
has a prediction for this bar after all, it must follow that later one on ``predictions``: it was late. If a round was
closed because a later round of its symbol was closed, the member must have no vote in that later round, and its
prediction must follow those that the voter had read when it closed that round.
"""

from typing import NamedTuple

from schemas.decisions import DecisionMade
from shared.audit.configurations import Configurations
from shared.audit.source import ReadEvent
from shared.audit.window import Window
from shared.voting.decision import ArtifactKey, Series


class Passed(NamedTuple):
    """A member without a ballot that had not predicted a later bar, and the fault, unless a later decision justifies
    it. ``number``: the number of its prediction for this bar; None if none was read."""

    read: ReadEvent
    key: ArtifactKey
    detail: str
    number: int | None


class Silence:
    """Check the decisions of a partition, in order."""

    def __init__(self, configurations: Configurations) -> None:
        self._configurations = configurations
        self._series: dict[Series, list[Passed]] = {}

    def check(
        self, window: Window, read: ReadEvent, decision: DecisionMade, moment: int, reached: int
    ) -> list[tuple[ReadEvent, str]]:
        """Return earlier decisions of the series that omitted a member without reason, as this decision shows.
        ``reached``: the number of the last prediction that the voter had read by then, as its events show."""
        series = (decision.symbol, decision.interval_ms)
        wrong, kept = [], []
        for passed in self._series.pop(series, []):
            justified = self._justifies(decision, passed.key)
            if justified is None:
                kept.append(passed)
            elif not justified or (passed.number is not None and passed.number <= reached):
                wrong.append((passed.read, passed.detail))
        if decision.closed_by == "superseded":
            kept += self._unexplained(window, read, decision, moment)
        if kept:
            self._series[series] = kept
        return wrong

    def unjustified(self) -> list[tuple[ReadEvent, str]]:
        """Return the decisions that no later decision justified."""
        return [(passed.read, passed.detail) for series in self._series.values() for passed in series]

    def _justifies(self, decision: DecisionMade, key: ArtifactKey) -> bool | None:
        """Return whether a later decision shows that a member no longer had a vote; None if that decision omitted the
        member too."""
        configuration = self._configurations.at(decision.control_version)
        members = configuration.panel.members if configuration is not None else ()
        if all((member.model, member.artifact) != key for member in members):
            return True
        if any((absent.model, absent.artifact) == key and absent.event is None for absent in decision.absent):
            return None if decision.closed_by == "superseded" else False
        return False

    def _unexplained(self, window: Window, read: ReadEvent, decision: DecisionMade, moment: int) -> list[Passed]:
        series = (decision.symbol, decision.interval_ms)
        passed = []
        for absent in decision.absent:
            if absent.event is not None:
                continue
            key = (absent.model, absent.artifact)
            number = window.later(series, (absent.model, absent.artifact), decision.open_time, moment)
            casts = [cast for cast in window.series(series).bars.get(decision.open_time, []) if cast.key == key]
            if number is None:
                detail = f"closed as superseded, though {absent.model} had not predicted a later bar"
                passed.append(Passed(read, key, detail, min((cast.number for cast in casts), default=None)))
                continue
            for cast in casts:
                if cast.number < number:
                    detail = (
                        f"closed as superseded, though {absent.model}'s ballot {cast.event[:12]} at {cast.entry} is "
                        "before its prediction for a later bar: it is left out"
                    )
                    passed.append(Passed(read, key, detail, cast.number))
        return passed
