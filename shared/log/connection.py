"""Use one connection of redis-py to one server directly, without its client.

The pooled client of redis-py repeats commands after an error, gives up on long waits, and for a small command takes
more time than the server. Here no command is repeated, each wait has its own limit, and each command is one write. TLS,
credentials, the handshake and the reply parser are still those of redis-py (``redis.asyncio.connection``).
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from redis.asyncio.connection import AbstractConnection
from redis.connection import HiredisRespSerializer
from redis.exceptions import AskError, AuthenticationError, MovedError, RedisError, ResponseError
from redis.exceptions import ConnectionError as BrokenError

from shared.log import LoadingError, PassingError, UnavailableError

CONNECT_S: Final = 5.0
"""How long a connection may take to open and to log in (seconds)."""
ANSWER_S: Final = 10.0
"""How long a command may take, unless it is one that blocks (seconds)."""

_AGAIN: Final = {
    "LOADING",
    "BUSY",
    "TRYAGAIN",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "READONLY",
    "UNBLOCKED",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
}
"""Error codes of a server after which the command may be tried again."""
_KINDS: Final = {
    "LOADING": LoadingError,
    **dict.fromkeys(("BUSY", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN", "UNBLOCKED"), PassingError),
}
"""Those after which it succeeds without any change."""
_NO_CLIENT: Final = "ERR max number of clients"
_DO: Final = {
    "OOM": "raise its memory limit (CONFIG SET maxmemory <bytes>, and in its configuration file)",
    "MISCONF": "make room on the disk of the server's directory (CONFIG GET dir), and look into its log",
    "READONLY": "it is a replica, or became one: write to the master",
    "NOREPLICAS": "start the replicas that min-replicas-to-write asks for",
}
"""What a person can do about an error that does not end by itself."""
_LOGIN: Final = "the variables CONCLAVE_REDIS_USER and CONCLAVE_REDIS_PASSWORD"
_CHANGE: Final = {
    "NOAUTH": f"It asks for a user and a password: set {_LOGIN}",
    "WRONGPASS": f"Check {_LOGIN}",
    "NOPERM": "`conclave access` writes what the user of each service must be allowed to do",
    "ERR DB index": "Write a database in url in [redis] that the server has; 0 always exists",
    "WRONGTYPE": "A key of Conclave was written by another program: write another database in url in [redis]",
    _NO_CLIENT: "Raise its limit: CONFIG SET maxclients <number>, and in its configuration file",
}
"""What a person must change after an error, by the beginning of its text."""
_NO_MASTER: Final = ("READONLY", "UNBLOCKED")
"""Errors of a server that became a replica. The connection is then closed, so that the master is looked up again."""

_pack: Final = cast("Callable[..., list[bytes]]", HiredisRespSerializer().pack)  # redis-py annotates it wrongly
"""Pack a command with hiredis. The packer of redis-py's asynchronous connection takes seven times as long."""
_ASKING: Final = _pack("ASKING")
_TRUST: Final = (
    "Is it TLS that it speaks (tls-port), is its certificate for this host name, and was it signed by what "
    "`ca` in [redis] names?"
)
_SPOKEN: Final = (
    "Is it running, is it a Redis server, and do both sides use TLS or neither (rediss:// or redis:// in url in "
    "[redis])?"
)
"""Asked where something took the connection, or may have taken it, and did not answer as a server does."""

Command = Sequence[str | bytes]
Sent = Callable[[], Awaitable[None]]


class ServerError(RuntimeError):
    """The server answered with an error. The first word of the message is the error code."""


class RedirectedError(UnavailableError):
    """Another node of the cluster has the slot of the key.

    ``asked``: the redirection is for this command alone, while the slot is being moved (``ASK``). Otherwise the slot
    has moved (``MOVED``)."""

    def __init__(self, where: str, error: AskError, host: str) -> None:
        self.slot, self.host, self.port = error.slot_id, error.host or host, error.port
        self.asked = not isinstance(error, MovedError)
        super().__init__(f"{where}: slot {self.slot} is at {self.host}:{self.port}")


class Connection:
    """A connection to a server. Open it with ``Connection.open``. Once it is closed, it stays closed.

    Several tasks may use ``call`` at the same time. Their commands are sent and answered one after the other. The
    answer to a caller that was cancelled is dropped when it arrives. ``send`` and ``answer`` are for a single task.

    ``asking``: send ``ASKING`` before each command, for a node to which the slot is being moved."""

    def __init__(self, link: AbstractConnection, where: str, *, asking: bool = False) -> None:
        self._link = link
        self._where = where
        self._asking = asking
        self._turn = asyncio.Lock()
        self._owed = 0
        self._replica = False
        self._clock = asyncio.get_running_loop().time
        # One timer serves all waits. Usually it fires when no wait is left. An ``asyncio.timeout`` for each wait would
        # add half the time that the rest of a small command takes.
        self._due = deque[float]()
        self._watch: asyncio.TimerHandle | None = None
        self._watched = 0.0

    @classmethod
    async def open(
        cls, link: AbstractConnection, where: str, *, asking: bool = False, limit_s: float = CONNECT_S
    ) -> "Connection":
        """Connect and log in, within ``limit_s`` seconds. Raises ``UnavailableError``, ``ServerError``."""
        connection = cls(link, where, asking=asking)
        try:
            async with asyncio.timeout(limit_s):
                await link.connect()  # type: ignore[no-untyped-call]  # not annotated
        except TimeoutError:
            await connection.close()
            raise UnavailableError(f"no server at {where}: no answer within {limit_s:.0f} s. {_SPOKEN}") from None
        except RedisError as error:
            await connection.close()
            raise _unopened(where, error) from None
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def closed(self) -> bool:
        """Return whether the connection was closed, on this side or by the server."""
        reader, writer = self._link._reader, self._link._writer
        return reader is None or writer is None or reader.at_eof() or writer.is_closing()

    async def close(self) -> None:
        """Close at once. Data that was not sent yet is dropped, and pending calls are not answered."""
        self._abort()
        await self._link.disconnect(nowait=True)

    async def call(self, command: Command, limit_s: float = ANSWER_S, sent: Sent | None = None) -> Any:
        """Send one command, and return its answer. ``sent`` is awaited in between, before the answer is read.

        If the answer does not arrive within ``limit_s`` seconds, the connection is closed.
        Raises ``UnavailableError``, ``ServerError``."""
        [answer] = await self.call_all([command], limit_s, sent)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def call_all(
        self, commands: Sequence[Command], limit_s: float = ANSWER_S, sent: Sent | None = None
    ) -> list[Any]:
        """Send commands in one write, and return their answers, any of which may be an exception (see ``call``)."""
        packed: list[bytes] = []
        for command in commands:
            packed += (*_ASKING, *_pack(*command)) if self._asking else _pack(*command)
        count = len(commands) * (1 + self._asking)
        deadline = self._expect(limit_s)
        try:
            async with self._turn:
                if self.closed:  # redis-py would reconnect, to a server that may have lost entries
                    raise BrokenError("it is closed")
                await self._link.send_packed_command(packed, check_health=False)
                abandoned, self._owed = self._owed, self._owed + count
                if sent is not None:
                    await sent()
                for _ in range(abandoned):
                    await self._read()
                answers = [await self._read() for _ in range(count)]
        except RedisError as error:
            raise await self._broken(error, deadline) from None
        finally:
            self._due.remove(deadline)
        if self._replica:
            await self.close()
        return answers[1::2] if self._asking else answers

    async def send(self, command: Command, limit_s: float) -> None:
        """Send a command whose answer is awaited later, by ``answer``. The answer is due within ``limit_s`` seconds.
        Raises ``UnavailableError``."""
        deadline = self._expect(limit_s)
        try:
            if self.closed:
                raise BrokenError("it is closed")
            await self._link.send_packed_command(_pack(*command), check_health=False)
        except RedisError as error:
            raise await self._broken(error, deadline) from None
        self._owed += 1

    async def answer(self) -> Any:
        """Return the answer to the command that ``send`` sent. If this is cancelled, it may be called again.

        Raises the same errors as ``call``."""
        try:
            answer = await self._read()
        except RedisError as error:
            raise await self._broken(error, self._due[0]) from None
        self._due.popleft()
        if self._replica:
            await self.close()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _read(self) -> Any:
        """Return the next answer. An error of the server is returned, not raised."""
        try:
            answer = await self._link.read_response(disable_decoding=True, disconnect_on_error=False)
        except ResponseError as error:
            answer = self._judged(error)
        except BrokenError as error:
            if error.status_code is None:
                raise
            answer = self._judged(error)
        self._owed -= 1
        return answer

    async def _broken(self, error: RedisError, deadline: float) -> UnavailableError:
        await self.close()
        if self._clock() >= deadline:
            return UnavailableError(f"{self._where} did not answer in time")
        return UnavailableError(f"{self._where} closed the connection ({error})")

    def _expect(self, limit_s: float) -> float:
        """Have the connection closed if an answer does not arrive within ``limit_s`` seconds. Return the deadline."""
        deadline = self._clock() + limit_s
        self._due.append(deadline)
        if self._watch is None or deadline < self._watched:
            self._watch_until(deadline)
        return deadline

    def _watch_until(self, deadline: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watched = deadline
        self._watch = asyncio.get_running_loop().call_at(deadline, self._look)

    def _look(self) -> None:
        """Close the connection if an answer is overdue. Otherwise look again at the next deadline."""
        self._watch = None
        if self._due and not self.closed:
            first = min(self._due)
            if first <= self._clock():
                self._abort()
            else:
                self._watch_until(first)

    def _abort(self) -> None:
        writer = self._link._writer  # redis-py's own close would first send buffered data
        if writer is not None:
            writer.transport.abort()

    def _judged(self, error: RedisError) -> Exception:
        if isinstance(error, AskError):
            return RedirectedError(self._where, error, getattr(self._link, "host", ""))
        self._replica = self._replica or _words(error).startswith(_NO_MASTER)
        return judged(self._where, error)


def judged(where: str, error: RedisError) -> UnavailableError | ServerError:
    """Return the error for a caller: ``UnavailableError`` if the command may be tried again, else ``ServerError``."""
    text = _words(error)
    code = text.split(" ", 1)[0]
    change = next((f". {todo}" for begin, todo in _CHANGE.items() if text.startswith(begin)), "")
    if code in _AGAIN:
        sentence = f"{where} cannot do it now: {text}" + (f" What to do: {_DO[code]}" if code in _DO else "")
        return _KINDS.get(code, UnavailableError)(sentence)
    if isinstance(error, AskError):  # a client of redis-py for one node; the next attempt looks the node up again
        return UnavailableError(f"{where}: slot {error.slot_id} has moved, or is being moved")
    if isinstance(error, AuthenticationError | ResponseError):
        return ServerError(f"{text.rstrip('.')}{change} ({where})" if change else text)
    kind = PassingError if text.startswith(_NO_CLIENT) else UnavailableError
    return kind(f"{where} does not answer: {text}{change}")


def _words(error: RedisError) -> str:
    """Return an error as the server wrote it. redis-py removes the error code from some of them."""
    return f"{error.status_code} {error}" if error.status_code else str(error)


@contextmanager
def server_errors(where: str) -> Iterator[None]:
    """Turn the errors of redis-py's client in the body into ``UnavailableError`` and ``ServerError``."""
    try:
        yield
    except RedisError as error:
        raise _unopened(where, error) from None


def _unopened(where: str, error: RedisError) -> UnavailableError | ServerError:
    """Return the error as ``judged`` does, with a hint if the connection could not be opened."""
    while isinstance(error.__cause__, RedisError):  # an error of the handshake over a Unix socket is wrapped
        error = error.__cause__
    if isinstance(error.__context__, ssl.SSLError):
        return UnavailableError(f"no trusted server at {where}: {error.__context__}. {_TRUST}")
    if error.status_code or isinstance(error, ResponseError):
        return judged(where, error)
    text = str(error).rstrip(".")
    unreached = text.startswith("Error ") and " connecting to " in text  # as redis-py says that nothing took it
    return UnavailableError(f"no server at {where}: {text}. {'Is it running?' if unreached else _SPOKEN}")
