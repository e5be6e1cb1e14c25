"""Acting in a real browser: the key stays in it, a halt is one key press away, and all of it works without a mouse."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from schemas.control import Halt, Promote, Propose, Resume, SetApprovalRule, StartShadow, TrustKey
from shared import people
from shared.control.issuing import current, history, issue
from shared.control.signing import generate, load_private
from shared.training.ledger import TRAINING
from tests.services.observatory.test_acting import PASSWORD, Acted, running
from tests.services.observatory.test_browser import AXE, CHROMIUM, SIZES, Browser, browsing
from tests.services.observatory.test_retrying import refused, unread
from tests.shared.control.test_issuing import A1, A2, artifact

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture
async def acted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Acted]:
    from argon2 import PasswordHasher

    people._any_hash.cache_clear()
    monkeypatch.setattr(people, "_hasher", lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    async with running(tmp_path) as made:
        made.add("ada", "operator")
        made.add("vi", "viewer")
        yield made


@pytest.fixture
async def browser(acted: Acted) -> AsyncIterator[Browser]:
    async with browsing(acted.url) as opened:
        yield opened


async def signed_in(browser: Browser, name: str = "ada", size: str = "desk", scheme: str = "light") -> Any:
    page = await browser.page(size, scheme)
    await page.goto(browser.base + "/history")
    await page.wait_for_url("**/sign-in?go=/history")
    await page.locator("#name:focus").wait_for()
    await page.keyboard.type(name)
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url(browser.base + "/history")
    return page


async def previewed(page: Any) -> None:
    """Wait until Enter issues the command that is shown: scripts have run, and its button has the focus."""
    await page.get_by_text("It is signed with").wait_for()
    await page.wait_for_load_state("load")
    await page.locator('form.confirm [type="submit"]:focus').wait_for()


async def with_key(acted: Acted, page: Any) -> str:
    """Give the browser the key file of Ada, which control trusts."""
    file = acted.folder / "ada.pem"
    public = generate(file)
    await issue(acted.log, TrustKey("ada", public, "Ada"), actor="ada", reason="test")
    await page.goto(acted.url + "/key")
    await page.locator("#key-file").set_input_files(file)
    await page.get_by_text(f"Public key {public}, trusted by control.").wait_for()
    return public


async def test_a_halt_is_one_key_press_and_one_confirmation_on_any_page_and_signed(
    acted: Acted, browser: Browser
) -> None:
    page = await signed_in(browser)
    await page.keyboard.press("H")
    await page.locator("#halt-reason:focus").wait_for()
    await page.keyboard.type("an outage")
    await page.keyboard.press("Enter")
    await page.get_by_text("Halt is version 6").wait_for()
    newest = (await history(acted.log))[-1]
    assert (newest.command, newest.actor, newest.reason, newest.key) == (Halt(), "ada", "an outage", None)
    await issue(acted.log, Resume(), actor="bo", reason="over")
    await with_key(acted, page)

    # Another person is faster between the entry and its signature: a halt goes on top of whatever came first.
    async def faster(route: Any) -> None:
        ada = load_private(acted.folder / "ada.pem")
        for command in (Halt(), Resume()):
            await issue(acted.log, command, actor="bo", reason="faster", signer=ada)
        await route.continue_()

    await page.route("**/act/submit", faster, times=1)
    await page.goto(acted.url + "/models")
    await page.keyboard.press("H")
    await page.keyboard.press("Enter")
    await page.get_by_text("The command is version 11").wait_for()
    newest = (await history(acted.log))[-1]
    assert (newest.command, newest.key, newest.reason) == (Halt(), "ada", "halted from the observatory")
    assert (await current(acted.log)).halted
    await page.keyboard.press("Enter")
    assert not await page.locator("dialog").is_visible()
    browser.faults = [fault for fault in browser.faults if "409 (Conflict)" not in fault]  # Chromium reports the first


async def test_a_signed_promotion_and_rollback_by_keyboard_alone(acted: Acted, browser: Browser) -> None:
    page = await signed_in(browser)
    await with_key(acted, page)
    await page.goto(acted.url + "/act")
    await page.get_by_role("link", name="Promote", exact=True).focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/act/promote")
    await page.locator("#f-model").focus()
    for text in ("a", "a2a2", "", "500"):
        await page.keyboard.type(text)
        await page.keyboard.press("Tab")
    await page.keyboard.press("Space")
    for _ in "12":
        await page.keyboard.press("Tab")
    await page.keyboard.type("better in shadow")
    await page.keyboard.press("Enter")
    await previewed(page)
    assert await page.locator("tbody tr").count() >= 2
    assert (await current(acted.log)).version == 6
    await page.keyboard.press("Enter")
    await page.get_by_text("The command is version 7").wait_for()
    await page.goto(acted.url + "/act/rollback")
    await page.locator("#f-reason").focus()
    await page.keyboard.type("worse")
    await page.keyboard.press("Enter")
    await previewed(page)
    await issue(acted.log, Halt(), actor="bo", reason="faster", signer=load_private(acted.folder / "ada.pem"))
    await page.keyboard.press("Enter")
    await page.get_by_text("expected version 7").wait_for()
    await page.get_by_text("8 halt by bo (faster)").wait_for()
    await page.goto(acted.url + "/act/rollback")
    await page.locator("#f-reason").fill("worse")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Roll back now").click()
    await page.get_by_text("The command is version 9").wait_for()
    entries = (await history(acted.log))[6:]
    assert [(entry.key, entry.reason) for entry in entries] == [
        ("ada", "better in shadow"),
        ("ada", "faster"),
        ("ada", "worse"),
    ]
    browser.faults = [fault for fault in browser.faults if "409 (Conflict)" not in fault]


async def test_a_voting_policy_is_started_promoted_and_rolled_back_from_its_screen_with_the_own_key(
    acted: Acted, browser: Browser
) -> None:
    labelled = structs.replace(artifact("a7" * 32), horizon=12, kappa=0.75)
    for command in (labelled, Promote("a", labelled.artifact, forced=True)):
        await issue(acted.log, command, actor="ada", reason="a label for the vote")
    page = await signed_in(browser)
    await with_key(acted, page)

    async def confirm(link: str, button: str, fields: dict[str, str]) -> None:
        await acted.site.projection.turn()
        await page.goto(acted.url + "/models")
        await page.locator("section[aria-labelledby='m-vote']").get_by_role("link", name=link).click()
        for name, value in fields.items():
            await page.locator(f"#f-{name}").fill(value)
        if "forced" in await page.locator("form.fields").inner_html():
            await page.locator("#f-forced").check()
        await page.locator("#f-reason").fill("it acts too seldom")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name=button).wait_for()
        assert await page.locator("table.differences ins").count() >= 1
        await page.get_by_role("button", name=button).click()
        await page.get_by_text("The command is version").wait_for()

    await confirm("Start one in shadow…", "Start a voting policy in shadow now", {"edge": "0.05"})
    [digest] = (await current(acted.log)).policy_shadows
    await confirm("Promote…", "Promote a voting policy now", {"probation": "500"})
    state = await current(acted.log)
    assert (state.policy.edge, state.probations["ensemble"].artifact) == (0.05, digest)
    await confirm("Roll back the policy…", "Roll back now", {})
    assert (await current(acted.log)).policy.edge == 0.1
    assert {entry.key for entry in (await history(acted.log))[-3:]} == {"ada"}


async def test_two_persons_propose_and_approve_a_promotion_each_with_their_own_key(
    acted: Acted, browser: Browser
) -> None:
    acted.add("ben", "approver")
    page = await signed_in(browser)
    await with_key(acted, page)
    ada = load_private(acted.folder / "ada.pem")
    public = generate(acted.folder / "ben.pem")
    for command in (TrustKey("ben", public, "Ben", ("approve", "refuse")), SetApprovalRule(("promote",), ("Ben",))):
        await issue(acted.log, command, actor="ada", reason="two see more", signer=ada)
    await page.goto(acted.url + "/act/propose")
    await page.locator("#f-model").fill("a")
    await page.locator("#f-artifact").fill("a2a2")
    await page.locator("#f-forced").check()
    await page.locator("#f-accept_changes").check()
    await page.locator("#f-reason").fill("better in shadow")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Propose a promotion now").click()
    await page.get_by_text("The command is version 9").wait_for()
    await acted.site.projection.turn()

    other = await signed_in(browser, "ben", "phone", "dark")
    await other.goto(acted.url + "/key")
    await other.locator("#key-file").set_input_files(acted.folder / "ben.pem")
    await other.get_by_text(f"Public key {public}, trusted by control.").wait_for()
    await other.goto(acted.url + "/models")
    await other.get_by_text("better in shadow").wait_for()
    await other.get_by_role("link", name="Approve…").click()
    await other.locator("#f-reason").fill("read its gates")
    await other.keyboard.press("Enter")
    await other.get_by_role("button", name="Approve now").wait_for()
    assert await other.locator("ins").filter(has_text="a2a2a2a2a2a2").count() >= 1
    assert (await current(acted.log)).models["a"].champion == A1
    await other.get_by_role("button", name="Approve now").click()
    await other.get_by_text("The command is version 10").wait_for()
    assert (await current(acted.log)).models["a"].champion == A2
    assert [(entry.key, entry.actor, entry.reason) for entry in (await history(acted.log))[-2:]] == [
        ("ada", "ada", "better in shadow"),
        ("ben", "ben", "read its gates"),
    ]

    # On the page of the one who proposed it, the proposal goes away by itself.
    await page.goto(acted.url + "/models")
    await acted.site.projection.turn()
    await page.get_by_text("None is open.").wait_for()
    assert not await page.get_by_role("link", name="Approve…").is_visible()


async def test_an_entry_that_differs_from_what_was_shown_is_not_signed(acted: Acted, browser: Browser) -> None:
    page = await signed_in(browser)
    await with_key(acted, page)

    async def another(route: Any) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, body=(await answer.text()).replace("halt", "resume"))

    await page.route("**/act/halt/draft", another)
    await page.keyboard.press("H")
    await page.keyboard.press("Enter")
    await page.get_by_text("nothing was signed: the").wait_for()
    assert (await current(acted.log)).version == 6


async def test_a_key_that_is_made_in_the_browser_cannot_be_taken_out_and_is_kept(
    acted: Acted, browser: Browser
) -> None:
    page = await signed_in(browser)
    await page.goto(acted.url + "/key")
    await page.get_by_text("There is no key in this browser.").wait_for()
    await page.get_by_role("button", name="Make a new key here").click()
    await page.get_by_text("not trusted by control").wait_for()
    words = await page.locator("#key-trust code").inner_text()
    assert words.startswith("conclave keys trust ada ")
    public = words.split()[4]
    extractable = await page.evaluate("conclaveKeys.load().then((key) => key.privateKey.extractable)")
    assert extractable is False
    await issue(acted.log, TrustKey("ada", public, "Ada"), actor="ada", reason="test")
    await page.goto(acted.url + "/act/weights")
    await page.locator("#f-reason").fill("as they are")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Set weights now").click()
    await page.get_by_text("The command is version 7").wait_for()
    await page.goto(acted.url + "/key")
    await page.get_by_text(f"Public key {public}, trusted by control.").wait_for()
    await page.get_by_role("button", name="Forget the key").click()
    await page.get_by_text("There is no key in this browser.").wait_for()


async def test_what_can_be_done_is_one_step_from_where_it_is_seen_and_only_for_those_who_may(
    acted: Acted, browser: Browser
) -> None:
    for command in (StartShadow("a", A2), Halt()):
        await issue(acted.log, command, actor="ada", reason="test")
    await acted.site.projection.turn()
    places: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("/models", "Promote…", {"model": "a", "artifact": A2}),
        ("/models", "Stop the shadow…", {"model": "a", "artifact": A2}),
        ("/history?version=2", "Roll back to version 2…", {"to": "2"}),
        ("/training", "Ask for a training…", {}),
        ("/health", "Resume…", {}),
    )
    for name in ("ada", "vi"):
        page = await signed_in(browser, name)
        for path, words, values in places:
            await page.goto(acted.url + path)
            link = page.get_by_text(words, exact=True)
            if name == "vi":
                assert not await link.is_visible()
                continue
            await link.click()
            await page.wait_for_url(lambda url: "/act" in url)
            for field, value in values.items():
                assert await page.locator(f"#f-{field}").input_value() == value
        await page.context.close()


async def test_a_viewer_has_no_button_and_no_key_to_halt(acted: Acted, browser: Browser) -> None:
    page = await signed_in(browser, "vi")
    await page.keyboard.press("H")
    assert await page.locator("dialog").count() == 0
    answer = await page.goto(acted.url + "/act/halt")
    assert answer.status == 403
    assert "vi is a viewer and may only look" in await page.inner_text("body")
    await page.get_by_role("link", name="Back to Now").wait_for()
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    assert (await page.evaluate("axe.run({resultTypes: ['violations']})"))["violations"] == []
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        for size in ("desk", "phone"):
            await page.set_viewport_size(SIZES[size])
            await page.screenshot(path=Path(folder) / f"fault-{size}-light.png")
    browser.faults = [fault for fault in browser.faults if "403 (Forbidden)" not in fault and "404" not in fault]


@pytest.mark.long
async def test_every_page_to_act_fits_desk_and_phone_and_has_no_serious_fault_of_access(
    acted: Acted, browser: Browser
) -> None:
    axe = AXE.read_text(encoding="utf-8")
    folder = os.environ.get("SCREENSHOTS")
    acted.add("ada", "approver")
    promote = Promote("a", A2, forced=True, accept_changes=True, probation=500)
    for who, command in (("ada", SetApprovalRule(("promote",), ("ada", "cy"))), ("ben", Propose(promote))):
        await issue(acted.log, command, actor=who, reason="its skill is higher in both halves of August")
    await acted.site.projection.turn()
    for size, scheme in (("desk", "light"), ("desk", "dark"), ("phone", "light"), ("phone", "dark")):
        page = await signed_in(browser, size=size, scheme=scheme)
        forms = ("act/promote", "act/weights", "act-training", "act/propose")
        for name in ("act", "key", *forms, "preview", "approve", "models-proposals", "halt", "sign-in"):
            paths = {
                "preview": "act/start_shadow?model=a&artifact=a2",
                "approve": "act/approve?proposal=7",
                "models-proposals": "models",
                "halt": "act",
            }
            await page.goto(f"{acted.url}/{paths.get(name, name)}")
            if name in {"preview", "approve"}:
                await page.locator("#f-reason").fill("promising")
                await page.keyboard.press("Enter")
                await page.locator("form.confirm").wait_for()
            if name == "halt":
                await page.keyboard.press("H")
            if folder:
                await page.screenshot(path=Path(folder) / f"{name.replace('/', '-')}-{size}-{scheme}.png")
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


async def test_a_dead_letter_is_retried_by_keyboard_alone(acted: Acted, browser: Browser) -> None:
    letter = await refused(acted, unread())
    page = await signed_in(browser)
    await page.keyboard.press("g")
    await page.keyboard.press("s")
    await page.wait_for_url("**/health")
    await page.locator("#letters summary").first.focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name="Retry…").focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/health/letters/{letter}/retry")
    await page.locator("#f-reason:focus").wait_for()
    assert await acted.log.scan(TRAINING) == []
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        await page.screenshot(path=Path(folder) / "letter-retry-desk-light.png", full_page=True)
    await page.keyboard.type("this release reads it")
    await page.keyboard.press("Enter")
    await page.get_by_text("Appended to conclave:training as").wait_for()
    assert len(await acted.log.scan(TRAINING)) == 1
    await acted.site.projection.turn()
    await page.get_by_role("link", name="Back to Health").focus()
    await page.keyboard.press("Enter")
    await page.locator("#letters").get_by_text("retried", exact=True).wait_for()
