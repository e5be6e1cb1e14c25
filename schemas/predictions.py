"""The ``predictions`` stream: what each artifact said about each bar, or why it said nothing."""

from typing import Literal

from msgspec import Struct

from schemas.common import Digest, EventId, IntervalMs, Milliseconds, Name, Origin, Probabilities, Symbol, Version

FailureReason = Literal[
    "features_withheld", "wrong_feature_set", "wrong_interval", "bad_vector", "not_loaded", "bad_output", "error"
]


class PredictionMade(Struct, frozen=True, array_like=True, tag="ballot"):
    """The calibrated class probabilities of one artifact for one bar. Whether it votes or is in
    shadow is not said here: only the control stream says so. ``control_version`` and ``control_head`` are the stamp
    of the vector (``schemas.features``), whatever the worker had read of the control stream by then."""

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
    """An artifact that should have answered and did not. Never an opinion."""

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
