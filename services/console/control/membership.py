"""``conclave found | register | promote | rollback | confirm | shadow | retire``: which artifacts vote."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from schemas.control import (
    Found,
    Promote,
    Rollback,
    SetVotingPolicy,
    StartShadow,
    StopShadow,
)
from services.console.context import asynchronous, settings_of
from services.console.control.issuing import carry_out, changing, store_of
from services.console.parsing import POSITIVE, WEIGHT
from shared.artifacts.checks import check_stored
from shared.artifacts.registration import registration
from shared.commands.forms import artifact_of, command_of
from shared.control import State
from shared.control.issuing import Issued, RefusedError, issue
from shared.control.stream import now_ms
from shared.log import Log
from shared.settings import Settings

FIRST_VOTING: Final = SetVotingPolicy(rule="mean", cost=0.0016)
"""The voting policy of new installations, by the evidence of ``bench.skill``. The cost is that of entry and exit under
the default execution policy. The default of ``SetVotingPolicy`` is that of installations that were created before, and
cannot change."""

F = TypeVar("F", bound=Callable[..., Any])


def of_an_artifact(command: F) -> F:
    """Add the arguments that name an artifact: its model, and a prefix of its digest."""
    return click.argument("model")(click.argument("artifact")(command))


def found_command(settings: Settings) -> Found:
    """Return the first command of an installation: the number of partitions, an id that is unique to this log, and the
    voting policy of new installations."""
    partitions = settings.installation.partitions
    return Found(partitions, f"{now_ms():x}-{partitions}", FIRST_VOTING)


async def found_installation(log: Log, settings: Settings, actor: str, reason: str) -> Issued:
    """Issue the first command of an installation."""
    return await issue(log, found_command(settings), actor=actor, reason=reason)


@click.command()
@changing
@click.pass_context
@asynchronous
async def found(context: click.Context, /, **options: Any) -> None:
    """Create an installation: the first command, issued once. `conclave up` issues it automatically."""
    await carry_out(context, lambda _: found_command(settings_of(context)), options)


@click.command()
@of_an_artifact
@changing
@click.pass_context
@asynchronous
async def register(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Register an artifact of the store for a model. ARTIFACT is a digest or its first digits.

    It is refused if it fails one of the checks that every model must pass (`conclave artifacts verify`)."""
    store = store_of(settings_of(context))
    digest = store.find(artifact)
    report = check_stored(store, digest)
    if report.failed:
        raise RefusedError(f"{digest[:12]} may not be registered: {report}")
    manifest = store.manifest(digest)
    await carry_out(context, lambda _: registration(model, digest, manifest), options)


def promotion_options(command: F) -> F:
    """Add the options of a promotion, issued or proposed."""
    for option in (
        click.option(
            "--accept-changes", is_flag=True, help="Accept features, family or libraries other than the champion's."
        ),
        click.option(
            "--probation",
            type=POSITIVE,
            metavar="N",
            help="Revert automatically unless confirmed within N decisions.",
        ),
        click.option(
            "--weight",
            type=WEIGHT,
            help="Weight of a model that has none yet; the others shrink in proportion.",
        ),
        click.option(
            "--verdict",
            help="Event id of a verdict that passed (default: its newest verdict, if that passed and is valid).",
        ),
        click.option(
            "--force",
            is_flag=True,
            help="Promote without a passed verdict or before it is ready; recorded as forced.",
        ),
    ):
        command = option(command)
    return command


def promotion(state: State, model: str, artifact: str, options: Mapping[str, Any]) -> Promote:
    """Return the promotion that ``promotion_options`` ask for."""
    return Promote(
        model,
        artifact_of(state, model, artifact),
        forced=options["force"],
        weight=options["weight"],
        verdict=options["verdict"],
        probation=options["probation"],
        accept_changes=options["accept_changes"],
    )


@click.command()
@of_an_artifact
@promotion_options
@changing
@click.pass_context
@asynchronous
async def promote(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Make an artifact the champion of its model. The former champion stays loaded, in shadow."""
    await carry_out(context, lambda state: promotion(state, model, artifact, options), options)


@click.command()
@click.option(
    "--to",
    type=POSITIVE,
    metavar="VERSION",
    help="Return to this version (default: to the one before the last change).",
)
@click.option("--model", help="Restore only the champion of this model; of `ensemble`: the voting policy.")
@changing
@click.pass_context
@asynchronous
async def rollback(context: click.Context, /, to: int | None, model: str | None, **options: Any) -> None:
    """Restore the champions and weights of an earlier version. A shadow that was never champion does not vote."""
    await carry_out(context, lambda _: Rollback(to, model), options)


@click.command()
@click.argument("model")
@changing
@click.pass_context
@asynchronous
async def confirm(context: click.Context, /, model: str, **options: Any) -> None:
    """Confirm the promotion of a model's champion, or, as `ensemble`, of a voting policy: its probation ends."""

    await carry_out(context, lambda state: command_of(state, "confirm", {"model": model}), options)


@click.group()
def shadow() -> None:
    """Run artifacts in shadow: they predict for every bar and never vote."""


@shadow.command()
@of_an_artifact
@changing
@click.pass_context
@asynchronous
async def start(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Put an artifact in shadow. Its worker loads it in the background and announces when it is ready."""
    await carry_out(context, lambda state: StartShadow(model, artifact_of(state, model, artifact)), options)


@shadow.command()
@of_an_artifact
@changing
@click.pass_context
@asynchronous
async def stop(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Take an artifact out of shadow. It stays registered."""
    await carry_out(context, lambda state: StopShadow(model, artifact_of(state, model, artifact)), options)
