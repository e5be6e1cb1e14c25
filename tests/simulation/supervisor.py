"""Start the processes of a simulation, and start them again when they end."""

import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from shared.settings import Installation, Redis, Settings
from tests.simulation.artifacts import bar_number
from tests.simulation.bars import source_of
from tests.simulation.invariants import Invariants
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Link, Server
from tests.simulation.plan import Plan, Restart
from tests.simulation.processes import HERE, Life, Told, in_words


class Supervisor:
    """The processes of one run, its server and its story. ``fed``: the feed has sent all bars. ``ending``: no process
    is started any more."""

    invariants: Invariants
    programs: dict[str, Callable[[Life], Coroutine[Any, Any, Any]]]

    def __init__(self, plan: Plan, state: Path) -> None:
        self.plan = plan
        self.settings = Settings(redis=Redis(), installation=Installation(partitions=1, state=str(state)))
        self.loop = SimulatedLoop(plan.seed)
        forgetful = any(isinstance(step, Restart) and step.lost for step in plan.steps)
        self.server = Server(self.loop, forgetful=forgetful)
        self.source = source_of(plan)
        self.story: list[Told] = []
        self.lives: list[Life] = []
        self.fed = False
        self.ending = False
        self._links: dict[str, Link] = {}
        self._numbers = itertools.count(1)

    def next_number(self) -> int:
        """Return the number of the next process."""
        return next(self._numbers)

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        newest = max(self.invariants.newest.values(), default=-1)
        self.story.append(Told(self.loop.time(), bar_number(newest) if newest >= 0 else -1, text))

    def later(self, seconds: float, call: Callable[..., object], *arguments: Any) -> None:
        """Call a function after some seconds."""
        self.loop.call_later(seconds, call, *arguments, context=self.loop.context)

    def link(self, who: str) -> Link:
        """Return the way from a process to the server."""
        if who not in self._links:
            self._links[who] = Link(who, self.plan.seed, lambda text: self.tell(f"{who}: {text}"))
        return self._links[who]

    def life(self, program: str) -> Life | None:
        """Return the process of a program; None if none runs."""
        return next((life for life in self.lives if life.name == program and not life.dead), None)

    def start(self, program: str, host: str = HERE) -> None:
        """Start a process, unless one of the program runs or its work is over."""
        if self.ending or (program == "feed" and self.fed):
            return
        if any(life.name == program and not life.suspended and not life.dead for life in self.lives):
            return
        life = Life(program, self.next_number(), host)
        self.begin(life, self.programs[program](life), self._ended)

    def begin(self, life: Life, work: Coroutine[Any, Any, Any], ended: Callable[[Life, Any], object]) -> None:
        """Begin a process whose main task is ``work``, and call ``ended`` at its end."""

        def end(task: Any) -> None:
            self.lives.remove(life)
            ended(life, task)

        self.lives.append(life)
        life.task = self.loop.create_task(work, context=self.loop.context_of(life))
        life.task.add_done_callback(end, context=self.loop.context)

    def kill(self, life: Life) -> None:
        """Kill a process: none of its calls is sent any more, whatever it does to clean up."""
        if life in self.lives:
            life.dead = True
            self.loop.resume(life)
            life.task.cancel()

    def _ended(self, life: Life, task: Any) -> None:
        error = None if task.cancelled() else task.exception()
        if not life.dead and error is not None:
            self.tell(f"{life.name} ends: {in_words(error)}")
        if not self.ending:
            self.later(life.down_s, self.start, life.name, life.elsewhere if life.moved else life.host)
