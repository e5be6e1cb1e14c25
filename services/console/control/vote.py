"""``conclave vote propose | start | stop | promote``: voting policies in shadow."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from schemas.control import PromotePolicy, StartPolicyShadow, StopPolicyShadow
from services.console.context import asynchronous
from services.console.control.issuing import carry_out, changing
from services.console.control.policy import changed_voting
from services.console.parsing import POSITIVE
from services.console.research.proposing import propose
from shared.commands import forms
from shared.control import State

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def vote() -> None:
    """Run voting policies in shadow: each round is decided by them too, and no intent follows."""


@vote.command()
@click.argument("fields", nargs=-1, required=True, metavar="FIELD=VALUE...")
@changing
@click.pass_context
@asynchronous
async def start(context: click.Context, /, fields: tuple[str, ...], **options: Any) -> None:
    """Put a voting policy in shadow: the one in force with other FIELDs (see `conclave policy voting`).

    Its decisions are scored and compared with those of the policy in force. `conclave gates` judges it as
    `ensemble`."""
    await carry_out(context, lambda state: StartPolicyShadow(changed_voting(state, fields)), options)


@vote.command()
@click.argument("digest")
@changing
@click.pass_context
@asynchronous
async def stop(context: click.Context, /, digest: str, **options: Any) -> None:
    """Take a voting policy out of shadow. DIGEST: its first digits are enough (`conclave status`)."""
    await carry_out(context, lambda state: StopPolicyShadow(policy_of(state, digest)), options)


def policy_promotion_options(command: F) -> F:
    """Add the argument and the options of a promotion of a voting policy, issued or proposed."""
    for option in (
        click.option(
            "--probation",
            type=POSITIVE,
            metavar="N",
            help="Revert automatically unless confirmed within N decisions (`conclave confirm ensemble`).",
        ),
        click.option("--force", is_flag=True, help="Promote without a passed verdict; recorded as forced."),
        click.option(
            "--verdict", help="Event id of a verdict that passed (default: its newest, if that passed and is valid)."
        ),
        click.argument("digest"),
    ):
        command = option(command)
    return command


def policy_promotion(state: State, prefix: str, options: Mapping[str, Any]) -> PromotePolicy:
    """Return the promotion that ``policy_promotion_options`` ask for."""
    digest = policy_of(state, prefix)
    return PromotePolicy(digest, options["verdict"], forced=options["force"], probation=options["probation"])


@vote.command()
@policy_promotion_options
@changing
@click.pass_context
@asynchronous
async def promote(context: click.Context, /, digest: str, **options: Any) -> None:
    """Put a voting policy from shadow in force. The former one continues in shadow, and `conclave rollback --model
    ensemble` restores it."""
    await carry_out(context, lambda state: policy_promotion(state, digest, options), options)


vote.add_command(propose)


def policy_of(state: State, prefix: str) -> str:
    """Return the digest of the voting policy in shadow that begins with ``prefix``. Raises ``click.BadParameter``."""
    try:
        return forms.policy_of(state, prefix)
    except forms.FormError as error:
        raise click.BadParameter(str(error)) from None
