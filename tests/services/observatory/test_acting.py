"""Signing in, and acting: who may, what is shown first, what is recorded."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.installation import free_port
from bench.toy import market
from schemas.access import Role
from schemas.codec import decode
from schemas.control import Found, Halt, Promote, Resume, SetVotingPolicy, TrustKey
from services.observatory.projection import Projection
from services.observatory.signins import ACCESS, SignIns
from services.observatory.web.sessions import SIGN_INS, Access, local
from services.observatory.web.shield import HEADERS
from services.observatory.web.site import Site
from shared import people
from shared.artifacts import ArtifactStore
from shared.artifacts.registration import registration
from shared.commands.desk import CommandDesk
from shared.control.issuing import current, history, issue
from shared.control.signing import Signer, sign
from shared.features import SETS
from shared.log.memory import MemoryLog
from shared.people import Cause, PeopleFile, Person, hashed
from shared.runtime.clock import ServerClock
from shared.settings import ObservatorySettings
from shared.training.fitting import train
from shared.training.ledger import TRAINING
from tests.services.observatory.conftest import serving
from tests.shared.control.test_issuing import A1, A2, artifact

WHY = Cause("me", "a test")
pytestmark = pytest.mark.anyio
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that take no time: what argon2 costs is its own affair."""
    from argon2 import PasswordHasher

    people._any_hash.cache_clear()
    monkeypatch.setattr(people, "_hasher", lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


class Acted:
    """A running observatory with people, and its log."""

    def __init__(self, folder: Path, log: MemoryLog, settings: ObservatorySettings) -> None:
        self.folder, self.log, self.settings = folder, log, settings
        self.url = f"http://127.0.0.1:{settings.port}"
        self.file = PeopleFile(folder / people.FILE)
        self.store = ArtifactStore(folder / "artifacts")
        self.site: Site

    def add(self, name: str, role: Role, password: str = PASSWORD) -> None:
        self.file.add(Person(name, role, hashed(password) if password else ""), WHY)

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False, **options)

    @asynccontextmanager
    async def signed_in(self, name: str, password: str = PASSWORD) -> AsyncIterator[httpx.AsyncClient]:
        async with self.client() as client:
            answer = await sign_in(client, name, password)
            assert answer.status_code == 303, answer.text
            yield client

    async def events(self) -> list[Any]:
        return [decode("access", entry.data).event for entry in await self.log.scan(ACCESS)]


async def sign_in(client: httpx.AsyncClient, name: str, password: str, go: str = "/act") -> httpx.Response:
    await client.get("/sign-in")
    fields = {"name": name, "password": password, "go": go, "_csrf_token": client.cookies["conclave_csrf"]}
    return await client.post("/sign-in", data=fields)


def csrf(page: httpx.Response) -> str:
    found = re.search(r'name="csrf-token" content="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


def hidden(page: httpx.Response, form: str) -> dict[str, str]:
    """The hidden fields of a form of a page."""
    inside = page.text[page.text.index(form) :]
    inside = inside[: inside.index("</form>")]
    return dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', inside))


async def post_json(client: httpx.AsyncClient, path: str, body: Any) -> httpx.Response:
    token = csrf(await client.get("/act"))
    return await client.post(path, json=body, headers={"x-csrftoken": token, "accept": "application/json"})


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Acted]:
    log = MemoryLog()
    first = (Found(1, "log-of-a-test"), SetVotingPolicy(quorum_count=1), artifact(A1), artifact(A2))
    for command in (*first, Promote("a", A1, forced=True, weight=1.0)):
        await issue(log, command, actor="ada", reason="test")
    acted = Acted(folder, log, ObservatorySettings(port=free_port(), **settings))
    projection = Projection(log, 1, folder / "observatory.bin", clock=ServerClock())
    await projection.begin()
    await projection.turn()
    site = Site(
        projection,
        acted.store,
        anyio.Event(),
        access=Access(folder, acted.settings, SignIns(log)),
        desk=CommandDesk(log, ("a",)),
    )
    acted.site = site
    async with serving(site, acted.settings):
        yield acted


@pytest.fixture
async def acted(tmp_path: Path) -> AsyncIterator[Acted]:
    async with running(tmp_path) as made:
        yield made


async def test_without_people_everybody_looks_and_nobody_acts(acted: Acted) -> None:
    async with acted.client() as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert "set-cookie" not in page.headers
        assert "acting.js" not in page.text
        for path in ("/act/halt", "/sign-in", "/api/v1/acts/issue"):
            refused = await client.post(path, json={})
            assert refused.status_code == 405
            assert "conclave observatory user add" in refused.text
        assert (await client.get("/act")).status_code == 403


async def test_with_people_nothing_is_shown_to_those_who_have_not_signed_in(acted: Acted) -> None:
    acted.add("ada", "operator")
    async with acted.client() as client:
        for path in ("/", "/models", "/history?version=2", "/act", "/key", "/symbol?name=x", "/health", "/whatif"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path
        for path in ("/api/v1/now", "/live?screen=now", "/api/openapi.json"):
            assert (await client.get(path)).status_code == 401, path
        assert (await client.get("/healthz")).status_code == 200
        page = await client.get("/sign-in")
        assert "HALTED" not in page.text
        for name, value in HEADERS:
            assert page.headers.get_list(name.decode()) == [value.decode()]


async def test_a_session_is_a_strict_cookie_that_ends_with_its_person_password_or_sign_out(acted: Acted) -> None:
    acted.add("ada", "operator")
    async with acted.signed_in("ada") as client:
        page = await client.get("/act")
        cookies = {each.partition("=")[0]: each for each in page.headers.get_list("set-cookie")}
        for word in ("HttpOnly", "SameSite=strict", "Max-Age=43200"):
            assert word in cookies["conclave_session"]
        copied = dict(client.cookies)
        await client.post("/sign-out", data={"_csrf_token": csrf(page)})
        assert (await client.get("/act")).status_code == 303
    async with acted.client(cookies=copied) as thief:
        assert (await thief.get("/act")).status_code == 303
        again = Access(acted.folder, acted.settings, SignIns(acted.log))  # as after a restart
        acted.site.access._ended = again._ended  # type: ignore[union-attr]  # it has people
        assert (await thief.get("/act")).status_code == 303
    (acted.folder / "observatory-ended.json").write_text("noise")
    assert "x" not in Access(acted.folder, acted.settings, SignIns(acted.log))._ended
    async with acted.signed_in("ada") as client:
        acted.add("ada", "operator", "another password")
        assert (await client.get("/act")).status_code == 303
    async with acted.signed_in("ada", "another password") as client:
        acted.file.remove("ada", WHY)
        acted.add("bo", "viewer")
        assert (await client.get("/act")).status_code == 303
    names = [type(event).__name__ for event in await acted.events()]
    assert names == ["SignedIn", "SignedOut", "SignedIn", "SignedIn"]


async def test_wrong_names_and_passwords_are_refused_alike_recorded_and_limited(acted: Acted) -> None:
    acted.add("ada", "operator")
    async with acted.client() as client:
        wrong = await sign_in(client, "ada", "wrong")
        unknown = await sign_in(client, "eve", PASSWORD)
        assert wrong.status_code == unknown.status_code == 403
        assert "Name and password do not fit" in wrong.text
        assert "conclave_session" not in client.cookies
        answers = [(await sign_in(client, "<b>\x00", "wrong")).status_code for _ in range(SIGN_INS)]
        assert answers == [403] * (SIGN_INS - 2) + [429, 429]
        assert (await sign_in(client, "ada", PASSWORD)).status_code == 429
    refused = [(event.person, event.reason) for event in await acted.events()]
    assert refused[:3] == [("ada", "password"), ("eve", "unknown"), ("(not a name)", "unknown")]
    assert refused[SIGN_INS:] == [("(not read)", "limit")]


async def test_a_form_of_another_site_is_refused(acted: Acted) -> None:
    acted.add("ada", "operator")
    async with acted.signed_in("ada") as client:
        for path in ("/act/halt/issue", "/act/halt/draft", "/sign-out", "/act/submit"):
            assert (await client.post(path, data={"reason": "x"})).status_code == 403, path
            assert (await client.post(path, json={}, headers={"x-csrftoken": "0" * 128})).status_code == 403, path
    assert not (await current(acted.log)).halted


async def test_a_viewer_looks_and_does_not_act(acted: Acted) -> None:
    acted.add("vi", "viewer")
    async with acted.signed_in("vi") as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert "data-halt" not in page.text
        token = {"_csrf_token": csrf(page)}
        for path in ("/act", "/act/halt", "/key"):
            assert (await client.get(path)).status_code == 403
        for path in ("/act/halt", "/act/halt/issue"):
            refused = await client.post(path, data={**token, "reason": "x", "command_id": "y"})
            assert refused.status_code == 403
            assert "vi is a viewer and may only look" in refused.text
    assert not (await current(acted.log)).halted


async def test_a_promotion_and_a_rollback_by_hand_show_first_what_they_change(acted: Acted) -> None:
    acted.add("ada", "operator")
    async with acted.signed_in("ada") as client:
        token = csrf(await client.get("/act/promote?model=a"))
        asked = {"_csrf_token": token, "model": "a", "artifact": "a2", "reason": "better <in> shadow"}
        refused = await client.post("/act/promote", data=asked)
        assert refused.status_code == 409
        assert "there is no verdict on it" in refused.text
        assert 'value="better &lt;in&gt; shadow"' in refused.text
        shown = await client.post("/act/promote", data={**asked, "forced": "yes"})
        assert "<s>a1a1a1a1a1a1</s>" in shown.text
        assert "<ins>a2a2a2a2a2a2</ins>" in shown.text
        assert (await current(acted.log)).version == 5
        fields = hidden(shown, 'class="confirm"')
        fields["reason"] = "better <in> shadow"
        done = await client.post("/act/promote/issue", data=fields)
        assert "Promote is version 6" in done.text
        again = await client.post("/act/promote/issue", data=fields)
        assert "recorded before, as version 6" in again.text
        shown = await client.post("/act/rollback", data={"_csrf_token": token, "reason": "worse"})
        await issue(acted.log, Halt(), actor="bo", reason="an outage")
        late = await client.post("/act/rollback/issue", data=hidden(shown, 'class="confirm"'))
        assert late.status_code == 409
        assert "7 halt by bo (an outage)" in late.text
        shown = await client.post("/act/rollback", data={"_csrf_token": token, "reason": "worse"})
        done = await client.post("/act/rollback/issue", data=hidden(shown, 'class="confirm"'))
        assert "Roll back is version 8" in done.text
    entries = (await history(acted.log))[5:]
    assert [(entry.actor, entry.reason) for entry in entries] == [
        ("ada", "better <in> shadow"), ("bo", "an outage"), ("ada", "worse"),
    ]  # fmt: skip
    assert (await current(acted.log)).model("a").champion == A1


async def test_a_training_request_is_shown_before_it_is_made_and_refused_in_words(acted: Acted) -> None:
    bars = {"AAA": market("AAA", 900, 0.5, 1)}
    made = train(bars, "prior", SETS["user-8"], source="toy", horizon=3, hold=0.5)
    digest = acted.store.save(*made)
    for command in (
        registration("a", digest, made.manifest),
        Promote("a", digest, forced=True, accept_changes=True, weight=1.0),
    ):
        await issue(acted.log, command, actor="ada", reason="test")
    acted.add("ada", "operator")
    async with acted.signed_in("ada") as client:
        token = csrf(await client.get("/act-training?model=a"))
        asked = {"_csrf_token": token, "model": "a", "days": "7", "reason": "a <new> month"}
        for wrong in ({"days": "0"}, {"days": "99999"}, {"days": "many"}, {"reason": " "}, {"model": "no such one!"}):
            for path in ("/act-training", "/act-training/request"):
                refused = await client.post(path, data={**asked, **wrong})
                assert refused.status_code == 409, (wrong, path)
                assert 'role="alert"' in refused.text
        shown = await client.post("/act-training", data=asked)
        assert "data of the last 7.0 days" in shown.text
        assert await acted.log.scan(TRAINING) == []
        fields = hidden(shown, 'action="/act-training/request"')
        assert "job" in (await client.post("/act-training/request", data={**fields, "reason": "a <new> month"})).text
    [entry] = await acted.log.scan(TRAINING)
    request = decode("training", entry.data).event
    assert (request.model, request.actor, request.cause, request.reason) == ("a", "ada", "operator", "a <new> month")
    assert (request.window_ms, request.recipe.family) == (7 * 86_400_000, "prior")


async def test_where_a_key_is_trusted_a_page_signs_and_the_server_cannot(acted: Acted) -> None:
    acted.add("ada", "operator")
    acted.add("bo", "operator")
    ada = Signer("ada", Ed25519PrivateKey.generate())
    await issue(acted.log, TrustKey("ada", ada.public_key, "Ada"), actor="ada", reason="test")
    asked = {"values": {}, "reason": "an outage", "command_id": "one"}
    async with acted.signed_in("ada") as client:
        unsigned = await post_json(client, "/act/halt/draft", asked)
        assert unsigned.status_code == 409
        assert "load your key" in unsigned.json()["detail"]
        drafted = (await post_json(client, "/act/halt/draft", {**asked, "public_key": ada.public_key})).json()
        entry = drafted["entry"]
        await issue(acted.log, Halt(), actor="bo", reason="first", signer=ada)
        await issue(acted.log, Resume(), actor="bo", reason="over", signer=ada)
        signed = {"entry": entry, "signature": sign(entry.encode(), ada)}
        late = await post_json(client, "/act/submit", signed)
        assert (late.status_code, late.json()["overtaken"]) == (409, True)
        entry = (await post_json(client, "/act/halt/draft", {**asked, "public_key": ada.public_key})).json()["entry"]
        forged = {"entry": entry, "signature": "0" * 128}
        assert (await post_json(client, "/act/submit", forged)).status_code == 409
        spaced = {"entry": json.dumps(json.loads(entry)), "signature": "0" * 128}
        assert (await post_json(client, "/act/submit", spaced)).status_code == 400
        done = await post_json(client, "/act/submit", {"entry": entry, "signature": sign(entry.encode(), ada)})
        assert done.json()["version"] == 9, done.text
    async with acted.signed_in("bo") as other:
        another = await post_json(other, "/act/submit", signed)
        assert another.status_code == 403
        assert "the entry names 'ada', and 'bo' is signed in" in another.text
    newest = (await history(acted.log))[-1]
    assert (newest.key, newest.actor, newest.reason) == ("ada", "ada", "an outage")


async def test_a_person_of_the_proxy_is_whom_it_names_and_only_where_it_is_the_proxy(tmp_path: Path) -> None:
    async with running(tmp_path, proxy="127.0.0.1") as acted:
        acted.add("ada", "operator", password="")
        acted.add("vi", "viewer", password="")
        async with acted.client(headers={"x-forwarded-user": "ada"}) as client:
            page = await client.get("/act")
            assert page.status_code == 200
            assert "Secure" in page.headers["set-cookie"]
            for _ in range(2):
                assert (await client.get("/act", headers={"x-forwarded-user": "eve"})).status_code == 403
            cookie = re.search(r"conclave_session=([^;]+)", page.headers["set-cookie"])
            assert cookie is not None
        async with acted.client(headers={"cookie": f"conclave_session={cookie[1]}"}) as thief:
            assert (await thief.get("/act")).status_code == 303
        async with acted.client(headers={"x-forwarded-user": "vi"}) as client:
            assert (await client.get("/")).status_code == 200
            assert (await client.get("/act")).status_code == 403
        named = [(type(event).__name__, event.person) for event in await acted.events()]
        assert named.count(("SignInRefused", "eve")) == 1
        assert named[0] == ("SignedIn", "ada")
    async with (
        running(tmp_path, proxy="127.0.0.2") as acted,
        acted.client(headers={"x-forwarded-user": "ada"}) as other,
    ):
        assert (await other.get("/act")).status_code == 303
        assert (await other.get("/act", headers={"x-forwarded-for": "127.0.0.2"})).status_code == 303


async def test_a_program_acts_with_a_token_of_its_role_and_a_cookie_is_none(acted: Acted) -> None:
    acted.add("ada", "operator")
    operator, viewer = acted.file.add_token("robot", "operator", WHY), acted.file.add_token("eye", "viewer", WHY)
    body = {"command": {"type": "halt"}, "reason": "an outage", "command_id": "one"}
    async with acted.client() as client:

        def by(token: str) -> dict[str, str]:
            return {"authorization": f"Bearer {token}"}

        assert (await client.get("/api/v1/now", headers=by(viewer))).status_code == 200
        assert (await client.get("/api/v1/now", headers=by("wrong"))).status_code == 401
        assert (await client.get("/act", headers=by(operator))).status_code == 303
        assert (await client.post("/api/v1/acts/issue", json=body, headers=by(viewer))).status_code == 403
        assert (await client.post("/api/v1/acts/issue", json=body)).status_code == 401
        shown = await client.post("/api/v1/acts/preview", json={"command": {"type": "halt"}}, headers=by(operator))
        assert shown.json()["changes"] == [{"what": "halted", "before": "False", "after": "True"}]
        trusting = {"type": "trust_key", "key_id": "eve", "public_key": "0" * 64, "holder": "Eve"}
        refused = await client.post("/api/v1/acts/issue", json={**body, "command": trusting}, headers=by(operator))
        assert refused.status_code == 400
        done = await client.post("/api/v1/acts/issue", json=body, headers=by(operator))
        assert (done.status_code, done.json()["version"]) == (200, 6)
        late = await client.post(
            "/api/v1/acts/issue", json={**body, "command_id": "two", "expects": 5}, headers=by(operator)
        )
        assert late.status_code == 409
        assert "6 halt by robot" in late.json()["detail"]
    async with acted.signed_in("ada") as client:
        assert (await client.post("/api/v1/acts/issue", json=body)).status_code == 401
    assert (await current(acted.log)).halted


@pytest.mark.parametrize("go", ["//evil.example", "https://evil.example", "/\\evil.example", "/sign-out", "", "/a\nb"])
def test_nobody_is_led_elsewhere_after_the_sign_in(go: str) -> None:
    assert local(go) == "/"
    assert local("/history?version=3") == "/history?version=3"
