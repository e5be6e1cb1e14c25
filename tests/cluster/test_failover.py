"""Masters of a cluster that fail under load: decisions go on, and what was lost is named."""

from pathlib import Path

from tests.cluster.load import FOLLOWED_S, Load, loaded, measured
from tests.servers import Node, until


def killed_under_load(load: Load, master: Node, replica: Node, key: str) -> float:
    """Kill a master, and return how long after the failover the next decision came, in seconds."""
    until(lambda: master.client.xlen(key) > 20)
    master.kill()
    until(lambda: replica.client.role()[0] == "master")
    after_s = measured(replica, key)
    assert load.checks()[f"replicas of 127.0.0.1:{replica.port}"]["found"] == "none: nothing takes over"
    master.start()
    until(lambda: replica.client.info("replication")["connected_slaves"] == 1)
    return after_s


def test_decisions_go_on_after_masters_were_killed_under_load(
    nodes: list[Node], cluster_url: str, tmp_path: Path
) -> None:
    """First the master of partitions 0 and 1, then that of control: nothing is lost, nothing is decided twice."""
    with loaded(tmp_path / "installation", cluster_url) as load:
        with load.fed(4000):
            for number, place in ((2, "{p0}"), (1, "{p2}")):
                key = f"conclave:{place}:decisions"
                assert killed_under_load(load, nodes[number], nodes[number + 3], key) < FOLLOWED_S
        checks = load.checks()
        assert checks["mode"]["found"].startswith("cluster: 3 masters")
        assert {check["verdict"] for check in checks.values()} <= {"good", "open"}
        load.installation.conclave("verify")
