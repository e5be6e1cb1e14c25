"""Feed recorded events to a service that joins streams, in the order of entry ids.

The service's own back-pressure (``shared.runtime.service.Backpressure``) names the streams that are not to be read. So
memory holds no more than the service does.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from schemas.codec import Encoded, Envelope
from schemas.control import CommandRecorded
from shared.audit.findings import Findings
from shared.audit.set_aside import set_aside
from shared.audit.source import EntryRange, ReadEvent, Recording, readable
from shared.log import StreamKey
from shared.log.leases import id_order
from shared.runtime.service import Backpressure, Batch, Received, Service

BATCH: Final = 200


class JoinedReplay:
    """Replay a service over all of control first, then over every stream that it reads, up to ``span.until``.

    ``unfinished`` is True where streams were not read to their end, because what they wait for does not exist."""

    def __init__(
        self,
        source: Recording,
        service: Service[Any],
        control: Sequence[Envelope[CommandRecorded]],
        partition: int,
        span: EntryRange,
        findings: Findings,
    ) -> None:
        self._service, self._control = service, control
        self._aside = set_aside(source, service.group, partition, findings)
        unjudged = EntryRange(span.until, span.until)
        self._streams = {
            stream: _Ahead(stream, readable(source, StreamKey(stream, partition), "file", Findings(), unjudged))
            for stream in service.reads
        }
        self.unfinished = False

    def outputs(self) -> Iterator[Encoded]:
        """Yield the events that the service writes, in order."""
        service = self._service
        state = service.initial(b"")
        service.apply(state, Batch(self._control, ()))
        while True:
            paused = service.paused_streams(state) if isinstance(service, Backpressure) else ()
            events = self._next([ahead for stream, ahead in self._streams.items() if stream not in paused])
            if not events:
                self.unfinished = any(ahead.head is not None for ahead in self._streams.values())
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

    def __init__(self, stream: str, reads: Iterator[ReadEvent]) -> None:
        self.stream, self._reads = stream, reads
        self.head: ReadEvent | None = None
        self.at = (0, 0)
        self._advance()

    def take(self) -> Received:
        """Return the next event and advance."""
        assert self.head is not None
        taken = Received(self.stream, self.head.entry, self.head.opened.envelope)
        self._advance()
        return taken

    def _advance(self) -> None:
        self.head = next(self._reads, None)
        if self.head is not None:
            self.at = id_order(self.head.entry)
