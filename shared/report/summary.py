"""Compute the numbers of the report from the fold: the structs are its JSON, and the page draws them."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from schemas.gates import VerdictReached
from shared.gates import betting, calibration, degeneracy, operations
from shared.gates.evidence import CHAMPION, POOL, PRIOR, design_effect
from shared.money.recorded import MoneyReport
from shared.report.acting import Acting, acting_of
from shared.report.fold import CHAMPION_GAIN as OVER
from shared.report.fold import COMPARED, GAIN, ROWS, ReportSeries, Shadows
from shared.report.timeline import points, spans
from shared.voting.in_force import PolicyUse

QUANTILES: Final = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
BINS: Final = 100
"""Bars of the confidence histogram, over [0, 1]."""
Matrix = tuple[tuple[int, int, int], ...]


class Skill(Struct, frozen=True):
    """A gain in log score, in mnat per row (probabilities cut at 0.01).

    ``all_rows``: the mean over all rows, the sum of its parts ``moves`` and ``direction`` (``shared.labels.parts``).
    ``mean``: the mean over ``blocks`` purged blocks, with the asymptotic
    confidence sequence ``low`` to ``high`` (None before 20 blocks; each bound by itself is valid at level alpha at any
    time). ``log_e``: ln of the e-value now; ``peak``: its largest value so far; ``line``: the threshold."""

    rows: int
    all_rows: float
    moves: float
    direction: float
    blocks: int
    mean: float
    low: float | None
    high: float | None
    log_e: float
    peak: float
    line: float


class Bin(Struct, frozen=True):
    """Neighbouring probabilities of one class: the number of rows, the mean probability (``said``), the share of rows
    with this outcome (``came``), and its standard error."""

    rows: int
    said: float
    came: float
    error: float


class CalibrationSummary(Struct, frozen=True):
    """One class: its bins, the calibration error beyond chance, and the slope of the recalibration (None if the
    probabilities hardly differ)."""

    bins: tuple[Bin, ...]
    error: float
    slope: float | None


class Stretch(Struct, frozen=True):
    """A span of time (ms): its rows and actions, and the cumulative gains (nats) at its end."""

    begins: int
    ends: int
    rows: int
    actions: tuple[int, int, int]
    over_prior: float
    over_champion: float | None


class Evalue(Struct, frozen=True):
    """ln E after the block before ``at`` (ms)."""

    at: int
    prior: float
    champion: float
    pool: float


class Verdict(Struct, frozen=True):
    """The newest recorded verdict, and its id."""

    id: str
    event: VerdictReached


class Candidate(Struct, frozen=True):
    """One artifact in one role against one champion. Returns are fractions per row.

    - ``came``: counts by [action of the artifact][outcome].
    - ``decided``: counts by [action of the artifact][action of the ensemble].
    - ``majority``: the share of the most frequent outcome.
    - ``confidence``: quantiles of the confidence in its own action. ``histogram``: counts of that over [0, 1]."""

    model: str
    artifact: str
    role: str
    champion: str | None
    origins: dict[str, int]
    rows: int
    earlier: int
    late: int
    missing: int
    unscored: dict[str, int]
    details: dict[str, str]
    since: int
    until: int
    versions: tuple[int, int]
    log_loss: float
    prior_log_loss: float
    brier: float
    hit_rate: float
    majority: float
    signed_return: float
    over_prior: Skill
    over_champion: Skill | None
    to_ensemble: Skill
    actions: tuple[float, float, float]
    came: Matrix
    decided: Matrix
    agreement: float | None
    confidence: dict[str, float]
    deviation: float
    distinct: int
    histogram: tuple[int, ...]
    calibration: tuple[CalibrationSummary, ...]
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    spans: tuple[Stretch, ...]
    e_values: tuple[Evalue, ...]
    verdict: Verdict | None = None


class Interference(Struct, frozen=True):
    """The number of decisions that were recomputed without their shadow ballots, how many of them are equal, and the
    ids of the first that are not."""

    checked: int
    equal: int
    unequal: tuple[str, ...]


class Report(Struct, frozen=True):
    """The whole report. ``origins``: scored rows by the origin of their bars. ``candidates``: artifacts whose last
    scores are in shadow; ``members``: those whose last scores are as voters. ``money``: None if there is no bar.
    ``acting``: how often the ensemble acts, None before the first outcome of a decision. ``policies``: the voting
    policies that were in force."""

    origins: dict[str, int]
    candidates: tuple[Candidate, ...]
    members: tuple[Candidate, ...]
    interference: Interference
    trades_joined: int
    trades_alone: int
    trades_net: float
    unreadable: int
    money: MoneyReport | None = None
    acting: Acting | None = None
    policies: tuple[PolicyUse, ...] = ()


def summarise(
    state: Shadows,
    verdicts: Mapping[tuple[str, str], Verdict] | None = None,
    money: MoneyReport | None = None,
    policies: Sequence[PolicyUse] = (),
) -> Report:
    """Return the report. ``verdicts``: the newest verdict by (model, artifact). ``policies``: those in force for the
    scores."""
    newest = verdicts or {}
    alpha = state.policy.alpha
    candidates = [
        _candidate(series, alpha, newest.get((series.model, series.artifact)))
        for _, series in sorted(state.series.items())
    ]
    origins: dict[str, int] = {}
    for candidate in candidates:
        for origin, rows in candidate.origins.items():
            origins[origin] = origins.get(origin, 0) + rows
    checked = sum(pair[0] for pair in state.checked.values())
    equal = sum(pair[1] for pair in state.checked.values())
    trades = state.trades
    return Report(
        dict(sorted(origins.items())),
        tuple(candidate for candidate in candidates if candidate.role == "shadow"),
        tuple(candidate for candidate in candidates if candidate.role == "voting"),
        Interference(checked, equal, tuple(state.unequal)),
        trades.joined,
        trades.alone,
        trades.net,
        state.unreadable,
        money if money is not None and money.bars else None,
        acting_of(state.acting),
        tuple(policies),
    )


def _candidate(series: ReportSeries, alpha: float, verdict: Verdict | None) -> Candidate:
    rows = max(1, series.rows)
    outcomes = [sum(row[k] for row in series.came) for k in range(3)]
    compared = sum(map(sum, series.decided))
    agreed = sum(series.decided[k][k] for k in range(3))
    tally = series.tally
    mean = tally.total / rows
    ops = series.evidence.operations
    return Candidate(
        model=series.model,
        artifact=series.artifact,
        role=series.role,
        champion=series.champion,
        origins=dict(sorted(series.origins.items())),
        rows=series.rows,
        earlier=series.earlier,
        late=series.late,
        missing=series.missing,
        unscored=dict(sorted(series.unscored.items())),
        details=dict(sorted(series.details.items())),
        since=series.since,
        until=series.until,
        versions=(series.first_version, series.version),
        log_loss=series.losses[0] / rows,
        prior_log_loss=series.losses[1] / rows,
        brier=series.brier / rows,
        hit_rate=series.hits / rows,
        majority=max(outcomes) / rows,
        signed_return=series.signed_return / rows,
        over_prior=_skill(series, PRIOR, series.rows, alpha),
        over_champion=_skill(series, CHAMPION, series.compared, alpha) if series.compared else None,
        to_ensemble=_skill(series, POOL, series.rows, alpha),
        actions=_triple([count / rows for count in tally.actions]),
        came=_frozen(series.came),
        decided=_frozen(series.decided),
        agreement=agreed / compared if compared else None,
        confidence={f"P{100 * share:02.0f}": _quantile(tally.confidences, share) for share in QUANTILES},
        deviation=math.sqrt(max(0.0, tally.squares / rows - mean * mean)),
        distinct=degeneracy.distinct(series.evidence.distribution),
        histogram=_histogram(tally.confidences),
        calibration=tuple(_calibration(series, k) for k in range(3)) if series.rows else (),
        latency_p50_ms=operations.quantile_ms(ops, 0.50) if ops.timed else None,
        latency_p99_ms=operations.quantile_ms(ops, 0.99) if ops.timed else None,
        spans=_spans(series),
        e_values=tuple(Evalue(at, *values) for at, values in points(series.path)),
        verdict=verdict,
    )


def _skill(series: ReportSeries, over: int, rows: int, alpha: float) -> Skill:
    """Return the gain over one base: PRIOR, CHAMPION or POOL."""
    bets = series.evidence.bets[over]
    low, high = betting.interval(bets, alpha)
    known = math.isfinite(low)
    all_rows, moves = (1000 * sums[over] / max(1, rows) for sums in (series.gains, series.moves))
    return Skill(
        rows,
        all_rows,
        moves,
        all_rows - moves,
        bets.blocks,
        1000 * bets.mean,
        1000 * low if known else None,
        1000 * high if known else None,
        betting.log_e(bets),
        bets.peak_above,
        math.log(1 / alpha),
    )


def _calibration(series: ReportSeries, class_: int) -> CalibrationSummary:
    sums, effect = series.evidence.reliability, design_effect(series.evidence, class_)
    bins = tuple(
        Bin(
            int(one.rows),
            one.predicted,
            one.observed,
            math.sqrt(one.predicted * (1 - one.predicted) * effect / one.rows),
        )
        for one in calibration.groups(sums, class_)
    )
    slope = calibration.recalibration(sums, class_, effect)
    error = calibration.calibration_error(sums, class_, effect).debiased
    return CalibrationSummary(bins, error, slope.slope if math.isfinite(slope.error) else None)


def _spans(series: ReportSeries) -> tuple[Stretch, ...]:
    out = []
    over_prior = over_champion = 0.0
    for begins, sums in spans(series.timeline):
        over_prior += sums[GAIN]
        over_champion += sums[OVER]
        sell, hold, buy = (int(count) for count in sums[ROWS + 1 : GAIN])
        champion = over_champion if series.compared and (sums[COMPARED] or over_champion) else None
        out.append(
            Stretch(begins, begins + series.timeline.width, int(sums[ROWS]), (sell, hold, buy), over_prior, champion)
        )
    return tuple(out)


def _quantile(grid: list[int], share: float) -> float:
    total, seen = sum(grid), 0
    for bin_, count in enumerate(grid):
        seen += count
        if count and seen >= share * total:
            return bin_ / (len(grid) - 1)
    return 0.0


def _histogram(grid: list[int]) -> tuple[int, ...]:
    counts = [0] * BINS
    for bin_, count in enumerate(grid):
        counts[min(BINS - 1, bin_ * BINS // (len(grid) - 1))] += count
    return tuple(counts)


def _triple(values: list[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third


def _frozen(matrix: list[list[int]]) -> Matrix:
    return tuple((row[0], row[1], row[2]) for row in matrix)
