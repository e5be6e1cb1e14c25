"""Train, measure and judge one artifact, in the child process.

Progress and result are emitted as events. The trainer fills in ``version`` and ``shadow`` of ``TrainingCompleted`` when
it registers the artifact."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import structs

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
    """Why a job gives no artifact, and the model as far as it was trained."""

    reason: Rejection
    evidence: str
    trained: Trained | None = None


Emit = Callable[[TrainingEvent], None]


def describe(task: Task, recorded: Recorded) -> str:
    """Return the origin of the data for the manifest. The text is part of the artifact's digest, so it is the same each
    time the job runs."""
    days = task.request.window_ms / 86_400_000
    revised = f", {recorded.revised} of them as revised later" if task.request.revised_bars else ""
    return f"recorded {' and '.join(recorded.origins)} bars of {days:g} days{revised}, job {task.id[:12]}"


def run(task: Task, folder: Path, recorded: Recorded, champion: Artifact | None, emit: Emit) -> None:
    """Train, and write into ``folder`` the report, the card, and the artifact: into a store of its own, or into the
    quarantine if it was refused."""
    began = time.monotonic()
    refusal = _run(task, folder, recorded, champion, emit)
    if refusal is None:
        return
    if refusal.trained is not None:
        quarantine(folder / QUARANTINE, refusal.trained)
    emit(
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


def _run(task: Task, folder: Path, recorded: Recorded, champion: Artifact | None, emit: Emit) -> Refusal | None:
    request = task.request
    try:
        prepared = prepare(recorded.series, FEATURE_SETS[request.recipe.feature_set], request.recipe)
    except ValueError as error:
        return Refusal("unfit_data", str(error))
    report = assess(prepared, recorded.series, fewest=task.rows, champion=champion)
    report = structs.replace(report, revised=recorded.revised)
    emit(DataAssessed(request=task.id, model=request.model, report=report, at=now_ms()))
    if report.unfit:
        return Refusal("unfit_data", "; ".join(report.unfit))
    return train(task, folder, prepared, report, recorded, champion, emit)


def train(
    task: Task,
    folder: Path,
    prepared: Prepared,
    report: DataReport,
    recorded: Recorded,
    champion: Artifact | None,
    emit: Emit,
) -> Refusal | None:
    """Fit, measure and judge an artifact on data that were found fit. Return None if it is accepted."""
    began = time.monotonic()
    request, y, test = task.request, prepared.y, prepared.parts.test
    watcher = Watcher(y[prepared.parts.validation], prepared.prior, lambda reading: emit(progressed(task, reading)))
    fitted = fit(prepared, watcher)
    emit(TrainingProgressed(request=task.id, model=request.model, stage="measuring", number=0, of=1, at=now_ms()))
    try:
        trained = measure(prepared, fitted, Origin(describe(task, recorded), task.bridge, recorded.series))
    except NotStoredError as error:
        collapse = watcher.collapse or Collapse(error.reason, str(error))
        return Refusal(*collapse, error.trained)
    if watcher.collapse is not None:
        return Refusal(*watcher.collapse, trained)
    digest = ArtifactStore(folder / STORE).save(*trained)
    artifact = ArtifactStore(folder / STORE).load(digest)
    answers = prepared.table.windows.of(test).each(artifact.predict)
    checks, compared = sanity(answers), gains(prepared, answers, recorded.series, champion)
    results = Results(request, report, trained.manifest, watcher.readings, answers, y[test], compared, checks)
    write_report(folder / REPORT, results)
    folder.joinpath(CARD).write_text(card(digest, trained.manifest) + "\n", encoding="utf-8")
    refused = _refusal(task, compared, checks)
    if refused is not None:
        return Refusal(*refused, trained)
    scores = trained.manifest.metrics.test
    emit(
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
    """Write the report page. It is left out, with a warning, if the library that draws charts is not installed."""
    try:
        path.write_text(page(results), encoding="utf-8")
    except ChartsMissingError as error:
        _log.warning("%s is not written: %s", path, error)


def _refusal(task: Task, compared: Sequence[Gain], checks: Sequence[SanityCheck]) -> Collapse | None:
    """Return why an artifact that did not collapse is refused nevertheless; None if it is accepted."""
    prior = compared[0]
    if prior.high < 0:
        skill = f"{prior.value:+.1f} mnat [{prior.low:+.1f}, {prior.high:+.1f}]"
        return Collapse("no_skill", f"worse than the class prior on the test part: {skill}")
    failed = [check for check in checks if not check.passed]
    if failed and task.sanity == "refuse":
        values = ", ".join(f"{check.name} {check.value:.3f}, limit {check.limit}" for check in failed)
        return Collapse("insane", f"the training policy refuses an artifact that fails a sanity check: {values}")
    return None


def progressed(task: Task, reading: EpochReading) -> TrainingProgressed:
    """Return the readings of an epoch as an event, without those that are not finite."""
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


def quarantine(folder: Path, trained: Trained) -> None:
    """Write a refused artifact for people to look at. No store reads this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {**trained.files, MANIFEST: canonical(trained.manifest)}.items():
        (folder / name).write_bytes(data)
