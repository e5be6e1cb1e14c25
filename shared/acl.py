"""Who may do what on the server: its access-control file, made from the catalogue.

A user for each service, named like it. It reads the streams it reads and writes, appends to those it
writes and to no others, moves its own groups, and can neither load functions nor change the server.
The console is the operators' user; only writers of ``control`` in the catalogue append there. Nobody
is let in without a name: the user ``default`` is off.

Commands inside a server-side function are judged as if the caller sent them. So ``FCALL``, which needs
read and write on every key it names, gives a service nothing that its other rules withhold.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/ (selectors: 7.0).
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final, get_args

from schemas.catalogue import STREAMS, Service, StreamSpec

USERS: Final[tuple[str, ...]] = get_args(Service)
"""One for each service, the console's for operators, the executor's for who trades."""
GROUPS: Final = {"model-worker": "model-worker.*"}
"""Groups of a service that are not called like it."""
CONNECTION: Final = "+auth +hello +ping +select +client|setname +info +time"
PROBE: Final = "(~conclave:probe:* +set)"
"""What every process measures before it trusts a server (``shared.log.fitness``)."""
READING: Final = "+xread +xrange +xrevrange +xinfo|stream +type"
CLAIMING: Final = "+xgroup|create +xgroup|setid +xgroup|createconsumer +xgroup|delconsumer +type"
HOLDING: Final = "+hmget +hget +hset +hsetnx +hincrby +hgetall +sadd +smembers"
DEFAULT: Final = "user default off resetpass ~* &* +@all"
"""Nobody can be it, yet it may do everything: Redis reads its append-only file as this user. One that may
do nothing has every transaction of the file refused at the next start, the commits of all groups gone,
and no word of it but in the server's log (seen with Redis 7.0.15)."""
HEALTH: Final = "user health on nopass resetchannels -@all +ping"
"""For a health check of the server, which has no secret to keep. It may say PING."""


def hashed(password: str) -> str:
    """A password as the file holds it."""
    return sha256(password.encode()).hexdigest()


def lines(hashes: Mapping[str, str]) -> list[str]:
    """The access-control file, a line each: ``hashes`` gives ``hashed`` passwords by user; the user
    ``admin``, who may do everything, where it has one. Raises ``KeyError`` for a user without one."""
    rules = [DEFAULT, HEALTH]
    if "admin" in hashes:
        rules.append(f"user admin on #{hashes['admin']} ~* &* +@all")
    return rules + [f"user {user} on #{hashes[user]} {rule(user)}" for user in USERS]


def rule(user: str) -> str:
    """What one user may do: everything else is refused."""
    own = {"console": _operator, "archiver": _archiver}.get(user, lambda: _service(user))
    together = ["+multi +exec"] if user == "archiver" else []
    return " ".join(["resetchannels -@all", CONNECTION, *together, PROBE, *own()])


def _service(user: str) -> list[str]:
    writes = [spec for spec in STREAMS.values() if user in spec.writers]
    reads = [spec for spec in STREAMS.values() if user in spec.readers or spec in writes]
    # Whoever runs makes sure first that the installation is its own.
    seen = {spec.name: spec for spec in (*reads, STREAMS["control"])}.values()
    commits = [_key(spec) for spec in writes if spec.partitioned]
    inputs = [_key(spec) for spec in reads if spec.partitioned and user in spec.readers]
    held = [_tagged(f"group:{GROUPS.get(user, user)}"), _tagged("groups")]
    selectors = [
        _rule(READING, [f"%R{_key(spec)}" for spec in seen]),
        _rule(HOLDING, held),
        _rule(CLAIMING, inputs),
        _rule("+xadd +type", commits),
        _rule("+fcall", held, inputs, commits),
        _rule("+xadd", [_key(spec) for spec in writes if not spec.partitioned]),
    ]
    if user == "feed":
        # It goes as fast as the slowest reader takes it.
        selectors.append(_rule("+hgetall +smembers +xinfo|stream", [f"%R{_tagged('*')}"]))
    return [selector for selector in selectors if selector]


def _operator() -> list[str]:
    """Reads everything, appends where the catalogue says so, and may skip a group past a gap."""
    control = [_key(spec) for spec in STREAMS.values() if "console" in spec.writers]
    tagged = _tagged("*")
    return [
        _rule(f"{READING} +hgetall +smembers +xinfo|groups", [f"%R{_key(spec)}" for spec in STREAMS.values()]),
        _rule("+xadd", control),
        _rule(HOLDING, [_tagged("group:*"), _tagged("groups")]),
        _rule(f"+fcall {CLAIMING}", [tagged]),
        "(+function|load +function|list +config|get +acl|whoami +acl|list)",
    ]


def _archiver() -> list[str]:
    """Reads everything, where every group stands too; trims what the catalogue lets go, and nothing else."""
    held = [_tagged("group:archiver"), _tagged("groups")]
    finite = [_key(spec) for spec in STREAMS.values() if spec.retention_ms is not None]
    alarms = [_key(spec) for spec in STREAMS.values() if "archiver" in spec.writers]
    return [
        _rule(READING, [f"%R{_key(spec)}" for spec in STREAMS.values()]),
        _rule("+hgetall +smembers", [f"%R{_tagged('*')}"]),
        _rule(HOLDING, held),
        _rule("+xtrim", finite),
        _rule("+xadd +type", alarms),
        _rule("+fcall", held, alarms),
    ]


def _rule(commands: str, *keys: Iterable[str]) -> str:
    """A selector; none without keys, since a command without a key it may touch means nothing."""
    patterns = [key for some in keys for key in some]
    return f"({' '.join(patterns)} {commands})" if patterns else ""


def _key(spec: StreamSpec) -> str:
    return _tagged(spec.name) if spec.partitioned else f"~{spec.key()}"


def _tagged(name: str) -> str:
    return f"~conclave:{{p[0-9]*}}:{name}"
