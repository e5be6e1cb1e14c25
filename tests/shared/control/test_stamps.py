"""No event is handled while its stamp is not on the control log."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.control import Command, CommandRecorded, Found, Halt, Resume
from schemas.features import FeaturesWithheld
from shared.control import EMPTY, State, fold, propose
from shared.control.stamps import holds, missing_stamp, stamp_of
from shared.runtime.service import Received


def states() -> list[State]:
    """The configurations of a log of five commands, by version."""
    made = [EMPTY]
    commands: tuple[Command, ...] = (Found(1, "a log of a test"), Halt(), Resume(), Halt(), Resume())
    for number, command in enumerate(commands):
        entry = propose(made[-1], command, command_id=str(number), actor="me", reason="test", at=1)
        assert isinstance(entry, CommandRecorded)
        made.append(fold(made[-1], entry))
    return made


STATES = states()
HEADS = [bytes.fromhex(state.head) for state in STATES]


def received(number: int, version: int, head: bytes | None) -> Received:
    event = FeaturesWithheld(
        symbol="AAA",
        interval_ms=60_000,
        open_time=number * 60_000,
        origin="live",
        feature_set=bytes(32),
        reason="warming",
        have=1,
        need=2,
        control_version=version,
        control_head=head,
    )
    return Received("features", f"{number}-0", encode("features", event).envelope)


@given(st.integers(0, 5), st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["own", "lost", None])), max_size=8))
def test_the_newest_stamp_that_the_log_does_not_hold_is_found_whatever_is_read_with_it(
    folded: int, drawn: list[tuple[int, str | None]]
) -> None:
    heads: dict[str | None, Sequence[bytes | None]] = {"own": HEADS, "lost": [b"\xab" * 32] * 6, None: [None] * 6}
    events = [received(number, version, heads[kind][version]) for number, (version, kind) in enumerate(drawn)]
    missing = [stamp for event in events if not holds(STATES[folded], stamp := stamp_of(event))]
    found = missing_stamp(STATES[folded], events)
    assert (found is None) == (not missing)
    if found is not None:
        assert found in missing
        assert found[0] == max(version for version, _ in missing)
