"""Decode the entries of a stream, in one way for all readers.

An entry that cannot be decoded is left out, reading goes on after it, and the reader reports it: a service that commits
writes a dead letter (``shared.runtime.entries``), any other reader logs it or shows it once (``Unreadable``).

The control stream is the exception. ``shared.control.ControlReader`` decides which of its entries count.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from schemas.codec import Envelope, UnreadableError, decode
from shared.log import Entry, StreamKey
from shared.log.leases import id_order

OnUnreadable = Callable[[Entry, str], None]
"""Is called with each entry that cannot be decoded, and the reason."""


def events_of(entries: Iterable[Entry], unreadable: OnUnreadable) -> Iterator[tuple[Entry, Envelope[Any]]]:
    """Yield the entries that can be decoded with their envelopes, and call ``unreadable`` with each of the others."""
    for entry in entries:
        try:
            envelope = decode(entry.place.stream, entry.data)
        except UnreadableError as error:
            unreadable(entry, str(error))
            continue
        yield entry, envelope


def reported_elsewhere(entry: Entry, detail: str) -> None:
    """Do nothing about an unreadable entry, because another reader of the same process reports it."""


class _Span:
    """Unreadable entries of one stream: the ids of the first and the last one, how many, and what is wrong with one."""

    def __init__(self, entry: Entry, detail: str) -> None:
        self.first = self.last = entry.id
        self.count, self.detail = 0, detail

    def holds(self, entry: Entry) -> bool:
        return id_order(self.first) <= id_order(entry.id) <= id_order(self.last)

    def add(self, entry: Entry) -> None:
        self.count += 1
        self.first, self.last = min(self.first, entry.id, key=id_order), max(self.last, entry.id, key=id_order)


class Unreadable:
    """Collects the entries that one reader cannot decode, for one sentence for each stream. The reader may read forward
    or backward, and an entry again, which counts once."""

    def __init__(self) -> None:
        self._new: dict[StreamKey, _Span] = {}
        self._counted: dict[StreamKey, _Span] = {}

    def __call__(self, entry: Entry, detail: str) -> None:
        """Count an entry, unless it was counted before."""
        counted = self._counted.get(entry.place)
        if counted is not None and counted.holds(entry):
            return
        for spans in (self._counted, self._new):
            spans.setdefault(entry.place, _Span(entry, detail)).add(entry)

    def sentences(self) -> list[str]:
        """Return one sentence for each stream that had further unreadable entries since the last call."""
        new, self._new = self._new, {}
        return [_sentence(place, span) for place, span in sorted(new.items())]

    def log(self, logger: logging.Logger) -> None:
        """Log these sentences as warnings."""
        for sentence in self.sentences():
            logger.warning("%s", sentence)


def _sentence(place: StreamKey, span: _Span) -> str:
    if span.count == 1:
        return f"1 entry of {place.key} cannot be read and is left out, {span.first}: {span.detail[:300]}"
    return (
        f"{span.count:,} entries of {place.key} cannot be read and are left out, between {span.first} and "
        f"{span.last}; one of them: {span.detail[:300]}"
    )
