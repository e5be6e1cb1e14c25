"""Append the entry of a dead letter to its stream again, where that is sound: for the console, and for the pages."""

import re
from typing import Final, NamedTuple

from schemas.catalogue import STREAMS
from schemas.codec import Encoded, Envelope, UnreadableError, decode, encode
from schemas.market import BarClosed
from schemas.operations import DeadLetter, DeadLetterRetried
from schemas.training import StackerRequested, TrainingRequested
from shared.archive import CorruptError, LostError, SegmentStore, StoreError, WholeHistory
from shared.control.issuing import RefusedError, current
from shared.log import Entry, Log, StreamKey, preceding
from shared.log.connection import ServerError
from shared.log.events import events_of, reported_elsewhere
from shared.log.leases import id_order
from shared.server.users import USERS
from shared.training.ledger import TrainingWriter

RAW_CHARACTERS: Final = 2000
"""The most characters of the input that a dead letter has. A shorter text is all of it."""
RACES: Final = 20
CONTENT: Final = ("impossible_prices", "negative_volume", "not_finite", "off_grid", "bad_row")
TWICE: Final = ("duplicate", "conflict", "out_of_order")
RETRIED: Final = ("market", "trades", "training")
"""Streams to which input is appended again; entries of the others are made by a service from its own input."""
_SOURCE: Final = re.compile(r"(?:conclave:(?:\{p(\d{1,6})\}:)?)?([a-z]+)@(\d{1,20}-\d{1,20})")


class Letter(NamedTuple):
    """A dead letter: its partition, its entry id, its event id, the event; ``retried``: the last retry, if any."""

    partition: int
    entry: str
    envelope: Envelope[DeadLetter]
    retried: DeadLetterRetried | None = None

    @property
    def id(self) -> str:
        """The event id (hexadecimal), by which a person names it."""
        return self.envelope.id.hex()

    @property
    def event(self) -> DeadLetter:
        """The dead letter itself."""
        return self.envelope.event

    @property
    def place(self) -> tuple[StreamKey, str] | None:
        """The stream and the id of the refused entry; None if the input was not on a stream."""
        match = _SOURCE.fullmatch(self.event.source)
        if match is None or match[2] not in STREAMS:
            return None
        partition = int(match[1] or self.partition) if STREAMS[match[2]].partitioned else 0
        return StreamKey(match[2], partition), match[3]


class Retry(NamedTuple):
    """The result of a retry: the stream and the id of the appended entry, and whether it was there before."""

    place: StreamKey
    entry: str
    before: bool


async def original(log: Log, archive: SegmentStore | None, letter: Letter) -> Entry | None:
    """Return the refused entry: from the log, else from the archive if there is one to look into, else from the letter
    if it has all of its bytes. None if it is in none of them, or the input was not on a stream."""
    if letter.place is None:
        return None
    place, entry_id = letter.place
    histories = [WholeHistory(log), *([WholeHistory(log, archive)] if archive is not None else [])]
    for history in histories:
        try:
            async for page in history.slices(place, after=preceding(entry_id), until=entry_id):
                return page[0]
        except (LostError, StoreError, CorruptError):
            continue
    raw = letter.event.raw
    if letter.event.reason in ("unreadable", "handler_failed") and len(raw) < RAW_CHARACTERS:
        try:
            return Entry(place, entry_id, bytes.fromhex(raw))
        except ValueError:
            return None
    return None


async def unsound(log: Log, letter: Letter, entry: Entry | None, *, archived: bool = True) -> str | None:
    """Return why the entry of a letter must not be appended again; None if it may be. ``archived``: whether the archive
    was looked into for it."""
    reason = letter.event.reason
    if letter.place is None:
        return f"its source is {letter.event.source}, not a stream: correct the source, and feed it again"
    stream = letter.place[0].stream
    if reason in CONTENT:
        return f"it was refused for what it says ({reason}), and would be again: correct the source, and feed it again"
    if reason in TWICE:
        return f"it was refused for its order ({reason}), and would be again: find out who wrote it twice, or too late"
    if stream not in RETRIED:
        writers = ", ".join(STREAMS[stream].writers)
        return (
            f"entries of {stream} are made by {writers} from its own input, in its order, and under its digest: one "
            f"that is appended by hand would be a forgery"
        )
    if reason == "handler_failed" and stream == "market":
        return "other services have handled this bar, and would be given it twice"
    if entry is None:
        gone = "neither on the stream nor in the archive" if archived else "no longer on the stream"
        return f"the entry is {gone}, and the letter has the beginning of it only"
    try:
        event = decode(stream, entry.data).event
    except UnreadableError as error:
        return f"this release cannot read it either ({error}); a newer one may"
    if stream == "market":
        return await _outdated(log, entry, event)
    return await _refused_request(log, event) if stream == "training" else None


def may_append(user: str, stream: str) -> bool:
    """Return whether the server lets a user append to a stream, by the catalogue. A server without users of the
    catalogue lets everybody, as it does its administrator."""
    return user not in USERS or user in STREAMS[stream].writers


async def retry(log: Log, archive: SegmentStore | None, letter: Letter, *, actor: str, reason: str) -> Retry:
    """Append the entry of a letter to its stream again, and record who wanted it and why on ``dead``. An entry that an
    earlier retry appended, and did not record, is only recorded.

    Raises ``RefusedError`` if it is not sound or the server does not let this user append, and ``UnwritableError`` for
    an actor or a reason that cannot be recorded."""
    entry = await original(log, archive, letter)
    before = await copy_of(log, entry) if entry is not None else None
    why_not = await unsound(log, letter, entry, archived=archive is not None) if before is None else None
    if entry is None or why_not is not None:
        raise RefusedError(f"dead letter {letter.id[:12]} cannot be retried: {why_not}")
    _note(letter, entry.id, actor, reason, 0)  # what cannot be recorded is refused before anything is written
    appended = before or await _append(log, entry.place, entry.data)
    if before is None or letter.retried is None:
        note = _note(letter, appended, actor, reason, await log.time(letter.partition))
        try:
            await _append(log, StreamKey("dead", letter.partition), note.data)
        except RefusedError as error:
            raise RefusedError(
                f"it was appended to {entry.place.key} as {appended}, and not recorded: {error}. Retried once more, it "
                "is only recorded"
            ) from None
    return Retry(entry.place, appended, before is not None)


def _note(letter: Letter, appended: str, actor: str, reason: str, at: int) -> Encoded:
    event = DeadLetterRetried(
        letter=letter.id, source=letter.event.source, entry=appended, actor=actor, reason=reason, at=at
    )
    return encode("dead", event, causation=letter.envelope.id, correlation=letter.envelope.correlation)


async def copy_of(log: Log, entry: Entry) -> str | None:
    """Return the id of a later entry with the same bytes; None if there is none."""
    after = entry.id
    while page := await log.scan(entry.place, after=after):
        for later in page:
            if later.data == entry.data:
                return later.id
        after = page[-1].id
    return None


async def _append(log: Log, place: StreamKey, data: bytes) -> str:
    try:
        for _ in range(RACES):
            newest = id_order((await log.extent(place)).last)[0]
            entry_id = f"{max(await log.time(place.partition), newest + 1)}-0"
            if await log.append_at(place, entry_id, data):
                return entry_id
    except ServerError as error:
        raise RefusedError(
            f"the server does not let this user append to {place.key}: {error}. Retry as a user who may "
            f"({', '.join(STREAMS[place.stream].writers)}), or write the entry again at its source"
        ) from None
    raise RefusedError(f"{RACES} other entries were appended to {place.key} first, one after another; try again")


async def _outdated(log: Log, entry: Entry, bar: object) -> str | None:
    """Return which bar makes this one too late; None if there is none."""
    if not isinstance(bar, BarClosed):
        return None
    after = entry.id
    while page := await log.scan(entry.place, after=after):
        for later, envelope in events_of(page, reported_elsewhere):
            event = envelope.event
            if isinstance(event, BarClosed) and event.symbol == bar.symbol and event.open_time >= bar.open_time:
                if later.data == entry.data:
                    return None  # appended by an earlier retry
                return f"a bar of {bar.symbol} of {event.open_time} follows ({later.id}), so it would be out of order"
        after = page[-1].id
    return None


async def _refused_request(log: Log, event: object) -> str | None:
    if not isinstance(event, TrainingRequested | StackerRequested):
        return "it is the trainer's own report about a job, not a request: only the trainer may write it"
    jobs, state = await TrainingWriter(log).read(), await current(log)
    return jobs.refuses(event, state.training)
