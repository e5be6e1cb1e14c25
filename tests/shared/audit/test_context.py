"""Two partitions, one with copies of a reference: vectors are recomputed from it alone, and copies lead to nothing."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from bench.recorded_rounds import Recorded
from schemas.catalogue import partition_of
from schemas.codec import decode, encode
from schemas.features import FeaturesComputed
from schemas.market import BarClosed, ReferenceCopied
from services.executor.core import Executor
from services.feature_builder.core import FeatureBuilder
from services.feed import core as feed
from services.shadow_recorder.core import Recorder
from shared.audit.features import check_features
from shared.audit.findings import Findings
from shared.audit.source import EntryRange
from shared.features import feature_set
from shared.log import StreamKey
from shared.runtime.service import Batch, Received, Service
from shared.synthetic import SyntheticMarket

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
REFERENCE = "BBB"
CONTEXT = feature_set("context", "price_change", "price_change_lag_1@BBB", "momentum_less@BBB")
SETS = (CONTEXT, feature_set("own", "rsi"))
PARTITIONS = 2
ELSEWHERE = 1 - partition_of(REFERENCE, PARTITIONS)


def read(source: Recorded, stream: str, partition: int) -> list[Received]:
    return [
        Received(stream, entry.id, decode(stream, entry.data)) for entry in source.places[StreamKey(stream, partition)]
    ]


@pytest.fixture(scope="module")
def source() -> Recorded:
    """What a feed and a feature-builder of each partition write for 300 bars of four symbols."""
    made = Recorded()
    rows = [row for tick in feed.ticks(SyntheticMarket(SYMBOLS, bars=300), 0, 100, {REFERENCE}) for row in tick.rows]
    for partition, part in enumerate(feed.split(rows, PARTITIONS, {REFERENCE})):
        state = feed.initial(b"", "source", "name", PARTITIONS)
        for encoded in feed.handle(state, part, len(rows)).outputs:
            made.write("market", encoded.data, partition)
        builder = FeatureBuilder(SETS)
        market = read(made, "market", partition)
        for encoded in builder.handle(builder.initial(b""), Batch((), market)):
            made.write(encoded.stream, encoded.data, partition)
    return made


def checked(source: Recorded, partition: int) -> Findings:
    known = {chosen.digest: chosen for chosen in SETS}
    return check_features(source, FeatureBuilder, known, (), partition, EntryRange())


def test_both_partitions_have_vectors_and_one_of_them_has_copies(source: Recorded) -> None:
    symbols = [{one.envelope.event.symbol for one in read(source, "features", p)} for p in range(PARTITIONS)]
    assert symbols[0] | symbols[1] == set(SYMBOLS)
    assert REFERENCE not in symbols[ELSEWHERE]
    copies = [one for one in read(source, "market", ELSEWHERE) if isinstance(one.envelope.event, ReferenceCopied)]
    assert len(copies) == 300
    for partition in range(PARTITIONS):
        events: Sequence[object] = [one.envelope.event for one in read(source, "features", partition)]
        computed = [event for event in events if isinstance(event, FeaturesComputed)]
        assert {event.feature_set for event in computed} == {chosen.digest for chosen in SETS}


@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_every_vector_is_recomputed_from_its_partition_alone(source: Recorded, partition: int) -> None:
    found = checked(source, partition)
    assert (found.count, found.unchecked) == (0, {})
    assert found.equal["features"] == len(source.places[StreamKey("features", partition)])


def test_a_copy_that_was_changed_is_found_in_the_vectors_that_read_it(source: Recorded) -> None:
    altered = Recorded()
    altered.places = {place: list(entries) for place, entries in source.places.items()}
    market = altered.places[StreamKey("market", ELSEWHERE)]
    at = [n for n, entry in enumerate(market) if isinstance(decode("market", entry.data).event, ReferenceCopied)][200]
    copy = decode("market", market[at].data).event
    market[at] = market[at]._replace(data=encode("market", replace(copy, close=copy.close * 1.01)).data)
    found = checked(altered, ELSEWHERE)
    assert found.count > 0
    assert {one.symbol for one in found.differences} <= set(SYMBOLS) - {REFERENCE}
    assert found.differences[0].open_time == copy.open_time


@pytest.mark.parametrize("service", [Recorder(), Executor()], ids=["shadow-recorder", "executor"])
def test_copies_lead_to_nothing_in_other_services(source: Recorded, service: Service[Any]) -> None:
    market = read(source, "market", ELSEWHERE)
    bars = [one for one in market if isinstance(one.envelope.event, BarClosed)]
    with_copies, without = service.initial(b""), service.initial(b"")
    written = service.handle(with_copies, Batch((), market))
    assert [one.data for one in written] == [one.data for one in service.handle(without, Batch((), bars))]
    assert service.snapshot(with_copies) == service.snapshot(without)
