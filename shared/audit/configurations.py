"""The configuration as of any version, from the control stream; and what contradicts it."""

from typing import NamedTuple

from schemas.codec import Envelope
from schemas.control import CommandRecorded
from shared.audit.findings import Difference, Findings
from shared.audit.source import Recording
from shared.control import ControlError, ControlReader, State
from shared.log import StreamKey
from shared.voting.pool import Panel, panel_of

CONTROL = StreamKey("control")


class Configuration(NamedTuple):
    """One version: the folded state, and the panel that votes under it."""

    state: State
    panel: Panel


class Configurations:
    """Every version that the control stream makes. ``trusted`` is false where the stream could not be
    read to its end: versions behind are then unknown. ``alarmed``: entries past the door of which an alarm
    was raised when they came; they are known, and no difference."""

    def __init__(self, source: Recording, findings: Findings, alarmed: frozenset[str] = frozenset()) -> None:
        self.reader = ControlReader()
        self.states: list[State] = []
        self.entries: list[str] = []
        self.envelopes: list[Envelope[CommandRecorded]] = []
        self._made: dict[int, Configuration] = {}
        self.trusted = True
        for entry in source.entries(CONTROL):
            before = len(self.reader.refused)
            try:
                taken = self.reader.take(entry.id, entry.data)
            except ControlError as error:
                findings.differ(self._broken(entry.id, str(error)))
                self.trusted = False
                break
            if taken is not None:
                self.states.append(self.reader.state)
                self.entries.append(entry.id)
                self.envelopes.append(taken)
            elif len(self.reader.refused) > before and entry.id not in alarmed:
                findings.differ(Difference("configuration", "control", 0, entry.id, "", self.reader.refused[-1].reason))
            findings.see("control")

    def _broken(self, entry: str, fault: str) -> Difference:
        """The first entry that does not fit: where one was refused, what was built upon it shows it."""
        behind = [refused for refused in self.reader.refused if refused.version == self.reader.state.version]
        at = behind[0].entry if behind else entry
        return Difference("configuration", "control", 0, at, "", (f"{behind[0].reason}; " if behind else "") + fault)

    @property
    def newest(self) -> State:
        """The last version that stands."""
        return self.reader.state

    def at(self, version: int) -> Configuration | None:
        """What was in force under a version; None where the stream makes no such version."""
        made = self._made.get(version)
        if made is None and 1 <= version <= len(self.states):
            state = self.states[version - 1]
            made = self._made[version] = Configuration(state, panel_of(state))
        return made

    def entry_of(self, version: int) -> str:
        """The control entry that made a version."""
        return self.entries[version - 1] if 1 <= version <= len(self.entries) else ""
