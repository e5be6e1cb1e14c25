"""Inputs on the market stream: services without need of them read past them, and vectors are recomputed from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from bench.recorded_rounds import Recorded
from schemas.codec import decode, encode
from schemas.documentation.examples.inputs import inputs
from schemas.features import FeaturesComputed, FeaturesWithheld
from schemas.market import BarClosed, FundingPublished, MarketEvent
from services.executor.core import Executor
from services.feature_builder.core import FeatureBuilder
from services.feed import core as feed
from services.shadow_recorder.core import Recorder
from shared.audit.features import check_features
from shared.audit.source import EntryRange
from shared.bars import Good, gather, open_source
from shared.bars.input_source import WithInputs, open_inputs, with_inputs
from shared.features import feature_set
from shared.log import StreamKey
from shared.runtime.service import Batch, Received, Service
from shared.synthetic import SyntheticMarket
from shared.training.series import computed

HOUR = 3_600_000
START = 1_733_011_200_000
SETS = (
    feature_set("derivative", "funding_bp", "open_interest_change_4", "price_change"),
    feature_set("own", "rsi"),
)


def mixed(bars: int) -> list[MarketEvent]:
    """Synthetic bars, with every kind of input after each third bar."""
    found: list[MarketEvent] = []
    for number, row in enumerate(SyntheticMarket(("AAA", "BTCUSDT"), bars=bars).rows()):
        assert isinstance(row, Good)
        found.append(row.bar)
        if number % 3 == 0:
            found += inputs()
    return found


def received(events: Sequence[MarketEvent]) -> list[Received]:
    return [Received("market", f"{n}-0", encode("market", event).envelope) for n, event in enumerate(events, 1)]


@pytest.mark.parametrize(
    "service",
    [Recorder(), Executor(), FeatureBuilder([feature_set("own", "rsi")])],
    ids=["shadow-recorder", "executor", "feature-builder"],
)
def test_inputs_lead_to_nothing_where_no_set_needs_them(service: Service[Any]) -> None:
    market = received(mixed(40))
    bars = [one for one in market if isinstance(one.envelope.event, BarClosed)]
    with_inputs, without = service.initial(b""), service.initial(b"")
    written = service.handle(with_inputs, Batch((), market))
    assert [one.data for one in written] == [one.data for one in service.handle(without, Batch((), bars))]
    if service.group != "feature-builder":  # its snapshot counts all events
        assert service.snapshot(with_inputs) == service.snapshot(without)


@pytest.fixture(name="files")
def files_fixture(tmp_path: Path) -> Path:
    """200 hours of two symbols, with funding rates of both and open interest of one, which lacks some hours."""
    random = np.random.default_rng(5)
    for folder in ("bars", "inputs"):
        (tmp_path / folder).mkdir()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        rows = ["open_time,open,high,low,close,volume"]
        close = 100.0
        for number in range(200):
            first, close = close, close * float(np.exp(random.normal(0.0, 0.01)))
            high, low = max(first, close) * 1.01, min(first, close) * 0.99
            rows.append(f"{START + number * HOUR},{first!r},{high!r},{low!r},{close!r},5")
        (tmp_path / "bars" / f"{symbol}-1h.csv").write_text("\n".join(rows) + "\n")
        rates = [f"{START + number * 8 * HOUR + 3},8,{random.normal(0.0, 1e-4)!r}" for number in range(24)]
        text = "\n".join(["calc_time,funding_interval_hours,last_funding_rate", *rates])
        (tmp_path / "inputs" / f"{symbol}-fundingRate-2024-12.csv").write_text(text)
    samples = [
        f"{START + number * HOUR - 300_000},BTCUSDT,{random.lognormal()!r}"
        for number in range(1, 201)
        if number not in (50, 51, 120)
    ]
    text = "\n".join(["create_time,symbol,sum_open_interest", *samples])
    (tmp_path / "inputs" / "BTCUSDT-metrics-2024-12.csv").write_text(text)
    return tmp_path


def fed(files: Path) -> Recorded:
    """What a feed and a feature-builder of one partition write for the files."""
    made = Recorded()
    source = WithInputs(open_source(files / "bars"), open_inputs(files / "inputs"))
    rows = [row for tick in feed.ticks(source.rows(), 0, 100) for row in tick.rows]
    for encoded in feed.handle(feed.initial(b"", source.identity, source.name, 1), rows, len(rows)).outputs:
        made.write(encoded.stream, encoded.data, 0)
    builder = FeatureBuilder(SETS)
    for encoded in builder.handle(builder.initial(b""), Batch((), read(made, "market"))):
        made.write(encoded.stream, encoded.data, 0)
    return made


def read(source: Recorded, stream: str) -> list[Received]:
    return [Received(stream, entry.id, decode(stream, entry.data)) for entry in source.places[StreamKey(stream, 0)]]


def checked(source: Recorded) -> Any:
    return check_features(source, FeatureBuilder, {chosen.digest: chosen for chosen in SETS}, (), 0, EntryRange())


def test_what_is_served_is_what_is_trained_on_from_the_same_files(files: Path) -> None:
    bars = {symbol: one for (symbol, _), one in gather(open_source(files / "bars").rows()).items()}
    chosen = SETS[0]
    trained = computed(with_inputs(bars, open_inputs(files / "inputs")), chosen, 3)
    served = [one.envelope.event for one in read(fed(files), "features")]
    for symbol, one in trained.items():
        vectors = [
            event.values
            for event in served
            if isinstance(event, FeaturesComputed) and (event.feature_set, event.symbol) == (chosen.digest, symbol)
        ]
        assert b"".join(vectors) == one.vectors.tobytes()
    assert len(trained["BTCUSDT"].vectors) > 100
    assert trained["ETHUSDT"].undefined["open_interest_change_4"] == 196


def test_missing_inputs_withhold_their_set_by_name_and_no_other(files: Path) -> None:
    events = [one.envelope.event for one in read(fed(files), "features")]
    withheld = [event for event in events if isinstance(event, FeaturesWithheld) and event.reason == "undefined"]
    assert {event.feature_set for event in withheld} == {SETS[0].digest}
    missing = "no open_interest of {} younger than a bar, and 5 minutes where bars are shorter at this close was read"
    of_bitcoin = [event.open_time for event in withheld if missing.format("BTCUSDT") in event.detail]
    assert [(opened - START) // HOUR + 1 for opened in of_bitcoin] == [50, 51, 120]
    assert sum(missing.format("ETHUSDT") in event.detail for event in withheld) == 200 - 5 + 1


def test_every_vector_is_recomputed_and_an_input_that_was_changed_is_found(files: Path) -> None:
    source = fed(files)
    found = checked(source)
    assert (found.count, found.unchecked) == (0, {})
    assert found.equal["features"] == len(source.places[StreamKey("features", 0)])
    market = source.places[StreamKey("market", 0)]
    kinds = [type(decode("market", entry.data).event) for entry in market]
    at = kinds.index(FundingPublished, 200)
    event = decode("market", market[at].data).event
    market[at] = market[at]._replace(data=encode("market", replace(event, rate=0.5)).data)
    found = checked(source)
    assert found.count > 0
    assert {one.symbol for one in found.differences} == {event.symbol}
