"""A simulated installation: the real services on the real runtime, a server, operators, and what goes wrong."""

import random
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio

from schemas.control import Command
from services.ensemble_voter.core import Voter
from services.executor.core import Executor
from services.feature_builder.core import FeatureBuilder
from services.feed import core
from services.feed.main import feed
from services.gate_evaluator import main as gate_evaluator
from services.guard import main as guard
from services.model_worker.core import ModelWorker
from services.shadow_recorder.core import Recorder
from shared.audit.source import places_of
from shared.bars.rows import Good
from shared.control.issuing import ControlWriter
from shared.log import Commit, Entry, Owner, StreamKey
from shared.runtime.loop import opened_loop, wait
from shared.runtime.process import serve
from tests.simulation.artifacts import MODELS, SET, Loads, promotions, registrations
from tests.simulation.auditing import verify, verify_forged
from tests.simulation.invariants import Invariants, ViolationError
from tests.simulation.loop import Process, run, simulated
from tests.simulation.network import Connection
from tests.simulation.plan import READERS, SERVICES, Plan
from tests.simulation.processes import THERE, Life, Told, hosted, owner
from tests.simulation.supervisor import Supervisor
from tests.simulation.troubles import Troubles

QUIET_S: Final = 1.0
"""When nothing was written for so long, and every entry was read, a run is over."""
FORGED: Final = 0.1
"""The share of seeds whose record is forged at the end."""
LIMIT_S: Final = 90.0
"""How long after the last step everything must have been handled."""


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


class World(Supervisor):
    """One run of a plan."""

    def __init__(self, plan: Plan, state: Path) -> None:
        super().__init__(plan, state)
        self.server.watch = self._watch
        self.violation = ""
        self.forged = ""
        self._founded_s = 0.0
        self._added_at = 0.0
        self._troubles = Troubles(self)
        self.programs = {
            "feed": self._feed,
            "feature-builder": lambda life: self._serve(FeatureBuilder([SET]), life),
            **{f"model-worker.{model}": partial(self._work, model) for model in MODELS},
            "ensemble-voter": lambda life: self._serve(Voter(ticks=200), life),
            "executor": lambda life: self._serve(Executor(), life),
            "shadow-recorder": lambda life: self._serve(Recorder(), life),
            "gate-evaluator": lambda life: gate_evaluator.run(self.settings, 0, life.stop),
            "guard": lambda life: guard.run(self.settings, life.stop),
        }

    def run(self) -> Outcome:
        """Run the plan to its end, or to the first violation."""
        with simulated(self.loop), hosted(self):
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

    def _serve(self, service: Any, life: Life) -> Coroutine[Any, Any, None]:
        return serve(service, self.settings, 0, life.stop)

    async def _work(self, model: str, life: Life) -> None:
        slow_s = (0.0, 0.5, 5.0)[life.number % 3]
        worker = ModelWorker(model, Loads(self.loop, slow_s), str(owner(f"model-worker.{model}")), f"{life.number:08x}")
        await self._serve(worker, life)

    async def _feed(self, life: Life) -> None:
        """Feed the source, and once more when nothing goes wrong any longer: bars that the server lost are sent again.
        No new bar comes then, so a service that missed a loss would not be told by its next entry."""
        async with opened_loop(self.settings, "feed") as loop:
            last = self._founded_s + self.plan.over_s + 1.0
            if self.loop.time() < last:
                await feed(loop, self.source, speed=self.plan.speed, stop=life.stop)
                await wait(last - self.loop.time(), life.stop)
            if not life.stop.is_set():
                await feed(loop, self.source, speed=self.plan.speed, stop=life.stop)
        self.fed = not life.stop.is_set()

    async def _main(self) -> None:
        await self._found()
        self._founded_s = self.loop.time()
        self.server.images.clear()  # an installation that was not founded is none
        for name in SERVICES:
            self.start(name)
        for step in self.plan.steps:
            self.loop.call_at(self._founded_s + step.at, self._troubles.do, step, context=self.loop.context)
        until = self._founded_s + self.plan.over_s + LIMIT_S
        while not self.violation and not self._idle():
            if self.loop.time() > until:
                self._violated(self._stuck())
            await anyio.sleep(0.25)
        self.ending = True
        lives = list(self.lives)
        for life in lives:
            self.kill(life)
        while self.lives:
            await anyio.sleep(0.01)

    async def _found(self) -> None:
        """Found the installation. The bars of the history are written, and have features, before any artifact is
        active: there is nothing to predict at them."""
        log = Connection(self.server, self.link("founder"), Process("founder"))
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
            self.start("feature-builder")
            while self.server.do("extent", StreamKey("features")).length < len(bars):
                await anyio.sleep(0.05)
        await issue(promotions())

    def _idle(self) -> bool:
        """Return whether every step is over and everything was handled."""
        now = self.loop.time()
        if now < self._founded_s + self.plan.over_s or not self.fed or now < self._added_at + QUIET_S:
            return False
        if {life.name for life in self.lives} != set(SERVICES) - {"feed"}:
            return False
        views = {view.group: view for view in self.server.do("groups", 0)}
        return views.keys() >= set(READERS) and not any(lag for view in views.values() for lag in view.lag.values())

    def _stuck(self) -> str:
        if not self.fed:
            return "stuck: the feed has not sent all bars"
        lags = {view.group: view.lag for view in self.server.do("groups", 0) if any(view.lag.values())}
        missing = sorted(set(SERVICES) - {"feed"} - {life.name for life in self.lives})
        return f"stuck: lags {lags}, not running {missing}"

    def _watch(self, name: str, arguments: tuple[Any, ...], entries: Sequence[Entry]) -> None:
        self._added_at = self.loop.time()
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


def simulate(plan: Plan) -> Outcome:
    """Run a plan."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        return World(plan, Path(folder)).run()
