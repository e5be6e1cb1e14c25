"""The log's tests run against a cluster too."""

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from bench.servers import Node, cluster
from shared.log import Log
from shared.log.memory import MemoryLog
from shared.log.redis import RedisLog
from tests.conftest import MemorySite, RedisSite, Site

KINDS = ("memory", "redis", "cluster")


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """The masters of a cluster."""
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def cluster_url(masters: list[Node]) -> str:
    """The address of a cluster, emptied. Names one of its nodes."""
    for node in masters:
        node.client.flushall()
    return masters[1].url.replace("redis://", "redis+cluster://").removesuffix("/0")


@pytest.fixture(params=KINDS)
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    """An empty log of each kind."""
    url = {"redis": "empty_redis_url", "cluster": "cluster_url"}.get(request.param)
    opened: Log = RedisLog(request.getfixturevalue(url)) if url else MemoryLog()
    yield opened
    await opened.close()


@pytest.fixture(params=KINDS)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Each kind of log, empty."""
    opened: Site = MemorySite()
    if request.param == "redis":
        opened = RedisSite(request.getfixturevalue("empty_redis_url"))
    if request.param == "cluster":
        nodes: list[Node] = request.getfixturevalue("masters")
        clients = [redis.Redis(port=node.port) for node in nodes]
        client = redis.RedisCluster(port=nodes[0].port, host="127.0.0.1")
        opened = RedisSite(request.getfixturevalue("cluster_url"), client, clients)
    yield opened
    await opened.close()
