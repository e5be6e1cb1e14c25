"""What each gate asks, in words: for ``conclave gates explain``."""

import math
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from schemas.gates import GateVerdict, VerdictReached
from shared.gates.classic import ClassicPolicy
from shared.gates.policy import DefaultPolicy

Rule = Literal["at most", "at least", "e-value", "own"]


class Words(NamedTuple):
    """A gate: what it asks, by which formula, how its value is held against its threshold, and the
    policy's parameter that says how many samples it wants."""

    asks: str
    formula: str
    rule: Rule
    least: str = ""


E: Final = "ln E at its best; E = mean over stakes l of prod (1 + l x) over purged blocks, x = mean gain / scale"
DEFAULT: Final[Mapping[str, Words]] = {
    "readable": Words("Is every row one that can be judged?", "rows that are no three classes / all rows", "at most"),
    "failures": Words("Does it answer?", "failed predictions / predictions asked for", "at most", "least_rows"),
    "latency": Words("Does it answer in time?", "P99 of bar's arrival to prediction, ms", "at most", "least_rows"),
    "staleness": Words("Do its answers keep up?", "bars behind the market, beyond the horizon", "at most"),
    "distinct": Words("Does it look at its input?", "different answers, rounded to 1e-3", "at least", "least_rows"),
    "entropy": Words("Are its answers spread?", "entropy of the rounded answers, nats", "at least", "least_rows"),
    "deviation": Words("Do its probabilities move?", "largest deviation of a class", "at least", "least_rows"),
    "range": Words("Do its probabilities move?", "largest P10 to P90 of a class", "at least", "least_rows"),
    "same_everywhere": Words(
        "Does it tell symbols apart?", "bars with one answer for all symbols / bars", "at most", "least_rows"
    ),
    "longest_run": Words("Does it ever get stuck?", "longest run of one answer for a symbol", "at most", "least_rows"),
    "response": Words("Does its output move when its inputs do?", "largest change of a probability", "at least"),
    "copy": Words("Is it more than the champion again?", "answers equal to the champion's", "at most", "least_rows"),
    "time": Words("Was it watched long enough, at all hours?", "days from first to last bar", "own", "least_blocks"),
    "skill": Words("Is it better than the class prior?", f"{E}; gain in log score", "e-value", "least_blocks"),
    "incumbent": Words(
        "Is it no worse than the champion?", f"{E}; gain over the champion + margin", "e-value", "least_blocks"
    ),
    "money": Words(
        "Does it earn no less than the champion?", f"{E}; net return less the champion's + margin", "e-value"
    ),
    "contribution": Words(
        "Is the ensemble better with it?", f"{E}; log score of the pool with it less without", "e-value", "least_blocks"
    ),
    "budget": Words("Does the claim hold among all candidates?", "e-BH: ln of its smallest needed e-value", "e-value"),
    "base_rate": Words(
        "Do mean probabilities match what comes?", "|mean probability - share that came|", "at most", "least_blocks"
    ),
    "action_mix": Words(
        "Does it act as in its backtest?", "total variation between the two mixes", "at most", "least_rows"
    ),
    "calibration": Words(
        "Do probabilities mean what they say?",
        "mean |said - came| over equal-mass bins, less what chance shows",
        "at most",
        "least_blocks",
    ),
    "output_drift": Words("Do its outputs stay where they were?", "PSI of recent blocks to the reference", "at most"),
    "loss_drift": Words(
        "Did its loss jump?", "peak of the e-CUSUM of harm against the prior", "at most", "least_blocks"
    ),
    # Stands in verdicts of release 0.1 only: it rests on another stream (``InputsDrifted``).
    "input_drift": Words("Are its inputs like those it was trained on?", "PSI of each feature", "at most"),
}
CLASSIC: Final[Mapping[str, Words]] = {
    "diversity": Words("Does it use its actions?", "share of the most frequent action", "at most", "least_samples"),
    "spread": Words(
        "Is its confidence spread?", "standard deviation; P10 to P90 counts too", "at least", "least_samples"
    ),
    "agreement": Words("Does it agree with the ensemble, not too much?", "same action / bars", "own", "least_samples"),
    "calibration": Words(
        "Does accuracy rise with confidence?", "largest fall between neighbouring buckets", "at least", "least_samples"
    ),
}
UNKNOWN: Final = Words("This release has no words for it.", "see its detail", "own")


def words_of(policy: str, gate: str) -> Words:
    """What there is to say of a gate under a policy."""
    book = CLASSIC if policy == "classic" else DEFAULT
    return book.get(gate) or DEFAULT.get(gate) or UNKNOWN


def turns(policy: str, gate: GateVerdict) -> str:
    """What would change this gate's verdict."""
    words = words_of(policy, gate.name)
    if gate.value is None or gate.threshold is None:
        return f"it has no value yet, after {gate.samples:,} samples"
    if words.rule == "e-value":
        return _bet(gate, words, policy)
    if gate.verdict == "inconclusive":
        return _more(gate, words, policy)
    side = "no rule of one number; its detail says more"
    if words.rule in {"at most", "at least"}:
        over = "rises over" if words.rule == "at most" else "falls under"
        back = "comes down to" if words.rule == "at most" else "rises to"
        side = f"{over if gate.verdict == 'passed' else back} {gate.threshold:.6g}"
        side = f"it changes when the value {side}; it stands at {gate.value:.6g}"
    return side


def turns_overall(event: VerdictReached) -> str:
    """What would change the verdict as a whole."""
    if event.policy == "classic":
        passed = ", ".join(gate.name for gate in event.gates if gate.verdict == "passed") or "none"
        return f"it passes with at least {ClassicPolicy().least_passed} of its gates (by default); passed now: {passed}"
    if event.overall == "passed":
        return "it falls when a critical or needed gate fails, or more soft ones than the policy lets"
    wanted = "failed" if event.overall == "failed" else "inconclusive"
    strict = [gate.name for gate in event.gates if gate.verdict == wanted and gate.kind != "soft"]
    soft = [gate.name for gate in event.gates if gate.verdict == "failed" and gate.kind == "soft"]
    said = "these must pass, and failed" if wanted == "failed" else "these must pass, and are not settled"
    parts = [f"{said}: {', '.join(strict)}"] if strict else []
    parts += [f"soft gates that failed: {', '.join(soft)}"] if soft else []
    return "; ".join(parts) or "no gate stands against it: see the policy"


def _more(gate: GateVerdict, words: Words, policy: str) -> str:
    least = _least(words, policy)
    if least and gate.samples < least[1]:
        return f"more samples: it has {gate.samples:,}, by default it wants {least[1]:,} (`{least[0]}`)"
    return "what its detail says is missing; more scores may settle it"


def _bet(gate: GateVerdict, words: Words, policy: str) -> str:
    assert gate.value is not None
    assert gate.threshold is not None
    if gate.verdict == "passed":
        return "nothing while the evidence stands: what crossed its line stays crossed"
    if gate.verdict == "failed":
        return "nothing while the evidence stands: the opposite crossed the line. A new artifact begins anew"
    least = _least(words, policy)
    if gate.value >= gate.threshold:
        wanted = f" (`{least[0]}`, by default {least[1]})" if least else ""
        return f"more blocks: the line is crossed, but {gate.samples} are few{wanted}"
    odds = math.exp(min(50.0, gate.threshold - gate.value))
    said = f"ln E must come to {gate.threshold:.2f}: {odds:,.1f} times the evidence of its best moment"
    if gate.samples and gate.value > 0:
        blocks = math.ceil((gate.threshold - gate.value) * gate.samples / gate.value)
        return f"{said}; at the rate so far that takes about {blocks:,} blocks more"
    return f"{said}; so far the evidence does not grow"


def _least(words: Words, policy: str) -> tuple[str, int] | None:
    if not words.least:
        return None
    defaults = ClassicPolicy() if policy == "classic" else DefaultPolicy()
    return words.least, int(getattr(defaults, words.least))
