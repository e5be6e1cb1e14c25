"""Find the servers of the log, find the one that has a key, and connect to it.

The log is on one server, on the master of a Sentinel service, or on the masters of a cluster. The server is looked up
each time that a connection is opened, so that a new connection leads to the new master after a failover.
"""

import functools
import pkgutil
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.asyncio.connection import (
    AbstractConnection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.connection import Connection as PlainConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.credentials import CredentialProvider
from redis.exceptions import RedisClusterException, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from shared.log import UnavailableError
from shared.log.connection import ANSWER_S, CONNECT_S, Connection, RedirectedError, ServerError, server_errors

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
SENTINEL_S: Final = 1.0
"""How long a Sentinel may take to answer before the next one is asked (seconds)."""
CERTIFICATE: Final = "ssl_ca_certs"
"""Option of an address: a file of CA certificates. One of them must have signed the server's certificate."""
_NO_NOTICES: Final = MaintNotificationsConfig(enabled=False)
"""Only a managed service sends notices of maintenance, but each client would request them from every server."""
_OPTIONS: Final = {"db", "protocol", "credential_provider"}
_TLS_OPTIONS: Final = {CERTIFICATE, "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}
"""The options that an address may have. Others of redis-py would break assumptions of the log, or trust any server."""
_EXPECTED: Final = (
    "expected redis://host:port/0, rediss://... for TLS, unix:///path, redis+sentinel://host:port,host:port/service/0 "
    "or redis+cluster://host:port,host:port, with options "
)

Kind = Literal["server", "sentinel", "cluster"]
SCHEMES: Final[Mapping[str, Kind]] = {
    "redis": "server",
    "rediss": "server",
    "unix": "server",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
"""The kind of an address, by its scheme."""


class Address(NamedTuple):
    """Where the servers are, and how to log in.

    ``nodes``: host and port of the server, or of the Sentinels or cluster nodes that are asked first. Empty for a Unix
    socket. ``service``: the name of the master in Sentinel. ``options``: arguments of redis-py's connections."""

    kind: Kind
    nodes: tuple[tuple[str, int], ...]
    service: str
    tls: bool
    options: Mapping[str, Any]

    def __str__(self) -> str:
        nodes = ",".join(f"{host}:{port}" for host, port in self.nodes)
        match self.kind:
            case "server":
                return self.path or nodes
            case "sentinel":
                return f"service {self.service} of the Sentinels {nodes}"
            case "cluster":
                return f"the cluster of {nodes}"

    def __repr__(self) -> str:
        return f"Address({self})"

    @property
    def path(self) -> str:
        """Return the path of the Unix socket; empty if there is none."""
        return str(self.options.get("path", ""))

    @property
    def user(self) -> str:
        """Return the user name; empty if the address has none."""
        return str(self.options.get("username", ""))

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the hosts of ``nodes``."""
        return tuple(host for host, _ in self.nodes)


def parse_address(url: str) -> Address:
    """Parse the address of the servers: ``redis://[user[:password]@]host[:port][/database]``, ``rediss://`` for TLS,
    ``unix:///path[?db=n]``, ``redis+sentinel://host[:port],.../service[/database]``, ``redis+cluster://host[:port],...``
    (``rediss+`` for TLS). Raises ``ValueError``; its message shows no password."""
    try:
        return _parsed(url)
    except ValueError as error:
        shown = url.partition("://")[0] + "://" + url.partition("://")[2].rpartition("@")[2].partition("?")[0]
        why = f" ({error})" if isinstance(error, _AddressError) else ""
        names = ", ".join(sorted(_OPTIONS | _TLS_OPTIONS))
        raise ValueError(f"no server address: {shown!r}{why}; {_EXPECTED}{names}") from None


class _AddressError(ValueError):
    """The reason why an address is invalid. It contains no secret."""


def _parsed(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or "@" in parts.query + parts.fragment:  # an unquoted password
        raise ValueError
    scheme, kind = parts.scheme.partition("+")[0], SCHEMES[parts.scheme]
    tls = scheme == "rediss"
    allowed = _OPTIONS | (_TLS_OPTIONS if tls else set())
    if unknown := [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if name not in allowed]:
        raise _AddressError(f"unknown option {unknown[0]}")
    login, _, places = parts.netloc.rpartition("@")
    nodes: tuple[tuple[str, int], ...] = ()
    service, path = "", parts.path
    if scheme != "unix":
        nodes = tuple(_node(place, SENTINEL_PORT if kind == "sentinel" else PORT) for place in places.split(","))
        if kind == "server" and len(nodes) > 1:
            raise _AddressError("several hosts are for redis+sentinel:// and redis+cluster://")
        if kind == "sentinel":
            service, _, path = path.strip("/").partition("/")
            if not service:
                raise _AddressError("the service that Sentinel watches is missing")
        if path.strip("/") and not path.strip("/").isdigit():
            raise _AddressError("the database is no number")
    elif not path:
        raise ValueError
    host = f"{login}@localhost" if scheme != "unix" else parts.netloc
    options: dict[str, Any] = dict(parse_url(urlunsplit((scheme, host, path, parts.query, ""))))
    options.pop("connection_class", None)
    options.pop("host", None)
    if kind == "cluster" and options.pop("db", 0):
        raise _AddressError("a cluster has database 0 alone")
    if "credential_provider" in options:
        options["credential_provider"] = _provider(options)
    return Address(kind, nodes, unquote(service), tls, options)


def _node(place: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError
    return parts.hostname, parts.port or port


def _provider(options: Mapping[str, Any]) -> CredentialProvider:
    """Call what an address names as ``package.module:name``, without arguments; return the credential provider."""
    name = options["credential_provider"]
    if {"username", "password"} & options.keys():
        raise _AddressError("user and password come from the credential provider")
    try:
        provider = pkgutil.resolve_name(name)()
    except (ImportError, AttributeError, ValueError):
        raise _AddressError(f"there is no credential provider {name}") from None
    if not isinstance(provider, CredentialProvider):
        raise _AddressError(f"{name} gives no redis.credentials.CredentialProvider")
    return provider


class TlsConnection(SSLConnection):
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
        """Record which node has a slot. Raises ``ServerError`` if the address is not that of a cluster."""
        raise ServerError(
            f"{self.address} is a node of a cluster ({error}): write its address as redis+cluster://host:port"
        )

    async def open(self, server: int, name: str) -> Connection:
        """Open a connection to a server, which lists it as ``name``. Raises ``UnavailableError``, ``ServerError``."""
        return await self.open_at(*await self.node(server), name)

    async def open_at(self, host: str, port: int, name: str, *, asking: bool = False) -> Connection:
        """Open a connection to exactly this node. Raises ``UnavailableError``, ``ServerError``."""
        kind, options = self._connecting(host, port, name)
        return await Connection.open(kind(**options), f"{host}:{port}" if host else self.address.path, asking=asking)

    async def client(self, server: int, name: str) -> Redis:
        """Return a client of redis-py for a server. The caller closes it. It does not repeat commands.
        Raises ``UnavailableError``."""
        kind, options = self._connecting(*await self.node(server), name)
        options |= {
            "socket_timeout": ANSWER_S,
            "retry": Retry(NoBackoff(), 0),
            "maint_notifications_config": _NO_NOTICES,
        }
        return Redis.from_pool(ConnectionPool(connection_class=kind, **options))

    async def close(self) -> None:
        """Close the connections that were opened to look up servers."""

    def _connecting(self, host: str, port: int, name: str = "") -> tuple[type[AbstractConnection], dict[str, Any]]:
        options = {**self._options, "client_name": name.replace(" ", "-")}
        if not host:
            return UnixDomainSocketConnection, options
        return TlsConnection if self.address.tls else PlainConnection, {**options, "host": host, "port": port}


class SentinelTopology(Topology):
    """The master of a service. The Sentinels are asked without a password, over TLS if the address is one of TLS."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        tls = {name: value for name, value in address.options.items() if name in _TLS_OPTIONS}
        options = {
            "socket_timeout": SENTINEL_S,
            "socket_connect_timeout": SENTINEL_S,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "maint_notifications_config": _NO_NOTICES,
        }
        sentinels = {**options, **tls, "ssl": address.tls}
        self._sentinel = Sentinel(address.nodes, sentinel_kwargs=sentinels)  # type: ignore[no-untyped-call]  # not annotated
        if address.tls:
            for sentinel in self._sentinel.sentinels:
                sentinel.connection_pool.connection_class = TlsConnection

    async def node(self, server: int) -> tuple[str, int]:
        """See ``Topology.node``."""
        with server_errors(str(self.address)):
            host, port = await self._sentinel.discover_master(self.address.service)
        return str(host), int(port)

    async def close(self) -> None:
        """See ``Topology.close``."""
        await self._sentinel.aclose()


class ClusterTopology(Topology):
    """The masters of a cluster. The number of a server is any slot that it has."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        kind, options = self._connecting(*address.nodes[0])
        options = {**options, "connection_class": kind, "socket_timeout": ANSWER_S}
        del options["host"], options["port"]
        first = [ClusterNode(host, port, **options) for host, port in address.nodes]
        self._nodes = NodesManager(first, require_full_coverage=False, connection_kwargs=options)
        self._moved: dict[int, tuple[str, int]] = {}

    def server_of(self, key: str) -> int:
        """See ``Topology.server_of``."""
        return slot_of(key)

    async def masters(self) -> Sequence[int]:
        """See ``Topology.masters``."""
        await self._look()
        found: dict[str, int] = {}
        for slot in sorted(self._nodes.slots_cache):
            found.setdefault(self._nodes.get_node_from_slot(slot).name, slot)
        return list(found.values())

    async def node(self, server: int) -> tuple[str, int]:
        """See ``Topology.node``. A redirection of this slot is followed once: the other nodes may learn of it later."""
        if server in self._moved:
            return self._moved.pop(server)
        await self._look()
        if server not in self._nodes.slots_cache:
            raise UnavailableError(f"no node of {self.address} has slot {server}")
        node = self._nodes.get_node_from_slot(server)
        return node.host, int(node.port)

    def redirected(self, error: RedirectedError) -> None:
        """See ``Topology.redirected``."""
        self._moved[error.slot] = error.host, error.port

    async def close(self) -> None:
        """See ``Topology.close``."""
        await self._nodes.aclose()
        await self._nodes.aclose("startup_nodes")

    async def _look(self) -> None:
        with server_errors(str(self.address)):
            try:
                await self._nodes.initialize()
            except RedisClusterException as error:
                if isinstance(error.__cause__, RedisError):
                    raise error.__cause__ from None
                raise UnavailableError(f"{self.address} does not answer as one: {error}") from None


def topology_of(url: str) -> Topology:
    """Return the topology of an address. Raises ``ValueError``."""
    address = parse_address(url)
    return {"server": Topology, "sentinel": SentinelTopology, "cluster": ClusterTopology}[address.kind](address)


@functools.cache
def slot_of(key: str) -> int:
    """Return the slot of a key. Keys with the same hash tag share it. All keys of a command must be of one slot."""
    return key_slot(key.encode())
