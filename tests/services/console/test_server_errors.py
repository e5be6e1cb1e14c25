"""What a server or its address can answer with, in every group of commands: one sentence that says what to do, exit
code 2, no password, no traceback."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import redis

from shared.server.embedded import EmbeddedServer
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
PASSWORD: Final = "s3cret"


class Trouble(NamedTuple):
    """What is wrong. ``change``: the address from that of the server; ``words``: what the message must say."""

    words: str
    change: Callable[[str], str] = str
    config: tuple[str, str] = ("", "")
    user: str = ""


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
    "nothing listens": Trouble("Is it running?", lambda _: "redis://127.0.0.1:1/0"),
    "no clients left": Trouble("CONFIG SET maxclients", config=("maxclients", "1")),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server"), fsync="always", die_with_parent=True) as server:
        yield server


@pytest.mark.parametrize("name", TROUBLES)
def test_every_group_of_commands_says_what_to_do(
    name: str,
    server: EmbeddedServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trouble = TROUBLES[name]
    desk = Desk(server.url, tmp_path, capsys)
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
            ended = {words: desk(*words) for words in COMMANDS}
        finally:
            if option:
                client.config_set(option, before)
    for words, (code, out, err) in ended.items():
        assert code == 2, (words, out, err)
        assert trouble.words in err, (words, err)
        assert err.count("\n") == 1, (words, err)
        assert PASSWORD not in out + err
        assert PASSWORD[3:] not in out + err, "a part of the password"
