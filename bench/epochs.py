"""Check, over ten thousand promotions under faults, that every decision is made under exactly one configuration.

The real voter runs on the real runtime and the in-memory log, with two fake workers, which predict for their champion
and their shadow, and with operators that issue commands concurrently. Predictions are late, duplicated and out of
order. The voter is killed at any await, or replaced while it still runs. Workers lose their state and fold ``control``
again. An intruder writes to ``control`` without a control writer.

Afterwards an auditor folds the log. ``mixed``: decisions whose members, weights or shadows are not those of the version
that they name. ``lost``: bars without a decision, or with two. ``divergent``: versions that two readers saw
differently, decisions that name another head, and decisions that do not follow from the recorded ballots under the
named version.
"""

import random
from typing import NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from bench.harness import Figure
from schemas.codec import Encoded, Envelope, decode, encode
from schemas.common import ACTIONS
from schemas.control import Command, Found, Promote, RegisterArtifact, Rollback, SetVotingPolicy, SetWeights
from schemas.decisions import DecisionMade
from schemas.operations import ControlRefused
from schemas.predictions import PredictionMade
from services.ensemble_voter.core import Voter
from shared.control import EMPTY, ControlReader, State, fold, following
from shared.control.alarmed import AlarmedEntries
from shared.control.issuing import ControlWriter, RefusedError
from shared.control.stream import CONTROL
from shared.log import START, Owner, StreamKey, SupersededError
from shared.log.memory import MemoryLog
from shared.runtime.host import Host
from shared.voting.pool import panel_of, vote

MODELS = ("a", "b")
ARTIFACTS = {"a": ("a1" * 32, "a2" * 32), "b": ("b1" * 32, "b2" * 32)}
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
MINUTE = 60_000
PREDICTIONS, DECISIONS, ALARMS = StreamKey("predictions"), StreamKey("decisions"), StreamKey("alarms")


class Bar(NamedTuple):
    symbol: str
    open_time: int


class FakeWorker:
    """Predicts with both artifacts of its model. Predictions are queued and written later."""

    def __init__(self, log: MemoryLog, model: str, rng: random.Random) -> None:
        self.log, self.model, self.rng = log, model, rng
        self.reader = ControlReader()
        self.heads: dict[int, set[str]] = {}
        self.waiting: list[Encoded] = []

    def ask(self, bar: Bar) -> None:
        for artifact in ARTIFACTS[self.model]:
            up, down = self.rng.randint(1, 6) / 16, self.rng.randint(1, 6) / 16
            made = PredictionMade(
                symbol=bar.symbol,
                interval_ms=MINUTE,
                open_time=bar.open_time,
                origin="replay",
                model=self.model,
                artifact=bytes.fromhex(artifact),
                probabilities=(down, 1 - up - down, up),
                vector=bytes(16),
                control_version=self.reader.state.version,
            )
            self.waiting.append(encode("predictions", made, correlation=bar.open_time.to_bytes(16, "big")))

    async def answer(self, count: int) -> None:
        """Write ``count`` queued predictions; a few of them out of order or twice."""
        for _ in range(min(count, len(self.waiting))):
            place = self.rng.randrange(min(3, len(self.waiting))) if self.rng.random() < 0.02 else 0
            sealed = self.waiting.pop(place)
            for _ in range(2 if self.rng.random() < 0.03 else 1):
                await self._write(sealed)

    async def _write(self, sealed: Encoded) -> None:
        last = (await self.log.extent(PREDICTIONS)).last
        following_id = following(last)
        assert following_id is not None
        assert await self.log.append_at(PREDICTIONS, following_id, sealed.data)

    async def follow(self) -> None:
        """Fold some new entries of ``control``, or start again from its beginning."""
        if self.rng.random() < 0.002:
            self.reader = ControlReader()
        for entry in await self.log.scan(CONTROL, after=self.reader.last, count=self.rng.randint(1, 50)):
            self.reader.take(entry.id, entry.data)
            state = self.reader.state
            self.heads.setdefault(state.version, set()).add(state.head)


class Keeper:
    """Runs the voter, and ends it: by cancelling it at any await, or by starting a second one meanwhile."""

    def __init__(self, log: MemoryLog, tasks: anyio.abc.TaskGroup) -> None:
        self.log, self.tasks = log, tasks
        self.scope: anyio.CancelScope | None = None
        self.started = self.fenced = 0

    async def start(self) -> None:
        self.started += 1
        await self.tasks.start(self._run, Owner("bench", 4_000_000 + self.started, "voter"))

    def kill(self) -> None:
        assert self.scope is not None
        self.scope.cancel()

    async def _run(self, owner: Owner, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.CancelScope() as scope:
            self.scope = scope
            host = Host(Voter(), self.log, 0, owner, take_over=True, ready=task_status.started)
            try:
                await host.run(anyio.Event())
            except SupersededError:
                self.fenced += 1


class Tally(NamedTuple):
    promotions: int
    refused: int
    starts: int
    fenced: int
    intrusions: int
    bars: list[Bar]
    workers: list[FakeWorker]
    log: MemoryLog


async def storm(promotions: int, kills: int, seed: int) -> Tally:
    """Run the simulation. All random choices come from ``seed``; the interleaving of tasks does not."""
    rng = random.Random(seed)
    log = MemoryLog()
    workers = [FakeWorker(log, model, rng) for model in MODELS]
    writers = [ControlWriter(log), ControlWriter(log)]
    for command in _founding():
        await writers[0].issue(command, actor="bench", reason="begin")
    done = refused = intrusions = 0
    bars: list[Bar] = []
    moments = set(rng.sample(range(promotions), kills))

    async def operate(writer: ControlWriter, name: str) -> None:
        nonlocal done, refused
        state = await writer.state()
        try:
            command = _wish(rng, state)
            await writer.issue(
                command, actor=name, reason="swap", expects=state.version if rng.random() < 0.1 else None
            )
            done += isinstance(command, Promote)
        except RefusedError:
            refused += 1

    async with anyio.create_task_group() as tasks:
        keeper = Keeper(log, tasks)
        await keeper.start()
        while done < promotions:
            before = done
            if rng.random() < 0.2:
                async with anyio.create_task_group() as race:
                    race.start_soon(operate, writers[0], "ada")
                    race.start_soon(operate, writers[1], "bo")
            else:
                await operate(rng.choice(writers), "ada")
            if rng.random() < 0.01:
                intrusions += await _intrude(log, rng)
            bars.append(Bar(rng.choice(SYMBOLS), (len(bars) + 1) * MINUTE))
            for worker in workers:
                worker.ask(bars[-1])
            for worker in workers:
                await worker.answer(rng.randint(0, 6))
                await worker.follow()
            for _ in range(rng.randint(0, 8)):
                await checkpoint()
            if moments & set(range(before, done)):
                if rng.random() < 0.7:
                    keeper.kill()
                await keeper.start()
        last = len(bars) + 1
        bars += [Bar(symbol, (last + place) * MINUTE) for place, symbol in enumerate(SYMBOLS)]
        for worker in workers:
            for bar in bars[-len(SYMBOLS) :]:
                worker.ask(bar)
            await worker.answer(len(worker.waiting))
        await _drained(log, bars)
        tasks.cancel_scope.cancel()
    return Tally(done, refused, keeper.started, keeper.fenced, intrusions, bars, workers, log)


def _founding() -> list[Command]:
    commands: list[Command] = [Found(1, "log-of-a-benchmark")]
    for model in MODELS:
        for artifact in ARTIFACTS[model]:
            centre = (-1.2, -0.9, -1.1) if artifact[1] == "1" else (-1.0, -1.1, -1.3)
            commands.append(
                RegisterArtifact(
                    model=model,
                    artifact=artifact,
                    family="prior",
                    feature_set="f" * 64,
                    feature_set_name="core",
                    interval_ms=MINUTE,
                    classes=ACTIONS,
                    centre=centre,
                    prior=(0.3, 0.4, 0.3),
                )
            )
    commands += [Promote("a", ARTIFACTS["a"][0], True, 1.0), Promote("b", ARTIFACTS["b"][0], True, 0.5)]
    return [*commands, SetVotingPolicy(quorum_count=1, quorum_weight=0.0, edge=0.05)]


def _wish(rng: random.Random, state: State) -> Command:
    model = rng.choice(MODELS)
    champion = state.models[model].champion
    chance = rng.random()
    if chance < 0.03:
        return Rollback(model=rng.choice((None, model)))
    if chance < 0.06:
        share = rng.randint(1, 9) / 10
        return SetWeights({"a": share, "b": 1 - share})
    weight = rng.choice((None, None, 0.25, 0.75))
    return Promote(model, next(each for each in ARTIFACTS[model] if each != champion), forced=True, weight=weight)


async def _intrude(log: MemoryLog, rng: random.Random) -> bool:
    """Write an entry to ``control`` that no operator issued: invalid bytes, or a copy of an old entry."""
    entries = await log.tail(CONTROL, 5)
    place = following(entries[-1].id)
    assert place is not None
    return await log.append_at(CONTROL, place, rng.choice((b"{}", b"promote a2", entries[0].data)))


async def _drained(log: MemoryLog, bars: list[Bar]) -> None:
    """Wait until the last bar of each symbol is decided, or no stream has grown for a second."""
    wanted = set(bars[-len(SYMBOLS) :])
    while wanted:
        before = (await log.extent(DECISIONS)).last
        wanted -= {Bar(made.event.symbol, made.event.open_time) for made in await decisions(log, 20)}
        if wanted and not await log.read({DECISIONS: before}, count=1, block_ms=1000):
            return


async def decisions(log: MemoryLog, count: int) -> list[Envelope[DecisionMade]]:
    found = [decode("decisions", entry.data) for entry in await log.tail(DECISIONS, count)]
    return [envelope for envelope in found if isinstance(envelope.event, DecisionMade)]


async def audit(tally: Tally) -> dict[str, float]:
    """Return the numbers that an auditor computes from the log alone."""
    reader, states = ControlReader(), {0: EMPTY}
    after = START
    while entries := await tally.log.scan(CONTROL, after=after):
        after = entries[-1].id
        for entry in entries:
            found = reader.take(entry.id, entry.data)
            if found is not None:
                states[found.event.version] = fold(states[found.event.version - 1], found.event)
    made = [envelope.event for envelope in await decisions(tally.log, 10**9)]
    decided = [Bar(event.symbol, event.open_time) for event in made]
    seen = sum(heads != {states[version].head} for worker in tally.workers for version, heads in worker.heads.items())
    alarms = [decode("alarms", entry.data).event for entry in await tally.log.tail(ALARMS, 10**9)]
    raised = [alarm for alarm in alarms if isinstance(alarm, ControlRefused)]
    alarmed = AlarmedEntries()
    for alarm in raised:
        alarmed.add(alarm)
    return {
        "decisions": len(made),
        "versions_used": len({event.control_version for event in made}),
        "mixed": sum(mixed(event, states[event.control_version]) for event in made),
        "lost": len(set(tally.bars) - set(decided)) + len(decided) - len(set(decided)),
        "divergent": seen + sum(divergent(event, states[event.control_version]) for event in made),
        "unalarmed": len(alarmed.missing(reader.refused)) + len(raised) - len(set(raised)),
    }


def mixed(event: DecisionMade, state: State) -> bool:
    """Return whether a decision has members, weights or shadows of another version than the one that it names."""
    panel = panel_of(state)
    members = {(member.model, member.artifact) for member in panel.members}
    weights = {(member.model, member.artifact): member.weight for member in panel.members}
    counted = {(ballot.model, ballot.artifact) for ballot in event.counted}
    absent = {(gone.model, gone.artifact) for gone in event.absent}
    shadows = {(ballot.model, ballot.artifact) for ballot in event.shadow}
    return (
        counted | absent != members
        or bool(counted & absent)
        or not shadows <= panel.shadows
        or any(weights[ballot.model, ballot.artifact] != ballot.weight for ballot in event.counted)
    )


def divergent(event: DecisionMade, state: State) -> bool:
    """Return whether a decision names another head, or does not follow from its ballots under its version."""
    again = vote(panel_of(state), {ballot.model: ballot.probabilities for ballot in event.counted})
    said = (event.action, event.confidence, event.probabilities, event.consensus_count)
    return event.control_head != state.head or said != (
        again.action,
        again.confidence,
        again.probabilities,
        again.consensus_count,
    )


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    promotions, kills = (1_500, 40) if quick else (10_000, 150)

    async def both() -> tuple[Tally, dict[str, float]]:
        tally = await storm(promotions, kills, seed=11)
        return tally, await audit(tally)

    tally, found = anyio.run(both)
    goals: dict[str, str] = {"mixed": "<= 0", "lost": "<= 0", "divergent": "<= 0", "unalarmed": "<= 0"}
    figures = {
        "promotions": Figure(tally.promotions, "commands"),
        "voter_starts": Figure(tally.starts, "processes", "", f"{tally.fenced} of them fenced while they ran"),
        "refused_to_operators": Figure(tally.refused, "commands", "", "raced, expected another version, nothing back"),
        "intrusions": Figure(tally.intrusions, "entries"),
    }
    for name, value in found.items():
        figures[name] = Figure(value, "decisions" if name != "unalarmed" else "entries", goals.get(name, ""))
    return figures
