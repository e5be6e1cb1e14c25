"""Telemetry is silent until asked, joins one trace from bar to intent, and never hurts its service."""

import math
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from schemas.codec import SAMPLED, Encoded, encode
from schemas.decisions import AbsentMember, BallotLate, CountedBallot, DecisionMade, IntentIssued
from schemas.documentation.examples import examples
from schemas.features import FeaturesComputed
from schemas.market import BarClosed
from schemas.operations import DeadLetter, GapDetected, Refusal
from schemas.orders import IntentRefused, Reason
from schemas.predictions import PredictionMade
from schemas.readiness import ArtifactReady
from schemas.venue import ClockMeasured, FeedInterrupted
from shared.settings import TelemetrySettings
from shared.telemetry import export, start
from shared.telemetry.export import Exporting
from shared.telemetry.metrics import METRICS, MetricReading
from shared.telemetry.reference import with_table
from shared.telemetry.reporting import BatchReport, Telemetry, flags_of

HEAD = "0" * 64


def bar(open_time: int = 0, flags: int = SAMPLED) -> Encoded:
    event = BarClosed(
        symbol="BTCUSDT",
        interval_ms=60_000,
        open_time=open_time,
        open=1.0,
        high=2.0,
        low=0.5,
        close=1.5,
        volume=10.0,
        origin="synthetic",
    )
    return encode("market", event, flags=flags)


def caused(cause: Encoded, stream: str, event: Any) -> Encoded:
    above = cause.envelope
    return encode(stream, event, causation=above.id, correlation=above.correlation, flags=above.flags)


def features(cause: Encoded) -> Encoded:
    event = FeaturesComputed(
        symbol="BTCUSDT", interval_ms=60_000, open_time=0, origin="synthetic", feature_set=bytes(32), values=bytes(8)
    )
    return caused(cause, "features", event)


def prediction(cause: Encoded) -> Encoded:
    third = (0.25, 0.25, 0.5)
    event = PredictionMade(
        symbol="BTCUSDT",
        interval_ms=60_000,
        open_time=0,
        origin="synthetic",
        model="xgboost",
        artifact=bytes(32),
        probabilities=third,
        vector=cause.envelope.id,
        control_version=1,
    )
    return caused(cause, "predictions", event)


def decision(cause: Encoded) -> Encoded:
    event = DecisionMade(
        symbol="BTCUSDT",
        interval_ms=60_000,
        open_time=0,
        origin="synthetic",
        control_version=1,
        control_head=HEAD,
        policy="logpool",
        status="decided",
        action="BUY",
        confidence=0.5,
        probabilities=(0.25, 0.25, 0.5),
        consensus_count=1,
        total_models=1,
        counted=(),
        absent=(),
        shadow=(),
        closed_by="complete",
        intent="issued",
    )
    return caused(cause, "decisions", event)


def intent(cause: Encoded) -> Encoded:
    event = IntentIssued(
        symbol="BTCUSDT",
        interval_ms=60_000,
        open_time=0,
        origin="synthetic",
        decision=cause.envelope.id.hex(),
        control_version=1,
        action="BUY",
        confidence=0.5,
        consensus_count=1,
        total_models=1,
        model_breakdown={},
        valid_until=1,
    )
    return caused(cause, "intents", event)


class Kept:
    """Telemetry of several services, kept in memory: the spans of all, the metrics of the first."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.readers: list[InMemoryMetricReader] = []
        self.running: list[Exporting] = []

    def service(self, name: str, sample: float = 1.0) -> Exporting:
        self.readers.append(InMemoryMetricReader())
        telemetry = Exporting(
            name,
            sample=sample,
            resource=Resource({"service.name": name}),
            spans=SimpleSpanProcessor(self.exporter),
            metrics=self.readers[-1],
        )
        self.running.append(telemetry)
        return telemetry

    def spans(self) -> list[Span]:
        """As a collector reads them, once the reader has asked for metrics."""
        for reader in self.readers:
            reader.collect()
        request = encode_spans(self.exporter.get_finished_spans())
        return [span for part in request.resource_spans for scope in part.scope_spans for span in scope.spans]

    def span(self, name: str) -> Span:
        [span] = [span for span in self.spans() if span.name == name]
        return span

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        data = self.readers[0].get_metrics_data()
        assert data is not None
        return {
            metric.name: [
                (dict(point.attributes or {}), point)
                for point in metric.data.data_points
                if getattr(point, "value", 1) or "gauge" in type(metric.data).__name__.lower()
            ]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def kept() -> Iterator[Kept]:
    found = Kept()
    yield found
    for telemetry in found.running:
        telemetry.stop()


def report(telemetry: Telemetry, *outputs: Encoded, consumed: dict[str, int] | None = None) -> None:
    timed(telemetry, consumed or {}, list(outputs), (1_000_000_000, 1_003_000_000, 1_004_000_000))


def timed(
    telemetry: Telemetry,
    consumed: dict[str, int],
    outputs: list[Encoded],
    times: tuple[int, int, int],
    oldest_ms: int | None = None,
) -> None:
    started, handled, committed = times
    telemetry.batch(
        BatchReport(
            consumed=consumed,
            outputs=outputs,
            started_ns=started,
            handled_ns=handled,
            committed_ns=committed,
            oldest_ms=oldest_ms,
        )
    )


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    code = """
import sys
from shared.settings import TelemetrySettings
from shared.telemetry import start
from shared.telemetry.reporting import BatchReport
telemetry = start(TelemetrySettings(), "feed")
telemetry.batch(BatchReport(consumed={}, outputs=(), started_ns=0, handled_ns=0, committed_ns=0))
telemetry.stop()
sys.exit(any(name.startswith("opentelemetry") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_is_exported_by_default() -> None:
    assert type(start(TelemetrySettings(), "feed")) is Telemetry


def test_one_trace_runs_from_bar_to_intent_with_the_cause_as_parent(kept: Kept) -> None:
    first = bar()
    second = features(first)
    third = prediction(second)
    fourth = decision(third)
    fifth = intent(fourth)
    report(kept.service("feed"), first)
    report(kept.service("feature-builder"), second)
    report(kept.service("model-worker"), third)
    report(kept.service("ensemble-voter"), fourth, fifth)
    spans = {span.name: span for span in kept.spans()}
    chain = [
        "feed market",
        "feature-builder features",
        "model-worker predictions",
        "ensemble-voter decisions",
        "ensemble-voter intents",
    ]
    assert sorted(spans) == sorted(chain)
    assert {span.trace_id for span in spans.values()} == {first.envelope.id}
    assert spans[chain[0]].parent_span_id == b""
    for cause, name in pairwise(chain):
        assert spans[name].parent_span_id == spans[cause].span_id
    kinds = [spans[name].kind for name in chain]
    assert kinds == [Span.SpanKind.SPAN_KIND_PRODUCER] * 5


def test_a_batch_is_one_consumer_span_with_a_link_to_each_traced_event_that_it_read(kept: Kept) -> None:
    first, second, untraced = bar(0), bar(60_000), bar(120_000, flags=0)
    outputs = [prediction(first), features(first), prediction(second), prediction(untraced)]
    report(kept.service("model-worker"), *outputs, consumed={"features": 3})
    batch = kept.span("process features")
    assert batch.kind == Span.SpanKind.SPAN_KIND_CONSUMER
    assert batch.parent_span_id == b""
    assert batch.trace_id not in {first.envelope.id, second.envelope.id}
    traced = [each.envelope.id for each in (first, second)]
    assert [(link.trace_id, link.span_id) for link in batch.links] == [(each, each[:8]) for each in traced]
    attributes = {each.key: each.value.string_value or each.value.int_value for each in batch.attributes}
    assert attributes == {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "model-worker",
        "messaging.destination.name": "features",
        "messaging.batch.message_count": 3,
    }


def test_a_share_of_batches_has_a_span(kept: Kept) -> None:
    telemetry = kept.service("model-worker", sample=0.5)
    for _ in range(400):
        report(telemetry, consumed={"features": 1})
    assert 100 < len(kept.spans()) < 300


def test_a_batch_that_read_nothing_has_no_span(kept: Kept) -> None:
    report(kept.service("feed"), bar(flags=0))
    assert not kept.spans()


def test_a_span_has_the_ids_of_the_traceparent_that_its_event_carries(kept: Kept) -> None:
    sealed = features(bar())
    report(kept.service("feature-builder"), sealed)
    span = kept.span("feature-builder features")
    assert f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" == sealed.envelope.traceparent
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_000_000_000, 1_004_000_000)
    attributes = {each.key: each.value.string_value for each in span.attributes}
    assert attributes == {"conclave.stream": "features", "conclave.symbol": "BTCUSDT"}


def test_an_event_that_is_not_sampled_has_no_span(kept: Kept) -> None:
    report(kept.service("feed"), bar(0, flags=0), bar(60_000), bar(120_000, flags=0))
    [span] = kept.spans()
    assert span.span_id == bar(60_000).envelope.id[:8]


def test_an_event_without_a_symbol_has_a_span_without_one(kept: Kept) -> None:
    letter = DeadLetter(service="feed", source="bars.csv:7", reason="not_finite", detail="close is NaN", raw="x")
    report(kept.service("feed"), encode("dead", letter, flags=SAMPLED))
    assert [each.key for each in kept.span("feed dead").attributes] == ["conclave.stream"]


def test_metrics_count_events_by_stream_and_time_batches(kept: Kept) -> None:
    telemetry = kept.service("ensemble-voter")
    one = decision(bar())
    timed(telemetry, {"predictions": 3, "control": 1}, [one, intent(one)], (0, 3_000_000, 4_000_000), 1)
    timed(telemetry, {"predictions": 4}, [], (5_000_000, 6_000_000, 8_000_000), 5)
    timed(telemetry, {}, [], (8_000_000, 8_000_000, 8_000_000))
    metrics = kept.metrics()

    def by_stream(name: str) -> dict[str, float]:
        return {attributes["conclave.stream"]: point.value for attributes, point in metrics[name]}

    assert by_stream("conclave.events.consumed") == {"predictions": 7, "control": 1}
    assert by_stream("conclave.events.produced") == {"decisions": 1, "intents": 1}
    [(_, hop)] = metrics["conclave.hop.duration"]
    assert (hop.count, hop.sum) == (2, pytest.approx(0.003 + 0.003))
    [(_, handled)] = metrics["conclave.batch.duration"]
    [(_, committed)] = metrics["conclave.commit.duration"]
    assert (handled.count, handled.sum) == (3, pytest.approx(0.004))
    assert (handled.min, handled.max) == (0, 0.003)
    below = dict(zip((*handled.explicit_bounds, math.inf), handled.bucket_counts, strict=True))
    assert {bound for bound, count in below.items() if count} == {0.0005, 0.001, 0.005}
    assert (committed.count, committed.sum) == (3, pytest.approx(0.003))
    [(attributes, decided)] = metrics["conclave.decisions"]
    assert decided.value == 1
    assert attributes == {
        "conclave.status": "decided",
        "conclave.action": "BUY",
        "conclave.intent": "issued",
    }


def test_dead_letters_are_counted_by_reason(kept: Kept) -> None:
    telemetry = kept.service("feed")
    letter = DeadLetter(service="feed", source="bars.csv:7", reason="not_finite", detail="close is NaN", raw="x")
    other = msgspec.structs.replace(letter, reason="duplicate")
    report(telemetry, encode("dead", letter), encode("dead", other), encode("dead", letter))
    counted = {
        attributes["conclave.reason"]: point.value for attributes, point in kept.metrics()["conclave.dead_letters"]
    }
    assert counted == {"not_finite": 2, "duplicate": 1}


def test_what_happens_at_an_exchange_is_counted_by_its_name(kept: Kept) -> None:
    telemetry = kept.service("feed")
    events = [each for each in examples() if each.stream == "venue"]
    report(telemetry, *events, *events)
    metrics = kept.metrics()
    counted = {tuple(at.values()): point.value for at, point in metrics["conclave.exchange.events"]}
    assert counted == {(each.envelope.event.exchange, each.envelope.event.__struct_config__.tag): 2 for each in events}
    broken = next(each.envelope.event for each in events if isinstance(each.envelope.event, FeedInterrupted))
    [(at, point)] = metrics["conclave.exchange.interrupted"]
    assert tuple(at.values()) == (broken.exchange, broken.cause)
    assert point.value == 2 * broken.length_ms / 1e3
    clock = next(each.envelope.event for each in events if isinstance(each.envelope.event, ClockMeasured))
    [(at, point)] = metrics["conclave.exchange.clock_offset"]
    assert (at["conclave.exchange"], point.value) == (clock.exchange, clock.offset_ms / 1e3)


def test_refused_intents_are_counted_by_reason(kept: Kept) -> None:
    telemetry = kept.service("executor")
    refused = next(each.envelope.event for each in examples() if isinstance(each.envelope.event, IntentRefused))
    report(
        telemetry, *(encode("orders", msgspec.structs.replace(refused, reason=each)) for each in ("expired", "no_bar"))
    )
    counted = {
        attributes["conclave.reason"]: point.value for attributes, point in kept.metrics()["conclave.intents.refused"]
    }
    assert counted == {"expired": 1, "no_bar": 1}


def test_the_age_of_the_last_commit_grows_while_nothing_is_committed(kept: Kept) -> None:
    telemetry = kept.service("feed")
    [(_, young)] = kept.metrics()["conclave.commit.age"]
    report(telemetry, bar())
    [(_, old)] = kept.metrics()["conclave.commit.age"]
    assert old.value > 10**9 > young.value


def test_a_decision_tells_who_voted_how_surely_and_how_late(kept: Kept) -> None:
    telemetry = kept.service("ensemble-voter")
    ballot = CountedBallot("xgboost", HEAD, "0" * 32, "BUY", 0.5, (0.25, 0.25, 0.5), 0.75, 0.1, pivotal=False)
    silent = AbsentMember("patchtst", HEAD, "no answer", None)
    one = msgspec.structs.replace(
        decision(bar()).envelope.event, origin="live", counted=(ballot,), absent=(silent,), control_version=7
    )
    timed(telemetry, {}, [caused(bar(), "decisions", one)], (0, 0, 62_000_000_000))
    metrics = kept.metrics()
    ballots = {tuple(attributes.values()): point.value for attributes, point in metrics["conclave.ballots"]}
    assert ballots == {("xgboost", "BUY"): 1, ("patchtst", "absent"): 1}
    sums = {
        name: metrics[f"conclave.{name}"][0][1].sum
        for name in ("vote.alive_weight", "vote.confidence", "decision.delay")
    }
    assert sums == {"vote.alive_weight": 0.75, "vote.confidence": 0.5, "decision.delay": 2.0}
    assert metrics["conclave.decision.control_version"][0][1].value == 7


def test_a_round_without_quorum_has_no_confidence_to_tell(kept: Kept) -> None:
    telemetry = kept.service("ensemble-voter")
    one = msgspec.structs.replace(decision(bar()).envelope.event, status="no_quorum", confidence=0.0, action="HOLD")
    report(telemetry, caused(bar(), "decisions", one))
    metrics = kept.metrics()
    assert "conclave.vote.confidence" not in metrics
    assert metrics["conclave.vote.alive_weight"][0][1].sum == 0.0
    assert metrics["conclave.decisions"][0][0]["conclave.status"] == "no_quorum"


def test_alarms_late_ballots_and_loaded_artifacts_are_counted(kept: Kept) -> None:
    telemetry = kept.service("ensemble-voter")
    gap = encode(
        "alarms", GapDetected(group="ensemble-voter", stream="predictions", committed="1-0", oldest="9-0", at=1)
    )
    late = BallotLate(
        symbol="BTCUSDT",
        interval_ms=60_000,
        open_time=0,
        origin="synthetic",
        model="xgboost",
        artifact=HEAD,
        event="0" * 32,
    )
    loaded = encode(
        "readiness",
        ArtifactReady(
            model="xgboost", artifact=HEAD, owner="pid 1", life="a-life-of-it", control_version=1, took_ms=250, at=1
        ),
    )
    report(telemetry, gap, caused(bar(), "decisions", late), loaded)
    metrics = kept.metrics()
    assert metrics["conclave.alarms"][0][0] == {"conclave.alarm": "gap.detected"}
    assert metrics["conclave.ballots.late"][0][0] == {"conclave.model": "xgboost"}
    assert metrics["conclave.artifact.load.duration"][0][1].sum == 0.25


def test_what_alarms_people_is_told_as_zero_before_it_happens(kept: Kept) -> None:
    """Prometheus sees no increase in a series that begins at one."""
    kept.service("ensemble-voter")
    data = kept.readers[0].get_metrics_data()
    assert data is not None
    [resource] = data.resource_metrics
    begun = {metric.name: metric.data.data_points for metric in resource.scope_metrics[0].metrics}
    assert {dict(point.attributes or {})["conclave.alarm"] for point in begun["conclave.alarms"]} >= {"gap.detected"}
    assert len(begun["conclave.dead_letters"]) == len(get_args(Refusal))
    assert [dict(point.attributes or {})["conclave.status"] for point in begun["conclave.decisions"]] == ["no_quorum"]


def test_each_reason_to_refuse_an_intent_is_zero_before_it_happens(kept: Kept) -> None:
    kept.service("executor")
    data = kept.readers[0].get_metrics_data()
    assert data is not None
    begun = {metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    reasons = {dict(point.attributes or {})["conclave.reason"] for point in begun["conclave.intents.refused"]}
    assert reasons == set(get_args(Reason))


def test_levels_that_are_told_no_more_are_shown_no_more(kept: Kept) -> None:
    telemetry = kept.service("watcher")
    telemetry.levels(
        [MetricReading("conclave.group.alive", ("feed", "0"), 1.0), MetricReading("conclave.control.version", (), 3.0)]
    )
    telemetry.levels([MetricReading("conclave.control.version", (), 4.0)])
    metrics = kept.metrics()
    assert "conclave.group.alive" not in metrics
    assert [point.value for _, point in metrics["conclave.control.version"]] == [4.0]


def test_the_reference_has_the_table_of_metrics() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "telemetry.md").read_text()
    assert page == with_table(page)


def test_every_metric_that_is_reported_stands_in_the_table(kept: Kept) -> None:
    telemetry = kept.service("ensemble-voter")
    for metric in METRICS.values():
        if metric.kind == "histogram":
            telemetry.record(metric.name, 1.0)
    telemetry.levels(
        [MetricReading(each.name, each.attributes, 1.0) for each in METRICS.values() if each.kind == "gauge"]
    )
    letter = encode(
        "dead", DeadLetter(service="feed", source="bars.csv:7", reason="not_finite", detail="close is NaN", raw="x")
    )
    timed(telemetry, {"market": 1}, [letter], (0, 1, 2), 0)
    shown = kept.metrics()
    counted = {"conclave.events.consumed", "conclave.events.produced", "conclave.dead_letters"}
    counted |= {"conclave.alarms", "conclave.decisions"}  # at zero
    assert set(shown) == counted | {each.name for each in METRICS.values() if each.kind != "counter"}


def test_names_in_prometheus_follow_its_rules() -> None:
    names = {name: METRICS[name].prometheus for name in METRICS}
    assert names["conclave.decisions"] == "conclave_decisions_total"
    assert names["conclave.hop.duration"] == "conclave_hop_duration_seconds"
    assert names["conclave.commit.age"] == "conclave_commit_age_seconds"
    assert names["conclave.model.weight"] == "conclave_model_weight_ratio"
    assert len(set(names.values())) == len(names)


def test_a_clock_that_was_set_back_gives_no_negative_duration(kept: Kept) -> None:
    telemetry = kept.service("feed")
    timed(telemetry, {}, [], (9, 5, 1))
    [(_, handled)] = kept.metrics()["conclave.batch.duration"]
    assert handled.sum == 0


@given(st.binary(min_size=16, max_size=16), st.floats(0, 1))
def test_a_bar_is_flagged_by_its_trace_id_as_the_sampler_of_the_sdk_decides(trace_id: bytes, share: float) -> None:
    result = TraceIdRatioBased(share).should_sample(None, int.from_bytes(trace_id), "")
    assert bool(flags_of(trace_id, share)) == (result.decision is Decision.RECORD_AND_SAMPLE)


def test_the_share_of_flagged_bars_is_the_one_asked_for() -> None:
    ids = [bar(at).envelope.id for at in range(0, 60_000 * 20_000, 60_000)]
    assert 120 < sum(flags_of(each, 0.01) for each in ids) < 280
    assert {flags_of(each, 0.0) for each in ids} == {0}
    assert {flags_of(each, 1.0) for each in ids} == {SAMPLED}


Posted = Queue[tuple[str, bytes]]


@pytest.fixture
def collector() -> Iterator[tuple[str, Posted]]:
    posted: Posted = Queue()

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.put((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()
        thread.join()


def test_stopping_sends_the_last_spans_and_metrics(collector: tuple[str, Posted]) -> None:
    endpoint, posted = collector
    telemetry = start(TelemetrySettings(endpoint=endpoint + "/", service_prefix="desk"), "feed", 1)
    sealed = bar()
    report(telemetry, sealed, consumed={"market": 5})
    telemetry.stop()
    telemetry.stop()
    bodies = dict(posted.queue)
    traces = ExportTraceServiceRequest.FromString(bodies["/v1/traces"]).resource_spans[0]
    resource = {each.key: each.value.string_value for each in traces.resource.attributes}
    assert resource["service.name"] == "desk.feed"
    assert resource["service.version"]
    assert resource["conclave.partition"] == "1"
    span = traces.scope_spans[0].spans[0]
    assert (span.trace_id, span.span_id, span.parent_span_id) == (sealed.envelope.id, sealed.envelope.id[:8], b"")
    metrics = ExportMetricsServiceRequest.FromString(bodies["/v1/metrics"]).resource_metrics[0].scope_metrics[0].metrics
    assert {metric.name: metric.unit for metric in metrics} == {
        "conclave.alarms": "{event}",
        "conclave.batch.duration": "s",
        "conclave.commit.age": "s",
        "conclave.commit.duration": "s",
        "conclave.dead_letters": "{event}",
        "conclave.events.consumed": "{event}",
        "conclave.events.produced": "{event}",
    }


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_collector_that_is_down_costs_the_service_nothing_but_one_line(caplog: pytest.LogCaptureFixture) -> None:
    export.ONE_A_MINUTE.take_suppressed(all_of_them=True)
    settings = TelemetrySettings(endpoint=f"http://127.0.0.1:{closed_port()}", export_ms=100)
    telemetry = start(settings, "feed")
    for at in range(6000):  # more than the queue of spans holds
        report(telemetry, bar(at * 60_000))
    telemetry.stop()
    loggers = [record.name for record in caplog.records if record.name.startswith("opentelemetry")]
    assert len(loggers) == len(set(loggers)) >= 1
    report(telemetry, bar())


def test_a_collector_that_never_answers_does_not_keep_a_service_from_stopping(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "STOP_S", 0.1)
    release = Event()
    accepted: list[socket.socket] = []

    def accept(listener: socket.socket) -> None:
        while not release.is_set():
            accepted.append(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=accept, args=(listener,))
        thread.start()
        telemetry = start(TelemetrySettings(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}"), "feed")
        report(telemetry, bar())
        telemetry.stop()
        assert "did not take the last spans" in caplog.text
        release.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join()
        for connection in accepted:
            connection.close()
