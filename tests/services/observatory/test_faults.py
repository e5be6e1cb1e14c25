"""What a browser is shown when a request is refused or fails: a page that says what to do, never a bare line."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.observatory.web.faults import ADVICE, page_of
from services.observatory.web.sessions import SIGN_INS
from services.observatory.web.shield import HEADERS
from shared.log import UnavailableError
from tests.services.observatory.test_acting import PASSWORD, Acted, cheap, csrf, running, sign_in

__all__ = ["cheap"]  # a fixture of this module too
pytestmark = pytest.mark.anyio
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
async def acted(tmp_path: Path) -> AsyncIterator[Acted]:
    async with running(tmp_path) as made:
        yield made


def shown(answer: Any, status: int, *words: str) -> None:
    """Check that an answer is a page of the house, with these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert {name.decode() for name, _ in HEADERS} <= answer.headers.keys()
    assert "<h1>" in answer.text
    assert 'class="brand"' in answer.text
    assert [word for word in words if word not in answer.text] == []


async def test_where_nobody_signs_in_a_page_says_who_adds_people(acted: Acted) -> None:
    async with acted.client(headers=BROWSER) as client:
        for answer in (
            await client.get("/act"),
            await client.get("/key"),
            await client.get("/health/letters/aa/retry"),
        ):
            shown(answer, 403, "This observatory only shows", "conclave observatory user add NAME --role operator")
        shown(await client.post("/act/halt", data={}), 405, "This observatory only shows")


async def test_each_refusal_is_a_page_that_says_what_to_do(acted: Acted) -> None:
    acted.add("vi", "viewer")
    acted.add("ada", "operator")
    async with acted.signed_in("ada") as client:
        client.headers.update(BROWSER)
        token = csrf(await client.get("/act"))
        fields = {"_csrf_token": token, "reason": "x"}
        shown(await client.get("/nothing"), 404, "There is nothing at this address")
        shown(await client.get("/act/fly"), 404, "there is no form", "halt")
        shown(await client.get("/?page=x"), 400, "The request cannot be read", "page")
        shown(await client.post("/act/halt", data={"reason": "x"}), 403, "older than your sign-in", 'href="/act"')
        shown(await client.post("/models", data=fields), 405, "Nothing can be changed at this address")
        shown(await client.request("DELETE", "/models"), 405, "expected GET, HEAD or POST")
        long = await client.post("/act/halt", data={**fields, "reason": "x" * 20_000})
        shown(long, 413, "That is too long")
        client.cookies.delete("conclave_session")
        shown(await client.post("/act/halt", data=fields), 401, "Sign in, and send it again", "/sign-in?go=/act")
    async with acted.signed_in("vi") as client:
        client.headers.update(BROWSER)
        shown(await client.get("/act/promote"), 403, "vi is a viewer and may only look")


async def test_too_many_sign_ins_are_a_page(acted: Acted) -> None:
    acted.add("ada", "operator")
    async with acted.client(headers=BROWSER) as client:
        for _ in range(SIGN_INS):
            assert (await sign_in(client, "ada", "x")).status_code == 403
        shown(await sign_in(client, "ada", PASSWORD), 429, "Wait a minute, then sign in again")


async def test_a_failure_inside_is_a_page_without_what_failed(acted: Acted, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a secret")

    def unreachable(*_: Any) -> Any:
        raise UnavailableError("Redis at 127.0.0.1:6399 does not answer")

    async with acted.client(headers=BROWSER) as client:
        monkeypatch.setattr(type(acted.site), "status", broken)
        answer = await client.get("/")
        shown(answer, 500, "decisions go on")
        assert "a secret" not in answer.text
        monkeypatch.setattr(type(acted.site), "status", unreachable)
        shown(await client.get("/"), 503, "does not answer")


@pytest.mark.parametrize(
    ("path", "headers", "kind"),
    [
        ("/api/v1/nothing", BROWSER, "application/json"),
        ("/nothing", {"accept": "application/json"}, "application/json"),
        ("/nothing", {"accept": "*/*"}, "text/plain"),
        ("/nothing", {**BROWSER, "hx-request": "true"}, "text/plain"),
    ],
)
async def test_programs_and_parts_of_pages_are_answered_without_a_page(
    acted: Acted, path: str, headers: dict[str, str], kind: str
) -> None:
    async with acted.client(headers=headers) as client:
        answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith(kind)


async def test_another_host_is_answered_with_a_line(acted: Acted) -> None:
    async with acted.client(headers={**BROWSER, "host": "evil.example"}) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (421, "text/plain; charset=utf-8")


def test_what_is_shown_is_escaped_and_a_status_alone_is_not_repeated() -> None:
    assert "<script" not in page_of(400, "<script>alert(1)</script>", "/")
    assert 'role="alert"' not in page_of(404, "Not Found", "/x")
    assert all(each.title in page_of(status, "", "/") for status, each in ADVICE.items())
