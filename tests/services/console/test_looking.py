"""Looking needs no write: every command that only looks gives the same answer on a replica, on a server whose memory
is full, to a user who may only read, and on a machine whose disk is full. A halt needs one write, to the server."""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import click
import pytest
import redis

from services.console.cli import cli
from shared.server.embedded import EmbeddedServer
from tests.services.console.conftest import A1, B1, TWO_MODELS, Desk

LOOKING: Final[tuple[tuple[str, ...], ...]] = (
    ("status",),
    ("status", "--at", "2"),
    ("history",),
    ("diff", "2", "5"),
    ("decisions",),
    ("doctor",),
    ("keys", "list"),
    ("train", "status"),
    ("train", "watch"),
    ("train", "verify", A1),
    ("artifacts", "list"),
    ("artifacts", "show", A1),
    ("artifacts", "card", A1),
    ("artifacts", "verify"),
    ("shadow", "report"),
    ("money",),
    ("gates",),
    ("gates", "explain", "77"),
    ("gates", "contributions"),
    ("gates", "replay", "--policy", "classic"),
    ("blame", "77"),
    ("whatif", "--weight", "a=0.5"),
    ("verify", "--jobs", "1"),
    ("proof", "check", __file__),
    ("archive", "status"),
    ("archive", "verify"),
    ("recover",),
    ("dead-letters", "list"),
    ("dead-letters", "show", "77"),
    ("feed", "events"),
    ("down",),
    ("bars", "check", __file__),
    ("features", "check", "user-8", "--synthetic", "null", "--symbols", "1", "--count", "600", "--trials", "3"),
    ("observatory", "user", "changes"),
    ("observatory", "user", "list"),
    ("observatory", "sign-ins"),
)
"""Commands that only look, or end processes."""
DOCTOR: Final = {"healthy": 0, "replica": 1, "full memory": 1, "reader": 1, "full disk": 0}
"""The exit code of ``doctor`` in each state. A full server is wrong, and so are a replica that the settings name as the
server, and a user whom the catalogue lacks."""
FOLLOWING: Final = {("gates", "watch")}
"""Commands that look until Ctrl-C; they open the log as the others do."""
WRITING: Final = {
    *(("bars", name) for name in ("merge", "resample")),
    *(("train", name) for name in ("files", "request", "stacker", "sweep")),
    *(("artifacts", name) for name in ("pull", "push")),
    *(("shadow", name) for name in ("start", "stop")),
    *(("ladder", name) for name in ("set", "step")),
    *(("policy", name) for name in ("approval", "execution", "gates", "training", "voting")),
    *(("vote", name) for name in ("promote", "propose", "start", "stop")),
    *(("propose", name) for name in ("approval", "ladder", "promote", "promote-policy", "voting", "weights")),
    *(("keys", name) for name in ("new", "revoke", "trust")),
    *(("observatory", "user", name) for name in ("add", "remove")),
    ("observatory", "token"),
    *(
        (name,)
        for name in (
            "run",
            "up",
            "observatory",
            "feed",
            "import",
            "found",
            "register",
            "promote",
            "approve",
            "refuse",
            "confirm",
            "rollback",
        )
    ),
    *((name,) for name in ("retire", "halt", "resume", "weights", "issue", "guard", "notify", "access", "prepare")),
    *(("proof", name) for name in ("make", "sign")),
    ("groups", "skip"),
    ("archive", "restore"),
    ("dead-letters", "retry"),
    ("feed", "exchange"),
    ("demo",),
}


def test_every_command_is_known_to_look_or_to_write() -> None:
    known = set(LOOKING) | FOLLOWING | WRITING
    names = {tuple(filter(named, words)) for words in known}
    assert set(commands(cli, ())) <= names


def named(word: str) -> bool:
    """Whether a word of a command line is the name of a command."""
    return word.replace("-", "").isalpha() and not word.startswith("-") and word not in {"classic", "a", "null"}


def commands(group: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(group, click.Group) or group.invoke_without_command:
        if path:
            yield path
        if not isinstance(group, click.Group):
            return
    with click.Context(group) as of:
        for name in group.list_commands(of):
            command = group.get_command(of, name)
            assert command is not None
            yield from commands(command, (*path, name))


def test_no_range_of_numbers_has_nan_in_it() -> None:
    ranges = []
    for path in commands(cli, ()):
        command: click.Command = cli
        for name in path:
            found = command.get_command(click.Context(command), name) if isinstance(command, click.Group) else None
            assert found is not None
            command = found
        ranges += [param for param in command.params if isinstance(param.type, click.FloatRange)]
    assert len(ranges) > 5
    for param in ranges:
        with pytest.raises(click.BadParameter, match="nan is not in the range"):
            param.type.convert("nan", param, None)


@pytest.fixture
def own(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A console on a server of its own, whose log holds two models and a group."""
    monkeypatch.setenv("COLUMNS", "200")
    with EmbeddedServer(tmp_path / "server", fsync="always", die_with_parent=True) as server:
        desk = Desk(server.url, tmp_path, capsys)
        desk.settings.write_text(desk.settings.read_text().replace("ephemeral = true", "ephemeral = false"))
        desk.issue(*TWO_MODELS)
        desk.say_ready("a", A1)
        desk.say_ready("b", B1)
        yield desk


@contextmanager
def healthy(own: Desk, _: pytest.MonkeyPatch) -> Iterator[None]:
    yield


@contextmanager
def replica(own: Desk, _: pytest.MonkeyPatch) -> Iterator[None]:
    host, port = own.url.removeprefix("redis://").removesuffix("/0").split(":")
    text = own.settings.read_text()
    with (
        EmbeddedServer(own.settings.parent / "replica", fsync="always", die_with_parent=True) as server,
        redis.Redis.from_url(server.url) as client,
        redis.Redis.from_url(own.url) as master,
    ):
        master.config_set("repl-diskless-sync-delay", "0")
        client.replicaof(host, port)
        while client.info("replication")["master_link_status"] != "up":
            pass
        own.settings.write_text(text.replace(own.url, server.url))
        try:
            yield
        finally:
            own.settings.write_text(text)


@contextmanager
def full_memory(own: Desk, _: pytest.MonkeyPatch) -> Iterator[None]:
    with redis.Redis.from_url(own.url) as client:
        client.config_set("maxmemory", "1mb")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


@contextmanager
def reader(own: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with redis.Redis.from_url(own.url) as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">word", "~*", "+@read", "+@connection")
        with monkeypatch.context() as environment:
            environment.setenv("CONCLAVE_REDIS_USER", "reader")
            environment.setenv("CONCLAVE_REDIS_PASSWORD", "word")
            yield
        client.acl_deluser("reader")


@contextmanager
def full_disk(own: Desk, _: pytest.MonkeyPatch) -> Iterator[None]:
    """Writing to any file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


State = Callable[[Desk, pytest.MonkeyPatch], AbstractContextManager[None]]
STATES: Final[dict[str, State]] = {
    "healthy": healthy,
    "replica": replica,
    "full memory": full_memory,
    "reader": reader,
    "full disk": full_disk,
}


def test_every_command_that_looks_answers_in_every_state_and_writes_nothing(
    own: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.Redis.from_url(own.url) as client:
        codes: dict[str, dict[tuple[str, ...], int]] = {}
        for name, state in STATES.items():
            with state(own, monkeypatch):
                changes, there = client.info("persistence")["rdb_changes_since_last_save"], files(own)
                codes[name] = {words: own(*words).code for words in LOOKING}
                assert files(own) == there, name
                assert client.info("persistence")["rdb_changes_since_last_save"] == changes, name
    for name, found in codes.items():
        assert found.pop(("doctor",)) == DOCTOR[name], name
        assert found == codes["healthy"], name


def files(own: Desk) -> list[tuple[Path, int]]:
    """The files of the console's folders, apart from what servers write."""
    seen = [path for path in own.settings.parent.rglob("*") if not {"server", "replica"} & set(path.parts)]
    return sorted((path, path.stat().st_mtime_ns) for path in seen)


def test_the_doctor_says_why_nothing_is_written(own: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for state, found in ((replica, "read-only replica"), (full_memory, "memory is full")):
        with state(own, monkeypatch):
            checks = json.loads(own("doctor", "-o", "json").out)["in force"]
        [writes] = [check for check in checks if check["what"] == "writes"]
        assert found in writes["found"]
        assert writes["do"]


def test_a_halt_needs_neither_a_disk_nor_a_name_in_a_user_database(own: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 4000")

    monkeypatch.setattr("getpass.getuser", unknown)
    with full_disk(own, monkeypatch):
        assert own("halt", "--reason", "the disk is full").code == 0
    assert json.loads(own("status", "-o", "json").out)["halted"]
    assert "uid " in own("history").out


def test_a_halt_on_a_server_that_may_lose_the_log_is_accepted(own: Desk) -> None:
    with redis.Redis.from_url(own.url) as client:
        client.config_set("appendonly", "no")
    assert own("resume", "--reason", "none").code == 2
    assert own("halt", "--reason", "first of all").code == 0


def test_a_halt_on_a_server_whose_memory_is_full_closes_the_fences_and_says_what_to_do(
    own: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_memory(own, monkeypatch):
        ended = own("halt", "--reason", "now", "--command-id", "now-1")
        fences = json.loads(own("status", "-o", "json").out)["fences"]
    assert ended.code == 2
    assert "CONFIG SET maxmemory" in ended.err
    assert "The fences were closed" in ended.err
    assert [fence["open"] for fence in fences] == [False]
    assert own("halt", "--reason", "now", "--command-id", "now-1").code == 0


def test_a_halt_at_a_replica_says_that_nothing_was_closed_and_where_to_go(
    own: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replica(own, monkeypatch):
        ended = own("halt", "--reason", "now")
    assert ended.code == 2
    assert "Fences closed: none" in ended.err
    assert "write to the master" in ended.err


def test_what_every_command_that_looks_prints_as_json_is_json(own: Desk) -> None:
    tried = 0
    for words in LOOKING:
        command: click.Command = cli
        for word in words:
            if isinstance(command, click.Group):
                with click.Context(command) as of:
                    command = command.get_command(of, word) or command
        if not any(option.name == "output" for option in command.params):
            continue
        tried += 1
        for line in own(*words, "-o", "json").out.splitlines():
            json.loads(line)
    assert tried > 10
