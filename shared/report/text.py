"""Format the numbers of a report as text, for its page and for the terminal."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from schemas.training import DataReport
from shared.report.acting import Acting
from shared.report.summary import Candidate, Interference, Skill
from shared.voting.in_force import PolicyUse

SHORT: Final = 12
NONE: Final = "-"


def moment(ms: float) -> str:
    """Return a time (ms) as text: date, hour and minute, UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"


def origin_words(origins: Mapping[str, int]) -> str:
    """Return a sentence about the origins of the scored bars: live, replay or synthetic."""
    total = sum(origins.values())
    match sorted(origins):
        case []:
            return "Nothing was scored yet."
        case ["live"]:
            return f"All {total:,} scores are of live bars."
        case ["replay"]:
            return f"REPLAY: all {total:,} scores are of past bars that were replayed, none of live bars."
        case ["synthetic"]:
            return f"SYNTHETIC: all {total:,} scores are of generated bars; they are no evidence about any market."
        case _:
            pass
    parts = ", ".join(f"{count:,} {origin}" for origin, count in sorted(origins.items()))
    return f"MIXED: this report combines scores of different origin: {parts}."


def in_force_words(policies: Sequence[PolicyUse]) -> str:
    """Return a sentence with the voting policies that were in force, each with its fields other than the defaults, and
    with its first and last bar if there were several."""
    named = [f"{use.digest[:SHORT]} ({', '.join(use.differences) or 'defaults'})" for use in policies]
    if len(policies) == 1:
        return f"Voting policy in force: {named[0]}."
    spans = [f"{name} {moment(use.since)} to {moment(use.until)}" for name, use in zip(named, policies, strict=True)]
    return f"Voting policies in force: {'; '.join(spans)} UTC."


def interference_words(found: Interference) -> str:
    """Return a sentence with the number of decisions that are equal if recomputed without their shadow ballots."""
    if not found.checked:
        return "No decision with shadow ballots has been checked yet."
    words = f"{found.equal:,} of {found.checked:,} decisions with shadow ballots are the same without them."
    return words if found.equal == found.checked else f"{words} Different: {', '.join(found.unequal)}"


def mnat(value: float | None) -> str:
    """Return a gain (mnat) as text, with its sign; ``-`` if it is None."""
    return NONE if value is None else f"{value:+.2f}"


def best_mean(skill: Skill) -> float:
    """Return the mean over blocks; before the first block closes, the mean over all rows."""
    return skill.mean if skill.blocks else skill.all_rows


def parts_words(moves: float, direction: float) -> str:
    """Return the parts of a gain (mnat) as text."""
    return f"moves {moves:+.2f}, direction {direction:+.2f}"


def version_words(one: Candidate) -> str:
    """Return the versions of the configuration under which a candidate was scored."""
    first, last = one.versions
    return f"version {first}" if first == last else f"versions {first} to {last}"


def interval(skill: Skill) -> str:
    """Return the confidence sequence as text; before it is known, the number of blocks so far."""
    if skill.low is None or skill.high is None:
        return f"no interval yet, {skill.blocks} of 20 blocks"
    return f"{skill.low:+.2f} to {skill.high:+.2f} ({skill.blocks} blocks)"


def e_words(log_e: float) -> str:
    """Return an e-value as text, from its natural logarithm."""
    return f"{math.exp(log_e):.3g}" if log_e < 20 else f"1e{log_e / math.log(10):.0f}"


def champion_words(one: Candidate) -> str:
    """Return the champion with which a candidate was compared."""
    return one.champion[:SHORT] if one.champion else "none"


def lost_words(one: Candidate) -> str:
    """Return the numbers of a candidate's rows without a score, by reason."""
    parts = [f"{reason} {count:,}" for reason, count in one.unscored.items()]
    if one.missing:
        parts.append(f"no ballot in the round {one.missing:,}")
    return ", ".join(parts) or "none"


def revised_words(report: DataReport, *, taken: bool) -> str:
    """Return a sentence about the bars that their exchange changed. ``taken``: whether labels use the later content."""
    content = "later" if taken else "first"
    return f"{report.revised:,} bars were changed by their exchange; labels use their {content} content"


def acting_words(acting: Acting) -> tuple[str, str]:
    """Return two sentences: how often the ensemble acted, and what its actions earned against never and always."""
    acted = acting.sell + acting.buy
    share = f"{acted / acting.rounds:.2%}"
    often = (
        f"The ensemble acted in {acted:,} of {acting.rounds:,} decisions with an outcome ({share}): "
        f"BUY {acting.buy:,}, SELL {acting.sell:,}, HOLD {acting.hold:,}; bars {moment(acting.since)} to "
        f"{moment(acting.until)} UTC."
    )
    return often, (
        f"Mean return a decision over the label's horizon, after costs: as decided "
        f"{_basis_points(acting.decided, acting)} (costs {_basis_points(acting.decided_costs, acting, '')}), never "
        f"acting 0, always acting {_basis_points(acting.always, acting)} (costs "
        f"{_basis_points(acting.always_costs, acting, '')})."
    )


def _basis_points(total: float, acting: Acting, sign: str = "+") -> str:
    return f"{1e4 * total / acting.rounds:{sign}.2f} bp"
