"""The kinds of inputs, the fields that formulas read of them, and how old a sample may be.

The value at a bar is that of the last sample whose time is not after the bar's close. If it is as old as its bound or
older, there is no value, and nothing is filled in.
"""

from typing import Final, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.market import BookSampled, FundingPublished, InputEvent, OpenInterestSampled, PriceSampled

Kind = Literal["funding", "open_interest", "mark", "index", "book"]
KINDS: Final[dict[Kind, tuple[str, ...]]] = {
    "funding": ("funding",),
    "open_interest": ("open_interest",),
    "mark": ("mark",),
    "index": ("index",),
    "book": ("bid", "bid_size", "ask", "ask_size"),
}
"""The fields of formulas that a sample of each kind has."""
INPUT_FIELDS: Final = tuple(field for fields in KINDS.values() for field in fields)
FUNDING_MS: Final = 8 * 3_600_000
"""The time between two settlements where a source does not state it."""
OPEN_INTEREST_MS: Final = 300_000
"""The time between two samples of the open interest that exchanges publish."""
BOUNDS: Final[dict[Kind, str]] = {
    "funding": "two of its intervals",
    "open_interest": "a bar, and 5 minutes where bars are shorter",
    "mark": "a bar",
    "index": "a bar",
    "book": "a bar",
}
"""How old a sample must be less than, as text. See ``bound``."""

Number = TypeVar("Number", int, NDArray[np.int64])


class Source(NamedTuple):
    """Where a kind is read: the event, and the attributes that are its fields, in order."""

    event: type[InputEvent]
    attributes: tuple[str, ...]


SOURCES: Final[dict[Kind, Source]] = {
    "funding": Source(FundingPublished, ("rate",)),
    "open_interest": Source(OpenInterestSampled, ("amount",)),
    "mark": Source(PriceSampled, ("mark",)),
    "index": Source(PriceSampled, ("index",)),
    "book": Source(BookSampled, ("bid", "bid_size", "ask", "ask_size")),
}
"""The source of each kind. An event with None for the first attribute is no sample of the kind."""


class SampledValues(NamedTuple):
    """What an event says of one kind: a value for each of its fields. ``own_ms``: the interval of funding, else 0."""

    kind: Kind
    values: tuple[float, ...]
    own_ms: int = 0


def samples_of(event: InputEvent) -> tuple[SampledValues, ...]:
    """Return what an event says, by kind."""
    found = []
    for kind, source in SOURCES.items():
        if isinstance(event, source.event) and getattr(event, source.attributes[0]) is not None:
            values = tuple([getattr(event, name) for name in source.attributes])
            found.append(SampledValues(kind, values, own_ms_of(event)))
    return tuple(found)


def own_ms_of(event: InputEvent) -> int:
    """Return the interval (ms) between two settlements of funding; 0 for other events."""
    return (event.interval_ms or FUNDING_MS) if isinstance(event, FundingPublished) else 0


def bound(kind: Kind, own_ms: Number, interval_ms: int) -> Number:
    """Return what the age (ms) of a sample at the close of a bar of ``interval_ms`` must be less than. It is the longer
    of what follows from ``own_ms`` and from ``interval_ms``, where the other is 0."""
    match kind:
        case "funding":
            return own_ms * 2
        case "open_interest":
            return own_ms * 0 + max(interval_ms, OPEN_INTEREST_MS)
        case "mark" | "index" | "book":
            return own_ms * 0 + interval_ms


def kinds_of(fields: frozenset[str]) -> tuple[Kind, ...]:
    """Return the kinds that formulas with these fields read, in order."""
    return tuple(kind for kind, names in KINDS.items() if not fields.isdisjoint(names))
