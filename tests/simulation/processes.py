"""Processes of a simulation, and what stands for the parts of the runtime that open a log and name a process."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple, Protocol

import anyio

from services.gate_evaluator import main as gate_evaluator
from shared.log import Log, Owner
from shared.runtime import loop as loop_module
from shared.runtime import process as process_module
from shared.settings import Settings
from tests.simulation.loop import Process, current_process
from tests.simulation.network import Connection, Link, Server

AGAIN_S: Final = 1.0
"""After this time a process that ended by itself is started again."""
HERE, THERE = "here", "there"
"""Two machines."""


class Told(NamedTuple):
    """One line of a story. ``bar``: the newest bar on the market; -1: none."""

    at: float
    bar: int
    text: str


class Reachable(Protocol):
    """A world with a server."""

    @property
    def server(self) -> Server:
        """The server."""

    def link(self, who: str) -> Link:
        """Return the way from a process to the server."""


class Life(Process):
    """One process of a program, from its start to its end."""

    task: Any = None

    def __init__(self, program: str, number: int, host: str) -> None:
        super().__init__(program)
        self.number = number
        self.host = host
        self.stop = anyio.Event()
        self.connections: list[Connection] = []
        self.down_s = AGAIN_S
        self.moved = False

    @property
    def elsewhere(self) -> str:
        """The other machine."""
        return THERE if self.host == HERE else HERE


_worlds: list[Reachable] = []


@contextmanager
def hosted(world: Reachable) -> Iterator[None]:
    """Let services open their log in a world while the body runs."""
    replaced: list[tuple[Any, str, Any]] = [
        (process_module, "opened_log", opened_log),
        (loop_module, "opened_log", opened_log),
        (gate_evaluator, "opened_log", opened_log),
        (process_module, "owner", owner),
        (loop_module, "this_process", owner),
    ]
    former = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    _worlds.append(world)
    try:
        for module, name, function in replaced:
            setattr(module, name, function)
        yield
    finally:
        _worlds.pop()
        for module, name, function in former:
            setattr(module, name, function)


@asynccontextmanager
async def opened_log(settings: Settings, name: str) -> AsyncIterator[Log]:
    """Stand for ``shared.runtime.process.opened_log``."""
    world, life = _worlds[-1], current_process()
    assert isinstance(life, Life)
    connection = Connection(world.server, world.link(life.name), life)
    life.connections.append(connection)
    yield connection


def owner(label: str) -> Owner:
    """Stand for ``shared.runtime.process.owner``. A program has one pid on each machine."""
    life = current_process()
    assert isinstance(life, Life)
    return Owner(life.host, 1, label, life.number)


def doing(life: Life) -> str:
    calls = [connection.doing for connection in life.connections if connection.doing]
    return f" in its {calls[-1]}" if calls else ""


def in_words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {str(error)[:160]}"
