"""A TCP proxy between services and their server, which acts at a chosen step of a client's next commit."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Literal, NamedTuple

Step = Literal["read", "before", "in_flight", "answered"]
"""A step of a batch.

- ``read``: the client has received entries.
- ``before``: it has sent a commit, which does not reach the server.
- ``in_flight``: the commit has reached the server, and its reply does not reach the client.
- ``answered``: the client has received the reply."""
STEPS: Final[tuple[Step, ...]] = ("read", "before", "in_flight", "answered")

NAME: Final = re.compile(rb"SETNAME\r\n\$\d+\r\n([^\r]+)\r\n", re.IGNORECASE)
COMMIT: Final = re.compile(rb"FCALL\r\n\$\d+\r\n\w+_commit")
CHUNK: Final = 1 << 16


class Armed(NamedTuple):
    """What to do once, at which step of which client. ``client``: the start of its name."""

    client: bytes
    step: Step
    act: Callable[[], None]


class _Link:
    """One connection of a client. ``committing``: a commit was passed on and not answered. ``silent``: it stays open,
    and nothing passes it any more."""

    def __init__(self) -> None:
        self.name = b""
        self.committing = False
        self.silent = False


class Proxy:
    """Passes connections on to ``target`` (a port on loopback).

    Armed from another thread: ``struck`` is set once the armed action was taken. ``delay_s``: how long each piece of
    data is held back, in both directions (seconds)."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.struck = threading.Event()
        self.delay_s = 0.0
        self._armed: Armed | None = None
        self._links: set[_Link] = set()

    def arm(self, client: str, step: Step, act: Callable[[], None]) -> None:
        """Take ``act`` at the next such step of a client whose name begins with ``client``."""
        self.struck.clear()
        self._armed = Armed(client.encode(), step, act)

    def disarm(self) -> bool:
        """Cancel what is armed. Returns whether it was still waiting."""
        waiting, self._armed = self._armed is not None, None
        return waiting

    def silence(self, client: str) -> int:
        """Leave the connections of a client half open: they stay, and nothing passes them any more. ``client``: the
        start of its name. Returns how many there are."""
        found = [link for link in tuple(self._links) if link.name.startswith(client.encode())]
        for link in found:
            link.silent = True
        return len(found)

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        """Serve in a thread until the end of the block."""
        ready = threading.Event()
        stop = asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            async with await asyncio.start_server(self._accept, "127.0.0.1", port):
                ready.set()
                await stop.wait()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        ready.wait()
        try:
            yield
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join()

    def _strike(self, link: _Link, step: Step) -> bool:
        armed = self._armed
        if armed is None or armed.step != step or not link.name.startswith(armed.client):
            return False
        self._armed = None
        armed.act()
        self.struck.set()
        return True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, asks = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        link = _Link()
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._up(link, reader, asks))
                tasks.create_task(self._down(link, answers, writer))
        except* OSError:
            pass
        except* asyncio.CancelledError:  # the proxy ends
            pass
        finally:
            self._links.discard(link)
            for each in (writer, asks):
                with suppress(OSError):
                    each.close()

    async def _pass(self, link: _Link, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if not link.silent:
            writer.write(data)
            await writer.drain()

    async def _up(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if name := NAME.search(data):
                link.name = name[1]
            commit = COMMIT.search(data) is not None
            if commit and self._strike(link, "before"):
                break
            link.committing = link.committing or commit
            await self._pass(link, data, writer)
        raise ConnectionError

    async def _down(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if link.committing and self._strike(link, "in_flight"):
                break
            await self._pass(link, data, writer)
            if link.committing:
                self._strike(link, "answered")
            elif b"conclave:" in data:
                self._strike(link, "read")
            link.committing = False
        raise ConnectionError
