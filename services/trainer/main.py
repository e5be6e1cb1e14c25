"""The shell of the trainer: one process for the installation, one job at a time."""

import logging
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from msgspec import structs

from schemas.codec import decode
from schemas.control import RegisterArtifact, StartShadow
from schemas.training import TrainingCompleted, TrainingEvent, TrainingFailed, TrainingRequested, TrainingStarted
from services.trainer.core import GROUP, Due, by_schedule, cause_of, promotions, request_of
from services.trainer.running import run_child
from services.trainer.task import STORE, Task, folder_of
from shared.artifacts.artifact import ArtifactError
from shared.artifacts.registration import registration
from shared.artifacts.store import ArtifactStore
from shared.control import State
from shared.control.issuing import ControlWriter, RefusedError
from shared.control.signing import Signer, load_private
from shared.control.stream import CONTROL, now_ms
from shared.log import START, Commit, Position, StreamKey, TruncatedLogError
from shared.runtime.loop import Loop, opened_loop
from shared.runtime.process import missing_by
from shared.settings import Settings
from shared.training.jobs import ATTEMPTS, Job
from shared.training.ledger import TrainingWriter
from shared.training.recipe import recipe_of
from shared.training.recorded import ends_now

READS: Final = ("gates",)
LOOK_S: Final = 0.5
BATCH: Final = 1000
FEWEST: Final = 100
"""Rows, where a job is run again: the policy may have changed since."""
KEY_FILE: Final = Path("keys") / f"{GROUP}.pem"
_log = logging.getLogger(GROUP)


async def run(settings: Settings, stop: anyio.Event, *, take_over: bool = False) -> None:
    """Trains until ``stop``. Signs with the key in ``<state>/keys/trainer.pem``, if there is one. Raises
    ``OwnedError`` where another trainer runs."""
    file = Path(settings.installation.state) / KEY_FILE
    signer = load_private(file, key_id=GROUP) if file.is_file() else None
    async with (
        opened_loop(settings, GROUP) as loop,
        loop.owned(settings.installation.partitions, READS, take_over=take_over),
    ):
        loop.ready()
        await Trainer(settings, loop, signer).run(stop)


async def train_again(settings: Settings, job: Job, started: TrainingStarted) -> list[TrainingEvent]:
    """Runs a job once more from the same positions, in a folder that is gone afterwards; what it said. Nothing is
    stored or written."""
    heard: list[TrainingEvent] = []

    async def say(event: TrainingEvent) -> None:
        heard.append(event)

    with tempfile.TemporaryDirectory() as folder:
        task = Task(job.id, job.request, started, settings.features.bridge, FEWEST, "report")
        await run_child(task, Path(folder) / "again", settings, say)
    return heard


class Trainer:
    """Looks for what is due, runs one job at a time, and says what became of it. ``loop`` owns the group."""

    def __init__(self, settings: Settings, loop: Loop, signer: Signer | None) -> None:
        self.settings = settings
        self.loop = loop
        self.log = loop.log
        self.door = ControlWriter(loop.log, signer, missing_by(settings))
        self.ledger = TrainingWriter(loop.log)
        self.store = ArtifactStore(Path(settings.installation.state) / "artifacts")
        self.positions = [claim.positions["gates"] for claim in loop.claims]
        self.promoted: Mapping[str, int] = {}
        self.control = START
        self._said: set[str] = set()
        self._turn = anyio.Lock()

    async def run(self, stop: anyio.Event) -> None:
        """Looks, trains, looks again. ``stop`` ends a job's process; the next trainer begins it anew."""
        await self.loop.repeat(partial(self._until_idle, stop), LOOK_S, stop)

    async def _until_idle(self, stop: anyio.Event) -> None:
        """Runs every job that is waiting, one after another."""
        while not stop.is_set():
            await self.loop.alive()
            await self.look()
            job = (await self.ledger.read()).next()
            if job is None:
                return
            await self._work(job, stop)

    async def look(self) -> None:
        """Requests what is due."""
        async with self._turn:
            state = await self._state()
            await self._causes(state)
            for due in by_schedule(await self.ledger.read(), state, self.promoted, now_ms()):
                await self._request(due, state)

    async def _state(self) -> State:
        """The configuration now, and since when each model has its champion."""
        try:
            state = await self.door.state()
        except TruncatedLogError as error:
            _log.error("%s", error)
            self.promoted, self.control = {}, START
            state = await self.door.state()
        while entries := await self.log.scan(CONTROL, after=self.control, until=self.door.reader.last):
            self.promoted = promotions(self.promoted, [decode("control", entry.data).event for entry in entries])
            self.control = entries[-1].id
        return state

    async def _causes(self, state: State) -> None:
        """Requests what the gate-evaluators ask for, once each: how far they were read is committed when they were
        handled, and a request names its cause, so one that is read again makes no second request."""
        for number, held in enumerate(self.loop.claims):
            place, before = StreamKey("gates", held.partition), self.positions[number]
            entries = await self.log.scan(place, after=before.id, count=BATCH)
            if not entries:
                continue
            for entry in entries:
                envelope = decode("gates", entry.data)
                due = cause_of(envelope.event, envelope.id.hex(), state)
                if due is not None:
                    await self._request(due, state)
            after = Position(entries[-1].id, before.seen + len(entries))
            await self.log.commit(held, Commit([], {"gates": before}, {"gates": after}))
            self.positions[number] = after

    async def _request(self, due: Due, state: State) -> None:
        """Appends a request as the champion was made. Where that cannot be, or may not be now, it is said once."""
        champion = state.models[due.model].champion
        try:
            recipe = recipe_of(self.store.manifest(champion or ""))
        except ArtifactError as error:
            recipe = str(error)
        if isinstance(recipe, str):
            self._say_once(f"{due.model} is due ({due.cause}), and cannot be trained again: {recipe}")
            return
        request = request_of(due, recipe, state.training, now_ms())
        try:
            job = await self.ledger.request(request, state.training)
        except RefusedError as error:
            self._say_once(f"{due.model} is due ({due.cause}), and not asked for now: {error}")
            return
        _log.info("job %s: %s, %s", job[:12], due.model, due.reason)

    def _say_once(self, words: str) -> None:
        key = words.partition(":")[0]
        if key not in self._said:
            self._said.add(key)
            _log.warning("%s", words)

    async def _work(self, job: Job, stop: anyio.Event) -> None:
        """One attempt of a job."""
        if len(job.began) >= ATTEMPTS:
            given_up = f"given up after {len(job.began)} attempts: each was interrupted, or took its trainer with it"
            await self.ledger.append(TrainingFailed(job.id, job.request.model, "interrupted", given_up, now_ms()))
            return
        started = job.started or await self._starting(job.request, job.id)
        if isinstance(started, TrainingFailed):
            await self.ledger.append(started)
            return
        attempt = len(job.began) + 1
        started = structs.replace(started, attempt=attempt, worker=str(self.loop.claims[0].owner), at=now_ms())
        await self.ledger.append(started)
        state = await self.door.state()
        slot = state.models.get(job.request.model)
        task = Task(
            id=job.id,
            request=job.request,
            started=started,
            bridge=self.settings.features.bridge,
            rows=state.training.rows,
            sanity=state.training.sanity,
            champion=slot.champion if slot is not None else None,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until, stop, tasks)
            await run_child(task, folder_of(self.settings, job.id), self.settings, self._heard)
            tasks.cancel_scope.cancel()

    async def _until(self, stop: anyio.Event, tasks: anyio.abc.TaskGroup) -> None:
        """Shows signs of life while a job runs, goes on collecting what is due, and ends the job at ``stop``."""
        await self.loop.repeat(self.look, LOOK_S, stop)
        tasks.cancel_scope.cancel()

    async def _starting(self, request: TrainingRequested, job: str) -> TrainingStarted | TrainingFailed:
        """Fixes the data of a job: everything that is on the streams now."""
        ends, newest = await ends_now(self.log, self.settings.installation.partitions)
        last = request.until if request.until is not None else newest
        if last is None:
            why = "there is no bar on the market stream; start the feed"
            return TrainingFailed(job, request.model, "unreadable", why, now_ms())
        first = max(0, last - request.window_ms + 1)
        return TrainingStarted(job, request.model, 1, first, last, ends, "", now_ms())

    async def _heard(self, event: TrainingEvent) -> None:
        async with self._turn:
            if isinstance(event, TrainingCompleted):
                await self.ledger.append(await self._accept(event))
            else:
                await self.ledger.append(event)

    async def _accept(self, made: TrainingCompleted) -> TrainingCompleted | TrainingFailed:
        """Stores and registers what was made, and puts it in shadow where the policy says so. Never promotes."""
        own = ArtifactStore(folder_of(self.settings, made.request) / STORE)
        manifest, files = await anyio.to_thread.run_sync(own.content, made.artifact)
        await anyio.to_thread.run_sync(self.store.save, manifest, files)
        job = self.ledger.jobs[made.request]
        why = f"training job {made.request[:12]}: {job.request.reason}"[:2000]
        register: RegisterArtifact = registration(made.model, made.artifact, manifest)
        state = await self.door.state()
        try:
            if made.artifact not in state.artifacts:
                command = f"training-{made.request}"
                state = (await self.door.issue(register, actor=GROUP, reason=why, command_id=command)).state
            version, shadow = state.version, False
            if state.training.shadow:
                with suppress(RefusedError):  # it is in shadow, or votes, already
                    begin = StartShadow(made.model, made.artifact)
                    issued = await self.door.issue(
                        begin, actor=GROUP, reason=why, command_id=f"training-shadow-{made.request}"
                    )
                    version, shadow = issued.version, True
        except RefusedError as error:
            detail = f"{made.artifact} is in the store; the control stream refused it: {error}"
            return TrainingFailed(made.request, made.model, "unregistered", detail[:2000], now_ms())
        shutil.rmtree(own.path, ignore_errors=True)
        return structs.replace(made, version=version, shadow=shadow)
