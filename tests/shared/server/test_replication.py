"""What the doctor finds in the arrangement of the servers."""

import pytest

from shared.log.address import parse_address
from shared.log.topology import SLOTS
from shared.server.replication import Arrangement, FollowingServer, MasterServer, SentinelAnswer, judged
from shared.server.security import SecurityCheck

GOOD = FollowingServer("b:1", True, 0, 0)


def master(
    *replicas: FollowingServer, where: str = "a:1", of: str = "", slots: int = SLOTS, least: int | None = 0
) -> MasterServer:
    return MasterServer(where, of, slots, replicas, least)


def checks(
    url: str, *masters: MasterServer, control: str = "a:1", sentinels: tuple[SentinelAnswer, ...] = ()
) -> dict[str, SecurityCheck]:
    return {check.what: check for check in judged(Arrangement(parse_address(url), masters, control, sentinels))}


def test_one_server_is_only_named() -> None:
    assert checks("redis://a:1", master()) == {"mode": SecurityCheck("mode", "good", "single: a:1")}


def test_a_replica_in_place_of_a_master_is_wrong() -> None:
    found = checks("redis://a:1", master(of="b:1"))["mode"]
    assert (found.verdict, found.found) == ("wrong", "a:1 is a replica of b:1")


@pytest.mark.parametrize(
    ("replica", "verdict"),
    [
        (GOOD, "good"),
        (FollowingServer("b:1", False, 0, 0), "wrong"),
        (FollowingServer("b:1", True, 10, 0), "wrong"),
        (FollowingServer("b:1", True, 1, 5_000), "good"),
    ],
)
def test_a_master_needs_a_replica_that_follows(replica: FollowingServer, verdict: str) -> None:
    found = checks("redis+cluster://a:1", master(replica))
    assert (found["replicas"].verdict, found["control"].verdict) == (verdict, verdict)


def test_a_command_needs_a_replica_of_the_master_that_has_control() -> None:
    masters = master(GOOD, slots=1), master(where="c:1", slots=SLOTS - 1)
    assert checks("redis+cluster://a:1", *masters)["control"].verdict == "good"
    assert checks("redis+cluster://a:1", *masters, control="c:1")["control"].verdict == "wrong"
    assert checks("redis+cluster://a:1", *masters)["replicas of c:1"].verdict == "wrong"


def test_slots_without_a_master_are_counted() -> None:
    found = checks("redis+cluster://a:1", master(GOOD, slots=16_000))["slots"]
    assert found.verdict == "wrong"
    assert found.found.startswith("384 of 16,384 have no master")


@pytest.mark.parametrize(
    ("replicas", "least", "verdict", "todo"),
    [
        (1, 0, "open", ""),
        (2, 0, "open", "min-replicas-to-write 1, min-replicas-max-lag 10"),
        (1, 1, "open", "another replica for each master"),
        (2, 1, "good", ""),
        (1, None, "unknown", "ask as the operators' user, console"),
    ],
)
def test_a_master_without_replicas_should_refuse_writes_if_others_can_take_over(
    replicas: int, least: int | None, verdict: str, todo: str
) -> None:
    """With one replica it should not: after a failover nothing would be written."""
    found = checks("redis+cluster://a:1", master(*[GOOD] * replicas, least=least))["writes without replicas"]
    assert (found.verdict, found.do) == (verdict, todo)


@pytest.mark.parametrize(
    ("named", "known", "fault", "verdict"),
    [(3, 3, "", "good"), (2, 3, "", "open"), (2, 2, "", "wrong"), (3, 3, "Connection refused", "wrong")],
)
def test_three_sentinels_should_know_each_other_and_be_named(named: int, known: int, fault: str, verdict: str) -> None:
    answers = [SentinelAnswer(f"s:{number}", known, 2) for number in range(named)]
    answers[0] = SentinelAnswer("s:0", known, 2, fault)
    found = checks("redis+sentinel://s:1/trading", master(GOOD), sentinels=tuple(answers))
    assert found["sentinels"].verdict == verdict
    assert found["mode"].found == "sentinel: service trading, its master is a:1"
