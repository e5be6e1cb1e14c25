"""Render the results of a training job as an HTML page: data, losses, and predictions for the held-out test part."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from schemas.common import ACTIONS
from schemas.training import DataReport, Gain, SanityCheck, TrainingRequested
from shared.artifacts.manifest import Manifest
from shared.report import charts
from shared.report.charts import Curve, Dot
from shared.report.drawing import Chart
from shared.report.pages import PageFigure, render
from shared.report.tables import TextTable, cross, symbols
from shared.report.text import NONE, SHORT, revised_words
from shared.training.collapse import EpochReading

BINS: Final = 10
STEPS: Final = 40
"""Bars of the histogram of confidence."""


class Results(NamedTuple):
    """The results to show. ``answers`` [N, 3] are the probabilities for the test part, ``y`` [N] its outcomes."""

    request: TrainingRequested
    report: DataReport
    manifest: Manifest
    readings: Sequence[EpochReading]
    answers: NDArray[np.float64]
    y: NDArray[np.int64]
    gains: Sequence[Gain]
    sanity: Sequence[SanityCheck]


def page(results: Results) -> str:
    """Return the whole page. Raises ``ChartsMissingError``."""
    return render(
        "training.html",
        request=results.request,
        report=results.report,
        source=results.manifest.data.source,
        gains=gains(results.gains),
        figures_shown=list(_figures(results)),
        sanity=sanity(results.sanity),
        symbols=symbols(results.report),
        remarks=list(_remarks(results.report, taken=results.request.revised_bars)),
    )


def gains(found: Sequence[Gain]) -> TextTable:
    """Return the reduction of log loss on the test part against each comparison."""
    rows = [
        (
            one.over,
            f"{one.value:+.1f}",
            NONE if one.moves is UNSET else f"{one.moves:+.1f}",
            NONE if one.direction is UNSET else f"{one.direction:+.1f}",
            f"{one.low:+.1f} to {one.high:+.1f}",
            one.note,
        )
        for one in found
    ]
    heads = ("over", "mnat a row", "of it moves", "direction", "95 % interval", "note")
    return TextTable("Skill on the test part", heads, rows, ("note",))


def sanity(checks: Sequence[SanityCheck]) -> TextTable:
    """Return each sanity check and its limit."""
    rows = [
        (check.name, f"{check.value:.3f}", f"{check.limit:.2f}", "" if check.passed else "outside") for check in checks
    ]
    return TextTable("Sanity", ("check", "value", "limit", ""), rows)


def _remarks(report: DataReport, *, taken: bool) -> Iterator[str]:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(ACTIONS, report.classes, strict=True))
    yield f"Classes of the training part: {shares}, cut at {report.kappa:.3f} deviations"
    yield "Parts: " + ", ".join(f"{name} {rows:,}" for name, rows in report.parts.items())
    if report.revised:
        yield revised_words(report, taken=taken)
    if report.constant:
        yield f"Never change: {', '.join(report.constant)}"
    for one, other in report.duplicated:
        yield f"The same: {one} and {other}"
    if report.drift is not None and report.against is not None:
        named = f": {', '.join(report.drifted)}" if report.drifted else ""
        yield f"Drifted since the training part of {report.against[:SHORT]}: {report.drift:.0%} of the features{named}"


def _figures(results: Results) -> Iterator[PageFigure]:
    yield PageFigure(
        "Loss by epoch",
        "Mean log loss in nats: training rows, held-out rows, class prior.",
        losses(results),
        (("sell", "training"), ("buy", "held out")),
    )
    yield PageFigure(
        "Reliability",
        "Predicted probability against observed share. On the diagonal a probability means what it says.",
        charts.reliability(reliability(results.answers, results.y)),
    )
    yield PageFigure("Confidence", "The probability of its own action.", confidence(results.answers))
    counts = confusion(results.answers, results.y)
    yield PageFigure(
        "Confusion",
        "Rows: the outcome. Columns: the most likely class by the model.",
        charts.matrix(counts, "outcome", "model"),
        numbers=cross("Confusion", "outcome", counts),
    )


def losses(results: Results) -> Chart:
    """Draw the losses over training steps, and the loss of the class prior."""
    shown = [one for one in results.readings if np.isfinite([one.train_loss, one.held_loss]).all()]
    curves = [
        Curve("training", "sell", [(one.number, one.train_loss) for one in shown]),
        Curve("held out", "buy", [(one.number, one.held_loss) for one in shown]),
    ]
    return charts.losses(curves, results.manifest.metrics.validation.prior_log_loss)


def reliability(answers: NDArray[np.float64], y: NDArray[np.int64]) -> list[list[Dot]]:
    """Return a reliability diagram for each class: ten bins with equal numbers of rows."""
    classes: list[list[Dot]] = []
    for class_ in range(3):
        dots = []
        for rows in np.array_split(np.argsort(answers[:, class_], kind="stable"), BINS):
            if len(rows):
                predicted, observed = float(answers[rows, class_].mean()), float((y[rows] == class_).mean())
                dots.append(Dot(predicted, observed, float(np.sqrt(observed * (1 - observed) / len(rows))), len(rows)))
        classes.append(dots)
    return classes


def confidence(answers: NDArray[np.float64]) -> Chart:
    """Draw the histogram of the largest probability."""
    largest = answers.max(axis=1)
    counts = np.histogram(largest, bins=STEPS, range=(0.0, 1.0))[0].tolist()
    low, high = np.quantile(largest, [0.1, 0.9]).tolist()
    return charts.histogram(counts, [("P10", low), ("P90", high)])


def confusion(answers: NDArray[np.float64], y: NDArray[np.int64]) -> list[list[int]]:
    """Return the number of rows by outcome and most likely class."""
    likeliest = answers.argmax(axis=1)
    return [np.bincount(likeliest[y == outcome], minlength=3).tolist() for outcome in range(3)]
