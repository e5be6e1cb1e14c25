"""A simulated installation: the real services on the real runtime, a server, operators, and what goes wrong."""

import itertools
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio

from schemas.control import Command, Halt, SetWeights
from schemas.market import BarClosed
from services.console.run import recover
from services.ensemble_voter.core import Voter
from services.feature_builder.core import FeatureBuilder
from services.feed import core
from services.feed.main import feed
from services.gate_evaluator import main as gate_evaluator
from services.guard import main as guard
from services.model_worker.core import ModelWorker
from services.shadow_recorder.core import Recorder
from shared.audit.source import places_of
from shared.bars.rows import Good
from shared.control.issuing import ControlWriter, RefusedError, current
from shared.control.stream import CONTROL, now_ms
from shared.log import Commit, Entry, Log, Owner, StreamKey
from shared.runtime import loop as loop_module
from shared.runtime import process as process_module
from shared.runtime.loop import opened_loop, wait
from shared.runtime.process import record_of, serve
from shared.settings import Installation, Redis, Settings
from tests.simulation.artifacts import HOUR, MODELS, SET, Loads, promotions, registrations
from tests.simulation.auditing import verify, verify_forged
from tests.simulation.invariants import Invariants, ViolationError
from tests.simulation.loop import EPOCH_MS, Process, SimulatedLoop, current_process, run, simulated
from tests.simulation.network import Connection, Link, Server
from tests.simulation.plan import (
    OPERATOR,
    SERVER,
    SERVICES,
    Cut,
    DeleteRecord,
    Issue,
    Kill,
    Lose,
    Plan,
    Restart,
    SetClock,
    Slow,
    Step,
    Stop,
    Suspend,
)

SYMBOLS: Final = {"LIVE": "live", "SYN": "synthetic"}
AGAIN_S: Final = 1.0
"""After this time a process that ended by itself is started again."""
QUIET_S: Final = 1.0
RECOVER_S: Final = 3.0
"""So long after the server came back without its last writes, an operator looks at what is missing."""
FORGED: Final = 0.1
"""The share of seeds whose record is forged at the end."""
LIMIT_S: Final = 90.0
"""How long after the last step everything must have been handled."""
HERE, THERE = "here", "there"
"""Two machines."""
FIRST_BAR_MS: Final = EPOCH_MS - 1_000 * HOUR


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


class Told(NamedTuple):
    """One line of a story."""

    at: float
    text: str


class Outcome(NamedTuple):
    """The result of a run: what was violated ('' if nothing), the story, and how much was simulated.
    ``counts``: events by stream. ``digest``: of all that happened."""

    violation: str
    story: Sequence[Told]
    seconds: float
    bars: int
    callbacks: int
    counts: Mapping[str, int]
    digest: str


class Source:
    """The bars of a plan, as a ``BarSource``: the ``history``, then those that are fed."""

    name = "the simulation"
    identity = "51" * 32

    def __init__(self, history: Sequence[BarClosed], fed: Sequence[BarClosed]) -> None:
        self.history = history
        self._rows = [*history, *fed]
        self.bars = list({(bar.symbol, bar.open_time): bar for bar in self._rows}.values())

    def rows(self, skip: int = 0) -> Iterator[Good]:
        """See ``BarSource``."""
        return (Good(bar, f"row:{number}") for number, bar in enumerate(self._rows) if number >= skip)

    def all_but_last(self) -> "Source":
        """Return the source as it is before the last bar of each symbol closes."""
        newest = self._rows[-1].open_time
        return Source(self.history, [bar for bar in self._rows[len(self.history) :] if bar.open_time < newest])


def source_of(plan: Plan) -> Source:
    """Return the source of a plan."""
    history = [_bar(symbol, number) for number in range(plan.history) for symbol in SYMBOLS]
    bars = [_bar(symbol, number) for number in range(plan.history, plan.history + plan.bars) for symbol in SYMBOLS]
    rows: list[BarClosed] = []
    for number, bar in enumerate(bars):
        rows += [bar] * ((number not in plan.missing) + (number in plan.doubled))
    return Source(history, rows)


def _bar(symbol: str, number: int) -> BarClosed:
    turn = (number * 7919 + len(symbol) * 104_729) % 1000 / 1000
    return BarClosed(
        symbol=symbol,
        interval_ms=HOUR,
        open_time=FIRST_BAR_MS + number * HOUR,
        open=100.0,
        high=102.0,
        low=99.0,
        close=100.0 + turn,
        volume=5.0,
        origin=SYMBOLS[symbol],  # type: ignore[arg-type]
    )


class World:
    """One run of a plan."""

    def __init__(self, plan: Plan, state: Path) -> None:
        self.plan = plan
        self.settings = Settings(redis=Redis(), installation=Installation(partitions=1, state=str(state)))
        self.loop = SimulatedLoop(plan.seed)
        forgetful = any(isinstance(step, Restart) and step.lost for step in plan.steps)
        self.server = Server(self.loop, forgetful=forgetful)
        self.server.watch = self._watch
        self.source = source_of(plan)
        self.invariants: Invariants
        self.story: list[Told] = []
        self.violation = ""
        self.lives: list[Life] = []
        self.links: dict[str, Link] = {}
        self.founded_s = 0.0
        self.forged = ""
        self.fed = False
        self.ending = False
        self.added_at = 0.0
        self._numbers = itertools.count(1)
        self.programs: dict[str, Callable[[Life], Coroutine[Any, Any, Any]]] = {
            "feed": self._feed,
            "feature-builder": lambda life: self._serve(FeatureBuilder([SET]), life),
            **{f"model-worker.{model}": partial(self._work, model) for model in MODELS},
            "ensemble-voter": lambda life: self._serve(Voter(ticks=200), life),
            "shadow-recorder": lambda life: self._serve(Recorder(), life),
            "gate-evaluator": lambda life: gate_evaluator.run(self.settings, 0, life.stop),
            "guard": lambda life: guard.run(self.settings, life.stop),
        }

    def run(self) -> Outcome:
        """Run the plan to its end, or to the first violation."""
        with simulated(self.loop), self._hosted():
            self.invariants = Invariants(self.server.log)
            run(self.loop, self._main)
            if not self.violation:
                try:
                    self.invariants.end(self.source.bars, gaps=bool(self.plan.missing))
                    verify(self.server.log)
                    draw = random.Random(f"{self.plan.seed}/forgery")
                    if draw.random() < FORGED:
                        self.forged = verify_forged(self.server.log, draw)
                except ViolationError as error:
                    self._violated(str(error))
            counts, bars = dict(self.invariants.events), len(self.invariants.bars)
            return Outcome(
                self.violation, self.story, self.loop.time(), bars, self.loop.handled, counts, self._digest()
            )

    def _digest(self) -> str:
        """Return a digest of all that happened: the story, and every entry of the log."""
        digest = sha256(repr((self.story, self.loop.handled, self.loop.time())).encode())
        for place in places_of(1):
            for entry in self.server.do("scan", place, count=1_000_000):
                digest.update(entry.id.encode() + entry.data)
        return digest.hexdigest()

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append(Told(self.loop.time(), text))

    # The services

    def _serve(self, service: Any, life: Life) -> Coroutine[Any, Any, None]:
        return serve(service, self.settings, 0, life.stop)

    async def _work(self, model: str, life: Life) -> None:
        slow_s = (0.0, 0.5, 5.0)[life.number % 3]
        worker = ModelWorker(model, Loads(self.loop, slow_s), str(owner(f"model-worker.{model}")), f"{life.number:08x}")
        await self._serve(worker, life)

    async def _feed(self, life: Life) -> None:
        async with opened_loop(self.settings, "feed") as loop:
            last = self.founded_s + self.plan.over_s + 1.0
            if self.loop.time() < last:
                await feed(loop, self.source.all_but_last(), speed=self.plan.speed, stop=life.stop)
                await wait(last - self.loop.time(), life.stop)
            if not life.stop.is_set():
                await feed(loop, self.source, speed=self.plan.speed, stop=life.stop)
        self.fed = not life.stop.is_set()

    # The supervisor

    def _start(self, program: str, host: str = HERE) -> None:
        """Start a process, unless one of the program runs or its work is over."""
        if self.ending or (program == "feed" and self.fed):
            return
        if any(life.name == program and not life.suspended and not life.dead for life in self.lives):
            return
        life = Life(program, next(self._numbers), host)
        self.lives.append(life)
        life.task = self.loop.create_task(self.programs[program](life), context=self.loop.context_of(life))
        life.task.add_done_callback(partial(self._ended, life), context=self.loop.context)

    def _ended(self, life: Life, task: Any) -> None:
        self.lives.remove(life)
        error = None if task.cancelled() else task.exception()
        if not life.dead and error is not None:
            self.tell(f"{life.name} ends: {_words(error)}")
        if not self.ending:
            host = life.host if not life.moved else (THERE if life.host == HERE else HERE)
            self.loop.call_later(life.down_s, self._start, life.name, host, context=self.loop.context)

    def _life(self, program: str) -> Life | None:
        return next((life for life in self.lives if life.name == program and not life.dead), None)

    def _kill(self, life: Life) -> None:
        if life in self.lives:
            life.dead = True
            self.loop.resume(life)
            life.task.cancel()

    # What goes wrong

    def _do(self, step: Step) -> None:
        """Carry out a step of the plan."""
        match step:
            case Kill() | Stop() | Suspend():
                life = self._life(step.who)
                if life is not None:
                    self._disturb(step, life)
            case Lose(who=who, what=what):
                self._link(who).mishaps.append(what)
            case Slow(who=who, for_s=seconds):
                self.tell(f"the network of {who} is slow for {seconds} s")
                self._link(who).slow = True
                self._later(seconds, setattr, self._link(who), "slow", False)
            case Cut(who=who, for_s=seconds):
                self.tell(f"{who} cannot reach the server for {seconds} s")
                self._link(who).cut = True
                self._later(seconds, self._heal, self._link(who))
            case Restart(down_s=seconds, lost=lost) if self.server.up:
                self.tell(f"the server is killed, for {seconds} s")
                self.server.stop()
                self._later(seconds, self._up, lost)
            case SetClock(who=who, by_s=seconds):
                self._set_clock(who, seconds)
            case DeleteRecord(who=who, stream=stream):
                self._delete(who, stream)
            case Issue():
                self._issue(step)
            case Restart():  # it is down already
                pass

    def _later(self, seconds: float, call: Callable[..., object], *arguments: Any) -> None:
        self.loop.call_later(seconds, call, *arguments, context=self.loop.context)

    def _disturb(self, step: Kill | Stop | Suspend, life: Life) -> None:
        match step:
            case Kill():
                life.down_s, life.moved = step.down_s, step.moved
                self._at(life, step.steps, partial(self._killed, step, life))
            case Stop():
                life.down_s = step.down_s
                self.tell(f"{life.name} is told to stop")
                life.stop.set()
            case Suspend():
                self._at(life, step.steps, partial(self._suspended, step, life))

    def _at(self, life: Life, steps: int, reached: Callable[[], None]) -> None:
        life.breakpoint, life.reached = life.steps + steps, reached

    def _killed(self, step: Kill, life: Life) -> None:
        where = ", and starts elsewhere" if step.moved else ""
        self.tell(f"{life.name} is killed{_doing(life)}, for {step.down_s} s{where}")
        self._kill(life)

    def _suspended(self, step: Suspend, life: Life) -> None:
        self.tell(f"{life.name} is suspended{_doing(life)}, for {step.for_s} s")
        self.loop.suspend(life)
        self._later(step.for_s, self._resumed, life)
        if step.replaced:
            self._later(AGAIN_S, self._start, life.name, THERE if life.host == HERE else HERE)

    def _resumed(self, life: Life) -> None:
        self.tell(f"{life.name} runs again")
        self.loop.resume(life)

    def _heal(self, link: Link) -> None:
        link.cut = False
        held, link.held = link.held, []
        for request in held:
            if link.draw.random() < 0.5:
                self._later(link.delay(), self.server.arrive, request)

    def _up(self, lost: int) -> None:
        gone = self.server.start(lost)
        self.tell(f"the server is back{f', without its last {gone} writes' if gone else ''}")
        if gone:
            self.invariants.restart()
            self.fed = False
            self._later(AGAIN_S, self._start, "feed")
            self._later(RECOVER_S, self._recover)

    def _set_clock(self, who: str, seconds: float) -> None:
        self.tell(f"the clock of {who} is moved by {seconds} s")
        if who == SERVER:
            self.server.offset_s += seconds
        elif (life := self._life(who)) is not None:
            life.offset_s += seconds

    def _delete(self, who: str, stream: str) -> None:
        with suppress(KeyError):
            if stream:
                raise NotImplementedError
            self.server.log.lose_hash(who)
            self.tell(f"the record of {who} is deleted")

    def _link(self, who: str) -> Link:
        if who not in self.links:
            self.links[who] = Link(who, self.plan.seed, lambda text: self.tell(f"{who}: {text}"))
        return self.links[who]

    # The operators

    def _issue(self, step: Issue) -> None:
        number = next(self._numbers)
        life = Life(OPERATOR, number, HERE)
        self.lives.append(life)
        life.task = self.loop.create_task(
            self._operate(step.command, f"command-{number}"), context=self.loop.context_of(life)
        )
        life.task.add_done_callback(partial(self._operated, life), context=self.loop.context)
        if step.steps >= 0:
            self._at(life, step.steps, partial(self._killed, Kill(step.at, OPERATOR, 0, 0.0, False), life))

    def _operated(self, life: Life, task: Any) -> None:
        self.lives.remove(life)
        if not task.cancelled() and (error := task.exception()) is not None and not life.dead:
            self.tell(f"the command fails: {_words(error)}")

    async def _operate(self, command: Command, command_id: str) -> None:
        name = str(type(command).__struct_config__.tag)
        record = record_of(self.settings)
        assert record is not None
        async with opened_log(self.settings, "operator") as log:
            writer = ControlWriter(log, None, record.why)
            if isinstance(command, SetWeights):
                voting = (await writer.state()).voting
                command = SetWeights(dict.fromkeys(voting, 1 / len(voting)) if voting else {"alpha": 1.0})
            try:
                issued = await writer.issue(command, actor="ada", reason="a simulation", command_id=command_id)
            except RefusedError as error:
                self.tell(f"{name} is refused: {str(error)[:80]}")
                return
            self.tell(f"{name} is accepted as version {issued.version}")
            if isinstance(command, Halt):
                self.invariants.halted = self.invariants.control.state.halted
            if not issued.repeated:
                entries = await log.tail(CONTROL, 1)
                record.keep([each for each in entries if each.id == f"{issued.version}-0"], issued.state, now_ms())

    def _recover(self) -> None:
        """Let an operator append the commands that the server lost, or give them up."""
        life = Life(OPERATOR, next(self._numbers), HERE)
        self.lives.append(life)
        life.task = self.loop.create_task(self._append_or_accept(), context=self.loop.context_of(life))
        life.task.add_done_callback(partial(self._operated, life), context=self.loop.context)

    async def _append_or_accept(self) -> None:
        record = record_of(self.settings)
        assert record is not None
        async with opened_log(self.settings, "operator") as log:
            state = await current(log)
            gone = record.missing(state)
            if gone is not None and gone.complete and not gone.replaced:
                await recover._append(log, gone)
                self.tell(f"an operator appends the lost commands again: {gone}")
            elif gone is not None:
                record.give_up(gone, state, "a simulation", now_ms())
                self.invariants.halted = state.halted
                self.tell(f"an operator gives up the lost commands: {gone}")
            for partition in await recover._open(log, state, "a simulation"):
                self.tell(f"an operator opens the fence of partition {partition}")

    # The run

    async def _main(self) -> None:
        await self._found()
        self.founded_s = self.loop.time()
        self.server.images.clear()  # an installation that was not founded is none
        for name in SERVICES:
            self._start(name)
        for step in self.plan.steps:
            self.loop.call_at(self.founded_s + step.at, self._do, step, context=self.loop.context)
        until = self.founded_s + self.plan.over_s + LIMIT_S
        while not self.violation and not self._idle():
            if self.loop.time() > until:
                self._violated(self._stuck())
            await anyio.sleep(0.25)
        self.ending = True
        lives = list(self.lives)
        for life in lives:
            self._kill(life)
        while self.lives:
            await anyio.sleep(0.01)

    async def _found(self) -> None:
        """Found the installation. The bars of the history are written, and have features, before any artifact is
        active: there is nothing to predict at them."""
        log = Connection(self.server, self._link("founder"), Process("founder"))
        writer = ControlWriter(log)

        async def issue(commands: Sequence[Command]) -> None:
            for command in commands:
                number = (await writer.state()).version
                await writer.issue(command, actor="ada", reason="a simulation", command_id=f"c{number + 1}")

        await issue(registrations())
        if self.plan.history:
            bars = self.source.history
            state = core.initial(b"", self.source.identity, self.source.name, 1)
            rows = [core.Numbered(number, Good(bar, f"row:{number}")) for number, bar in enumerate(bars)]
            handled = core.handle(state, rows, len(rows))
            claim = await log.claim("feed", (), 0, Owner(THERE, 1, "history"))
            await log.commit(claim, Commit(handled.outputs, {}, {}, core.snapshot(state)))
            await log.release(claim)
            self._start("feature-builder")
            while self.server.do("extent", StreamKey("features")).length < len(bars):
                await anyio.sleep(0.05)
        await issue(promotions())

    def _idle(self) -> bool:
        """Return whether every step is over and everything was handled."""
        now = self.loop.time()
        if now < self.founded_s + self.plan.over_s or not self.fed or now < self.added_at + QUIET_S:
            return False
        if {life.name for life in self.lives} != set(SERVICES) - {"feed"}:
            return False
        return not any(lag for view in self.server.do("groups", 0) for lag in view.lag.values())

    def _stuck(self) -> str:
        if not self.fed:
            return "stuck: the feed has not sent all bars"
        lags = {view.group: view.lag for view in self.server.do("groups", 0) if any(view.lag.values())}
        missing = sorted(set(SERVICES) - {"feed"} - {life.name for life in self.lives})
        return f"stuck: lags {lags}, not running {missing}"

    def _watch(self, name: str, arguments: tuple[Any, ...], entries: Sequence[Entry]) -> None:
        self.added_at = self.loop.time()
        try:
            self.invariants.observe(entries)
        except ViolationError as error:
            self._violated(str(error))
        except Exception as error:  # not to be taken for an answer of the server
            self.loop.fail(error)

    def _violated(self, text: str) -> None:
        if not self.violation:
            self.violation = text
            self.tell(f"VIOLATED: {text}")

    @contextmanager
    def _hosted(self) -> Iterator[None]:
        """Let services open their log in this world."""
        replaced: list[tuple[Any, str, Any]] = [
            (process_module, "opened_log", opened_log),
            (loop_module, "opened_log", opened_log),
            (gate_evaluator, "opened_log", opened_log),
            (process_module, "owner", owner),
            (loop_module, "this_process", owner),
        ]
        former = [(module, name, getattr(module, name)) for module, name, _ in replaced]
        _worlds.append(self)
        try:
            for module, name, function in replaced:
                setattr(module, name, function)
            yield
        finally:
            _worlds.pop()
            for module, name, function in former:
                setattr(module, name, function)


_worlds: list[World] = []


@asynccontextmanager
async def opened_log(settings: Settings, name: str) -> AsyncIterator[Log]:
    """Stand for ``shared.runtime.process.opened_log``."""
    world, life = _worlds[-1], current_process()
    assert isinstance(life, Life)
    connection = Connection(world.server, world._link(life.name), life)
    life.connections.append(connection)
    yield connection


def owner(label: str) -> Owner:
    """Stand for ``shared.runtime.process.owner``. A program has one pid on each machine."""
    life = current_process()
    assert isinstance(life, Life)
    return Owner(life.host, 1, label, life.number)


def _doing(life: Life) -> str:
    calls = [connection.doing for connection in life.connections if connection.doing]
    return f" in its {calls[-1]}" if calls else ""


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {str(error)[:160]}"


def simulate(plan: Plan) -> Outcome:
    """Run a plan."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        return World(plan, Path(folder)).run()
