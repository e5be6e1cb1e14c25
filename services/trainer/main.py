"""Run the trainer: one process for the installation, one job at a time."""

import logging
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio
from msgspec import structs

from schemas.control import RegisterArtifact, StartShadow
from schemas.training import (
    StackerFitted,
    StackerStarted,
    TrainingCompleted,
    TrainingEvent,
    TrainingFailed,
    TrainingRequested,
    TrainingStarted,
)
from services.trainer.core import GROUP, Due, by_schedule, cause_of, promotions, request_of, stacker_by_schedule
from services.trainer.running import run_child
from services.trainer.stackers import fixed_rounds, put_in_shadow
from services.trainer.task import STORE, FitTask, Task, failed, folder_of
from shared.artifacts.artifact import ArtifactError
from shared.artifacts.registration import registration
from shared.artifacts.store import ArtifactStore
from shared.control import ControlReader, State
from shared.control.issuing import ControlWriter, RefusedError
from shared.control.signing import Signer, service_signer
from shared.control.stream import read_control
from shared.log import START, Commit, Position, StreamKey, TruncatedLogError
from shared.runtime.entries import decoded
from shared.runtime.loop import Loop, opened_loop
from shared.runtime.process import missing_by
from shared.settings import Settings
from shared.training.fits import Fit
from shared.training.jobs import ATTEMPTS, Job
from shared.training.ledger import TRAINING, TrainingWriter
from shared.training.recipe import recipe_of
from shared.training.recorded import ends_now

READS: Final = ("gates",)
POLL_S: Final = 0.5
BATCH: Final = 1000
FEWEST_ROWS: Final = 100
"""The fewest labelled rows when a job is run again: the training policy of that time may have changed."""
_Started = TypeVar("_Started", TrainingStarted, StackerStarted)
_log = logging.getLogger(GROUP)


async def run(settings: Settings, stop: anyio.Event, *, take_over: bool = False) -> None:
    """Train until ``stop``. Commands are signed with the key in ``<state>/keys/trainer.pem``, if there is one.

    Raises ``OwnedError`` if another trainer runs."""
    signer = service_signer(Path(settings.installation.state), GROUP)
    async with (
        opened_loop(settings, GROUP) as loop,
        loop.owned(settings.installation.partitions, READS, take_over=take_over),
    ):
        loop.ready()
        await Trainer(settings, loop, signer).run(stop)


async def train_again(settings: Settings, job: Job, started: TrainingStarted) -> list[TrainingEvent]:
    """Run a job once more from the same positions, in a temporary folder, and return its events. Nothing is stored, and
    nothing is written to the log."""
    return await _again(settings, Task(job.id, job.request, started, settings.features.bridge, FEWEST_ROWS, "report"))


async def fit_again(settings: Settings, fit: Fit, started: StackerStarted) -> list[TrainingEvent]:
    """Fit a stacker once more from the same positions, and return the events. Nothing is written to the log."""
    return await _again(settings, FitTask(fit.id, fit.request, started))


async def _again(settings: Settings, task: Task | FitTask) -> list[TrainingEvent]:
    events: list[TrainingEvent] = []

    async def emit(event: TrainingEvent) -> None:
        events.append(event)

    with tempfile.TemporaryDirectory() as folder:
        await run_child(task, Path(folder) / "again", settings, emit)
    return events


class Trainer:
    """Request what is due, run one job at a time, and write its result. ``loop`` owns the group."""

    def __init__(self, settings: Settings, loop: Loop, signer: Signer | None) -> None:
        self.settings = settings
        self.loop = loop
        self.log = loop.log
        self.control = ControlWriter(loop.log, signer, missing_by(settings, loop.storage))
        self.ledger = TrainingWriter(loop.log)
        self.store = ArtifactStore(Path(settings.installation.state) / "artifacts")
        self.positions = [claim.positions["gates"] for claim in loop.claims]
        self.promoted: Mapping[str, int] = {}
        self._commands = ControlReader()
        self._looked_at = loop.claims[0].memo.decode() or START
        """The last entry of ``training`` that was looked at for a dead letter. It is the memo of the first claim."""
        self._warned: set[str] = set()
        self._lock = anyio.Lock()

    async def run(self, stop: anyio.Event) -> None:
        """Request and run jobs until ``stop``, which ends the process of a job. The next trainer starts that job
        again."""
        await self.loop.repeat(partial(self._until_idle, stop), POLL_S, stop)

    async def _until_idle(self, stop: anyio.Event) -> None:
        """Run every waiting job, one after another."""
        while not stop.is_set():
            await self.loop.alive()
            await self.request_due()
            await self._refuse_unreadable()
            job = (await self.ledger.read()).next()
            if job is None:
                return
            await self._run_job(job, stop)

    async def request_due(self) -> None:
        """Request each retraining that is due by drift, decay or schedule, and each fit of a stacker by schedule."""
        async with self._lock:
            state = await self._state()
            await self._request_by_cause(state)
            await self._request_fit(state)
            for due in by_schedule(await self.ledger.read(), state, self.promoted, self.loop.clock.now_ms()):
                await self._request(due, state)

    async def _state(self) -> State:
        """Return the configuration now, and note when each champion was promoted."""
        try:
            state = await self.control.state()
            commands = await read_control(self.log, self._commands)
        except TruncatedLogError as error:
            _log.error("%s", error)
            self.promoted, self._commands = {}, ControlReader()
            state = await self.control.state()
            commands = await read_control(self.log, self._commands)
        self.promoted = promotions(self.promoted, [command.event for command in commands])
        return state

    async def _request_by_cause(self, state: State) -> None:
        """Request a retraining for each cause on ``gates``, once each. The position is committed after the requests,
        and a request names its cause, so a cause that is read again makes no second request."""
        for number, claim in enumerate(self.loop.claims):
            place, before = StreamKey("gates", claim.partition), self.positions[number]
            entries = await self.log.scan(place, after=before.id, count=BATCH)
            if not entries:
                continue
            events, letters = decoded(entries, GROUP)
            for event in events:
                due = cause_of(event.envelope.event, event.envelope.id.hex(), state)
                if due is not None:
                    await self._request(due, state)
            after = Position(entries[-1].id, before.seen + len(entries))
            await self.loop.commit(claim, Commit(letters, {"gates": before}, {"gates": after}, self._memo(number)))
            self.positions[number] = after

    def _memo(self, partition: int) -> bytes:
        return b"" if partition or self._looked_at == START else self._looked_at.encode()

    async def _refuse_unreadable(self) -> None:
        """Write a dead letter for each new entry of ``training`` that is unreadable. What was looked at is committed
        with the letters, so that each entry has one."""
        while entries := await self.log.scan(TRAINING, after=self._looked_at, count=BATCH):
            self._looked_at = entries[-1].id
            _, letters = decoded(entries, GROUP)
            if letters:
                await self.loop.commit(self.loop.claims[0], Commit(letters, {}, {}, self._memo(0)))
                await self.loop.alive()

    async def _request(self, due: Due, state: State) -> None:
        """Request an artifact with the recipe of the champion. Log a warning, once, if that recipe cannot be trained
        here or the training policy refuses the request now."""
        champion = state.models[due.model].champion
        try:
            recipe = recipe_of(self.store.manifest(champion or ""))
        except ArtifactError as error:
            recipe = str(error)
        if isinstance(recipe, str):
            self._warn_once(f"{due.model} is due ({due.cause}), but cannot be retrained: {recipe}")
            return
        request = request_of(due, recipe, state.training, self.loop.clock.now_ms())
        try:
            job = await self.ledger.request(request, state.training)
        except RefusedError as error:
            self._warn_once(f"{due.model} is due ({due.cause}), but the request is refused: {error}")
            return
        _log.info("job %s: %s, %s", job[:12], due.model, due.reason)

    async def _request_fit(self, state: State) -> None:
        """Request a stacker if it is due. Log a warning, once, if the training policy refuses the request now."""
        request = stacker_by_schedule(await self.ledger.read(), state, self.loop.clock.now_ms())
        if request is None:
            return
        try:
            job = await self.ledger.request(request, state.training)
        except RefusedError as error:
            self._warn_once(f"a stacker is due (schedule), but the request is refused: {error}")
            return
        _log.info("job %s: a stacker, %s", job[:12], request.reason)

    def _warn_once(self, message: str) -> None:
        key = message.partition(":")[0]
        if key not in self._warned:
            self._warned.add(key)
            _log.warning("%s", message)

    async def _run_job(self, job: Job | Fit, stop: anyio.Event) -> None:
        """Make one attempt of a job."""
        if len(job.began) >= ATTEMPTS:
            detail = f"given up after {len(job.began)} attempts: each was interrupted or ended with its trainer"
            await self._record(failed(job.id, job.model, "interrupted", detail))
            return
        task = await (self._fit_task(job) if isinstance(job, Fit) else self._task(job))
        if isinstance(task, TrainingFailed):
            await self._record(task)
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._request_until, stop, tasks)
            await run_child(task, folder_of(self.settings, job.id), self.settings, self._record)
            tasks.cancel_scope.cancel()

    async def _task(self, job: Job) -> Task | TrainingFailed:
        """Start an attempt to train a model, and return its task."""
        started = job.started or await self._fix_data(job.request, job.id)
        if isinstance(started, TrainingFailed):
            return started
        started = await self._start(job, started)
        state = await self.control.state()
        slot = state.models.get(job.request.model)
        return Task(
            id=job.id,
            request=job.request,
            started=started,
            bridge=self.settings.features.bridge,
            rows=state.training.rows,
            sanity=state.training.sanity,
            champion=slot.champion if slot is not None else None,
        )

    async def _fit_task(self, fit: Fit) -> FitTask:
        """Start an attempt to fit a stacker, and return its task."""
        partitions = self.settings.installation.partitions
        started = fit.started or await fixed_rounds(self.log, partitions, fit.id)
        return FitTask(fit.id, fit.request, await self._start(fit, started))

    async def _start(self, job: Job | Fit, started: _Started) -> _Started:
        """Write that the next attempt of a job has started, and return the event."""
        started = structs.replace(
            started,
            attempt=len(job.began) + 1,
            worker=str(self.loop.claims[0].owner),
            at=self.loop.clock.now_ms(),
        )
        await self.ledger.append(started)
        return started

    async def _request_until(self, stop: anyio.Event, tasks: anyio.abc.TaskGroup) -> None:
        """While a job runs, renew the claims and go on requesting what is due. Cancel the job at ``stop``."""
        await self.loop.repeat(self.request_due, POLL_S, stop)
        tasks.cancel_scope.cancel()

    async def _fix_data(self, request: TrainingRequested, job: str) -> TrainingStarted | TrainingFailed:
        """Fix the data of a job: everything that is on the streams now."""
        ends, newest = await ends_now(self.log, self.settings.installation.partitions)
        last = request.until if request.until is not None else newest
        if last is None:
            return failed(job, request.model, "unreadable", "there is no bar on the market stream; start the feed")
        return TrainingStarted(
            request=job,
            model=request.model,
            attempt=1,
            first=max(0, last - request.window_ms + 1),
            last=last,
            ends=ends,
            worker="",
            at=self.loop.clock.now_ms(),
        )

    async def _record(self, event: TrainingEvent) -> None:
        """Write an event of the job to ``training``. First register a completed artifact, and start a fitted policy in
        shadow."""
        event = structs.replace(event, at=self.loop.clock.now_ms())
        async with self._lock:
            match event:
                case TrainingCompleted():
                    event = await self._register(event)
                case StackerFitted():
                    event = await put_in_shadow(self.control, event, self.ledger.jobs.fits[event.request].request)
                case _:
                    pass
            await self.ledger.append(event)

    async def _register(self, made: TrainingCompleted) -> TrainingCompleted | TrainingFailed:
        """Store and register the artifact of a job, and start it in shadow if the training policy asks for it. It is
        never promoted here."""
        own = ArtifactStore(folder_of(self.settings, made.request) / STORE)
        try:
            manifest, files = await anyio.to_thread.run_sync(own.content, made.artifact)
            await anyio.to_thread.run_sync(self.store.save, manifest, files)
        except OSError as error:
            detail = f"{made.artifact} was trained, but cannot be written into {self.store.path}: {error}"
            return failed(made.request, made.model, "out_of_disk", detail)
        job = self.ledger.jobs[made.request]
        why = f"training job {made.request[:12]}: {job.request.reason}"[:2000]
        register: RegisterArtifact = registration(made.model, made.artifact, manifest)
        state = await self.control.state()
        try:
            if made.artifact not in state.artifacts:
                command = f"training-{made.request}"
                state = (await self.control.issue(register, actor=GROUP, reason=why, command_id=command)).state
            version, shadow = state.version, False
            if state.training.shadow:
                with suppress(RefusedError):  # it is in shadow or votes already
                    start, command = StartShadow(made.model, made.artifact), f"training-shadow-{made.request}"
                    issued = await self.control.issue(start, actor=GROUP, reason=why, command_id=command)
                    version, shadow = issued.version, True
        except RefusedError as error:
            detail = f"{made.artifact} is in the store; the control stream refused it: {error}"
            return failed(made.request, made.model, "unregistered", detail)
        shutil.rmtree(own.path, ignore_errors=True)
        return structs.replace(made, version=version, shadow=shadow)
