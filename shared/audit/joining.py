"""Feeds a service that joins streams with everything recorded, in the order of entries.

The service's own back-pressure says which stream is not to be read (``shared.runtime.service.Paced``), so what is held in
memory is what the service holds.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from schemas.codec import Envelope, Sealed
from schemas.control import CommandRecorded
from shared.audit.findings import Findings
from shared.audit.set_aside import set_aside
from shared.audit.source import Read, Source, Span, order, readable
from shared.log import Place
from shared.runtime.service import Batch, Paced, Received, Service

BATCH: Final = 200


class Joined:
    """What a service writes, given all of control first and then every stream that it reads, up to ``span.until``.
    ``left``: whether streams were left unread in the end, since what they wait for is not there."""

    def __init__(
        self,
        source: Source,
        service: Service[Any],
        control: Sequence[Envelope[CommandRecorded]],
        partition: int,
        span: Span,
        findings: Findings,
    ) -> None:
        self._service, self._control = service, control
        self._aside = set_aside(source, service.group, partition, findings)
        unjudged = Span(span.until, span.until)
        self._streams = {
            stream: _Ahead(stream, readable(source, Place(stream, partition), "file", Findings(), unjudged))
            for stream in service.reads
        }
        self.left = False

    def outputs(self) -> Iterator[Sealed]:
        """In order."""
        service = self._service
        state = service.begin(b"")
        service.absorb(state, Batch(self._control, ()))
        while True:
            held = service.hold(state) if isinstance(service, Paced) else ()
            events = self._next([ahead for stream, ahead in self._streams.items() if stream not in held])
            if not events:
                self.left = any(ahead.head is not None for ahead in self._streams.values())
                return
            yield from service.handle(state, Batch((), events))

    def _next(self, streams: list["_Ahead"]) -> list[Received]:
        events: list[Received] = []
        while len(events) < BATCH:
            open_ones = [ahead for ahead in streams if ahead.head is not None]
            if not open_ones:
                break
            read = min(open_ones, key=lambda ahead: ahead.at).take()
            if (read.stream, read.entry) not in self._aside:
                events.append(read)
        return events


class _Ahead:
    """One stream and its next event."""

    def __init__(self, stream: str, reads: Iterator[Read]) -> None:
        self.stream, self._reads = stream, reads
        self.head: Read | None = None
        self.at = (0, 0)
        self._advance()

    def take(self) -> Received:
        """The next event."""
        assert self.head is not None
        taken = Received(self.stream, self.head.entry, self.head.found.envelope)
        self._advance()
        return taken

    def _advance(self) -> None:
        self.head = next(self._reads, None)
        if self.head is not None:
            self.at = order(self.head.entry)
