"""Servers that are replicated: a master under three Sentinels, and a cluster of three masters. With Redis and with
Valkey, on loopback. All tests here have the marker ``cluster``: ``make test-cluster`` runs them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bench.servers import Node, addresses, cluster, programs, watched

HERE = Path(__file__).parent
KINDS = ("redis", "valkey")
SERVICE = "trading"


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(params=KINDS)
def program(request: pytest.FixtureRequest) -> Path:
    """The server program of each kind."""
    found = programs().get(request.param)
    if found is None:
        pytest.skip(f"NOT RUN: no {request.param}-server on this machine; install the package {request.param}-server")
    return found


@pytest.fixture
def nodes(program: Path, tmp_path: Path) -> Iterator[list[Node]]:
    """A cluster: its three masters, and then their three replicas."""
    with cluster(tmp_path / "servers", replicas=True, program=program) as started:
        yield started


@pytest.fixture
def cluster_url(nodes: Sequence[Node]) -> str:
    return f"redis+cluster://{addresses(nodes)}"


@pytest.fixture
def sentinels(program: Path, tmp_path: Path) -> Iterator[tuple[list[Node], list[Node]]]:
    """A master and its two replicas, and the three Sentinels that watch them."""
    with watched(tmp_path / "servers", SERVICE, replicas=2, sentinels=3, program=program) as started:
        yield started


@pytest.fixture
def sentinel_url(sentinels: tuple[list[Node], list[Node]]) -> str:
    return f"redis+sentinel://{addresses(sentinels[1])}/{SERVICE}"
