"""Finding decisions: the newest, those of a symbol, those of a time, and those that are only in the archive."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from msgspec.structs import replace

from bench.recorded import record
from bench.recorded_rounds import Recorded
from bench.replayed import seal_streams
from schemas.catalogue import partition_of
from schemas.decisions import BallotLate, DecisionMade
from schemas.documentation.examples import examples
from shared.log import Entry, StreamKey
from tests.services.console.conftest import Desk

DECISIONS: Final = StreamKey("decisions")
HOUR: Final = 3_600_000
FIRST: Final = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""
EXAMPLE: Final = next(each.envelope.event for each in examples() if isinstance(each.envelope.event, DecisionMade))


def decision(hour: int, symbol: str = "BTCUSDT") -> DecisionMade:
    return replace(EXAMPLE, symbol=symbol, interval_ms=HOUR, open_time=FIRST + hour * HOUR)


def late(hour: int) -> BallotLate:
    return BallotLate(
        symbol="BTCUSDT",
        interval_ms=HOUR,
        open_time=FIRST + hour * HOUR,
        origin="replay",
        model=f"m{hour}",
        artifact="a1" * 32,
        event="e1" * 16,
    )


def shown(desk: Desk, *words: str) -> list[tuple[str, int]]:
    """The symbol and the hour of each decision that is printed."""
    ended = desk("decisions", "-o", "json", *words)
    assert ended.code == 0, ended.err
    found = [json.loads(line) for line in ended.out.splitlines()]
    return [(each["symbol"], (each["open_time"] - FIRST) // HOUR) for each in found]


def hours(desk: Desk, *words: str) -> list[int]:
    return [hour for _, hour in shown(desk, *words)]


@pytest.fixture
def hundred(desk: Desk) -> Desk:
    """A log with decisions on a hundred bars of two symbols."""
    events: Sequence[Any] = [decision(hour, name) for hour in range(100) for name in ("BTCUSDT", "ETHUSDT")]
    desk.with_log(lambda log: record(log, "decisions", events))
    return desk


def test_an_old_decision_is_found_by_its_symbol_and_its_bar(hundred: Desk) -> None:
    assert shown(hundred, "--symbol", "ETHUSDT", "--from", "2024-01-01T03:00", "--to", "2024-01-01T03:00") == [
        ("ETHUSDT", 3)
    ]
    assert hours(hundred, "--symbol", "BTCUSDT", "--to", "2024-01-01T02:59:59.999") == [0, 1, 2]
    assert hours(hundred, "--symbol", "BTCUSDT", "--from", "2024-01-05T02:00") == [98, 99]


def test_a_time_with_a_zone_is_that_moment_and_one_without_is_utc(hundred: Desk) -> None:
    for moment in ("2024-01-01T05:00", "2024-01-01T05:00Z", "2024-01-01T07:00+02:00"):
        assert shown(hundred, "--from", moment, "--to", moment) == [("BTCUSDT", 5), ("ETHUSDT", 5)]


def test_of_the_decisions_that_match_the_newest_are_shown_as_many_as_asked_for(hundred: Desk) -> None:
    assert hours(hundred, "--symbol", "BTCUSDT") == list(range(80, 100))
    assert hours(hundred, "--symbol", "BTCUSDT", "--to", "2024-01-02T00:00", "-n", "3") == [22, 23, 24]
    assert hours(hundred, "--symbol", "BTCUSDT", "-n", "0") == hours(hundred, "-n", "0") == []
    for most in ("1000", "9" * 25):
        assert len(hours(hundred, "--symbol", "BTCUSDT", "-n", most)) == 100
        assert len(hours(hundred, "-n", most)) == 200
    assert shown(hundred, "--symbol", "SOLUSDT") == []


def test_late_ballots_are_not_counted_as_decisions(desk: Desk) -> None:
    events = [decision(hour) for hour in range(6)] + [late(hour) for hour in range(50)]
    desk.with_log(lambda log: record(log, "decisions", events))
    assert hours(desk, "-n", "4") == [2, 3, 4, 5]
    assert hours(desk, "-n", "40") == [0, 1, 2, 3, 4, 5]


def test_only_the_partition_of_a_symbol_is_searched(desk: Desk) -> None:
    desk.settings.write_text(desk.settings.read_text().replace("[installation]", "[installation]\npartitions = 2"))
    for name in ("BTCUSDT", "ETHUSDT"):
        events = [decision(hour, name) for hour in range(3)]
        desk.with_log(partial(record, stream="decisions", events=events, partition=partition_of(name, 2)))
        assert shown(desk, "--symbol", name, "-n", "1") == [(name, 2)]
    assert {partition_of(name, 2) for name in ("BTCUSDT", "ETHUSDT")} == {0, 1}
    assert sorted(shown(desk, "-n", "1")) == [("BTCUSDT", 2), ("ETHUSDT", 2)]


def test_a_decision_that_was_sealed_and_trimmed_is_found(hundred: Desk, tmp_path: Path) -> None:
    client: Any = redis.Redis.from_url(hundred.url)
    rows = client.xrange(DECISIONS.key)[:40]
    source = Recorded()
    source.places[DECISIONS] = [Entry(DECISIONS, entry.decode(), fields[b"e"]) for entry, fields in rows]
    seal_streams(source, tmp_path / "var" / "archive")
    client.xtrim(DECISIONS.key, minid=rows[-1][0], approximate=False)
    assert hours(hundred, "--symbol", "BTCUSDT", "--to", "2024-01-01T02:00") == [0, 1, 2]
    assert hours(hundred, "--symbol", "BTCUSDT", "-n", "100") == list(range(100))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--from", "yesterday"), "'yesterday': expected a time such as 2026-01-31T12:00"),
        (("--to", "1717243200000"), "expected a time"),
        (("--from", "2024-01-02", "--to", "2024-01-01"), "--from 2024-01-02 is later than --to 2024-01-01"),
        (("--follow", "--to", "2024-01-01"), "leave one out"),
    ],
)
def test_a_time_that_selects_nothing_is_refused(desk: Desk, words: tuple[str, ...], why: str) -> None:
    ended = desk("decisions", *words)
    assert ended.code == 2
    assert why in " ".join(ended.err.replace("│", "").split())


@pytest.mark.parametrize(("words", "said"), [((), "so far"), (("--symbol", "ETHUSDT"), "is of these")])
def test_that_nothing_is_found_is_said_and_is_no_line_of_json(desk: Desk, words: Sequence[str], said: str) -> None:
    ended = desk("decisions", "-o", "json", *words)
    assert (ended.code, ended.out) == (0, "")
    assert said in ended.err
