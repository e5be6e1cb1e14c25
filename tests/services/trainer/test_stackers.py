"""Fits of a stacker on a real server, with real processes: from the request to the decisions in shadow."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from msgspec import UNSET

from schemas.control import SetTrainingPolicy
from schemas.training import (
    StackerFitted,
    StackerRejected,
    StackerRequested,
    StackerStarted,
    TrainingFailed,
)
from services.trainer.fit import recorded, result, rounds_of
from services.trainer.main import READS, Trainer, fit_again
from services.trainer.stackers import fixed_rounds, put_in_shadow
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.live import live
from shared.audit.source import EntryRange
from shared.control.issuing import ControlWriter
from shared.control.policies import policy_digest
from shared.control.stream import now_ms
from shared.log.redis import RedisLog
from shared.runtime.loop import Loop
from shared.runtime.supervision import Supervised
from shared.settings import Settings
from shared.training.fits import Fit
from shared.training.ledger import TrainingWriter
from shared.tuning.proposal import PolicyProposal, propose
from shared.tuning.rounds import DecidedRound, recorded_rounds
from shared.tuning.stacking import PENALTIES
from tests.services.trainer.votes import WHY, found, record
from tests.shared.tuning.test_proposal import IN_FORCE, rounds

pytestmark = pytest.mark.anyio


class Site:
    """An installation whose streams hold decisions of two models, and their outcomes."""

    def __init__(self, settings: Settings, log: RedisLog, url: str) -> None:
        self.settings, self.log, self.url = settings, log, url
        self.control = ControlWriter(log)
        self.ledger = TrainingWriter(log)

    @asynccontextmanager
    async def trainer(self) -> AsyncIterator[Trainer]:
        """A trainer that owns its group."""
        loop = Loop(self.log, "trainer", supervised=Supervised({}))
        async with loop.owned(1, READS):
            yield Trainer(self.settings, loop, None)

    async def ask(self, **changed: Any) -> str:
        request = StackerRequested(cause="operator", at=now_ms(), **{**WHY, **changed})
        return await self.ledger.request(request, SetTrainingPolicy())

    async def until(self, job: str, reached: str = "ended") -> Fit:
        """Runs a trainer until a fit has ended, or has what is named."""
        stop = anyio.Event()
        async with self.trainer() as trainer, anyio.create_task_group() as tasks:
            tasks.start_soon(trainer.run, stop)
            with anyio.fail_after(300):
                while getattr((await self.ledger.read()).fits[job], reached) is None:
                    await anyio.sleep(0.02)
            stop.set()
        return self.ledger.jobs.fits[job]

    def proposed(self) -> PolicyProposal:
        """What ``conclave vote propose --stacker`` computes."""
        with live(self.url) as source:
            configurations = Configurations(source, Findings())
            rounds = recorded_rounds(source, configurations, EntryRange())
        return propose(rounds, configurations.newest.policy, stacker=True)


@pytest.fixture
async def site(empty_redis_url: str, settings: Settings) -> AsyncIterator[Site]:
    log = RedisLog(empty_redis_url)
    await found(log)
    yield Site(settings, log, empty_redis_url)
    await log.close()


@pytest.mark.long
async def test_a_request_becomes_a_policy_in_shadow_with_the_numbers_that_the_console_finds(site: Site) -> None:
    await record(site.log, 1500)
    fit = await site.until(await site.ask())
    made = fit.ended
    assert isinstance(made, StackerFitted), made
    state = await site.control.state()
    assert (made.shadow, made.version, state.policy_shadows) == (True, state.version, (made.digest,))
    assert policy_digest(made.policy) == made.digest
    assert state.policies[made.digest].policy == made.policy
    assert (state.policies[made.digest].scale, state.policies[made.digest].money_scale) == (
        made.scale,
        made.money_scale,
    )
    assert state.policy.rule == "mean"  # it does not decide

    found_there = await anyio.to_thread.run_sync(site.proposed)
    [there] = [each for each in found_there.tried if each.policy.stacker][:1]
    assert there.policy == made.policy
    assert 1000 * there.later.gain == made.later.value > 50.0
    assert [each.penalty for each in made.tried] == list(PENALTIES)
    assert made.penalty in {each.penalty for each in made.tried}

    [decision, *_] = await record(site.log, 20, first=1500)
    assert decision.candidates is not UNSET
    assert [(each.policy, each.rule) for each in decision.candidates] == [(made.digest, "stacker")]
    assert decision.policy == "mean"


async def test_where_there_is_nothing_to_find_it_is_rejected_with_every_penalty_and_nothing_is_proposed(
    site: Site,
) -> None:
    await record(site.log, 1200, informed=(0.0, 0.0))
    fit = await site.until(await site.ask())
    assert isinstance(fit.ended, StackerRejected)
    assert (fit.ended.reason, len(fit.ended.tried)) == ("no_certain_gain", len(PENALTIES))
    assert "standard error" in fit.ended.evidence
    assert (await site.control.state()).policy_shadows == ()


def ended(made: list[DecidedRound], **changed: Any) -> StackerFitted | StackerRejected:
    """How a fit on these rounds ends."""
    return result("0" * 32, StackerRequested(cause="operator", at=1, **{**WHY, **changed}), made, IN_FORCE)


@pytest.mark.parametrize(
    ("count", "why"), [(0, "0 rounds have an outcome"), (300, "ballot of every member as it votes now, expected 500")]
)
def test_too_few_rounds_are_rejected(count: int, why: str) -> None:
    rejected = ended(rounds(count))
    assert isinstance(rejected, StackerRejected)
    assert (rejected.reason, rejected.tried) == ("too_few_rounds", ())
    assert why in rejected.evidence


def test_a_loss_on_the_rounds_after_those_of_the_fit_rejects_it() -> None:
    made = [*rounds(2000, informed=(1.0, -1.0))[:1300], *rounds(2000, informed=(-1.0, 1.0), seed=8)[1300:]]
    rejected = ended(made)
    assert isinstance(rejected, StackerRejected)
    assert (rejected.reason, len(rejected.tried)) == ("worse_later", len(PENALTIES))
    assert rejected.evidence.startswith("worse than the policy in force on the 800 rounds after those of the fit: -")
    assert isinstance(ended(made[:1250]), StackerFitted)


async def test_only_the_rounds_that_were_asked_for_are_read(site: Site) -> None:
    await record(site.log, 40)
    middle = now_ms()
    while now_ms() == middle:
        await anyio.sleep(0.001)
    await record(site.log, 30, first=40)
    started = await fixed_rounds(site.log, 1, "0" * 32)
    await record(site.log, 20, first=70)

    def read(since: int | None, until: int | None) -> int:
        request = StackerRequested(cause="operator", at=1, since=since, until=until, **WHY)
        with recorded(site.settings, started) as source:
            return len(rounds_of(source, request)[0])

    ranges = ((None, None), (middle + 1, None), (None, 1))
    assert [await anyio.to_thread.run_sync(partial(read, *each)) for each in ranges] == [70, 30, 0]


async def test_a_fit_that_does_not_go_into_shadow_says_why(site: Site) -> None:
    request = StackerRequested(cause="operator", at=1, **WHY)
    made = ended(rounds(1500, informed=(1.0, -1.0)))
    assert isinstance(made, StackerFitted)
    refused = await put_in_shadow(site.control, made, request)
    assert (refused.shadow, "which is not registered" in refused.note) == (False, True)
    await site.control.issue(SetTrainingPolicy(shadow=False), **WHY)
    left = await put_in_shadow(site.control, made, request)
    assert (left.shadow, left.note) == (False, "the training policy leaves shadows to people")
    assert (await site.control.state()).policy_shadows == ()


async def test_a_policy_that_is_in_shadow_already_is_in_shadow(site: Site) -> None:
    await record(site.log, 1500)
    first = (await site.until(await site.ask())).ended
    again = (await site.until(await site.ask())).ended
    assert isinstance(first, StackerFitted)
    assert isinstance(again, StackerFitted)
    assert (again.digest, again.shadow, again.note, again.version) == (first.digest, True, "", first.version)


async def test_a_trainer_that_ended_after_its_command_finds_it_again(site: Site) -> None:
    await record(site.log, 1500)
    asked = await site.ask()
    fit = await site.until(asked, "progress")
    assert fit.started is not None
    *_, made = await fit_again(site.settings, fit, fit.started)
    assert isinstance(made, StackerFitted)
    before = await put_in_shadow(site.control, made, fit.request)  # and killed before stacker.fitted
    fit = await site.until(asked)
    assert isinstance(fit.ended, StackerFitted)
    assert (fit.ended.digest, fit.ended.shadow, fit.ended.version) == (made.digest, True, before.version)
    assert (await site.control.state()).version == before.version


async def test_a_fit_whose_trainer_stopped_is_started_again_and_has_the_same_numbers_at_any_time(site: Site) -> None:
    await record(site.log, 1200)
    asked = await site.ask(base="logmean")
    before = await site.until(asked, "progress")
    assert (before.state, len(before.began)) == ("running", 1)
    assert before.started is not None
    await record(site.log, 300, first=1200, informed=(1.0, 1.0))  # what comes later is no part of it
    fit = await site.until(asked)
    assert isinstance(fit.ended, StackerFitted)
    assert fit.started is not None
    assert (fit.started.attempt, fit.started.ends, fit.started.control) == (
        2,
        before.started.ends,
        before.started.control,
    )
    assert fit.ended.policy.stacker
    assert fit.ended.policy.stacker.base == "logmean"
    *_, again = await fit_again(site.settings, fit, fit.started)
    assert isinstance(again, StackerFitted)
    assert (again.policy, again.tried, again.later) == (fit.ended.policy, fit.ended.tried, fit.ended.later)


async def test_a_fit_that_was_interrupted_three_times_is_given_up(site: Site) -> None:
    asked = await site.ask()
    for attempt in (1, 2, 3):
        started = StackerStarted(request=asked, attempt=attempt, control="0-1", ends=(), worker="gone", at=now_ms())
        await site.ledger.append(started)
    fit = await site.until(asked)
    assert isinstance(fit.ended, TrainingFailed)
    assert (fit.ended.model, fit.ended.reason) == ("ensemble", "interrupted")


async def test_a_stacker_is_requested_by_schedule_once(site: Site) -> None:
    await site.control.issue(SetTrainingPolicy(stacker_hours=24, schedule_hours=0), **WHY)
    for _ in range(2):
        async with site.trainer() as trainer:
            await trainer.request_due()
    [fit] = (await site.ledger.read()).fits.values()
    assert (fit.request.cause, fit.request.actor) == ("schedule", "trainer")
