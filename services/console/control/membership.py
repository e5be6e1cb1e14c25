"""``conclave found | register | promote | rollback | confirm | shadow | retire``: who votes."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from schemas.control import (
    Command,
    ConfirmPromotion,
    Found,
    Promote,
    Retire,
    Rollback,
    StartShadow,
    StopShadow,
)
from services.console.context import asynchronous, settings_of
from services.console.control.issuing import artifact_of, carry_out, changing, store_of
from shared.artifacts.checks import check_stored
from shared.artifacts.registration import registration
from shared.control import Model, State
from shared.control.issuing import Issued, RefusedError, issue
from shared.control.stream import now_ms
from shared.log import Log
from shared.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def of_an_artifact(command: F) -> F:
    """The arguments that name an artifact: its model, and a prefix of its digest."""
    return click.argument("model")(click.argument("artifact")(command))


def founding(settings: Settings) -> Found:
    """The first command: the partitions of the settings, and an id that tells this log from others."""
    return Found(settings.installation.partitions, f"{now_ms():x}-{settings.installation.partitions}")


async def begin(log: Log, settings: Settings, actor: str, reason: str) -> Issued:
    """Founds the installation."""
    return await issue(log, founding(settings), actor=actor, reason=reason)


@click.command()
@changing
@click.pass_context
@asynchronous
async def found(context: click.Context, /, **options: Any) -> None:
    """Begin an installation: the first command, once. `conclave up` does it by itself."""
    await carry_out(context, lambda _: founding(settings_of(context)), options)


@click.command()
@of_an_artifact
@changing
@click.pass_context
@asynchronous
async def register(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Make an artifact of the store known under a model's name (a prefix of its digest is enough).

    Refused where it fails one of the checks that every model must pass (`conclave artifacts verify`)."""
    store = store_of(settings_of(context))
    digest = store.find(artifact)
    found = check_stored(store, digest)
    if found.failed:
        raise RefusedError(f"{digest[:12]} may not be registered: {found}")
    manifest = store.manifest(digest)
    await carry_out(context, lambda _: registration(model, digest, manifest), options)


@click.command()
@of_an_artifact
@click.option("--force", is_flag=True, help="Without a gate's verdict, or not ready; recorded as forced.")
@click.option(
    "--verdict", help="Event id of the verdict that it passed (default: the newest on it, if that passed and holds)."
)
@click.option("--weight", type=float, help="Weight of a model that has none yet; the others shrink in proportion.")
@click.option("--probation", type=int, metavar="N", help="Revert by itself unless confirmed within N scored decisions.")
@click.option("--accept-changes", is_flag=True, help="It differs from the champion in features, family or libraries.")
@changing
@click.pass_context
@asynchronous
async def promote(
    context: click.Context,
    /,
    model: str,
    artifact: str,
    force: bool,
    verdict: str | None,
    weight: float | None,
    probation: int | None,
    accept_changes: bool,
    **options: Any,
) -> None:
    """Make an artifact its model's champion; the former champion stays warm, in shadow."""

    def build(state: State) -> Command:
        return Promote(
            model,
            artifact_of(state, model, artifact),
            forced=force,
            weight=weight,
            verdict=verdict,
            probation=probation,
            accept_changes=accept_changes,
        )

    await carry_out(context, build, options)


@click.command()
@click.option("--to", type=int, metavar="VERSION", help="As it was at this version (default: before the last change).")
@click.option("--model", help="This model's champion alone.")
@changing
@click.pass_context
@asynchronous
async def rollback(context: click.Context, /, to: int | None, model: str | None, **options: Any) -> None:
    """Vote again as an earlier version did. Never makes a shadow vote that was not a champion."""
    await carry_out(context, lambda _: Rollback(to, model), options)


@click.command()
@click.argument("model")
@changing
@click.pass_context
@asynchronous
async def confirm(context: click.Context, /, model: str, **options: Any) -> None:
    """End a model's probation: its champion stays."""

    def build(state: State) -> Command:
        champion = state.models.get(model, Model()).champion
        if champion is None:
            raise RefusedError(f"{model!r} has no champion to confirm; voting are: {', '.join(state.voting) or 'none'}")
        return ConfirmPromotion(model, champion)

    await carry_out(context, build, options)


@click.group()
def shadow() -> None:
    """Watch an artifact beside the champion: it answers everything and never votes."""


@shadow.command()
@of_an_artifact
@changing
@click.pass_context
@asynchronous
async def start(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Start watching an artifact; its worker loads it in the background and says when it is ready."""
    await carry_out(context, lambda state: StartShadow(model, artifact_of(state, model, artifact)), options)


@shadow.command()
@of_an_artifact
@changing
@click.pass_context
@asynchronous
async def stop(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Stop watching an artifact; it stays registered."""
    await carry_out(context, lambda state: StopShadow(model, artifact_of(state, model, artifact)), options)


@click.command()
@of_an_artifact
@changing
@click.pass_context
@asynchronous
async def retire(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Take an artifact out of service for good."""
    await carry_out(context, lambda state: Retire(model, artifact_of(state, model, artifact)), options)
