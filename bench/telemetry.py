"""Measure the cost of telemetry: one hop with traces and metrics on, against the same hop with them off.

The hop is that of ``bench.hop`` through runtime and log, with 100 events a batch, on an embedded server. One percent of
the events is sampled and sent to a collector, which is another process on loopback. Turns with telemetry on and off, of
100 batches each, alternate within one run, so that other load on the machine affects both. Each pair of adjacent turns
gives one ratio.

Turns are compared by the processor time of this process, which limits a service with a backlog. Waiting for the server
is left out, which makes the ratio less favourable to telemetry. Spans are exported at the end of the turn that made
them, and the export counts as part of it; in a service, a separate thread of the same interpreter exports them.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import anyio
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import shared.runtime.host
from bench.contenders import IN, Forward, Raw, pack, vectors
from bench.harness import Figure
from schemas.codec import Encoded, encode
from shared.log import Owner
from shared.log.redis import RedisLog
from shared.runtime.host import Host
from shared.server.embedded import EmbeddedServer
from shared.settings import TelemetrySettings
from shared.telemetry.export import Exporting
from shared.telemetry.reporting import BatchReport, Telemetry, flags_of

BATCH: Final = 100
TURN: Final = 100
SAMPLE: Final = 0.01
FILL: Final = 1000
EXPORT_MS: Final = TelemetrySettings().export_ms
HOUR_MS: Final = 3_600_000
"""Interval between exports of spans by the span processor's thread: long enough that none happens during a run."""


class Sink(BaseHTTPRequestHandler):
    """A collector that accepts and discards all data."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collector() -> Iterator[str]:
    """Run a collector in its own process, and yield its endpoint."""
    command = [sys.executable, "-m", "bench.telemetry"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def sampled(count: int) -> list[Encoded]:
    """Return the inputs of the hop; one percent of them has the flag for sampling."""
    return [
        encode("features", vector.envelope.event, flags=flags_of(vector.envelope.correlation, SAMPLE))
        for vector in vectors(count)
    ]


class Turns(Telemetry):
    """Telemetry that is switched on and off by turns (off, on, on, off, ...) and records the processor time of each."""

    def __init__(self, telemetry: Exporting, spans: BatchSpanProcessor) -> None:
        super().__init__()
        self.spans = spans
        self.telemetry = telemetry
        self.batches = 0
        self.own = {False: 0.0, True: 0.0}
        self.begun = time.process_time()
        self.seconds: dict[bool, list[float]] = {False: [], True: []}

    @property
    def on(self) -> bool:
        """True if telemetry is on in this turn."""
        return (self.batches // TURN + 1) // 2 % 2 == 1

    def batch(self, report: BatchReport) -> None:
        on = self.on
        before = time.process_time()
        if on:
            self.telemetry.batch(report)
        else:
            super().batch(report)
        self.batches += 1
        if self.batches % TURN == 0:
            self.spans.force_flush()
        now = time.process_time()
        self.own[on] += now - before
        if self.batches % TURN == 0:
            self.seconds[on].append(now - self.begun)
            self.begun = now


def hop(url: str, events: list[Encoded], endpoint: str) -> tuple[list[tuple[float, float]], float]:
    """Return the processor times (s) of adjacent turns as pairs (off, on), without the first pair, which warms up; and
    the share of the time with telemetry on that was spent in telemetry, less its time while it is off."""
    with Raw(url) as raw:
        raw.call(pack("FLUSHALL"))
        for at in range(0, len(events), FILL):
            part = events[at : at + FILL]
            raw.call(b"".join(pack("XADD", IN.key, "*", "e", each.data) for each in part), len(part))
    spans = BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces"), schedule_delay_millis=HOUR_MS)
    metrics = PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics"), EXPORT_MS)
    telemetry = Exporting("bench", sample=SAMPLE, resource=Resource.create(), spans=spans, metrics=metrics)
    turns = Turns(telemetry, spans)

    async def run() -> None:
        stop = anyio.Event()
        log = RedisLog(url)
        await Host(Forward(len(events), stop), log, 0, Owner("here", 1, "bench"), telemetry=turns).run(stop)
        await log.close()

    shared.runtime.host.BATCH = BATCH  # type: ignore[misc]  # the hop's size
    anyio.run(run)
    telemetry.stop()
    pairs = list(zip(turns.seconds[False], turns.seconds[True], strict=False))[1:]
    return pairs, (turns.own[True] - turns.own[False]) / sum(turns.seconds[True])


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    rounds, events = 2 if quick else 6, sampled(TURN * BATCH * 32)
    pairs: list[tuple[float, float]] = []
    shares: list[float] = []
    with tempfile.TemporaryDirectory() as data, EmbeddedServer(Path(data)) as server, collector() as endpoint:
        for _ in range(rounds):
            found, share = hop(server.url, events, endpoint)
            pairs += found
            shares.append(share)
    off, on = (TURN * BATCH / median(pair[place] for pair in pairs) for place in (0, 1))
    low, high = (quantiles((pair[0] / pair[1] for pair in pairs), n=4)[place] for place in (0, 2))
    return {
        "telemetry_on_throughput": Figure(
            median(pair[0] / pair[1] for pair in pairs),
            "of off",
            ">= 0.95",
            f"off: {off:,.0f} events a processor second, on: {on:,.0f}; "
            f"half of {len(pairs)} pairs in {low:.2f} to {high:.2f}",
        ),
        "telemetry_own_share": Figure(
            median(shares) * 100, "%", "< 5", "of the processor time of the turns that are on"
        ),
    }


def main() -> None:
    """Run in the collector's process: print the port, and serve until killed."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
