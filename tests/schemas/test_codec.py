"""Every event survives its bytes, every bad one is stopped at its producer, and an id vouches for its content."""

import math
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec import inspect as types
from msgspec.structs import replace

from schemas.catalogue import STREAMS, events_of
from schemas.codec import ROOT, SAMPLED, Encoded, UnreadableError, UnwritableError, decode, encode, framed, identify
from schemas.documentation.examples import examples
from schemas.market import BarClosed

EXAMPLES = examples()
BAR = EXAMPLES[0]
EVENTS = [(spec.name, event) for spec in STREAMS.values() for event in events_of(spec)]
IDS = [f"{stream}-{event.__name__}" for stream, event in EVENTS]
each_example = pytest.mark.parametrize(
    "sealed", EXAMPLES, ids=[f"{each.stream}-{place}" for place, each in enumerate(EXAMPLES)]
)


def strategy(info: Any) -> st.SearchStrategy[Any]:
    """All values that a type allows, in every length and at every limit."""
    match info:
        case types.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: strategy(field.type) for field in fields})
        case types.UnionType(types=members):
            return st.one_of(*map(strategy, members))
        case types.LiteralType(values=values):
            return st.sampled_from(values)
        case types.TupleType(item_types=items):
            return st.tuples(*map(strategy, items))
        case types.VarTupleType(item_type=item, min_length=least):
            return st.lists(strategy(item), min_size=least or 0, max_size=3).map(tuple)
        case types.DictType(key_type=key, value_type=value):
            return st.dictionaries(strategy(key), strategy(value), max_size=3)
        case types.IntType(ge=least, le=most, lt=below):
            top = most if most is not None else below - 1 if below is not None else 2**63 - 1
            return st.integers(least if least is not None else -(2**63), top)
        case types.FloatType(ge=least, gt=above, le=most, lt=below):
            return st.floats(
                least if least is not None else above,
                most if most is not None else below,
                exclude_min=above is not None,
                exclude_max=below is not None,
                allow_nan=False,
                allow_infinity=False,
            )
        case types.StrType(pattern=str(pattern), min_length=least, max_length=int(most)):
            return st.from_regex(bounded(pattern, least or 0, most), fullmatch=True).filter(
                lambda found: (least or 0) <= len(found) <= most  # type: ignore[arg-type]  # stub wants TypeGuard
            )
        case types.StrType(min_length=least, max_length=most):
            return st.text(min_size=least or 0, max_size=most)
        case types.BytesType(min_length=least, max_length=most):
            return st.binary(min_size=least or 0, max_size=most)
        case types.BoolType():
            return st.booleans()
        case types.NoneType():
            return st.none()
        case types.Metadata(type=inner):
            return strategy(inner)
        case _:
            raise NotImplementedError(f"no strategy for {info!r}")


@cache
def events(event: Any) -> st.SearchStrategy[Any]:
    """The strategy of an event, made once: to make it for every example takes longer than to draw from it."""
    return strategy(types.type_info(event))


def bounded(pattern: str, least: int, most: int) -> str:
    """``^[a-z][0-9]*$`` of 1 to 8 characters as ``^[a-z][0-9]{0,7}$``; other patterns as they are."""
    whole = re.fullmatch(r"\^(\[[^]]+\])?(\[[^]]+\])[*+]\$(?:\(\?!\\n\))?", pattern)
    if whole is None:
        return pattern
    fixed = 1 if whole[1] else 0
    return f"^{whole[1] or ''}{whole[2]}{{{max(least - fixed, 0)},{most - fixed}}}$"


def floats_of(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every way to put a marker where a float stands: (path, rebuild(marker))."""
    if isinstance(value, float):
        yield path, lambda marker: marker
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            for below, build in floats_of(getattr(value, name), f"{path}.{name}"):
                yield below, lambda marker, n=name, b=build: replace(value, **{n: b(marker)})
    elif isinstance(value, tuple):
        for place, each in enumerate(value):
            for below, build in floats_of(each, f"{path}[{place}]"):
                yield below, lambda marker, p=place, b=build: (*value[:p], b(marker), *value[p + 1 :])
    elif isinstance(value, dict):
        for key, each in value.items():
            for below, build in floats_of(each, f"{path}[{key}]"):
                yield below, lambda marker, k=key, b=build: value | {k: b(marker)}


def beyond(info: Any) -> Iterator[Any]:
    """Values just outside what a type allows."""
    match info:
        case types.IntType() | types.FloatType():
            step = 1 if isinstance(info, types.IntType) else 1e-9
            yield from (
                value
                for value in (
                    None if info.ge is None else info.ge - step,
                    info.gt,
                    None if info.le is None else info.le + step,
                    info.lt,
                )
                if value is not None
            )
        case types.StrType():
            yield from ("\n x",) if info.pattern else ()
            yield from ("",) if info.min_length else ()
            yield from ("a" * (info.max_length + 1),) if info.max_length else ()
        case types.BytesType():
            yield from (bytes(info.min_length - 1),) if info.min_length else ()
            yield from (bytes(info.max_length + 1),) if info.max_length else ()
        case types.LiteralType():
            yield "something else"
        case types.TupleType(item_types=(first, *rest)) if all(each == first for each in rest):
            yield ()


@pytest.mark.parametrize(("stream", "event"), EVENTS, ids=IDS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_event_that_the_types_allow_survives_its_bytes(stream: str, event: Any, data: st.DataObject) -> None:
    original = data.draw(events(event))
    cause = data.draw(st.binary(min_size=16, max_size=16))
    root = data.draw(st.binary(min_size=16, max_size=16).filter(lambda found: found != ROOT))
    flags = data.draw(st.integers(0, 255))
    sealed = encode(stream, original, causation=cause, correlation=root, flags=flags)
    found = decode(stream, sealed.data)
    assert found == sealed.envelope
    assert (found.event, found.causation, found.correlation, found.flags) == (original, cause, root, flags)
    assert (not framed(stream, sealed.data).fault) is (flags in (0, SAMPLED))
    assert encode(stream, found.event, causation=cause, correlation=root, flags=flags).data == sealed.data


def refused(stream: str, event: Any) -> bool:
    try:
        encode(stream, event)
    except UnwritableError:
        return True
    return False


@each_example
def test_a_float_that_is_not_a_number_is_refused_at_the_producer(sealed: Encoded) -> None:
    for path, build in floats_of(sealed.envelope.event):
        for marker in (math.nan, math.inf, -math.inf):
            assert refused(sealed.stream, build(marker)), f"{marker} at {path}"


@each_example
def test_a_value_beyond_its_limits_is_refused_at_the_producer(sealed: Encoded) -> None:
    event = sealed.envelope.event
    info = types.type_info(type(event))
    assert isinstance(info, types.StructType)
    for field in info.fields:
        for value in beyond(field.type):
            assert refused(sealed.stream, replace(event, **{field.name: value})), f"{field.name}={value!r}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"symbol": "BTCUSDT\n"},
        {"symbol": object()},
        {"symbol": "\ud800"},
        {"open_time": 2**70},
        {"symbol": 3},
        {"symbol": None},
        {"open_time": 1.5},
        {"open_time": True},
        {"origin": "Live"},
    ],
)
def test_a_value_of_a_wrong_kind_is_refused_at_the_producer(wrong: dict[str, Any]) -> None:
    assert refused("market", replace(BAR.envelope.event, **wrong))


def test_a_whole_number_given_as_int_for_a_float_is_the_same_event() -> None:
    event = replace(BAR.envelope.event, close=37_000)
    sealed = encode("market", event)
    assert not framed("market", sealed.data).fault
    assert sealed.data == encode("market", replace(event, close=37_000.0)).data


def test_an_event_of_another_stream_is_refused_at_the_producer() -> None:
    for sealed in EXAMPLES:
        for stream in STREAMS:
            if stream != sealed.stream:
                with pytest.raises(UnwritableError):
                    encode(stream, sealed.envelope.event)


def test_the_refusal_says_which_event_for_which_stream_and_what_is_wrong() -> None:
    bar = replace(BAR.envelope.event, close=math.nan)
    with pytest.raises(UnwritableError, match=r"BarClosed for 'market': .*nan"):
        encode("market", bar)


@each_example
def test_fields_of_a_newer_writer_are_skipped(sealed: Encoded) -> None:
    if STREAMS[sealed.stream].codec == "json":
        entry = msgspec.json.decode(sealed.data)
        entry["event"] |= {"added_later": [1, {"x": None}]}
        data = msgspec.json.encode(entry | {"added_later": 1})
    else:
        parts = msgspec.msgpack.decode(sealed.data)
        left_out = 1 + len(type(sealed.envelope.event).__struct_fields__) - len(parts[5])
        parts[5] = [*parts[5], *[None] * left_out, "added later"]
        data = msgspec.msgpack.encode([*parts, "added later"])
    assert data != sealed.data
    assert decode(sealed.stream, data) == sealed.envelope


@each_example
def test_an_event_stays_authentic_when_its_type_gains_a_field_with_a_default(sealed: Encoded) -> None:
    """The bytes that an earlier release wrote lack the last fields of today's type."""
    config = type(sealed.envelope.event).__struct_config__
    shorter = type(sealed.envelope.event).__struct_defaults__
    if STREAMS[sealed.stream].codec == "json" or not config.array_like or not shorter:
        return
    parts = msgspec.msgpack.decode(sealed.data)
    if len(parts[5]) <= len(type(sealed.envelope.event).__struct_fields__):
        return  # a bar without optional fields is as short as that already
    payload = msgspec.msgpack.encode(parts[5][:-1])
    root = ROOT if parts[4] == parts[2] else parts[4]
    event_id = identify(sealed.stream, payload, parts[3], root)
    written = [*parts[:2], event_id, parts[3], event_id if root == ROOT else root, msgspec.Raw(payload)]
    data = msgspec.msgpack.encode(written)
    assert decode(sealed.stream, data).id == event_id
    assert not framed(sealed.stream, data).fault


@each_example
def test_an_unknown_event_type_is_unreadable_and_named(sealed: Encoded) -> None:
    if STREAMS[sealed.stream].codec == "json":
        entry = msgspec.json.decode(sealed.data)
        entry["event"]["type"] = "from.the.future"
        data = msgspec.json.encode(entry)
    else:
        parts = msgspec.msgpack.decode(sealed.data)
        parts[5][0] = "from.the.future"
        data = msgspec.msgpack.encode(parts)
    with pytest.raises(UnreadableError, match=r"from\.the\.future"):
        decode(sealed.stream, data)


@each_example
def test_truncated_bytes_are_unreadable(sealed: Encoded) -> None:
    for length in range(len(sealed.data)):
        with pytest.raises(UnreadableError, match=f"stream '{sealed.stream}'"):
            decode(sealed.stream, sealed.data[:length])


def vouched(sealed: Encoded, data: bytes) -> bool:
    """Whether ``data`` reads as another event than ``sealed``, and its id vouches for it all the same."""
    try:
        found = decode(sealed.stream, data)
    except UnreadableError:
        return False
    said = (found.event, found.id, found.causation, found.correlation)
    original = sealed.envelope
    same = said == (original.event, original.id, original.causation, original.correlation)
    return not same and not framed(sealed.stream, data).fault


@each_example
def test_flipped_bits_never_read_as_an_authentic_other_event(sealed: Encoded) -> None:
    for place in range(len(sealed.data)):
        for bit in range(8):
            data = bytearray(sealed.data)
            data[place] ^= 1 << bit
            assert not vouched(sealed, bytes(data)), f"bit {bit} of byte {place}"


@settings(max_examples=300, deadline=None)
@given(stream=st.sampled_from(sorted(STREAMS)), data=st.binary(max_size=300))
def test_arbitrary_bytes_are_unreadable(stream: str, data: bytes) -> None:
    with pytest.raises(UnreadableError):
        decode(stream, data)


def test_an_id_depends_on_stream_version_causation_correlation_and_payload() -> None:
    event = BAR.envelope.event
    seen = {
        encode("market", event).envelope.id,
        encode("market", event, causation=b"c" * 16).envelope.id,
        encode("market", event, correlation=b"c" * 16).envelope.id,
        encode("market", event, causation=b"c" * 16, correlation=b"c" * 16).envelope.id,
        encode("market", event, causation=b"c" * 16, correlation=b"d" * 16).envelope.id,
        *(encode("market", replace(event, close=event.close + step)).envelope.id for step in (0.25, 0.5)),
    }
    assert len(seen) == 7


def test_an_id_does_not_depend_on_whether_the_event_is_traced() -> None:
    assert encode("market", BAR.envelope.event, flags=0).envelope.id == BAR.envelope.id


def test_the_same_content_on_another_stream_has_another_id() -> None:
    ids = [encode("alarms", each.envelope.event).envelope.id for each in EXAMPLES if each.stream == "alarms"]
    alarms = [each for each in EXAMPLES if each.stream == "alarms"]
    assert not any(not framed(other, each.data).fault for each in alarms for other in ("dead", "decisions"))
    assert len(set(ids)) == len(ids)


def test_a_root_correlates_with_itself_and_its_descendants_with_it() -> None:
    by_stream = {each.stream: each.envelope for each in reversed(EXAMPLES)}
    bar = by_stream["market"]
    assert bar.correlation == bar.id
    assert bar.causation == ROOT
    chain = ["market", "features", "predictions", "decisions", "intents"]
    assert {by_stream[stream].correlation for stream in chain} == {bar.id}
    for cause, effect in pairwise(chain):
        assert by_stream[effect].causation == by_stream[cause].id


@each_example
def test_the_trace_context_is_w3c(sealed: Encoded) -> None:
    envelope = sealed.envelope
    found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])", envelope.traceparent)
    assert found is not None
    trace, span, flags = found.groups()
    assert int(trace, 16) > 0
    assert int(span, 16) > 0
    assert (flags == "01") == envelope.sampled
    assert trace == envelope.correlation.hex()


def test_an_unknown_stream_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match="no stream 'markets' in the catalogue; there are market, features"):
        encode("markets", BAR.envelope.event)


def test_json_streams_read_as_plain_text() -> None:
    for sealed in EXAMPLES:
        if STREAMS[sealed.stream].codec == "json":
            entry = msgspec.json.decode(sealed.data)
            assert entry["id"] == sealed.envelope.id.hex()
            assert entry["event"]["type"] == type(sealed.envelope.event).__struct_config__.tag


def test_a_bar_takes_less_than_150_bytes() -> None:
    assert isinstance(BAR.envelope.event, BarClosed)
    assert len(BAR.data) < 150


def test_a_bar_without_optional_fields_has_the_bytes_and_the_id_that_it_had_before_there_were_any() -> None:
    place: dict[str, Any] = {"symbol": "BTCUSDT", "interval_ms": 60_000, "open_time": 0, "origin": "live"}
    plain = BarClosed(**place, open=2.0, high=3.0, low=1.0, close=2.5, volume=4.0)
    former = ["bar", "BTCUSDT", 60_000, 0, 2.0, 3.0, 1.0, 2.5, 4.0, "live"]
    encoded = encode("market", plain)
    assert msgspec.msgpack.decode(encoded.data)[5] == former
    assert encoded.envelope.id == identify("market", msgspec.msgpack.encode(former), ROOT, ROOT)
    assert decode("market", encoded.data).event == plain


@pytest.mark.parametrize("added", [{"trades": 3}, {"quote_volume": 0.5}, {"taker_volume": 0.0}])
def test_a_bar_keeps_each_optional_field(added: dict[str, Any]) -> None:
    place: dict[str, Any] = {"symbol": "BTCUSDT", "interval_ms": 60_000, "open_time": 0, "origin": "live"}
    bar = BarClosed(**place, open=2.0, high=3.0, low=1.0, close=2.5, volume=4.0, **added)
    encoded = encode("market", bar)
    assert decode("market", encoded.data).event == bar
    assert not framed("market", encoded.data).fault
