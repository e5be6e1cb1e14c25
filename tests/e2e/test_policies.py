"""A voting policy on a running installation: proposed from records, in shadow, judged, promoted and rolled back, by the
commands a person types."""

import re
from pathlib import Path

import anyio
import pytest
from msgspec import UNSET

from bench.installation import ONE_PROCESS, Installation, all_entries, running, wait_until
from schemas.codec import decode
from schemas.gates import VerdictReached
from shared.control import State
from shared.control.issuing import current
from shared.log import StreamKey

BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "18000")
WHY = ("--reason", "a test")

pytestmark = pytest.mark.long


def state_of(installation: Installation) -> State:
    async def read() -> State:
        log = installation.log()
        try:
            return await current(log)
        finally:
            await log.close()

    return anyio.run(read)


def verdicts(installation: Installation) -> list[VerdictReached]:
    """The verdicts on voting policies."""

    async def read() -> list[VerdictReached]:
        log = installation.log()
        try:
            events = [decode("gates", entry.data).event for entry in await all_entries(log, StreamKey("gates"))]
            return [event for event in events if isinstance(event, VerdictReached) and event.model == "ensemble"]
        finally:
            await log.close()

    return anyio.run(read)


def feed(installation: Installation, skip: int, limit: int) -> None:
    """Feed bars, and wait until nearly all have their decision."""

    async def decided() -> int:
        log = installation.log()
        try:
            return (await log.extent(StreamKey("decisions"))).added
        finally:
            await log.close()

    before = anyio.run(decided)
    installation.conclave("feed", *BARS, "--skip", str(skip), "--limit", str(limit))
    wait_until(lambda: anyio.run(decided) >= before + limit - 400, limit_s=300, every_s=1.0)


def test_a_proposed_policy_is_judged_promoted_and_rolled_back(tmp_path: Path) -> None:
    installation = Installation(tmp_path, models=("m",))
    with running(installation, ONE_PROCESS):
        train = ("train", "files", "--model", "m", "--family", "logistic", *BARS, "--rows", "6000", *WHY)
        installation.conclave(*train, "--promote", "--weight", "1")
        installation.retrain_on_request_alone()
        installation.conclave("policy", "voting", "quorum_count=1", "temperature=4", *WHY)
        # The market and the quick model are what they are: calibration and drift may fail here.
        installation.conclave("policy", "gates", "default", "soft_failures=4", *WHY)
        feed(installation, 7000, 3000)

        shown = installation.conclave("vote", "propose", "--shadow", *WHY)
        assert "best on the" in shown
        [digest] = state_of(installation).policy_shadows
        assert state_of(installation).policies[digest].policy.temperature < 4
        feed(installation, 10_000, 6_000)
        wait_until(lambda: bool(verdicts(installation)))
        wait_until(lambda: verdicts(installation)[-1].overall == "passed", every_s=2.0)
        assert digest[:12] in installation.conclave("gates")

        installation.conclave("vote", "promote", digest[:8], *WHY)
        feed(installation, 16_000, 600)
        made = installation.decisions()[-1]
        assert made.candidates is not UNSET
        assert [each.policy for each in made.candidates] == list(state_of(installation).policy_shadows) != [digest]

        installation.conclave("rollback", *WHY)
        assert state_of(installation).policy.temperature == 4
        feed(installation, 16_600, 600)
        made = installation.decisions()[-1]
        assert made.candidates is not UNSET
        assert [each.policy for each in made.candidates] == [digest]
        history = installation.conclave("history")
        assert re.search(r"promote_policy", history)
        installation.conclave("verify")
