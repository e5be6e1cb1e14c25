"""Every gate of each policy: its question, when it passes, and which parameters of the policy it reads.

One table for the console (``conclave gates explain``) and for ``docs/reference/gate-policies.md``, whose tables
``python -m shared.gates.reference`` writes. A test compares names and kinds with the gates that the policies return.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from shared.gates.verdicts import Kind

Rule = Literal["at most", "at least", "e-value", "own"]
"""How a value is compared with its threshold; ``own``: by more than one number."""


class GateDescription(NamedTuple):
    """One gate. ``condition``: when it passes. ``parameters``: the fields of the policy that it reads. ``samples``: the
    field with the number of samples that it needs."""

    name: str
    kind: Kind
    question: str
    formula: str
    rule: Rule
    condition: str
    parameters: tuple[str, ...] = ()
    samples: str = ""


E_VALUE: Final = "ln E at its best; E = mean over stakes l of prod (1 + l x) over purged blocks, x = mean gain / scale"
DEFAULT: Final = (
    GateDescription(
        name="readable",
        kind="critical",
        question="Can every row be judged?",
        formula="rows without three valid probabilities / all rows",
        rule="at most",
        condition="no row had an unknown action or outcome, or invalid probabilities; otherwise inconclusive",
        parameters=("most_unreadable",),
    ),
    GateDescription(
        name="failures",
        kind="critical",
        question="Does it make its predictions?",
        formula="failed predictions / predictions due",
        rule="at most",
        condition="share of predictions that failed at most 0.1 %; fails only where the 95 % interval lies above",
        parameters=("most_failures",),
        samples="least_rows",
    ),
    GateDescription(
        name="latency",
        kind="critical",
        question="Does it predict in time?",
        formula="P99 from the arrival of a bar to its prediction, ms",
        rule="at most",
        condition=(
            "P99 from the arrival of a bar to its prediction at most 250 ms, rounded up to the next of three "
            "steps per doubling; live bars only, soft and inconclusive until one was scored"
        ),
        parameters=("most_latency_ms",),
        samples="least_rows",
    ),
    GateDescription(
        name="staleness",
        kind="critical",
        question="Is its last prediction recent?",
        formula="bars from its last scored live bar to the market's newest, less the horizon",
        rule="at most",
        condition=(
            "the last scored live bar is at most 2 bars and twice the horizon older than the market's newest live bar; "
            "soft and inconclusive until a live bar was scored"
        ),
        parameters=("most_stale_bars",),
    ),
    GateDescription(
        name="distinct",
        kind="critical",
        question="Do its predictions depend on its inputs?",
        formula="different predictions, rounded to 1e-3",
        rule="at least",
        condition="different predictions, rounded to 0.001: at least 50, or 5 % of the rows if that is less",
        parameters=("least_distinct", "least_distinct_share"),
        samples="least_rows",
    ),
    GateDescription(
        name="entropy",
        kind="critical",
        question="Are its predictions spread?",
        formula="entropy of the rounded predictions, nats",
        rule="at least",
        condition="entropy of the rounded predictions at least ln 8",
        parameters=("least_entropy",),
        samples="least_rows",
    ),
    GateDescription(
        name="deviation",
        kind="critical",
        question="Do its probabilities move?",
        formula="largest deviation of a class",
        rule="at least",
        condition="largest standard deviation of a class's probability at least 0.002",
        parameters=("least_deviation",),
        samples="least_rows",
    ),
    GateDescription(
        name="range",
        kind="critical",
        question="Do its probabilities move?",
        formula="largest P10 to P90 of a class",
        rule="at least",
        condition="largest P10 to P90 of a class's probability at least 0.005",
        parameters=("least_range",),
        samples="least_rows",
    ),
    GateDescription(
        name="same_everywhere",
        kind="critical",
        question="Does it distinguish symbols?",
        formula="bars with one prediction for all symbols / bars",
        rule="at most",
        condition="all symbols had the same prediction in at most 5 % of the bars",
        parameters=("most_same",),
        samples="least_rows",
    ),
    GateDescription(
        name="longest_run",
        kind="critical",
        question="Does it repeat one prediction?",
        formula="longest run of one prediction for a symbol",
        rule="at most",
        condition="no symbol had the same prediction for more than 50 consecutive rows",
        parameters=("longest_run",),
        samples="least_rows",
    ),
    GateDescription(
        name="response",
        kind="critical",
        question="Does its output move when its inputs do?",
        formula="largest change of a probability",
        rule="at least",
        condition=(
            "the largest change of a probability when one input of the last vector is moved by one standard deviation, "
            "measured in training, is at least 0.001; absent for an artifact without a backtest"
        ),
        parameters=("least_response",),
    ),
    GateDescription(
        name="copy",
        kind="critical",
        question="Is it more than a copy of the champion?",
        formula="predictions equal to the champion's",
        rule="at most",
        condition="at most 95 % of the predictions, rounded, equal the champion's",
        parameters=("most_copied",),
        samples="least_rows",
    ),
    GateDescription(
        name="time",
        kind="critical",
        question="Was it watched long enough, at all hours?",
        formula="days from first to last bar",
        rule="own",
        condition=(
            "at least 7 days, 20 blocks and 20 hours of the day, by the times of the bars; fails when 60 days lie "
            "between its first and last live bar"
        ),
        parameters=("least_days", "most_days", "least_hours"),
        samples="least_blocks",
    ),
    GateDescription(
        name="skill",
        kind="needed",
        question="Is it better than the class prior?",
        formula=f"{E_VALUE}; gain in log score",
        rule="e-value",
        condition="ln E of the gain over the class prior reached ln(1/alpha)",
        parameters=("alpha",),
        samples="least_blocks",
    ),
    GateDescription(
        name="incumbent",
        kind="needed",
        question="Is it no worse than the champion?",
        formula=f"{E_VALUE}; gain over the champion + margin",
        rule="e-value",
        condition=(
            "the same over the champion, with the margin (nats) added; waived if the champion itself is shown to be "
            "worse than the prior; absent without a champion"
        ),
        parameters=("alpha", "margin"),
        samples="least_blocks",
    ),
    GateDescription(
        name="contribution",
        kind="needed",
        question="Is the ensemble better with it?",
        formula=f"{E_VALUE}; log score of the pool with it less without",
        rule="e-value",
        condition=(
            "ln E of the ensemble's gain reached ln(1/alpha); or the candidate is shown to be better than the "
            "champion, and the lower bound of the ensemble's gain is above minus half the margin"
        ),
        parameters=("alpha",),
        samples="least_blocks",
    ),
    GateDescription(
        name="improvement",
        kind="needed",
        question="Is the voting policy better than the one in force?",
        formula=f"{E_VALUE}; gain over the policy in force in log score, or what it earned more",
        rule="e-value",
        condition=(
            "ln E of the gain in log score, or that of the money earned more after costs, reached ln(2/alpha); only "
            "for voting policies, which have neither ``copy`` nor ``contribution``"
        ),
        parameters=("alpha",),
        samples="least_blocks",
    ),
    GateDescription(
        name="budget",
        kind="needed",
        question="Does the claim hold among all candidates?",
        formula="e-BH: ln of its smallest needed e-value",
        rule="e-value",
        condition="e-BH over the claims of all candidates for its model; only if there are several",
        parameters=("alpha",),
    ),
    GateDescription(
        name="money",
        kind="soft",
        question="Does it earn no less than the champion?",
        formula=f"{E_VALUE}; what it earned alone, less the champion's + margin",
        rule="e-value",
        condition=(
            "ln E of what it would have earned after costs had it voted alone, less the champion's, with a margin of a "
            "tenth of a standard deviation"
        ),
        parameters=("money_alpha",),
    ),
    GateDescription(
        name="base_rate",
        kind="soft",
        question="Do mean probabilities match the outcomes?",
        formula="|mean probability - observed share|",
        rule="at most",
        condition=(
            "mean probability of each class within 3 standard errors of blocks (or 0.01) of the observed "
            "share, and within 0.05"
        ),
        parameters=("most_bias", "bias_ignored"),
        samples="least_blocks",
    ),
    GateDescription(
        name="action_mix",
        kind="soft",
        question="Does it act as in its backtest?",
        formula="total variation between the two mixes",
        rule="at most",
        condition="total variation to the backtest's actions at most 0.20",
        parameters=("most_mix_distance",),
        samples="least_rows",
    ),
    GateDescription(
        name="calibration",
        kind="soft",
        question="Do its probabilities match the frequencies of the outcomes?",
        formula="mean |probability - observed share| over equal-mass bins, less its expectation by chance",
        rule="at most",
        condition=(
            "debiased class-wise error at most 0.03 and two standard errors; slope of the recalibration in "
            "0.7 to 1.4 (fails only if its interval lies outside); miscalibration at most 2 % of the uncertainty plus "
            "its expectation by chance"
        ),
        parameters=("most_calibration_error", "slope_from", "slope_to", "most_miscalibration"),
        samples="least_blocks",
    ),
    GateDescription(
        name="output_drift",
        kind="soft",
        question="Is the distribution of its outputs unchanged?",
        formula="PSI of recent blocks to the reference",
        rule="at most",
        condition=(
            "PSI of the recent probabilities against the backtest's (without one: the first ten blocks) not above both "
            "0.10 and the 0.999 quantile of chi-square"
        ),
    ),
    GateDescription(
        name="loss_drift",
        kind="soft",
        question="Did its loss jump?",
        formula="peak of the e-CUSUM of harm against the prior",
        rule="at most",
        condition="the e-CUSUM on the loss over the prior never reached 100",
        parameters=("loss_alarm",),
        samples="least_blocks",
    ),
)
CLASSIC: Final = (
    GateDescription(
        name="diversity",
        kind="soft",
        question="Does it use more than one action?",
        formula="share of the most frequent action",
        rule="at most",
        condition="no action over 70 %, and at least two over 10 %",
        parameters=("most_one_action", "least_second_action"),
        samples="least_samples",
    ),
    GateDescription(
        name="spread",
        kind="soft",
        question="Is its confidence spread?",
        formula="standard deviation; P10 to P90 counts too",
        rule="at least",
        condition="standard deviation of the confidence at least 0.05, and P10 to P90 at least 0.12",
        parameters=("least_deviation", "least_range"),
        samples="least_samples",
    ),
    GateDescription(
        name="agreement",
        kind="soft",
        question="Does it agree with the ensemble, but not too often?",
        formula="same action / bars",
        rule="own",
        condition="same action as the ensemble in 55 to 75 % of the rows, and BUY against SELL in under 25 %",
        parameters=("agreement_from", "agreement_to", "borderline_to", "hard_disagreement_below", "band"),
        samples="least_samples",
    ),
    GateDescription(
        name="calibration",
        kind="soft",
        question="Does accuracy rise with confidence?",
        formula="largest fall between neighbouring buckets",
        rule="at least",
        condition="accuracy does not fall from one confidence bucket to the next, five buckets of equal mass",
        parameters=("move",),
        samples="least_samples",
    ),
)
INPUT_DRIFT: Final = GateDescription(
    name="input_drift",
    kind="soft",
    question="Are its inputs like those it was trained on?",
    formula="PSI of each feature",
    rule="at most",
    condition="",
)
"""In verdicts of release 0.1 only: it rests on another stream (``InputsDrifted``)."""
UNKNOWN: Final = GateDescription(
    name="",
    kind="soft",
    question="This release has no description of it.",
    formula="see its detail",
    rule="own",
    condition="",
)
_BY_NAME: Final[Mapping[str, Mapping[str, GateDescription]]] = {
    "default": {each.name: each for each in (*DEFAULT, INPUT_DRIFT)},
    "classic": {each.name: each for each in CLASSIC},
}


def description(policy: str, gate: str) -> GateDescription:
    """Return the description of a gate under a policy; where the policy lacks it, that of ``default``."""
    known = _BY_NAME.get(policy, {})
    return known.get(gate) or _BY_NAME["default"].get(gate) or UNKNOWN
