"""Every command in every state: accepted or refused, the text of a refusal, what an accepted one changes.

Both tables are pinned in files. To pin a new outcome, run this file as a program, and read the difference before you
commit it."""

import json
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.common import ACTIONS
from schemas.control import (
    Approve,
    Command,
    CommandRecorded,
    ConfirmPromotion,
    Found,
    Halt,
    Promote,
    PromotePolicy,
    Propose,
    Refuse,
    RegisterArtifact,
    Resume,
    Retire,
    RevertProbation,
    RevokeKey,
    Rollback,
    SetApprovalRule,
    SetExecutionPolicy,
    SetGatePolicy,
    SetLadder,
    SetTrainingPolicy,
    SetVotingPolicy,
    SetWeights,
    StackedMember,
    Stacker,
    StartPolicyShadow,
    StartShadow,
    StepWeight,
    StopPolicyShadow,
    StopShadow,
    TrustKey,
)
from shared.control import EMPTY, State, decide, fold, propose
from shared.control.policies import policy_digest
from shared.control.signing import Signer

PINNED = Path(__file__).parents[2] / "histories" / "outcomes.json"
EFFECTS = Path(__file__).with_name("effects.json")
A1, A2, A3, B1, C1 = "a1" * 32, "a2" * 32, "a3" * 32, "b1" * 32, "c1" * 32
READY = ("0a" * 16, "0b" * 16)
VERDICT = "0c" * 16


def artifact(model: str, digest: str, **changed: Any) -> RegisterArtifact:
    fields: dict[str, Any] = {
        "model": model,
        "artifact": digest,
        "family": "xgboost",
        "feature_set": "f0" * 32,
        "feature_set_name": "core-4",
        "interval_ms": 60_000,
        "classes": ACTIONS,
        "centre": (-1.1,) * 3,
        "prior": (0.3, 0.4, 0.3),
        "features": ("rsi_14", "atr_14", "macd_12_26"),
        "libraries": {"xgboost": "3.2.0"},
    }
    return RegisterArtifact(**{**fields, **changed})


OTHER: dict[str, Any] = {
    "feature_set": "f1" * 32,
    "feature_set_name": "core-5",
    "features": ("rsi_14", "atr_14", "obv"),
    "libraries": {"xgboost": "3.3.0"},
}
FOUNDED = (Found(2, "log-of-a-test"),)
REGISTERED = (*FOUNDED, artifact("a", A1), artifact("a", A2), artifact("a", A3, **OTHER), artifact("b", B1))
ONE = (*REGISTERED, Promote("a", A1, forced=True, weight=1.0))
TWO = (*ONE, Promote("b", B1, forced=True, weight=0.2))
SIGNER = Signer("ada", Ed25519PrivateKey.from_private_bytes(bytes(32)))
TWO_PERSONS = (*TWO, SetApprovalRule(("promote", "set_weights"), ("bo",)))
KEY = TrustKey("ada", SIGNER.public_key, "Ada")
LABEL: dict[str, Any] = {"horizon": 12, "kappa": 0.75}
LABELLED = (
    *FOUNDED,
    artifact("a", A1, **LABEL),
    artifact("b", B1, **LABEL),
    Promote("a", A1, forced=True, weight=1.0),
    Promote("b", B1, forced=True, weight=0.2),
)
ZEROS = ((0.0, 0.0, 0.0),) * 3
CALM = SetVotingPolicy(edge=0.05)
CALM_DIGEST = policy_digest(CALM)
STACKED = SetVotingPolicy(rule="stacker", stacker=Stacker("mean", (StackedMember("a", A1, ZEROS),)))
CANDIDATE = (*LABELLED, StartPolicyShadow(CALM, scale=0.01))
STATES: dict[str, tuple[Command, ...]] = {
    "unfounded": (),
    "founded": FOUNDED,
    "registered": REGISTERED,
    "one votes": ONE,
    "two vote": TWO,
    "in shadow": (*TWO, StartShadow("a", A2)),
    "promoted": (*TWO, Promote("a", A2, forced=True)),
    "on probation": (*TWO, Promote("a", A2, forced=True, probation=100)),
    "rolled back": (*TWO, Promote("a", A2, forced=True), Rollback()),
    "retired": (*TWO, StartShadow("a", A2), Retire("a", A2)),
    "retired behind": (*TWO, Promote("a", A2, forced=True), Retire("a", A1)),
    "halted": (*TWO, Halt()),
    "strict quorum": (*TWO, SetVotingPolicy(quorum_count=2)),
    "ladder for all": (*TWO, SetLadder(automatic=True)),
    "keys": (*TWO, KEY, TrustKey("bo", "0e" * 32, "Bo", ("halt", "resume"))),
    "two persons": TWO_PERSONS,
    "proposed": (*TWO_PERSONS, Propose(Promote("a", A2, forced=True))),
    "policy in shadow": CANDIDATE,
    "policy promoted": (*CANDIDATE, PromotePolicy(CALM_DIGEST, forced=True)),
    "policy rolled back": (*CANDIDATE, PromotePolicy(CALM_DIGEST, forced=True), Rollback()),
    "policy of a stacker in shadow": (*LABELLED, StartPolicyShadow(STACKED)),
    "policy on probation": (*CANDIDATE, PromotePolicy(CALM_DIGEST, forced=True, probation=100)),
    "two persons for policies": (*CANDIDATE, SetApprovalRule(("promote_policy", "set_ladder"), ("bo",))),
}
COMMANDS: dict[str, Command] = {
    "found": FOUNDED[0],
    "register": artifact("c", C1),
    "register again": artifact("a", A1),
    "register with another class order": artifact("c", C1, classes=("BUY", "HOLD", "SELL")),
    "start shadow a2": StartShadow("a", A2),
    "start shadow of another model": StartShadow("a", B1),
    "stop shadow a2": StopShadow("a", A2),
    "promote a2": Promote("a", A2),
    "promote a2, passed and ready": Promote("a", A2, verdict=VERDICT, ready=READY),
    "promote a2, ready in one partition": Promote("a", A2, verdict=VERDICT, ready=READY[:1] * 2),
    "promote a2, forced": Promote("a", A2, forced=True),
    "promote a2, forced, on probation": Promote("a", A2, forced=True, probation=10),
    "promote a3, forced": Promote("a", A3, forced=True),
    "promote a3, forced, changes accepted": Promote("a", A3, forced=True, accept_changes=True),
    "promote a1 with all the weight, on probation": Promote("a", A1, forced=True, weight=1.0, probation=10),
    "promote b1 with a weight": Promote("b", B1, forced=True, weight=0.5),
    "promote what nobody knows": Promote("a", C1, forced=True),
    "rollback": Rollback(),
    "rollback to 6": Rollback(to=6),
    "rollback to 1": Rollback(to=1),
    "rollback to 99": Rollback(to=99),
    "rollback a": Rollback(model="a"),
    "rollback b to 6": Rollback(to=6, model="b"),
    "rollback a to 6": Rollback(to=6, model="a"),
    "confirm a2": ConfirmPromotion("a", A2),
    "revert a2": RevertProbation("a", A2, 100),
    "revert a2 too early": RevertProbation("a", A2, 99),
    "weights": SetWeights({"a": 0.5, "b": 0.5}),
    "weights of one": SetWeights({"a": 1.0}),
    "weights beyond one": SetWeights({"a": 0.9, "b": 0.9}),
    "step a up": StepWeight("a"),
    "step b up": StepWeight("b"),
    "step b down": StepWeight("b", up=False),
    "step b up by itself": StepWeight("b", automatic=True),
    "ladder": SetLadder(automatic=True),
    "ladder that descends": SetLadder((0.2, 0.1)),
    "voting policy": SetVotingPolicy(quorum_count=1),
    "voting policy nobody reaches": SetVotingPolicy(quorum_count=3),
    "gate policy": SetGatePolicy("classic", {"least": 3}),
    "training policy": SetTrainingPolicy(schedule_hours=24),
    "execution policy": SetExecutionPolicy(fee=0.001, flat_on_halt=True),
    "execution policy at an unknown venue": SetExecutionPolicy(venue="mars"),
    "execution policy that trades nothing": SetExecutionPolicy(notional=20_000.0),
    "execution policy beyond the cap of all": SetExecutionPolicy(total_cap=5_000.0),
    "halt": Halt(),
    "resume": Resume(),
    "retire a1": Retire("a", A1),
    "retire a2": Retire("a", A2),
    "trust ada": KEY,
    "trust who may not trust": TrustKey("cy", "0f" * 32, "Cy", ("halt",)),
    "trust for a command that is none": TrustKey("cy", "0f" * 32, "Cy", ("sell",)),
    "revoke ada": RevokeKey("ada"),
    "revoke bo": RevokeKey("bo"),
    "two persons": SetApprovalRule(("promote",), ("bo",)),
    "two persons no more": SetApprovalRule(),
    "two persons for a halt": SetApprovalRule(("halt",), ("bo",)),
    "two persons without an approver": SetApprovalRule(("promote",)),
    "two persons, one of them twice": SetApprovalRule(("promote",), ("bo", "bo")),
    "two persons without a key": SetApprovalRule(("promote",), ("cy",)),
    "propose a2": Propose(Promote("a", A2)),
    "propose a2, forced": Propose(Promote("a", A2, forced=True)),
    "propose weights": Propose(SetWeights({"a": 0.5, "b": 0.5})),
    "propose another rule": Propose(SetApprovalRule(("promote",), ("bo", "cy"))),
    "approve 9": Approve(9, Promote("a", A2, forced=True)),
    "approve 9 as another": Approve(9, Promote("a", A3, forced=True)),
    "approve 1": Approve(1, Promote("a", A2, forced=True)),
    "refuse 9": Refuse(9),
    "start policy shadow": StartPolicyShadow(CALM),
    "start policy shadow of the policy in force": StartPolicyShadow(SetVotingPolicy()),
    "start policy shadow with another deadline": StartPolicyShadow(SetVotingPolicy(deadline_ms=1)),
    "start policy shadow of a stacker": StartPolicyShadow(STACKED),
    "start policy shadow of a stacker without numbers": StartPolicyShadow(SetVotingPolicy(rule="stacker")),
    "stop policy shadow": StopPolicyShadow(CALM_DIGEST),
    "promote policy": PromotePolicy(CALM_DIGEST),
    "promote policy, passed": PromotePolicy(CALM_DIGEST, verdict=VERDICT),
    "promote policy, forced": PromotePolicy(CALM_DIGEST, forced=True),
    "voting policy as in shadow": CALM,
    "voting policy with numbers and another rule": SetVotingPolicy(stacker=STACKED.stacker),
    "register a model called ensemble": artifact("ensemble", C1),
    "promote policy, forced, on probation": PromotePolicy(CALM_DIGEST, forced=True, probation=10),
    "rollback ensemble": Rollback(model="ensemble"),
    "rollback ensemble to 5": Rollback(to=5, model="ensemble"),
    "confirm policy": ConfirmPromotion("ensemble", CALM_DIGEST),
    "revert policy": RevertProbation("ensemble", CALM_DIGEST, 100),
    "revert policy too early": RevertProbation("ensemble", CALM_DIGEST, 99),
    "propose policy, forced": Propose(PromotePolicy(CALM_DIGEST, forced=True)),
    "propose voting policy": Propose(SetVotingPolicy(quorum_count=1)),
    "propose ladder": Propose(SetLadder(automatic=True)),
    "two persons for policies": SetApprovalRule(("promote_policy", "set_ladder"), ("bo",)),
}


def after(state: State, command: Command) -> State:
    actor = "bo" if isinstance(command, Approve | Refuse) else "me"
    entry = propose(state, command, command_id=f"c{state.version}", actor=actor, reason="test", at=1, signer=SIGNER)
    assert isinstance(entry, CommandRecorded), entry
    return fold(state, entry)


def given(name: str) -> State:
    return reduce(after, STATES[name], EMPTY)


def outcomes() -> Mapping[str, Mapping[str, str]]:
    """What each command comes to in each state."""
    found: dict[str, dict[str, str]] = {}
    for name in STATES:
        state = given(name)
        for words, command in COMMANDS.items():
            answer = decide(state, command)
            found.setdefault(words, {})[name] = "stands" if answer is None else answer.reason
    return found


def plain(value: Any) -> Any:
    """A field of the state as JSON has it; digests are cut to two digits, which are unique here."""
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return {name: plain(field) for name, field in fields.items() if field is not msgspec.UNSET}
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(each) for name, each in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value[:2] if isinstance(value, str) and len(value) == 64 else value


def changes(before: State, made: State) -> dict[str, Any]:
    """The fields that differ between two states; in a mapping, the keys that differ (None: removed)."""
    different: dict[str, Any] = {}
    for name in before.__struct_fields__:
        old, new = plain(getattr(before, name)), plain(getattr(made, name))
        if name in {"version", "head", "past"} or old == new:
            continue
        if isinstance(getattr(made, name), Mapping):
            new = {key: new.get(key) for key in sorted({*old, *new}) if old.get(key) != new.get(key)}
        different[name] = new
    return different


def effects() -> dict[str, dict[str, Any]]:
    """The changes that each accepted command makes, by command and state."""
    made: dict[str, dict[str, Any]] = {}
    for name in STATES:
        state = given(name)
        for words, command in COMMANDS.items():
            if decide(state, command) is None:
                made.setdefault(words, {})[name] = changes(state, after(state, command))
    return made


def test_no_command_is_forgotten() -> None:
    assert {type(command) for command in COMMANDS.values()} == set(get_args(Command))


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_in_every_state_comes_to_what_was_pinned(words: str) -> None:
    assert outcomes()[words] == json.loads(PINNED.read_text())[words]


def test_nothing_else_is_pinned() -> None:
    pinned = json.loads(PINNED.read_text())
    assert {words: set(row) for words, row in pinned.items()} == {words: set(STATES) for words in COMMANDS}


def test_every_accepted_command_changes_what_was_pinned() -> None:
    """Heads cover the entries, not what is made of them: a changed effect would pass the recorded histories."""
    made, pinned = effects(), json.loads(EFFECTS.read_text())
    assert made.keys() == pinned.keys()
    for words, row in made.items():
        assert row == pinned[words], words


@pytest.mark.parametrize("name", STATES)
def test_what_stands_can_be_applied_and_leaves_weights_that_sum_to_one(name: str) -> None:
    state = given(name)
    for command in COMMANDS.values():
        if decide(state, command) is None:
            made = after(state, command)
            assert made.version == state.version + 1
            weights = [made.models[model].weight or 0.0 for model in made.voting]
            assert not weights or abs(sum(weights) - 1) < 1e-9
            assert all(model.champion not in model.shadows for model in made.models.values())
            assert not any(made.models[model].champion in made.retired for model in made.voting)


@pytest.mark.parametrize("name", STATES)
def test_a_refusal_changes_nothing_and_says_something(name: str) -> None:
    state = given(name)
    for command in COMMANDS.values():
        answer = decide(state, command)
        assert answer is None or answer.reason
    assert state == given(name)


if __name__ == "__main__":
    PINNED.write_text(json.dumps(outcomes(), indent=1) + "\n")
    rows = [
        f" {json.dumps(words)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(change)}" for name, change in row.items())
        + "\n }"
        for words, row in effects().items()
    ]
    EFFECTS.write_text("{\n" + ",\n".join(rows) + "\n}\n")
