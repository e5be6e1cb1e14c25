"""Examples of events on ``access``."""

from collections.abc import Iterator

from schemas.access import InputRetried, SignedIn, SignedOut, SignInRefused
from schemas.codec import Encoded, encode
from schemas.documentation.examples.values import OPEN

MINUTE = 60_000


def access() -> Iterator[Encoded]:
    """Yield one example of each event."""
    yield encode("access", SignInRefused(person="ada", reason="password", address="127.0.0.1", at=OPEN))
    yield encode(
        "access", SignedIn(person="ada", role="operator", by="password", address="127.0.0.1", at=OPEN + MINUTE)
    )
    yield encode("access", SignedOut(person="ada", address="127.0.0.1", at=OPEN + 2 * MINUTE))
    yield encode(
        "access",
        InputRetried(
            person="ada",
            role="operator",
            by="password",
            address="127.0.0.1",
            letter="ab" * 16,
            entry=f"{OPEN}-0",
            at=OPEN + 3 * MINUTE,
        ),
    )
