"""Carry out the steps of a plan: what goes wrong, and what operators do."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from tests.simulation.network import Link
from tests.simulation.operators import OPERATOR, RECOVER_S, Operators
from tests.simulation.plan import (
    SERVER,
    Cut,
    DeleteRecord,
    Issue,
    Kill,
    Lose,
    Restart,
    SetClock,
    Slow,
    Step,
    Stop,
    Suspend,
)
from tests.simulation.processes import AGAIN_S, Life, doing
from tests.simulation.supervisor import Supervisor


class Troubles:
    """The steps of one run."""

    def __init__(self, world: Supervisor) -> None:
        self._world = world
        self._operators = Operators(world)

    def do(self, step: Step) -> None:
        """Carry out a step of the plan."""
        match step:
            case Kill() | Stop() | Suspend():
                life = self._world.life(step.who)
                if life is not None:
                    self._disturb(step, life)
            case Lose(who=who, what=what):
                self._world.link(who).mishaps.append(what)
            case Slow(who=who, for_s=seconds):
                self._world.tell(f"the network of {who} is slow for {seconds} s")
                self._world.link(who).slow = True
                self._world.later(seconds, setattr, self._world.link(who), "slow", False)
            case Cut(who=who, for_s=seconds):
                self._world.tell(f"{who} cannot reach the server for {seconds} s")
                self._world.link(who).cut = True
                self._world.later(seconds, self._heal, self._world.link(who))
            case Restart(down_s=seconds, lost=lost) if self._world.server.up:
                self._world.tell(f"the server is killed, for {seconds} s")
                self._world.server.stop()
                self._world.later(seconds, self._up, lost)
            case SetClock(who=who, by_s=seconds):
                self._set_clock(who, seconds)
            case DeleteRecord(who=who):
                self._delete(who)
            case Issue(command=command, steps=steps):
                operator = self._operators.issue(command)
                if steps >= 0:
                    self._at(operator, steps, partial(self._killed, Kill(step.at, OPERATOR, 0, 0.0, False), operator))
            case Restart():  # it is down already
                pass

    def _disturb(self, step: Kill | Stop | Suspend, life: Life) -> None:
        match step:
            case Kill():
                life.down_s, life.moved = step.down_s, step.moved
                self._at(life, step.steps, partial(self._killed, step, life))
            case Stop():
                life.down_s = step.down_s
                self._world.tell(f"{life.name} is asked to stop")
                life.stop.set()
            case Suspend():
                self._at(life, step.steps, partial(self._suspended, step, life))

    def _at(self, life: Life, steps: int, reached: Callable[[], None]) -> None:
        life.breakpoint, life.reached = life.steps + steps, reached

    def _killed(self, step: Kill, life: Life) -> None:
        where = ", and starts elsewhere" if step.moved else ""
        self._world.tell(f"{life.name} is killed{doing(life)}, for {step.down_s} s{where}")
        self._world.kill(life)

    def _suspended(self, step: Suspend, life: Life) -> None:
        self._world.tell(f"{life.name} is suspended{doing(life)}, for {step.for_s} s")
        self._world.loop.suspend(life)
        self._world.later(step.for_s, self._resumed, life)
        if step.replaced:
            self._world.later(AGAIN_S, self._world.start, life.name, life.elsewhere)

    def _resumed(self, life: Life) -> None:
        self._world.tell(f"{life.name} runs again")
        self._world.loop.resume(life)

    def _heal(self, link: Link) -> None:
        link.cut = False
        held, link.held = link.held, []
        for request in held:
            if link.draw.random() < 0.5:
                self._world.later(link.delay(), self._world.server.arrive, request)

    def _up(self, lost: int) -> None:
        gone = self._world.server.start(lost)
        self._world.tell(f"the server is back{f', without its last {gone} writes' if gone else ''}")
        if gone:
            self._world.invariants.restart()
            self._world.fed = False
            self._world.later(AGAIN_S, self._world.start, "feed")
            self._world.later(RECOVER_S, self._operators.recover)

    def _set_clock(self, who: str, seconds: float) -> None:
        self._world.tell(f"the clock of {who} is moved by {seconds} s")
        if who == SERVER:
            self._world.server.offset_s += seconds
        elif (life := self._world.life(who)) is not None:
            life.offset_s += seconds

    def _delete(self, who: str) -> None:
        with suppress(KeyError):  # it is deleted already
            self._world.server.log.lose_hash(who)
            self._world.tell(f"the record of {who} is deleted")
