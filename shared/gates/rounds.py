"""Assemble scores into rounds: the predictions of every member of the ensemble for one bar.

A round is returned when all members are in it. When more than ``MOST_OPEN`` rounds are incomplete, the oldest is
dropped and counted. So weights and contributions are learned only from rounds in which every member predicted.
"""

from typing import Final, NamedTuple

from msgspec import Struct, field

from shared.gates.rows import Triple

MOST_OPEN: Final = 20_000


class MemberScore(NamedTuple):
    """One member's prediction for one bar, with the outcome by the label of its own artifact."""

    model: str
    symbol: str
    open_time: int
    probabilities: Triple
    outcome: int


class ScoredRound(NamedTuple):
    """The probabilities of all members, in the order of the members, and the outcome."""

    open_time: int
    probabilities: tuple[Triple, ...]
    outcome: int


class RoundAssembly(Struct, array_like=True, forbid_unknown_fields=True):
    """Open rounds by ``<open time> <symbol>``: the outcome, and the probabilities by the index of the member.

    ``members`` are sorted by name. ``split`` counts rounds whose members have labels with different outcomes."""

    members: tuple[str, ...]
    open: dict[str, tuple[int, dict[int, Triple]]] = field(default_factory=dict)
    dropped: int = 0
    split: int = 0


def join(rounds: RoundAssembly, score: MemberScore) -> ScoredRound | None:
    """Add one prediction; return the round that it completed, or None.

    Predictions of models that are no members are ignored. Of two predictions by one member the first counts."""
    if score.model not in rounds.members:
        return None
    name = f"{score.open_time} {score.symbol}"
    outcome, probabilities = rounds.open.setdefault(name, (score.outcome, {}))
    probabilities.setdefault(rounds.members.index(score.model), score.probabilities)
    if outcome != score.outcome:
        del rounds.open[name]
        rounds.split += 1
        return None
    if len(probabilities) < len(rounds.members):
        if len(rounds.open) > MOST_OPEN:
            del rounds.open[next(iter(rounds.open))]
            rounds.dropped += 1
        return None
    del rounds.open[name]
    return ScoredRound(score.open_time, tuple(probabilities[number] for number in range(len(probabilities))), outcome)
