"""One job, from its positions to an artifact or a refusal: what the child process does. Says what happens as
events, whose ``version`` and ``shadow`` are the trainer's to fill in."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from schemas.training import (
    DataAssessed,
    DataReport,
    Gain,
    Rejection,
    SanityCheck,
    TrainingCompleted,
    TrainingEvent,
    TrainingProgressed,
    TrainingRejected,
)
from services.trainer.isolation import peak_mb
from services.trainer.task import QUARANTINE, STORE, Task
from shared.artifacts.artifact import Artifact
from shared.artifacts.card import card
from shared.artifacts.manifest import MANIFEST, canonical
from shared.artifacts.store import ArtifactStore
from shared.control.stream import now_ms
from shared.features.installed import FEATURE_SETS
from shared.report.drawing import ChartsMissingError
from shared.report.training import Results, page
from shared.training.collapse import Collapse, EpochReading, Watcher
from shared.training.fitting import NotStoredError, Origin, Prepared, Trained, fit, measure, prepare
from shared.training.quality import assess
from shared.training.recorded import Recorded
from shared.training.worth import gains, sanity

_log = logging.getLogger(__name__)
REPORT: Final = "report.html"
CARD: Final = "card.md"


class Refusal(NamedTuple):
    """Why nothing may come of a job, and what there is of a model."""

    reason: Rejection
    evidence: str
    trained: Trained | None = None


Say = Callable[[TrainingEvent], None]


def describe(task: Task, recorded: Recorded) -> str:
    """Where the data come from, in words that are the same whenever the job is run."""
    days = task.request.window_ms / 86_400_000
    return f"recorded {' and '.join(recorded.origins)} bars of {days:g} days, job {task.id[:12]}"


def run(task: Task, folder: Path, recorded: Recorded, champion: Artifact | None, say: Say) -> None:
    """Trains, and leaves in ``folder``: the artifact in a store of its own or the quarantine, the report, the card."""
    began = time.monotonic()
    refusal = _run(task, folder, recorded, champion, say)
    if refusal is None:
        return
    if refusal.trained is not None:
        keep(folder / QUARANTINE, refusal.trained)
    say(
        TrainingRejected(
            request=task.id,
            model=task.request.model,
            reason=refusal.reason,
            evidence=refusal.evidence[:2000],
            quarantine=str(Path(folder.parent.name, folder.name, QUARANTINE)) if refusal.trained else "",
            seconds=round(time.monotonic() - began, 2),
            at=now_ms(),
        )
    )


def _run(task: Task, folder: Path, recorded: Recorded, champion: Artifact | None, say: Say) -> Refusal | None:
    request = task.request
    try:
        prepared = prepare(recorded.series, FEATURE_SETS[request.recipe.feature_set], request.recipe)
    except ValueError as error:
        return Refusal("unfit_data", str(error))
    report = assess(prepared, recorded.series, fewest=task.rows, champion=champion)
    say(DataAssessed(request=task.id, model=request.model, report=report, at=now_ms()))
    if report.unfit:
        return Refusal("unfit_data", "; ".join(report.unfit))
    return train(task, folder, prepared, report, recorded, champion, say)


def train(
    task: Task,
    folder: Path,
    prepared: Prepared,
    report: DataReport,
    recorded: Recorded,
    champion: Artifact | None,
    say: Say,
) -> Refusal | None:
    """Fits, measures and judges a data set that was found fit. None where an artifact came of it."""
    began = time.monotonic()
    request, y, test = task.request, prepared.y, prepared.parts.test
    watcher = Watcher(y[prepared.parts.validation], prepared.prior, lambda reading: say(progressed(task, reading)))
    fitted = fit(prepared, watcher)
    say(TrainingProgressed(task.id, request.model, "measuring", 0, 1, now_ms()))
    try:
        trained = measure(prepared, fitted, Origin(describe(task, recorded), task.bridge, recorded.series))
    except NotStoredError as error:
        found = watcher.collapse or Collapse(error.reason, str(error))
        return Refusal(*found, error.trained)
    if watcher.collapse is not None:
        return Refusal(*watcher.collapse, trained)
    digest = ArtifactStore(folder / STORE).save(*trained)
    artifact = ArtifactStore(folder / STORE).load(digest)
    answers = artifact.predict(prepared.table.windows[test])
    checks, compared = sanity(answers), gains(prepared, answers, recorded.series, champion)
    results = Results(request, report, trained.manifest, watcher.readings, answers, y[test], compared, checks)
    write_report(folder / REPORT, results)
    folder.joinpath(CARD).write_text(card(digest, trained.manifest) + "\n", encoding="utf-8")
    refused = _unwanted(task, compared, checks)
    if refused is not None:
        return Refusal(*refused, trained)
    scores = trained.manifest.metrics.test
    say(
        TrainingCompleted(
            request=task.id,
            model=request.model,
            artifact=digest,
            rows=trained.manifest.metrics.rows,
            log_loss=scores.log_loss,
            prior_log_loss=scores.prior_log_loss,
            gains=compared,
            sanity=checks,
            seconds=round(time.monotonic() - began, 2),
            peak_mb=round(peak_mb(), 1),
            version=0,
            shadow=False,
            at=now_ms(),
        )
    )
    return None


def write_report(path: Path, results: Results) -> None:
    """Write the page. Without its library a job has none; what it trained is kept all the same."""
    try:
        path.write_text(page(results), encoding="utf-8")
    except ChartsMissingError as error:
        _log.warning("%s is not written: %s", path, error)


def _unwanted(task: Task, compared: Sequence[Gain], checks: Sequence[SanityCheck]) -> Collapse | None:
    """Why an artifact that is sound may not be registered all the same."""
    prior = compared[0]
    if prior.high < 0:
        skill = f"{prior.value:+.1f} mnat [{prior.low:+.1f}, {prior.high:+.1f}]"
        return Collapse("no_skill", f"worse than the class prior on the test part: {skill}")
    wrong = [check for check in checks if not check.passed]
    if wrong and task.sanity == "refuse":
        words = ", ".join(f"{check.name} {check.value:.3f} of {check.limit}" for check in wrong)
        return Collapse("insane", f"the training policy refuses what fails a sanity check: {words}")
    return None


def progressed(task: Task, reading: EpochReading) -> TrainingProgressed:
    """A reading as an event; what is not finite is left out."""
    numbers = {
        "train_loss": reading.train_loss,
        "held_loss": reading.held_loss,
        "skill": reading.skill,
        "spread": reading.spread,
        "entropy": reading.entropy,
        "top": reading.top,
    }
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    return TrainingProgressed(
        request=task.id,
        model=task.request.model,
        stage="fitting",
        number=reading.number,
        of=reading.of,
        at=now_ms(),
        distinct=reading.distinct,
        **finite,
    )


def keep(folder: Path, trained: Trained) -> None:
    """What was refused, for people to look at. No store reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {**trained.files, MANIFEST: canonical(trained.manifest)}.items():
        (folder / name).write_bytes(data)
