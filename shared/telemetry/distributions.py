"""Histograms that cost little, as the OpenTelemetry SDK exports them."""

import math
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)

from shared.telemetry import metrics


class Distribution:
    """A histogram by the table's bounds. The SDK's own takes longer for one value than many a batch does."""

    def __init__(self, metric: metrics.Metric) -> None:
        self._metric, self._bounds = metric, metric.bounds
        self._since = time.time_ns()
        self._counts = [0] * (len(metric.bounds) + 1)
        self._sum, self._least, self._most = 0.0, math.inf, 0.0

    def record(self, value: float) -> None:
        """One value; a negative one, of a clock that was set back, counts as 0."""
        if not value > 0:
            value = 0.0
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value
        if value < self._least:  # noqa: PLR1730  # min() takes longer
            self._least = value
        if value > self._most:  # noqa: PLR1730  # max() takes longer
            self._most = value

    @property
    def any(self) -> bool:
        """Whether there is a value at all."""
        return self._least < math.inf

    def metric(self) -> Metric:
        """As it stands, cumulative."""
        counts = list(self._counts)
        point = HistogramDataPoint(
            {}, self._since, time.time_ns(), sum(counts), self._sum, counts, self._bounds, self._least, self._most
        )
        found = Histogram([point], AggregationTemporality.CUMULATIVE)
        return Metric(self._metric.name, self._metric.meaning, self._metric.unit, found)


class Joined(MetricExporter):
    """Sends distributions along with what the meters have."""

    def __init__(self, exporter: MetricExporter, distributions: Mapping[str, Distribution]) -> None:
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)
        self._exporter, self._distributions = exporter, distributions

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """See ``MetricExporter``."""
        measured: Sequence[Metric] = [each.metric() for each in self._distributions.values() if each.any]
        [resource] = metrics_data.resource_metrics
        [scope] = resource.scope_metrics
        joined = replace(resource, scope_metrics=[replace(scope, metrics=[*scope.metrics, *measured])])
        return self._exporter.export(MetricsData([joined]), timeout_millis=timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """See ``MetricExporter``."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """See ``MetricExporter``."""
        self._exporter.shutdown(timeout_millis, **kwargs)
