"""Shadow, outcomes and gates beside a running installation: every ballot of champion and shadow is scored,
no shadow touches a vote, and the candidate gets a verdict."""

from pathlib import Path

import anyio
import pytest

from bench.installation import ONE_PROCESS, Installation, all_entries, running, wait_until
from schemas.codec import decode
from schemas.gates import VerdictReached
from schemas.scores import InterferenceChecked, PredictionScored
from shared.log import StreamKey

BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "2500")
WHY = ("--reason", "a test")
FED = 3_000


def events(installation: Installation, stream: str) -> list[object]:
    async def read() -> list[object]:
        log = installation.log()
        try:
            return [decode(stream, entry.data).event for entry in await all_entries(log, StreamKey(stream))]
        finally:
            await log.close()

    return anyio.run(read)


@pytest.mark.long
def test_a_shadow_is_scored_beside_the_champion_and_judged(tmp_path: Path) -> None:
    installation = Installation(tmp_path, models=("m",))
    with running(installation, ONE_PROCESS):
        champion = installation.train("m", *BARS, family="logistic")
        rival = ("--model", "m", "--family", "logistic", *BARS, "--seed", "2", "--horizon", "10", "--shadow")
        installation.conclave("train", "files", *rival, *WHY)
        installation.conclave("policy", "voting", "quorum_count=1", *WHY)
        installation.conclave("feed", *BARS, "--limit", str(FED))
        wait_until(lambda: any(isinstance(event, VerdictReached) for event in events(installation, "gates")))
        checks = [e for e in events(installation, "scores") if isinstance(e, InterferenceChecked)]
        assert checks
        assert all(check.equal and check.checked == check.equal_so_far for check in checks)
        scored = [e for e in events(installation, "scores") if isinstance(e, PredictionScored)]
        assert {bytes(e.artifact).hex() for e in scored} > {champion}
        assert len({e.role for e in scored}) == 2
