"""Train the best recipes of a sweep on all bars and start them in shadow, as challengers of a model's champion."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from schemas.control import Command, StartShadow
from services.console.context import asynchronous, ended_by_interrupt
from services.console.control.issuing import always, signer_of, store_of, submit
from services.console.training.files import require_possible, train_shown
from shared.artifacts.registration import registration
from shared.artifacts.scoring import interval_text
from shared.bars import Bars
from shared.control.issuing import ControlWriter
from shared.features import FeatureSet
from shared.runtime.process import opened_log
from shared.settings import Settings
from shared.training.fitting import NotStoredError, Trained
from shared.training.sweeps import Ranked


class Keep(NamedTuple):
    """What becomes of the ``most`` best recipes: the model that they are for, and who starts them and why."""

    most: int
    model: str
    reason: str
    actor: str
    key: Path | None
    output: str


@asynchronous
async def require_challengers(settings: Settings, model: str) -> None:
    """Raise what keeps an artifact of ``model`` from being registered, before a sweep that may take hours."""
    store_of(settings).require_writable()
    await require_possible(settings, model, "shadow")


@asynchronous
async def _start(settings: Settings, keep: Keep, digest: str, trained: Trained, why: str, issued: list[Any]) -> None:
    options: dict[str, Any] = {"actor": keep.actor, "reason": why, "output": keep.output, "key": keep.key}
    options |= {"command_id": None, "expect": None, "dry_run": False, "wait": False}
    async with opened_log(settings, "conclave:console") as log:
        writer = ControlWriter(log, signer_of(keep.key))
        commands: tuple[Command, ...] = (
            registration(keep.model, digest, trained.manifest),
            StartShadow(keep.model, digest),
        )
        for command in commands:
            await submit(writer, always(command), options, settings, echo=issued.append)


def challenge(
    settings: Settings,
    keep: Keep,
    ranking: Sequence[Ranked],
    bars: Mapping[str, Bars],
    feature_set: FeatureSet,
    source: str,
    folds: int,
) -> list[dict[str, Any]]:
    """Train, store, register and shadow the best recipes that no fold rejected. Return a row for each: its place, its
    parameters, its artifact (None if it was refused), the reason of a refusal, and the commands that were issued.

    The reason of each command holds the evidence: the place among all that were tried, and the held-out gain."""
    made = []
    for place, one in enumerate([one for one in ranking if not one.rejected][: keep.most], 1):
        recipe = one.recipe
        evidence = f"{place} of {len(ranking)} recipes on {folds} folds, held-out gain {one.gain:+.1f} mnat"
        row: dict[str, Any] = {"place": place, "params": recipe.params, "artifact": None, "refused": "", "commands": []}
        made.append(row)
        with ended_by_interrupt(f"challenger {place} is not trained; those before it are in shadow"):
            try:
                trained = train_shown(
                    bars,
                    recipe.family,
                    feature_set,
                    settings,
                    source=source,
                    horizon=recipe.horizon,
                    hold=recipe.hold,
                    seed=recipe.seed,
                    params=recipe.params,
                    imbalance=recipe.imbalance,
                )
            except NotStoredError as error:
                row["refused"] = str(error)
                click.echo(f"challenger {place}: not stored: {error}", err=True)
                continue
            row["artifact"] = store_of(settings).save(trained.manifest, trained.files)
        if keep.output == "table":
            skill = interval_text(trained.manifest.metrics.test.skill)
            click.echo(f"challenger {place}: {row['artifact'][:12]}, {evidence}; test part {skill} mnat")
        _start(settings, keep, row["artifact"], trained, f"{keep.reason}; {evidence}", row["commands"])
    if keep.output == "table" and any(row["artifact"] for row in made):
        click.echo(
            f"they share one error budget with every other shadow of {keep.model} (e-BH): `conclave gates`; "
            f"`conclave retire {keep.model} --failed` retires those that failed"
        )
    return made
