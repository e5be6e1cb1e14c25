"""What the bot shows: the figures of the observatory's screens, in words."""

import pytest
from immutables import Map
from msgspec import structs

from schemas.control import SetVotingPolicy
from schemas.documentation.examples import examples
from schemas.gates import VerdictReached
from services.observatory import core
from services.observatory.core import State
from services.observatory.screens import now
from services.observatory.screens.now import Around
from services.phone.core import TOPICS, Show, Topic
from services.phone.messages import Received, Reply
from services.phone.showing import SHOWN, Look, answer
from shared.control import EMPTY
from shared.control.policies import policy_digest
from shared.control.state import PolicyCandidate
from tests.services.observatory.events import BEGIN, MINUTE, A, bar, decision, fill, given

AT = BEGIN + 5 * MINUTE


@pytest.fixture
def state() -> State:
    found = core.initial()
    given(found, "market", *(bar(number, 100.0 + number) for number in range(3)))
    given(found, "decisions", decision(1), decision(2, "HOLD"))
    return given(found, "orders", fill(1, "BUY", 2.0, 101.0, 2.0))


def shown(state: State, topic: Topic, about: str = "", *, halted: bool = False, around: Around | None = None) -> Reply:
    control = structs.replace(EMPTY, halted=halted)
    return answer(Show(Received(1, "1", "1"), topic, about), Look(state, control, around or Around(now=AT)))


def words(reply: Reply) -> str:
    return "\n".join([reply.title, *(f"{line.words}: {line.value}" for line in reply.lines)])


def test_status_has_the_halt_in_its_title_and_what_is_in_doubt_in_its_first_line(state: State) -> None:
    assert shown(state, "status", halted=True).title == "HALTED: no intent is written"
    assert not shown(state, "status").title.startswith("HALTED")
    away = shown(state, "status", around=Around(now=AT, error="no answer for 3 s"))
    assert (away.lines[0].value, "does not answer" in away.lines[0].words) == ("no answer for 3 s", True)
    reading = shown(state, "status", around=Around(now=AT, caught_up=False))
    assert "still reading" in reading.lines[0].words


def test_equity_is_that_of_the_observatory(state: State) -> None:
    money = now.money_of(state, EMPTY)
    reply = shown(state, "equity")
    assert reply.title == f"Equity {money.equity:,.2f}"
    assert f"{money.day_gain:+,.2f}" in words(reply)
    assert "BTCUSDT: +2, worth +204.00" in words(reply)


def test_decisions_are_the_last_ones_and_those_of_one_symbol_when_it_is_named(state: State) -> None:
    given(state, "decisions", *(decision(number, symbol=f"S{number}USDT") for number in range(20)))
    assert len(shown(state, "decisions").lines) == SHOWN
    [newest, older] = shown(state, "decisions", "btcusdt").lines
    assert newest.words.startswith("BTCUSDT 1m 01 Jan 00:03")
    assert newest.value == "HOLD 60%, intent hold; 1 of 2 agree, without b"
    assert older.value.startswith("BUY 60%, intent issued")
    none = shown(state, "decisions", "/halt <b>")
    assert (none.title, none.lines[0].value) == ("No decisions", "/halt <b>")


def test_a_verdict_has_its_counts_its_advice_and_the_first_gate_that_did_not_pass(state: State) -> None:
    assert shown(state, "verdicts").title == "No verdicts yet"
    event = next(each.envelope.event for each in examples() if isinstance(each.envelope.event, VerdictReached))
    gates = (
        structs.replace(event.gates[0], name="skill", verdict="passed", detail="fine"),
        structs.replace(event.gates[0], name="latency", verdict="failed", detail="p99 is 900 ms"),
    )
    given(state, "gates", structs.replace(event, artifact=A, gates=gates, overall="failed", advice="stay in shadow"))
    text = words(shown(state, "verdicts"))
    assert "failed of" in text
    assert "1 passed, 1 failed, 0 inconclusive; stay in shadow" in text
    assert "latency failed: p99 is 900 ms" in text


def test_a_verdict_on_a_voting_policy_names_what_it_changes(state: State) -> None:
    event = next(each.envelope.event for each in examples() if isinstance(each.envelope.event, VerdictReached))
    policy = SetVotingPolicy(edge=0.05)
    digest = policy_digest(policy)
    given(state, "gates", structs.replace(event, model="ensemble", artifact=digest))
    policies = Map({digest: PolicyCandidate(policy)})
    control = structs.replace(EMPTY, policies=policies, policy_shadows=(digest,))
    reply = answer(Show(Received(1, "1", "1"), "verdicts", ""), Look(state, control, Around(now=AT)))
    assert f"voting policy {digest[:12]}, edge=0.05 (shadow)" in words(reply)


def test_every_topic_is_shown_for_an_empty_installation() -> None:
    for topic in TOPICS:
        assert shown(core.initial(), topic).title
