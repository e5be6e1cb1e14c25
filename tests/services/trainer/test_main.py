"""The trainer on a real server, with real processes for its jobs."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from immutables import Map
from msgspec import structs

from bench.toy import MINUTE, market
from schemas.codec import encode
from schemas.control import Found, Promote, SetTrainingPolicy
from schemas.features import FeaturesComputed
from schemas.gates import SkillDecayed
from schemas.market import BarClosed
from schemas.training import (
    Recipe,
    TrainingCompleted,
    TrainingEvent,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
    TrainingRequested,
    TrainingStarted,
)
from services.trainer.main import READS, Trainer, train_again
from shared.artifacts.registration import registration
from shared.artifacts.store import ArtifactStore
from shared.control.issuing import ControlWriter
from shared.control.stream import now_ms
from shared.families import complete, family_named
from shared.features import SETS
from shared.log import Commit, OwnedError, Owner
from shared.log.redis import RedisLog
from shared.runtime.loop import Loop
from shared.runtime.supervision import Supervised
from shared.settings import VARIABLE, Settings
from shared.training.fitting import train
from shared.training.jobs import Job
from shared.training.ledger import TRAINING, TrainingWriter
from shared.training.series import computed

pytestmark = pytest.mark.anyio

SET = SETS["core-28"]
BARS = {name: market(name, 1800, 0.5, seed) for seed, name in enumerate(("AAA", "BBB"))}
RECIPE = Recipe(
    family="logistic", feature_set=SET.name, params=complete(family_named("logistic"), {}), horizon=3, hold=0.5, seed=1
)
WHY: dict[str, Any] = {"actor": "ada", "reason": "a test"}


class Site:
    """An installation whose streams hold the bars and vectors of a toy market."""

    def __init__(self, settings: Settings, log: RedisLog) -> None:
        self.settings = settings
        self.log = log
        self.control = ControlWriter(log)
        self.store = ArtifactStore(Path(settings.installation.state) / "artifacts")
        self.events: list[TrainingEvent] = []
        self.ledger = TrainingWriter(log, lambda envelope: self.events.append(envelope.event))

    @asynccontextmanager
    async def trainer(self) -> AsyncIterator[Trainer]:
        """A trainer that owns its group."""
        loop = Loop(self.log, "trainer", supervised=Supervised({}))
        async with loop.owned(1, READS):
            yield Trainer(self.settings, loop, None)

    async def record(self) -> None:
        """What feed and feature-builder would have written."""
        claim = await self.log.claim("feed", (), 0, Owner("elsewhere", 1, "feed"))
        outputs = []
        for symbol, one in computed(BARS, SET, 3).items():
            bars = one.bars
            columns = (bars.open_time, bars.open, bars.high, bars.low, bars.close, bars.volume)
            for at, opened, high, low, close, volume in zip(*(column.tolist() for column in columns), strict=True):
                bar = BarClosed(
                    symbol=symbol,
                    interval_ms=MINUTE,
                    open_time=at,
                    open=opened,
                    high=high,
                    low=low,
                    close=close,
                    volume=volume,
                    origin="synthetic",
                )
                outputs.append(encode("market", bar))
            for at, vector in zip(one.open_time.tolist(), one.vectors, strict=True):
                values = vector.astype("<f4").tobytes()
                outputs.append(
                    encode(
                        "features",
                        FeaturesComputed(
                            symbol=symbol,
                            interval_ms=MINUTE,
                            open_time=at,
                            origin="synthetic",
                            feature_set=SET.digest,
                            values=values,
                        ),
                    )
                )
        await self.log.commit(claim, Commit(outputs, {}, {}))
        await self.log.release(claim)

    async def champion(self, model: str = "m") -> str:
        """A model with a champion, trained on the same bars."""
        made = train(BARS, "logistic", SET, source="toy", horizon=3, hold=0.5)
        digest = self.store.save(*made)
        await self.control.issue(registration(model, digest, made.manifest), **WHY)
        await self.control.issue(Promote(model, digest, forced=True, weight=1.0), **WHY)
        return digest

    async def ask(self, recipe: Recipe = RECIPE, **changed: Any) -> str:
        usual: dict[str, Any] = {"cause": "operator", "evidence": None, "at": now_ms(), "window_ms": 10**10, **WHY}
        request = TrainingRequested(model="m", recipe=recipe, **{**usual, **changed})
        return await self.ledger.request(request, SetTrainingPolicy())

    async def until_ended(self, job: str) -> Job:
        """Runs a trainer until a job has ended."""
        stop = anyio.Event()
        async with self.trainer() as trainer, anyio.create_task_group() as tasks:
            tasks.start_soon(trainer.run, stop)
            with anyio.fail_after(300):
                while (found := (await self.ledger.read())[job]).ended is None:
                    await anyio.sleep(0.05)
            stop.set()
        return found


@pytest.fixture
async def site(empty_redis_url: str, settings: Settings) -> AsyncIterator[Site]:
    log = RedisLog(empty_redis_url)
    found = Site(settings, log)
    await found.control.issue(Found(1, "log-of-a-test"), **WHY)
    await found.record()
    yield found
    await log.close()


async def test_a_request_becomes_an_artifact_in_shadow_without_a_vote(site: Site) -> None:
    champion = await site.champion()
    job = await site.until_ended(await site.ask())
    assert isinstance(job.ended, TrainingCompleted), job.ended
    state = await site.control.state()
    made = job.ended.artifact
    assert made in state.artifacts
    assert state.models["m"].champion == champion
    assert state.models["m"].shadows == (made,)
    assert (job.ended.shadow, job.ended.version) == (True, state.version)
    assert site.store.load(made).manifest.data.source.startswith("recorded synthetic bars")
    # The same bars, the same recipe: no better and no worse, but for the number of threads that fitted each.
    over = {gain.over: gain.value for gain in job.ended.gains}
    assert over[f"champion {champion[:12]}"] == pytest.approx(0, abs=1e-6)
    folder = Path(site.settings.installation.state) / "training" / job.id[:12]
    assert "Confusion" in (folder / "report.html").read_text()
    assert (folder / "card.md").read_text().startswith("# logistic on core-28")
    stages = [event.stage for event in site.events if isinstance(event, TrainingProgressed)]
    assert stages[-1] == "measuring"
    assert "fitting" in stages


async def test_shadowing_is_left_to_people_if_the_policy_asks_for_it(site: Site) -> None:
    await site.control.issue(SetTrainingPolicy(shadow=False), **WHY)
    job = await site.until_ended(await site.ask())
    assert isinstance(job.ended, TrainingCompleted)
    assert not job.ended.shadow
    assert (await site.control.state()).models == {}


@pytest.mark.long
async def test_trained_again_it_has_the_same_digest(site: Site) -> None:
    job = await site.until_ended(await site.ask())
    assert isinstance(job.ended, TrainingCompleted)
    assert job.started is not None
    again = await train_again(site.settings, job, job.started)
    assert [event.artifact for event in again if isinstance(event, TrainingCompleted)] == [job.ended.artifact]


async def test_a_collapsed_fit_is_rejected_with_evidence_and_kept_where_nothing_can_register_it(site: Site) -> None:
    blind = complete(family_named("lightgbm"), {"learning_rate": 1e-7})
    job = await site.until_ended(await site.ask(structs.replace(RECIPE, family="lightgbm", params=blind)))
    assert isinstance(job.ended, TrainingRejected)
    assert job.ended.reason in {"constant", "no_information"}
    kept = Path(site.settings.installation.state) / job.ended.quarantine
    assert {path.name for path in kept.iterdir()} >= {"manifest.json", "model.txt"}
    assert site.store.list() == ()
    assert (await site.control.state()).artifacts == Map()


async def test_unfit_data_are_refused_before_any_fit(site: Site) -> None:
    await site.control.issue(SetTrainingPolicy(rows=100_000), **WHY)
    job = await site.until_ended(await site.ask())
    assert isinstance(job.ended, TrainingRejected)
    assert job.ended.reason == "unfit_data"
    assert "100,000 are required" in job.ended.evidence
    assert not any(isinstance(event, TrainingProgressed) for event in site.events)


async def test_vectors_of_another_set_are_no_data(site: Site) -> None:
    job = await site.until_ended(await site.ask(structs.replace(RECIPE, feature_set="user-18")))
    assert isinstance(job.ended, TrainingRejected)
    assert "no vector of user-18" in job.ended.evidence


@pytest.mark.long
async def test_an_artifact_that_is_not_sane_is_refused_if_the_policy_asks_for_it(site: Site) -> None:
    await site.control.issue(SetTrainingPolicy(sanity="refuse"), **WHY)
    job = await site.until_ended(await site.ask(structs.replace(RECIPE, hold=0.9)))
    assert isinstance(job.ended, TrainingRejected)
    assert (job.ended.reason, job.report is not None) == ("insane", True)
    assert "one_class" in job.ended.evidence


async def test_a_full_disk_fails_the_job_before_it_starts(site: Site) -> None:
    full = structs.replace(site.settings.training, free_gb=1e9)
    site.settings = structs.replace(site.settings, training=full)
    job = await site.until_ended(await site.ask())
    assert isinstance(job.ended, TrainingFailed)
    assert (job.ended.reason, "asks for 1e+09; make room" in job.ended.detail) == ("out_of_disk", True)


@pytest.mark.long
async def test_given_a_disk_that_refuses_when_a_job_starts_or_ends_then_it_fails_and_the_trainer_goes_on(
    site: Site,
) -> None:
    state = Path(site.settings.installation.state)
    state.mkdir(parents=True, exist_ok=True)
    for blocked in ("training", "artifacts"):
        shutil.rmtree(state / blocked, ignore_errors=True)
        (state / blocked).write_text("a file where a folder should be")
        job = await site.until_ended(await site.ask(forced=True))
        assert isinstance(job.ended, TrainingFailed)
        assert (job.ended.reason, str(state / blocked) in job.ended.detail) == ("out_of_disk", True), job.ended
        (state / blocked).unlink()
    job = await site.until_ended(await site.ask(forced=True))
    assert isinstance(job.ended, TrainingCompleted)


async def test_a_job_that_takes_too_much_memory_fails_and_the_trainer_goes_on(site: Site) -> None:
    settings = os.environ[VARIABLE]
    Path(settings).write_text(Path(settings).read_text().replace("free_gb = 0.0", "free_gb = 0.0\nmemory_mb = 256"))
    hungry = complete(family_named("patchtst"), {"epochs": 1, "width": 2048, "feedforward": 2048, "layers": 4})
    job = await site.until_ended(await site.ask(structs.replace(RECIPE, family="patchtst", params=hungry)))
    assert isinstance(job.ended, TrainingFailed)
    assert job.ended.reason in {"out_of_memory", "crashed"}


async def test_decay_of_a_champion_is_a_cause_once(site: Site) -> None:
    champion = await site.champion()
    claim = await site.log.claim("gate-evaluator", (), 0, Owner("elsewhere", 1, "e"))
    decayed = encode(
        "gates",
        SkillDecayed(
            model="m",
            artifact=champion,
            value=120.0,
            threshold=100.0,
            samples=14,
            detail="less than half",
            last_score="3d" * 16,
            control_version=4,
        ),
    )
    await site.log.commit(claim, Commit([decayed], {}, {}))
    for _ in range(2):
        async with site.trainer() as trainer:
            await trainer.request_due()
    [job] = await site.ledger.read()
    assert (job.request.cause, job.request.evidence) == ("decay", decayed.envelope.id.hex())
    assert job.request.recipe == RECIPE


@pytest.mark.long
async def test_a_job_whose_trainer_stopped_is_started_again_from_the_same_positions(site: Site) -> None:
    slow = complete(family_named("xgboost"), {"rounds": 600, "patience": 600})
    asked = await site.ask(structs.replace(RECIPE, family="xgboost", params=slow))
    stop = anyio.Event()
    async with site.trainer() as trainer, anyio.create_task_group() as tasks:
        tasks.start_soon(trainer.run, stop)
        with anyio.fail_after(300):
            while (await site.ledger.read())[asked].progress is None:
                await anyio.sleep(0.02)
        stop.set()
    before = site.ledger.jobs[asked]
    assert (before.state, len(before.began)) == ("running", 1)
    assert before.started is not None
    first = before.started
    await site.record()  # what comes later is no part of it
    job = await site.until_ended(asked)
    assert isinstance(job.ended, TrainingCompleted)
    assert job.started is not None
    assert (job.started.attempt, job.started.ends, job.started.last) == (2, first.ends, first.last)


async def test_a_job_that_was_interrupted_three_times_is_given_up(site: Site) -> None:
    asked = await site.ask()
    for attempt in (1, 2, 3):
        await site.ledger.append(
            TrainingStarted(
                request=asked, model="m", attempt=attempt, first=0, last=9, ends=(), worker="gone", at=now_ms()
            )
        )
    job = await site.until_ended(asked)
    assert isinstance(job.ended, TrainingFailed)
    assert job.ended.detail.startswith("given up after 3 attempts")


async def test_a_second_trainer_is_refused(site: Site) -> None:
    async with site.trainer():
        with pytest.raises(OwnedError, match="belongs to trainer"):
            await site.log.claim("trainer", ("gates",), 0, Owner("elsewhere", 1, "trainer"))


async def test_the_training_stream_has_every_step(site: Site) -> None:
    job = await site.until_ended(await site.ask())
    entries = await site.log.scan(TRAINING)
    kinds = [json.loads(entry.data)["event"]["type"] for entry in entries]
    assert kinds[:2] == ["training.requested", "training.started"]
    assert kinds[-1] == "training.completed"
    assert job.state == "completed"
