"""Inputs on the market stream: services that do not need them read past them."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.codec import encode
from schemas.documentation.examples.inputs import inputs
from schemas.market import BarClosed, MarketEvent
from services.executor.core import Executor
from services.feature_builder.core import FeatureBuilder
from services.shadow_recorder.core import Recorder
from shared.bars import Good
from shared.features import feature_set
from shared.runtime.service import Batch, Received, Service
from shared.synthetic import SyntheticMarket


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
