"""Who may do what on the server: its access-control file, made from the catalogue.

A user for each service, named like it. It reads the streams it reads and writes, appends to those it
writes and to no others, moves its own groups, and can neither load functions nor change the server.
The console is the operators' user; only writers of ``control`` in the catalogue append there. Nobody
is let in without a name: the user ``default`` is off.

Fences of partitions (``shared.control.fence``) are moved by the console and checked by the writer of ``intents``,
which also restores one that is missing.

Commands inside a server-side function are judged as if the caller sent them. So ``FCALL``, which needs
read and write on every key it names, gives a service nothing that its other rules withhold.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/ (selectors: 7.0).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final, NamedTuple, get_args

from schemas.catalogue import STREAMS, Service, StreamSpec
from shared.log import durability

USERS: Final[tuple[str, ...]] = get_args(Service)
"""One for each service, the console's for operators, the executor's for who trades."""
GROUPS: Final = {"model-worker": "model-worker.*"}
"""Groups of a service that are not called like it."""
CONNECTION: Final = "+auth +hello +ping +select +client|setname +info +time"
PROBE: Final = f"(~{durability.PROBE}* +set)"
"""What every process measures before it trusts a server (``shared.log.durability``)."""
READING: Final = "+xread +xrange +xrevrange +xinfo|stream +type"
CLAIMING: Final = "+xgroup|create +xgroup|setid +xgroup|createconsumer +xgroup|delconsumer +xinfo|groups +type"
HOLDING: Final = "+hmget +hget +hset +hsetnx +hincrby +hgetall +sadd +smembers"
NOBODY: Final = "0" * 64
"""No password has this digest that anybody knew of."""
_NOISE: Final = {"resetchannels", "resetpass", "-@all", "sanitize-payload", "alldbs"}
"""What each server adds or leaves out, and what every rule begins with."""
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
    own = {"console": _operator, "archiver": _archiver, "guard": _guard, "watcher": _watcher}.get(
        user, lambda: _service(user)
    )
    together = ["+multi +exec"] if user == "archiver" else []
    return " ".join(["resetchannels -@all", CONNECTION, *together, PROBE, *own()])


def differences(found: Iterable[str]) -> list[str]:
    """In what the users that a server lists (``ACL LIST``) differ from those of the catalogue, in words;
    passwords are not compared. An administrator may be there."""
    theirs = {name_of(line): _parsed(line) for line in found}
    ours = {name_of(line): _parsed(line) for line in lines(dict.fromkeys(USERS, NOBODY))}
    del ours["default"]  # it may do everything, as long as nobody can be it
    said = [] if is_off("default", found) else ["default is on"]
    said += [f"{user} is not there" for user in sorted(ours.keys() - theirs.keys())]
    strangers = theirs.keys() - ours.keys() - {"default", "admin"}
    said += [f"{user} is not of the catalogue" for user in sorted(strangers)]
    for user in sorted(ours.keys() & theirs.keys()):
        said += [f"{user} {word}" for word in _compared(ours[user], theirs[user])]
    return said


def is_off(user: str, found: Iterable[str]) -> bool:
    """Whether nobody can be ``user``: it is listed as off, or is not there at all."""
    return all("off" in line.split() for line in found if name_of(line) == user)


def name_of(line: str) -> str:
    """Whose line of the access-control file it is."""
    return line.split()[1]


class _User(NamedTuple):
    """A line, in a form that does not depend on how it was written down."""

    flags: frozenset[str]
    rights: frozenset[frozenset[str]]
    """The root's and each selector's: patterns of keys and channels, and commands."""


def _parsed(line: str) -> _User:
    root, *selectors = re.split(r"[()]", line)
    words = frozenset(word for word in root.split()[2:] if not word.startswith("#")) - _NOISE
    flags = words & {"on", "off", "nopass"}
    rights = [words - flags, *(frozenset(selector.split()) - _NOISE for selector in selectors)]
    return _User(flags, frozenset(filter(None, rights)))


def _compared(ours: _User, theirs: _User) -> Iterator[str]:
    if ours.flags != theirs.flags:
        yield f"is {', '.join(sorted(theirs.flags))}, expected {', '.join(sorted(ours.flags))}"
    for right in sorted(theirs.rights - ours.rights, key=sorted):
        yield f"has ({' '.join(sorted(right))})"
    for right in sorted(ours.rights - theirs.rights, key=sorted):
        yield f"lacks ({' '.join(sorted(right))})"


def _service(user: str) -> list[str]:
    writes = [spec for spec in STREAMS.values() if user in spec.writers]
    reads = [spec for spec in STREAMS.values() if user in spec.readers or spec in writes]
    # Whoever runs makes sure first that the installation is its own.
    seen = {spec.name: spec for spec in (*reads, STREAMS["control"])}.values()
    commits = [_key(spec) for spec in writes if spec.partitioned]
    inputs = [_key(spec) for spec in reads if spec.partitioned and user in spec.readers]
    held = [_tagged(f"group:{GROUPS.get(user, user)}"), _tagged("groups")]
    fence = [_tagged("fence")] if user in STREAMS["intents"].writers else []
    selectors = [
        _rule(READING, [f"%R{_key(spec)}" for spec in seen]),
        _rule(HOLDING, held),
        _rule(CLAIMING, inputs),
        _rule("+xadd +type", commits),
        _rule("+hget +hset", fence),
        _rule("+fcall", held, inputs, commits, fence),
        _rule("+xadd", [_key(spec) for spec in writes if not spec.partitioned]),
    ]
    if user == "feed":
        # It goes as fast as the slowest reader takes it.
        selectors.append(_rule("+hgetall +smembers +xinfo|stream", [f"%R{_tagged('*')}"]))
    return [selector for selector in selectors if selector]


def _operator() -> list[str]:
    """Reads everything, appends where the catalogue says so, moves fences, and may skip a group past a gap."""
    control = [_key(spec) for spec in STREAMS.values() if "console" in spec.writers]
    tagged = _tagged("*")
    return [
        _rule(f"{READING} +hgetall +smembers +xinfo|groups", [f"%R{_key(spec)}" for spec in STREAMS.values()]),
        _rule("+xadd", control),
        _rule(HOLDING, [_tagged("group:*"), _tagged("groups")]),
        _rule("+hget +hset", [_tagged("fence")]),
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


def _guard() -> list[str]:
    """Looks at what was decided, and reverts. It holds no group: whatever it knows stands in the streams."""
    reads = [f"%R{_key(spec)}" for spec in STREAMS.values() if "guard" in spec.readers]
    return [_rule(READING, reads), _rule("+xadd", [_key(spec) for spec in STREAMS.values() if "guard" in spec.writers])]


def _watcher() -> list[str]:
    """Reads what it tells of, and where every group and stream stands. Writes nothing."""
    seen = [f"%R{_key(spec)}" for spec in STREAMS.values() if "watcher" in spec.readers]
    return [_rule(READING, seen), _rule("+hgetall +smembers +xinfo|stream", [f"%R{_tagged('*')}"])]


def _rule(commands: str, *keys: Iterable[str]) -> str:
    """A selector; none without keys, since a command without a key it may touch means nothing."""
    patterns = [key for some in keys for key in some]
    return f"({' '.join(patterns)} {commands})" if patterns else ""


def _key(spec: StreamSpec) -> str:
    return _tagged(spec.name) if spec.partitioned else f"~{spec.key()}"


def _tagged(name: str) -> str:
    return f"~conclave:{{p[0-9]*}}:{name}"
