"""``conclave propose | approve | refuse``: commands that need a second person."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from schemas.control import Proposable, Propose, Refuse, SetApprovalRule, SetLadder
from services.console.context import asynchronous
from services.console.control.issuing import carry_out, changing
from services.console.control.membership import of_an_artifact, promotion, promotion_options
from services.console.control.policy import (
    approval_rule,
    changed_voting,
    ladder_of,
    ladder_options,
    rule_options,
    shares_of,
)
from services.console.control.vote import policy_promotion, policy_promotion_options
from services.console.parsing import POSITIVE
from shared.commands.forms import HOUR_MS, approving
from shared.control import State

F = TypeVar("F", bound=Callable[..., Any])
LONGEST_H: Final = 720


def proposing(command: F) -> F:
    """Add the options of every proposal."""
    option = click.option(
        "--hours",
        type=click.IntRange(1, LONGEST_H),
        default=24,
        show_default=True,
        help="How long it can be approved.",
    )
    return option(changing(command))


@click.group()
def propose() -> None:
    """Propose a command that needs a second person. The proposal has the number of its version."""


@propose.command("promote")
@of_an_artifact
@promotion_options
@proposing
@click.pass_context
@asynchronous
async def promote_(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Propose to make an artifact the champion of its model."""
    await _propose(context, lambda state: promotion(state, model, artifact, options), options)


@propose.command("weights")
@click.argument("shares", nargs=-1, required=True, metavar="MODEL=WEIGHT...")
@proposing
@click.pass_context
@asynchronous
async def weights_(context: click.Context, /, shares: tuple[str, ...], **options: Any) -> None:
    """Propose the weights of all voting models. They must sum to one."""
    command = shares_of(shares)
    await _propose(context, lambda _: command, options)


@propose.command("ladder")
@ladder_options
@proposing
@click.pass_context
@asynchronous
async def ladder_(context: click.Context, /, steps: tuple[float, ...], automatic: bool, **options: Any) -> None:
    """Propose the weights of the ladder, ascending (default: 0.05 0.10 0.15 0.20 0.25)."""
    command: SetLadder = ladder_of(steps, automatic=automatic)
    await _propose(context, lambda _: command, options)


@propose.command("promote-policy")
@policy_promotion_options
@proposing
@click.pass_context
@asynchronous
async def promote_policy_(context: click.Context, /, digest: str, **options: Any) -> None:
    """Propose to put a voting policy from shadow in force."""
    await _propose(context, lambda state: policy_promotion(state, digest, options), options)


@propose.command("voting")
@click.argument("fields", nargs=-1, required=True, metavar="FIELD=VALUE...")
@proposing
@click.pass_context
@asynchronous
async def voting_(context: click.Context, /, fields: tuple[str, ...], **options: Any) -> None:
    """Propose another voting policy: the one in force with other FIELDs (see `conclave policy voting`)."""
    await _propose(context, lambda state: changed_voting(state, fields), options)


@propose.command("approval")
@rule_options
@proposing
@click.pass_context
@asynchronous
async def approval_(
    context: click.Context, /, commands: Sequence[str], approver: Sequence[str], **options: Any
) -> None:
    """Propose another rule of two persons; without COMMAND: that no command needs a second person."""
    command: SetApprovalRule = approval_rule(commands, approver)
    await _propose(context, lambda _: command, options)


@click.command()
@click.argument("proposal", type=POSITIVE)
@changing
@click.pass_context
@asynchronous
async def approve(context: click.Context, /, proposal: int, **options: Any) -> None:
    """Carry out what another person proposed (`conclave status` lists what waits).

    The evidence for a promotion is collected again. With --dry-run it shows what would change."""
    await carry_out(context, lambda state: approving(state, proposal), options)


@click.command()
@click.argument("proposal", type=POSITIVE)
@changing
@click.pass_context
@asynchronous
async def refuse(context: click.Context, /, proposal: int, **options: Any) -> None:
    """Refuse what another person proposed, or withdraw a proposal of your own."""
    await carry_out(context, lambda _: Refuse(proposal), options)


async def _propose(context: click.Context, build: Callable[[State], Proposable], options: dict[str, Any]) -> None:
    valid_ms = options["hours"] * HOUR_MS
    await carry_out(context, lambda state: Propose(build(state), valid_ms), options)
