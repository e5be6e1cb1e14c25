"""The ``predictions`` stream: the prediction of each artifact for each bar, or why there is none."""

from typing import Literal

from msgspec import Struct

from schemas.common import Digest, EventId, IntervalMs, Milliseconds, Name, Origin, Probabilities, Symbol, Version

FailureReason = Literal[
    "features_withheld", "wrong_feature_set", "wrong_interval", "bad_vector", "not_loaded", "bad_output", "error"
]


class PredictionMade(Struct, frozen=True, array_like=True, tag="ballot"):
    """The calibrated class probabilities of one artifact for one bar. The event does not contain whether the artifact
    votes or is in shadow; only the control stream does. ``control_version`` and ``control_head`` are the stamp of the
    vector (``schemas.features``), however far the worker had read the control stream."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    model: Name
    artifact: Digest
    probabilities: Probabilities
    vector: EventId
    control_version: Version
    control_head: Digest | None = None


class PredictionFailed(Struct, frozen=True, array_like=True, tag="failed"):
    """An artifact should have predicted and did not. This is never counted as a vote."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    model: Name
    artifact: Digest
    reason: FailureReason
    detail: str
    vector: EventId
    control_version: Version
    control_head: Digest | None = None


PredictionEvent = PredictionMade | PredictionFailed
