"""A what-if as one HTML page that stands alone."""

from collections.abc import Iterator
from html import escape
from itertools import accumulate

from schemas.common import ACTIONS
from shared.audit.whatif import Side, WhatifResult
from shared.report import charts
from shared.report.charts import Curve
from shared.report.page import document
from shared.report.svg import PlotArea, axes, bar, moment, moments, nothing, picture
from shared.report.text import origin_words


def page(answer: WhatifResult, words: str) -> str:
    """The whole page; ``words`` say what was asked."""
    return document("What would have been decided", "".join(_body(answer, words)))


def rows(answer: WhatifResult) -> list[tuple[str, str, str]]:
    """What, before, after."""
    n, scored = answer.rounds or 1, answer.scored or 1
    sides = (answer.before, answer.after)

    def both(what: str, words: list[str]) -> tuple[str, str, str]:
        return what, words[0], words[1]

    return [
        *(both(name, [f"{side.actions[name]:,}" for side in sides]) for name in ACTIONS),
        both("no quorum", [f"{side.no_quorum:,}" for side in sides]),
        both("mean confidence", [f"{side.confidence / n:.4f}" for side in sides]),
        both("mean agreement", [f"{side.agreement / n:.1%}" for side in sides]),
        both("log loss of the pool", [_per(side.log_loss, answer.scored, scored) for side in sides]),
        both("right calls", [f"{side.hits:,} of {answer.scored:,}" for side in sides]),
        both("signed return, sum", [f"{side.signed_return:+.3%}" for side in sides]),
        both("signed return a trade", [_per_trade(side) for side in sides]),
    ]


def _per(value: float, any_: int, count: int) -> str:
    return f"{value / count:.4f}" if any_ else "-"


def _per_trade(side: Side) -> str:
    return f"{side.signed_return / side.trades:+.4%}" if side.trades else "-"


def _body(answer: WhatifResult, words: str) -> Iterator[str]:
    yield f"<header><h1>What would have been decided</h1><p>{escape(words)}</p>"
    live = list(answer.origins) == ["live"]
    yield f'<div class="banner{"" if live else " warned"}">{escape(origin_words(answer.origins))}</div>'
    share = f"{answer.changed:,} of {answer.rounds:,} decisions would have been another action; "
    moved = f"{answer.moved:,} would have moved at all. "
    yield f'<div class="banner">{share}{moved}Returns are over {answer.scored:,} rounds with an outcome.</div></header>'
    if answer.silent:
        yield f'<div class="banner warned">In {answer.silent:,} rounds a model that is asked for had no answer.</div>'
    yield "<table><tr><th>what</th><th>as it was</th><th>as it would have been</th></tr>"
    for row in rows(answer):
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield '</table><div class="figures">'
    yield _figure("Signed return, summed, less costs", _returns(answer))
    yield _figure("Actions before and after", charts.matrix(answer.matrix, "as it was", "as it would have been"))
    yield _figure("Share of decisions that would have changed", _changes(answer))
    yield "</div>"
    if answer.first:
        yield "<h3>The first that would have changed</h3><table><tr><th>bar</th><th>symbol</th><th>was</th>"
        yield "<th>would be</th><th>decision</th></tr>"
        for one in answer.first:
            cells = (moment(one.open_time), one.symbol, one.before, one.after, one.decision[:12])
            yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        yield "</table>"


def _figure(title: str, drawn: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawn}</figure>"


def _returns(answer: WhatifResult) -> str:
    times = [point.at for point in answer.points]
    before = list(zip(times, accumulate(point.before for point in answer.points), strict=True))
    after = list(zip(times, accumulate(point.after for point in answer.points), strict=True))
    return charts.cumulative([Curve("as it was", "champion", before), Curve("as it would have been", "pool", after)])


def _changes(answer: WhatifResult) -> str:
    if not answer.points:
        return nothing("No round in the range.")
    begin, end = answer.points[0].at, answer.points[-1].at
    frame = PlotArea(begin, end if end > begin else begin + 1, 0.0, 1.0)
    body = axes(frame, moments(begin, end), [(y / 4, f"{y / 4:.0%}") for y in range(5)])
    wide = max(0.5, (frame.right - frame.left) / len(answer.points))
    for point in answer.points:
        share = point.changed / point.rounds
        y = frame.y(share)
        title = f"{moment(point.at)}: {point.changed} of {point.rounds}"
        body += bar(frame.x(point.at), y, wide, frame.bottom - y, "bar", title)
    return picture("Share of decisions that would have changed, over time", body)
