"""Render templates. All text is escaped; only charts of ``shared.report`` are inserted as they are."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from services.observatory.jobs import TrainingStep
from services.observatory.web.assets import address
from services.observatory.web.sessions import VIEWER
from shared.bars.names import interval_text
from shared.distribution import version
from shared.report.text import in_force_words, moment

GLYPHS: Final = {"BUY": "▲", "SELL": "▼", "HOLD": "■"}
MINUTE_MS: Final = 60_000
FLAT: Final = 0.01
"""The least height of a chart of losses, in nats: below it losses look as flat as they are."""
PAIR: Final = re.compile(r"(?:^| )([a-z_]+)=(.*?)(?= [a-z_]+=|$)")
KEY: Final = re.compile(r"conclave:(?:\{p(\d+)\}:)?([a-z]+)")
MILLISECONDS: Final = re.compile(r"\b1\d{12}\b")


def render(template: str, **values: Any) -> str:
    """Return a page or a part of one. A value that the template uses and ``values`` lacks is an error."""
    return environment().get_template(template).render(**values)


@cache
def environment() -> Environment:
    """Return the templates of the observatory, and those of the reports."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader("services.observatory"), PackageLoader("shared.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "moment": moment,
        "second": second,
        "dated": dated,
        "iso": iso,
        "price": price,
        "money": money,
        "share": share,
        "duration": duration,
        "offset": offset,
        "coded": coded,
        "interval": interval_text,
        "slug": slug,
        "words": words,
        "glyph": GLYPHS.get,
        "e_value": e_value,
        "signed": signed,
        "loss_lines": loss_lines,
        "markdown": markdown,
        "pairs": pairs,
        "stream": stream,
        "evidence_lines": evidence_lines,
        "in_force": in_force_words,
    }
    own = {"asset": address, "release": version(), "points": points, "linked": True, "viewer": VIEWER.get}
    made.globals |= own
    return made


def second(ms: float) -> str:
    """Return a time (ms) as date, hour, minute and second, UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def dated(text: str) -> str:
    """Return a text with its times in milliseconds as date, hour and minute, UTC."""
    return MILLISECONDS.sub(lambda found: moment(int(found[0])), text)


def iso(ms: float) -> str:
    """Return a time (ms) as ISO 8601."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%S}.{int(ms) % 1000:03d}Z"


def price(value: float) -> str:
    """Return a price with as many digits as it needs."""
    size = abs(value)
    digits = 2 if size >= 100 else 3 if size >= 1 else 6
    return f"{value:,.{digits}f}"


def money(value: float) -> str:
    """Return a sum of money, with its sign."""
    if value == 0:
        return "0"
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+,.2f}"


def signed(value: float) -> str:
    """Return a number with its sign and three digits."""
    return f"{value:+.3f}"


def share(value: float) -> str:
    """Return a share as a percentage."""
    return f"{value:.0%}"


def duration(ms: float) -> str:
    """Return a duration (ms) in words."""
    if ms < 1_000:
        return f"{ms:.0f} ms"
    if ms < 2 * MINUTE_MS:
        return f"{ms / 1000:.1f} s"
    return f"{ms / MINUTE_MS:,.0f} min" if ms < 120 * MINUTE_MS else f"{ms / 3_600_000:,.0f} h"


def offset(ms: float) -> str:
    """Return the difference of two clocks (ms) in words."""
    return f"{ms:+,.0f} ms" if abs(ms) < 1_000 else f"{ms / 1000:+,.1f} s"


def coded(text: str) -> Markup:
    """Return a text, escaped, with what stands between backquotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped before


def markdown(text: str) -> Markup:
    """Return a text in Markdown as HTML. HTML in it is escaped; its first heading is one of third level."""
    lowered = re.sub(r"^(#{1,4}) ", r"\1## ", text, flags=re.MULTILINE)
    shown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(lowered)
    wide = shown.replace("<table>", '<div class="wide" tabindex="0" role="group" aria-label="Table"><table>')
    return Markup(wide.replace("</table>", "</table></div>"))  # noqa: S704  # the library escapes


def pairs(text: str) -> list[tuple[str, str]]:
    """Return the fields of a command in one line, `name=value name=value`, as names and values."""
    return [(name, value) for name, value in PAIR.findall(text)]


def stream(key: str) -> str:
    """Return a key of the log as the name of its stream, with the partition unless it is the first."""
    return KEY.sub(lambda found: found[2] + (f" {found[1]}" if found[1] not in (None, "0") else ""), key)


def slug(name: str) -> str:
    """Return a name as an id of an element."""
    return "".join(each if each.isalnum() else f"_{ord(each):x}_" for each in name)


def words(name: str) -> str:
    """Return a name of the schemas as words."""
    return name.replace("_", " ")


def e_value(value: float) -> str:
    """Return an e-value as text."""
    if value < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value < 1e6 else f"{value:.0e}"


def points(values: tuple[float, ...], width: int = 120, height: int = 30) -> str:
    """Return the points of a line through ``values``, for an SVG of this size."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = width / (len(values) - 1)
    return " ".join(f"{i * step:.1f},{height - 2 - (v - low) / span * (height - 4):.1f}" for i, v in enumerate(values))


class LossLine(NamedTuple):
    """A line of a small chart: its name, and its points for an SVG of 120 by 40."""

    name: str
    points: str


def evidence_lines(log_e: Sequence[float], line: float) -> list[LossLine]:
    """Return ln E over time, and the line at which it decides, on one scale."""
    low, high = min(0.0, *log_e), max(line, *log_e)
    across, down = 120 / max(len(log_e) - 1, 1), 36 / (high - low)
    course = " ".join(f"{n * across:.1f},{38 - (value - low) * down:.1f}" for n, value in enumerate(log_e))
    level = f"{38 - (line - low) * down:.1f}"
    return [LossLine("prior", f"0,{level} 120,{level}"), LossLine("held", course)]


def loss_lines(steps: Sequence[TrainingStep]) -> list[LossLine]:
    """Return the losses of a fit as lines on one scale."""
    columns = {
        "prior": [step.prior for step in steps],
        "train": [step.train for step in steps],
        "held": [step.held for step in steps],
    }
    low, high = min(map(min, columns.values())), max(map(max, columns.values()))
    middle, across, down = (low + high) / 2, 120 / (len(steps) - 1), 36 / max(high - low, FLAT)

    def points_of(column: Sequence[float]) -> str:
        return " ".join(f"{n * across:.1f},{20 - (value - middle) * down:.1f}" for n, value in enumerate(column))

    return [LossLine(name, points_of(column)) for name, column in columns.items()]
