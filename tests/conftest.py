"""What every test may ask for: a private server, and a log of either kind
with what can be done to it from outside."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
import redis
from hypothesis import is_hypothesis_test, settings

from shared.log import Log, StreamKey
from shared.log.memory import MemoryLog, wall_ms
from shared.log.redis import RedisLog
from shared.server.embedded import EmbeddedServer

IMAGES: Final = {"valkey/valkey:8": "valkey-server", "redis:7": "redis-server"}
"""The first that is at hand is used, with its program; the first of all is pulled if none is."""

EXAMPLES: Final = 100
FUZZED: Final = 10
"""Under ``fuzz`` a property test gets so many times the examples that it gets under ``ci``."""
settings.register_profile("ci", derandomize=True, max_examples=EXAMPLES, deadline=None)
settings.register_profile("random", derandomize=False, max_examples=EXAMPLES, deadline=None)
settings.register_profile(
    "fuzz",
    derandomize=False,
    max_examples=FUZZED * EXAMPLES,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
)
settings.load_profile("ci")  # `--hypothesis-profile random` or `fuzz` comes later and overrides it


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Scales the examples of property tests that state their own number, which overrides a profile's."""
    if config.getoption("--hypothesis-profile") != "fuzz":
        return
    profile = settings.get_profile("fuzz")
    for test in {item.function for item in items if isinstance(item, pytest.Function)}:
        if is_hypothesis_test(test):
            own = test._hypothesis_internal_use_settings  # where its pytest plugin looks, too
            if own.max_examples != profile.max_examples:
                scaled = settings(own, max_examples=FUZZED * own.max_examples)
                test._hypothesis_internal_use_settings = scaled


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests that are coroutines run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for this session alone: in a container where Docker answers and has or gets an image, else embedded."""
    image = _image() if _docker_answers() else None
    with _container(image) if image else _embedded(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def empty_redis_url(redis_url: str) -> str:
    """The same server, emptied."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


@pytest.fixture(params=["memory", "redis"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    """An empty log of each kind."""
    opened: Log = MemoryLog()
    if request.param == "redis":
        opened = RedisLog(request.getfixturevalue("empty_redis_url"))
    yield opened
    await opened.close()


class Site(Protocol):
    """A log and its world."""

    def connect(self) -> Log:
        """The log as one more process sees it."""

    def lose_group(self, group: str, place: StreamKey) -> None:
        """An operator destroys a consumer group."""

    def trim(self, place: StreamKey, first: str) -> None:
        """An operator trims a stream."""

    def end_lease(self, group: str, partition: int = 0) -> None:
        """The group's owner gives no sign of life for as long as it takes."""

    def set_clock_back(self, group: str, partition: int = 0) -> None:
        """The server's clock is set back by an hour, after the group's owner was seen last."""

    def lose_hash(self, group: str, partition: int = 0) -> None:
        """An operator deletes what is known of a group."""

    def image(self) -> object:
        """All that is on the server now."""

    def restore(self, image: object) -> None:
        """The server comes back as it was."""

    async def close(self) -> None:
        """Closes whatever was connected."""


class MemorySite:
    def __init__(self) -> None:
        self.late = 0
        self.log = MemoryLog(now=lambda: wall_ms() + self.late)

    def connect(self) -> Log:
        return self.log

    def lose_group(self, group: str, place: StreamKey) -> None:
        self.log.lose_group(group, place)

    def trim(self, place: StreamKey, first: str) -> None:
        self.log.trim(place, first)

    def end_lease(self, group: str, partition: int = 0) -> None:
        self.late += 60_000

    def set_clock_back(self, group: str, partition: int = 0) -> None:
        self.late -= 3_600_000

    def lose_hash(self, group: str, partition: int = 0) -> None:
        self.log.lose_hash(group, partition)

    def image(self) -> object:
        return self.log.image()

    def restore(self, image: object) -> None:
        self.log.restore(image)

    async def close(self) -> None:
        await self.log.close()


class RedisSite:
    """``client`` reaches every key, ``servers`` each server."""

    def __init__(self, url: str, client: Any = None, servers: Sequence[redis.Redis] = ()) -> None:
        self.url = url
        self.client = client or redis.Redis.from_url(url)
        self.servers = servers or (self.client,)
        self.logs: list[RedisLog] = []

    def connect(self) -> Log:
        self.logs.append(RedisLog(self.url, patience_s=2.0))
        return self.logs[-1]

    def lose_group(self, group: str, place: StreamKey) -> None:
        assert self.client.xgroup_destroy(place.key, group) == 1

    def trim(self, place: StreamKey, first: str) -> None:
        self.client.xtrim(place.key, minid=first, approximate=False)

    def end_lease(self, group: str, partition: int = 0) -> None:
        self.client.hset(f"conclave:{{p{partition}}}:group:{group}", "lease", "1")

    def set_clock_back(self, group: str, partition: int = 0) -> None:
        key, field = f"conclave:{{p{partition}}}:group:{group}", "lease"
        self.client.hset(key, field, int(self.client.hget(key, field) or 0) + 3_600_000)

    def lose_hash(self, group: str, partition: int = 0) -> None:
        assert self.client.delete(f"conclave:{{p{partition}}}:group:{group}") == 1

    def image(self) -> object:
        keys: Any = [(server, key) for server in self.servers for key in server.keys("*")]
        return [(server, key, server.dump(key)) for server, key in keys]

    def restore(self, image: object) -> None:
        assert isinstance(image, list)
        for server in self.servers:
            server.flushall()
        for server, key, dumped in image:
            server.restore(key, 0, dumped)
        for server in self.servers:
            server.client_kill_filter(_type="normal", skipme=True)

    async def close(self) -> None:
        for log in self.logs:
            await log.close()
        self.client.close()


@pytest.fixture(params=["memory", "redis"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Each kind of log, empty."""
    opened: Site = MemorySite()
    if request.param == "redis":
        opened = RedisSite(request.getfixturevalue("empty_redis_url"))
    yield opened
    await opened.close()


def _docker_answers() -> bool:
    socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    if shutil.which("docker") is None or (socket.startswith("/") and not Path(socket).exists()):
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(["docker", "info"], capture_output=True, timeout=5, check=False).returncode == 0
    return False


def _image() -> str | None:
    """An image that is at hand, or was pulled now."""

    def done(*words: str) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(["docker", *words], capture_output=True, timeout=60, check=False).returncode == 0
        return False

    for image in IMAGES:
        if done("image", "inspect", image):
            return image
    first = next(iter(IMAGES))
    return first if done("pull", first) else None


@contextlib.contextmanager
def _container(image: str) -> Iterator[str]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = DockerContainer(image).with_exposed_ports(6379)
    container = container.with_command(f"{IMAGES[image]} --appendonly yes --save '' --protected-mode no")
    with container.waiting_for(LogMessageWaitStrategy("Ready to accept connections")) as started:
        yield f"redis://{started.get_container_host_ip()}:{started.get_exposed_port(6379)}/0"


@contextlib.contextmanager
def _embedded(data: Path) -> Iterator[str]:
    with EmbeddedServer(data, die_with_parent=True) as server:
        yield server.url


LEFT_OUT: dict[str, list[str]] = {}
NEEDED: Final = {
    "long": "ten seconds or more",
    "stack": "a Docker engine, a booted systemd or minutes",
    "cluster": "servers under Sentinel and in a cluster",
}


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Notes the tests that a filter left out because of what they need."""
    for item in items:
        for marker in NEEDED:
            if item.get_closest_marker(marker):
                LEFT_OUT.setdefault(marker, []).append(item.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says loudly what was not run."""
    for marker, names in LEFT_OUT.items():
        terminalreporter.section("NOT RUN", sep="!", red=True)
        terminalreporter.line(
            f"{len(names)} tests that need {NEEDED[marker]} were left out. "
            f"`make test-{marker}` runs them where there is that:"
        )
        for name in sorted({name.partition("::")[0] for name in names}):
            terminalreporter.line(f"  {name}")
