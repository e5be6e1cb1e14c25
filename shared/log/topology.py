"""Find the servers of the log, find the one that has a key, and connect to it.

The log is on one server, on the master of a Sentinel service, or on the masters of a cluster. The server is looked up
each time that a connection is opened, so that a new connection leads to the new master after a failover.
"""

import asyncio
import functools
import random
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from redis.asyncio import Redis
from redis.asyncio import connection as links
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from shared.log import UnavailableError
from shared.log.address import SENTINEL_PORT, Address, Kind, parse_address
from shared.log.connection import ANSWER_S, CONNECT_S, Connection, RedirectedError, ServerError, server_errors

SLOTS: Final = 16384
"""The slots of a cluster."""
CLOSE_S: Final = 2.0
"""How long closing may take (seconds)."""
LOOK_S: Final = 1.0
"""How long a Sentinel or a node may take to answer before the next one is asked where the masters are (seconds)."""
_NO_NOTICES: Final = MaintNotificationsConfig(enabled=False)
"""Only a managed service sends notices of maintenance, but each client would request them from every server."""


class SlotRange(NamedTuple):
    """Slots ``first`` to ``last`` of a cluster, and host and port of their master."""

    first: int
    last: int
    master: tuple[str, int]


class Client(Redis):
    """A client of redis-py whose ``async with`` closes its connections although its task was cancelled. That of
    redis-py counts its users in a task first, and a cancelled caller does not come to close them."""

    async def __aexit__(self, *_: object) -> None:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await self.aclose()
        await checkpoint_if_cancelled()  # redis-py may have lost which scope was cancelled


class WrongAddressError(RuntimeError):
    """The servers at an address are of another kind than it says. The message has what to write instead."""


class _Cancellable(AbstractConnection):
    """``asyncio.wait_for`` of Python 3.11, with which redis-py limits how long a client writes, loses a cancellation
    that comes when the write has just ended (gh-86296). Here it is not lost."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        await super().send_packed_command(command, check_health)
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


class PlainConnection(_Cancellable, links.Connection):
    """A connection over TCP, without TLS."""


class UnixConnection(_Cancellable, links.UnixDomainSocketConnection):
    """A connection over a Unix socket."""


class TlsConnection(_Cancellable, links.SSLConnection):
    """TLS 1.2 or later, to a server with a certificate for its host name.

    If the address names CA certificates, only those are trusted. redis-py would also trust those of the system."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        trust = self.ssl_context
        try:
            context = ssl.create_default_context(cafile=trust.ca_certs, capath=trust.ca_path)
            if trust.certfile:
                context.load_cert_chain(trust.certfile, trust.keyfile)
        except FileNotFoundError:
            names = ", ".join(filter(None, (trust.ca_certs, trust.ca_path, trust.certfile, trust.keyfile)))
            raise UnavailableError(f"no certificate at {names}, to speak TLS to {self.host}:{self.port}") from None
        trust.context = context

    @property
    def peer(self) -> dict[str, Any]:
        """Return the server's certificate, in the form of ``ssl.SSLSocket.getpeercert``; empty if not connected."""
        return dict(self._writer.get_extra_info("peercert") or {}) if self._writer is not None else {}


class Topology:
    """One server. Servers have numbers; the only one here is 0."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._options = {
            **address.options,
            "driver_info": None,  # CLIENT SETINFO would be one more permission that users need
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_S,
        }

    def server_of(self, key: str) -> int:
        """Return the number of the server that has ``key``."""
        return 0

    async def masters(self) -> Sequence[int]:
        """Return a number for each master. Raises ``UnavailableError``."""
        return (0,)

    async def node(self, server: int) -> tuple[str, int]:
        """Look up a server, and return its host and port. Raises ``UnavailableError``."""
        return self.address.nodes[0] if self.address.nodes else ("", 0)

    def redirected(self, error: RedirectedError) -> None:
        """Record which node has a slot. Raises ``WrongAddressError`` if the address is not that of a cluster."""
        raise self._wrong("cluster", "a node of a cluster")

    async def check_kind(self, client: Redis) -> None:
        """Raise ``WrongAddressError`` if the server of a client is of another kind than the address says, as far as
        this user may know."""
        try:
            facts = await client.info("server")
        except NoPermissionError:
            return
        mode = facts.get("redis_mode") or facts.get("server_mode")
        if mode == "cluster" and self.address.kind != "cluster":
            raise self._wrong("cluster", "a node of a cluster")
        if mode == "sentinel":
            services = sorted(map(str, await client.sentinel_masters()))
            raise self._wrong("sentinel", "a Sentinel, which keeps no log", services)

    def _wrong(self, kind: Kind, what: str, services: Sequence[str] = ()) -> WrongAddressError:
        scheme = f"{'rediss' if self.address.tls else 'redis'}+{kind}"
        nodes = ",".join(f"{host}:{port}" for host, port in self.address.nodes)
        path = f"/{services[0] if services else 'SERVICE'}" if kind == "sentinel" else ""
        watched = f"; it watches: {', '.join(services)}" if services else ""
        return WrongAddressError(
            f'{self.address} is {what}{watched}. In [redis], write mode = "{kind}" and url = "{scheme}://{nodes}{path}"'
        )

    async def open(self, server: int, name: str) -> Connection:
        """Open a connection to a server, which lists it as ``name``. Raises ``UnavailableError``, ``ServerError``."""
        return await self.open_at(*await self.node(server), name)

    async def open_at(
        self, host: str, port: int, name: str, *, asking: bool = False, limit_s: float = CONNECT_S
    ) -> Connection:
        """Open a connection to exactly this node, within ``limit_s`` seconds. Raises ``UnavailableError``,
        ``ServerError``."""
        kind, options = self._connecting(host, port, name)
        where = f"{host}:{port}" if host else self.address.path
        return await Connection.open(kind(**options), where, asking=asking, limit_s=limit_s)

    async def client(self, server: int, name: str) -> Redis:
        """Return a client of redis-py for a server. The caller closes it. It does not repeat commands.
        Raises ``UnavailableError``."""
        kind, options = self._connecting(*await self.node(server), name)
        options |= {
            "socket_timeout": ANSWER_S,
            "retry": Retry(NoBackoff(), 0),
            "maint_notifications_config": _NO_NOTICES,
        }
        return Client.from_pool(ConnectionPool(connection_class=kind, **options))

    async def close(self) -> None:
        """Close the connections that were opened to look up servers."""

    def _connecting(self, host: str, port: int, name: str = "") -> tuple[type[AbstractConnection], dict[str, Any]]:
        options = {**self._options, "client_name": name.replace(" ", "-")}
        if not host:
            return UnixConnection, options
        return TlsConnection if self.address.tls else PlainConnection, {**options, "host": host, "port": port}


class SentinelTopology(Topology):
    """The master of a service. The Sentinels are asked each time that a connection is opened."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        options = {
            "socket_timeout": LOOK_S,
            "socket_connect_timeout": LOOK_S,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "maint_notifications_config": _NO_NOTICES,
        }
        kwargs = {**options, **address.sentinel}
        self._sentinel = Sentinel(address.nodes, sentinel_kwargs=kwargs)  # type: ignore[no-untyped-call]  # has none
        for sentinel in self._sentinel.sentinels:
            sentinel.connection_pool.connection_class = TlsConnection if address.sentinel["ssl"] else PlainConnection

    async def node(self, server: int) -> tuple[str, int]:
        """See ``Topology.node``."""
        with server_errors(str(self.address)):
            try:
                host, port = await self._sentinel.discover_master(self.address.service)
            except MasterNotFoundError:
                raise await self._not_found() from None
            except ResponseError as error:
                if "unknown command" not in str(error):
                    raise
                raise WrongAddressError(
                    f"{self.address}: one of these is no Sentinel. Name the Sentinels (port {SENTINEL_PORT} by "
                    f'default) in `url` in [redis]; for one server without Sentinels write mode = "single" and its '
                    f"address, as redis://host:port/0"
                ) from None
        return str(host), int(port)

    async def open_at(
        self, host: str, port: int, name: str, *, asking: bool = False, limit_s: float = CONNECT_S
    ) -> Connection:
        """See ``Topology.open_at``. A Sentinel that learns late of a failover names the former master, which may be a
        replica now: it would answer reads with what it has, so its role is checked."""
        connection = await super().open_at(host, port, name, asking=asking, limit_s=limit_s)
        try:
            facts = await connection.call(("INFO", "replication"))
            if b"role:master" not in facts:
                raise UnavailableError(f"{host}:{port} is a replica now, and a Sentinel still names it as the master")
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _not_found(self) -> UnavailableError | ServerError:
        """Return the error for a service without a master, with what each Sentinel answered."""
        reasons, refused = [], False
        for where, answer in await self.ask_all():
            if isinstance(answer, RedisError):
                refused = refused or isinstance(answer, AuthenticationError)
                reasons.append(f"{where}: {answer}")
            else:
                reasons.append(f"{where}: the master {answer['ip']}:{answer['port']} is {answer['flags']}")
        why = f"no master of {self.address} ({'; '.join(reasons)})"
        if refused:
            return ServerError(f"{why}. Set sentinel_user in [redis] and the variable CONCLAVE_SENTINEL_PASSWORD")
        return UnavailableError(why)

    async def ask_all(self) -> list[tuple[str, Mapping[str, Any] | RedisError]]:
        """Ask each Sentinel of the address about the service. Return their places and answers, or why there is none."""
        answers: list[tuple[str, Mapping[str, Any] | RedisError]] = []
        for sentinel in self._sentinel.sentinels:
            options = sentinel.connection_pool.connection_kwargs
            where = f"{options['host']}:{options['port']}"
            try:
                state: Any = await sentinel.sentinel_master(self.address.service)
                answers.append((where, state))
            except RedisError as error:
                answers.append((where, error))
        return sorted(answers, key=lambda each: each[0])

    async def close(self) -> None:
        """See ``Topology.close``."""
        await self._sentinel.aclose()


class ClusterTopology(Topology):
    """The masters of a cluster. The number of a server is any slot that it has.

    redis-py's own lookup of a slot takes 6 ms of processor time. After a failover all services look up all of their
    connections at once, several times, so that this alone delayed them by seconds."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._ranges: list[SlotRange] = []
        self._moved: dict[int, tuple[str, int]] = {}

    def server_of(self, key: str) -> int:
        """See ``Topology.server_of``."""
        return slot_of(key)

    async def masters(self) -> Sequence[int]:
        """See ``Topology.masters``."""
        await self._look()
        found: dict[tuple[str, int], int] = {}
        for each in self._ranges:
            found.setdefault(each.master, each.first)
        return list(found.values())

    async def slots(self) -> dict[tuple[str, int], int]:
        """Return how many slots each master has, by host and port. Raises ``UnavailableError``."""
        await self._look()
        counts = Counter[tuple[str, int]]()
        for each in self._ranges:
            counts[each.master] += each.last - each.first + 1
        return counts

    async def node(self, server: int) -> tuple[str, int]:
        """See ``Topology.node``. A redirection of this slot is followed once: the other nodes may learn of it later."""
        if server in self._moved:
            return self._moved.pop(server)
        await self._look()
        for each in self._ranges:
            if each.first <= server <= each.last:
                return each.master
        raise UnavailableError(f"no node of {self.address} has slot {server}")

    def redirected(self, error: RedirectedError) -> None:
        """See ``Topology.redirected``."""
        self._moved[error.slot] = error.host, error.port

    async def _look(self) -> None:
        """Ask a node which master has which slots: one of those that are known, in any order, or of the address."""
        known = list({each.master: None for each in self._ranges})
        random.shuffle(known)
        faults = []
        for host, port in dict.fromkeys((*known, *self.address.nodes)):
            try:
                connection = await self.open_at(host, port, "conclave:slots", limit_s=LOOK_S)
                try:
                    rows = await connection.call(("CLUSTER", "SLOTS"), LOOK_S)
                finally:
                    await connection.close()
            except UnavailableError as error:
                faults.append(str(error))
            except ServerError as error:
                if "cluster support disabled" not in str(error):
                    raise
                raise WrongAddressError(
                    f'{host}:{port} is one server, not a node of a cluster. In [redis], write mode = "single" and '
                    f'url = "redis://{host}:{port}/0"'
                ) from None
            else:
                self._ranges = sorted(
                    SlotRange(first, last, ((place or host.encode()).decode(), port))
                    for first, last, (place, port, *_), *_ in rows
                )
                return
        raise UnavailableError(f"no node of {self.address} answers: {'; '.join(faults)}")


def topology_of(url: str) -> Topology:
    """Return the topology of an address. Raises ``ValueError``."""
    address = parse_address(url)
    return {"server": Topology, "sentinel": SentinelTopology, "cluster": ClusterTopology}[address.kind](address)


@functools.cache
def slot_of(key: str) -> int:
    """Return the slot of a key. Keys with the same hash tag share it. All keys of a command must be of one slot."""
    return key_slot(key.encode())
