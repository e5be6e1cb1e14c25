"""The screen Health: services, the doctor, the archive and dead letters."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.replayed import Replayed
from schemas.codec import encode
from schemas.operations import DeadLetter, DeadLetterRetried
from services.observatory import core
from services.observatory.core import State
from services.observatory.doctor import Doctor, archive_of
from services.observatory.screens import health
from services.observatory.screens.now import Around
from shared.control.state import State as Control
from shared.doctor.diagnosis import KnownControl, diagnose
from shared.log import GroupView, Position, StreamKey
from tests.services.observatory.busy import make_busy, no_server
from tests.services.observatory.conftest import Served
from tests.services.observatory.events import BEGIN
from tests.services.observatory.test_web import answer, api

pytestmark = pytest.mark.anyio


def view(group: str, lag: int, *, alive: bool = True) -> GroupView:
    return GroupView(group, 0, 3, "here 1", alive, {"market": Position(f"{BEGIN}-4", 9)}, {"market": lag})


def test_services_that_do_not_run_come_first_and_then_the_one_with_most_to_read() -> None:
    views = [view("a", 1), view("b", 70), view("c", 0, alive=False)]
    screen = health.screen(State(), Control(), Around(now=BEGIN, views=views), apart_ms=40)
    assert [one.group for one in screen.services] == ["c", "b", "a"]
    assert (screen.running, screen.expected, screen.lag, screen.apart_ms) == (2, 3, 71, 40)
    assert screen.services[0].positions == (health.PositionShown("market", f"{BEGIN}-4", BEGIN, 0),)


def test_a_dead_letter_keeps_its_place_and_shows_by_whom_it_was_retried() -> None:
    state = State()
    letter = encode("dead", DeadLetter(service="feed", source="a:1", reason="bad_row", detail="no row", raw="x"))
    name = letter.envelope.id.hex()
    core.apply(state, StreamKey("dead", 2), f"{BEGIN}-7", letter.envelope)
    retried = DeadLetterRetried(letter=name, source="a:1", entry="1-0", actor="ada", reason="mended", at=BEGIN)
    core.apply(state, StreamKey("dead", 2), f"{BEGIN}-8", encode("dead", retried).envelope)
    (shown,) = health.screen(state, Control(), Around(now=BEGIN)).letters
    assert (shown.id, shown.partition, shown.at, shown.retried) == (name, 2, BEGIN, "by ada: mended")
    assert state.letters.count == 1
    assert core.initial(core.snapshot(state)).letters == state.letters


async def test_the_page_makes_the_checks_of_the_console(
    served: Served, replayed: Replayed, empty_redis_url: str, tmp_path: Path
) -> None:
    await make_busy(served, replayed, empty_redis_url, tmp_path)
    projection = served.site.projection
    known = KnownControl(projection.newest, 0)
    console = await diagnose(served.site.settings, "conclave:console", known)
    shown = await api(served, "doctor")
    assert (shown["fault"], shown["verdict"]) == ("", console.verdict)
    expected = {(check.what, check.verdict) for check in (*console.server, *console.machine)}
    assert {(check["what"], check["verdict"]) for check in shown["checks"]} == expected
    assert shown["facts"].keys() == console.facts.keys()
    assert {one["stream"] for one in shown["archive"]["streams"]} >= {"conclave:{p0}:market", "conclave:control"}
    ranks = [("wrong", "unknown", "open", "good").index(check["verdict"]) for check in shown["checks"]]
    assert ranks == sorted(ranks)


async def test_a_server_that_does_not_answer_is_a_result_not_a_failure(served: Served) -> None:
    served.site.doctor = Doctor(served.site.projection, no_server())
    shown = await api(served, "doctor")
    assert shown["verdict"] == "wrong"
    assert "no server at" in shown["fault"]
    assert [check["what"] for check in shown["checks"]] == ["state folder"]
    assert "could not be made" in (await answer(served, "/health/doctor")).text


async def test_all_who_ask_at_once_share_one_result(served: Served) -> None:
    served.site.doctor = Doctor(served.site.projection, no_server())
    first, second = await served.site.doctor.examine(), await served.site.doctor.examine()
    assert first is second


def test_an_archive_that_is_damaged_is_named(replayed: Replayed, tmp_path: Path) -> None:
    from bench.replayed import seal_all
    from shared.settings import Archive, Settings

    seal_all(replayed, tmp_path)
    settings = Settings(archive=Archive(path=str(tmp_path)))
    assert archive_of(settings, BEGIN).fault == ""
    file = next((tmp_path / "p0" / "market").iterdir())
    file.write_bytes(b"nothing" + file.read_bytes())
    assert "market" in archive_of(settings, BEGIN).fault


async def test_a_letter_is_shown_with_its_input_and_the_commands_that_retry_it(
    served: Served, replayed: Replayed, empty_redis_url: str, tmp_path: Path
) -> None:
    await make_busy(served, replayed, empty_redis_url, tmp_path)
    letters: list[Any] = (await api(served, "health"))["letters"]
    assert [letter["service"] for letter in letters] == ["trainer", "feed"]
    shown = await api(served, f"letters/{letters[1]['id'][:8]}")
    assert shown["raw"].endswith("nan,12.5")
    part = (await answer(served, f"/health/letters/{letters[1]['id']}")).text
    assert f"conclave dead-letters retry {letters[1]['id'][:12]}" in part
    assert "by ada: a new release" in (await answer(served, f"/health/letters/{letters[0]['id']}")).text
    refused = await answer(served, "/api/v1/letters/zz")
    assert refused.status_code == 404
    assert "conclave dead-letters list" in json.loads(refused.text)["detail"]
