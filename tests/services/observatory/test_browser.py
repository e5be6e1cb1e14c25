"""The pages in a real browser: the system's Chromium, headless. Skipped where there is none.

``make screenshots`` also writes each screen to ``$SCREENSHOTS``: look at them after a change."""

import os
import shutil
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from bench.installation import free_port
from bench.replayed import Replayed
from schemas.codec import encode
from schemas.control import Halt
from schemas.orders import OrderPlaced
from services.observatory.computing import AskedMoney, AskedWhatif
from services.observatory.web.site import Site
from shared.audit.whatif import Changes
from shared.control.issuing import issue
from shared.control.signing import generate
from shared.log import StreamKey
from shared.log.redis import RedisLog
from shared.settings import ObservatorySettings
from tests.services.observatory.busy import make_busy, step
from tests.services.observatory.conftest import Served, more, serving
from tests.services.observatory.events import EVENT, decision
from tests.services.observatory.test_proof import made, promotion

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
AXE: Final = Path(__file__).parent / "axe" / "axe.min.js"
AXE_DIGEST: Final = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
"""axe-core 4.14.1 as published; licence MPL-2.0, beside it."""
SIZES: Final = {"desk": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}


ASKED: Final = AskedWhatif(Changes(weights={"logistic": 0.85}, policy={"edge": "0.02"}))


class Browser:
    """A browser, and what its pages complained of."""

    def __init__(self, browser: Any, base: str) -> None:
        self.browser, self.base = browser, base
        self.faults: list[str] = []

    async def page(self, size: str = "desk", scheme: str = "light") -> Any:
        context = await self.browser.new_context(viewport=SIZES[size], color_scheme=scheme)
        page = await context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: self.faults.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda sent: None if sent.url.startswith(self.base) else self.faults.append(sent.url))
        return page


@asynccontextmanager
async def browsing(url: str) -> AsyncIterator[Browser]:
    """A browser of the pages at ``url``, of which none may complain."""
    from playwright.async_api import async_playwright

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own transport
        async with async_playwright() as playwright:
            started = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            opened = Browser(started, url)
            yield opened
            await started.close()
    assert opened.faults == []


@pytest.fixture
async def browser(served: Served) -> AsyncIterator[Browser]:
    async with browsing(served.url) as opened:
        yield opened


async def screens(served: Served) -> dict[str, str]:
    """The address of each screen."""
    now = served.site.projection.state.series
    series = next(each for each in now.values() if each.decision is not None)
    assert series.decision is not None
    control = served.site.projection.newest
    artifact = control.model("logistic").shadows[0]
    jobs = served.site.projection.state.jobs
    return {
        "now": "/",
        "symbol": f"/symbol?name={series.name}",
        "decision": f"/decision/{series.decision.id}",
        "models": "/models",
        "money": "/money",
        "money-symbol": f"/money?symbol={series.name.partition('.')[0]}",
        "artifact": f"/models/{artifact}",
        "history": "/history",
        "proof": f"/history/{promotion(served)}/proof",
        "training": "/training",
        **{f"training-{one.job.state}": f"/training/{name}" for name, one in jobs.items() if one.steps},
        "whatif": f"/whatif?name={ASKED.name}",
        "health": "/health",
    }


@pytest.mark.long
async def test_every_screen_fits_desk_and_phone_has_no_serious_fault_of_access_and_asks_nothing_outside(
    served: Served, browser: Browser, replayed: Replayed, empty_redis_url: str, tmp_path: Path
) -> None:
    await make_busy(served, replayed, empty_redis_url, tmp_path / "state")
    trial = served.site.computations.start(ASKED)
    while trial.state != "done":
        assert trial.state in {"waiting", "running"}, trial.reason
        await anyio.sleep(0.05)
    await made(served, promotion(served))
    log = RedisLog(empty_redis_url)
    await more(log, replayed, 0.0, 1.0)
    await log.close()
    money = served.site.computations.start(AskedMoney())
    while money.state != "done":
        assert money.state in {"waiting", "running"}, money.reason
        await anyio.sleep(0.05)
    axe = AXE.read_text(encoding="utf-8")
    assert sha256(AXE.read_bytes()).hexdigest() == AXE_DIGEST
    folder = os.environ.get("SCREENSHOTS")
    for size, scheme in (("desk", "light"), ("desk", "dark"), ("phone", "light"), ("phone", "dark")):
        page = await browser.page(size, scheme)
        for name, path in (await screens(served)).items():
            await page.goto(served.url + path)
            await page.get_by_text("live", exact=True).wait_for()
            if name == "symbol":
                await page.locator("#hover a").wait_for()
            if name == "artifact":
                await page.locator("#evidence:not([aria-busy]) figure svg").first.wait_for()
            if name == "health":
                await page.locator("#doctor .checks li").first.wait_for()
            if folder:
                await page.wait_for_timeout(300)
                await page.screenshot(path=Path(folder) / f"{name}-{size}-{scheme}.png", full_page=True)
            wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{name} on {size} is {wide} pixels too wide"
            await page.evaluate(axe)
            found = await page.evaluate("axe.run({resultTypes: ['violations']})")
            faults = [
                f"{fault['id']}: {fault['nodes'][0]['html'][:150]} {fault['nodes'][0]['failureSummary'][:300]}"
                for fault in found["violations"]
                if fault["impact"] in {"serious", "critical"}
            ]
            assert faults == [], f"{name} {size} {scheme}"
        await page.context.close()


async def test_what_happens_is_on_an_open_page_without_a_reload(served: Served, browser: Browser) -> None:
    page = await browser.page()
    await page.goto(served.url)
    await page.get_by_text("live", exact=True).wait_for()
    projection = served.site.projection
    made = encode("decisions", decision(1, "SELL", symbol="NEWUSDT"))
    await projection.log.append_at(StreamKey("decisions"), f"{projection.now}-0", made.data)
    await served.turn()
    await page.get_by_role("link", name="NEWUSDT").wait_for()
    await issue(projection.log, Halt(), actor="ada", reason="an outage")
    await served.turn()
    await page.locator("#status").get_by_text("HALTED", exact=True).wait_for()


async def test_a_person_who_comes_back_reads_what_changed_meanwhile(served: Served, browser: Browser) -> None:
    page = await browser.page()
    await page.add_init_script(
        """if (!sessionStorage.getItem("been")) {
          sessionStorage.setItem("been", "yes");
          const last = { at: Date.now() - 8 * 3600 * 1000, equity: 99000, fills: 0, version: 3 };
          localStorage.setItem("conclave-looked", JSON.stringify(last));
        }"""
    )
    await page.goto(served.url)
    await page.locator("#since").get_by_text("Since you looked 8 h ago").wait_for()
    words = await page.locator("#since").inner_text()
    assert "equity +1,000" in words
    assert f"configuration 3 → {served.site.projection.newest.version}" in words
    projection = served.site.projection
    await issue(projection.log, Halt(), actor="ada", reason="an outage")
    await served.turn()
    await page.locator("#since").get_by_text(f"configuration 3 → {projection.newest.version}").wait_for()
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / "now-after-a-night-desk-light.png")
    await page.reload()
    await page.get_by_text("live", exact=True).wait_for()
    assert not await page.locator("#since").is_visible()


async def test_a_decision_is_verified_in_the_page_and_all_of_it_works_by_keyboard(
    served: Served, browser: Browser
) -> None:
    page = await browser.page()
    await page.goto(served.url)
    await page.get_by_text("live", exact=True).wait_for()
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
    await page.keyboard.press("/")
    assert await page.evaluate("document.activeElement.id") == "search"
    await page.keyboard.type("ETH")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/?search=ETH")
    assert await page.locator("#series > li").count() == 1
    await page.locator("#series .decided a").focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/decision/*")
    before = await page.locator("#chain").inner_text()
    await page.locator("#chain").evaluate("element => { element.dataset.old = 'yes' }")
    await page.keyboard.press("v")
    await page.locator("#chain:not([data-old])").wait_for()
    assert (await page.locator("#chain").inner_text()).split("Checked at")[0] == before.split("Checked at")[0]
    first = page.url
    await page.keyboard.press("[")
    await page.wait_for_url(lambda url: url != first)
    await page.keyboard.press("]")
    await page.wait_for_url(first)
    await page.keyboard.press("g")
    await page.keyboard.press("h")
    await page.wait_for_url("**/history")
    await page.locator("#slider").focus()
    await page.keyboard.press("Home")
    await page.locator("#version-shown[data-version='1']").wait_for()
    assert await page.locator("#version").input_value() == "1"


async def test_a_what_if_is_asked_by_keyboard_and_its_result_appears_by_itself(
    served: Served, browser: Browser, replayed: Replayed, empty_redis_url: str, tmp_path: Path
) -> None:
    await make_busy(served, replayed, empty_redis_url, tmp_path / "state")
    page = await browser.page()
    await page.goto(served.url)
    await page.keyboard.press("g")
    await page.keyboard.press("w")
    await page.wait_for_url("**/whatif")
    await page.locator("#w-logistic").focus()
    await page.keyboard.type("0.9")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/whatif?name=*")
    await page.locator("#result").get_by_text("weight of logistic 0.9").wait_for(timeout=120_000)
    assert await page.locator("#w-logistic").input_value() == "0.9"
    await page.context.close()


async def test_a_proof_pack_is_made_from_the_timeline_and_what_is_downloaded_holds(
    served: Served, browser: Browser, replayed: Replayed, empty_redis_url: str, tmp_path: Path
) -> None:
    await make_busy(served, replayed, empty_redis_url, tmp_path / "state")
    page = await browser.page()
    await page.goto(served.url + "/history")
    await page.get_by_text("live", exact=True).wait_for()
    await page.locator("#timeline").get_by_role("link", name="proof pack").first.click()
    await page.wait_for_url("**/proof")
    await page.keyboard.press("m")
    await page.get_by_text("claims hold").wait_for(timeout=120_000)
    assert await page.get_by_text("the pack is not signed").is_visible()
    async with page.expect_download() as waited:
        await page.get_by_role("link", name="Download proof-").click()
    download = await waited.value
    file = tmp_path / download.suggested_filename
    await download.save_as(file)
    await page.context.close()

    words = (sys.executable, "-m", "services.console.cli", "proof")
    generate(tmp_path / "ada.pem")
    signed = await anyio.run_process([*words, "sign", str(file), "--key", str(tmp_path / "ada.pem")], check=False)
    assert signed.returncode == 0, signed.stdout
    checked = await anyio.run_process([*words, "check", str(file)], check=False)
    assert checked.returncode == 0, checked.stdout


async def test_the_progress_of_a_job_and_a_lag_are_live_and_a_letter_opens(
    served: Served, browser: Browser, replayed: Replayed, empty_redis_url: str, tmp_path: Path
) -> None:
    await make_busy(served, replayed, empty_redis_url, tmp_path / "state")
    projection, jobs = served.site.projection, served.site.projection.state.jobs
    job = next(name for name, one in jobs.items() if one.job.state == "running")
    page = await browser.page()
    await page.goto(f"{served.url}/training/{job}")
    await page.get_by_text("fitting 22 of 40").wait_for()
    made = encode("training", step(job, 23, 40, projection.now))
    assert await projection.log.append_at(StreamKey("training"), f"{projection.now + 600_000}-0", made.data)
    await served.turn()
    await page.get_by_text("fitting 23 of 40").wait_for()
    await page.keyboard.press("g")
    await page.keyboard.press("s")
    await page.wait_for_url("**/health")
    await page.locator("#doctor .checks li").first.wait_for()
    await page.locator("#letters summary").first.focus()
    await page.keyboard.press("Enter")
    await page.get_by_text("Its input was appended again by ada").wait_for()
    await page.context.close()


async def test_a_page_whose_server_ends_says_so_and_is_whole_again_when_it_is_back(
    served: Served, browser: Browser
) -> None:
    page = await browser.page()
    projection, store = served.site.projection, served.site.store
    settings = ObservatorySettings(port=free_port())
    browser.base = "http://127.0.0.1:"
    async with serving(Site(projection, store, anyio.Event()), settings):
        await page.goto(f"http://127.0.0.1:{settings.port}")
        await page.get_by_text("live", exact=True).wait_for()
    await page.get_by_text("connection lost, trying again").wait_for()
    placed = OrderPlaced(
        symbol="NEWUSDT", interval_ms=60_000, open_time=1_704_067_200_000, origin="live", order=EVENT, decision=EVENT,
        control_version=3, venue="paper", cause="intent", side="BUY", quantity=1.0, closes=0.0, reference=1.0,
        valid_until=None,
    )  # fmt: skip
    await projection.log.append_at(StreamKey("orders"), f"{projection.now}-0", encode("orders", placed).data)
    await served.turn()
    async with serving(Site(projection, store, anyio.Event()), settings):
        await page.get_by_role("link", name="NEWUSDT").wait_for()
        await page.get_by_text("live", exact=True).wait_for()
        await page.context.close()
    browser.faults = [fault for fault in browser.faults if "net::ERR" not in fault and "[object Event" not in fault]
