"""Examples of all commands, as a chain of control entries."""

from collections.abc import Iterator

from msgspec.structs import replace

from schemas.control import (
    Approve,
    Backtest,
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
from schemas.documentation.examples.values import ARTIFACT, HEAD, MINUTE, OPEN, SET


def commands() -> Iterator[CommandRecorded]:
    """Yield one entry for each command, and a signed one."""
    model, artifact = "xgboost", ARTIFACT.hex()
    registered = RegisterArtifact(
        model=model,
        artifact=artifact,
        family="xgboost",
        feature_set=SET.hex(),
        feature_set_name="core-26",
        interval_ms=MINUTE,
        classes=("SELL", "HOLD", "BUY"),
        centre=(-1.25, -0.75, -1.5),
        prior=(0.25, 0.5, 0.25),
    )
    stacked = StackedMember(model, artifact, ((0.1, 0.0, -0.1), (0.0, 0.05, 0.0), (-0.1, 0.0, 0.1)))
    commands: tuple[Command, ...] = (
        Found(partitions=1, log_id="5d0c2f7e9a31"),
        registered,
        replace(registered, features=("rsi_14",), libraries={"xgboost": "3.0"}, horizon=12, kappa=0.75),
        replace(registered, backtest=Backtest(0.0625, 0.25, ((-0.5, 0.5),), ((10.0, 20.0, 10.0),), 4.0)),
        StartShadow(model, artifact),
        StopShadow(model, artifact),
        Promote(model, artifact, forced=True, weight=0.5),
        SetWeights({"xgboost": 0.5, "lightgbm": 0.5}),
        SetVotingPolicy(rule="consensus", quorum_count=3, edge=0.0),
        Halt(),
        Resume(),
        Retire(model, artifact),
        Promote(model, artifact, ready=("0a" * 16,), verdict="0b" * 16, probation=200, accept_changes=True),
        ConfirmPromotion(model, artifact),
        RevertProbation(model, artifact, decisions=200, last="0c" * 16),
        Rollback(),
        Rollback(to=7, model=model),
        SetGatePolicy("classic", {"least": 3, "agreement": 0.55, "automatic": False, "horizon": "1h"}),
        SetLadder(automatic=True),
        SetTrainingPolicy(schedule_hours=24, sanity="refuse"),
        SetExecutionPolicy(fee=0.001, cooldown_bars=5, flat_on_halt=True),
        StepWeight(model, up=False),
        TrustKey("ada", "0d" * 32, holder="Ada", may=("promote", "rollback", "halt")),
        RevokeKey("ada"),
        SetApprovalRule(("promote", "set_weights"), ("Ben", "Cy")),
        Propose(Promote(model, artifact, ready=("0a" * 16,), verdict="0b" * 16)),
        Propose(SetWeights({"xgboost": 0.75, "lightgbm": 0.25}), valid_ms=3_600_000),
        Propose(SetApprovalRule()),
        Approve(26, Promote(model, artifact, ready=("0a" * 16,), verdict="0b" * 16)),
        Refuse(27),
        StartPolicyShadow(SetVotingPolicy(temperature=1.25), scale=0.01, money_scale=0.002),
        StartPolicyShadow(SetVotingPolicy(rule="stacker", stacker=Stacker("mean", (stacked,)))),
        StopPolicyShadow(HEAD),
        PromotePolicy(HEAD, verdict="0b" * 16),
        PromotePolicy(HEAD, forced=True),
        PromotePolicy(HEAD, verdict="0b" * 16, probation=500),
        Propose(PromotePolicy(HEAD, verdict="0b" * 16)),
        Propose(SetVotingPolicy(edge=0.05)),
        Propose(SetLadder((0.1, 0.2))),
    )
    first = CommandRecorded(
        version=1,
        previous="0" * 64,
        command_id="0001",
        at=OPEN,
        actor="ada",
        reason="Begin.",
        command=commands[0],
    )
    yield first
    for version, command in enumerate(commands[1:], start=2):
        yield replace(
            first, version=version, previous=HEAD, command_id=f"{version:04}", command=command, expects=version - 1
        )
    signed = replace(first, version=2, previous=HEAD, command_id="signed", command=Halt())
    yield replace(signed, key="ada", signature="0e" * 64)
