"""``conclave weights | ladder | policy | halt | resume``: weights, policies, and whether intents may be written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
import msgspec

from schemas.codec import UNDECODABLE
from schemas.control import (
    Halt,
    Resume,
    SetApprovalRule,
    SetExecutionPolicy,
    SetGatePolicy,
    SetLadder,
    SetTrainingPolicy,
    SetVotingPolicy,
    SetWeights,
    StepWeight,
)
from services.console.context import asynchronous
from services.console.control.issuing import carry_out, changing, halt_by_all_means
from services.console.parsing import WEIGHT, pairs
from shared.control import State
from shared.control.apply.approval import HELD
from shared.control.issuing import RefusedError
from shared.gates.policies import policy_of
from shared.voting.changes import changed_policy

F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P", SetVotingPolicy, SetTrainingPolicy, SetExecutionPolicy)


@click.command()
@click.argument("shares", nargs=-1, required=True, metavar="MODEL=WEIGHT...")
@changing
@click.pass_context
@asynchronous
async def weights(context: click.Context, /, shares: tuple[str, ...], **options: Any) -> None:
    """Set the weights of all voting models. They must sum to one."""
    command = shares_of(shares)
    await carry_out(context, lambda _: command, options)


def shares_of(words: Sequence[str]) -> SetWeights:
    """Return the weights in MODEL=WEIGHT words. Raises ``click.BadParameter``."""
    try:
        return SetWeights({name: float(value) for name, value in pairs(words).items()})
    except ValueError:
        raise click.BadParameter(f"expected MODEL=WEIGHT, such as xgboost=0.5; got {' '.join(words)}") from None


@click.group()
def ladder() -> None:
    """Raise the weight of a model step by step: by hand, or by the gate-evaluator if it may."""


def ladder_options(command: F) -> F:
    """Add what a ladder consists of."""
    steps = click.argument("steps", nargs=-1, type=WEIGHT, metavar="WEIGHT...")
    automatic = click.option("--automatic", is_flag=True, help="Let the gate-evaluator take steps too.")
    return steps(automatic(command))


def ladder_of(steps: tuple[float, ...], *, automatic: bool) -> SetLadder:
    """Return a ladder; one with the default weights without ``steps``."""
    return SetLadder(steps, automatic) if steps else SetLadder(automatic=automatic)


@ladder.command("set")
@ladder_options
@changing
@click.pass_context
@asynchronous
async def set_ladder(context: click.Context, /, steps: tuple[float, ...], automatic: bool, **options: Any) -> None:
    """Set the weights of the ladder, ascending (default: 0.05 0.10 0.15 0.20 0.25)."""
    command = ladder_of(steps, automatic=automatic)
    await carry_out(context, lambda _: command, options)


@ladder.command()
@click.argument("model")
@click.option("--down", is_flag=True, help="Move to the next lower weight instead.")
@changing
@click.pass_context
@asynchronous
async def step(context: click.Context, /, model: str, down: bool, **options: Any) -> None:
    """Move a model to the next weight of the ladder. The other weights keep their proportions."""
    await carry_out(context, lambda _: StepWeight(model, up=not down), options)


@click.group()
def policy() -> None:
    """Set how ballots become decisions and orders, which gates judge candidates, when models are retrained, and which
    commands need a second person."""


@policy.command()
@click.argument("fields", nargs=-1, required=True, metavar="FIELD=VALUE...")
@changing
@click.pass_context
@asynchronous
async def voting(context: click.Context, /, fields: tuple[str, ...], **options: Any) -> None:
    """Set how ballots become decisions: rule (mean, logmean, logpool, consensus), quorum_weight, quorum_count,
    deadline_ms, valid_ms, temperature, and when they are BUY or SELL: edge, or cost. Fields that are not named keep
    their values; a new edge removes the cost."""

    await carry_out(context, lambda state: changed_voting(state, fields), options)


@policy.command()
@click.argument("fields", nargs=-1, required=True, metavar="FIELD=VALUE...")
@changing
@click.pass_context
@asynchronous
async def training(context: click.Context, /, fields: tuple[str, ...], **options: Any) -> None:
    """Set when models are retrained, and what happens to a new artifact: schedule_hours, window_days,
    cooldown_hours, budget, rows, on_drift, on_decay, shadow, sanity, revised_bars; when a stacker is fitted:
    stacker_hours. Fields that are not named keep their values."""
    await carry_out(context, lambda state: _changed(state.training, fields), options)


@policy.command()
@click.argument("fields", nargs=-1, required=True, metavar="FIELD=VALUE...")
@changing
@click.pass_context
@asynchronous
async def execution(context: click.Context, /, fields: tuple[str, ...], **options: Any) -> None:
    """Set how intents are traded, and what that costs: venue, equity, notional, symbol_cap, total_cap, fee,
    half_spread, slippage, latency_ms, volume_share, cooldown_bars, flat_on_halt; at an exchange also sandbox and
    price_limit. Fields that are not named keep their values."""

    def build(state: State) -> SetExecutionPolicy:
        changed = _changed(state.execution, fields)
        _refuse_untradable(state.policy, changed)
        return changed

    await carry_out(context, build, options)


@policy.command()
@click.argument("name")
@click.argument("parameters", nargs=-1, metavar="[PARAMETER=VALUE...]")
@changing
@click.pass_context
@asynchronous
async def gates(context: click.Context, /, name: str, parameters: tuple[str, ...], **options: Any) -> None:
    """Set the gate policy that judges candidates, by its name."""
    command = SetGatePolicy(name, {key: _value(text) for key, text in pairs(parameters).items()})
    try:
        policy_of(command)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    await carry_out(context, lambda _: command, options)


def rule_options(command: F) -> F:
    """Add what a rule of two persons consists of."""
    commands = click.argument("commands", nargs=-1, type=click.Choice(HELD), metavar="[COMMAND...]")
    approver = click.option(
        "--approver",
        multiple=True,
        metavar="NAME",
        help="Who approves: the holder of a trusted key; an actor, while no key is trusted. Repeatable.",
    )
    return commands(approver(command))


def approval_rule(commands: Sequence[str], approvers: Sequence[str]) -> SetApprovalRule:
    """Return a rule of two persons. Raises ``click.UsageError``."""
    if approvers and not commands:
        raise click.UsageError(f"name the commands that need a second person, of: {', '.join(HELD)}")
    return SetApprovalRule(tuple(commands), tuple(approvers))


@policy.command()
@rule_options
@changing
@click.pass_context
@asynchronous
async def approval(context: click.Context, /, commands: Sequence[str], approver: Sequence[str], **options: Any) -> None:
    """Set which commands need a second person: promote, set_weights, set_ladder, promote_policy; without COMMAND: none.

    set_weights includes steps up the ladder, and promote_policy each other change of the voting policy. One person
    proposes such a command, and another approves it (`conclave propose`). While a rule is in force, it is changed in
    the same way."""
    command = approval_rule(commands, approver)
    await carry_out(context, lambda _: command, options)


@click.command()
@changing
@click.pass_context
@asynchronous
async def halt(context: click.Context, /, **options: Any) -> None:
    """Stop all intents at once. Decisions are still made and recorded."""
    await halt_by_all_means(context, Halt(), options)


@click.command()
@changing
@click.pass_context
@asynchronous
async def resume(context: click.Context, /, **options: Any) -> None:
    """End a halt: intents are written again."""
    await carry_out(context, lambda _: Resume(), options)


def changed_voting(state: State, fields: Sequence[str]) -> SetVotingPolicy:
    """Return the voting policy in force with some FIELD=VALUE. Raises ``click.BadParameter``, and ``RefusedError`` if
    nothing could be traded under it."""
    changed = _changed(state.policy, fields, changed_policy)
    _refuse_untradable(changed, state.execution)
    return changed


def _converted(known: P, given: Mapping[str, str]) -> P:
    return msgspec.convert({**msgspec.to_builtins(known), **given}, type(known), strict=False)


def _changed(known: P, fields: Sequence[str], change: Callable[[P, Mapping[str, str]], P] = _converted) -> P:
    """Return the policy with some fields set, by ``change``. Raises ``click.BadParameter``."""
    given = pairs(fields)
    names = known.__struct_fields__
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise click.BadParameter(f"no field {', '.join(unknown)}; there are: {', '.join(names)}")
    try:
        return change(known, given)
    except msgspec.ValidationError as error:
        raise click.BadParameter(str(error)) from None


def _refuse_untradable(voting: SetVotingPolicy, execution: SetExecutionPolicy) -> None:
    """Raise ``RefusedError`` if every order on paper would expire before it is filled.

    The fold accepts such a pair of policies: it did before this check, and a log that has one must stay readable."""
    if execution.venue == "paper" and execution.latency_ms > voting.valid_ms:
        raise RefusedError(
            f"an order would be filled {execution.latency_ms} ms (latency_ms) after the close of the bar, and an "
            f"intent is valid for {voting.valid_ms} ms after it (valid_ms): nothing would be traded; lower latency_ms "
            "(`conclave policy execution`), or raise valid_ms (`conclave policy voting`)"
        )


def _value(text: str) -> bool | int | float | str:
    try:
        value: bool | int | float | str = msgspec.json.decode(text, type=bool | int | float | str)
    except UNDECODABLE:
        return text
    return value
