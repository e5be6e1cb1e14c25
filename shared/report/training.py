"""What came of a training job as one HTML page that stands alone: data, losses, answers to the untouched test part."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.common import ACTIONS
from schemas.training import DataReport, Gain, SanityCheck, TrainingRequested
from shared.artifacts.manifest import Manifest
from shared.report import charts
from shared.report.charts import Dot
from shared.report.page import document
from shared.report.svg import PlotArea, axes, line, moment, nothing, picture, text, ticks
from shared.training.collapse import EpochReading

BINS: Final = 10
STEPS: Final = 40
"""Bars of the histogram of confidence."""


class Results(NamedTuple):
    """What there is to show: ``answers`` [N, 3] to the test part and what came, ``y`` [N]."""

    request: TrainingRequested
    report: DataReport
    manifest: Manifest
    readings: Sequence[EpochReading]
    answers: NDArray[np.float64]
    y: NDArray[np.int64]
    gains: Sequence[Gain]
    sanity: Sequence[SanityCheck]


def page(found: Results) -> str:
    """The whole page."""
    return document(f"Training of {found.request.model}", "".join(_body(found)))


def _body(found: Results) -> Iterator[str]:
    request, recipe, report = found.request, found.request.recipe, found.report
    yield f"<header><h1>{escape(request.model)}: {escape(recipe.family)} on {escape(recipe.feature_set)}</h1>"
    yield f"<p>Asked for by {escape(request.actor)} ({request.cause}): {escape(request.reason)}</p>"
    yield f'<p class="soft">Bars from {moment(report.first)} to {moment(report.last)} UTC, {report.rows:,} labelled '
    yield f"windows of {len(report.symbols)} symbols: {escape(found.manifest.data.source)}.</p></header>"
    yield "<h3>What it is worth</h3>"
    yield _table(["over", "mnat a row", "95 % interval", ""], [
        [one.over, f"{one.value:+.1f}", f"{one.low:+.1f} to {one.high:+.1f}", one.note] for one in found.gains
    ])  # fmt: skip
    yield '<p class="soft">Log loss saved on the test part, which nothing was fitted or chosen on. An interval that '
    yield "holds zero shows no difference. Gates judge it on coming bars, in shadow.</p>"
    yield '<div class="figures">'
    yield _figure("Loss by epoch", "Mean log loss in nats: training rows, held-out rows, class prior.", losses(found))
    dots = reliability(found.answers, found.y)
    yield _figure("Said and came", "On the diagonal a probability means what it says.", charts.reliability(dots))
    yield _figure("Confidence", "The probability of its own action.", confidence(found.answers))
    yield _figure("Confusion", "Rows: what came. Columns: what it held most likely.", confusion(found))
    yield "</div><h3>Sanity</h3>"
    yield _table(["check", "value", "limit", ""], [
        [one.name, f"{one.value:.3f}", f"{one.limit:.2f}", "" if one.passed else "outside"] for one in found.sanity
    ])  # fmt: skip
    yield "<h3>Data</h3>"
    yield _table(["symbol", "bars", "vectors", "rows", "gaps", "missing"], [
        [symbol, *(f"{count:,}" for count in (one.bars, one.vectors, one.rows, one.gaps, one.missing))]
        for symbol, one in report.symbols.items()
    ])  # fmt: skip
    yield "<ul>" + "".join(f"<li>{escape(said)}</li>" for said in _remarks(report)) + "</ul>"


def _remarks(report: DataReport) -> Iterator[str]:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(ACTIONS, report.classes, strict=True))
    yield f"Classes of the training part: {shares}, cut at {report.kappa:.3f} deviations"
    yield "Parts: " + ", ".join(f"{name} {rows:,}" for name, rows in report.parts.items())
    if report.constant:
        yield f"Never change: {', '.join(report.constant)}"
    for one, other in report.duplicated:
        yield f"The same: {one} and {other}"
    if report.drift is not None and report.against is not None:
        named = f": {', '.join(report.drifted)}" if report.drifted else ""
        yield f"Drifted since the training part of {report.against[:12]}: {report.drift:.0%} of the features{named}"


def losses(found: Results) -> str:
    """Losses over steps, against the class prior's."""
    shown = [one for one in found.readings if np.isfinite([one.train_loss, one.held_loss]).all()]
    if not shown:
        return nothing("It has no epochs.")
    prior = found.manifest.metrics.validation.prior_log_loss
    values = [prior, *(value for one in shown for value in (one.train_loss, one.held_loss))]
    low, high = min(values), max(values)
    room = max(0.05 * (high - low), 1e-3)
    begin, end = shown[0].number, max(shown[-1].number, shown[0].number + 1)
    frame = PlotArea(begin, end, low - room, high + room)
    steps = [(at, f"{at:.0f}") for at, _ in ticks(begin, end)]
    body = axes(frame, steps, ticks(low - room, high + room), "epoch, or round of trees")
    body += line(frame, [(begin, prior), (end, prior)], "diagonal")
    body += text(frame.right - 4, frame.y(prior) - 4, "class prior", anchor="end")
    for name, style, points in (
        ("training", "sell", [(one.number, one.train_loss) for one in shown]),
        ("held out", "buy", [(one.number, one.held_loss) for one in shown]),
    ):
        body += line(frame, points, f"curve {style}")
        body += text(frame.left + 6, frame.y(points[0][1]) - 5, name, "name")
    return picture("Loss by epoch of training and held-out rows", body)


def reliability(answers: NDArray[np.float64], y: NDArray[np.int64]) -> list[list[Dot]]:
    """Ten bins of equal mass a class."""
    found: list[list[Dot]] = []
    for class_ in range(3):
        dots = []
        for rows in np.array_split(np.argsort(answers[:, class_], kind="stable"), BINS):
            if len(rows):
                said, came = float(answers[rows, class_].mean()), float((y[rows] == class_).mean())
                dots.append(Dot(said, came, float(np.sqrt(came * (1 - came) / len(rows))), len(rows)))
        found.append(dots)
    return found


def confidence(answers: NDArray[np.float64]) -> str:
    """Histogram of the largest probability."""
    said = answers.max(axis=1)
    counts = np.histogram(said, bins=STEPS, range=(0.0, 1.0))[0].tolist()
    low, high = np.quantile(said, [0.1, 0.9]).tolist()
    return charts.histogram(counts, [("P10", low), ("P90", high)])


def confusion(found: Results) -> str:
    """What came against what was held most likely: counts, and shares of what came."""
    said = found.answers.argmax(axis=1)
    rows = []
    for came, name in enumerate(ACTIONS):
        here = said[found.y == came]
        counts = np.bincount(here, minlength=3).tolist()
        rows.append([name, *(f"{count:,} ({count / max(1, len(here)):.0%})" for count in counts)])
    return _table(["came", *ACTIONS], rows)


def _figure(title: str, words: str, body: str) -> str:
    return f"<figure><figcaption><h3>{title}</h3><p>{words}</p></figcaption>{body}</figure>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
