"""Run the watcher: read the streams and check the groups once a second, and send notices until they are accepted."""

import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final

import anyio
import msgspec
from anyio import to_thread
from msgspec import Struct, field

from schemas.codec import UNDECODABLE
from schemas.orders import OrderFilled
from schemas.scores import PredictionScored
from services.watcher import core
from services.watcher.gauges import readings
from services.watcher.lone import LoneLines, decoded, encoded
from services.watcher.money import WatchedMoney, observe_fill
from services.watcher.sending import NOTIFY, NOTIFY_FILE, RANK, Channels, addresses, line, message
from services.watcher.state import Notice, State
from shared.control import ControlReader
from shared.control.issuing import current
from shared.control.stream import CONTROL, folded, marks_of
from shared.log import START, Entry, Log, StreamKey, TruncatedLogError, UnavailableError
from shared.log.events import events_of, reported_elsewhere
from shared.log.leases import id_order
from shared.recovery.storage import Storage
from shared.runtime.clock import ClockAlarms, ServerClock
from shared.runtime.loop import opened_loop
from shared.settings import Settings
from shared.telemetry.reporting import BatchReport, Telemetry

__all__ = ["Channels", "Watcher", "addresses", "run"]

GROUP: Final = "watcher"
PARTITIONED: Final = ("decisions", "gates", "dead", "alarms", "venue", "market", "orders", "scores")
REFUSED_BY_NO_SERVICE: Final = ("dead", "alarms")
LOOK_S: Final = 1.0
COMPARE_S: Final = 5.0
"""Between two checks that the control log is the one that was read. A new connection is a reason for another."""
SAVE_S: Final = 5.0
FIRST_RETRY_S: Final = 5.0
LAST_RETRY_S: Final = 300.0
RECENT: Final = 1_000
"""The last entries of each stream whose ids are kept in memory."""
MOST_WAITING: Final = 1_000
"""Notices that are kept for an address that does not accept them; older ones are dropped."""
FILE: Final = "watcher.json"
LEVELS: Final = (logging.INFO, logging.WARNING, logging.ERROR)
_log = logging.getLogger(GROUP)


class Kept(Struct):
    """The content of ``watcher.json``. ``positions``: the last entry read, by stream. ``state``: that of the core.
    ``waiting``: the notices that an address has not accepted yet, by digest of the address. ``lone``: the money of
    every model and shadow alone."""

    positions: dict[str, str] = field(default_factory=dict)
    state: State = field(default_factory=State)
    waiting: dict[str, list[Notice]] = field(default_factory=dict)
    lone: bytes = b""


async def run(settings: Settings, stop: anyio.Event) -> None:
    """Watch until ``stop``."""
    urls = addresses()
    channels = Channels(urls)
    if urls:
        _log.info("notices go to: %s", ", ".join(channels.names))
    else:
        _log.info("notices go to this log alone: neither $%s nor $%s names an address", NOTIFY, NOTIFY_FILE)
    async with opened_loop(settings, GROUP) as loop:
        file = Path(settings.installation.state) / FILE
        watcher = Watcher(loop.log, settings.installation.partitions, file, channels, urls, loop.telemetry, loop.clock)
        await watcher.begin()
        loop.ready()
        await loop.repeat(watcher.turn, LOOK_S, stop)
        watcher.save()


class Watcher:
    """The watcher of one installation. ``turn`` is called once a second, after ``begin``."""

    def __init__(
        self,
        log: Log,
        partitions: int,
        file: Path,
        channels: Channels,
        urls: Sequence[str],
        meter: Telemetry,
        clock: ServerClock | None = None,
    ) -> None:
        self._log = log
        self._partitions = partitions
        self._file = file
        self._channels = channels
        self._names = [blake2b(url.encode(), digest_size=8).hexdigest() for url in urls]
        self._meter = meter
        self._clock = clock or ServerClock()
        self._clock_alarms = ClockAlarms(clock, GROUP) if clock is not None else None
        self._control = ControlReader()
        self._verified, self._compared_at = -1, 0.0
        self._kept = Kept()
        self._lone = LoneLines()
        self._storage = Storage(GROUP)
        self._saved_at = time.monotonic()
        self._silent_since: int | None = None
        self._retry_s, self._retry_at = FIRST_RETRY_S, 0.0

    async def begin(self) -> None:
        """Go on from ``watcher.json``; without one, from the present end of each stream."""
        partitions = range(self._partitions)
        places = [StreamKey("training"), *(StreamKey(stream, each) for each in partitions for stream in PARTITIONED)]
        self._kept = self._load() or Kept(state=State(version=(await current(self._log)).version))
        self._lone = decoded(self._kept.lone)
        known = self._kept.positions
        knows_money = all(StreamKey("orders", each).key in known for each in partitions)
        self._kept.positions = {
            place.key: known.get(place.key) or (await self._log.extent(place)).last for place in places
        }
        self._places = {place.key: place for place in places}
        self._recent = {key: deque([read], RECENT) for key, read in self._kept.positions.items()}
        if not knows_money:
            await self._fold_fills()

    def _load(self) -> Kept | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Kept)
        except FileNotFoundError:
            return None
        except (OSError, *UNDECODABLE) as error:
            _log.warning(
                "%s cannot be read (%s): the watcher begins at the present end of each stream", self._file, error
            )
            return None

    async def turn(self) -> None:
        """Read every stream to its end, check the groups, send and log the notices."""
        now = self._clock.now_ms()
        try:
            await self._clock.read(self._log)
            now = self._clock.now_ms()
            await self._compare()
            notices = self._check_itself(now) + await self._read()
            views = [view for partition in range(self._partitions) for view in await self._log.groups(partition)]
            notices += core.check(self._kept.state, now, views, self._control.state)
            notices += core.check_server(self._kept.state, self._clock.now_ms(), "", now)
            self._silent_since = None
            self._meter.levels(readings(self._kept.state, views, self._control.state, self._waiting(), self._lone))
        except UnavailableError as error:
            self._silent_since = self._silent_since or now
            notices = core.check_server(self._kept.state, self._clock.now_ms(), str(error), self._silent_since)
        for notice in notices:
            fields = {"alert": notice.alert, "subject": notice.subject, "like_it": notice.more}
            _log.log(LEVELS[RANK[notice.severity]], f"{notice.alert}: %s", line(notice), extra={"fields": fields})
        for name in self._names if notices else ():
            waiting = self._kept.waiting.setdefault(name, [])
            waiting += notices
            del waiting[:-MOST_WAITING]
        if notices or time.monotonic() - self._saved_at > SAVE_S:
            self.save()
        await self._send()

    def _check_itself(self, now: int) -> list[Notice]:
        """Return the notices about this process, which cannot write to ``alarms``."""
        alarms = self._clock_alarms.after_read() if self._clock_alarms is not None else []
        alarms += self._storage.due(now)
        return [notice for alarm in alarms for notice in core.observe(self._kept.state, alarm, 0, now)]

    async def _compare(self) -> None:
        """Read control from its beginning again if it is not the log that was read before, and other streams from their
        end if that is before what was read. The services that find this raise the alarm."""
        if self._log.opened == self._verified and time.monotonic() - self._compared_at < COMPARE_S:
            return
        if self._log.opened != self._verified:
            await self._go_back()
        self._verified, self._compared_at = self._log.opened, time.monotonic()
        try:
            await self._log.check(marks_of(self._control))
        except TruncatedLogError as error:
            _log.error("%s", error)
            self._control, self._verified = ControlReader(), -1

    async def _go_back(self) -> None:
        """Set the position of each stream that ends before it to the last entry that was read and is left; to the end,
        if none is known. A server that lost its last writes may give new entries ids that are lower than those of the
        lost ones."""
        went_back = False
        for key, read in self._kept.positions.items():
            end = (await self._log.extent(self._places[key])).last
            if id_order(end) < id_order(read):
                _log.error("%s was read up to %s and ends at %s: the server lost its last writes", key, read, end)
                there = await self._log.tail(self._places[key], RECENT)
                left = [entry.id for entry in there if entry.id in self._recent[key]]
                self._kept.positions[key] = left[-1] if left else end
                went_back = went_back or self._places[key].stream == "orders"
        if went_back:
            await self._fold_fills()

    async def _fold_fills(self) -> None:
        """Fold all fills up to the positions again. What is held is valued at the last fill, until its next bar."""
        money = self._kept.state.money = WatchedMoney()
        for place in (StreamKey("orders", each) for each in range(self._partitions)):
            after, until = START, self._kept.positions[place.key]
            while entries := await self._log.scan(place, after=after, until=until, count=1000):
                for _, envelope in events_of(entries, reported_elsewhere):
                    if isinstance(envelope.event, OrderFilled):
                        observe_fill(money, envelope.event)
                after = entries[-1].id

    def save(self) -> None:
        """Replace ``watcher.json`` atomically. A disk that fails is reported, and the state stays in memory: a watcher
        that starts again meanwhile goes on from the last file."""
        self._saved_at = time.monotonic()
        self._storage.attempt(self._file, self._replace)

    def _replace(self) -> None:
        self._kept.lone = encoded(self._lone)
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(self._kept))
        os.replace(new, self._file)

    def _waiting(self) -> int:
        return sum(len(notices) for notices in self._kept.waiting.values())

    async def _read(self) -> list[Notice]:
        notices: list[Notice] = []
        while True:
            after = {self._places[key]: last for key, last in self._kept.positions.items()}
            started = self._clock.now_ns()
            entries = await self._log.read({CONTROL: self._control.last, **after}, count=1000, block_ms=0)
            if not entries:
                return notices
            for command in folded(self._control, [entry for entry in entries if entry.place == CONTROL]):
                notices += core.observe_command(self._kept.state, command.event)
            observed = [entry for entry in entries if entry.place != CONTROL]
            for entry, envelope in events_of(observed, partial(self._observe_unreadable, notices)):
                if isinstance(envelope.event, PredictionScored):
                    self._lone.observe(envelope.event, self._control.state)
                    continue
                notices += core.observe(
                    self._kept.state, envelope.event, entry.place.partition, self._written_at(entry)
                )
            for entry in observed:
                self._kept.positions[entry.place.key] = entry.id
                self._recent[entry.place.key].append(entry.id)
            self._count(entries, started)

    def _observe_unreadable(self, notices: list[Notice], entry: Entry, detail: str) -> None:
        """Log an unreadable entry. Only the watcher reads ``dead`` and ``alarms``, so it also notifies people of one
        there; for one on another stream, a service writes a dead letter."""
        place = entry.place
        _log.warning("%s@%s cannot be read: %s", place.key, entry.id, detail)
        if place.stream in REFUSED_BY_NO_SERVICE:
            notices += core.observe_unreadable(
                self._kept.state, place.stream, entry.id, detail, self._written_at(entry)
            )

    def _count(self, entries: Sequence[Entry], started: int) -> None:
        consumed: dict[str, int] = {}
        for entry in entries:
            consumed[entry.place.stream] = consumed.get(entry.place.stream, 0) + 1
        ended = self._clock.now_ns()
        self._meter.batch(
            BatchReport(consumed=consumed, outputs=(), started_ns=started, handled_ns=ended, committed_ns=ended)
        )
        for duration in self._kept.state.swapped:
            self._meter.record("conclave.swap.duration", duration / 1000)
        self._kept.state.swapped.clear()

    async def _send(self) -> None:
        """Send the notices that wait, one message for each address. An address that fails is tried again after a delay
        that doubles up to ``LAST_RETRY_S``."""
        if not self._waiting() or time.monotonic() < self._retry_at:
            return
        failed: list[str] = []
        for number, name in enumerate(self._names):
            notices = self._kept.waiting.get(name)
            if notices and not await to_thread.run_sync(self._channels.send, number, *message(notices)):
                failed.append(self._channels.names[number])
            else:
                self._kept.waiting.pop(name, None)
        self._kept.waiting = {name: waiting for name, waiting in self._kept.waiting.items() if name in self._names}
        self.save()
        self._retry_at = time.monotonic() + self._retry_s if failed else 0.0
        if failed:
            _log.warning("%s did not accept the notices; trying again in %.0f s", ", ".join(failed), self._retry_s)
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S) if failed else FIRST_RETRY_S

    def _written_at(self, entry: Entry) -> int:
        """Return when an entry was written (ms), by its id; not later than now. A client may append an entry under any
        id, and a notice of the future would hold back all like it until then."""
        return min(id_order(entry.id)[0], self._clock.now_ms())
