"""Render the shadow report as an HTML page."""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from schemas.common import ACTIONS
from shared.report import charts, tables
from shared.report.charts import Curve, Dot
from shared.report.money import CAPTION, money_tables, symbol_tables
from shared.report.pages import PageFigure, render
from shared.report.summary import Candidate, Report, Skill
from shared.report.tables import TextTable
from shared.report.text import (
    NONE,
    acting_words,
    best_mean,
    champion_words,
    e_words,
    in_force_words,
    interference_words,
    interval,
    lost_words,
    mnat,
    origin_words,
    parts_words,
    version_words,
)

ACTION_LEGEND: Final = tuple((name.lower(), name) for name in ACTIONS)


class Tile(NamedTuple):
    """A number in large type, and its label."""

    value: str
    words: str


class CandidateSection(NamedTuple):
    """The section of the page about one candidate."""

    candidate: Candidate
    champion: str
    versions: str
    origins: str
    lost: str
    tiles: list[Tile]
    figures: list[PageFigure]
    facts: TextTable
    unscored: TextTable
    gates: TextTable | None


def page(report: Report) -> str:
    """Return the whole page. Raises ``ChartsMissingError``."""
    known = [one for one in (*report.candidates, *report.members) if one.rows]
    trades = report.trades_joined + report.trades_alone
    lines = report.money.lines if report.money else ()
    return render(
        "shadow.html",
        report=report,
        begin=min((one.since for one in known), default=None),
        end=max((one.until for one in known), default=None),
        origins=origin_words(report.origins),
        interference=interference_words(report.interference),
        acting=(
            *(acting_words(report.acting) if report.acting else ()),
            *([in_force_words(report.policies)] if report.policies else []),
        ),
        mean_trade=report.trades_net / trades if trades else None,
        overviews=[tables.overview("In shadow", report.candidates), tables.overview("Voting", report.members)],
        money=(*money_tables(lines, "Money"), *symbol_tables(lines, "Money")) if lines else (),
        money_caption=CAPTION,
        sections=[section_of(one) for one in report.candidates],
    )


def section_of(one: Candidate, *, drawn: bool = True) -> CandidateSection:
    """Return the section about one candidate, with its charts if ``drawn``. Raises ``ChartsMissingError``."""
    event = one.verdict.event if one.verdict else None
    return CandidateSection(
        candidate=one,
        champion=champion_words(one),
        versions=version_words(one),
        origins=origin_words(one.origins),
        lost=lost_words(one),
        tiles=list(_tiles(one)),
        figures=list(_figures(one)) if one.rows and drawn else [],
        facts=tables.facts(one),
        unscored=tables.unscored(one),
        gates=tables.gates(f"Gates by policy {event.policy}, after {event.scores:,} scores", event.gates)
        if event
        else None,
    )


def _tiles(one: Candidate) -> Iterator[Tile]:
    yield _skill_tile("over the class prior", one.over_prior)
    if one.over_champion:
        yield _skill_tile("over the champion", one.over_champion)
    yield _skill_tile("the ensemble gains by it", one.to_ensemble)
    yield Tile(f"{one.hit_rate:.1%}", f"hits; the most frequent outcome is {one.majority:.1%} of all")
    agreement = NONE if one.agreement is None else f"{one.agreement:.0%}"
    yield Tile(agreement, "of bars have the action of the ensemble too")
    yield Tile(f"{one.rows:,}", f"scores, {one.late:,} of them late; unscored: {lost_words(one)}")
    late = NONE if one.latency_p99_ms is None else f"{one.latency_p99_ms:.1f} ms"
    yield Tile(late, "latency, P99, from the bar to the prediction")
    yield Tile(f"{1e4 * one.signed_return:+.2f} bp", "a row by its own actions, after costs")


def _skill_tile(what: str, skill: Skill) -> Tile:
    words = f"{what}: {interval(skill)}; {parts_words(skill.moves, skill.direction)}; E = {e_words(skill.log_e)}"
    return Tile(f"{mnat(best_mean(skill))} mnat", words)


def _figures(one: Candidate) -> Iterator[PageFigure]:
    champion = (("champion", "over the champion"),) if one.over_champion else ()
    error = math.exp(-one.over_prior.line)
    yield PageFigure(
        "Evidence",
        "The e-value of each comparison, block by block. If it crosses the line at any time, the claim holds "
        f"with {error:.0%} error however often you look. Below 1 the evidence points the other way.",
        charts.e_values(_e_curves(one), one.over_prior.line),
        (("prior", "better than the prior"), *champion, ("pool", "the ensemble gains")),
        tables.evidence(one),
    )
    yield PageFigure(
        "Cumulative skill",
        "Gain in log score, in nats, summed over the rows. A steady rise is skill; one step is one lucky day.",
        charts.cumulative(_skill_curves(one)),
        (("prior", "over the prior"), *champion),
        tables.gains(one),
    )
    yield PageFigure(
        "Reliability",
        "Predicted probability against observed share, with two standard errors for rows that overlap. "
        "On the diagonal a probability means what it says.",
        charts.reliability([[Dot(b.said, b.came, b.error, b.rows) for b in c.bins] for c in one.calibration]),
        numbers=tables.calibration(one),
    )
    yield PageFigure(
        "Confidence",
        f"Probability of its own action: {one.distinct:,} different answers, standard deviation {one.deviation:.4f}.",
        charts.histogram(one.histogram, [(name, one.confidence[name]) for name in ("P10", "P50", "P90")]),
        numbers=tables.confidence(one),
    )
    yield PageFigure(
        "Action mix",
        "What it would have done, over time.",
        charts.action_mix([(span.begins, span.ends, span.actions) for span in one.spans]),
        ACTION_LEGEND,
        tables.actions(one),
    )
    yield PageFigure(
        "Agreement",
        "Its action against that of the ensemble, bar by bar. A copy agrees everywhere and adds nothing.",
        charts.matrix(one.decided, "candidate", "ensemble"),
        numbers=tables.decided(one),
    )
    yield PageFigure(
        "Outcomes",
        "Its action against the outcome, bar by bar. The diagonal is right.",
        charts.matrix(one.came, "candidate", "outcome"),
        numbers=tables.outcomes(one),
    )


def _e_curves(one: Candidate) -> list[Curve]:
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
