"""Examples of readiness, dead letters and alarms."""

from collections.abc import Iterator
from typing import Any

from schemas.codec import Encoded, encode
from schemas.documentation.examples.values import ARTIFACT, CHALLENGER, HEAD, OPEN
from schemas.operations import (
    ArchiveFailed,
    ClockAgrees,
    ClockApart,
    ClockStepped,
    ControlRefused,
    DeadLetter,
    DeadLetterRetried,
    GapDetected,
    GroupRecreated,
    LogTruncated,
    OwnerReplaced,
    PhoneAnswers,
    PhoneSilent,
    StorageFailed,
    StorageRecovered,
)
from schemas.readiness import ArtifactFailed, ArtifactFreed, ArtifactReady


def operations() -> Iterator[Encoded]:
    """Yield reports of workers, a dead letter, and alarms."""
    worker: dict[str, Any] = {"owner": "model-worker.xgboost (pid 11 on a)", "life": "6f1d09b2", "control_version": 7}
    yield encode("readiness", ArtifactReady("xgboost", ARTIFACT.hex(), **worker, took_ms=180, at=OPEN, memory_mb=212.5))
    reason = "artifact 40414243 in state/artifacts: model.ubj: missing"
    yield encode("readiness", ArtifactFailed("xgboost", CHALLENGER.hex(), **worker, reason=reason, at=OPEN))
    yield encode("readiness", ArtifactFreed("xgboost", ARTIFACT.hex(), **worker))
    yield encode(
        "dead",
        DeadLetter(
            service="feed",
            source="bars/BTCUSDT.csv:7",
            reason="impossible_prices",
            detail="low 5 is above open 4",
            raw="1,4,6,5,5,1",
        ),
    )
    yield encode(
        "dead",
        DeadLetterRetried(
            letter="5e" * 16,
            source="conclave:training@1700000040000-0",
            entry="1700000100000-0",
            actor="ada",
            reason="this release can read it",
            at=OPEN,
        ),
    )
    group, stream = "ensemble-voter", "predictions"
    yield encode(
        "alarms",
        ControlRefused(
            entry="8-0", version=7, head=HEAD, reason="it is not an event of this stream", raw='{"halt": true}'
        ),
    )
    yield encode("alarms", GapDetected(group, stream, committed="1700000040000-3", oldest="1700000100000-0", at=OPEN))
    yield encode("alarms", ArchiveFailed("lost", "var/archive/p0/market/00000007.sealed is missing", OPEN))
    lost = "entry 8-0 of version 8 was read and is gone"
    yield encode(
        "alarms", LogTruncated(group=group, stream="control", expected="8-0", last="7-0", detail=lost, at=OPEN)
    )
    yield encode("alarms", GroupRecreated(group, stream, position="1700000040000-3", at=OPEN))
    yield encode(
        "alarms", OwnerReplaced(group, former="voter (pid 7 on a)", owner="voter (pid 9 on b)", epoch=2, at=OPEN)
    )
    yield encode("alarms", ClockApart(group, host="a", apart_ms=-3_600_000, at=OPEN))
    yield encode("alarms", ClockAgrees(group, host="a", at=OPEN))
    yield encode("alarms", ClockStepped(group, by_ms=-3_600_000, detail="it was set while this process ran", at=OPEN))
    file, full = "var/checkpoints/control.jsonl", "No space left on device"
    yield encode("alarms", StorageFailed(group, host="a", file=file, detail=full, at=OPEN))
    yield encode("alarms", StorageRecovered(group, host="a", file=file, at=OPEN))
    yield encode("alarms", PhoneSilent(host="a", began=OPEN - 120_000, detail="the token is not known", at=OPEN))
    yield encode("alarms", PhoneAnswers(host="a", at=OPEN))
