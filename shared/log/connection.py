"""One connection to a server that speaks RESP: commands go out as bytes, replies come back in order.

A client library repeats commands behind one's back, gives up on long waits, and costs more than the
server does for a small command. Here nothing is repeated, every wait has its own limit, and a
command is one write. Several tasks may call at once; replies are matched by order. A caller that is
cancelled disturbs nobody: its reply is dropped when it comes.
"""

import asyncio
import math
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import hiredis

from shared.log import LoadingError, UnavailableError

CONNECT_S: Final = 5.0
"""How long a connection may take to open and to greet (seconds)."""

CERTIFICATE: Final = "ssl_ca_certs"
"""In an address, as redis-py calls it."""

BUFFER: Final = 1 << 17
"""Bytes taken from the socket at once. Kept, since a fresh buffer this large costs page faults."""

_AGAIN: Final = (
    "LOADING",
    "BUSY",
    "TRYAGAIN",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "READONLY",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
)


_TRUST: Final = (
    "Is it TLS that it speaks (tls-port), is its certificate for this host name, and was it signed by what "
    "`ca` in [redis] names?"
)


def pack(*words: str | bytes) -> bytes:
    """A command as bytes."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # stub wants one
    return packed


class ServerError(RuntimeError):
    """The server answered with an error. Its first word is the kind."""


class Address(NamedTuple):
    """Where a server is, and as whom to speak to it. ``path`` is a Unix socket's."""

    host: str
    port: int
    path: str
    tls: bool
    user: str
    password: str
    database: int
    certificate: str = ""
    """File of the certificate that the server's must be signed by (PEM). Empty: those of the system."""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Address({self})"


def parse_address(url: str) -> Address:
    """``redis://[user[:password]@]host[:port][/database]``, ``unix:///path[?db=n]``, and ``rediss://`` for
    TLS, with ``?ssl_ca_certs=path`` where the system does not know who signed the server's certificate.
    Raises ``ValueError``."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "unix" and parts.path:
        database = parse_qs(parts.query).get("db", ["0"])[0]
        return Address("", 0, unquote(parts.path), False, user, password, int(database))
    tls = parts.scheme == "rediss"
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    certificate = options.pop(CERTIFICATE, "") if tls else ""
    if parts.scheme in ("redis", "rediss") and parts.hostname and not options:
        place = (parts.hostname, parts.port or 6379, "")
        return Address(*place, tls, user, password, int(parts.path.strip("/") or "0"), certificate)
    shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
    raise ValueError(f"no server address: {shown!r}; expected redis://host:port/0, rediss://... or unix:///path")


class _Expected(NamedTuple):
    answer: asyncio.Future[Any]
    deadline: float
    limit_s: float


class Connection(asyncio.BufferedProtocol):
    """A connection. Open it with ``Connection.open``; once it is closed it stays closed."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ServerError)
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._waiting: deque[_Expected] = deque()
        # One timer for all waits, which usually goes off when nothing waits any more: a timer for each
        # would cost as much as the rest of a small command.
        self._watch: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, address: Address, name: str) -> "Connection":
        """Connects, says who is there and chooses the database. Raises ``UnavailableError``."""
        loop = asyncio.get_running_loop()
        wire = cls(str(address))
        try:
            async with asyncio.timeout(CONNECT_S):
                if address.path:
                    await loop.create_unix_connection(lambda: wire, address.path)
                else:
                    context = _context(address) if address.tls else None
                    await loop.create_connection(lambda: wire, address.host, address.port, ssl=context)
                await wire._greet(address, name)
        except ssl.SSLError as error:
            wire.close()
            raise UnavailableError(f"no trusted server at {address}: {error}. {_TRUST}") from None
        except (OSError, TimeoutError) as error:
            wire.close()
            reason = str(error) or f"no answer within {CONNECT_S:.0f} s"
            raise UnavailableError(f"no server at {address}: {reason}. Is it running?") from None
        except BaseException:
            wire.close()
            raise
        return wire

    @property
    def peer(self) -> dict[str, Any]:
        """The server's certificate, as ``ssl.SSLSocket.getpeercert`` gives it; empty without TLS."""
        found = self._transport.get_extra_info("peercert") if self._transport is not None else None
        return dict(found or {})

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._transport is None or self._transport.is_closing()

    def post(self, packed: bytes, replies: int = 1, limit_s: float = math.inf) -> list[asyncio.Future[Any]]:
        """Sends ``packed``, which holds ``replies`` commands; gives their answers to come. One that did not come
        within ``limit_s`` closes the connection."""
        return [self._sent(b"" if rest else packed, limit_s) for rest in range(replies)]

    async def call(self, packed: bytes, limit_s: float, sent: Callable[[], None] | None = None) -> Any:
        """Sends one command and waits for its answer at most ``limit_s``; an answer that did not
        come closes the connection. ``sent`` is called before the wait. Raises ``UnavailableError``,
        ``ServerError``."""
        answer = self._sent(packed, limit_s)
        if sent is not None:
            sent()
        reply = await answer
        if isinstance(reply, ServerError):
            raise self.judged(reply)
        return reply

    def _sent(self, packed: bytes, limit_s: float) -> asyncio.Future[Any]:
        transport, loop = self._transport, self._loop
        if transport is None or transport.is_closing():
            raise UnavailableError(f"the connection to {self._where} is closed")
        answer: asyncio.Future[Any] = loop.create_future()
        deadline = loop.time() + limit_s
        self._waiting.append(_Expected(answer, deadline, limit_s))
        if packed:
            transport.write(packed)
        if self._watch is None or deadline < self._watch.when():
            self._watch_until(deadline)
        return answer

    def _watch_until(self, deadline: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(deadline, self._look) if deadline < math.inf else None

    def _look(self) -> None:
        """Closes the connection where an answer is overdue; else looks again when the next would be."""
        self._watch = None
        overdue = [each for each in self._waiting if each.deadline <= self._loop.time()]
        for answer, _, limit_s in overdue:
            if not answer.done():
                answer.set_exception(UnavailableError(f"{self._where} did not answer within {limit_s:.0f} s"))
        if overdue:
            self.close()
        elif self._waiting:
            self._watch_until(min(each.deadline for each in self._waiting))

    def close(self) -> None:
        """Closes at once; what was not sent is not sent."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of ``asyncio.BufferedProtocol``."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        link = transport.get_extra_info("socket")
        if link is not None and link.family != socket.AF_UNIX:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, option):
                    link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Part of ``asyncio.BufferedProtocol``. A view: asyncio's TLS writes into a slice of what it gets, and
        a slice of the bytes themselves would be a copy, whatever was written to it lost."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Part of ``asyncio.BufferedProtocol``."""
        self._reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # any buffer works
        try:
            while (reply := self._reader.gets()) is not False:
                answer = self._waiting.popleft().answer
                if not answer.done():
                    answer.set_result(reply)
        except (hiredis.HiredisError, IndexError):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of ``asyncio.BufferedProtocol``."""
        self._watch_until(math.inf)
        while self._waiting:
            answer = self._waiting.popleft().answer
            if not answer.done():
                answer.set_exception(
                    UnavailableError(f"{self._where} closed the connection ({exc or 'end of stream'})")
                )
                answer.exception()  # retrieved: whoever was cancelled will not ask

    async def _greet(self, address: Address, name: str) -> None:
        commands: list[tuple[str, ...]] = [("CLIENT", "SETNAME", name)]
        if address.database:
            commands.insert(0, ("SELECT", str(address.database)))
        if address.password:
            login = (address.user, address.password) if address.user else (address.password,)
            commands.insert(0, ("AUTH", *login))
        packed = b"".join(pack(*command) for command in commands)
        for command, answer in zip(commands, self.post(packed, len(commands)), strict=True):
            reply = await answer
            if isinstance(reply, ServerError) and command[0] != "CLIENT":
                raise self.judged(reply)

    def judged(self, error: ServerError) -> Exception:
        """What a server's error means to the caller: try again, or not."""
        kind = str(error).split(" ", 1)[0]
        if kind not in _AGAIN:
            return error
        if kind == "READONLY":
            self.close()
        return (LoadingError if kind == "LOADING" else UnavailableError)(f"{self._where} cannot do it now: {error}")


def _context(address: Address) -> ssl.SSLContext:
    """TLS 1.2 or later; who answers must have a certificate for the host's name."""
    try:
        return ssl.create_default_context(cafile=address.certificate or None)
    except FileNotFoundError:
        raise UnavailableError(f"no certificate at {address.certificate}, to know {address} by") from None
