"""The screen History: who changed what, when and why, and what was in force? Pure."""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from services.observatory.core import State
from services.observatory.journal import VersionDecision
from shared.audit.configurations import Configurations
from shared.audit.proof_subject import provable
from shared.control import State as Control
from shared.control import head_of
from shared.control.changes import changes, words

PAGE: Final = 40
REFUSED: Final = 20


class EntryShown(Struct, frozen=True):
    """One command: who issued it, when and why, with which key, and the head of the chain after it. ``decisions``: how
    many decisions of those that are kept were made under it. ``proofs``: the versions whose proof packs prove what
    votes since a promotion or a rollback."""

    version: int
    at: int
    actor: str
    reason: str
    what: str
    kind: str
    key: str
    signed: bool
    head: str
    decisions: int
    proofs: tuple[int, ...]


class RefusedShown(Struct, frozen=True):
    """An entry of the stream that does not count, and why."""

    entry: str
    reason: str


class ChangeShown(Struct, frozen=True):
    """One difference between two versions."""

    what: str
    before: str
    after: str


class MemberAt(Struct, frozen=True):
    """A model in a configuration."""

    model: str
    weight: float
    champion: str
    shadows: tuple[str, ...]


class VersionScreen(Struct, frozen=True):
    """One version: the command that made it, the configuration, how it differs from the one before (``made``) and from
    version ``against`` (``since``; by default the present one), and its decisions."""

    version: int
    newest: int
    against: int
    head: str
    entry: EntryShown | None
    halted: bool
    rule: str
    quorum_weight: float
    quorum_count: int
    gate: str
    members: tuple[MemberAt, ...]
    made: tuple[ChangeShown, ...]
    since: tuple[ChangeShown, ...]
    decisions: int
    actions: dict[str, int]
    intents: dict[str, int]
    recent: tuple[VersionDecision, ...]


class HistoryScreen(Struct, frozen=True):
    """One page of the timeline, newest first. ``intact``: the chain was verified up to ``head``. ``keys``: how many are
    trusted; without one, everyone with access to the log may issue commands."""

    count: int
    head: str
    intact: bool
    keys: int
    entries: tuple[EntryShown, ...]
    page: int
    pages: int
    refused: tuple[RefusedShown, ...]
    refusals: int


def screen(state: State, configurations: Configurations, *, page: int = 1) -> HistoryScreen:
    """Return a page of the timeline."""
    count = len(configurations.envelopes)
    pages = max(1, -(-count // PAGE))
    page = min(max(page, 1), pages)
    newest = count - (page - 1) * PAGE
    entries = [entry_of(state, configurations, version) for version in range(newest, max(newest - PAGE, 0), -1)]
    refused = configurations.reader.refused
    return HistoryScreen(
        count=count,
        head=configurations.newest.head,
        intact=configurations.trusted,
        keys=len(configurations.newest.keys),
        entries=tuple(entries),
        page=page,
        pages=pages,
        refused=tuple(RefusedShown(each.entry, each.reason) for each in refused[-REFUSED:]),
        refusals=len(refused),
    )


def version(state: State, configurations: Configurations, number: int, against: int = 0) -> VersionScreen | None:
    """Return one version, compared with version ``against`` (0: the present one); None if there is no such version."""
    newest = len(configurations.states)
    against = against or newest
    if not (1 <= number <= newest and 1 <= against <= newest):
        return None
    now, other = configurations.states[number - 1], configurations.states[against - 1]
    before = configurations.states[number - 2] if number > 1 else Control()
    decided = state.versions.get(number)
    return VersionScreen(
        version=number,
        newest=newest,
        against=against,
        head=now.head,
        entry=entry_of(state, configurations, number),
        halted=now.halted,
        rule=now.policy.rule,
        quorum_weight=now.policy.quorum_weight,
        quorum_count=now.policy.quorum_count,
        gate=now.gate.name if now.gate is not None else "default",
        members=tuple(_members(now)),
        made=differences(before, now),
        since=differences(now, other),
        decisions=decided.count if decided else 0,
        actions=decided.actions if decided else {},
        intents=decided.intents if decided else {},
        recent=tuple(reversed(decided.recent)) if decided else (),
    )


def version_at(configurations: Configurations, moment: int) -> int:
    """Return the last version that was issued until ``moment`` (ms), by the clocks of the issuers; 0 if none was."""
    issued = (each.event.version for each in configurations.envelopes if each.event.at <= moment)
    return max(issued, default=0)


def differences(before: Control, after: Control) -> tuple[ChangeShown, ...]:
    """Return how two versions differ."""
    return tuple(ChangeShown(*change) for change in changes(before, after))


def entry_of(state: State, configurations: Configurations, version: int) -> EntryShown:
    """Return one command."""
    recorded = configurations.envelopes[version - 1].event
    what = words(recorded.command)
    decided = state.versions.get(recorded.version)
    return EntryShown(
        version=recorded.version,
        at=recorded.at,
        actor=recorded.actor,
        reason=recorded.reason,
        what=what,
        kind=what.partition(" ")[0],
        key=recorded.key or "",
        signed=recorded.signature is not None,
        head=head_of(recorded),
        decisions=decided.count if decided else 0,
        proofs=provable(configurations, version),
    )


def _members(control: Control) -> Iterator[MemberAt]:
    for name, model in sorted(control.models.items()):
        if model.champion or model.shadows:
            yield MemberAt(name, model.weight or 0.0, model.champion or "", model.shadows)
