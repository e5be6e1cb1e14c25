"""The ``features`` stream: one vector for each bar and feature set, or the reason why there is none.

This is the first hop of a partition, so it records the order of bars and commands. Every event carries a stamp: the
version and head of the configuration in force when the feature-builder wrote it. All events that descend from a bar
are handled under its stamp. Stamps never decrease along a partition. ``control_head`` is None in events of releases
that wrote no stamps; their order relative to commands is not recorded."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import Digest, IntervalMs, Milliseconds, Origin, Symbol, Version


class FeaturesComputed(Struct, frozen=True, array_like=True, tag="vector"):
    """The feature vector of one bar. ``values`` are little-endian float32, in the order of the set whose digest is
    ``feature_set``; every value is finite. ``bridged`` is the number of missing bars in the window that the gap policy
    replaced by flat bars."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    feature_set: Digest
    values: Annotated[bytes, Meta(min_length=4, max_length=16_384)]
    bridged: Annotated[int, Meta(ge=0)] = 0
    control_version: Version = 0
    control_head: Digest | None = None


class FeaturesWithheld(Struct, frozen=True, array_like=True, tag="withheld"):
    """There is no vector for this bar. ``warming`` (since the start) and ``gap`` (since bars were missing): the window
    has ``have`` of the ``need`` bars of the set's lookback. ``undefined``: a value is not finite; ``detail`` names the
    features."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    feature_set: Digest
    reason: Literal["warming", "gap", "undefined"]
    have: Annotated[int, Meta(ge=0)]
    need: Annotated[int, Meta(ge=0)]
    detail: str = ""
    control_version: Version = 0
    control_head: Digest | None = None


class BarsMissing(Struct, frozen=True, array_like=True, tag="missing"):
    """``count`` bars are missing before ``open_time``. ``bridged``: the gap policy replaced them by flat bars (true),
    or restarted the symbol's windows (false)."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    count: Annotated[int, Meta(ge=1)]
    bridged: bool
    control_version: Version = 0
    control_head: Digest | None = None


FeatureEvent = FeaturesComputed | FeaturesWithheld | BarsMissing
