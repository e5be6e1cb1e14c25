"""Masters of a cluster that fail, and slots that move, under load: decisions go on, and what was lost is named."""

import os
import signal
from pathlib import Path

from bench.servers import Node, joined, move_slot, until
from schemas.operations import LogTruncated
from shared.log.redis import library
from shared.log.topology import slot_of
from tests.cluster.load import FOLLOWED_S, Load, loaded, measured


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


def test_a_slot_moves_under_load_to_a_master_and_to_one_that_has_just_joined(
    nodes: list[Node], cluster_url: str, tmp_path: Path, program: Path
) -> None:
    """One that has just joined has none of the log's functions."""
    key, slot, giver, taker = "conclave:{p0}:decisions", slot_of("conclave:{p0}:decisions"), nodes[2], nodes[0]
    with (
        joined(tmp_path / "joined", nodes, program) as new,
        loaded(tmp_path / "installation", cluster_url) as load,
    ):
        assert new.client.function_list() == []
        with load.fed(3000):
            until(lambda: giver.client.xlen(key) > 20)
            move_slot(slot, giver, taker, nodes[:3])
            assert measured(taker, key) < FOLLOWED_S
            move_slot(slot, taker, new, nodes[:3])
            assert measured(new, key) < FOLLOWED_S
        assert library()[0] in new.client.function_list()[0]
        assert load.checks()["mode"]["found"].startswith("cluster: 4 masters")
        load.installation.conclave("verify")


def test_writes_that_a_failover_loses_are_named_and_their_bars_are_decided_again(
    nodes: list[Node], cluster_url: str, tmp_path: Path
) -> None:
    """The replica lags when its master is killed: what it has not got is gone."""
    key, master, replica = "conclave:{p0}:decisions", nodes[2], nodes[5]
    with loaded(tmp_path / "installation", cluster_url) as load:
        with load.fed(3000, again=True):
            until(lambda: master.client.xlen(key) > 20)
            os.kill(replica.process.pid, signal.SIGSTOP)
            master.execute("CLIENT", "KILL", "TYPE", "replica")  # what is sent is in the system's buffers otherwise
            seen = master.client.xlen(key)
            until(lambda: master.client.xlen(key) > seen + 20)
            before = master.client.xlen(key)
            master.kill()
            os.kill(replica.process.pid, signal.SIGCONT)
            until(lambda: replica.client.role()[0] == "master")
            assert replica.client.xlen(key) < before
        named = {(alarm.group, alarm.stream) for alarm in load.alarms(0) if isinstance(alarm, LogTruncated)}
        assert ("feature-builder", "market") in named
        assert ("ensemble-voter", "predictions") in named
