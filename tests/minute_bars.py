"""Minute bars for tests to which only their number matters."""

from schemas.codec import Encoded, encode
from schemas.market import BarClosed


def minute_bar(number: int) -> Encoded:
    """Return the bar of a minute (since 1970) as a feed writes it."""
    return encode(
        "market",
        BarClosed(
            symbol="BTC",
            interval_ms=60_000,
            open_time=number * 60_000,
            open=1.0,
            high=2.0,
            low=0.5,
            close=1.5,
            volume=10.0,
            origin="synthetic",
        ),
    )


def minute_bars(*numbers: int) -> list[Encoded]:
    """Return several."""
    return [minute_bar(number) for number in numbers]
