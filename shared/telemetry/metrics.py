"""The table of all metrics: ``shared.telemetry.export`` reports them, ``docs/reference/telemetry.md`` lists them, and
dashboards and alert rules may query nothing else.

Names follow OpenTelemetry (https://opentelemetry.io/docs/specs/semconv/general/metrics/); their names
in Prometheus are computed here by the rules of
https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/.

Each service counts its own events, with ``service.name`` and partition in the resource. One process, the
watcher, reports the state of the installation.
"""

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]
Reporter = Literal["each service", "ensemble-voter", "model-worker", "executor", "feed", "phone", "watcher"]

SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.999)
CONFIDENCES: Final = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)


class Metric(NamedTuple):
    """One instrument. ``unit``: in UCUM. ``attributes``: in addition to those of the resource. ``bounds``: of the
    buckets of a histogram, in its unit."""

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    reporter: Reporter
    meaning: str
    bounds: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """Return the name in Prometheus; a histogram adds ``_bucket``, ``_sum`` and ``_count``."""
        name = self.name.replace(".", "_")
        if self.unit == "s":
            name += "_seconds"
        if self.kind == "counter":
            return name + "_total"
        return name + "_ratio" if self.kind == "gauge" and self.unit == "1" else name

    @property
    def series(self) -> tuple[str, ...]:
        """Return every name that a query may use."""
        if self.kind != "histogram":
            return (self.prometheus,)
        return tuple(self.prometheus + suffix for suffix in ("_bucket", "_sum", "_count"))


class MetricReading(NamedTuple):
    """The value of a gauge, with its name and the values of its attributes in the table's order."""

    name: str
    attributes: tuple[str, ...]
    value: float


def label(attribute: str) -> str:
    """Return the name of an attribute in Prometheus."""
    return attribute.replace(".", "_")


STREAM: Final = "conclave.stream"
MODEL: Final = "conclave.model"
GROUP: Final = "conclave.group"
ARTIFACT: Final = "conclave.artifact"
PARTITION: Final = "conclave.of.partition"

METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric(
            "conclave.events.consumed", "counter", "{event}", (STREAM,), "each service", "events read and committed"
        ),
        Metric("conclave.events.produced", "counter", "{event}", (STREAM,), "each service", "events written"),
        Metric(
            "conclave.batch.duration", "histogram", "s", (), "each service",
            "handling of a batch, without its commit", SECONDS,
        ),
        Metric("conclave.commit.duration", "histogram", "s", (), "each service", "commit of a batch", SECONDS),
        Metric(
            "conclave.hop.duration", "histogram", "s", (), "each service",
            "from the writing of a batch's oldest event, by the server's clock, to the batch's commit", SECONDS,
        ),
        Metric("conclave.commit.age", "gauge", "s", (), "each service", "since the last commit, or the start"),
        Metric(
            "conclave.dead_letters", "counter", "{event}", ("conclave.reason",), "each service", "input refused"
        ),
        Metric(
            "conclave.alarms", "counter", "{event}", ("conclave.alarm",), "each service", "alarms raised, by their tag"
        ),
        Metric(
            "conclave.decisions", "counter", "{event}", ("conclave.status", "conclave.action", "conclave.intent"),
            "ensemble-voter", "decisions made; rounds without quorum have the status `no_quorum`",
        ),
        Metric(
            "conclave.ballots", "counter", "{event}", (MODEL, "conclave.action"), "ensemble-voter",
            "ballots that were counted, by what the member alone would have done; `absent` where it did not vote",
        ),
        Metric("conclave.ballots.late", "counter", "{event}", (MODEL,), "ensemble-voter", "ballots after the decision"),
        Metric(
            "conclave.vote.alive_weight", "histogram", "1", (), "ensemble-voter",
            "share of the vote's weight that voted in a round", SHARES,
        ),
        Metric(
            "conclave.vote.confidence", "histogram", "1", (), "ensemble-voter",
            "probability of the action, of decisions with a quorum", CONFIDENCES,
        ),
        Metric(
            "conclave.decision.delay", "histogram", "s", (), "ensemble-voter",
            "from the close of a live bar to the commit of its decision", SECONDS,
        ),
        Metric(
            "conclave.decision.control_version", "gauge", "{version}", (), "ensemble-voter",
            "the configuration that the last decision was made under",
        ),
        Metric(
            "conclave.artifact.load.duration", "histogram", "s", (), "model-worker",
            "loading an artifact until it is verified and warm", SECONDS,
        ),
        Metric(
            "conclave.intents.refused", "counter", "{intent}", ("conclave.reason",), "executor",
            "intents that were not traded",
        ),
        Metric(
            "conclave.exchange.events", "counter", "{event}", ("conclave.exchange", "conclave.event"), "feed",
            "what happened at an exchange, by the tag of the event on `venue`",
        ),
        Metric(
            "conclave.exchange.interrupted", "counter", "s", ("conclave.exchange", "conclave.cause"), "feed",
            "how long an exchange sent nothing, counted when an interruption is over",
        ),
        Metric(
            "conclave.exchange.clock_offset", "gauge", "s", ("conclave.exchange",), "feed",
            "how far the clock of an exchange is ahead of the server's, as last recorded",
        ),
        Metric(
            "conclave.phone.silence", "gauge", "s", (), "phone",
            "for how long the chat server has not answered the bot; at most half a minute while it does",
        ),
        Metric("conclave.control.version", "gauge", "{version}", (), "watcher", "the configuration in force"),
        Metric("conclave.control.halted", "gauge", "{halt}", (), "watcher", "1 while a halt stops intents"),
        Metric("conclave.model.weight", "gauge", "1", (MODEL,), "watcher", "the weight of a model's champion"),
        Metric(
            "conclave.group.lag", "gauge", "{event}", (GROUP, PARTITION, STREAM), "watcher",
            "entries of a stream that a group has not committed yet",
        ),
        Metric(
            "conclave.group.alive", "gauge", "{owner}", (GROUP, PARTITION), "watcher", "1 while a group's lease runs"
        ),
        Metric(
            "conclave.group.starts", "gauge", "{start}", (GROUP, PARTITION), "watcher",
            "how often a group was claimed: its epoch",
        ),
        Metric(
            "conclave.gate.value", "gauge", "{value}", (MODEL, ARTIFACT, PARTITION, "conclave.gate"), "watcher",
            "result of a gate for a candidate: an e-value, or the gate's own measure",
        ),
        Metric(
            "conclave.gate.threshold", "gauge", "{value}", (MODEL, ARTIFACT, PARTITION, "conclave.gate"), "watcher",
            "threshold with which that value is compared",
        ),
        Metric(
            "conclave.verdict", "gauge", "{verdict}", (MODEL, ARTIFACT, PARTITION), "watcher",
            "the policy's verdict on a candidate: 1 passed, 0 inconclusive, -1 failed",
        ),
        Metric(
            "conclave.training.stage", "gauge", "{job}", (MODEL, "conclave.stage"), "watcher",
            "1 for where a model's last training is: requested, started, fitting, ..., completed, rejected, failed",
        ),
        Metric("conclave.training.progress", "gauge", "1", (MODEL,), "watcher", "how far that stage is"),
        Metric(
            "conclave.training.log_loss", "gauge", "{nat}", (MODEL, "conclave.part"), "watcher",
            "mean log loss of the rows in a part: train, held; test and prior once it is completed",
        ),
        Metric(
            "conclave.swap.duration", "histogram", "s", (), "watcher",
            "from the command that changed the configuration to the first decision under it", SECONDS,
        ),
        Metric(
            "conclave.money.equity", "gauge", "{currency}", (), "watcher",
            "money and what is held, at the last bar of each symbol; from the first fill on",
        ),
        Metric(
            "conclave.money.drawdown", "gauge", "1", (), "watcher",
            "how far the equity is below its highest, as a share of it",
        ),
        Metric(
            "conclave.money.exposure", "gauge", "1", (), "watcher",
            "value of all positions without their signs, as a share of the equity",
        ),
        Metric("conclave.money.positions", "gauge", "{position}", (), "watcher", "open positions"),
        Metric(
            "conclave.model.equity", "gauge", "{currency}", (MODEL, "conclave.role", ARTIFACT), "watcher",
            "what the account would be worth, had the artifact voted alone; from the first score that the watcher saw",
        ),
        Metric(
            "conclave.model.drawdown", "gauge", "1", (MODEL, "conclave.role", ARTIFACT), "watcher",
            "how far that equity is below its highest, as a share of it",
        ),
        Metric(
            "conclave.model.exposure", "gauge", "1", (MODEL, "conclave.role", ARTIFACT), "watcher",
            "value of its positions without their signs, as a share of that equity",
        ),
        Metric(
            "conclave.model.positions", "gauge", "{position}", (MODEL, "conclave.role", ARTIFACT), "watcher",
            "its open positions",
        ),
        Metric("conclave.alerts", "gauge", "{alert}", ("conclave.alert",), "watcher", "alerts that are active"),
        Metric(
            "conclave.notices.waiting", "gauge", "{notice}", (), "watcher", "notices that could not be sent yet"
        ),
    )
}  # fmt: skip
