"""A consumer to be killed: for each bar on ``market`` it writes one event to ``features``.

``python copier.py <url> <label> <batch>``. Ends with code 3 when it is fenced.
"""

import os
import sys
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from schemas.codec import decode, encode
from schemas.features import FeaturesWithheld
from shared.log import Commit, Owner, Position, StreamKey, SupersededError
from shared.log.redis import RedisLog

MARKET = StreamKey("market")


async def copy(url: str, label: str, batch: int) -> None:
    log = RedisLog(url)
    claim = await log.claim("copier", ["market"], 0, Owner("here", os.getpid(), label))
    stand = claim.positions["market"]
    while True:
        outputs = []
        entries = await log.read({MARKET: stand.id}, count=batch, block_ms=1000, ahead=True)
        for entry in entries:
            found = decode("market", entry.data)
            bar = found.event
            event = FeaturesWithheld(
                symbol=bar.symbol,
                interval_ms=bar.interval_ms,
                open_time=bar.open_time,
                origin=bar.origin,
                feature_set=bytes(32),
                reason="warming",
                have=0,
                need=1,
            )
            outputs.append(encode("features", event, causation=found.id, correlation=found.correlation))
        if entries:
            after = Position(entries[-1].id, stand.seen + len(entries))
            await log.commit(claim, Commit(outputs, {"market": stand}, {"market": after}))
            stand = after


if __name__ == "__main__":
    try:
        anyio.run(copy, sys.argv[1], sys.argv[2], int(sys.argv[3]))
    except SupersededError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(3)
