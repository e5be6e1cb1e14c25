"""The report as one HTML page that stands alone: no script, no font, no file from anywhere."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from schemas.common import ACTIONS
from schemas.gates import GateVerdict
from shared.report import charts
from shared.report.charts import Curve, Dot
from shared.report.style import CSS
from shared.report.summary import Candidate, Report, Skill
from shared.report.svg import moment
from shared.report.text import (
    NONE,
    SHORT,
    champion_words,
    e_words,
    interference_words,
    interval,
    lost_words,
    mnat,
    origin_words,
)

ACTION_LEGEND: Final = [(name.lower(), name) for name in ACTIONS]
Rows = Sequence[Sequence[str]]


def page(report: Report) -> str:
    """The whole page."""
    return document("Shadow report", "".join(_body(report)))


def document(title: str, body: str) -> str:
    """A page around a body."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body>{body}</body></html>\n"
    )


def _body(report: Report) -> Iterator[str]:
    everyone = [*report.candidates, *report.members]
    known = [one for one in everyone if one.rows]
    yield "<header><h1>Shadow report</h1>"
    if known:
        begin, end = min(one.since for one in known), max(one.until for one in known)
        yield f'<p class="soft">Bars from {moment(begin)} to {moment(end)} UTC, as the log has them.</p>'
    live = list(report.origins) == ["live"]
    yield f'<div class="banner{"" if live else " warned"}">{escape(origin_words(report.origins))}</div>'
    broken = report.interference.equal != report.interference.checked
    yield f'<div class="banner{" bad" if broken else ""}">{escape(interference_words(report.interference))}</div>'
    if report.unreadable:
        yield f'<div class="banner bad">{report.unreadable:,} entries of the stream could not be read.</div>'
    if report.trades_joined or report.trades_alone:
        mean = report.trades_net / (report.trades_joined + report.trades_alone)
        yield f"<p>Closed trades: {report.trades_joined:,} joined with their decision, {report.trades_alone:,} not; "
        yield f"mean net return {mean:+.3%}.</p>"
    yield "</header>"
    yield _overview("In shadow", report.candidates)
    yield _overview("Voting", report.members)
    yield '<p class="soft">Skill is the gain in log score a row, in thousandths of a nat (mnat); above 0 is better. '
    yield "Each bound of an interval holds with 95 % whenever one looks.</p>"
    for one in report.candidates:
        yield from _section(one)


def _overview(title: str, candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return f'<h3>{title}</h3><p class="soft">None.</p>'
    heads = [
        "model",
        "artifact",
        "scores",
        "over the prior",
        "interval, mnat",
        "over the champion",
        "interval, mnat",
        "verdict",
    ]
    rows = [
        [
            escape(one.model),
            f"<code>{one.artifact[:SHORT]}</code>",
            f"{one.rows:,}",
            mnat(one.over_prior.mean if one.over_prior.blocks else one.over_prior.all_rows),
            interval(one.over_prior),
            mnat(_best(one.over_champion)),
            interval(one.over_champion) if one.over_champion else NONE,
            _badge(one),
        ]
        for one in candidates
    ]
    return f'<h3>{title}</h3><div class="wide">{_table(heads, rows)}</div>'


def _best(skill: Skill | None) -> float | None:
    if skill is None:
        return None
    return skill.mean if skill.blocks else skill.all_rows


def _badge(one: Candidate) -> str:
    if one.verdict is None:
        return '<span class="badge inconclusive">no verdict</span>' if one.role == "shadow" else NONE
    overall = one.verdict.event.overall
    return f'<span class="badge {overall}">{overall}</span>'


def _section(one: Candidate) -> Iterator[str]:
    yield f'<section><div class="head"><h2>{escape(one.model)} <code>{one.artifact[:SHORT]}</code></h2>{_badge(one)}'
    yield f'<span class="soft">in shadow beside champion <code>{champion_words(one)}</code></span></div>'
    if not one.rows:
        yield f"<p>No prediction has been scored. Unscored: {escape(lost_words(one))}.</p></section>"
        return
    yield f'<p class="soft">{moment(one.since)} to {moment(one.until)} UTC, '
    first, last = one.versions
    yield f"configuration {f'version {first}' if first == last else f'versions {first} to {last}'}. "
    yield escape(origin_words(one.origins))
    if one.earlier:
        yield f" {one.earlier:,} earlier scores, beside another champion or in another role, are left out."
    yield "</p>"
    yield f'<div class="tiles">{"".join(_tiles(one))}</div>'
    yield f'<div class="figures">{"".join(_figures(one))}</div>'
    yield from _unscored(one)
    if one.verdict is not None:
        event = one.verdict.event
        yield f"<h3>Gates by policy {escape(event.policy)}, after {event.scores:,} scores</h3>"
        command = f"conclave gates explain {one.verdict.id[:SHORT]}"
        yield f'<p class="soft">What each gate asks: <code>{command}</code>.</p>'
        yield f'<div class="wide">{_gates(event.gates)}</div>'
    yield "</section>"


def _tiles(one: Candidate) -> Iterator[str]:
    yield _skill_tile("over the class prior", one.over_prior)
    if one.over_champion:
        yield _skill_tile("over the champion", one.over_champion)
    yield _skill_tile("the ensemble gains by it", one.to_ensemble)
    yield _tile(f"{one.hit_rate:.1%}", f"hits; the most frequent outcome is {one.majority:.1%} of all")
    agreement = NONE if one.agreement is None else f"{one.agreement:.0%}"
    yield _tile(agreement, "of bars, the action of the ensemble too")
    yield _tile(f"{one.rows:,}", f"scores, {one.late:,} of them late; unscored: {lost_words(one)}")
    late = NONE if one.latency_p99_ms is None else f"{one.latency_p99_ms:.1f} ms"
    yield _tile(late, "latency, P99, from the bar to the prediction")
    yield _tile(f"{1e4 * one.signed_return:+.2f} bp", "a row by its own actions, after costs")


def _skill_tile(what: str, skill: Skill) -> str:
    return _tile(f"{mnat(_best(skill))} mnat", f"{what}: {interval(skill)}; E = {e_words(skill.log_e)}")


def _tile(value: str, words: str) -> str:
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(words)}</span></div>'


def _figures(one: Candidate) -> Iterator[str]:
    beside = [("champion", "over the champion")] if one.over_champion else []
    error = math.exp(-one.over_prior.line)
    yield _figure(
        "Evidence",
        "The e-value of each comparison, block by block. Where it ever crosses the line, the claim holds, "
        f"with {error:.0%} error however often one looks. Under 1 the evidence points the other way.",
        charts.e_values(_wealth(one), one.over_prior.line),
        [("prior", "better than the prior"), *beside, ("pool", "the ensemble gains")],
        _table(["comparison", "E now", "E at its best", "blocks"], _e_rows(one)),
    )
    yield _figure(
        "Cumulative skill",
        "Gain in log score, in nats, summed over the rows. A steady rise is skill; one step is one lucky day.",
        charts.cumulative(_skill_curves(one)),
        [("prior", "over the prior"), *beside],
        _table(["comparison", "mnat a row", "rows"], _skill_rows(one)),
    )
    yield _figure(
        "Reliability",
        "What was said against what came, with two standard errors for rows that overlap. The diagonal is honest.",
        charts.reliability([[Dot(b.said, b.came, b.error, b.rows) for b in c.bins] for c in one.calibration]),
        [],
        _table(["class", "error beyond chance", "slope (1 is calibrated)"], _calibration_rows(one)),
    )
    marks = [(name, one.confidence[name]) for name in ("P10", "P50", "P90")]
    yield _figure(
        "Confidence",
        f"Probability of its own action: {one.distinct:,} different answers, standard deviation {one.deviation:.4f}.",
        charts.histogram(one.histogram, marks),
        [],
        _table(["quantile", "confidence"], [[name, f"{value:.3f}"] for name, value in one.confidence.items()]),
    )
    shares = [[name, f"{share:.1%}"] for name, share in zip(ACTIONS, one.actions, strict=True)]
    yield _figure(
        "Action mix",
        "What it would have done, over time.",
        charts.action_mix([(span.begins, span.ends, span.actions) for span in one.spans]),
        ACTION_LEGEND,
        _table(["action", "share"], shares),
    )
    yield _figure(
        "Agreement",
        "Its action against that of the ensemble, bar by bar. A copy agrees everywhere and adds nothing.",
        charts.matrix(one.decided, "candidate", "ensemble"),
        [],
        charts.matrix(one.came, "candidate", "outcome"),
        "its action against what came",
    )


def _figure(
    title: str, reading: str, picture: str, legend: Sequence[tuple[str, str]], numbers: str, summary: str = "numbers"
) -> str:
    keys = "".join(f'<span><i class="{style}"></i>{escape(name)}</span>' for style, name in legend)
    return (
        f"<figure><figcaption><h3>{title}</h3><p>{escape(reading)}</p></figcaption>"
        f"{f'<div class=legend>{keys}</div>' if keys else ''}{picture}"
        f"<details><summary>{summary}</summary>{numbers}</details></figure>"
    )


def _wealth(one: Candidate) -> list[Curve]:
    curves = [
        Curve("better than the prior", "prior", [(point.at, point.prior) for point in one.e_values]),
        Curve("the ensemble gains", "pool", [(point.at, point.pool) for point in one.e_values]),
    ]
    if one.over_champion:
        curves.append(Curve("over the champion", "champion", [(point.at, point.champion) for point in one.e_values]))
    return curves


def _skill_curves(one: Candidate) -> list[Curve]:
    curves = [Curve("over the prior", "prior", [(span.ends, span.over_prior) for span in one.spans])]
    compared = [(span.ends, span.over_champion) for span in one.spans if span.over_champion is not None]
    if compared:
        curves.append(Curve("over the champion", "champion", compared))
    return curves


def _skills(one: Candidate) -> list[tuple[str, Skill]]:
    beside = [("over the champion", one.over_champion)] if one.over_champion else []
    return [("over the prior", one.over_prior), *beside, ("to the ensemble", one.to_ensemble)]


def _e_rows(one: Candidate) -> Rows:
    return [[name, e_words(skill.log_e), e_words(skill.peak), str(skill.blocks)] for name, skill in _skills(one)]


def _skill_rows(one: Candidate) -> Rows:
    return [[name, mnat(skill.all_rows), f"{skill.rows:,}"] for name, skill in _skills(one)]


def _calibration_rows(one: Candidate) -> Rows:
    pairs = zip(ACTIONS, one.calibration, strict=True)
    return [[name, f"{c.error:.4f}", NONE if c.slope is None else f"{c.slope:.2f}"] for name, c in pairs]


def _unscored(one: Candidate) -> Iterator[str]:
    if not one.unscored:
        return
    rows = [[escape(why), f"{n:,}", escape(one.details.get(why, ""))] for why, n in one.unscored.items()]
    yield f"<h3>Without a score</h3>{_table(['reason', 'predictions', 'the newest says'], rows, text=2)}"


def _gates(gates: Sequence[GateVerdict]) -> str:
    rows = []
    for gate in gates:
        bounds = NONE if gate.low is None or gate.high in {None, gate.low} else f"{gate.low:.4g} to {gate.high:.4g}"
        numbers = [NONE if value is None else f"{value:.4g}" for value in (gate.value, gate.threshold)]
        verdict = f'<span class="{gate.verdict}">{gate.verdict}</span>'
        rows.append([gate.name, gate.kind, verdict, *numbers, f"{gate.samples:,}", bounds, escape(gate.detail)])
    heads = ["gate", "kind", "verdict", "value", "threshold", "samples", "interval", "detail"]
    return _table(heads, rows, text=7)


def _table(heads: Sequence[str], rows: Rows, text: int = -1) -> str:
    """A table of ready cells; column ``text`` holds prose."""

    def cell(tag: str, number: int, words: str) -> str:
        return f'<{tag} class="text">{words}</{tag}>' if number == text else f"<{tag}>{words}</{tag}>"

    head = "".join(cell("th", number, words) for number, words in enumerate(heads))
    body = "".join(f"<tr>{''.join(cell('td', number, words) for number, words in enumerate(row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
