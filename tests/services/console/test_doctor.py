"""`conclave doctor` and `conclave access`, as a person has them."""

import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
import rich
from cryptography import x509

from schemas.codec import encode
from schemas.operations import ClockAgrees, ClockApart, LogTruncated, StorageFailed, StorageRecovered
from shared.doctor.machine import state_folder
from shared.log import Commit, Owner
from shared.log.redis import RedisLog
from shared.recovery.copies import Copy
from shared.server import users
from shared.server.embedded import EmbeddedServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of this machine alone, whatever the other tests have."""
    with EmbeddedServer(tmp_path / "server", fsync="always", die_with_parent=True) as running:
        yield running


@pytest.fixture
def own(desk: Any, server: EmbeddedServer) -> Any:
    """A console on that server, which holds a founded log."""
    text = desk.settings.read_text().replace(desk.url, server.url).replace("ephemeral = true", "ephemeral = false")
    desk.settings.write_text(text)
    desk.url = server.url
    assert desk("prepare").code == 0
    return desk


def test_a_server_of_this_machine_alone_is_in_order(own: Any) -> None:
    ended = own("doctor", "-o", "json")
    verdicts = {check["what"]: check["verdict"] for check in json.loads(ended.out)["in force"]}
    assert ended.code == 0
    assert "wrong" not in verdicts.values()
    assert verdicts["functions"] == verdicts["persistence"] == "good"
    rich.reconfigure(width=200)
    assert "in force at the server" in own("doctor").out


def test_what_the_server_lost_is_named_with_its_positions_and_only_commands_need_a_person(own: Any) -> None:
    alarm = LogTruncated(
        group="ensemble-voter", stream="predictions", expected="1700-3", last="1650-1", detail="12 are gone", at=1
    )

    async def write() -> None:
        log = RedisLog(own.url)
        claim = await log.claim("ensemble-voter", (), 0, Owner("here", os.getpid(), "me"))
        await log.commit(claim, Commit([encode("alarms", alarm)], {}, {}))
        await log.close()

    anyio.run(write)
    ended = own("doctor", "-o", "json")
    report = json.loads(ended.out)
    assert ended.code == 0
    assert report["lost writes/0"].endswith(
        "ensemble-voter: predictions was read up to 1700-3, ends at 1650-1: 12 are gone"
    )
    assert own("halt", "--reason", "a test").code == 0
    notes = own.settings.parent / "var" / "checkpoints"
    (notes / "control.jsonl").unlink()
    with redis.Redis.from_url(own.url) as client:
        entries: Any = client.xrange("conclave:control")
        for entry, fields in entries:  # as a service copies what it reads
            Copy(notes / "control.entries").add(entry.decode(), fields[b"e"])
        client.delete("conclave:control")
        for entry, fields in entries[:-1]:
            client.xadd("conclave:control", fields, id=entry)
    ended = own("doctor", "-o", "json")
    assert ended.code == 1
    assert "conclave recover" in json.loads(ended.out)["commands missing"]


def test_what_is_wrong_ends_with_1_and_says_what_to_do(own: Any) -> None:
    with redis.Redis.from_url(own.url) as client:
        client.acl_setuser("stranger", enabled=True, nopass=True, commands=["+get"], keys=["*"])
    ended = own("doctor", "-o", "json")
    [users] = [check for check in json.loads(ended.out)["in force"] if check["what"] == "users"]
    assert ended.code == 1
    assert "stranger is not of the catalogue" in users["found"]
    assert "conclave access" in users["do"]


def test_a_server_that_may_lose_the_log_is_told_as_a_whole(own: Any) -> None:
    with redis.Redis.from_url(own.url) as client:
        client.config_set("appendonly", "no")
    ended = own("doctor", "-o", "json")
    report = json.loads(ended.out)
    assert ended.code == 1
    assert "appendonly" in report["log"]
    assert {"persistence"} == {check["what"] for check in report["in force"] if check["verdict"] == "wrong"}


def test_a_user_who_may_not_look_ends_with_3(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis.Redis.from_url(own.url) as client:
        rule = users.rule("guard").split(" (")
        words = [*rule[0].split(), *(f"({selector}" for selector in rule[1:])]
        client.execute_command("ACL", "SETUSER", "guard", "on", ">word", *words)
    monkeypatch.setenv("CONCLAVE_REDIS_USER", "guard")
    monkeypatch.setenv("CONCLAVE_REDIS_PASSWORD", "word")
    ended = own("doctor", "-o", "json")
    assert ended.code == 3
    assert "guard may not look" in ended.out


def test_access_keeps_what_is_there_and_hands_everyone_the_certificate(desk: Any, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    assert desk("access", str(folder), "--tls", "redis", "--tls", "127.0.0.1").code == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert desk("access", str(folder), "--tls", "another").code == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    certificate = folder / "tls" / "server.crt"
    assert {(folder / user / "server.crt").read_bytes() for user in users.USERS} == {certificate.read_bytes()}
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["redis"]
    assert [str(place) for place in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    context = ssl.create_default_context(cafile=str(certificate))
    context.load_cert_chain(certificate, folder / "tls" / "server.key")


def test_a_disk_or_a_clock_that_fails_is_shown_until_it_is_over(own: Any) -> None:
    def doctor() -> tuple[int, dict[str, tuple[str, str]]]:
        ended = own("doctor", "-o", "json")
        checks = json.loads(ended.out)["on this machine"]
        return ended.code, {check["what"]: (check["verdict"], check["found"]) for check in checks}

    def alarm(event: Any) -> None:
        with redis.Redis.from_url(own.url) as client:
            client.xadd("conclave:{p0}:alarms", {"e": encode("alarms", event).data})

    code, found = doctor()
    assert (code, {verdict for verdict, _ in found.values()}) == (0, {"good"})
    file, detail = "var/checkpoints/control.jsonl", "No space left on device"
    alarm(StorageFailed(group="ensemble-voter", host="a", file=file, detail=detail, at=1))
    alarm(ClockApart("feed", "b", -3_600_000, 1))
    code, found = doctor()
    assert code == 1
    assert found["ensemble-voter on a"] == ("wrong", "var/checkpoints/control.jsonl: No space left on device")
    assert found["feed on b"] == ("wrong", "its clock is -3600 s from the server's")
    alarm(StorageRecovered("ensemble-voter", "a", "var/checkpoints/control.jsonl", 2))
    alarm(ClockAgrees("feed", "b", 2))
    assert doctor()[0] == 0
    with redis.Redis.from_url(own.url) as client:
        client.xadd("conclave:{p0}:market", {"e": b"by hand"}, id=f"{2**43}-0")
    code, found = doctor()
    assert (code, found["entries"][0]) == (1, "wrong")


def test_a_state_folder_that_cannot_be_written_is_wrong(tmp_path: Path) -> None:
    assert state_folder(tmp_path / "not" / "there").verdict == "good"
    (tmp_path / "file").write_text("no folder")
    assert "is a file" in state_folder(tmp_path / "file" / "state").found
    assert state_folder(Path("/proc/self/task")).verdict == "wrong"
