"""The ``features`` stream: one vector for each bar and feature set, or the reason why there is none.

This is the first hop of a partition, so it records the order of bars and commands: every event carries a stamp, the
version and head of the configuration that was in force when the feature-builder wrote it. All that follows from a bar
is handled under its stamp. Stamps never fall along a partition. ``control_head`` is None in events of releases that
wrote no stamps; then the order is not recorded."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import Digest, IntervalMs, Milliseconds, Origin, Symbol, Version


class FeaturesComputed(Struct, frozen=True, array_like=True, tag="vector"):
    """The vector of one bar. ``values`` is little-endian float32 in the order of the feature set
    named by ``feature_set``; every value is finite. ``bridged`` counts the missing bars inside the
    window that the gap policy filled with flat bars."""

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
    """No vector for this bar: ``have`` bars of the ``need`` that the set looks back on
    (``warming``: since the start; ``gap``: since bars went missing), or a value that is not
    finite (``undefined``: ``detail`` names the features)."""

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
    """``count`` bars are missing before ``open_time``. ``bridged`` says what the gap policy did:
    filled with flat bars (true), or started the symbol's windows anew (false)."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    count: Annotated[int, Meta(ge=1)]
    bridged: bool
    control_version: Version = 0
    control_head: Digest | None = None


FeatureEvent = FeaturesComputed | FeaturesWithheld | BarsMissing
