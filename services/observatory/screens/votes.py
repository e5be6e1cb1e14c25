"""The part of the screen Models about voting policies: in force, in shadow, and on what evidence. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import UNSET, Struct

from schemas.common import ENSEMBLE
from schemas.control import SetVotingPolicy
from services.observatory.core import State
from services.observatory.journal import PolicyRound
from services.observatory.screens.verdicts import SkillShown, VerdictShown, skill_of, verdict_of
from shared.control import State as Control
from shared.control.changes import policy_differences
from shared.control.policies import policy_digest
from shared.report.summary import Candidate

NONE: Final = "none"


class PolicyFieldShown(Struct, frozen=True):
    """One field of the voting policies side by side, in their order. ``differs``: of each, whether it is another value
    than in force."""

    name: str
    values: tuple[str, ...]
    differs: tuple[bool, ...]


class EvalueShown(Struct, frozen=True):
    """ln E of the gain over the policy in force, after the block before ``at`` (ms)."""

    at: int
    log_e: float


class RoundsShown(Struct, frozen=True):
    """The rounds that a voting policy in shadow decided too, since the present one is in force: how many, in how many
    the action differs, and the last of these, newest first. ``acts`` and ``in_force_acts``: in how many each says BUY
    or SELL."""

    rounds: int
    differ: int
    acts: int
    in_force_acts: int
    last: tuple[PolicyRound, ...]


class PolicyShown(Struct, frozen=True):
    """A voting policy. ``role``: in force, or shadow. ``differences``: from the one in force, as FIELD=VALUE.
    ``probation``: decisions within which its promotion must be confirmed. ``scored``: rounds with an outcome; evidence
    is None before the first, and for the policy in force, with which the others are compared. ``e_values``: over time;
    ``line``: the ln E that decides."""

    digest: str
    role: str
    differences: tuple[str, ...]
    probation: int | None
    scored: int
    over_prior: SkillShown | None
    over_in_force: SkillShown | None
    sell: float
    hold: float
    buy: float
    signed_return: float
    e_values: tuple[EvalueShown, ...]
    line: float
    verdict: VerdictShown | None
    rounds: RoundsShown | None


class MemberWeightsShown(Struct, frozen=True):
    """What one nat of a member's centred evidence adds in a stacker: a row for each class that gains (SELL, HOLD, BUY),
    a column for each class that the evidence is for."""

    policy: str
    model: str
    artifact: str
    rows: tuple[tuple[float, ...], ...]


class VoteShown(Struct, frozen=True):
    """The voting policies: the one in force first, then those in shadow. ``held``: a change needs a second person."""

    policies: tuple[PolicyShown, ...]
    fields: tuple[PolicyFieldShown, ...]
    members: tuple[MemberWeightsShown, ...]
    held: bool


def vote_of(state: State, control: Control, partition: int, known: Mapping[str, Candidate]) -> VoteShown:
    """Return the voting policies. ``known``: the evidence of this partition by digest."""
    digests = [policy_digest(control.policy), *control.policy_shadows]
    policies = [control.policy, *(control.policies[digest].policy for digest in control.policy_shadows)]
    return VoteShown(
        policies=tuple(
            _policy(state, control, partition, digest, policy, known.get(digest))
            for digest, policy in zip(digests, policies, strict=True)
        ),
        fields=tuple(_fields(policies)),
        members=tuple(
            MemberWeightsShown(digest, member.model, member.artifact, tuple(map(tuple, member.rows)))
            for digest, policy in zip(digests, policies, strict=True)
            if policy.stacker is not UNSET
            for member in policy.stacker.members
        ),
        held="promote_policy" in control.approval.commands,
    )


def _policy(
    state: State, control: Control, partition: int, digest: str, policy: SetVotingPolicy, found: Candidate | None
) -> PolicyShown:
    shadow = digest in control.policy_shadows
    one = found if shadow and found is not None and found.rows else None
    verdict = state.verdicts.get(f"{digest} {partition}") if shadow else None
    probation = None if shadow else control.probations.get(ENSEMBLE)
    return PolicyShown(
        digest=digest,
        role="shadow" if shadow else "in force",
        differences=tuple(policy_differences(control.policy, policy)),
        probation=probation.decisions if probation is not None else None,
        scored=one.rows if one else 0,
        over_prior=skill_of(one.over_prior) if one else None,
        over_in_force=skill_of(one.over_champion) if one and one.over_champion else None,
        sell=one.actions[0] if one else 0.0,
        hold=one.actions[1] if one else 0.0,
        buy=one.actions[2] if one else 0.0,
        signed_return=one.signed_return if one else 0.0,
        e_values=tuple(EvalueShown(each.at, each.champion) for each in one.e_values) if one else (),
        line=one.over_champion.line if one and one.over_champion else 0.0,
        verdict=verdict_of(verdict) if verdict is not None else None,
        rounds=_rounds(state, control, f"{digest} {partition}") if shadow else None,
    )


def _rounds(state: State, control: Control, key: str) -> RoundsShown | None:
    """Return the rounds in which a voting policy in shadow was compared with the one that is in force now."""
    kept = state.policies.get(key)
    if kept is None:
        return None
    known = (version for version in kept.counts if version <= control.version)
    same = {version for version in known if control.past[version].policy == control.policy}
    counts = [kept.counts[version] for version in same]
    return RoundsShown(
        rounds=sum(each.rounds for each in counts),
        differ=sum(each.differ for each in counts),
        acts=sum(each.acts for each in counts),
        in_force_acts=sum(each.in_force_acts for each in counts),
        last=tuple(each for each in reversed(kept.last) if each.version in same),
    )


def _fields(policies: Sequence[SetVotingPolicy]) -> Iterable[PolicyFieldShown]:
    for name in SetVotingPolicy.__struct_fields__:
        values = tuple(_text(getattr(policy, name)) for policy in policies)
        if set(values) != {NONE}:
            yield PolicyFieldShown(name, values, tuple(value != values[0] for value in values))


def _text(value: object) -> str:
    if value is UNSET:
        return NONE
    members = getattr(value, "members", None)
    if members is not None:
        return f"{getattr(value, 'base', '')} with {', '.join(member.model for member in members)}"
    return f"{value:g}" if isinstance(value, float) else str(value)
