"""Make the tables of pages and terminal: each has a title, column heads and rows of text."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from schemas.common import ACTIONS
from schemas.gates import GateVerdict
from schemas.training import DataReport
from shared.report.summary import Candidate, Skill
from shared.report.text import (
    NONE,
    SHORT,
    best_mean,
    champion_words,
    e_words,
    interval,
    lost_words,
    mnat,
    moment,
    origin_words,
    parts_words,
    version_words,
)

NAMES: Final = ("artifact", "decision")
"""Heads of columns of digests, which may begin with a digit."""


class TextTable(NamedTuple):
    """A table of plain text; a renderer must escape it. ``prose`` are the heads of the columns of long text."""

    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    prose: tuple[str, ...] = ()

    @property
    def words(self) -> frozenset[int]:
        """Return the columns of names and words, which begin on the left; numbers end on the right."""
        return frozenset(
            column
            for column, head in enumerate(self.heads)
            if head in NAMES or _is_words([row[column] for row in self.rows])
        )


def _is_words(cells: Sequence[str]) -> bool:
    """Return whether most cells that say something begin with a letter."""
    said = [cell for cell in cells if cell not in ("", NONE)]
    return 2 * sum(cell[0].isalpha() for cell in said) > len(said)


def overview(title: str, candidates: Sequence[Candidate]) -> TextTable:
    """Return a table with a row for each candidate."""
    heads = (
        "model",
        "artifact",
        "verdict",
        "scores",
        "over the prior",
        "E",
        "over the champion",
        "E",
        "hits, majority",
        "agrees",
        "unscored",
    )
    return TextTable(title, heads, [_overview(candidate) for candidate in candidates], ("unscored",))


def _overview(candidate: Candidate) -> tuple[str, ...]:
    champion = candidate.over_champion
    return (
        candidate.model,
        candidate.artifact[:SHORT],
        candidate.verdict.event.overall if candidate.verdict else NONE,
        f"{candidate.rows:,}",
        _mean_and_interval(candidate.over_prior),
        e_words(candidate.over_prior.log_e),
        _mean_and_interval(champion) if champion else NONE,
        e_words(champion.log_e) if champion else NONE,
        f"{candidate.hit_rate:.1%}, {candidate.majority:.1%}",
        NONE if candidate.agreement is None else f"{candidate.agreement:.0%}",
        lost_words(candidate),
    )


def facts(candidate: Candidate) -> TextTable:
    """Return the facts about one candidate other than its skill."""
    rows = [
        ("bars", f"{moment(candidate.since)} to {moment(candidate.until)} UTC; {origin_words(candidate.origins)}"),
        ("configuration", version_words(candidate)),
        ("left out", f"{candidate.earlier:,} earlier scores in another role or against another champion"),
        ("late", f"{candidate.late:,} of {candidate.rows:,}"),
        ("answers", f"{candidate.distinct:,} different, standard deviation {candidate.deviation:.4f}"),
        (
            "log loss",
            f"{candidate.log_loss:.4f}, of the class prior {candidate.prior_log_loss:.4f}; Brier {candidate.brier:.4f}",
        ),
        ("its own actions", f"{candidate.signed_return:+.4%} a row after costs"),
    ]
    if candidate.latency_p50_ms is not None:
        rows.append(("latency", f"P50 {candidate.latency_p50_ms:.1f} ms, P99 {candidate.latency_p99_ms:.1f} ms"))
    if candidate.verdict is not None:
        event = candidate.verdict.event
        rows.append(("verdict", f"{event.overall} by {event.policy} ({candidate.verdict.id[:SHORT]})"))
    title = f"{candidate.model} {candidate.artifact[:SHORT]} against champion {champion_words(candidate)}"
    return TextTable(title, ("what", "value"), rows, ("value",))


def evidence(candidate: Candidate) -> TextTable:
    """Return the e-value of each comparison, one row each."""
    rows = [(name, e_words(skill.log_e), e_words(skill.peak), str(skill.blocks)) for name, skill in _skills(candidate)]
    return TextTable("Evidence", ("comparison", "E now", "E at its best", "blocks"), rows)


def gains(candidate: Candidate) -> TextTable:
    """Return the gain in each comparison over all rows, and its confidence interval over blocks."""
    rows = [
        (
            name,
            mnat(skill.all_rows),
            mnat(skill.moves),
            mnat(skill.direction),
            f"{skill.rows:,}",
            interval(skill),
        )
        for name, skill in _skills(candidate)
    ]
    heads = ("comparison", "mnat a row", "of it moves", "direction", "rows", "interval of the mean, mnat")
    return TextTable("Skill", heads, rows)


def _skills(candidate: Candidate) -> list[tuple[str, Skill]]:
    champion = [("over the champion", candidate.over_champion)] if candidate.over_champion else []
    return [("over the prior", candidate.over_prior), *champion, ("to the ensemble", candidate.to_ensemble)]


def calibration(candidate: Candidate) -> TextTable:
    """Return the calibration of each class."""
    rows = [
        (name, f"{one.error:.4f}", NONE if one.slope is None else f"{one.slope:.2f}")
        for name, one in zip(ACTIONS, candidate.calibration, strict=True)
    ]
    return TextTable("Calibration", ("class", "error beyond chance", "slope (1 is calibrated)"), rows)


def confidence(candidate: Candidate) -> TextTable:
    """Return quantiles of the candidate's confidence in its own action."""
    rows = [(name, f"{value:.3f}") for name, value in candidate.confidence.items()]
    return TextTable("Confidence", ("quantile", "confidence"), rows)


def actions(candidate: Candidate) -> TextTable:
    """Return the share of each action of the candidate."""
    rows = [(name, f"{share:.1%}") for name, share in zip(ACTIONS, candidate.actions, strict=True)]
    return TextTable("Actions", ("action", "share"), rows)


def decided(candidate: Candidate) -> TextTable:
    """Return counts of the candidate's actions against those of the ensemble."""
    return cross("The ensemble decides", "where it says", candidate.decided)


def outcomes(candidate: Candidate) -> TextTable:
    """Return counts of the candidate's actions against the outcomes."""
    return cross("The outcome is", "where it says", candidate.came)


def cross(title: str, rows_are: str, counts: Sequence[Sequence[int]]) -> TextTable:
    """Return a cross table of counts by two actions, each with its share of the row."""
    rows = [
        (name, *(f"{count:,} ({count / max(1, sum(row)):.0%})" for count in row))
        for name, row in zip(ACTIONS, counts, strict=True)
    ]
    return TextTable(title, (rows_are, *ACTIONS), rows)


def unscored(candidate: Candidate) -> TextTable:
    """Return the number of rows without a score, by reason."""
    rows = [(why, f"{count:,}", candidate.details.get(why, "")) for why, count in candidate.unscored.items()]
    return TextTable("Without a score", ("reason", "predictions", "the newest says"), rows, ("the newest says",))


def gates(title: str, verdicts: Sequence[GateVerdict]) -> TextTable:
    """Return a table with a row for each gate."""
    heads = ("gate", "kind", "verdict", "value", "threshold", "samples", "interval", "detail")
    rows = [
        (
            gate.name,
            gate.kind,
            gate.verdict,
            number(gate.value),
            number(gate.threshold),
            f"{gate.samples:,}",
            bounds(gate),
            gate.detail,
        )
        for gate in verdicts
    ]
    return TextTable(title, heads, rows, ("detail",))


def symbols(report: DataReport) -> TextTable:
    """Return the amount of data of each symbol."""
    rows = [
        (symbol, *(f"{count:,}" for count in (one.bars, one.vectors, one.rows, one.gaps, one.missing)))
        for symbol, one in report.symbols.items()
    ]
    return TextTable("Data", ("symbol", "bars", "vectors", "rows", "gaps", "missing"), rows)


def number(value: float | None) -> str:
    """Return a number of a gate as text, with four digits."""
    return NONE if value is None else f"{value:.4g}"


def bounds(gate: GateVerdict) -> str:
    """Return the confidence interval of a gate's measurement as text."""
    if gate.low is None or gate.high is None or gate.low == gate.high:
        return NONE
    return f"{gate.low:.4g} to {gate.high:.4g}"


def _mean_and_interval(skill: Skill) -> str:
    return f"{mnat(best_mean(skill))}, {interval(skill)}; {parts_words(skill.moves, skill.direction)}"
