"""Draw the charts of all pages. Each function takes numbers and returns a ``Chart``.

Every chart has a label that describes it, and every mark has a title.
"""

import math
from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.common import ACTIONS
from shared.report.drawing import Chart, canvas, chart_of, colour, house_style, plot_area, titled
from shared.report.text import moment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOWEST_LOG_E: Final = -12.0
"""Lower values of ln E are drawn at this one."""
NO_ROWS: Final = "No scored prediction yet."
DAY_MS: Final = 86_400_000
LEAST_SPAN_MS: Final = 600_000
"""An axis of time is at least so long: below it labels would have fractions of seconds."""
PANEL: Final = 210


class Curve(NamedTuple):
    """A line of a chart: its name, colour and points."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


class Dot(NamedTuple):
    """One bin of a reliability diagram: mean probability, observed share, standard error, rows."""

    predicted: float
    observed: float
    error: float
    rows: int


def reliability(dots: Sequence[Sequence[Dot]]) -> Chart:
    """Draw predicted probability against observed share for SELL, HOLD and BUY, with two standard errors."""
    flat = [dot for bins in dots for dot in bins]
    if not flat:
        return Chart(NO_ROWS)
    top = min(1.0, math.ceil(10 * max(max(dot.predicted, dot.observed) for dot in flat) + 0.5) / 10)
    with house_style():
        figure = canvas(3 * PANEL, 236)
        for number, (name, bins) in enumerate(zip(ACTIONS, dots, strict=True)):
            _panel(plot_area(figure, 44 + number * PANEL, 14 + (2 - number) * PANEL), name, bins, top)
        return chart_of(figure, "Reliability: predicted probability against observed share, for SELL, HOLD and BUY")


def _panel(axes: "Axes", name: str, bins: Sequence[Dot], top: float) -> None:
    shade = colour(name.lower())
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="predicted")
    marks = [0.0, top / 2, top]
    axes.set_xticks(marks)
    axes.set_yticks(marks)
    axes.text(0.04, 0.95, name, transform=axes.transAxes, va="top", color=colour("ink"), weight="bold")
    axes.plot([0, top], [0, top], color=colour("soft"), linewidth=1, linestyle=(0, (4, 4)))
    axes.plot([dot.predicted for dot in bins], [dot.observed for dot in bins], color=shade, linewidth=2)
    most = max((dot.rows for dot in bins), default=1)
    for dot in bins:
        low, high = max(0.0, dot.observed - 2 * dot.error), min(top, dot.observed + 2 * dot.error)
        axes.plot([dot.predicted, dot.predicted], [low, high], color=shade, linewidth=1.2)
        _dot(
            axes,
            (dot.predicted, dot.observed),
            shade,
            f"{name}: predicted {dot.predicted:.3f}, observed {dot.observed:.3f}, "
            f"2 errors {2 * dot.error:.3f}, {dot.rows} rows",
            4 + 6 * math.sqrt(dot.rows / most),
        )


def histogram(counts: Sequence[int], marks: Sequence[tuple[str, float]]) -> Chart:
    """Draw a histogram over [0, 1] with marked values (quantiles).

    The axis covers the tenths that have counts, and at least three of them, so that a narrow spread looks narrow."""
    total = sum(counts)
    if not total:
        return Chart(NO_ROWS)
    size = 1 / len(counts)
    filled = [number for number, count in enumerate(counts) if count]
    low, high = math.floor(filled[0] * size * 10 + 1e-9), math.ceil((filled[-1] + 1) * size * 10 - 1e-9)
    while high - low < 3:
        low, high = max(0, low - 1), min(10, high + 1)
    with house_style():
        figure = canvas()
        axes = plot_area(figure)
        axes.set(xlim=(low / 10, high / 10), xlabel="confidence in its own action")
        axes.set_xticks([tenth / 10 for tenth in range(low, high + 1)])
        _shares(axes, 1.1 * max(counts) / total)
        bars = axes.bar([number * size for number in filled], [counts[number] / total for number in filled],
                        0.9 * size, align="edge", color=colour("buy"))  # fmt: skip
        for number, bar in zip(filled, bars, strict=True):
            count = counts[number]
            titled(bar, f"{number * size:.3f} to {(number + 1) * size:.3f}: {count} rows, {count / total:.1%}")
        for number, (name, value) in enumerate(marks):
            axes.axvline(value, color=colour("soft"), linewidth=1, linestyle=(0, (3, 3)))
            axes.annotate(
                name, (value, 1), (3, -9 - 12 * number), xycoords=("data", "axes fraction"), textcoords="offset points"
            )
        return chart_of(figure, "Histogram of confidence")


def action_mix(spans: Sequence[tuple[int, int, tuple[int, int, int]]]) -> Chart:
    """Draw the shares of SELL, HOLD and BUY over time. ``spans``: begin (ms), end (ms) and counts of each span."""
    if not spans:
        return Chart(NO_ROWS)
    with house_style():
        figure = canvas()
        axes = plot_area(figure)
        _over_time(axes, spans[0][0], spans[-1][1])
        _shares(axes, 1.0)
        for begin, end, counts in spans:
            total, base = sum(counts), 0.0
            for name, count in zip(ACTIONS, counts, strict=True):
                share = count / total
                if count:
                    width = 0.96 * (end - begin) / DAY_MS
                    (bar,) = axes.bar(begin / DAY_MS, share, width, base, align="edge", color=colour(name.lower()))
                    titled(bar, f"{moment(begin)}: {name} {share:.1%} of {total} rows")
                base += share
        return chart_of(figure, "Shares of actions over time")


def shares_over_time(points: Sequence[tuple[float, int, int]], label: str) -> Chart:
    """Draw shares over time as bars. ``points``: time (ms), number counted and total of each bar."""
    if not points:
        return Chart("No round in the range.")
    begin, end = points[0][0], points[-1][0]
    width = max(end - begin, 1) / max(1, len(points) - 1)
    with house_style():
        figure = canvas()
        axes = plot_area(figure)
        _over_time(axes, begin, end + width)
        _shares(axes, 1.0)
        for at, counted, total in points:
            (bar,) = axes.bar(at / DAY_MS, counted / total, width / DAY_MS, align="edge", color=colour("buy"))
            titled(bar, f"{moment(at)}: {counted} of {total}")
        return chart_of(figure, label)


def e_values(curves: Sequence[Curve], decides: float) -> Chart:
    """Draw e-values over time and their threshold, all given as ln E. The axis is labelled with E."""
    flat = [point for curve in curves for point in curve.points]
    if not flat:
        return Chart("No block has closed yet: there is no e-value.")
    low = max(LOWEST_LOG_E, min(-1.0, *(y for _, y in flat)))
    high = 1.04 * max(decides + 1.0, *(y for _, y in flat))
    powers = range(math.ceil(low / math.log(10)), math.floor(high / math.log(10)) + 1)
    every = max(1, math.ceil(len(powers) / 6))
    with house_style():
        figure = canvas()
        axes = plot_area(figure)
        _over_time(axes, min(x for x, _ in flat), max(x for x, _ in flat))
        axes.set(ylim=(low, high))
        shown = [power for power in powers if power % every == 0]
        axes.set_yticks([power * math.log(10) for power in shown], [_power(power) for power in shown])
        line = axes.axhline(decides, color=colour("bad"), linewidth=1.5, linestyle=(0, (6, 4)))
        titled(line, f"E = {math.exp(decides):.0f}")
        axes.annotate(f"E = {math.exp(decides):.0f} decides", (1, decides), (-4, 4), ha="right", color=colour("ink"),
                      weight="bold", xycoords=("axes fraction", "data"), textcoords="offset points")  # fmt: skip
        for curve in curves:
            _curve(axes, curve, LOWEST_LOG_E)
        return chart_of(figure, "e-values over time against the line that decides")


def cumulative(curves: Sequence[Curve], label: str = "Cumulative skill over time") -> Chart:
    """Draw cumulative sums over time."""
    flat = [point for curve in curves for point in curve.points]
    if not flat:
        return Chart(NO_ROWS)
    low, high = min(0.0, *(y for _, y in flat)), max(0.0, *(y for _, y in flat))
    room = 0.06 * (high - low) or 1.0
    with house_style():
        figure = canvas()
        axes = plot_area(figure)
        _over_time(axes, min(x for x, _ in flat), max(x for x, _ in flat))
        axes.set(ylim=(low - room, high + room))
        axes.locator_params("y", nbins=5)
        axes.axhline(0, color=colour("soft"), linewidth=1)
        for curve in curves:
            _curve(axes, curve, low)
        return chart_of(figure, label)


def losses(curves: Sequence[Curve], prior: float) -> Chart:
    """Draw losses over training steps, and the loss of the class prior."""
    flat = [point for curve in curves for point in curve.points]
    if not flat:
        return Chart("It has no epochs.")
    low, high = min(prior, *(y for _, y in flat)), max(prior, *(y for _, y in flat))
    room = max(0.05 * (high - low), 1e-3)
    begin, end = min(x for x, _ in flat), max(x for x, _ in flat)
    with house_style():
        figure = canvas()
        axes = plot_area(figure)
        axes.set(xlim=(begin, max(end, begin + 1)), ylim=(low - room, high + room), xlabel="epoch, or round of trees")
        axes.locator_params("x", integer=True, nbins=6)
        axes.locator_params("y", nbins=5)
        axes.axhline(prior, color=colour("soft"), linewidth=1, linestyle=(0, (4, 4)))
        axes.annotate("class prior", (1, prior), (-4, 4), ha="right", xycoords=("axes fraction", "data"),
                      textcoords="offset points")  # fmt: skip
        for curve in curves:
            axes.plot(*zip(*curve.points, strict=True), color=colour(curve.colour), linewidth=2)
            (x, y) = curve.points[-1]
            _dot(axes, (x, y), colour(curve.colour), f"{curve.name}: {y:.4f} at {x:g}")
        return chart_of(figure, "Loss by epoch of training and held-out rows")


def matrix(counts: Sequence[Sequence[int]], rows: str, columns: str) -> Chart:
    """Draw a 3 by 3 table of actions. The shade of a cell grows with its share of its row."""
    if not sum(map(sum, counts)):
        return Chart("Nothing to compare with yet.")
    with house_style():
        figure = canvas(466, 232)
        axes = plot_area(figure, left=102, right=4, top=52, bottom=6)
        axes.set(xlim=(0, 3), ylim=(3, 0))
        axes.set_xlabel(columns, labelpad=9)
        axes.set_ylabel(rows, labelpad=18)
        axes.set_xticks([0.5, 1.5, 2.5], ACTIONS)
        axes.set_yticks([0.5, 1.5, 2.5], ACTIONS)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            label.set(color=colour("ink"), weight="bold")
        for i, row in enumerate(counts):
            total = sum(row)
            for j, count in enumerate(row):
                share = count / total if total else 0.0
                (cell,) = axes.bar(j + 0.01, 0.96, 0.98, i + 0.02, align="edge", color=colour("buy"),
                                   alpha=0.06 + 0.55 * share)  # fmt: skip
                titled(cell, f"{rows} {ACTIONS[i]}, {columns} {ACTIONS[j]}: {count} rows, {share:.1%} of the row")
                axes.text(j + 0.5, i + 0.48, f"{count:,}", ha="center", color=colour("ink"), size=14, weight="bold")
                axes.text(j + 0.5, i + 0.75, f"{share:.0%}", ha="center")
        return chart_of(figure, f"{rows} against {columns}")


def _over_time(axes: "Axes", begin: float, end: float) -> None:
    """Make the x axis a time axis (UTC) from ``begin`` to ``end`` (ms). Its coordinates are days since 1970."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415  # an optional extra

    pad = max(LEAST_SPAN_MS - (end - begin), 0.0) / 2
    axes.set(xlim=((begin - pad) / DAY_MS, (end + pad) / DAY_MS))
    locator = AutoDateLocator(tz=UTC, minticks=2, maxticks=6)  # type: ignore[no-untyped-call]  # Matplotlib's
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(
        ConciseDateFormatter(  # type: ignore[no-untyped-call]  # Matplotlib's
            locator,
            UTC,
            formats=["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%S.%f"],
            zero_formats=["", "%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M"],
            offset_formats=["", "%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d %H:%M"],
        )
    )


def _shares(axes: "Axes", top: float) -> None:
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415  # an optional extra

    axes.set(ylim=(0, top))
    axes.locator_params("y", nbins=4)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _curve(axes: "Axes", curve: Curve, floor: float) -> None:
    """Draw a curve with a dot on its last point. Values below ``floor`` are drawn at ``floor``."""
    if not curve.points:
        return
    cut = [(x / DAY_MS, max(y, floor)) for x, y in curve.points]
    axes.plot(*zip(*cut, strict=True), color=colour(curve.colour), linewidth=2, solid_joinstyle="round")
    at, value = curve.points[-1]
    _dot(axes, cut[-1], colour(curve.colour), f"{curve.name}: {value:.2f} at {moment(at)}")


def _dot(axes: "Axes", point: tuple[float, float], shade: str, title: str, size: float = 7) -> None:
    (dot,) = axes.plot(*point, "o", color=shade, markersize=size, markeredgewidth=0)
    titled(dot, title)


def _power(power: int) -> str:
    return f"{10**power:,}" if 0 <= power <= 4 else f"1e{power}"
