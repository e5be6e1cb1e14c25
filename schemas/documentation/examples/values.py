"""Values that the examples share. The figures are made up."""

from typing import Any, Final

from schemas.codec import Encoded, encode

MINUTE: Final = 60_000
OPEN: Final = 1_700_000_040_000
WHERE: Final[dict[str, Any]] = {
    "symbol": "BTCUSDT",
    "interval_ms": MINUTE,
    "open_time": OPEN,
    "origin": "synthetic",
}
SET: Final = bytes(range(32))
ARTIFACT: Final = bytes(range(32, 64))
CHALLENGER: Final = bytes(range(64, 96))
HEAD: Final = "3f" * 32
STAMP: Final[dict[str, Any]] = {"control_version": 7, "control_head": bytes.fromhex(HEAD)}
UP: Final = (0.125, 0.25, 0.625)


def caused(cause: Encoded, stream: str, event: Any) -> Encoded:
    """Return an event that ``cause`` led to."""
    above = cause.envelope
    return encode(stream, event, causation=above.id, correlation=above.correlation, flags=above.flags)
