"""The pictures of a report as inline SVG: numbers in, a string out.

Each says in ``aria-label`` what it shows, each mark in its title what it is.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from schemas.common import ACTIONS
from shared.report.svg import (
    TOP,
    PlotArea,
    axes,
    bar,
    dot,
    line,
    moment,
    moments,
    nice,
    nothing,
    picture,
    stroke,
    text,
    ticks,
)

DEEPEST: Final = -12.0
"""ln E is drawn no lower: what is lost is lost."""
NO_ROWS: Final = "No scored prediction yet."
SIDE: Final = 210.0
PANEL: Final = 236.0


class Curve(NamedTuple):
    """A line: its name, the class that colours it, and its points."""

    name: str
    style: str
    points: Sequence[tuple[float, float]]


class Dot(NamedTuple):
    """One bin of a reliability diagram: mean said, share that came, standard error, rows."""

    said: float
    came: float
    error: float
    rows: int


def reliability(dots: Sequence[Sequence[Dot]]) -> str:
    """Said against came for SELL, HOLD, BUY, side by side on one scale, with two standard errors.
    On the diagonal a probability means what it says."""
    flat = [one for class_ in dots for one in class_]
    if not flat:
        return nothing(NO_ROWS)
    top = min(1.0, math.ceil(10 * max(max(one.said, one.came) for one in flat) + 0.5) / 10)
    panels = "".join(
        f'<g transform="translate({number * SIDE:g} 0)">{_panel(class_, ACTIONS[number], top)}</g>'
        for number, class_ in enumerate(dots)
    )
    words = "Reliability: probability said against share that came, for SELL, HOLD and BUY"
    return picture(words, panels, 3 * SIDE, PANEL)


def _panel(dots: Sequence[Dot], name: str, top: float) -> str:
    frame = PlotArea(0, top, 0, top, SIDE, PANEL, 44)
    step = 0.1 if top <= 0.5 else 0.2
    marks = [(step * number, f"{step * number:.1f}") for number in range(int(top / step + 1e-9) + 1)]
    style = name.lower()
    body = axes(frame, marks, marks, "said") + line(frame, [(0, 0), (top, top)], "diagonal")
    body += line(frame, [(one.said, one.came) for one in dots], f"curve {style}")
    most = max((one.rows for one in dots), default=1)
    for one in dots:
        x = frame.x(one.said)
        high, low = min(top, one.came + 2 * one.error), max(0.0, one.came - 2 * one.error)
        title = f"{name}: said {one.said:.3f}, came {one.came:.3f}, 2 errors {2 * one.error:.3f}, {one.rows} rows"
        body += stroke(x, frame.y(low), x, frame.y(high), f"whisker {style}")
        body += dot(x, frame.y(one.came), 2 + 3 * math.sqrt(one.rows / most), style, title)
    return body + text(frame.left + 8, TOP + 10, name, "name")


def histogram(counts: Sequence[int], marks: Sequence[tuple[str, float]]) -> str:
    """Counts over [0, 1], with marked values (quantiles). Shown is where there are some, in steps of a
    tenth and no less than 0.3 wide: a narrow spread shall look narrow."""
    total = sum(counts)
    if not total:
        return nothing(NO_ROWS)
    most = max(counts) / total
    step = nice(most / 3)
    levels = [step * number for number in range(math.ceil(most / step) + 1)]
    size = 1 / len(counts)
    there = [number for number, count in enumerate(counts) if count]
    low, high = math.floor(there[0] * size * 10 + 1e-9), math.ceil((there[-1] + 1) * size * 10 - 1e-9)
    while high - low < 3:
        low, high = max(0, low - 1), min(10, high + 1)
    frame = PlotArea(low / 10, high / 10, 0, levels[-1])
    tenths = [(x / 10, f"{x / 10:.1f}") for x in range(low, high + 1)]
    body = axes(frame, tenths, [(y, f"{y:.0%}") for y in levels], "confidence in its own action")
    wide = frame.x(size) - frame.x(0) - 1
    for number, count in enumerate(counts):
        if count:
            y = frame.y(count / total)
            title = f"{number * size:.3f} to {(number + 1) * size:.3f}: {count} rows, {count / total:.1%}"
            body += bar(frame.x(number * size) + 0.5, y, wide, frame.bottom - y, "bar", title)
    for number, (name, value) in enumerate(marks):
        x = frame.x(value)
        body += stroke(x, TOP, x, frame.bottom, "mark") + text(x + 3, TOP + 9 + 12 * number, name)
    return picture("Histogram of confidence", body)


def action_mix(spans: Sequence[tuple[int, int, tuple[int, int, int]]]) -> str:
    """Shares of SELL, HOLD and BUY over time, from (begin and end in ms, counts)."""
    if not spans:
        return nothing(NO_ROWS)
    begin, end = spans[0][0], spans[-1][1]
    frame = PlotArea(begin, end, 0, 1)
    body = axes(frame, moments(begin, end), [(y / 4, f"{y / 4:.0%}") for y in range(5)])
    for at, until, counts in spans:
        total, base = sum(counts), 0.0
        wide = max(0.5, frame.x(until) - frame.x(at) - 0.6)
        for name, count in zip(ACTIONS, counts, strict=True):
            share = count / total
            y = frame.y(base + share)
            title = f"{moment(at)}: {name} {share:.1%} of {total} rows"
            body += bar(frame.x(at), y, wide, frame.y(base) - y, name.lower(), title) if count else ""
            base += share
    return picture("Shares of actions over time", body)


def e_values(curves: Sequence[Curve], decides: float) -> str:
    """ln E over time against the line that decides (``decides``, ln too); the axis shows E itself."""
    flat = [point for curve in curves for point in curve.points]
    if not flat:
        return nothing("No block has closed yet: there is no e-value.")
    low = max(DEEPEST, min(-1.0, *(y for _, y in flat)))
    high = max(decides + 1.0, *(y for _, y in flat)) * 1.04
    frame = _over_time(flat, low, high)
    powers = range(math.ceil(low / math.log(10)), math.floor(high / math.log(10)) + 1)
    every = max(1, math.ceil(len(powers) / 6))
    levels = [(power * math.log(10), _power(power)) for power in powers if power % every == 0]
    body = axes(frame, moments(frame.x0, frame.x1), levels)
    y = frame.y(decides)
    body += stroke(frame.left, y, frame.right, y, "line")
    body += text(frame.right - 4, y - 5, f"E = {math.exp(decides):.0f} decides", "tick strong", "end")
    body += "".join(_curve(frame, curve, DEEPEST) for curve in curves)
    return picture("e-values over time against the line that decides", body)


def cumulative(curves: Sequence[Curve]) -> str:
    """Sums over time; a rising line earns, a falling one loses."""
    flat = [point for curve in curves for point in curve.points]
    if not flat:
        return nothing(NO_ROWS)
    low, high = min(0.0, *(y for _, y in flat)), max(0.0, *(y for _, y in flat))
    room = 0.06 * (high - low) or 1.0
    frame = _over_time(flat, low - room, high + room)
    body = axes(frame, moments(frame.x0, frame.x1), ticks(low - room, high + room))
    body += stroke(frame.left, frame.y(0), frame.right, frame.y(0), "zero")
    body += "".join(_curve(frame, curve, low) for curve in curves)
    return picture("Cumulative skill over time", body)


def matrix(counts: Sequence[Sequence[int]], rows: str, columns: str) -> str:
    """A 3 by 3 table of actions; each cell darkens with its share of its row."""
    if not sum(map(sum, counts)):
        return nothing("Nothing to compare with yet.")
    wide, high, left, top = 112, 58, 108, 44
    body = text(left + 1.5 * wide, 14, columns, "axis", "middle")
    body += text(14, top + 1.5 * high, rows, "axis", "middle", up=True)
    for i, (name, row) in enumerate(zip(ACTIONS, counts, strict=True)):
        total = sum(row)
        body += text(left + (i + 0.5) * wide, top - 8, name, "tick strong", "middle")
        body += text(left - 10, top + (i + 0.5) * high + 4, name, "tick strong", "end")
        for j, count in enumerate(row):
            share = count / total if total else 0.0
            x, y = left + j * wide, top + i * high
            title = f"{rows} {name}, {columns} {ACTIONS[j]}: {count} rows, {share:.1%} of the row"
            body += bar(x + 1, y + 1, wide - 2, high - 2, "cell", title, 0.06 + 0.55 * share)
            body += text(x + wide / 2, y + high / 2 - 1, f"{count:,}", "value", "middle")
            body += text(x + wide / 2, y + high / 2 + 14, f"{share:.0%}", anchor="middle")
    return picture(f"{rows} against {columns}", body, left + 3 * wide + 4, top + 3 * high + 6)


def _over_time(points: Sequence[tuple[float, float]], low: float, high: float) -> PlotArea:
    begin, end = min(x for x, _ in points), max(x for x, _ in points)
    return PlotArea(begin, end if end > begin else begin + 1, low, high)


def _curve(frame: PlotArea, curve: Curve, floor: float) -> str:
    """A curve, cut below at ``floor``, with a mark on its last point."""
    if not curve.points:
        return ""
    cut = [(x, max(y, floor)) for x, y in curve.points]
    x, y = cut[-1]
    title = f"{curve.name}: {curve.points[-1][1]:.2f} at {moment(x)}"
    return line(frame, cut, f"curve {curve.style}") + dot(frame.x(x), frame.y(y), 3.5, curve.style, title)


def _power(power: int) -> str:
    return f"{10**power:,}" if 0 <= power <= 4 else f"1e{power}"
