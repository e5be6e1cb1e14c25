"""Define the types of fields that several streams share."""

from typing import Annotated, Final, Literal

from msgspec import Meta

Action = Literal["SELL", "HOLD", "BUY"]
ACTIONS: Final[tuple[Action, Action, Action]] = ("SELL", "HOLD", "BUY")
"""The class order of the whole system: index 0, 1, 2 of every probability vector."""

Origin = Literal["live", "replay", "synthetic"]
"""The origin of a bar. All events derived from the bar have it too, so that a simulated decision cannot be mistaken for
a real one."""

Symbol = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9._:/-]+$(?!\n)")]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$(?!\n)")]
ENSEMBLE: Final = "ensemble"
"""The name under which a voting policy in shadow is scored and judged, as if it were an artifact of a model."""
Milliseconds = Annotated[int, Meta(ge=0, lt=2**53)]
"""A moment (since 1970-01-01 UTC) or a span, in whole milliseconds."""
IntervalMs = Annotated[int, Meta(ge=1000, le=31 * 86_400_000)]

EventId = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""128 bits of BLAKE2b over an event's content; see ``schemas.codec.identify``."""
EventHex = Annotated[str, Meta(min_length=32, max_length=32, pattern=r"^[0-9a-f]+$(?!\n)")]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""SHA-256 of an artifact's manifest or of a feature set's definition."""
DigestHex = Annotated[str, Meta(min_length=64, max_length=64, pattern=r"^[0-9a-f]+$(?!\n)")]

Version = Annotated[int, Meta(ge=0)]
"""A version of the configuration: the number of commands applied so far. 0: before the first."""

Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Probabilities = tuple[Probability, Probability, Probability]
"""P(SELL), P(HOLD), P(BUY); sums to one within 1e-6, which the voter checks."""
Price = Annotated[float, Meta(gt=0.0, lt=1e15)]
Volume = Annotated[float, Meta(ge=0.0, lt=1e18)]
Real = Annotated[float, Meta(gt=-1e15, lt=1e15)]
"""A finite number of magnitude below 1e15."""
Text = Annotated[str, Meta(max_length=2000)]
