"""Parse the address of the servers of the log: their kind, their places, and how to log in.

``redis://[user[:password]@]host[:port][/database]`` (``rediss://`` for TLS) and ``unix:///path[?db=n]`` name one
server, ``redis+sentinel://host[:port],.../service[/database]`` the master of a Sentinel service, and
``redis+cluster://host[:port],...`` a cluster (``rediss+`` for TLS).
"""

import pkgutil
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from redis.asyncio.connection import parse_url
from redis.credentials import CredentialProvider

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
CERTIFICATE: Final = "ssl_ca_certs"
"""Option of an address: a file of CA certificates. One of them must have signed the server's certificate."""
_OPTIONS: Final = {"db", "protocol", "credential_provider"}
TLS_OPTIONS: Final = {CERTIFICATE, "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}
"""The options that an address may have. Others of redis-py would break assumptions of the log, or trust any server."""
SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password", "sentinel_tls", "sentinel_ca_certs")
"""Options of an address with Sentinels: how to log in to them, and ``yes`` or ``no`` for TLS to them. Without
``sentinel_tls`` they are asked as the servers are: over TLS or not, and with the same certificates."""
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
    socket. ``service``: the name of the master in Sentinel. ``options``: arguments of redis-py's connections.
    ``sentinel``: those of its connections to Sentinels."""

    kind: Kind
    nodes: tuple[tuple[str, int], ...]
    service: str
    tls: bool
    options: Mapping[str, Any]
    sentinel: Mapping[str, Any] = {}

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
    """Parse the address of the servers. Raises ``ValueError``; its message shows no password."""
    try:
        return _parsed(url)
    except ValueError as error:
        shown = url.partition("://")[0] + "://" + url.partition("://")[2].rpartition("@")[2].partition("?")[0]
        why = f" ({error})" if isinstance(error, _AddressError) else ""
        names = ", ".join(sorted(_OPTIONS | TLS_OPTIONS))
        raise ValueError(f"no server address: {shown!r}{why}; {_EXPECTED}{names}") from None


class _AddressError(ValueError):
    """The reason why an address is invalid. It contains no secret."""


def _parsed(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or "@" in parts.query + parts.fragment:  # an unquoted password
        raise ValueError
    scheme, kind = parts.scheme.partition("+")[0], SCHEMES[parts.scheme]
    tls = scheme == "rediss"
    given = parse_qsl(parts.query, keep_blank_values=True)
    to_sentinels = {name: value for name, value in given if name in SENTINEL_OPTIONS and kind == "sentinel"}
    allowed = _OPTIONS | (TLS_OPTIONS if tls else set()) | to_sentinels.keys()
    if unknown := [name for name, _ in given if name not in allowed]:
        raise _AddressError(f"unknown option {unknown[0]}")
    query = urlencode([(name, value) for name, value in given if name not in to_sentinels])
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
    options: dict[str, Any] = dict(parse_url(urlunsplit((scheme, host, path, query, ""))))
    options.pop("connection_class", None)
    options.pop("host", None)
    if kind == "cluster" and options.pop("db", 0):
        raise _AddressError("a cluster has database 0 alone")
    if "credential_provider" in options:
        options["credential_provider"] = _provider(options)
    sentinel = _to_sentinels(to_sentinels, tls, options) if kind == "sentinel" else {}
    return Address(kind, nodes, unquote(service), tls, options, sentinel)


def _to_sentinels(given: Mapping[str, str], tls: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of redis-py's connections to Sentinels."""
    if (word := given.get("sentinel_tls", "yes" if tls else "no")) not in {"yes", "no"}:
        raise _AddressError("sentinel_tls is neither yes nor no")
    own = {"username": given.get("sentinel_username"), "password": given.get("sentinel_password")}
    login = {name: value for name, value in own.items() if value}
    if word == "no":
        if "sentinel_ca_certs" in given:
            raise _AddressError("sentinel_ca_certs is for Sentinels that speak TLS")
        return {**login, "ssl": False}
    trust = {name: value for name, value in options.items() if name in TLS_OPTIONS}
    if "sentinel_ca_certs" in given:
        trust[CERTIFICATE] = given["sentinel_ca_certs"]
    return {**login, **trust, "ssl": True}


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
