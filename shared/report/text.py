"""Numbers of a report as words, for its page and for the terminal alike."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from shared.report.summary import Candidate, Interference, Skill

SHORT: Final = 12
NONE: Final = "-"


def moment(ms: float) -> str:
    """A moment in words, UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"


def origin_words(origins: Mapping[str, int]) -> str:
    """Whether the bars were live: the first thing to know about a figure."""
    total = sum(origins.values())
    match sorted(origins):
        case []:
            return "Nothing was scored yet."
        case ["live"]:
            return f"All {total:,} scores rest on live bars."
        case ["replay"]:
            return f"REPLAY: all {total:,} scores rest on bars of the past that were fed again, none on live ones."
        case ["synthetic"]:
            return f"SYNTHETIC: all {total:,} scores rest on generated bars; they say nothing about any market."
        case _:
            pass
    parts = ", ".join(f"{count:,} {origin}" for origin, count in sorted(origins.items()))
    return f"MIXED: scores of different origin are folded together here: {parts}."


def interference_words(found: Interference) -> str:
    """N of N."""
    if not found.checked:
        return "No decision with shadow ballots has been checked yet."
    said = f"{found.equal:,} of {found.checked:,} decisions with shadow ballots come out the same without them."
    return said if found.equal == found.checked else f"{said} Different: {', '.join(found.unequal)}"


def mnat(value: float | None) -> str:
    """A gain with its sign."""
    return NONE if value is None else f"{value:+.2f}"


def best_mean(skill: Skill) -> float:
    """The mean over blocks, or over all rows before the first block closes."""
    return skill.mean if skill.blocks else skill.all_rows


def version_words(one: Candidate) -> str:
    """Under which versions of the configuration it was scored."""
    first, last = one.versions
    return f"version {first}" if first == last else f"versions {first} to {last}"


def interval(skill: Skill) -> str:
    """The confidence sequence, or how far it is."""
    if skill.low is None or skill.high is None:
        return f"no interval before 20 blocks, there are {skill.blocks}"
    return f"{skill.low:+.2f} to {skill.high:+.2f} ({skill.blocks} blocks)"


def e_words(log_e: float) -> str:
    """An e-value for a person."""
    return f"{math.exp(log_e):.3g}" if log_e < 20 else f"1e{log_e / math.log(10):.0f}"


def champion_words(one: Candidate) -> str:
    """Return the champion that it was compared with."""
    return one.champion[:SHORT] if one.champion else "none"


def lost_words(one: Candidate) -> str:
    """What has no score, and why."""
    parts = [f"{reason} {count:,}" for reason, count in one.unscored.items()]
    if one.missing:
        parts.append(f"no ballot in the round {one.missing:,}")
    return ", ".join(parts) or "none"
