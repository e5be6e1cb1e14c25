"""What a server or its address can answer with, in every group of commands and in every service: one sentence that
says what to do, the documented exit code, no password, no traceback."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import redis

from schemas.catalogue import STREAMS
from services.console.errors import exit_code
from services.console.run.service import supervised
from shared.log import StreamKey
from shared.log.connection import judged
from shared.server.embedded import EmbeddedServer
from shared.telemetry import logs
from tests.services.console.conftest import A1, TWO_MODELS, Desk

COMMANDS: Final[tuple[tuple[str, ...], ...]] = (
    ("status",),
    ("doctor",),
    ("history",),
    ("decisions",),
    ("blame", "777777"),
    ("verify", "--jobs", "1"),
    ("whatif", "--weight", "a=0.5"),
    ("gates",),
    ("shadow", "report"),
    ("train", "status"),
    ("train", "request", "--model", "a", "--reason", "a test"),
    ("keys", "list"),
    ("dead-letters", "list"),
    ("halt", "--reason", "a test"),
    ("promote", "a", A1, "--reason", "a test"),
    ("policy", "gates", "classic", "--reason", "a test"),
)
SERVICES: Final[tuple[tuple[str, ...], ...]] = (
    *(("run", name) for name in ("feature-builder", "ensemble-voter", "executor", "shadow-recorder", "gate-evaluator")),
    *(("run", name) for name in ("archiver", "trainer", "watcher", "feed", "observatory")),
    ("run", "model-worker", "--model", "a"),
    ("guard",),
    ("prepare",),
    ("observatory",),
)
PASSWORD: Final = "s3cret"


class Trouble(NamedTuple):
    """What is wrong. ``change``: the address from that of the server; ``words``: what the message must say; ``codes``:
    the exit codes of commands and of services."""

    words: str
    change: Callable[[str], str] = str
    config: tuple[str, str] = ("", "")
    user: str = ""
    codes: tuple[int, int] = (2, 2)


TROUBLES: Final = {
    "password missing": Trouble("set the variables CONCLAVE_REDIS_USER", config=("requirepass", "another")),
    "password wrong": Trouble("Check the variables CONCLAVE_REDIS_USER", user="unknown"),
    "user with a slash": Trouble("Check the variables CONCLAVE_REDIS_USER", user="ops/trader"),
    "user with an at": Trouble("Check the variables CONCLAVE_REDIS_USER", user="ops@trader:x"),
    "no permission": Trouble("`conclave access` writes", user="limited"),
    "no such database": Trouble("0 always exists", lambda url: url.removesuffix("0") + "9999"),
    "database no number": Trouble("the database is no number", lambda url: url.removesuffix("0") + "x"),
    "password in the address": Trouble(
        "if it is a password, take it out", lambda url: url.replace("//", f"//user:{PASSWORD[:3]}/{PASSWORD[3:]}@")
    ),
    "slash in the address": Trouble("no server address", lambda url: url.replace("//", "//us/er@")),
    "port too large": Trouble("Port out of range", lambda _: "redis://127.0.0.1:99999/0"),
    "port no number": Trouble("is no address", lambda _: "redis://127.0.0.1:abc/0"),
    "nothing listens": Trouble("Is it running?", lambda _: "redis://127.0.0.1:1/0", codes=(2, 75)),
    "no clients left": Trouble("CONFIG SET maxclients", config=("maxclients", "1"), codes=(75, 75)),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server"), fsync="always", die_with_parent=True) as server:
        yield server


@pytest.mark.parametrize("name", TROUBLES)
def test_every_group_of_commands_and_every_service_says_what_to_do(
    name: str,
    server: EmbeddedServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trouble = TROUBLES[name]
    desk = Desk(server.url, tmp_path, capsys)
    monkeypatch.setattr(logs, "configure", lambda _: None)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        desk.issue(*TWO_MODELS)
        client.execute_command("ACL", "SETUSER", "limited", "on", f">{PASSWORD}", "~*", "+ping")
        if trouble.user:
            monkeypatch.setenv("CONCLAVE_REDIS_USER", trouble.user)
            monkeypatch.setenv("CONCLAVE_REDIS_PASSWORD", PASSWORD)
        desk.settings.write_text(desk.settings.read_text().replace(server.url, trouble.change(server.url)))
        option, value = trouble.config
        before = client.config_get(option)[option] if option else ""
        if option:
            client.config_set(option, value)
        try:
            ended = {words: desk(*words) for words in (*COMMANDS, *SERVICES)}
        finally:
            if option:
                client.config_set(option, before)
    for words, (code, out, err) in ended.items():
        assert code == trouble.codes[words in SERVICES], (words, out, err)
        assert trouble.words in err, (words, err)
        assert err.count("\n") == 1, (words, err)
        assert PASSWORD not in out + err
        assert PASSWORD[3:] not in out + err, "a part of the password"


@pytest.mark.parametrize("words", [*COMMANDS, *SERVICES], ids=" ".join)
def test_a_key_that_another_program_wrote_is_named_as_that(
    words: tuple[str, ...],
    server: EmbeddedServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(server.url, tmp_path, capsys)
    monkeypatch.setattr(logs, "configure", lambda _: None)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.mset({StreamKey(name).key: "no stream" for name in STREAMS})
        code, out, err = desk(*words)
        client.flushall()
    assert code in {1, 2}
    assert "written by another program" in " ".join((out + err).split()), (out, err)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("answer", "code", "service_code"),
    [
        ("NOAUTH Authentication required.", 2, None),
        ("WRONGPASS invalid username-password pair or user is disabled.", 2, None),
        ("NOPERM this user has no permissions to run the 'xadd' command", 2, None),
        ("ERR DB index is out of range", 2, None),
        ("ERR unknown command 'FCALL'", 2, None),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", 2, None),
        ("OOM command not allowed when used memory > 'maxmemory'.", 2, 75),
        ("MISCONF Valkey is configured to save RDB snapshots", 2, 75),
        ("READONLY You can't write against a read only replica.", 2, 75),
        ("NOREPLICAS Not enough good replicas to write.", 2, 75),
        ("LOADING Valkey is loading the dataset in memory", 75, 75),
        ("BUSY Valkey is busy running a script.", 75, 75),
        ("TRYAGAIN Multiple keys request during rehashing of slot", 75, 75),
        ("MASTERDOWN Link with MASTER is down", 75, 75),
        ("CLUSTERDOWN Hash slot not served", 75, 75),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", 75, 75),
        ("ERR max number of clients reached", 75, 75),
    ],
)
def test_an_answer_has_one_exit_code(
    answer: str, code: int, service_code: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """``None``: a service leaves it to the program, as a command does."""
    kind = redis.ConnectionError if answer.startswith("ERR max") else redis.ResponseError
    error = judged("a server", kind(answer))
    assert exit_code(error) == code

    async def answered() -> None:
        raise error

    if service_code is None:
        with pytest.raises(type(error)):
            supervised(answered)()
        return
    with pytest.raises(SystemExit) as ended:
        supervised(answered)()
    assert ended.value.code == service_code
    assert capsys.readouterr().err == f"conclave: {error}\n"
