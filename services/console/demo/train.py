"""The models of the demo: train and compare them, promote them, and set their weights."""

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import anyio
from msgspec import UNSET
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared.artifacts import ArtifactStore, Manifest
from shared.families.libraries import require
from shared.settings import Settings


class Slot(NamedTuple):
    """The weight of a model, and the options of its training."""

    weight: float
    words: tuple[str, ...] = ()


MODELS: Final = MappingProxyType(
    {
        "xgboost": Slot(0.25),
        "lightgbm": Slot(0.25),
        "nhits": Slot(0.30),
        "patchtst": Slot(0.20, ("--param", "epochs=2")),
    }
)
"""By model, which is also the family. PatchTST has its default size and fewer epochs, to save a minute."""
LONGEST_FIRST: Final = ("patchtst", "nhits", "xgboost", "lightgbm")
AT_ONCE: Final = max(min(os.cpu_count() or 1, len(MODELS)), 1)
WHY: Final = "the first models of the demo: no gate has judged them"

PACKAGES: Final = {"xgboost": "xgboost", "lightgbm": "lightgbm", "nhits": "torch", "patchtst": "torch"}
"""The package that fits each model."""

Runner = Callable[..., Awaitable[str]]
"""Runs one console command and returns what it printed."""


def require_packages(models: Iterable[str] = MODELS) -> None:
    """Raise ``LibraryMissingError`` if a package that the models are trained with is not installed."""
    require("scipy", "sklearn", *dict.fromkeys(PACKAGES[model] for model in models))


async def train_all(
    console: Console, run: Runner, bars: Sequence[str], settings: Settings, models: Mapping[str, Slot] = MODELS
) -> dict[str, str]:
    """Train and register every model, show their scores on bars that none of them saw, and return their digests. As
    many run at once as there are processors."""
    digests: dict[str, str] = {}
    limit = anyio.CapacityLimiter(AT_ONCE)
    columns = (TextColumn("{task.description:<24}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        overall = progress.add_task(f"training {len(models)} models", total=len(models))

        async def one(model: str) -> None:
            async with limit:
                task = progress.add_task(f"  {model}", total=None)
                report = await run(
                    "train", "files", "--model", model, "--family", model, *bars, *models[model].words,
                    "--register", "--actor", "demo", "--reason", WHY,
                )  # fmt: skip
                digests[model] = next(word for word in report.split() if re.fullmatch("[0-9a-f]{64}", word))
                progress.update(task, total=1, completed=1)
                progress.advance(overall)

        async with anyio.create_task_group() as tasks:
            for model in [each for each in LONGEST_FIRST if each in models]:
                tasks.start_soon(one, model)
    store = ArtifactStore(Path(settings.installation.state) / "artifacts")
    console.print(_compared({model: store.manifest(digests[model]) for model in models}, models))
    return digests


async def promote(
    console: Console, run: Runner, digests: Mapping[str, str], models: Mapping[str, Slot] = MODELS
) -> None:
    """Promote the artifact of every model, forced because no gate has judged it, and set the weights."""
    with console.status("promoting"):
        for number, (model, digest) in enumerate(digests.items(), 1):
            share = ("--weight", str(1 / number))
            await run("promote", model, digest, "--force", *share, "--actor", "demo", "--reason", WHY)
        weights = [f"{model}={slot.weight}" for model, slot in models.items()]
        await run("weights", *weights, "--actor", "demo", "--reason", "the weights of the models")
    console.print(f"weights: {', '.join(f'{model} {slot.weight:.0%}' for model, slot in models.items())}")


def _compared(manifests: Mapping[str, Manifest], models: Mapping[str, Slot]) -> Table:
    """Return the scores of each model on its test part, compared with the class prior."""
    table = Table(title="trained: scores on bars that no model saw, against the class prior", caption=_caption(models))
    for heading in ("model", "weight", "skill [95 %]", "moves", "direction", "log loss", "accuracy", "steps"):
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for model, manifest in manifests.items():
        scores, skill = manifest.metrics.test, manifest.metrics.test.skill
        table.add_row(
            model,
            f"{models[model].weight:.0%}",
            f"{skill.value:+.0f} [{skill.low:+.0f}, {skill.high:+.0f}]",
            *("-" if part is UNSET else f"{part.value:+.0f}" for part in (scores.moves, scores.direction)),
            f"{scores.log_loss:.3f} ({scores.prior_log_loss:.3f})",
            f"{scores.accuracy:.3f} ({scores.majority:.3f})",
            str(manifest.metrics.steps),
        )
    return table


def _caption(models: Mapping[str, Slot]) -> str:
    short = " and ".join(model for model, slot in models.items() if slot.words)
    fewer = f"\n{short}: default size, fewer epochs than the default, to save a minute" if short else ""
    return (
        "skill: thousandths of a nat of log loss saved, and its parts: whether the price moves, and in which "
        "direction; in round brackets the class prior's log loss, and the share of the most frequent class" + fewer
    )
