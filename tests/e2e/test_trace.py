"""One trace from bar to decision, over processes that know nothing of each other, to a real receiver of OTLP."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread

import anyio
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from bench.installation import Installation, all_decisions, running, wait_until
from shared.telemetry.metrics import METRICS

BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "2000")
CHAIN = ["feed market", "feature-builder features", "model-worker.prior predictions", "ensemble-voter decisions"]


class Receiver:
    """What came in over OTLP/HTTP: spans by trace with the service that sent them, and names of metrics."""

    def __init__(self) -> None:
        self.traces: dict[bytes, dict[str, Span]] = {}
        self.senders: dict[str, str] = {}
        self.metrics: dict[str, set[str]] = {}
        self.endpoint = ""

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                instance = _attribute(resource.resource, "service.instance.id")
                for span in resource.scope_spans[0].spans:
                    self.traces.setdefault(span.trace_id, {})[span.name] = span
                    self.senders[span.name] = instance
        else:
            for part in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                names = {metric.name for metric in part.scope_metrics[0].metrics}
                self.metrics.setdefault(_attribute(part.resource, "service.name"), set()).update(names)


def _attribute(resource: object, key: str) -> str:
    return next(str(each.value.string_value) for each in resource.attributes if each.key == key)  # type: ignore[attr-defined]  # protobuf has none


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    received = Receiver()

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        received.endpoint = f"http://127.0.0.1:{server.server_port}"
        yield received
        server.shutdown()
        thread.join()


def wait_until_decided(installation: Installation, count: int) -> None:
    async def decided() -> None:
        log = installation.log()
        while len(await all_decisions(log)) < count:
            await anyio.sleep(0.05)
        await log.close()

    async def limited() -> None:
        with anyio.fail_after(60):
            await decided()

    anyio.run(limited)


@pytest.mark.long
def test_one_trace_runs_through_every_process_from_bar_to_decision(tmp_path: Path, receiver: Receiver) -> None:
    telemetry = f'\n[telemetry]\nendpoint = "{receiver.endpoint}"\nsample = 1.0\nexport_ms = 500\n'
    installation = Installation(tmp_path, models=("prior",), extra=telemetry)
    with running(installation):
        installation.train("prior", *BARS)
        installation.conclave("policy", "voting", "quorum_count=1", "--reason", "one model is all there is")
        installation.conclave("feed", *BARS, "--limit", "200")
        wait_until_decided(installation, 200)
    # Every process has ended, and sent what it had: nothing is waited for here but what is under way.
    wait_until(lambda: sum(set(CHAIN) <= set(spans) for spans in receiver.traces.values()) == 200)
    complete = [spans for spans in receiver.traces.values() if "ensemble-voter decisions" in spans]
    assert len(complete) == 200
    for spans in complete:
        assert {span.trace_id for span in spans.values()} == {spans[CHAIN[0]].trace_id}
        for cause, name in pairwise(CHAIN):
            assert spans[name].parent_span_id == spans[cause].span_id
            assert spans[name].end_time_unix_nano >= spans[cause].start_time_unix_nano
    assert len({receiver.senders[name] for name in CHAIN}) == len(CHAIN)
    told = set().union(*receiver.metrics.values())
    assert told <= set(METRICS)
    assert "conclave.hop.duration" in receiver.metrics["conclave.model-worker.prior"]
    assert "conclave.vote.alive_weight" in receiver.metrics["conclave.ensemble-voter"]
