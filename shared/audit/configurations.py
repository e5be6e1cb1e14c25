"""Rebuild every version of the configuration from the control stream, and report what contradicts it."""

from typing import NamedTuple

from schemas.codec import Envelope
from schemas.control import CommandRecorded
from shared.audit.findings import Difference, Findings
from shared.audit.source import Recording
from shared.control import ControlError, ControlReader, State
from shared.control.alarmed import AlarmedEntries
from shared.log import Entry, StreamKey
from shared.voting.pool import Panel, panel_of

CONTROL = StreamKey("control")


class Configuration(NamedTuple):
    """One version of the configuration: the folded state and its panel."""

    state: State
    panel: Panel


class Configurations:
    """Every version that the control stream makes: that of ``source``, or of the entries that ``take`` is given.

    ``trusted`` is False where the stream could not be read to its end; later versions are then unknown. ``alarmed``
    holds entries that no control writer wrote and for which an alarm was raised at the time; they are no difference."""

    def __init__(
        self,
        source: Recording | None = None,
        findings: Findings | None = None,
        alarmed: AlarmedEntries | None = None,
    ) -> None:
        self.reader = ControlReader()
        self.states: list[State] = []
        self.entries: list[str] = []
        self.envelopes: list[Envelope[CommandRecorded]] = []
        self._cached: dict[int, Configuration] = {}
        self.trusted = True
        if source is not None:
            self._read(source, findings or Findings(), alarmed or AlarmedEntries())

    def take(self, entry: Entry) -> Envelope[CommandRecorded] | None:
        """Fold the next entry of the control stream, and return it if it counts. Raises ``ControlError``."""
        envelope = self.reader.take(entry.id, entry.data)
        if envelope is not None:
            self.states.append(self.reader.state)
            self.entries.append(entry.id)
            self.envelopes.append(envelope)
        return envelope

    def _read(self, source: Recording, findings: Findings, alarmed: AlarmedEntries) -> None:
        broken = None
        for entry in source.entries(CONTROL):
            try:
                self.take(entry)
            except ControlError as error:
                broken = self._broken(entry.id, str(error))
                self.trusted = False
                break
            findings.see("control")
        for index in alarmed.missing(self.reader.refused):
            refused = self.reader.refused[index]
            findings.differ(Difference("configuration", "control", 0, refused.entry, "", refused.reason))
        if broken is not None:
            findings.differ(broken)

    def _broken(self, entry: str, fault: str) -> Difference:
        """Return the difference for the first entry that does not fit.

        Where an earlier entry of the same version was refused, that entry is named: the later one was built on it."""
        culprits = [refused for refused in self.reader.refused if refused.version == self.reader.state.version]
        at = culprits[0].entry if culprits else entry
        return Difference(
            "configuration", "control", 0, at, "", (f"{culprits[0].reason}; " if culprits else "") + fault
        )

    @property
    def newest(self) -> State:
        """The newest valid version."""
        return self.reader.state

    def at(self, version: int) -> Configuration | None:
        """Return the configuration of a version; None where the stream makes no such version."""
        configuration = self._cached.get(version)
        if configuration is None and 1 <= version <= len(self.states):
            state = self.states[version - 1]
            configuration = self._cached[version] = Configuration(state, panel_of(state))
        return configuration

    def entry_of(self, version: int) -> str:
        """Return the id of the control entry that made a version; empty where there is none."""
        return self.entries[version - 1] if 1 <= version <= len(self.entries) else ""
