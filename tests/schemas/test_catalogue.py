"""The table of streams holds together."""

import re
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from schemas.catalogue import STREAMS, Service, StreamSpec, events_of, partition_of
from schemas.common import ACTIONS, Action
from schemas.control import Command
from schemas.documentation.examples import examples

EVENTS = [event for spec in STREAMS.values() for event in events_of(spec)]
each_stream = pytest.mark.parametrize("spec", STREAMS.values(), ids=list(STREAMS))
each_event = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)


def below(struct: Any) -> set[Any]:
    """A struct and every struct in its fields."""
    found = {struct}
    for hint in struct.__annotations__.values():
        for each in (hint, *get_args(hint), *(inner for outer in get_args(hint) for inner in get_args(outer))):
            if isinstance(each, type) and issubclass(each, Struct):
                found |= below(each)
    return found


@each_stream
def test_every_stream_has_a_writer_a_reader_and_a_summary(spec: StreamSpec) -> None:
    services = set(get_args(Service))
    assert spec.writers
    assert spec.readers
    assert set(spec.writers) | set(spec.readers) <= services
    assert len(set(spec.writers)) == len(spec.writers)
    assert len(set(spec.readers)) == len(spec.readers)
    assert spec.summary.endswith(".")
    assert spec.version >= 1


@each_stream
def test_a_key_says_its_stream_and_keeps_a_partition_in_one_slot(spec: StreamSpec) -> None:
    tag = "{p3}:" if spec.partitioned else ""
    assert spec.key(3) == f"conclave:{tag}{spec.name}"


def test_keys_are_distinct() -> None:
    keys = [spec.key(partition) for spec in STREAMS.values() for partition in (range(3) if spec.partitioned else (0,))]
    assert len(set(keys)) == len(keys)


def test_an_event_belongs_to_one_stream_and_its_tag_to_one_event() -> None:
    tags = [event.__struct_config__.tag for event in EVENTS]
    assert len(set(EVENTS)) == len(EVENTS)
    assert len(set(tags)) == len(tags)


@each_event
def test_an_event_is_frozen_tagged_explained_and_tolerant_of_newer_writers(event: Any) -> None:
    for struct in below(event) | ({*get_args(Command)} if event.__name__ == "CommandRecorded" else set()):
        config = struct.__struct_config__
        assert config.frozen, struct
        assert not config.forbid_unknown_fields, struct
        assert struct.__doc__.strip(), struct
    assert re.fullmatch(r"[a-z]+(\.[a-z]+)*", event.__struct_config__.tag)


@each_stream
def test_events_are_arrays_where_they_are_packed_and_objects_where_people_read_them(spec: StreamSpec) -> None:
    for event in events_of(spec):
        assert event.__struct_config__.array_like == (spec.codec == "msgpack")


@each_event
def test_every_event_has_an_example(event: Any) -> None:
    assert any(type(sealed.envelope.event) is event for sealed in examples())


def test_every_command_has_an_example() -> None:
    commands = {type(each.envelope.event.command) for each in examples() if each.stream == "control"}
    assert commands == set(get_args(Command))


def test_the_control_stream_is_one_for_all_and_kept_for_ever() -> None:
    control = STREAMS["control"]
    assert not control.partitioned
    assert control.retention_ms is None
    assert control.codec == "json"


def test_the_class_order_is_the_one_that_every_vector_has() -> None:
    assert get_args(Action) == ACTIONS == ("SELL", "HOLD", "BUY")


@given(st.text(min_size=1, max_size=32), st.integers(1, 1024))
def test_a_symbol_has_one_partition_within_the_count(symbol: str, partitions: int) -> None:
    assert 0 <= partition_of(symbol, partitions) < partitions
    assert partition_of(symbol, 1) == 0


def test_the_partition_of_a_symbol_never_changes() -> None:
    assert [partition_of(symbol, 16) for symbol in ("BTCUSDT", "ETHUSDT", "EUR/USD", "^GSPC")] == [3, 12, 2, 4]
