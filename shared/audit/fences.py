"""Check the fence of a partition from its marks on ``decisions``.

No intent is issued between a ``FenceClosed`` and the next ``FenceOpened``. Each mark names the command that caused it
and must be justified by control: a fence is opened by a ``Resume`` (or by ``Found``, when an installation is created)
that is not older than the halt which closed it.

A halt that was refused is never recorded, and neither is the command that reverses it. Marks for them are noted and are
no fault, unless a recorded halt is still in force. Before the first mark, as in logs of earlier releases, the fence
counts as open.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from schemas.codec import UnreadableError, decoded_as, framed
from schemas.control import Found, Halt, Resume
from schemas.decisions import FenceClosed, FenceOpened
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.log import Entry
from shared.log.leases import id_order

Mark = FenceClosed | FenceOpened
_mark: Final = msgspec.json.Decoder(Mark).decode
APART_MS: Final = 60_000
"""Largest difference (ms) between the clock of a command's issuer and the server's."""


class Fence:
    """The fence after the marks so far: ``closed``, and ``marked`` where there was any mark."""

    def __init__(self, configurations: Configurations) -> None:
        self._configurations = configurations
        self._versions: dict[str, int] = {}
        self.closed = self.marked = False
        self._halt = 0

    def replay(self, entries: Iterator[Entry]) -> None:
        """Apply the marks before a range, without checking them."""
        for entry in entries:
            if b'"fence.' not in entry.data:
                continue
            try:
                mark = decoded_as("decisions", framed("decisions", entry.data).payload, _mark)
            except UnreadableError:
                continue
            self.mark(mark, entry.id, Findings())

    def mark(self, mark: Mark, entry: str, findings: Findings) -> str:
        """Apply a mark and return what is wrong with it; empty where nothing is."""
        moment = id_order(entry)[0] + APART_MS
        self.marked, self.closed = True, isinstance(mark, FenceClosed)
        version = self._version(mark.command_id)
        command = None if version is None else self._configurations.envelopes[version - 1].event.command
        if isinstance(mark, FenceClosed):
            if version is None:
                findings.note(f"intents: the fence was closed for command {mark.command_id}, which was never recorded")
            elif not isinstance(command, Halt | Found | Resume):
                return f"the fence was closed for command {mark.command_id}, which is no halt but {_tag(command)}"
            if isinstance(command, Halt):
                self._halt = max(self._halt, version or 0)
            return ""
        if version is None:
            if not self._resumed(moment):
                return (
                    f"the fence was opened for command {mark.command_id}, which is not on control, "
                    f"though the halt of version {self._halt} is in force"
                )
            findings.note(f"intents: the fence was opened for command {mark.command_id}, which was never recorded")
            return ""
        if not isinstance(command, Resume | Found):
            return f"the fence was opened for command {mark.command_id}, which is no resume but {_tag(command)}"
        if version < self._halt:
            return f"the fence was opened for version {version}, though the halt of version {self._halt} had closed it"
        if self._at(version) > moment:
            return f"the fence was opened for version {version} before that was recorded"
        return ""

    def _resumed(self, moment: int) -> bool:
        """Return whether the last halt that closed the fence had been ended by ``moment`` (ms), or there was none."""
        return not self._halt or any(
            isinstance(envelope.event.command, Resume) and self._at(version) <= moment
            for version, envelope in enumerate(self._configurations.envelopes, 1)
            if version > self._halt
        )

    def _at(self, version: int) -> int:
        """Return when a command was recorded (ms), by its issuer's clock."""
        return self._configurations.envelopes[version - 1].event.at

    def _version(self, command_id: str) -> int | None:
        if not self._versions:
            versions = enumerate(self._configurations.envelopes, 1)
            self._versions = {envelope.event.command_id: version for version, envelope in versions}
        return self._versions.get(command_id)


def _tag(command: object) -> str:
    return str(getattr(type(command), "__struct_config__").tag)  # noqa: B009  # every command is a tagged struct
