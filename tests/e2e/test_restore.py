"""The server is lost: from the archive an installation goes on, and decides what it would have decided."""

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
import redis

from bench.installation import ONE_PROCESS, Installation, all_entries, running, wait_until
from schemas.codec import decode
from schemas.decisions import FenceClosed, FenceOpened
from shared.archive.files import Files
from shared.archive.store import open_store
from shared.log import StreamKey
from shared.server.embedded import EmbeddedServer

BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "1500")
WHY = ("--reason", "a test")
BEFORE, AFTER = 1200, 2400
FENCE = (FenceClosed, FenceOpened)
"""A mark that is not in the archive is set again, from control, which is one entry more."""
OFTEN = "\n[archive]\nevery_s = 1\n"


def decisions(installation: Installation) -> list[bytes]:
    async def read() -> list[bytes]:
        log = installation.log()
        try:
            entries = await all_entries(log, StreamKey("decisions"))
            return [entry.data for entry in entries if not isinstance(decode("decisions", entry.data).event, FENCE)]
        finally:
            await log.close()

    return anyio.run(read)


def sealed(installation: Installation, stream: str) -> int:
    """How many entries of a stream are sealed, read as ``conclave archive status`` does: a process for every look
    would take the time of those that seal."""
    files = Files(open_store(installation.folder / "var" / "archive"), StreamKey(stream))
    end = files.end()
    return end.seen if end else 0


def told(installation: Installation) -> dict[str, Any]:
    facts = json.loads(installation.conclave("archive", "status", "-o", "json"))
    return {row["key"]: row["entries"] for row in facts["streams"]}


@pytest.mark.long
def test_what_is_restored_decides_on_with_the_same_bytes(tmp_path: Path) -> None:
    lost = Installation(tmp_path / "lost", models=("m",), extra=OFTEN)
    found = Installation(tmp_path / "found", models=("m",), extra=OFTEN)
    with running(lost, ONE_PROCESS):
        lost.train("m", *BARS, family="logistic")
        lost.conclave("policy", "voting", "quorum_count=1", *WHY)
        lost.conclave("feed", *BARS, "--limit", str(BEFORE))
        wait_until(lambda: len(decisions(lost)) > BEFORE // 2)
        count = len(decisions(lost))
        wait_until(lambda: sealed(lost, "decisions") > count == len(decisions(lost)))
        assert told(lost)["conclave:{p0}:decisions"] == sealed(lost, "decisions")
    before = decisions_of(lost)
    assert json.loads(lost.conclave("archive", "verify", "-o", "json"))["faults"] == []
    shutil.copytree(lost.folder / "var" / "archive", found.folder / "var" / "archive")
    shutil.copytree(lost.folder / "var" / "artifacts", found.folder / "var" / "artifacts")

    with running(lost, ONE_PROCESS):
        lost.conclave("feed", *BARS, "--limit", str(AFTER))
        wait_until(lambda: len(decisions(lost)) >= len(before) + AFTER - BEFORE)
        expected = decisions(lost)

    port = urlsplit(found.url).port
    assert port is not None
    server = EmbeddedServer(found.folder / "var" / "redis", port=port)
    server.start()
    try:
        found.conclave("archive", "restore", *WHY)
        assert decisions(found) == before
        assert "holds" in found.conclave("archive", "restore", *WHY, code=2)
    finally:
        server.stop()

    with running(found, ONE_PROCESS):
        found.conclave("feed", *BARS, "--limit", str(AFTER))
        wait_until(lambda: len(decisions(found)) >= len(expected))
        assert decisions(found) == expected
        wait_until(lambda: sealed(found, "features") >= AFTER)
        wait_until(lambda: sealed(found, "predictions") >= len(expected))

    server.start()
    try:
        whole = found.conclave("verify", "-o", "json", "--layer", "features", "--layer", "votes")
        with redis.Redis.from_url(found.url) as client:
            client.xtrim("conclave:{p0}:market", maxlen=10, approximate=False)
            client.xtrim("conclave:{p0}:features", maxlen=10, approximate=False)
        assert found.conclave("verify", "-o", "json", "--layer", "features", "--layer", "votes") == whole
        (found.folder / "var" / "archive").rename(found.folder / "var" / "elsewhere")
        assert found.conclave("verify", "--layer", "features", code=3) is not None
    finally:
        server.stop()


def decisions_of(installation: Installation) -> list[bytes]:
    """With its server up for the moment of reading."""
    port = urlsplit(installation.url).port
    assert port is not None
    server = EmbeddedServer(installation.folder / "var" / "redis", port=port)
    server.start()
    try:
        return decisions(installation)
    finally:
        server.stop()
