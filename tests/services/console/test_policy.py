"""Policies that are refused before they are issued, since nothing would be traded under them."""

from typing import Any

import pytest

from shared.control.issuing import current

WHY = ("--reason", "a test", "--actor", "ada")


def version(desk: Any) -> int:
    state = desk.with_log(current)
    found: int = state.version
    return found


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ((), ("policy", "execution", "latency_ms=60001")),
        (("policy", "execution", "latency_ms=30000"), ("policy", "voting", "valid_ms=29999")),
    ],
)
def test_a_latency_that_outlasts_every_intent_is_refused(
    two: Any, before: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert two.with_log(current).policy.valid_ms == 60_000
    assert not before or two(*before, *WHY).code == 0
    first = version(two)
    ended = two(*words, *WHY)
    assert ended.code == 1
    assert "nothing would be traded; lower latency_ms" in ended.err
    assert version(two) == first


@pytest.mark.parametrize("fields", [("latency_ms=60000",), ("latency_ms=60001", "venue=none")])
def test_a_latency_within_the_validity_and_one_that_trades_nothing_are_accepted(
    two: Any, fields: tuple[str, ...]
) -> None:
    assert two("policy", "execution", *fields, *WHY).code == 0
