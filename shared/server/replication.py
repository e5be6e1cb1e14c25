"""Check how the servers of the log are arranged: mode, nodes, slots, replicas, and what a failover would lose.

Redis replicates asynchronously: a failover loses what the former master had acknowledged and no replica had. Conclave
detects such a loss and names it (docs/explanation/crash-anywhere.md). Two settings make it small. A command is reported
only when a replica has it too (``RedisLog.append_at``). With ``min-replicas-to-write``, a master that lost its replicas
refuses writes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from shared.log.address import Address
from shared.log.connection import server_errors
from shared.log.topology import SLOTS, ClusterTopology, SentinelTopology, topology_of
from shared.server.security import SecurityCheck

LATE_S: Final = 10
"""A replica that has not answered its master for so long counts as absent (seconds)."""
ENOUGH_SENTINELS: Final = 3
"""Fewer Sentinels cannot outvote one that is cut off together with the master."""
NOT_ALLOWED: Final = "this user may not look"
ASK: Final = "ask as the operators' user, console"


class FollowingServer(Struct, frozen=True):
    """A replica as its master sees it. ``lag_s``: time since its last answer. ``missing``: bytes it has not got yet."""

    where: str
    online: bool
    lag_s: int
    missing: int

    @property
    def follows(self) -> bool:
        """Whether a failover to this replica would lose little."""
        return self.online and self.lag_s < LATE_S

    def __str__(self) -> str:
        state = f"lag {self.lag_s} s, {self.missing:,} bytes missing" if self.online else "not in sync"
        return f"{self.where} ({state})"


class MasterServer(Struct, frozen=True):
    """A server that takes writes.

    ``of``: the master that this server replicates; empty, as it should be, for a master. ``slots``: how many slots of
    the cluster it has; 0 without a cluster. ``least``: ``min-replicas-to-write``; None if this user may not ask."""

    where: str
    of: str
    slots: int
    replicas: tuple[FollowingServer, ...]
    least: int | None


class SentinelAnswer(Struct, frozen=True):
    """What a Sentinel answers about the master: how many Sentinels it knows, itself included, and how many of them must
    agree that the master is down. ``fault``: why it did not answer; empty if it did."""

    where: str
    sentinels: int = 0
    quorum: int = 0
    fault: str = ""


class Arrangement(Struct, frozen=True):
    """The servers of the log. ``control``: the place of the master that has the control stream."""

    address: Address
    masters: tuple[MasterServer, ...]
    control: str
    sentinels: tuple[SentinelAnswer, ...] = ()


async def arranged(url: str) -> list[SecurityCheck]:
    """Return the checks of the arrangement of the servers at ``url``: one, if this user may not look at it. Raises
    ``UnavailableError``, ``WrongAddressError``."""
    topology, masters = topology_of(url), list[MasterServer]()
    try:
        with server_errors(str(topology.address)):
            slots = await topology.slots() if isinstance(topology, ClusterTopology) else {}
            for server in await topology.masters():
                host, port = await topology.node(server)
                async with await topology.client(server, "conclave:doctor") as client:
                    await topology.check_kind(client)
                    where = f"{host}:{port}" if host else topology.address.path
                    try:
                        masters.append(await _master(client, where, slots.get((host, port), 0)))
                    except NoPermissionError:
                        return [SecurityCheck("mode", "unknown", NOT_ALLOWED, ASK)]
            host, port = await topology.node(topology.server_of("conclave:control"))
            answers = list[SentinelAnswer]()
            if isinstance(topology, SentinelTopology):
                answers = [_answer(*each) for each in await topology.ask_all()]
    finally:
        await topology.close()
    return list(judged(Arrangement(topology.address, tuple(masters), f"{host}:{port}", tuple(answers))))


def judged(seen: Arrangement) -> Iterator[SecurityCheck]:
    """Return the checks that follow from the arrangement of the servers."""
    yield _mode(seen)
    if seen.address.kind == "server":
        return
    if seen.address.kind == "sentinel":
        yield _sentinels(seen.sentinels)
    else:
        yield _slots(seen.masters)
    many = len(seen.masters) > 1
    for master in seen.masters:
        of = f" of {master.where}" if many else ""
        yield _replicas(master, f"replicas{of}")
        yield _cut_off(master, f"writes without replicas{of}")
    yield _control(next((master for master in seen.masters if master.where == seen.control), None))


def _mode(seen: Arrangement) -> SecurityCheck:
    nodes = ", ".join(master.where for master in seen.masters)
    following = [f"{master.where} is a replica of {master.of}" for master in seen.masters if master.of]
    if following:
        todo = 'name the master in [redis], or the Sentinels that know it, with mode = "sentinel"'
        return SecurityCheck("mode", "wrong", "; ".join(following), todo)
    match seen.address.kind:
        case "server":
            return SecurityCheck("mode", "good", f"single: {nodes}")
        case "sentinel":
            return SecurityCheck("mode", "good", f"sentinel: service {seen.address.service}, its master is {nodes}")
        case "cluster":
            replicas = sum(len(master.replicas) for master in seen.masters)
            return SecurityCheck("mode", "good", f"cluster: {len(seen.masters)} masters ({nodes}), {replicas} replicas")


def _slots(masters: Sequence[MasterServer]) -> SecurityCheck:
    shares = ", ".join(f"{master.where} {master.slots:,}" for master in masters)
    lacking = SLOTS - sum(master.slots for master in masters)
    if lacking:
        todo = "start the masters or replicas that had them, or `redis-cli --cluster fix`"
        return SecurityCheck("slots", "wrong", f"{lacking:,} of {SLOTS:,} have no master; {shares}", todo)
    return SecurityCheck("slots", "good", f"all {SLOTS:,} have a master: {shares}")


def _sentinels(watches: Sequence[SentinelAnswer]) -> SecurityCheck:
    silent = [f"{watch.where}: {watch.fault}" for watch in watches if watch.fault]
    if silent:
        return SecurityCheck("sentinels", "wrong", "; ".join(silent), "start them, or correct `url` in [redis]")
    known = min(watch.sentinels for watch in watches)
    found = f"{known} know each other, {watches[0].quorum} must agree; {len(watches)} are named in the settings"
    if known < ENOUGH_SENTINELS:
        return SecurityCheck("sentinels", "wrong", found, f"run at least {ENOUGH_SENTINELS}, on different machines")
    if len(watches) < known:
        return SecurityCheck("sentinels", "open", found, "name all of them in `url` in [redis]")
    return SecurityCheck("sentinels", "good", found)


def _replicas(master: MasterServer, what: str) -> SecurityCheck:
    found = ", ".join(map(str, master.replicas)) or "none"
    if not any(replica.follows for replica in master.replicas):
        return SecurityCheck(what, "wrong", f"{found}: nothing takes over", "start a replica, or mend its link")
    return SecurityCheck(what, "good", found)


def _cut_off(master: MasterServer, what: str) -> SecurityCheck:
    following = sum(replica.follows for replica in master.replicas)
    if master.least is None:
        return SecurityCheck(what, "unknown", NOT_ALLOWED, ASK)
    if master.least == 0:
        found = "taken: what a master writes that is cut off from its replicas is lost at the failover"
        todo = "min-replicas-to-write 1, min-replicas-max-lag 10" if following > 1 else ""
        return SecurityCheck(what, "open", f"{found}{'' if todo else '. With one replica there is no choice'}", todo)
    if following <= master.least:
        found = f"refused below {master.least}; {following} follow, so after a failover nothing is written"
        return SecurityCheck(what, "open", found, "another replica for each master")
    return SecurityCheck(what, "good", f"refused below {master.least}; {following} follow")


def _control(master: MasterServer | None) -> SecurityCheck:
    if master is None or not any(replica.follows for replica in master.replicas):
        found = "on its master alone: a failover to a replica that lags would lose the newest commands"
        return SecurityCheck("control", "wrong", found, "start a replica of the master that has it")
    return SecurityCheck("control", "good", "a command is reported once a replica has it too (WAIT)")


async def _master(client: Redis, where: str, slots: int) -> MasterServer:
    facts: Any = await client.info("replication")
    end = int(facts.get("master_repl_offset", 0))
    replicas = []
    for name, found in facts.items():
        if name.startswith("slave") and isinstance(found, Mapping):
            missing = max(end - int(found["offset"]), 0)
            place = f"{found['ip']}:{found['port']}"
            replicas.append(FollowingServer(place, found["state"] == "online", int(found.get("lag", 0)), missing))
    of = f"{facts['master_host']}:{facts['master_port']}" if facts.get("role") == "slave" else ""
    try:
        settings: Any = await client.config_get("min-replicas-to-write")
        least = int(settings["min-replicas-to-write"])
    except ResponseError:
        least = None
    return MasterServer(where, of, slots, tuple(replicas), least)


def _answer(where: str, answer: Mapping[str, Any] | RedisError) -> SentinelAnswer:
    if isinstance(answer, RedisError):
        return SentinelAnswer(where, fault=str(answer))
    return SentinelAnswer(where, int(answer["num-other-sentinels"]) + 1, int(answer["quorum"]))
