"""Make the server's access-control file (ACL) from the catalogue of streams, and compare a server with it.

Each service has a user of its name. The user can read the streams that the service reads or writes, append only to
those that it writes, and commit the offsets of its own groups. It can neither load functions nor change the server's
configuration. The user of the operators is ``console``. Only the writers of ``control`` in the catalogue can append
there. Every client needs a user name: the user ``default`` is off.

The console, the observatory and the phone open and close the fences of partitions (``shared.control.fence``). The
writer of ``intents`` checks them, and restores one that is missing; the writer of ``orders`` checks them.

The server checks each command inside a server-side function as if the caller had sent it. So ``FCALL``, which needs
read and write permission on every key that it names, permits nothing that the other rules of a service do not permit.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/ (selectors: 7.0).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import Final, NamedTuple, get_args

from schemas.catalogue import STREAMS, Service, StreamSpec

USERS: Final[tuple[str, ...]] = get_args(Service)
"""A user for each service; ``console`` is for operators."""
GROUPS: Final = {"model-worker": "model-worker.*"}
"""Patterns for the groups of a service whose groups do not have its name."""
ONLOOKERS: Final = frozenset({"watcher"})
"""Users that read, and write nothing."""
REMOTE: Final = frozenset({"observatory", "phone"})
"""Users through which people act from elsewhere."""
CONNECTION: Final = "+auth +hello +ping +select +client|setname +info +time +cluster|slots +asking +wait"
"""What every client may do. The last three are for servers that are replicated, or are nodes of a cluster."""
READING: Final = "+xread +xrange +xrevrange +xinfo|stream +type"
CLAIMING: Final = "+xgroup|create +xgroup|setid +xgroup|createconsumer +xgroup|delconsumer +xinfo|groups +type"
HOLDING: Final = "+hmget +hget +hset +hsetnx +hincrby +hgetall +sadd +smembers"
NOBODY: Final = "0" * 64
"""A placeholder for a digest: no password is known that has it."""
_NOISE: Final = {"resetchannels", "resetpass", "-@all", "sanitize-payload", "alldbs"}
"""Words that are ignored in a comparison: servers add or omit them, or every rule begins with them."""
DEFAULT: Final = "user default off resetpass ~* &* +@all"
"""The rule of the user ``default``: off, so that no client can log in as it, but with every permission.

Redis replays its append-only file as this user. Without permissions, it refuses every transaction in the file at the
next start: the commits of all groups are lost, and only the server's log reports it (seen with Redis 7.0.15)."""
HEALTH: Final = "user health on nopass resetchannels -@all +ping"
"""The rule of the user for health checks: no password, and no command except PING."""
REPLICA: Final = "replica"
"""The user as which a replica follows its master (``masteruser``)."""
ADDED: Final = {"admin": "~* &* +@all", REPLICA: "resetchannels -@all +psync +replconf +ping"}
"""Users beside those of services: the administrator, and the replicas of a server that is replicated."""


def hashed(password: str) -> str:
    """Return the digest of a password, as the access-control file contains it."""
    return sha256(password.encode()).hexdigest()


def lines(hashes: Mapping[str, str]) -> list[str]:
    """Return the lines of the access-control file, one for each user.

    ``hashes`` contains the digests of passwords (``hashed``) by user. The users in ``ADDED`` are included only if
    ``hashes`` contains them. Raises ``KeyError`` if any other user is missing."""
    rules = [DEFAULT, HEALTH]
    rules += [f"user {user} on #{hashes[user]} {words}" for user, words in ADDED.items() if user in hashes]
    return rules + [f"user {user} on #{hashes[user]} {rule(user)}" for user in USERS]


def rule(user: str) -> str:
    """Return the permissions of one user as words of an ACL rule. The server refuses everything else."""
    other = _onlooker if user in ONLOOKERS else _remote if user in REMOTE else _service
    own = {"console": _operator, "archiver": _archiver, "guard": _guard}.get(user, partial(other, user))
    together = ["+multi +exec"] if user == "archiver" else []
    return " ".join(["resetchannels -@all", CONNECTION, *together, *own()])


def differences(found: Iterable[str]) -> list[str]:
    """Return how the server's users differ from those of the catalogue, one text for each difference.

    ``found`` are the lines of ``ACL LIST``. Passwords are not compared. The users in ``ADDED`` are no difference."""
    theirs = {name_of(line): _parsed(line) for line in found}
    ours = {name_of(line): _parsed(line) for line in lines(dict.fromkeys(USERS, NOBODY))}
    del ours["default"]  # it must be off; what it could do otherwise does not matter
    said = [] if is_off("default", found) else ["default is on"]
    said += [f"{user} is not there" for user in sorted(ours.keys() - theirs.keys())]
    strangers = theirs.keys() - ours.keys() - ADDED.keys() - {"default"}
    said += [f"{user} is not of the catalogue" for user in sorted(strangers)]
    for user in sorted(ours.keys() & theirs.keys()):
        said += [f"{user} {word}" for word in _compared(ours[user], theirs[user])]
    return said


def is_off(user: str, found: Iterable[str]) -> bool:
    """Return whether no client can log in as ``user``: it is listed as off, or not listed."""
    return all("off" in line.split() for line in found if name_of(line) == user)


def name_of(line: str) -> str:
    """Return the name of the user that a line of the access-control file describes."""
    return line.split()[1]


class _User(NamedTuple):
    """A line of the access-control file, in a form that does not depend on the order of its words."""

    flags: frozenset[str]
    rights: frozenset[frozenset[str]]
    """The permissions of the root and of each selector: patterns of keys and channels, and commands."""


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
    # Every service reads control first, to check that the server belongs to its installation.
    seen = {spec.name: spec for spec in (*reads, STREAMS["control"])}.values()
    commits = [_key(spec) for spec in writes if spec.partitioned]
    inputs = [_key(spec) for spec in reads if spec.partitioned and user in spec.readers]
    held = [_tagged(f"group:{GROUPS.get(user, user)}"), _tagged("groups")]
    restores = [_tagged("fence")] if user in STREAMS["intents"].writers else []
    checks = [_tagged("fence")] if user in STREAMS["orders"].writers else []
    selectors = [
        _rule(READING, [f"%R{_key(spec)}" for spec in seen]),
        _rule(HOLDING, held),
        _rule(CLAIMING, inputs),
        _rule("+xadd +type", commits),
        _rule("+hget +hset", restores),
        _rule("+hget", checks),
        _rule("+fcall", held, inputs, commits, restores, checks),
        _rule("+xadd", [_key(spec) for spec in writes if not spec.partitioned]),
    ]
    if user == "feed":
        # The feed reads the positions of all groups: it waits for the slowest.
        selectors.append(_rule("+hgetall +smembers +xinfo|stream", [f"%R{_tagged('*')}"]))
    return [selector for selector in selectors if selector]


def _operator() -> list[str]:
    """Return the rules of ``console``.

    It reads everything, appends where the catalogue has it as a writer, opens and closes fences, and can set the
    position of a group past a gap."""
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
    """Return the rules of ``archiver``.

    It reads everything, including the positions of all groups. It trims only streams that have a retention in the
    catalogue, and appends only to streams that the catalogue has it write."""
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
    """Return the rules of ``guard``.

    It reads its streams and appends commands to ``control``, with the fences that a halt moves. It has no consumer
    group, since it keeps no state."""
    reads = [f"%R{_key(spec)}" for spec in STREAMS.values() if "guard" in spec.readers]
    return [_rule(READING, reads), *_commands("guard")]


def _commands(user: str) -> list[str]:
    """Return the rules of a user that appends to its streams, and moves the fences as a halt does."""
    writes = [spec for spec in STREAMS.values() if user in spec.writers]
    fence, notes = [_tagged("fence")], [_key(spec) for spec in writes if spec.partitioned]
    return [
        _rule("+xadd +type", [_key(spec) for spec in writes]),
        _rule("+hget +hset", fence),
        _rule("+fcall", fence, notes),
    ]


def _remote(user: str) -> list[str]:
    """Return the rules of ``observatory`` and ``phone``.

    They read as an onlooker does, and append what people do through them: commands, with the fences that a halt moves;
    the observatory also training requests, and who signed in. They have no consumer group."""
    return [*_onlooker(user), *_commands(user)]


def _onlooker(user: str) -> list[str]:
    """Return the rules of a user that reads its streams, and the positions of all groups and streams, and writes
    nothing."""
    seen = [f"%R{_key(spec)}" for spec in STREAMS.values() if user in (*spec.readers, *spec.writers)]
    return [_rule(READING, seen), _rule("+hgetall +smembers +xinfo|stream", [f"%R{_tagged('*')}"])]


def _rule(commands: str, *keys: Iterable[str]) -> str:
    """Return a selector that permits ``commands`` on ``keys``; without keys an empty text, since each command needs a
    key."""
    patterns = [key for some in keys for key in some]
    return f"({' '.join(patterns)} {commands})" if patterns else ""


def _key(spec: StreamSpec) -> str:
    return _tagged(spec.name) if spec.partitioned else f"~{spec.key()}"


def _tagged(name: str) -> str:
    return f"~conclave:{{p[0-9]*}}:{name}"
