"""The pages and the API, as a browser and a client get them from a real server."""

import html
import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from schemas.codec import encode
from schemas.control import Halt
from services.observatory.web.live import patch_of, updates
from services.observatory.web.models import DRAWINGS
from services.observatory.web.shield import HEADERS, hostname
from services.observatory.web.site import SHORTEST_S, View
from shared.control.issuing import issue
from shared.features.table import FEATURES
from shared.log import StreamKey
from tests.services.observatory.conftest import Served
from tests.services.observatory.events import decision

pytestmark = pytest.mark.anyio
PAGES = (
    "/",
    "/models",
    "/health",
    "/training",
    "/whatif",
    "/history",
    "/history?page=1&version=2",
    "/?search=BTC&page=2",
)


async def answer(served: Served, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=served.url, timeout=30, trust_env=False) as client:
        return await client.request(options.pop("method", "GET"), path, **options)


async def api(served: Served, path: str) -> Any:
    found = await answer(served, f"/api/v1/{path}")
    assert found.status_code == 200, found.text
    return found.json()


async def paths(served: Served) -> list[str]:
    """A path of each screen."""
    series = (await api(served, "now"))["series"][0]
    shown = await api(served, "models")
    artifact = shown["models"][0]["artifacts"][0]["artifact"]
    return [
        *PAGES,
        f"/symbol?name={series['name']}",
        f"/decision/{series['decision']['id']}",
        f"/models/{artifact}",
    ]


async def test_every_answer_has_strict_headers_and_no_page_has_anything_inline_or_from_outside(served: Served) -> None:
    for path in [*await paths(served), "/healthz", "/api/openapi.json", "/api/v1/now", "/nothing", "/decision/zz"]:
        found = await answer(served, path)
        for name, value in HEADERS:
            assert found.headers.get_list(name.decode()) == [value.decode()], path
        assert found.headers["cache-control"] == "no-store"
        assert "server" not in found.headers
        if found.headers["content-type"].startswith("text/html"):
            page = found.text
            assert not re.search(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son\w+=|javascript:", page), path
            loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=\"([^\"]*)\"", page)
            assert loaded
            assert all(address.startswith("/assets/") for address in loaded), path


async def test_every_screen_answers_and_leads_nowhere_that_does_not(served: Served) -> None:
    seen, left = set[str](), await paths(served)
    while left:
        path = left.pop()
        if path in seen or len(seen) > 30:
            continue
        seen.add(path)
        found = await answer(served, path)
        assert found.status_code == 200, path
        if "text/html" in found.headers["content-type"]:
            links = re.findall(r"(?:href|src|hx-get)=\"(/[^\"#]*)\"", found.text.replace("&amp;", "&"))
            left += [link for link in dict.fromkeys(links) if not link.startswith("/live")][:25]
    assert len(seen) > 15


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:8420"])
async def test_a_request_for_another_host_is_refused(served: Served, host: str) -> None:
    found = await answer(served, "/", headers={"host": host})
    assert found.status_code == 421
    assert "names in [observatory]" in found.text


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "LOCALHOST:9", "[::1]:8420"])
async def test_loopback_has_several_names(served: Served, host: str) -> None:
    assert (await answer(served, "/", headers={"host": host})).status_code == 200


def test_the_name_in_a_host_header() -> None:
    assert [hostname(text) for text in ("A.b:80", "[::1]", "[::1]:8", "x")] == ["a.b", "::1", "::1", "x"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_nothing_can_be_changed(served: Served, method: str) -> None:
    for path in ("/", "/api/v1/now", "/history"):
        found = await answer(served, path, method=method)
        assert (found.status_code, found.headers["allow"]) == (405, "GET, HEAD")


async def test_an_error_says_what_was_expected(served: Served) -> None:
    assert (await answer(served, "/api/v1/symbol?name=x")).json()["detail"].startswith("there is no series 'x'")
    assert (await answer(served, "/api/v1/versions/99")).json()["status_code"] == 404
    assert (await answer(served, "/api/v1/now?page=many")).status_code == 400
    assert "conclave blame" in (await answer(served, f"/decision/{'0' * 32}")).text
    assert (await answer(served, "/decision/%3Cscript%3E")).text.count("<script>") == 0


async def test_a_decision_is_traced_link_by_link_and_verified_again(served: Served) -> None:
    series = (await api(served, "now"))["series"]
    name = next(one["decision"]["id"] for one in series)
    found = await api(served, f"decisions/{name[:12]}")
    assert found["id"] == name
    outcomes = {link["what"]: link["outcome"] for link in found["links"]}
    assert {outcomes[what] for what in ("decision", "configuration", "lightgbm's vector", "lightgbm's bar")} == {
        "checked"
    }
    assert "failed" not in outcomes.values()
    assert found["limited"] == []
    assert sum(ballot["weight"] for ballot in found["ballots"]) == pytest.approx(1.0)
    parts = {each["name"]: each["part"] for vector in found["vectors"] for each in vector["features"]}
    assert all(parts[name] in range(1, 11) for name in parts if not FEATURES[name].calendar)
    assert {parts[name] for name in parts if FEATURES[name].calendar} == {0}  # no edges are recorded of these
    part = await answer(served, f"/decision/{name}/check", headers={"hx-request": "true"})
    assert 'id="chain"' in part.text
    assert "<html" not in part.text


async def test_a_decision_that_was_changed_on_the_log_does_not_follow(served: Served) -> None:
    projection = served.site.projection
    series = next(iter(projection.state.series.values()))
    assert series.decision is not None
    place, entry = StreamKey("decisions", series.partition), series.decision.entry
    log: Any = projection.log
    streams = log.image()
    (at,) = [n for n, each in enumerate(await log.scan(place)) if each.id == entry]
    entries = await log.scan(place)
    changed = entries[at].data.replace(b'"confidence":0.', b'"confidence":0.9', 1)
    assert changed != entries[at].data
    served.site.projection.log = Changed(log, entry, changed)
    found = await api(served, f"decisions/{series.decision.id}")
    assert found["outcome"] == "failed"
    assert next(link for link in found["links"] if link["what"] == "decision")["outcome"] == "failed"
    assert log.image() is not streams


class Changed:
    """A log that gives one entry with other bytes."""

    def __init__(self, log: Any, entry: str, data: bytes) -> None:
        self._log, self._entry, self._data = log, entry, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def scan(self, place: StreamKey, **span: Any) -> list[Any]:
        entries = await self._log.scan(place, **span)
        return [each._replace(data=self._data) if each.id == self._entry else each for each in entries]


async def test_an_artifact_shows_how_long_it_loaded_and_the_memory_of_its_process(served: Served) -> None:
    shown = await api(served, "models")
    for artifact in (each for model in shown["models"] for each in model["artifacts"]):
        assert re.fullmatch(r"ready in [\d.]+ m?s, [\d,]+ MB", artifact["readiness"]["0"])


async def test_any_two_versions_are_compared_and_a_time_finds_its_version(served: Served) -> None:
    page = (await answer(served, "/history?version=3&against=5")).text
    assert "between version 3 and 5" in page
    for change in await api(served, "difference?before=3&after=5"):
        assert change["what"] in page
    assert "difference" not in (await answer(served, "/history?version=3&against=3")).text.split("What it changed")[1]
    newest = len(served.site.projection.control.states)
    issued = served.site.projection.control.envelopes[-1].event.at
    after = datetime.fromtimestamp(issued / 1000 + 60, UTC)
    assert f'data-version="{newest}"' in (await answer(served, f"/history?at={after:%Y-%m-%dT%H:%M}")).text
    for query, why in (
        ("at=1999-01-01T00:00", "Nothing was in force at 1999-01-01 00:00"),
        ("at=yesterday", "is no time"),
        ("version=3&against=x", "is no version"),
        (f"version=3&against={newest + 1}", f"There is no version {newest + 1}"),
    ):
        found = await answer(served, f"/history?{query}")
        assert found.status_code == 404
        assert why in html.unescape(found.text)


async def test_the_history_shows_each_version_and_its_difference(served: Served) -> None:
    page = await api(served, "history")
    assert (page["count"], page["intact"]) == (served.site.projection.newest.version, True)
    assert page["entries"][0]["head"] == page["head"] == served.site.projection.newest.head
    last = await api(served, f"versions/{page['count']}")
    assert last["entry"]["kind"] == "promote"
    assert [change["what"] for change in last["made"]] == ["logistic champion", *(c["what"] for c in last["made"][1:])]
    assert last["since"] == []
    assert (await api(served, f"difference?before={page['count']}&after={page['count']}")) == []
    assert (await api(served, f"versions?at={page['entries'][1]['at']}"))["version"] == page["entries"][1]["version"]
    part = await answer(served, "/history/version?version=2", headers={"hx-request": "true"})
    assert part.text.lstrip().startswith('<div id="version-shown"')


async def test_the_api_is_described_and_each_path_of_it_answers(served: Served) -> None:
    described = (await answer(served, "/api/openapi.json")).json()
    assert {method for path in described["paths"].values() for method in path} == {"get"}
    assert {path for path in described["paths"] if not path.startswith("/api/v1/")} == set()
    for path in described["paths"].values():
        assert path["get"]["summary"]
        assert path["get"]["description"]
    assert json.dumps(described).count("$ref") > 20


async def test_health_is_bad_while_the_server_does_not_answer(served: Served) -> None:
    await served.turn()
    assert (await answer(served, "/healthz")).status_code == 200
    served.site.projection.error = "no server"
    assert (await answer(served, "/healthz")).status_code == 503


async def test_an_open_page_gets_what_changed_and_nothing_else(served: Served) -> None:
    projection = served.site.projection
    series = next(iter(projection.state.series.values()))
    made = decision(1, "SELL", symbol="NEWUSDT")
    with anyio.fail_after(20):
        async with (
            httpx.AsyncClient(base_url=served.url, timeout=20, trust_env=False) as client,
            client.stream("GET", "/live?screen=now") as stream,
        ):
            assert stream.headers["content-type"].startswith("text/event-stream")
            events = patches(stream)
            assert f'id="s-{series.name.replace(".", "_2e_")}"' in await anext(events)
            await served.site.projection.log.append_at(
                StreamKey("decisions"), f"{projection.now}-0", encode("decisions", made).data
            )
            await served.turn()
            assert "NEWUSDT" in await anext(events)
            await issue(projection.log, Halt(), actor="ada", reason="an outage")
            await served.turn()
            halted = await anext(events)
            assert "HALTED" in halted
            assert 'id="side"' not in halted or "halted" in halted


async def patches(stream: httpx.Response) -> Any:
    """The parts of a page that a stream of updates carries, as HTML."""
    kind, data = "", list[str]()
    async for line in stream.aiter_lines():
        if line.startswith("event:"):
            kind = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:])
        elif not line and data:
            if kind == "patch":
                yield "\n".join(data)
            kind, data = "", []


async def test_all_who_look_at_one_page_share_its_rendering(served: Served) -> None:
    first = served.site.shared(View("now"))
    assert served.site.shared(View("now")) is first
    assert patch_of(None, first) is patch_of(None, first)
    assert patch_of(first, first) is None
    served.site.projection.mark("status")
    assert served.site.shared(View("now")) is first
    while time.monotonic() < first.again_at:
        await anyio.sleep(0.01)
    assert served.site.shared(View("now")).revision == served.site.projection.revision


@pytest.mark.parametrize("waited_s", [0.0, 2 * SHORTEST_S])
async def test_what_changes_while_a_rendering_is_shared_is_sent_after_it(served: Served, waited_s: float) -> None:
    projection, shown = served.site.projection, list[str]()
    served.site.shared(View("now"))
    await anyio.sleep(waited_s)  # how old the rendering is, not a wait for something
    stream = updates(served.site, View("now"))
    if waited_s:
        shown.append(str((await anext(stream)).data))
    await issue(projection.log, Halt(), actor="ada", reason="an outage")
    await served.turn()
    async with anyio.create_task_group() as tasks:

        async def follow() -> None:
            async for message in stream:
                shown.append(str(message.data))

        tasks.start_soon(follow)
        with anyio.fail_after(10):
            while "HALTED" not in "".join(shown):
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def test_a_card_is_drawn_again_only_if_its_series_changed(served: Served) -> None:
    first, second = served.site.now(View("now")).series[:2]
    assert served.site.card(first) is served.site.card(first)
    other = msgspec.structs.replace(first, words="another condition")
    assert served.site.card(other) != served.site.card(second)
    assert "another condition" in served.site.card(other)


async def test_the_page_of_an_artifact_does_not_wait_for_its_charts(served: Served) -> None:
    artifact = served.site.projection.newest.model("logistic").shadows[0]
    DRAWINGS.__init__()  # type: ignore[misc]  # as after a start
    page, part = f"/models/{artifact}", f"/models/{artifact}/evidence?partition=0"
    first = (await answer(served, page)).text
    assert f'hx-get="{part}"' in first
    assert "<figure>" not in first
    assert "<figure>" in (await answer(served, part)).text
    again = (await answer(served, page)).text
    assert "<figure>" in again
    assert "aria-busy" not in again
    assert (await answer(served, f"/models/{'0' * 64}/evidence")).status_code == 404
