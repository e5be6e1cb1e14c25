"""Render the result of a what-if as an HTML page."""

from itertools import accumulate
from typing import Any

from schemas.common import ACTIONS
from shared.audit.whatif import Changes, Side, WhatifResult
from shared.report import charts
from shared.report.charts import Curve
from shared.report.pages import PageFigure, render
from shared.report.tables import TextTable, cross
from shared.report.text import NONE, SHORT, in_force_words, moment, origin_words

BEFORE, AFTER = "as it was", "as it would have been"


def page(answer: WhatifResult, words: str) -> str:
    """Return the whole page. ``words`` describe the change that was tried. Raises ``ChartsMissingError``."""
    return render("whatif.html", **shown(answer, words), figures_shown=figures_of(answer))


def shown(answer: WhatifResult, words: str) -> dict[str, Any]:
    """Return what the part of a page with the result shows, without its charts."""
    return {
        "answer": answer,
        "words": words,
        "origins": origin_words(answer.origins),
        "changed": changed_words(answer),
        "in_force": in_force_words(answer.policies) if answer.policies else "",
        "compared": compared(answer, "Before and after"),
        "first": first_changed(answer),
    }


def words_of(wanted: Changes) -> str:
    """Return a sentence with the changes that were tried."""
    parts = [f"{model} = {artifact[:12]}" for model, artifact in wanted.champions.items()]
    parts += [f"weight of {model} {weight:g}" for model, weight in wanted.weights.items()]
    parts += [f"{name} {value}" for name, value in wanted.policy.items()]
    return "With " + ", ".join(parts) if parts else "With nothing changed"


def compared(answer: WhatifResult, title: str) -> TextTable:
    """Return each number under the recorded and under the changed configuration."""
    rounds, scored = answer.rounds or 1, answer.scored or 1
    before, after = answer.before, answer.after

    def log_loss(side: Side) -> str:
        return f"{side.log_loss / scored:.4f}" if answer.scored else NONE

    rows = [
        *((name, f"{before.actions[name]:,}", f"{after.actions[name]:,}") for name in ACTIONS),
        ("no quorum", f"{before.no_quorum:,}", f"{after.no_quorum:,}"),
        ("mean confidence", f"{before.confidence / rounds:.4f}", f"{after.confidence / rounds:.4f}"),
        ("mean agreement", f"{before.agreement / rounds:.1%}", f"{after.agreement / rounds:.1%}"),
        ("log loss of the pool", log_loss(before), log_loss(after)),
        ("right calls", f"{before.hits:,} of {answer.scored:,}", f"{after.hits:,} of {answer.scored:,}"),
        ("signed return, sum", f"{before.signed_return:+.3%}", f"{after.signed_return:+.3%}"),
        ("signed return a trade", _per_trade(before), _per_trade(after)),
    ]
    return TextTable(title, ("what", BEFORE, AFTER), rows)


def _per_trade(side: Side) -> str:
    return f"{side.signed_return / side.trades:+.4%}" if side.trades else NONE


def changed_words(answer: WhatifResult) -> str:
    """Return a sentence with the number of decisions that would have changed."""
    return (
        f"{answer.changed:,} of {answer.rounds:,} decisions would have been another action; "
        f"{answer.moved:,} would have moved at all"
    )


def first_changed(answer: WhatifResult) -> TextTable:
    """Return the first decisions that would have changed."""
    rows = [
        (
            moment(change.open_time),
            change.symbol,
            change.before,
            change.after,
            _signed(change.signed_before),
            _signed(change.signed_after),
            change.decision[:SHORT],
        )
        for change in answer.first
    ]
    heads = ("bar", "symbol", "was", "would be", "return", "would have been", "decision")
    return TextTable("The first that would have changed", heads, rows)


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:+.3%}"


def figures_of(answer: WhatifResult) -> list[PageFigure]:
    """Return the charts of a comparison. Raises ``ChartsMissingError``."""
    times = [point.at for point in answer.points]
    before = list(zip(times, accumulate(point.before for point in answer.points), strict=True))
    after = list(zip(times, accumulate(point.after for point in answer.points), strict=True))
    return [
        PageFigure(
            "Signed return",
            "Return of the decided action less its cost, summed over the rounds with an outcome.",
            charts.cumulative(
                [Curve(BEFORE, "champion", before), Curve(AFTER, "pool", after)], "Signed return over time"
            ),
            (("champion", BEFORE), ("pool", AFTER)),
        ),
        PageFigure(
            "Actions before and after",
            "Each round by its action before and after. On the diagonal nothing changed.",
            charts.matrix(answer.matrix, BEFORE, AFTER),
            numbers=cross(AFTER, BEFORE, answer.matrix),
        ),
        PageFigure(
            "Changed decisions",
            "Share of decisions that would have been another action, over time.",
            charts.shares_over_time(
                [(point.at, point.changed, point.rounds) for point in answer.points],
                "Share of decisions that would have changed, over time",
            ),
        ),
    ]
