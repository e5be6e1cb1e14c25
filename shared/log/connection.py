"""One connection of redis-py to one server, driven directly.

redis-py's pooled client repeats commands after an error, gives up on long waits, and costs more than the server does
for a small command. Here no command is repeated, every wait has its own limit, and a command is one write. TLS,
credentials, the handshake and the reply parser are redis-py's (``redis.asyncio.connection``).
"""

import asyncio
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, AuthenticationError, MovedError, RedisError, ResponseError
from redis.exceptions import ConnectionError as BrokenError

from shared.log import UnavailableError

CONNECT_S: Final = 5.0
"""How long a connection may take to open and to log in (seconds)."""
ANSWER_S: Final = 10.0
"""How long a command may take that does not wait on purpose (seconds)."""

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
_NO_MASTER: Final = ("READONLY", "UNBLOCKED")
"""Errors of a server that was made a replica: the connection is closed, so that the master is looked up again."""

_TRUST: Final = (
    "Is it TLS that it speaks (tls-port), is its certificate for this host name, and was it signed by what "
    "`ca` in [redis] names?"
)

Command = Sequence[str | bytes]


class ServerError(RuntimeError):
    """The server answered with an error. Its first word is the kind."""


class RedirectedError(UnavailableError):
    """Another node of the cluster has the slot of the key. ``asked``: for this one command, while the slot moves."""

    def __init__(self, where: str, error: AskError, host: str) -> None:
        self.slot, self.host, self.port = error.slot_id, error.host or host, error.port
        self.asked = not isinstance(error, MovedError)
        super().__init__(f"{where}: slot {self.slot} is at {self.host}:{self.port}")


class Connection:
    """A connection. Open it with ``Connection.open``; once it is closed it stays closed.

    Several tasks may call at once; they are answered in turn. The answer to a caller that was cancelled is dropped
    when it comes. ``asking``: each command is let in by ``ASKING``, at a node that a slot moves to."""

    def __init__(self, link: AbstractConnection, where: str, *, asking: bool = False) -> None:
        self._link = link
        self._where = where
        self._asking = asking
        self._turn = asyncio.Lock()
        self._owed = 0
        self._replica = False

    @classmethod
    async def open(cls, link: AbstractConnection, where: str, *, asking: bool = False) -> "Connection":
        """Connects and logs in. Raises ``UnavailableError``, ``ServerError``."""
        connection = cls(link, where, asking=asking)
        try:
            async with asyncio.timeout(CONNECT_S):
                await link.connect()  # type: ignore[no-untyped-call]  # has none
        except TimeoutError:
            await connection.close()
            raise UnavailableError(
                f"no server at {where}: no answer within {CONNECT_S:.0f} s. Is it running?"
            ) from None
        except RedisError as error:
            await connection.close()
            raise _unopened(where, error) from None
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def closed(self) -> bool:
        """Whether the connection is closed. One that the server closed is, once a command met that."""
        return not self._link.is_connected

    async def close(self) -> None:
        """Closes at once, without waiting for answers."""
        await self._link.disconnect(nowait=True)

    async def call(self, command: Command, limit_s: float = ANSWER_S, sent: Callable[[], None] | None = None) -> Any:
        """Sends one command and returns its answer. ``sent`` is called between the two. An answer that does not come
        within ``limit_s`` closes the connection. Raises ``UnavailableError``, ``ServerError``."""
        [answer] = await self._exchange([command], limit_s, sent)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def call_all(self, commands: Sequence[Command], limit_s: float = ANSWER_S) -> list[Any]:
        """Sends commands in one write and returns their answers, of which any may be an error (see ``call``)."""
        return await self._exchange(commands, limit_s, None)

    async def _exchange(
        self, commands: Sequence[Command], limit_s: float, sent: Callable[[], None] | None
    ) -> list[Any]:
        link, asking = self._link, self._asking
        packed = [
            piece
            for command in commands
            for piece in (*(link.pack_command("ASKING") if asking else ()), *link.pack_command(*command))
        ]
        try:
            async with asyncio.timeout(limit_s), self._turn:
                if not link.is_connected:  # redis-py would connect again, to a server that may have lost entries
                    raise UnavailableError(f"the connection to {self._where} is closed")
                await link.send_packed_command(packed, check_health=False)
                if sent is not None:
                    sent()
                abandoned = self._owed
                self._owed += len(commands) * (1 + asking)
                for _ in range(abandoned):
                    await self._answer()
                answers = []
                for _ in commands:
                    if asking:
                        await self._answer()
                    answers.append(await self._answer())
        except TimeoutError:
            await self.close()
            raise UnavailableError(f"{self._where} did not answer within {limit_s:.0f} s") from None
        except RedisError as error:
            await self.close()
            raise UnavailableError(f"{self._where} closed the connection ({error})") from None
        if self._replica:
            await self.close()
        return answers

    async def _answer(self) -> Any:
        """The next answer; an error of the server is one. A caller that is cancelled here leaves it to the next."""
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

    def _judged(self, error: RedisError) -> Exception:
        if isinstance(error, AskError):
            return RedirectedError(self._where, error, getattr(self._link, "host", ""))
        self._replica = self._replica or _words(error).startswith(_NO_MASTER)
        return judged(self._where, error)


def judged(where: str, error: RedisError) -> UnavailableError | ServerError:
    """What an error of redis-py means to a caller: try again, or not."""
    text = _words(error)
    if text.split(" ", 1)[0] in _AGAIN:
        return UnavailableError(f"{where} cannot do it now: {text}")
    if isinstance(error, AuthenticationError | ResponseError):
        return ServerError(text)
    return UnavailableError(f"{where} does not answer: {text}")


def _words(error: RedisError) -> str:
    """An error as the server wrote it: redis-py takes some first words away."""
    return f"{error.status_code} {error}" if error.status_code else str(error)


@contextmanager
def server_errors(where: str) -> Iterator[None]:
    """For a body that uses redis-py's client: its errors become ``UnavailableError`` and ``ServerError``."""
    try:
        yield
    except RedisError as error:
        raise _unopened(where, error) from None


def _unopened(where: str, error: RedisError) -> UnavailableError | ServerError:
    """As ``judged``, with what helps where the connection could not be opened."""
    while isinstance(error.__cause__, RedisError):  # of the handshake over a Unix socket
        error = error.__cause__
    if isinstance(error.__context__, ssl.SSLError):
        return UnavailableError(f"no trusted server at {where}: {error.__context__}. {_TRUST}")
    if error.status_code or isinstance(error, ResponseError):
        return judged(where, error)
    return UnavailableError(f"no server at {where}: {error}. Is it running?")
