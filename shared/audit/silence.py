"""Members that were passed over: was each of them really silent?

A round is ``superseded`` where every member that had not answered had gone on to a later bar; its answer about this
bar, if there is one at all, then stands after that on ``predictions`` and came late. Where a round was closed because a
later one of its symbol was, the member had no vote any more in that later one.
"""

from typing import NamedTuple

from schemas.decisions import DecisionMade
from shared.audit.configurations import Configurations
from shared.audit.source import ReadEvent
from shared.audit.window import Window
from shared.voting.decision import ArtifactKey, Series


class Passed(NamedTuple):
    """A member that was passed over in a decision without having gone on to a later bar, and what that would be."""

    read: ReadEvent
    voice: ArtifactKey
    detail: str


class Silence:
    """The decisions of a partition in order."""

    def __init__(self, configurations: Configurations) -> None:
        self._configurations = configurations
        self._series: dict[Series, list[Passed]] = {}

    def judge(
        self, window: Window, read: ReadEvent, decision: DecisionMade, moment: int
    ) -> list[tuple[ReadEvent, str]]:
        """Earlier decisions of the series that passed a member over for no reason: a later one shows it."""
        series = (decision.symbol, decision.interval_ms)
        wrong, kept = [], []
        for passed in self._series.pop(series, []):
            justified = self._justifies(decision, passed.voice)
            if justified is None:
                kept.append(passed)
            elif not justified:
                wrong.append((passed.read, passed.detail))
        if decision.closed_by == "superseded":
            kept += self._unexplained(window, read, decision, moment)
        if kept:
            self._series[series] = kept
        return wrong

    def left(self) -> list[tuple[ReadEvent, str]]:
        """Those that no later decision justifies."""
        return [(passed.read, passed.detail) for series in self._series.values() for passed in series]

    def _justifies(self, decision: DecisionMade, voice: ArtifactKey) -> bool | None:
        """Whether a later decision shows that a member had no vote any more; None: it passed it over itself."""
        configuration = self._configurations.at(decision.control_version)
        members = configuration.panel.members if configuration is not None else ()
        if all((member.model, member.artifact) != voice for member in members):
            return True
        if any((gone.model, gone.artifact) == voice and gone.event is None for gone in decision.absent):
            return None if decision.closed_by == "superseded" else False
        return False

    def _unexplained(self, window: Window, read: ReadEvent, decision: DecisionMade, moment: int) -> list[Passed]:
        series = (decision.symbol, decision.interval_ms)
        found = []
        for gone in decision.absent:
            if gone.event is not None:
                continue
            voice = (gone.model, gone.artifact)
            number = window.later(series, gone.model, decision.open_time, moment)
            if number is None:
                detail = f"closed as superseded, though {gone.model} had not answered a later bar"
                found.append(Passed(read, voice, detail))
                continue
            for cast in window.series(series).bars.get(decision.open_time, []):
                if cast.voice == voice and cast.number < number:
                    detail = (
                        f"closed as superseded, though {gone.model}'s ballot {cast.event[:12]} at {cast.entry} came "
                        "before its answer about a later bar: it is left out"
                    )
                    found.append(Passed(read, voice, detail))
        return found
