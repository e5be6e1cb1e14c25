"""Implement the hop of ``bench.hop`` in several ways: our runtime, raw sockets, and FastStream.

Each contender handles ``count`` events with 49 features from one stream and returns; 0 means without end.
``python -m bench.contenders NAME URL`` runs one in its own process, where it waits for events.
"""

import asyncio
import base64
import contextlib
import json
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio
import hiredis
import msgspec
import numpy as np

import shared.runtime.host
from schemas.codec import Encoded, Envelope, encode
from schemas.features import FeatureEvent, FeaturesComputed
from schemas.predictions import PredictionMade
from shared.log import Owner, StreamKey
from shared.log.redis import RedisLog, library
from shared.runtime.host import Host
from shared.runtime.service import Batch

BATCH: Final = 100
IN, OUT = StreamKey("features"), StreamKey("predictions")
ARTIFACT: Final = bytes(range(32))
THIRDS: Final = (0.25, 0.5, 0.25)


def vectors(count: int) -> list[Encoded]:
    """Return ``count`` encoded events with 49 features, for 100 symbols."""
    values = np.linspace(-1, 1, 49).astype("<f4").tobytes()
    return [
        encode(
            "features",
            FeaturesComputed(
                symbol=f"S{n % 100}",
                interval_ms=60_000,
                open_time=60_000 * n,
                origin="synthetic",
                feature_set=ARTIFACT,
                values=values,
            ),
            flags=0,
        )
        for n in range(count)
    ]


def answer(event: FeaturesComputed, vector: bytes) -> PredictionMade:
    """Return the output for one input."""
    return PredictionMade(
        symbol=event.symbol,
        interval_ms=event.interval_ms,
        open_time=event.open_time,
        origin=event.origin,
        model="bench",
        artifact=ARTIFACT,
        probabilities=THIRDS,
        vector=vector,
        control_version=1,
    )


class Forward:
    """The service under measurement."""

    group = "bench"
    reads = ("features",)
    follows_control = False
    ticks = 0

    def __init__(self, count: int, stop: anyio.Event) -> None:
        self.count, self.stop = count, stop

    def initial(self, memo: bytes) -> dict[str, int]:
        return {}

    def apply(self, state: dict[str, int], batch: Batch) -> None:
        self.handle(state, batch)

    def handle(self, state: dict[str, int], batch: Batch) -> Sequence[Encoded]:
        outputs = []
        for received in batch.events:
            envelope = received.envelope
            event = envelope.event
            state[event.symbol] = state.get(event.symbol, 0) + 1
            outputs.append(
                encode(
                    "predictions",
                    answer(event, envelope.id),
                    causation=envelope.id,
                    correlation=envelope.correlation,
                    flags=envelope.flags,
                )
            )
        if self.count:
            self.count -= len(outputs)
            if self.count <= 0:
                self.stop.set()
        return outputs

    def snapshot(self, state: dict[str, int]) -> bytes:
        return b""

    def replay_from(self, state: dict[str, int]) -> dict[str, str]:
        return {}


class Digesting(Forward):
    """The same service under the name of a worker, so that the log keeps a running digest of its output."""

    group = "model-worker.bench"


def ours(
    url: str, count: int, batch: int, ready: Callable[[], None], service: Callable[..., Forward] = Forward
) -> None:
    """Run the service with the runtime and the log, reading at most ``batch`` entries at once."""

    async def run() -> None:
        stop = anyio.Event()
        log = RedisLog(url)
        await Host(service(count, stop), log, 0, Owner("here", 1, "bench"), ready=ready).run(stop)
        await log.close()

    shared.runtime.host.BATCH = batch  # type: ignore[misc]  # the hop's size
    anyio.run(run, backend_options={"use_uvloop": True})


def pack(*words: str | bytes) -> bytes:
    """Return a command encoded in RESP."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # stub wants one
    return packed


class Raw:
    """A blocking socket."""

    def __init__(self, url: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2].split("/")[0])))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()

    def call(self, packed: bytes, replies: int = 1) -> Any:
        """Send encoded commands and return the last of ``replies`` replies."""
        self.socket.sendall(packed)
        reply = None
        for _ in range(replies):
            while (reply := self.reader.gets()) is False:
                self.reader.feed(self.socket.recv(1 << 18))
            if isinstance(reply, Exception):
                raise reply
        return reply

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def _one(data: bytes, decode: Any, encode: Any, counts: dict[str, int]) -> bytes:
    envelope = decode(data)
    event = envelope.event
    counts[event.symbol] = counts.get(event.symbol, 0) + 1
    output: bytes = encode(Envelope(1, 0, envelope.id, envelope.id, envelope.correlation, answer(event, envelope.id)))
    return output


def floor_multi(url: str, count: int, batch: int, ready: Callable[[], None]) -> None:
    """XREADGROUP, then MULTI, XADD .., XACK, EXEC in one write."""
    decode, encode = msgspec.msgpack.Decoder(Envelope[FeatureEvent]).decode, msgspec.msgpack.Encoder().encode
    read = pack(*f"XREADGROUP GROUP raw me COUNT {batch} BLOCK 1000 STREAMS {IN.key} >".split())
    add = b"*5\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$1\r\n*\r\n$1\r\ne\r\n$%%d\r\n%%b\r\n" % (len(OUT.key), OUT.key.encode())
    counts: dict[str, int] = {}
    with Raw(url) as raw:
        raw.call(pack("XGROUP", "CREATE", IN.key, "raw", "0", "MKSTREAM"))
        ready()
        done = 0
        while not count or done < count:
            reply = raw.call(read)
            if reply is None:
                continue
            rows = reply[0][1]
            outputs = [_one(data, decode, encode, counts) for _, (_, data) in rows]
            adds = b"".join([add % (len(data), data) for data in outputs])
            ack = pack("XACK", IN.key, "raw", *[row[0] for row in rows])
            raw.call(b"*1\r\n$5\r\nMULTI\r\n" + adds + ack + b"*1\r\n$4\r\nEXEC\r\n", len(rows) + 3)
            done += len(rows)


def floor_function(url: str, count: int, batch: int, ready: Callable[[], None]) -> None:
    """XREAD, then the log's own commit function."""
    decode, encode = msgspec.msgpack.Decoder(Envelope[FeatureEvent]).decode, msgspec.msgpack.Encoder().encode
    name, source = library()
    group, key = "conclave:{p0}:group:raw", IN.key
    counts: dict[str, int] = {}
    with Raw(url) as raw:
        with contextlib.suppress(hiredis.ReplyError):
            raw.call(pack("FUNCTION", "LOAD", source))
        words = ("raw", '{"host":"","pid":1,"label":""}', "me", "10000", "force", "", "features")
        epoch = raw.call(pack("FCALL", f"{name}_claim", "3", group, "conclave:{p0}:groups", key, *words))[1]
        ready()
        done, last, token = 0, b"0-0", b""
        while not count or done < count:
            reply = raw.call(pack("XREAD", "COUNT", str(batch), "BLOCK", "1000", "STREAMS", key, last))
            if reply is None:
                continue
            rows = reply[0][1]
            outputs = [_one(data, decode, encode, counts) for _, (_, data) in rows]
            before, seen, after = b"%b %d" % (last, done), done + len(rows), rows[-1][0]
            head = (epoch, "10000", "raw", token, after, "", "{}", "1", "features", before, after, str(seen), "")
            digest = ("", "", "")  # no digest is kept
            commit = ("3", group, key, OUT.key, *head, str(len(outputs)), *digest, *outputs)
            raw.call(pack("FCALL", f"{name}_commit", *commit))
            done, last, token = seen, after, after


def _faststream(
    url: str, count: int, ready: Callable[[], None], subscribe: Callable[[Any, Callable[[int], None]], None]
) -> None:
    from faststream.redis import RedisBroker

    async def run() -> None:
        left, over = count, asyncio.Event()

        def handled(events: int) -> None:
            nonlocal left
            left -= events
            if left <= 0 and count:
                over.set()

        broker = RedisBroker(url, logger=None)
        subscribe(broker, handled)
        async with broker:
            ready()
            await broker.start()
            await over.wait()

    asyncio.run(run())


def faststream(url: str, count: int, batch: int, ready: Callable[[], None]) -> None:
    """Call the handler for each message, publish its result, then acknowledge the message."""
    from faststream.redis import StreamSub

    decode, encode = msgspec.msgpack.Decoder(Envelope[FeatureEvent]).decode, msgspec.msgpack.Encoder().encode
    counts: dict[str, int] = {}

    def subscribe(broker: Any, handled: Callable[[int], None]) -> None:
        source = StreamSub("fs:in", group="fs", consumer="me", max_records=batch, last_id="0", polling_interval=1000)

        async def handle(data: bytes) -> bytes:
            handled(1)
            return _one(data, decode, encode, counts)

        broker.subscriber(stream=source)(broker.publisher(stream="fs:out")(handle))

    _faststream(url, count, ready, subscribe)


def faststream_batch(url: str, count: int, batch: int, ready: Callable[[], None]) -> None:
    """Call the handler for each batch and publish its results in one pipeline."""
    from faststream.redis import StreamSub

    counts: dict[str, int] = {}

    def subscribe(broker: Any, handled: Callable[[int], None]) -> None:
        source = StreamSub(
            "fs:in", group="fs", consumer="me", batch=True, max_records=batch, last_id="0", polling_interval=1000
        )

        async def handle(events: list[dict[str, Any]]) -> None:
            async with broker._connection.pipeline(transaction=True) as pipeline:
                for event in events:
                    counts[event["symbol"]] = counts.get(event["symbol"], 0) + 1
                    result = {
                        "symbol": event["symbol"],
                        "open_time": event["open_time"],
                        "interval_ms": event["interval_ms"],
                        "origin": event["origin"],
                        "model": "bench",
                        "probabilities": THIRDS,
                        "vector": event["id"],
                    }
                    await broker.publish(result, stream="fs:out", pipeline=pipeline)
                await pipeline.execute()
            handled(len(events))

        broker.subscriber(stream=source)(handle)

    _faststream(url, count, ready, subscribe)


CONTENDERS: Final = {
    "ours": ours,
    "floor_multi": floor_multi,
    "floor_function": floor_function,
    "faststream": faststream,
    "faststream_batch": faststream_batch,
}


def inputs(contender: str, events: Sequence[Encoded]) -> list[bytes]:
    """Return the commands that write ``events`` to the stream and in the format that a contender expects."""
    if not contender.startswith("faststream"):
        return [pack("XADD", IN.key, "*", "e", event.data) for event in events]
    from faststream.redis.parser import BinaryMessageFormatV1

    async def wrap(body: Any) -> bytes:
        wrapped: bytes = await BinaryMessageFormatV1.encode(
            message=body, reply_to=None, headers=None, correlation_id="1" * 32
        )
        return wrapped

    def body(event: Encoded) -> Any:
        if contender == "faststream":
            return event.data
        vector = event.envelope.event
        return {
            "id": event.envelope.id.hex(),
            "symbol": vector.symbol,
            "open_time": vector.open_time,
            "interval_ms": vector.interval_ms,
            "origin": vector.origin,
            "values": base64.b64encode(vector.values).decode(),
        }

    async def all_of() -> list[bytes]:
        return [pack("XADD", "fs:in", "*", "__data__", await wrap(body(event))) for event in events]

    return asyncio.run(all_of())


def output_of(contender: str) -> str:
    """Return the name of the stream that a contender writes."""
    return "fs:out" if contender.startswith("faststream") else OUT.key


def _stand_by(contender: str, url: str) -> None:
    CONTENDERS[contender](
        url, 0, 1000 if contender == "ours" else BATCH, lambda: print(json.dumps("ready"), flush=True)
    )


if __name__ == "__main__":
    _stand_by(sys.argv[1], sys.argv[2])
