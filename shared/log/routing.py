"""Choose the connection that a command takes: to the server that has its key, and to the next one if that moved.

A connection that broke is replaced, and the server is looked up again each time (``shared.log.topology``). So a command
reaches the new master after a failover, and the new owner of a slot that a cluster has moved.
"""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import anyio

from shared.log import UnavailableError
from shared.log.address import Address
from shared.log.connection import Connection, RedirectedError
from shared.log.topology import Topology

T = TypeVar("T")

LONGEST_PAUSE_S: Final = 0.5
"""The longest pause between two attempts (seconds). After a failover a command waits no longer than that."""


class Router:
    """The connections of one log. Commands share one connection to each server; each read that waits has its own.

    ``name``: what the server lists the connections as. ``patience_s``: how long a command whose connection broke is
    sent again, in seconds."""

    def __init__(self, topology: Topology, name: str, patience_s: float) -> None:
        self._topology = topology
        self._name = name
        self._patience = patience_s
        self._commands: dict[int, Connection] = {}
        self._open = set[Connection]()
        self._opened = 0
        self._opening = anyio.Lock()

    @property
    def address(self) -> Address:
        """Return the address of the servers."""
        return self._topology.address

    @property
    def opened(self) -> int:
        """Return how many connections were opened so far."""
        return self._opened

    def server_of(self, key: str) -> int:
        """Return the number of the server that has ``key``."""
        return self._topology.server_of(key)

    async def masters(self) -> Sequence[int]:
        """Return a number for each master. Raises ``UnavailableError``."""
        return await self._topology.masters()

    async def at(self, key: str, send: Callable[[Connection], Awaitable[T]]) -> T:
        """Await ``send`` with the connection to the server of a key, and repeat it if the connection breaks."""

        async def attempt() -> T:
            try:
                return await send(await self.connected(self.server_of(key)))
            except RedirectedError as error:
                if not error.asked:
                    raise
                # The slot is being moved, and this key is not at its old node. The next command about it starts at the
                # old node again: the new one would create keys that have not been moved yet.
                connection = await self._noted(self._topology.open_at(error.host, error.port, self._name, asking=True))
            try:
                return await send(connection)
            finally:
                await connection.close()

        return await self.persist(attempt)

    async def persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat an attempt until it is answered, or until ``patience_s`` seconds have passed.
        Raises ``UnavailableError``, ``ServerError``."""
        deadline, pause = time.monotonic() + self._patience, 0.02
        while True:
            try:
                return await attempt()
            except UnavailableError as error:
                if isinstance(error, RedirectedError) and not error.asked:
                    await self._moved(error)
                if time.monotonic() + pause > deadline:
                    raise
            await anyio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def connected(self, server: int) -> Connection:
        """Return the connection for commands to a server; open it if there is none. Raises ``UnavailableError``."""
        connection = self._commands.get(server)
        if connection is None or connection.closed:
            async with self._opening:
                connection = self._commands.get(server)
                if connection is None or connection.closed:
                    if connection is not None:
                        await connection.close()
                    connection = self._commands[server] = await self._noted(self._topology.open(server, self._name))
        return connection

    async def for_reads(self, server: int) -> Connection:
        """Open a connection to a server, for a read that waits there. The caller closes it."""
        return await self._noted(self._topology.open(server, f"{self._name}:read"))

    async def close(self) -> None:
        """Close all connections: those for commands and for reads, also of a task that did not end when it was
        cancelled, and those that were opened to look up servers."""
        while self._open:
            await self._open.pop().close()
        self._commands = {}
        await self._topology.close()

    async def _noted(self, opening: Awaitable[Connection]) -> Connection:
        """Note a connection until it is closed."""
        connection = await opening
        self._opened += 1
        for each in [each for each in self._open if each.closed]:
            self._open.discard(each)
            await each.close()  # the server closed it
        self._open.add(connection)
        return connection

    async def _moved(self, error: RedirectedError) -> None:
        """Record that another node has the slot now, and close the connection to the former one."""
        self._topology.redirected(error)
        if (connection := self._commands.pop(error.slot, None)) is not None:
            await connection.close()
