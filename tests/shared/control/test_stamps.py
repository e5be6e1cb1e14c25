"""The stamp of a batch is its newest, whatever the order of its events."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.common import Origin
from schemas.features import FeaturesWithheld
from shared.control.stamps import newest_stamp
from shared.runtime.service import Received

LIVE: Origin = "live"


def received(number: int, version: int, head: bytes | None) -> Received:
    event = FeaturesWithheld(
        "AAA", 60_000, number * 60_000, LIVE, bytes(32), "warming", 1, 2, control_version=version, control_head=head
    )
    return Received("features", f"{number}-0", encode("features", event).envelope)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=8))
def test_the_newest_stamp_counts_in_whatever_order_stamps_come(drawn: list[tuple[int, bool]]) -> None:
    heads = {version: bytes([version]) * 32 for version in range(6)}
    events = [
        received(number, version, heads[version] if told else None) for number, (version, told) in enumerate(drawn)
    ]
    version, head = newest_stamp(events)
    assert version == max((version for version, _ in drawn), default=0)
    known = any(told for drawn_version, told in drawn if drawn_version == version)
    assert head == (heads[version].hex() if known else None)
