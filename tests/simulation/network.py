"""The server of a simulation, and the connections of processes to it.

The server is a ``MemoryLog``. A request reaches it after a drawn delay and is carried out at one moment; the reply
takes another delay. ``Connection`` does what ``shared.log.redis.RedisLog`` does around that: it opens connections,
sends a request again whose connection broke, and gives up after half a minute.

What can go wrong: the server is restarted, and may come back without its last writes; a connection breaks before a
request is carried out, or before its reply arrives; a request is delivered a second time, later; a process cannot reach
the server for a while, or only slowly.
"""

import random
from asyncio import Future
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import anyio

from schemas.codec import Encoded
from shared.log import (
    START,
    Claim,
    Commit,
    Committed,
    Entry,
    Extent,
    GroupView,
    Owner,
    ReadMark,
    StreamKey,
    SupersededError,
    UnavailableError,
    preceding,
)
from shared.log.memory import MemoryLog
from shared.log.written import Written
from tests.simulation.loop import EPOCH_MS, Process, SimulatedLoop

PATIENCE_S: Final = 30.0
TIMEOUT_S: Final = 5.0
"""How long a connection waits for a reply."""
UNDONE: Final = 400
"""The most writes that a server can lose."""
WRITES: Final = frozenset({"claim", "renew", "release", "commit", "set_fence", "append_at"})

Mishap = Literal["request lost", "reply lost", "delivered twice"]


class DiedError(BaseException):
    """The process was killed: none of its calls is sent any more."""


class ServerLog(MemoryLog):
    """A log that notes what is added to it. A commit that arrives late is refused as on a server: it does not follow
    the commit that it followed when it was sent."""

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__(now)
        self.added: list[Entry] = []
        self._sent_after: int | None = None

    def newest(self, claim: Claim) -> int:
        """Return the token of the last commit under a claim, as its owner knows it."""
        return self._tokens.get((claim.group, claim.partition, claim.epoch, claim.owner), 0)

    def arrived(self, after: int) -> None:
        """Announce a commit that was sent when ``after`` was the newest one."""
        self._sent_after = after

    def _follows(self, claim: Claim, state: Any) -> None:
        super()._follows(claim, state)
        if self._sent_after is not None and state.token != self._sent_after:
            raise SupersededError(f"group {claim.group!r}: the commit does not follow the last one that was applied")

    def _append(self, place: StreamKey, at: tuple[int, int], data: bytes) -> None:
        super()._append(place, at, data)
        self.added.append(self._streams[place].entries[-1])


class Request(NamedTuple):
    """A call of the log on its way: over which connection (``generation`` of the server), and where its reply goes.
    ``after``: the commit that a commit follows."""

    link: "Link"
    generation: int
    after: int
    name: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    reply: "Future[Any]"


class _Wait(NamedTuple):
    """A read that waits for an entry."""

    request: Request
    after: Mapping[StreamKey, str]
    most: int


class Server:
    """See the module. ``watch`` is called after each request that added entries: with its name, its arguments and the
    entries. ``images`` has the state before each of the last writes; it is kept only if ``forgetful``."""

    def __init__(self, loop: SimulatedLoop, *, forgetful: bool = False) -> None:
        self.loop = loop
        self.offset_s = 0.0
        self.log = ServerLog(self.now_ms)
        self.up = True
        self.generation = 1
        self.forgetful = forgetful
        self.images = deque[object](maxlen=UNDONE)
        self.watch: Callable[[str, tuple[Any, ...], Sequence[Entry]], None] = lambda *_: None
        self._waits: dict[int, _Wait] = {}
        self._number = 0

    def now_ms(self) -> int:
        """Return the server's wall clock."""
        return EPOCH_MS + int((self.loop.time() + self.offset_s) * 1000)

    def do(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Carry a request out now, and return what the log returns. Raises what the log raises."""
        if self.forgetful and name in WRITES:
            self.images.append(self.log.image())
        call = getattr(self.log, name)(*arguments, **options)
        try:
            call.send(None)
        except StopIteration as done:
            result = done.value
        else:
            raise TypeError(f"{name} waits")
        if self.log.added:
            added, self.log.added = self.log.added, []
            self.watch(name, arguments, added)
            self._wake({entry.place for entry in added})
        return result

    def stop(self) -> None:
        """Go down. Every connection breaks."""
        self.up = False
        self.generation += 1
        waits, self._waits = self._waits, {}
        for wait in waits.values():
            broken(wait.request)

    def start(self, lost: int = 0) -> int:
        """Come up again, without the last ``lost`` writes. Return how many were lost."""
        lost = min(lost, len(self.images))
        if lost:
            image = self.images[-lost]
            for _ in range(lost):
                self.images.pop()
            self.log.restore(image)
            self.log.added = []
        self.up = True
        return lost

    def arrive(self, request: Request) -> None:
        """Receive a request."""
        link = request.link
        if not self.up or request.generation != self.generation:
            broken(request)
            return
        if link.cut:
            link.held.append(request)
            self.loop.call_later(TIMEOUT_S, broken, request)
            return
        mishap = link.mishaps.pop(0) if link.mishaps and request.name in WRITES else None
        if mishap == "request lost":
            link.note(f"its {request.name} is lost")
            broken(request)
            return
        if mishap == "delivered twice":
            link.note(f"its {request.name} is delivered twice")
            again = request._replace(reply=self.loop.create_future())
            self.loop.call_later(link.draw.uniform(0.0, 2.0), self._again, again)
        if request.name == "read":
            self._read(request)
            return
        try:
            self.log.arrived(request.after)
            result = self.do(request.name, *request.arguments, **request.options)
        except Exception as error:
            self._answer(request, None, error)
            return
        if mishap == "reply lost":
            link.note(f"the reply to its {request.name} is lost")
            broken(request)
            return
        self._answer(request, result, None)

    def _again(self, request: Request) -> None:
        """Carry out a request that was delivered twice. Its reply goes nowhere."""
        if self.up and request.generation == self.generation:
            try:
                self.log.arrived(request.after)
                self.do(request.name, *request.arguments, **request.options)
            except Exception as error:
                request.link.note(f"its second {request.name} is refused: {type(error).__name__}")

    def _answer(self, request: Request, result: Any, error: Exception | None) -> None:
        self.loop.call_later(request.link.delay(), self._deliver, request, result, error)

    def _deliver(self, request: Request, result: Any, error: Exception | None) -> None:
        if request.reply.done():
            return
        if request.link.cut:
            self.loop.call_later(TIMEOUT_S, broken, request)
        elif request.generation != self.generation:
            broken(request)
        elif error is not None:
            request.reply.set_exception(error)
        else:
            request.reply.set_result(result)

    def _read(self, request: Request) -> None:
        [after] = request.arguments
        count, block_ms = request.options["count"], request.options["block_ms"]
        found = self.do("read", after, count=count, block_ms=0)
        if found or block_ms <= 0:
            self._answer(request, found, None)
            return
        self._number += 1
        self._waits[self._number] = _Wait(request, after, count)
        self.loop.call_later(block_ms / 1000, self._over, self._number)

    def _over(self, number: int) -> None:
        wait = self._waits.pop(number, None)
        if wait is not None:
            self._answer(wait.request, [], None)

    def _wake(self, places: set[StreamKey]) -> None:
        for number, wait in list(self._waits.items()):
            if not places.isdisjoint(wait.after):
                found = self.do("read", wait.after, count=wait.most, block_ms=0)
                if found:
                    del self._waits[number]
                    self._answer(wait.request, found, None)


def broken(request: Request) -> None:
    """Let a call fail because its connection broke."""
    if not request.reply.done():
        request.reply.set_exception(UnavailableError("the connection broke"))


class Link:
    """The way from one process to the server. ``slow``: its delays are a hundred times as long. ``cut``: nothing
    passes; requests are held back in ``held``. ``mishaps``: what happens to its next writes."""

    def __init__(self, name: str, seed: object, note: Callable[[str], None]) -> None:
        self.draw = random.Random(f"{seed}/{name}/link")
        self.note = note
        self.slow = False
        self.cut = False
        self.mishaps: list[Mishap] = []
        self.held: list[Request] = []

    def delay(self) -> float:
        """Draw how long a message is on its way (s)."""
        usual = self.draw.expovariate(2000.0) + 0.0001
        return usual * 100 if self.slow else usual


class Connection:
    """``shared.log.Log`` for one process. ``doing``: the call that is under way."""

    def __init__(self, server: Server, link: Link, process: Process) -> None:
        self.server = server
        self.link = link
        self.process = process
        self.doing = ""
        self._opened = 0
        self._over: dict[bool, int] = {}

    @property
    def opened(self) -> int:
        """See ``Log.opened``."""
        return self._opened

    async def time(self, partition: int = 0) -> int:
        """See ``Log.time``."""
        return int(await self._call("time", partition))

    async def check(self, marks: Sequence[ReadMark]) -> None:
        """See ``Log.check``."""
        if marks:
            await self._call("check", list(marks))

    async def claim(
        self, group: str, streams: Sequence[str], partition: int, owner: Owner, *, take_over: bool = False
    ) -> Claim:
        """See ``Log.claim``."""
        claim: Claim = await self._call("claim", group, streams, partition, owner, take_over=take_over)
        return claim

    async def renew(self, claim: Claim) -> None:
        """See ``Log.renew``."""
        await self._call("renew", claim)

    async def release(self, claim: Claim) -> None:
        """See ``Log.release``."""
        await self._call("release", claim)

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        """See ``Log.commit``."""
        committed: Committed = await self._call("commit", claim, commit)
        return committed

    async def fence(self, partition: int) -> str:
        """See ``Log.fence``."""
        return str(await self._call("fence", partition))

    async def set_fence(self, partition: int, mark: str, note: Encoded, *, expected: str | None = None) -> str:
        """See ``Log.set_fence``."""
        return str(await self._call("set_fence", partition, mark, note, expected=expected))

    async def written(self, claim: Claim) -> Mapping[str, Written]:
        """See ``Log.written``."""
        written: Mapping[str, Written] = await self._call("written", claim)
        return written

    async def read(
        self, after: Mapping[StreamKey, str], *, count: int, block_ms: int, ahead: bool = False
    ) -> list[Entry]:
        """See ``Log.read``."""
        entries: list[Entry] = await self._call("read", after, count=count, block_ms=block_ms)
        return entries

    async def scan(self, place: StreamKey, *, after: str = START, until: str = "+", count: int = 1000) -> list[Entry]:
        """See ``Log.scan``."""
        entries: list[Entry] = await self._call("scan", place, after=after, until=until, count=count)
        return entries

    async def tail(self, place: StreamKey, count: int) -> list[Entry]:
        """See ``Log.tail``."""
        entries: list[Entry] = await self._call("tail", place, count)
        return entries

    async def append_at(self, place: StreamKey, entry_id: str, data: bytes, *, marks: Sequence[ReadMark] = ()) -> bool:
        """See ``Log.append_at``. If it was sent more than once, the entry may be there because of the first time."""
        added, sent = await self._persist("append_at", (place, entry_id, data), {"marks": marks})
        if added or sent == 1:
            return bool(added)
        return Entry(place, entry_id, data) in await self.scan(place, after=preceding(entry_id), count=1)

    async def extent(self, place: StreamKey) -> Extent:
        """See ``Log.extent``."""
        extent: Extent = await self._call("extent", place)
        return extent

    async def groups(self, partition: int) -> list[GroupView]:
        """See ``Log.groups``."""
        views: list[GroupView] = await self._call("groups", partition)
        return views

    async def close(self) -> None:
        """See ``Log.close``."""

    async def _call(self, name: str, /, *arguments: Any, **options: Any) -> Any:
        result, _ = await self._persist(name, arguments, options)
        return result

    async def _persist(self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Any, int]:
        """Send a request until it is answered, or until ``PATIENCE_S`` have passed. Return the answer, and how often it
        was sent."""
        loop = self.server.loop
        deadline, pause, sent = loop.time() + PATIENCE_S, 0.02, 0
        after = self.server.log.newest(arguments[0]) if name == "commit" else 0
        while True:
            if self.process.dead:
                raise DiedError
            try:
                self.doing = name
                request = self._sent(after, name, arguments, options)
                sent += 1
                result = await request.reply
                self.doing = ""
                return result, sent
            except UnavailableError:
                self._over.pop(name == "read", None)
                if loop.time() + pause > deadline:
                    raise
            await anyio.sleep(pause * self.link.draw.uniform(0.5, 1.0))
            pause = min(pause * 2, 1.0)

    def _sent(self, after: int, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Request:
        """Send a request, over a new connection if there is none. Raises ``UnavailableError``."""
        server, reads = self.server, name == "read"
        if self._over.get(reads) != server.generation:
            if self.link.cut or not server.up:
                raise UnavailableError("the server cannot be reached")
            self._over[reads] = server.generation
            self._opened += 1
        request = Request(self.link, server.generation, after, name, arguments, options, server.loop.create_future())
        server.loop.call_later(self.link.delay(), server.arrive, request, context=server.loop.context)
        return request
