"""Marks of a picture: numbers in, SVG out. Shapes and words with class names; a style sheet gives them
colour. Coordinates are pixels from the top left."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 560
HEIGHT: Final = 260
LEFT: Final = 52
RIGHT: Final = 14
TOP: Final = 14
BOTTOM: Final = 40
DAY_MS: Final = 86_400_000


class PlotArea(NamedTuple):
    """Where the data lies: x from ``x0`` to ``x1`` and y from ``y0`` to ``y1`` in a picture of ``width`` by
    ``height``; ``left`` pixels are kept for the labels of y."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT

    @property
    def right(self) -> float:
        """Where the data ends."""
        return self.width - RIGHT

    @property
    def bottom(self) -> float:
        """Where y is ``y0``."""
        return self.height - BOTTOM

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return self.left + (value - self.x0) / ((self.x1 - self.x0) or 1) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return self.bottom - (value - self.y0) / ((self.y1 - self.y0) or 1) * (self.bottom - TOP)


def picture(label: str, body: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """The element around a body; ``label`` is read to who cannot see it."""
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{body}</svg>'


def nothing(why: str) -> str:
    """In a picture's place where there is nothing to draw."""
    return f'<p class="nothing">{escape(why)}</p>'


def text(x: float, y: float, words: str, style: str = "tick", anchor: str = "start", *, up: bool = False) -> str:
    """Words at a point; ``up``: read from below."""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if up else ""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(words)}</text>'


def stroke(x0: float, y0: float, x1: float, y1: float, style: str) -> str:
    """A straight line."""
    return f'<line class="{style}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def bar(x: float, y: float, width: float, height: float, style: str, title: str, opacity: float | None = None) -> str:
    """A rectangle; ``title`` is shown under the pointer."""
    veil = "" if opacity is None else f' fill-opacity="{opacity:.3f}"'
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(0.0, height):.1f}"'
    return f'<rect class="{style}" {place}{veil}><title>{escape(title)}</title></rect>'


def dot(x: float, y: float, radius: float, style: str, title: str) -> str:
    """A filled circle."""
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"'
    return f'<circle class="dot {style}" {place}><title>{escape(title)}</title></circle>'


def line(frame: PlotArea, points: Sequence[tuple[float, float]], style: str) -> str:
    """A line through points of the data."""
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
    return f'<polyline class="{style}" points="{path}"/>' if points else ""


def axes(frame: PlotArea, x: Sequence[tuple[float, str]], y: Sequence[tuple[float, str]], beneath: str = "") -> str:
    """A grid at the labelled values of y, words under those of x, and what x is."""
    body = ""
    for value, words in y:
        at = frame.y(value)
        body += stroke(frame.left, at, frame.right, at, "grid") + text(frame.left - 6, at + 3.5, words, anchor="end")
    for number, (value, words) in enumerate(x):
        anchor = "middle"
        if len(words) > 4 and len(x) > 1:
            anchor = {0: "start", len(x) - 1: "end"}.get(number, "middle")
        body += text(frame.x(value), frame.bottom + 15, words, anchor=anchor)
    return body + text((frame.left + frame.right) / 2, frame.height - 8, beneath, "axis", "middle") if beneath else body


def nice(step: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is no less than ``step`` (above 0)."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


def ticks(low: float, high: float, most: int = 4) -> list[tuple[float, str]]:
    """At most about ``most`` round values between two, with words of as many decimals as they need."""
    step = nice((high - low) / most)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(step * n, f"{step * n:.{decimals}f}") for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def moment(ms: float) -> str:
    """A moment in words, UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"


def moments(begin: float, end: float) -> list[tuple[float, str]]:
    """Four labelled moments: days where the span has some, else hours."""
    style = "%m-%d" if end - begin >= 4 * DAY_MS else "%m-%d %H:%M"
    found = [begin + (end - begin) * part / 3 for part in range(4)] if end > begin else [begin]
    return [(at, f"{datetime.fromtimestamp(at / 1000, UTC):{style}}") for at in found]
