"""Proof packs from the page: made in a process of its own, the same file as the console's, and not signed."""

import json
from pathlib import Path

import anyio
import pytest

from bench.replayed import Replayed
from schemas.control import Promote, Rollback
from services.observatory.computing import AskedPack, AskedWhatif, BusyError
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.proof import gather, packed, sign_pack
from shared.audit.proof_checks import SIGNATURE, check
from shared.audit.proof_subject import provable
from shared.control import effect_of
from shared.control.issuing import issue
from shared.control.signing import generate, load_private
from tests.services.observatory.busy import count_sealed_files
from tests.services.observatory.conftest import Served
from tests.services.observatory.test_web import answer, api
from tests.services.observatory.test_whatif import recorded, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def proving(served: Served, replayed: Replayed, tmp_path: Path) -> Served:
    """An observatory that makes packs from sealed files alone."""
    count_sealed_files(served, recorded(replayed, tmp_path))
    return served


def promotion(served: Served) -> int:
    """The newest version that promoted an artifact."""
    envelopes = served.site.projection.control.envelopes
    return max(each.event.version for each in envelopes if isinstance(effect_of(each.event.command), Promote))


async def made(served: Served, version: int) -> None:
    pack = served.site.computations.start(AskedPack(version))
    await until(lambda: pack.state not in {"waiting", "running"})
    assert (pack.state, pack.reason) == ("done", "")


async def test_a_pack_is_the_file_of_the_console_and_holds_but_for_the_signature(
    proving: Served, replayed: Replayed, tmp_path: Path
) -> None:
    version = promotion(proving)
    path = f"versions/{version}/proof"
    assert (await api(proving, path))["state"] == "none"
    assert (await answer(proving, f"/api/v1/{path}/file")).status_code == 404
    assert (await api(proving, f"{path}?start=true"))["state"] in {"waiting", "running"}
    await until(lambda: proving.site.computations.running is None)
    shown = await api(proving, path)
    assert (shown["state"], shown["reason"], shown["signed"]) == ("done", "", False)
    assert all(one["good"] for one in shown["checks"])
    assert SIGNATURE not in {one["what"] for one in shown["checks"]}

    found = await answer(proving, f"/api/v1/{path}/file")
    assert found.headers["content-type"] == "application/json"
    assert found.headers["content-disposition"] == f'attachment; filename="proof-{version}.json"'
    assert len(found.content) == shown["size"]
    configurations = Configurations(replayed.source, Findings())
    assert found.content == packed(gather(replayed.source, configurations, version, replayed.store))

    pack = json.loads(found.content)
    assert [one.what for one in check(pack) if not one.good] == [SIGNATURE]
    generate(tmp_path / "ada.pem")
    assert all(one.good for one in check(sign_pack(pack, load_private(tmp_path / "ada.pem"))))


async def test_the_page_says_that_a_pack_is_not_signed_and_how_to_sign_it(proving: Served) -> None:
    version = promotion(proving)
    begun = await answer(proving, f"/history/{version}/proof?make=true")
    assert (begun.status_code, begun.headers["location"]) == (302, f"/history/{version}/proof")
    await until(lambda: proving.site.computations.running is None)
    page = (await answer(proving, f"/history/{version}/proof")).text
    assert "the pack is not signed" in page
    assert f"conclave proof sign proof-{version}.json --key KEY.pem" in page
    assert f"conclave proof make {version} --key KEY.pem" in page
    shown = await answer(proving, f"/history/{version}/proof/file?form=html")
    assert shown.headers["content-disposition"].startswith("attachment")
    assert "What was deployed" in shown.text
    assert (await answer(proving, f"/history/{version}/proof/file?form=exe")).status_code == 404


async def test_the_timeline_leads_to_the_pack_of_a_promotion_and_a_rollback_to_that_of_what_votes_again(
    proving: Served,
) -> None:
    projection, promoted = proving.site.projection, promotion(proving)
    command = effect_of(projection.control.envelopes[promoted - 1].event.command)
    assert isinstance(command, Promote)
    earlier = [
        each.event.version
        for each in projection.control.envelopes[: promoted - 1]
        if isinstance(each.event.command, Promote) and each.event.command.model == command.model
    ]
    await issue(projection.log, Rollback(model=command.model), actor="ada", reason="worse")
    await proving.turn()
    newest = len(projection.control.states)
    entries = {one["version"]: one["proofs"] for one in (await api(proving, "history"))["entries"]}
    assert entries[promoted] == [promoted]
    assert entries[newest] == [earlier[-1]]
    assert provable(projection.control, 1) == ()
    assert f'href="/history/{promoted}/proof"' in (await answer(proving, "/history")).text
    assert f"proof pack of {earlier[-1]}" in (await answer(proving, "/history")).text


async def test_one_thing_is_computed_at_a_time_and_a_pack_can_be_cancelled(proving: Served) -> None:
    computations, version = proving.site.computations, promotion(proving)
    path = f"versions/{version}/proof"
    pack = computations.start(AskedPack(version))
    assert computations.start(AskedPack(version)) is pack
    with pytest.raises(BusyError, match="a proof pack is made"):
        computations.start(AskedWhatif())
    assert (await answer(proving, "/api/v1/whatif?start=true")).status_code == 409
    assert (await api(proving, "whatif"))["busy"]
    assert (await answer(proving, f"/whatif?name=proof-{version}")).status_code == 200
    await answer(proving, "/api/v1/whatif/cancel")
    assert pack.state in {"waiting", "running"}  # it is no what-if
    assert (await api(proving, f"{path}/cancel"))["state"] == "cancelled"
    trial = computations.start(AskedWhatif(since=1))
    assert (await answer(proving, f"/api/v1/{path}?start=true")).status_code == 409
    assert (await api(proving, path))["busy"]
    await answer(proving, f"/api/v1/{path}/cancel")
    await until(lambda: trial.state == "done")


async def test_old_packs_are_removed_from_the_disk(proving: Served) -> None:
    computations, version = proving.site.computations, promotion(proving)
    await made(proving, version)
    file = computations.file(AskedPack(version).name, "json")
    assert file is not None
    assert file.exists()
    first = file.stat().st_ino
    again = computations.start(AskedPack(version), again=True)
    assert not file.exists()
    await until(lambda: again.state == "done")
    assert await anyio.Path(file).exists()
    for number in range(1, 9):
        computations.start(AskedWhatif(since=number))
        computations.cancel()
    assert not file.exists(), first


async def test_what_is_no_promotion_has_no_pack(proving: Served) -> None:
    for version in (0, 1, 10_000):
        assert (await answer(proving, f"/api/v1/versions/{version}/proof")).status_code == 404
        assert (await answer(proving, f"/history/{version}/proof")).status_code == 404


async def test_a_page_of_another_site_starts_and_cancels_no_pack(proving: Served) -> None:
    version = promotion(proving)
    paths = ("history/{}/proof?make=true", "api/v1/versions/{}/proof?start=true", "history/{}/proof/cancel")
    for path in paths:
        found = await answer(proving, f"/{path.format(version)}", headers={"sec-fetch-site": "cross-site"})
        assert found.status_code == 403
    assert proving.site.computations.running is None
