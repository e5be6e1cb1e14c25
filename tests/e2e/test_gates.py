"""Shadow, outcomes and gates beside a running installation: every ballot of champion and shadow is scored,
no shadow touches a vote, and the candidate gets a verdict."""

from itertools import islice
from pathlib import Path

import anyio
import pytest

from bench.installation import ONE_PROCESS, Installation, all_entries, running, wait_until
from schemas.codec import decode
from schemas.gates import VerdictReached
from schemas.scores import InterferenceChecked, PredictionScored
from shared.bars.rows import Good
from shared.log import StreamKey
from shared.synthetic import SyntheticMarket

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


HOUR = 3_600_000
TRAINED = 6_000
"""Bars of each symbol that the models are trained on. The others are fed: 83 days."""


def write_history(folder: Path) -> Path:
    """Write hourly bars of two symbols to files, as they could be from an exchange."""
    folder.mkdir()
    rows = SyntheticMarket(("SYN1", "SYN2"), interval_ms=HOUR).rows()
    bars = [row.bar for row in islice(rows, 2 * (TRAINED + 2_000)) if isinstance(row, Good)]
    for symbol in ("SYN1", "SYN2"):
        lines = [
            f"{bar.open_time},{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume}"
            for bar in bars
            if bar.symbol == symbol
        ]
        text = "\n".join(["open_time,open,high,low,close,volume", *lines])
        (folder / f"{symbol}-1h.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.long
def test_a_shadow_that_is_judged_on_a_backfilled_history_alone_passes_and_is_promoted(tmp_path: Path) -> None:
    installation = Installation(tmp_path, models=("m",))
    history = ("--bars", str(write_history(tmp_path / "bars")))
    trained = (*history, "--rows", str(2 * TRAINED), "--horizon", "4")
    with running(installation, ONE_PROCESS):
        installation.train("m", *trained, family="prior")
        installation.conclave(
            "train", "files", "--model", "m", "--family", "logistic", *trained, "--shadow", "--reason", "better"
        )
        installation.conclave("policy", "voting", "quorum_count=1", *WHY)
        installation.conclave("feed", *history, "--skip", str(2 * TRAINED))

        def passed() -> VerdictReached | None:
            verdicts = [event for event in events(installation, "gates") if isinstance(event, VerdictReached)]
            return verdicts[-1] if verdicts and verdicts[-1].overall == "passed" else None

        wait_until(passed, 240, told="no verdict passed")
        verdict = passed()
        assert verdict is not None
        assert verdict.advice.endswith("only live bars can answer: latency, staleness")
        installation.conclave("promote", "m", verdict.artifact, "--accept-changes", *WHY)
        assert {event.origin for event in events(installation, "scores") if isinstance(event, PredictionScored)} == {
            "replay"
        }
