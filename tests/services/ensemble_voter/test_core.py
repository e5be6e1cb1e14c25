"""Rounds, given ballots: what closes them, who counts, and what is written."""

import math
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schemas.codec import Encoded, Envelope, encode
from schemas.common import ACTIONS, Origin, Probabilities
from schemas.control import (
    Command,
    CommandRecorded,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Rollback,
    SetVotingPolicy,
    StartShadow,
)
from schemas.decisions import BallotLate, CountedBallot, DecisionMade, IntentIssued
from schemas.operations import DeadLetter
from schemas.predictions import PredictionFailed, PredictionMade
from services.ensemble_voter.core import State, Voter
from shared.control import EMPTY, fold, head_of, propose
from shared.runtime.service import Batch, Received

MINUTE = 60_000
LN3 = -math.log(3)
ART = {"a": "aa" * 32, "b": "bb" * 32, "c": "cc" * 32, "a2": "a2" * 32}
BULL: Probabilities = (0.1, 0.3, 0.6)
BEAR: Probabilities = (0.6, 0.3, 0.1)
FLAT: Probabilities = (1 / 3, 1 / 3, 1 / 3)


def control(*commands: Command) -> list[Envelope[CommandRecorded]]:
    state, log = EMPTY, []
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=str(number), actor="me", reason="test", at=1)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
        log.append(encode("control", entry).envelope)
    return log


def register(model: str, artifact: str) -> RegisterArtifact:
    return RegisterArtifact(
        model=model,
        artifact=ART[artifact],
        family="prior",
        feature_set="f" * 64,
        feature_set_name="user-8",
        interval_ms=MINUTE,
        classes=ACTIONS,
        centre=(LN3, LN3, LN3),
        prior=(0.25, 0.5, 0.25),
    )


THREE: tuple[Command, ...] = (
    Found(1, "log-of-a-test"),
    *(register(name, name) for name in "abc"),
    register("a", "a2"),
    Promote("a", ART["a"], forced=True, weight=1.0),
    Promote("b", ART["b"], forced=True, weight=0.5),
    Promote("c", ART["c"], forced=True, weight=0.2),
)


class Table:
    """A voter with a configuration, and ballots that reach it one after another."""

    def __init__(self, *commands: Command, memo: bytes = b"") -> None:
        self.voter = Voter()
        self.state: State = self.voter.initial(memo)
        self.ids = count(1)
        self.log = control(*(commands or THREE))
        self.voter.apply(self.state, Batch(self.log, ()))

    def ballot(
        self,
        model: str,
        bar: int,
        p: Probabilities | str = BULL,
        *,
        artifact: str = "",
        origin: Origin = "replay",
        version: int = 0,
    ) -> Received:
        """A ballot under the stamp of a version (default: the newest)."""
        entry = self.log[version - 1].event
        about: dict[str, Any] = {
            "symbol": "BTCUSDT",
            "interval_ms": MINUTE,
            "open_time": bar * MINUTE,
            "origin": origin,
            "model": model,
            "artifact": bytes.fromhex(ART[artifact or model]),
            "vector": bytes(16),
            "control_version": entry.version,
            "control_head": bytes.fromhex(head_of(entry)),
        }
        event: Any
        if isinstance(p, str):
            event = PredictionFailed(**about, reason="error", detail=p)
        else:
            event = PredictionMade(**about, probabilities=p)
        bar_id = bar.to_bytes(16)
        envelope = encode("predictions", event, causation=bar_id, correlation=bar_id).envelope
        return Received("predictions", f"{next(self.ids)}-0", envelope)

    def take(self, *ballots: Received, now: int | None = None, halted: bool = False) -> list[Any]:
        return [sealed.envelope.event for sealed in self.sealed(*ballots, now=now, halted=halted)]

    def sealed(self, *ballots: Received, now: int | None = None, halted: bool = False) -> list[Encoded]:
        return list(self.voter.handle(self.state, Batch((), ballots, now, halted)))


def decisions(events: list[Any]) -> list[DecisionMade]:
    return [event for event in events if isinstance(event, DecisionMade)]


def votes(decision: DecisionMade) -> list[CountedBallot]:
    """The counted ballots without their ids, which depend on the stamp."""
    return [structs.replace(ballot, event="") for ballot in decision.counted]


def test_a_round_closes_when_every_member_has_answered_and_not_before() -> None:
    table = Table()
    assert table.take(table.ballot("a", 1), table.ballot("b", 1)) == []
    (decision,) = decisions(table.take(table.ballot("c", 1)))
    assert decision.closed_by == "complete"
    assert decision.action == "BUY"
    assert decision.consensus_count == decision.total_models == 3
    assert [ballot.model for ballot in decision.counted] == ["a", "b", "c"]
    assert decision.control_version == len(THREE)


def test_a_failure_is_an_answer_and_never_an_opinion() -> None:
    table = Table()
    events = table.take(table.ballot("a", 1), table.ballot("b", 1), table.ballot("c", 1, "out of memory"))
    (decision,) = decisions(events)
    assert [ballot.model for ballot in decision.counted] == ["a", "b"]
    assert decision.absent[0].model == "c"
    assert "out of memory" in decision.absent[0].reason
    assert decision.total_models == 3


def test_without_quorum_there_is_no_action_and_no_intent() -> None:
    table = Table()
    events = table.take(table.ballot("a", 1), table.ballot("b", 1, "gone"), table.ballot("c", 1, "gone"))
    (decision,) = decisions(events)
    assert (decision.status, decision.action, decision.confidence) == ("no_quorum", "HOLD", 0.0)
    assert len(events) == 1


def test_quorum_counts_weight_too() -> None:
    table = Table(*THREE, SetVotingPolicy(quorum_weight=0.7))
    events = table.take(table.ballot("a", 1), table.ballot("c", 1), table.ballot("b", 1, "gone"))
    assert decisions(events)[0].status == "no_quorum"


def test_who_answers_a_later_bar_has_passed_over_the_earlier_one() -> None:
    table = Table()
    table.take(table.ballot("a", 1), table.ballot("b", 1))
    (decision,) = decisions(table.take(table.ballot("c", 2)))
    assert decision.open_time == MINUTE
    assert decision.closed_by == "superseded"
    assert decision.absent[0].reason == "silent"


def test_a_round_opened_behind_a_member_does_not_wait_for_it() -> None:
    table = Table()
    table.take(table.ballot("c", 5))
    table.take(table.ballot("a", 1))
    (decision,) = decisions(table.take(table.ballot("b", 1)))
    assert decision.open_time == MINUTE
    assert decision.absent[0].model == "c"


def test_bars_of_one_symbol_are_decided_in_order() -> None:
    table = Table()
    table.take(*(table.ballot(model, bar) for model in "ab" for bar in (1, 2, 3)))
    found = decisions(table.take(*(table.ballot("c", bar) for bar in (1, 2, 3))))
    assert [decision.open_time for decision in found] == [MINUTE, 2 * MINUTE, 3 * MINUTE]


def test_a_late_ballot_is_recorded_as_late_and_changes_nothing() -> None:
    table = Table()
    table.take(table.ballot("a", 1), table.ballot("b", 1), table.ballot("c", 2))
    assert [type(event) for event in table.take(table.ballot("c", 1))] == [BallotLate]


def test_the_same_ballot_twice_counts_once_and_another_opinion_is_a_dead_letter() -> None:
    table = Table()
    table.take(table.ballot("a", 1))
    assert table.take(table.ballot("a", 1)) == []
    (letter,) = table.take(table.ballot("a", 1, BEAR))
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "conflict"
    (decision,) = decisions(table.take(table.ballot("b", 1), table.ballot("c", 1)))
    assert decision.counted[0].probabilities == BULL


@pytest.mark.parametrize("shadow", [BULL, BEAR, FLAT, (0.0, 0.0, 1.0)])
def test_a_shadow_changes_no_bit_of_the_vote(shadow: Probabilities) -> None:
    alone, watched = Table(*THREE), Table(*THREE, StartShadow("a", ART["a2"]))
    ballots = [("a", BULL), ("b", BEAR), ("c", FLAT)]
    (without,) = decisions(alone.take(*(alone.ballot(m, 1, p) for m, p in ballots)))
    (beside,) = decisions(
        watched.take(watched.ballot("a", 1, shadow, artifact="a2"), *(watched.ballot(m, 1, p) for m, p in ballots))
    )
    assert beside.shadow[0].probabilities == shadow
    assert (beside.probabilities, beside.action, votes(beside), beside.total_models) == (
        without.probabilities,
        without.action,
        votes(without),
        without.total_models,
    )


def test_nobody_but_members_and_shadows_opens_a_round() -> None:
    table = Table(*THREE)
    assert table.take(table.ballot("a", 1, artifact="a2")) == []
    assert not table.state.rounds


def test_an_intent_joins_its_decision_and_shows_who_said_what() -> None:
    table = Table()
    decision, intent = table.sealed(*(table.ballot(model, 1) for model in "abc"))
    event = intent.envelope.event
    assert isinstance(event, IntentIssued)
    assert event.decision == decision.envelope.id.hex()
    assert set(event.model_breakdown) == {"a", "b", "c"}
    assert event.fallback_used is False
    assert event.valid_until == 2 * MINUTE + 60_000


def test_a_halt_stops_intents_at_once_and_decisions_go_on() -> None:
    table = Table(*THREE, Halt())
    (decision,) = table.take(*(table.ballot(model, 1) for model in "abc"))
    assert decision.intent == "halted"
    assert decision.action == "BUY"


def test_a_closed_fence_stops_intents_whatever_the_stamp_says() -> None:
    table = Table()
    (decision,) = table.take(*(table.ballot(model, 1) for model in "abc"), halted=True)
    assert (decision.intent, decision.action) == ("halted", "BUY")
    decision, intent = table.take(*(table.ballot(model, 2) for model in "abc"))
    assert (decision.intent, type(intent)) == ("issued", IntentIssued)


def test_a_round_is_decided_under_the_stamp_of_its_bar_whatever_was_commanded_since() -> None:
    table = Table(*THREE, StartShadow("a", ART["a2"]), Promote("a", ART["a2"], forced=True), Halt())
    before = len(THREE) + 1
    ballots = [table.ballot("a", 1, BEAR, artifact="a2", version=before)]
    ballots += [table.ballot(model, 1, version=before) for model in "abc"]
    ballots += [table.ballot("a", 2, artifact="a2", version=before + 1)]
    ballots += [table.ballot(model, 2, version=before + 1) for model in "abc"]
    first, _, second, _ = table.take(*ballots)
    assert (first.control_version, first.counted[0].artifact, first.intent) == (before, ART["a"], "issued")
    assert (second.control_version, second.counted[0].artifact, second.intent) == (before + 1, ART["a2"], "issued")
    assert [shadow.artifact for shadow in second.shadow] == [ART["a"]]
    assert first.control_head == head_of(table.log[before - 1].event)
    assert first.decided_at is None


def test_a_round_that_was_read_again_and_is_complete_closes_at_once() -> None:
    table = Table()
    table.voter.apply(table.state, Batch((), [table.ballot(model, 1) for model in "abc"]))
    (decision,) = decisions(table.take())
    assert decision.closed_by == "complete"


def test_an_older_round_is_superseded_by_one_in_which_its_silent_member_has_no_vote() -> None:
    table = Table(*THREE, Rollback(to=len(THREE) - 1))
    table.take(*(table.ballot(model, 1, version=len(THREE)) for model in "ab"))
    first, second = decisions(table.take(*(table.ballot(model, 2) for model in "ab")))
    assert (first.control_version, first.closed_by, [gone.model for gone in first.absent]) == (8, "superseded", ["c"])
    assert (second.control_version, second.closed_by, second.absent) == (9, "complete", ())


def test_an_older_round_is_closed_by_the_deadline_of_a_later_one() -> None:
    table = Table()
    late = 4 * MINUTE
    table.take(table.ballot("a", 1, origin="live"), now=late + 1)
    table.take(table.ballot("a", 2, origin="live"), now=2 * MINUTE)
    found = decisions(table.take(now=late))
    assert [decision.open_time // MINUTE for decision in found] == [1, 2]
    assert {decision.closed_by for decision in found} == {"deadline"}
    assert {decision.decided_at for decision in found} == {late}


def test_a_live_round_closes_at_its_deadline_without_the_silent() -> None:
    table = Table()
    close = 2 * MINUTE
    assert table.take(table.ballot("a", 1, origin="live"), now=close + 10) == []
    assert table.take(table.ballot("b", 1, origin="live"), now=close + 4_999) == []
    decision, intent = table.take(now=close + 5_000)
    assert decision.closed_by == "deadline"
    assert [gone.model for gone in decision.absent] == ["c"]
    assert isinstance(intent, IntentIssued)


def test_a_live_bar_from_a_backlog_waits_too_and_its_intent_is_stale() -> None:
    table = Table()
    late = 2 * MINUTE + 3_600_000
    assert table.take(table.ballot("a", 1, origin="live"), table.ballot("b", 1, origin="live"), now=late) == []
    (decision,) = table.take(table.ballot("c", 1, origin="live"), now=late + 1)
    assert decision.intent == "stale"


def test_history_has_no_deadline() -> None:
    table = Table()
    assert table.take(table.ballot("a", 1), table.ballot("b", 1), now=10**12) == []
    assert table.take(now=10**13) == []


def test_probabilities_that_do_not_sum_to_one_do_not_vote() -> None:
    table = Table()
    events = table.take(table.ballot("a", 1), table.ballot("b", 1), table.ballot("c", 1, (0.5, 0.5, 0.5)))
    assert "sum to 1.5" in decisions(events)[0].absent[0].reason


ORDERS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6)), max_size=60, unique=True)


def ballots_in_worker_order(table: Table, drawn: list[tuple[str, int]]) -> list[Received]:
    """Each worker goes through the bars in order; the workers interleave as drawn."""
    left = {model: sorted(bar for name, bar in drawn if name == model) for model in "abc"}
    shapes = (BULL, BEAR, FLAT)
    return [table.ballot(m, bar := left[m].pop(0), shapes[(bar + ord(m)) % 3]) for m, _ in drawn]


@given(ORDERS, st.data())
def test_neither_batches_nor_restarts_change_what_is_decided(drawn: list[tuple[str, int]], data: st.DataObject) -> None:
    table = Table()
    ballots = ballots_in_worker_order(table, drawn)
    expected = [sealed.data for sealed in table.sealed(*ballots)]

    voter, got = Voter(), list[Encoded]()
    memo, since, position = b"", 0, 0
    while position < len(ballots):
        state = voter.initial(memo)
        voter.apply(state, Batch(control(*THREE), ()))
        voter.apply(state, Batch((), ballots[since:position]))
        for _ in range(data.draw(st.integers(1, 3))):
            step = data.draw(st.integers(1, 8))
            got += voter.handle(state, Batch((), ballots[position : position + step]))
            position = min(position + step, len(ballots))
        memo = voter.snapshot(state)
        since = int(voter.replay_from(state).get("predictions", f"{position}-0").split("-")[0])
    assert [sealed.data for sealed in got if sealed.stream != "dead"] == expected


@given(st.permutations([(m, bar) for m in "abc" for bar in (1, 2, 3)]))
def test_the_order_in_which_workers_answer_changes_no_decision(drawn: list[tuple[str, int]]) -> None:
    table, reference = Table(), Table()
    got = table.sealed(*ballots_in_worker_order(table, drawn))
    expected = reference.sealed(*ballots_in_worker_order(reference, [(m, bar) for bar in (1, 2, 3) for m in "abc"]))
    assert [sealed.data for sealed in got] == [sealed.data for sealed in expected]
