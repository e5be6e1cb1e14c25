"""Keep the projections: read the streams, fold them, save them, and wake the pages that follow them.

One file holds the projections and the positions up to which they were folded, so a restart reads on exactly there.
"""

import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import msgspec
from msgspec import Struct, field

from schemas.codec import UNDECODABLE
from services.observatory import core
from services.observatory.core import FROM_THE_BEGINNING, RECENT, State
from shared.audit.configurations import Configurations
from shared.control import State as Control
from shared.control.stream import CONTROL, marks_of
from shared.gates.policies import default_policy
from shared.log import START, Entry, GroupView, Log, StreamKey, TruncatedLogError, UnavailableError
from shared.log.events import Unreadable, events_of
from shared.log.leases import id_order
from shared.recovery.storage import Storage
from shared.runtime.clock import ServerClock
from shared.telemetry.reporting import BatchReport, Telemetry

GROUP: Final = "observatory"
GLOBAL: Final = frozenset({"training"})
FILE: Final = "observatory.bin"
BLOCK_MS: Final = 250
"""The longest wait for an entry: an event is shown within a second of its commit."""
BATCH: Final = 500
"""The most entries of one stream that are read at once."""
PIECE_S: Final = 0.01
"""After so long a fold lets requests be answered."""
LOOK_S: Final = 1.0
"""Between two looks at the consumer groups."""
COMPARE_S: Final = 5.0
SAVE_S: Final = 60.0
LENGTH: Final = 4
"""Bytes of the file that say how long its head is."""
SHAPE: Final = 2
"""What is folded. It changes when streams are folded into more than before, which an older file lacks."""
REMEMBERED: Final = 10_000
"""Series and topics whose last change is remembered for pages that follow them."""
_log = logging.getLogger(GROUP)


class Kept(Struct):
    """What ``observatory.bin`` begins with; the state of the core follows, encoded, to the end of the file.

    ``log_id``: the installation. ``positions``: the last entry read, by stream. ``shape``: the ``SHAPE`` of the release
    that wrote it."""

    log_id: str = ""
    positions: dict[str, str] = field(default_factory=dict)
    shape: int = 0


class Projection:
    """The projections of one installation. ``turn`` is called again and again, after ``begin``. ``streams``: those that
    are folded, besides control.

    ``control``: every version of the configuration. ``views``: the consumer groups. ``unreachable``: since when the
    server does not answer (ms, None: it does). ``caught_up``: the streams were read to their end once. ``revision``
    counts changes."""

    def __init__(
        self,
        log: Log,
        partitions: int,
        file: Path,
        *,
        streams: Sequence[str] = (*FROM_THE_BEGINNING, *RECENT),
        days: int = 7,
        clock: ServerClock | None = None,
        meter: Telemetry | None = None,
        storage: Storage | None = None,
    ) -> None:
        self.log = log
        self.partitions = partitions
        self.clock = clock or ServerClock()
        self.state = State()
        self.control = Configurations()
        self.views: list[GroupView] = []
        self.unreachable: int | None = None
        self.error = ""
        self.caught_up = False
        self.revision = 0
        self.positions: dict[str, str] = {}
        self._file = file
        self._streams = streams
        self._days = days
        self._meter = meter or Telemetry()
        self._storage = storage or Storage(GROUP)
        self._writer = ThreadPoolExecutor(1, "saving")
        self._saving: Future[bool] = Future()
        self._saving.set_result(True)
        self._unreadable = Unreadable()
        self._places: dict[str, StreamKey] = {}
        self._changed: dict[str, int] = {}
        self._waiting = anyio.Event()
        self._looked_at = self._compared_at = 0.0
        self._saved_at = self._turned_at = time.monotonic()
        self._connections = -1

    @property
    def newest(self) -> Control:
        """The configuration in force."""
        return self.control.newest

    @property
    def now(self) -> int:
        """The server's time (ms)."""
        return self.clock.now_ms()

    @property
    def idle_s(self) -> float:
        """The time since the last turn ended (s)."""
        return time.monotonic() - self._turned_at

    async def begin(self) -> None:
        """Read control, and go on from the file. Without one, or if it is of another installation, start as
        ``services.observatory`` describes."""
        await self.clock.read(self.log)
        await self._read_control()
        kept, state = self._load()
        await self._start(kept, state)

    async def _start(self, kept: Kept, state: State | None) -> None:
        """Go on from what was kept. A stream that is not known is read from its beginning, or from some days ago."""
        self.state = state or core.initial(policy=default_policy(self.newest.gate))
        since = f"{max(self.now - self._days * 86_400_000, 0)}-0"
        for stream in self._streams:
            for number in range(1 if stream in GLOBAL else self.partitions):
                place = StreamKey(stream, number)
                self._places[place.key] = place
                first = START
                if stream in RECENT:
                    first = min(since, (await self.log.extent(place)).last, key=id_order)
                self.positions[place.key] = kept.positions.get(place.key, first)
        for envelope in self.control.envelopes:
            core.apply_command(self.state, envelope.event)

    def _load(self) -> tuple[Kept, State | None]:
        try:
            data = self._file.read_bytes()
            begins = LENGTH + int.from_bytes(data[:LENGTH])
            kept = msgspec.msgpack.decode(data[LENGTH:begins], type=Kept)
            state = core.initial(memoryview(data)[begins:])
        except FileNotFoundError:
            return Kept(), None
        except (OSError, *UNDECODABLE) as error:
            _log.warning("%s cannot be read, so the streams are read again: %s", self._file, error)
            return Kept(), None
        if kept.log_id != self.newest.log_id:
            _log.warning("%s is of another installation, so the streams are read again", self._file)
            return Kept(), None
        if kept.shape != SHAPE:
            _log.info("%s was written by another release, so the streams are read again", self._file)
            return Kept(), None
        return kept, state

    async def turn(self) -> None:
        """Wait for entries, at most ``BLOCK_MS``, and fold them; look at the groups once a second. A server that does
        not answer is shown, and tried again."""
        try:
            await self._compare()
            await self._fold()
            if time.monotonic() - self._looked_at >= LOOK_S:
                await self._look()
            if self.unreachable is not None:
                self.unreachable, self.error = None, ""
                core.check_server(self.state, self.now, "", self.now)
                self.mark("status")
        except UnavailableError as error:
            self.unreachable, self.error = self.unreachable or self.now, str(error)
            core.check_server(self.state, self.now, self.error, self.unreachable)
            self.mark("status")
        if time.monotonic() - self._saved_at > SAVE_S and self._saving.done():
            self._saving.result()  # raises what is not the disk's fault
            self._begin_saving()
        self._turned_at = time.monotonic()

    async def _fold(self) -> None:
        after = {place: self.positions[key] for key, place in self._places.items()}
        started = self.clock.now_ns()
        entries = await self.log.read({CONTROL: self.control.reader.last, **after}, count=BATCH, block_ms=BLOCK_MS)
        for entry in entries:
            if entry.place == CONTROL:
                self._take(entry)
        read = [entry for entry in entries if entry.place != CONTROL]
        begun = time.monotonic()
        for entry in read:
            for _, envelope in events_of([entry], self._unreadable):
                self.mark(core.apply(self.state, entry.place, entry.id, envelope), entry.place.stream)
            self.positions[entry.place.key] = entry.id
            if time.monotonic() - begun > PIECE_S:
                await anyio.sleep(0)
                begun = time.monotonic()
        self._unreadable.log(_log)
        if entries:
            self._count(entries, started)
        if len(entries) < BATCH and not self.caught_up:
            self.caught_up = True
            self.mark("status")

    def _take(self, entry: Entry) -> None:
        """Fold an entry of control. Raises ``ControlError``."""
        if (envelope := self.control.take(entry)) is not None:
            core.apply_command(self.state, envelope.event)
        self.mark("control", "status")

    async def _read_control(self) -> None:
        while entries := await self.log.scan(CONTROL, after=self.control.reader.last):
            for entry in entries:
                self.control.take(entry)

    async def _look(self) -> None:
        """Look at the consumer groups and at the clock."""
        self._looked_at = time.monotonic()
        await self.clock.read(self.log)
        self.views = [view for number in range(self.partitions) for view in await self.log.groups(number)]
        core.check(self.state, self.now, self.views, self.newest)
        for alarm in self._storage.due(self.now):
            core.observe_own(self.state, alarm, self.now)
        self.mark("status")

    async def _compare(self) -> None:
        """Check that the log is the one that was read. If the server lost its last writes, read all streams again: what
        is shown must be on the log. The services raise the alarm."""
        if self.log.opened == self._connections and time.monotonic() - self._compared_at < COMPARE_S:
            return
        lost = await self._lost() if self.log.opened != self._connections else ""
        self._connections, self._compared_at = self.log.opened, time.monotonic()
        try:
            await self.log.check(marks_of(self.control.reader))
        except TruncatedLogError as error:
            lost = str(error)
        if lost:
            _log.error("%s; all streams are read again", lost)
            self.control, self._connections, self.caught_up = Configurations(), -1, False
            await self._read_control()
            await self._start(Kept(), None)
            self.mark("control", "status", *self.state.series)

    async def _lost(self) -> str:
        """Return which stream ends before what was read of it; '' if none does."""
        for key, read in self.positions.items():
            end = (await self.log.extent(self._places[key])).last
            if id_order(end) < id_order(read):
                return f"{key} was read up to {read} and ends at {end}: the server lost its last writes"
        return ""

    def mark(self, *topics: str) -> None:
        """Note that topics changed (a series, a stream, ``status``), and wake the pages that follow."""
        self.revision += 1
        for topic in topics:
            if topic:
                self._changed.pop(topic, None)
                self._changed[topic] = self.revision
        while len(self._changed) > REMEMBERED:
            del self._changed[next(iter(self._changed))]
        self._waiting.set()
        self._waiting = anyio.Event()

    def changed_since(self, revision: int) -> list[str]:
        """Return the topics that changed after a revision, the newest first."""
        topics = []
        for topic in reversed(self._changed):
            if self._changed[topic] <= revision:
                break
            topics.append(topic)
        return topics

    @property
    def waiting(self) -> anyio.Event:
        """The event that the next change sets."""
        return self._waiting

    def save(self) -> None:
        """Replace the file atomically, and wait until that is done. A disk that fails is logged, and the projections
        stay in memory."""
        self._begin_saving()
        self._saving.result()

    def _begin_saving(self) -> None:
        """Begin to replace the file, as of now. A thread encodes and writes piece by piece while events are folded and
        requests answered: with 500 symbols there is a hundred megabytes."""
        self._saved_at = time.monotonic()
        kept = Kept(self.newest.log_id, dict(self.positions), SHAPE)
        write = partial(self._replace, kept, core.pieces(self.state))
        self._saving = self._writer.submit(self._storage.attempt, self._file, write)

    def _replace(self, kept: Kept, pieces: Iterable[bytes]) -> None:
        head = msgspec.msgpack.encode(kept)
        new = self._file.with_suffix(".new")
        with new.open("wb") as file:
            file.write(len(head).to_bytes(LENGTH))
            file.write(head)
            file.writelines(pieces)
        os.replace(new, self._file)

    def _count(self, entries: Sequence[Entry], started: int) -> None:
        consumed: dict[str, int] = {}
        for entry in entries:
            consumed[entry.place.stream] = consumed.get(entry.place.stream, 0) + 1
        ended = self.clock.now_ns()
        self._meter.batch(
            BatchReport(consumed=consumed, outputs=(), started_ns=started, handled_ns=ended, committed_ns=ended)
        )
