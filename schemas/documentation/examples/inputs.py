"""Examples of inputs: what is known of a symbol besides its bars."""

from schemas.documentation.examples.values import OPEN, WHERE
from schemas.market import BookSampled, FundingPublished, InputEvent, OpenInterestSampled, PriceSampled


def inputs() -> tuple[InputEvent, ...]:
    """Return one event of each kind of input."""
    symbol, origin = WHERE["symbol"], WHERE["origin"]
    return (
        FundingPublished(symbol=symbol, at=OPEN, origin=origin, rate=0.0001, interval_ms=8 * 3_600_000),
        OpenInterestSampled(symbol=symbol, at=OPEN, origin=origin, amount=81_530.25, value=3_017_000_000.0),
        PriceSampled(symbol=symbol, at=OPEN, origin=origin, mark=37_004.25, index=36_998.5),
        BookSampled(symbol=symbol, at=OPEN, origin=origin, bid=37_005.5, bid_size=4.25, ask=37_005.75, ask_size=1.5),
    )
