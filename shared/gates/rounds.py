"""Scores put together again into rounds: what every member of the ensemble said about one bar.

A round is handed on when all members are in it. One that stays incomplete is dropped when more than
``MOST_OPEN`` are open, the oldest first, and counted: weights and contributions are learned from rounds in
which everyone spoke."""

from typing import Final, NamedTuple

from msgspec import Struct, field

from shared.gates.rows import Triple

MOST_OPEN: Final = 20_000


class MemberScore(NamedTuple):
    """One member's answer about one bar, with the outcome by the label of its own artifact."""

    model: str
    symbol: str
    open_time: int
    probabilities: Triple
    outcome: int


class ScoredRound(NamedTuple):
    """All members' answers, in the order of the members."""

    open_time: int
    answers: tuple[Triple, ...]
    outcome: int


class RoundAssembly(Struct, array_like=True, forbid_unknown_fields=True):
    """Open rounds by ``<open time> <symbol>``: the outcome, and the answers by the member's number.
    ``members`` by name, ascending. ``split``: rounds whose members' labels came out differently."""

    members: tuple[str, ...]
    open: dict[str, tuple[int, dict[int, Triple]]] = field(default_factory=dict)
    dropped: int = 0
    split: int = 0


def join(rounds: RoundAssembly, said: MemberScore) -> ScoredRound | None:
    """Takes one answer; the round that it completed, or None. Answers of others are passed over; of two
    answers by one member the first counts."""
    if said.model not in rounds.members:
        return None
    name = f"{said.open_time} {said.symbol}"
    outcome, answers = rounds.open.setdefault(name, (said.outcome, {}))
    answers.setdefault(rounds.members.index(said.model), said.probabilities)
    if outcome != said.outcome:
        del rounds.open[name]
        rounds.split += 1
        return None
    if len(answers) < len(rounds.members):
        if len(rounds.open) > MOST_OPEN:
            del rounds.open[next(iter(rounds.open))]
            rounds.dropped += 1
        return None
    del rounds.open[name]
    return ScoredRound(said.open_time, tuple(answers[number] for number in range(len(answers))), outcome)
