"""Appending refused input again from the page: what is shown first, who may, what is recorded."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.access import InputRetried
from schemas.codec import Encoded, decode, encode
from schemas.documentation.examples import examples
from schemas.market import BarClosed
from schemas.operations import DeadLetter, DeadLetterRetried
from schemas.training import TrainingRequested
from services.observatory.web import retrying
from shared.log import Entry, StreamKey
from shared.log.connection import ServerError
from shared.log.memory import MemoryLog
from shared.runtime.entries import dead_letter
from tests.services.observatory.test_acting import WHY, Acted, cheap, csrf, running

__all__ = ["cheap"]  # a fixture of this module too
pytestmark = pytest.mark.anyio
DEAD, MARKET, TRAINING = StreamKey("dead"), StreamKey("market"), StreamKey("training")
[REQUEST] = [each for each in examples() if isinstance(each.envelope.event, TrainingRequested)][:1]
[BAR] = [each for each in examples() if isinstance(each.envelope.event, BarClosed)][:1]


@pytest.fixture
async def acted(tmp_path: Path) -> AsyncIterator[Acted]:
    async with running(tmp_path) as made:
        made.add("ada", "operator")
        made.add("vi", "viewer")
        yield made


async def refused(acted: Acted, letter: Encoded) -> str:
    """Write a dead letter, and let the observatory read it."""
    log = acted.log
    assert await log.append_at(DEAD, f"{await log.time()}-0", letter.data)
    await acted.site.projection.turn()
    return letter.envelope.id.hex()


def unread(place: StreamKey = TRAINING, data: bytes = REQUEST.data) -> Encoded:
    """The letter of an entry that is only in the letter."""
    return dead_letter("trainer", Entry(place, "1-0", data), "unreadable", "too new")


async def events(log: MemoryLog, place: StreamKey) -> list[object]:
    return [decode(place.stream, entry.data).event for entry in await log.scan(place)]


async def test_an_operator_sees_what_would_be_appended_and_appends_it_with_a_reason(acted: Acted) -> None:
    letter = await refused(acted, unread())
    async with acted.signed_in("ada") as client:
        path = f"/health/letters/{letter}/retry"
        assert path in (await client.get(f"/health/letters/{letter}")).text
        page = await client.get(path)
        assert f"the {len(REQUEST.data):,} bytes that were refused" in page.text
        assert await events(acted.log, TRAINING) == []
        fields = {"_csrf_token": csrf(page), "reason": " "}
        answer = await client.post(path, data=fields)
        assert (answer.status_code, "expected why, got nothing" in answer.text) == (409, True)
        done = await client.post(path, data={**fields, "reason": "this release reads it"})
        assert (done.status_code, "Appended to conclave:training" in done.text) == (200, True)
    [entry] = await acted.log.scan(TRAINING)
    assert entry.data == REQUEST.data
    note = (await events(acted.log, DEAD))[-1]
    assert isinstance(note, DeadLetterRetried)
    assert (note.letter, note.entry, note.actor, note.reason) == (letter, entry.id, "ada", "this release reads it")
    newest = (await acted.events())[-1]
    assert isinstance(newest, InputRetried)
    assert (newest.person, newest.by, newest.letter, newest.entry) == ("ada", "password", letter, entry.id)


async def test_what_was_retried_is_not_retried_again(acted: Acted) -> None:
    letter = await refused(acted, unread())
    async with acted.signed_in("ada") as client:
        fields = {"_csrf_token": csrf(await client.get("/act")), "reason": "again"}
        path = f"/health/letters/{letter}/retry"
        assert (await client.post(path, data=fields)).status_code == 200
        await acted.site.projection.turn()
        assert "it was appended again" in (await client.get(path)).text
        assert (await client.post(path, data=fields)).status_code == 409
    assert len(await acted.log.scan(TRAINING)) == 1


async def test_what_was_appended_and_not_recorded_is_only_recorded_by_the_next_retry(
    acted: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await refused(acted, unread())
    append = acted.log.append_at

    async def forbidden(place: StreamKey, entry_id: str, data: bytes) -> bool:
        if place == DEAD:
            raise ServerError("NOPERM")
        return await append(place, entry_id, data)

    async with acted.signed_in("ada") as client:
        fields = {"_csrf_token": csrf(await client.get("/act")), "reason": "again"}
        path = f"/health/letters/{letter}/retry"
        monkeypatch.setattr(acted.log, "append_at", forbidden)
        answer = await client.post(path, data=fields)
        assert (answer.status_code, "and not recorded" in answer.text) == (409, True)
        monkeypatch.undo()
        [entry] = await acted.log.scan(TRAINING)
        assert f"it has these bytes again already, as <code>{entry.id}" in (await client.get(path)).text
        done = await client.post(path, data=fields)
        assert (done.status_code, "Nothing was appended" in done.text) == (200, True)
    assert len(await acted.log.scan(TRAINING)) == 1
    assert isinstance((await events(acted.log, DEAD))[-1], DeadLetterRetried)


async def test_a_viewer_may_look_and_not_retry(acted: Acted) -> None:
    letter = await refused(acted, unread())
    async with acted.signed_in("vi") as client:
        path = f"/health/letters/{letter}/retry"
        part = (await client.get(f"/health/letters/{letter}")).text
        assert (path in part, f"conclave dead-letters retry {letter[:12]}" in part) == (False, True)
        fields = {"_csrf_token": csrf(await client.get("/")), "reason": "x"}
        for answer in (await client.get(path), await client.post(path, data=fields)):
            assert (answer.status_code, "may only look" in answer.text) == (403, True)
    assert await acted.log.scan(TRAINING) == []


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (
            encode("dead", DeadLetter(service="feed", source="a.csv:7", reason="bad_row", detail="no", raw="a,b")),
            "correct the source, and feed it again",
        ),
        (unread(StreamKey("gates"), b"x"), "would be a forgery"),
        (unread(data=b"x" * 5_000), "the entry is no longer on the stream"),
        (unread(data=b"x"), "this release cannot read it either"),
    ],
)
async def test_input_that_must_not_be_appended_is_refused_with_the_reason(
    acted: Acted, letter: Encoded, why: str
) -> None:
    name = await refused(acted, letter)
    async with acted.signed_in("ada") as client:
        path = f"/health/letters/{name}/retry"
        page = await client.get(path)
        assert (why in page.text, "Append it again now" in page.text) == (True, False)
        answer = await client.post(path, data={"_csrf_token": csrf(page), "reason": "x"})
        assert (answer.status_code, why in answer.text) == (409, True)
    assert not any(isinstance(event, DeadLetterRetried) for event in await events(acted.log, DEAD))


async def test_a_bar_is_appended_where_the_server_lets_this_user_and_else_the_command_is_shown(
    acted: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await refused(acted, unread(MARKET, BAR.data))
    async with acted.signed_in("ada") as client:
        path = f"/health/letters/{letter}/retry"
        fields = {"_csrf_token": csrf(await client.get("/act")), "reason": "read now"}
        monkeypatch.setattr(retrying, "_user", lambda _: "observatory")
        for answer in (await client.get(path), await client.post(path, data=fields)):
            assert "As the user feed" in answer.text
            assert f"conclave dead-letters retry {letter[:12]}" in answer.text
        assert await acted.log.scan(MARKET) == []
        monkeypatch.setattr(retrying, "_user", lambda _: "")
        assert (await client.post(path, data=fields)).status_code == 200
    assert [entry.data for entry in await acted.log.scan(MARKET)] == [BAR.data]


async def test_a_program_retries_by_its_token(acted: Acted) -> None:
    letter = await refused(acted, unread())
    path = f"/api/v1/letters/{letter[:12]}/retry"
    look, act = (acted.file.add_token(role, role, WHY) for role in ("viewer", "operator"))
    async with acted.client() as client:
        for token, status in (("x", 401), (look, 403)):
            answer = await client.post(path, json={"reason": "x"}, headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == status, answer.text
        done = await client.post(path, json={"reason": "x"}, headers={"authorization": f"Bearer {act}"})
        [entry] = await acted.log.scan(TRAINING)
        assert done.json() == {"stream": "conclave:training", "entry": entry.id, "before": False}
        unknown = await client.post(
            "/api/v1/letters/ffffff/retry", json={"reason": "x"}, headers={"authorization": f"Bearer {act}"}
        )
        assert unknown.status_code == 404
    newest = (await acted.events())[-1]
    assert isinstance(newest, InputRetried)
    assert (newest.person, newest.by) == ("operator", "token")
