"""Dead letters as a person lists, reads and retries them."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.codec import Encoded, decode, encode
from schemas.documentation.examples import examples
from schemas.market import BarClosed
from schemas.operations import DeadLetter, DeadLetterRetried, Refusal
from schemas.training import StackerRequested, TrainingRequested
from services.console.run.dead_letters import hexdump
from shared.log import Entry, Log, StreamKey
from shared.runtime.entries import dead_letter
from shared.training.ledger import TrainingWriter

WHY = ("--reason", "this release can read it", "--actor", "ada")
DEAD, MARKET, TRAINING = StreamKey("dead"), StreamKey("market"), StreamKey("training")
[REQUEST] = [each for each in examples() if isinstance(each.envelope.event, TrainingRequested)][:1]
[BAR] = [each for each in examples() if isinstance(each.envelope.event, BarClosed)][:1]


def put(desk: Any, place: StreamKey, data: bytes, entry: str = "1700000000000-0") -> Entry:
    async def append(log: Log) -> None:
        assert await log.append_at(place, entry, data)

    desk.with_log(append)
    return Entry(place, entry, data)


def write(desk: Any, letter: Encoded, at: int = 1_700_000_000_000) -> str:
    put(desk, DEAD, letter.data, f"{at}-0")
    return letter.envelope.id.hex()


def refused(desk: Any, place: StreamKey, data: bytes, reason: Refusal = "unreadable", service: str = "trainer") -> str:
    """The letter of an entry that is on its stream."""
    return write(desk, dead_letter(service, put(desk, place, data), reason, "too new"))


def entries(desk: Any, place: StreamKey) -> list[Entry]:
    async def read(log: Log) -> list[Entry]:
        return await log.scan(place)

    found: list[Entry] = desk.with_log(read)
    return found


def retried(desk: Any) -> list[DeadLetterRetried]:
    events = [decode("dead", entry.data).event for entry in entries(desk, DEAD)]
    return [event for event in events if isinstance(event, DeadLetterRetried)]


def bar(open_time: int, symbol: str = "BTCUSDT") -> bytes:
    return encode("market", replace(BAR.envelope.event, open_time=open_time, symbol=symbol)).data


def of_feed(reason: Refusal, source: str = "bars/BTC.csv:7") -> Encoded:
    return encode("dead", DeadLetter(service="feed", source=source, reason=reason, detail="no row", raw="a,b\x1b[2J"))


def listed(desk: Any, *words: str) -> list[dict[str, Any]]:
    ended = desk("dead-letters", "list", "-o", "json", *words)
    assert ended.code == 0
    return [json.loads(line) for line in ended.out.splitlines()]


def test_letters_are_listed_by_stream_service_and_reason(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(desk, dead_letter("model-worker.xgboost", Entry(MARKET, "5-0", b"x"), "unreadable", "no"), 1_000)
    second = write(desk, of_feed("bad_row"), 2_000)
    third = write(desk, of_feed("duplicate", "market@7-0"), 3_000)
    assert [row["letter"] for row in listed(desk)] == [first, second, third]
    assert [row["stream"] for row in listed(desk)] == ["market", None, "market"]
    assert [row["letter"] for row in listed(desk, "--stream", "market")] == [first, third]
    assert [row["letter"] for row in listed(desk, "--service", "model-worker")] == [first]
    assert [row["letter"] for row in listed(desk, "--reason", "bad_row", "--service", "feed")] == [second]
    assert [row["letter"] for row in listed(desk, "-n", "1")] == [third]
    assert listed(desk, "--stream", "trades") == []
    table = desk("dead-letters", "list", "-n", "2").out
    assert "2 of 3" in table
    monkeypatch.setenv("COLUMNS", "60")
    assert third[:12] in desk("dead-letters", "list").out
    assert "bars/BTC.csv:7" in table


def test_what_cannot_be_read_on_the_stream_itself_hides_no_letter(desk: Any) -> None:
    put(desk, DEAD, b"hello", "1-0")
    letter = write(desk, of_feed("bad_row"))
    ended = desk("dead-letters", "list", "-o", "json")
    assert json.loads(ended.out)["letter"] == letter
    assert "1 entry of conclave:{p0}:dead cannot be read" in ended.err


def test_a_letter_is_shown_with_its_bytes_and_nothing_that_commands_a_terminal(desk: Any) -> None:
    data = b"\x1b]0;mine\x07" + bytes(range(256))
    letter = refused(desk, TRAINING, data)
    shown = desk("dead-letters", "show", letter[:10])
    assert shown.code == 0
    assert "\x1b" not in shown.out
    assert "\x07" not in shown.out
    assert "source   conclave:training@1700000000000-0" in shown.out
    assert "1b 5d 30 3b 6d 69 6e 65 07" in shown.out
    assert f"{len(data)} bytes" in shown.out
    assert "not possible: this release cannot read it either" in shown.out
    facts = json.loads(desk("dead-letters", "show", letter, "-o", "json").out)
    assert bytes.fromhex(facts["data"]) == data
    other = desk("dead-letters", "show", write(desk, of_feed("bad_row"), 1_700_000_000_001))
    assert "\x1b" not in other.out
    assert "correct the source, and feed it again" in other.out


@pytest.mark.parametrize("prefix", ["ffff", ""])
def test_a_letter_that_is_not_there_is_named(desk: Any, prefix: str) -> None:
    write(desk, of_feed("bad_row"))
    ended = desk("dead-letters", "show", prefix)
    assert ended.code == 2
    assert "0 dead letters have an id that begins with" in ended.err


def test_a_request_that_became_a_job_is_not_made_twice(two: Any) -> None:
    letter = refused(two, TRAINING, REQUEST.data)
    ended = two("dead-letters", "retry", letter, *WHY)
    assert ended.code == 1
    assert "is waiting" in ended.err
    assert len(entries(two, TRAINING)) == 1


def test_an_entry_whose_bytes_are_in_the_letter_alone_is_appended_again(two: Any) -> None:
    gone = Entry(TRAINING, "1600000000000-0", REQUEST.data)
    assert len(REQUEST.data) < 1_000
    letter = write(two, dead_letter("trainer", gone, "unreadable", "too new"))
    ended = two("dead-letters", "retry", letter, *WHY)
    assert ended.code == 0, ended.err
    [entry] = entries(two, TRAINING)
    assert entry.data == REQUEST.data
    [note] = retried(two)
    assert (note.letter, note.entry, note.actor, note.reason) == (letter, entry.id, "ada", "this release can read it")

    async def jobs(log: Log) -> list[str]:
        return [job.id for job in await TrainingWriter(log).read()]

    assert two.with_log(jobs) == [REQUEST.envelope.id.hex()]
    [row] = listed(two)
    assert row["retried"]["actor"] == "ada"
    assert "nothing was appended" in two("dead-letters", "retry", letter, *WHY).out
    assert (len(entries(two, TRAINING)), len(retried(two))) == (1, 1)


def test_a_request_for_a_stacker_is_appended_again_as_one_job(two: Any) -> None:
    [asked] = [each for each in examples() if isinstance(each.envelope.event, StackerRequested)][:1]
    gone = Entry(TRAINING, "1600000000000-0", asked.data)
    letter = write(two, dead_letter("trainer", gone, "unreadable", "too new"))
    assert two("dead-letters", "retry", letter, *WHY).code == 0
    assert "nothing was appended" in two("dead-letters", "retry", letter, *WHY).out

    async def fits(log: Log) -> list[str]:
        return list((await TrainingWriter(log).read()).fits)

    assert two.with_log(fits) == [asked.envelope.id.hex()]
    other = encode("training", replace(asked.envelope.event, reason="another"))
    later = dead_letter("trainer", Entry(TRAINING, "1600000000001-0", other.data), "unreadable", "too new")
    refused_now = two("dead-letters", "retry", write(two, later, 10**13), *WHY)
    assert (refused_now.code, "is waiting; wait until it ends" in refused_now.err) == (1, True)
    assert len(two.with_log(fits)) == 1


def test_a_bar_is_appended_again_unless_a_later_one_of_its_symbol_followed(desk: Any) -> None:
    letter = refused(desk, MARKET, bar(60_000), service="feature-builder")
    put(desk, MARKET, bar(120_000, "ETHUSDT"), "1700000000001-0")
    assert desk("dead-letters", "retry", letter, *WHY).code == 0
    assert [entry.data for entry in entries(desk, MARKET)].count(bar(60_000)) == 2
    late = write(
        desk, dead_letter("feature-builder", Entry(MARKET, "1600000000000-0", bar(30_000)), "unreadable", "x"), 10**13
    )
    ended = desk("dead-letters", "retry", late, *WHY)
    assert ended.code == 1
    assert "would be out of order" in ended.err
    assert len(retried(desk)) == 1


@pytest.mark.parametrize(
    ("stream", "reason", "why"),
    [
        ("market", "handler_failed", "other services have handled this bar"),
        ("market", "duplicate", "refused for its order"),
        ("market", "impossible_prices", "correct the source"),
        ("features", "unreadable", "would be a forgery"),
        ("predictions", "handler_failed", "would be a forgery"),
        ("decisions", "unreadable", "would be a forgery"),
        ("scores", "unreadable", "would be a forgery"),
        ("gates", "unreadable", "would be a forgery"),
    ],
)
def test_what_must_not_be_appended_again_is_refused_with_the_reason(
    desk: Any, stream: str, reason: Refusal, why: str
) -> None:
    data = next(each.data for each in examples() if each.stream == stream)
    letter = refused(desk, StreamKey(stream), data, reason)
    before = len(entries(desk, StreamKey(stream)))
    ended = desk("dead-letters", "retry", letter, *WHY)
    assert ended.code == 1
    assert why in ended.err
    assert len(entries(desk, StreamKey(stream))) == before
    assert retried(desk) == []


def test_a_report_of_the_trainer_is_no_request(two: Any) -> None:
    training = [each for each in examples() if each.stream == "training"]
    report = next(each for each in training if not isinstance(each.envelope.event, TrainingRequested))
    letter = write(two, dead_letter("trainer", Entry(TRAINING, "1-0", report.data), "unreadable", "too new"))
    assert "only the trainer may write it" in two("dead-letters", "retry", letter, *WHY).err


def test_an_entry_of_which_only_the_beginning_is_left_is_not_appended(desk: Any) -> None:
    letter = write(desk, dead_letter("trainer", Entry(TRAINING, "1-0", b"x" * 5_000), "unreadable", "too new"))
    assert "neither on the stream nor in the archive" in desk("dead-letters", "retry", letter, *WHY).err


def test_nothing_is_retried_without_a_reason_that_can_be_recorded(two: Any) -> None:
    letter = write(two, dead_letter("trainer", Entry(TRAINING, "1-0", REQUEST.data), "unreadable", "too new"))
    assert two("dead-letters", "retry", letter).code == 2
    assert two("dead-letters", "retry", letter, "--reason", "").code == 2
    assert two("dead-letters", "retry", letter, "--reason", "x", "--actor", "a" * 65).code == 2
    assert entries(two, TRAINING) == []


def test_bytes_are_shown_in_lines_of_sixteen() -> None:
    assert list(hexdump(b"abc\x00" * 5))[1] == f"{16:08x}  {'61 62 63 00':<47}  abc."
    assert list(hexdump(b"")) == []
