"""The bot's core: who may ask for what, and what becomes of an update."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.phone import core
from services.phone.core import A_MINUTE, COMMANDS, IDLE_MS, STRANGER_MS, VALID_MS, Act, Outcome, Person, Show, State
from services.phone.messages import Line, Received, Reply

NOW = 1_704_067_200_000
ADA = Person("ada", dict.fromkeys(COMMANDS, ""))
BEN = Person("ben", dict.fromkeys(COMMANDS, "the server holds no key for ben"))
CYD = Person("cyd", dict.fromkeys(COMMANDS, ""))
PROPOSALS = {14: (Line("what", "promote model=a"), Line("a champion", "a1 -> a2"))}
PERSONS = {"1": ADA, "2": BEN, "3": CYD}


def message(update: int, text: str, sender: str = "1", *, private: bool = True, own: bool = True) -> Received:
    return Received(update, sender, sender, private=private, own=own, text=text)


def tap(update: int, data: str, sender: str = "1") -> Received:
    return Received(update, sender, sender, private=True, own=True, data=data, tap=f"t{update}")


def handle(state: State, received: Received, at: int = NOW, token: str = "") -> Show | Act | None:
    return core.handle(state, received, PERSONS, at, token or f"token-{received.update}", PROPOSALS)


def asked(state: State | None = None, update: int = 1) -> State:
    state = state or State()
    assert handle(state, message(update, "/halt exchange outage")) is None
    return state


def last(state: State) -> Reply:
    return state.waiting[-1]


def words(reply: Reply) -> str:
    return "\n".join([reply.title, *(f"{line.words} {line.value}" for line in reply.lines)])


def test_given_a_halt_when_it_is_confirmed_then_its_command_has_the_id_of_the_question() -> None:
    state = asked()
    yes = next(button.data for button in last(state).buttons if button.words == "Halt now")
    act = handle(state, tap(2, yes))
    assert isinstance(act, Act)
    assert (act.act, act.actor, act.reason) == ("halt", "ada", "exchange outage")
    assert act.command_id == "phone-1-token-1"
    assert state.last == 1  # it is not done yet
    core.acted(state, act, Outcome("recorded", version=7), NOW)
    assert (state.last, last(state).title) == (2, "HALTED as version 7")
    assert handle(state, tap(3, yes)) is None
    assert "no effect" in last(state).title


def test_given_an_act_that_was_interrupted_when_the_tap_arrives_again_then_it_is_the_same_command() -> None:
    state = asked()
    before = core.snapshot(state)
    first = handle(state, tap(2, "yes token-1"))
    again = handle(core.initial(before), tap(2, "yes token-1"))
    assert isinstance(first, Act)
    assert isinstance(again, Act)
    assert first.command_id == again.command_id


def test_given_an_act_that_is_done_when_its_tap_arrives_again_then_nothing_is_done() -> None:
    state = asked()
    act = handle(state, tap(2, "yes token-1"))
    assert isinstance(act, Act)
    core.acted(state, act, Outcome("recorded", version=7), NOW)
    answered = len(state.waiting)
    for update in (2, 1, -5):
        assert handle(core.initial(core.snapshot(state)), tap(update, "yes token-1")) is None
        assert handle(state, tap(update, "yes token-1")) is None
    assert (len(state.waiting), state.refused) == (answered, 3)


def test_given_a_server_that_did_not_confirm_when_the_button_is_pressed_again_then_it_is_the_same_command() -> None:
    state = asked()
    act = handle(state, tap(2, "yes token-1"))
    assert isinstance(act, Act)
    core.acted(state, act, Outcome("unknown", "no answer"), NOW + VALID_MS)
    assert [button.words for button in last(state).buttons] == ["Halt now"]
    again = handle(state, tap(3, last(state).buttons[0].data), NOW + VALID_MS + 1)
    assert isinstance(again, Act)
    assert again.command_id == act.command_id


@pytest.mark.parametrize(
    ("received", "at"),
    [
        (tap(2, "yes token-1", "3"), NOW),
        (tap(2, "yes token-9"), NOW),
        (tap(2, "yes"), NOW),
        (tap(2, ""), NOW),
        (tap(2, "please token-1"), NOW),
        (tap(2, "yes token-1"), NOW + VALID_MS),
    ],
    ids=["another person", "another token", "no token", "nothing", "another word", "too late"],
)
def test_a_confirmation_that_is_not_of_this_person_now_is_refused_in_words(received: Received, at: int) -> None:
    state = asked()
    assert handle(state, received, at) is None
    assert "no effect" in last(state).title
    assert last(state).chat == received.chat


def test_a_question_that_is_answered_no_cannot_be_confirmed_any_more() -> None:
    state = asked()
    assert handle(state, tap(2, "no token-1")) is None
    assert last(state).title.startswith("Nothing was done")
    assert handle(state, tap(3, "yes token-1")) is None
    assert "no effect" in last(state).title


def test_a_person_whose_key_may_not_sign_is_refused_before_and_after_the_question() -> None:
    state = State()
    assert handle(state, message(1, "/halt", "2")) is None
    assert words(last(state)) == "You cannot halt from here\nthe server holds no key for ben "
    assert not state.asked
    asked(state, 2)
    revoked = {"1": Person("ada", dict.fromkeys(COMMANDS, "key ada was revoked"))}
    assert core.handle(state, tap(3, "yes token-2"), revoked, NOW, "x") is None
    assert "key ada was revoked" in words(last(state))
    assert not state.asked


@pytest.mark.parametrize("text", ["/halt", "halt", "/HALT now", "/halt@the_bot now", "  /halt\nnow"])
def test_a_halt_is_asked_for_in_any_of_its_forms(text: str) -> None:
    state = State()
    assert handle(state, message(1, text)) is None
    assert last(state).title.startswith("Halt?")
    assert [each.act for each in state.asked.values()] == ["halt"]


def test_a_resume_needs_a_reason_and_a_halt_does_not() -> None:
    state = State()
    assert handle(state, message(1, "/resume")) is None
    assert "needs its reason" in last(state).title
    assert handle(state, message(2, "/resume the exchange answers")) is None
    assert state.asked["token-2"].reason == "the exchange answers"
    assert handle(state, message(3, "/halt")) is None
    assert state.asked["token-3"].reason == "halted by phone, no reason given"


@pytest.mark.parametrize("act", ["approve", "refuse"])
def test_a_proposal_is_shown_before_it_is_approved_or_refused_and_needs_a_reason(act: str) -> None:
    state = State()
    assert handle(state, message(1, f"/{act} 14 I read its gates")) is None
    assert "a champion a1 -> a2" in words(last(state))
    assert [button.words for button in last(state).buttons] == [f"{act.capitalize()} now", "No"]
    done = handle(core.initial(core.snapshot(state)), tap(2, "yes token-1"))
    assert isinstance(done, Act)
    assert (done.act, done.proposal, done.reason, done.command_id) == (act, 14, "I read its gates", "phone-1-token-1")
    assert handle(state, message(2, f"/{act} 14")) is None
    assert "needs its reason" in last(state).title
    for text in (f"/{act}", f"/{act} 15 why", f"/{act} x why", f"/{act} {'9' * 5000} why", f"/{act} \u0663 why"):
        assert handle(state, message(state.last + 1 if state.last else 1, text)) is None
        assert "Name an open proposal" in last(state).title
    assert len(state.asked) == 1


@pytest.mark.parametrize("word", ["promote", "/promote a b", "/rollback", "/weights", "hello", "", "/keys", "/halted"])
def test_what_the_bot_may_not_do_is_refused_in_words(word: str) -> None:
    state = State()
    assert handle(state, message(1, word)) is None
    assert last(state).title == "The phone cannot do that; nothing was done"
    assert "/halt" in words(last(state))


def test_a_stranger_learns_its_number_once_in_a_while_and_nothing_else() -> None:
    state = State()
    for update, text in enumerate(("/status", "/halt", "/help"), 1):
        assert handle(state, message(update, text, "666")) is None
    assert [reply.chat for reply in state.waiting] == ["666"]
    assert "666" in words(state.waiting[0])
    assert "ada" not in words(state.waiting[0])
    assert not state.asked
    assert handle(state, message(4, "/status", "666"), NOW + STRANGER_MS) is None
    assert len(state.waiting) == 2


def test_a_person_is_answered_in_a_private_chat_alone_and_not_for_the_words_of_others() -> None:
    state = State()
    assert handle(state, Received(1, "1", "-100", private=False, own=True, text="/status")) is None
    assert last(state) == Reply("-100", "This bot answers in private chats alone.")
    assert handle(state, Received(2, "1", "-100", private=False, own=True, data="yes x", tap="t")) is None
    assert len(state.waiting) == 1
    assert handle(state, message(3, "/halt", own=False)) is None
    assert "forwarded" in last(state).title
    assert not state.asked


def test_questions_are_limited_and_a_halt_is_not() -> None:
    state = State()
    shown = [handle(state, message(update, "/status")) for update in range(1, 100)]
    assert sum(isinstance(each, Show) for each in shown) == A_MINUTE
    assert len(state.waiting) == 1
    assert "in a minute" in last(state).title
    assert handle(state, message(100, "/halt")) is None
    assert last(state).title.startswith("Halt?")
    assert isinstance(handle(state, tap(101, "yes token-100")), Act)
    assert isinstance(handle(state, message(102, "/status"), NOW + 60_000), Show)


def test_after_a_week_without_updates_a_lower_number_is_a_new_one_and_before_it_is_not() -> None:
    state = asked(update=1000)
    assert core.replay_from(state, NOW + IDLE_MS - 1) == 1000
    assert handle(state, message(5, "/status"), NOW + IDLE_MS - 1) is None
    assert core.replay_from(state, NOW + IDLE_MS) is None
    assert isinstance(handle(state, message(5, "/status"), NOW + IDLE_MS), Show)
    assert state.last == 5


def test_a_restart_forgets_nothing() -> None:
    state = asked()
    again = core.initial(core.snapshot(state))
    assert msgspec.to_builtins(again) == msgspec.to_builtins(state)
    assert isinstance(handle(again, tap(2, "yes token-1")), Act)


UPDATES = st.lists(
    st.builds(
        Received,
        update=st.integers(0, 30),
        sender=st.sampled_from(["1", "2", "3", "666", ""]),
        chat=st.sampled_from(["1", "2", "3", "-7", ""]),
        private=st.booleans(),
        own=st.booleans(),
        text=st.sampled_from(["/halt", "/resume now", "/approve 14 yes", "/status", "/decisions X", "x", ""]),
        data=st.sampled_from(["", *(f"{word} {number}" for word in ("yes", "no") for number in range(31))]),
        tap=st.sampled_from(["", "t"]),
    ),
    max_size=60,
)


@given(UPDATES)
def test_whatever_arrives_no_act_is_of_another_person_or_done_twice_and_memory_is_bounded(
    updates: list[Received],
) -> None:
    state, done, by = State(), list[str](), dict[str, str]()
    for received in updates:
        before = set(state.asked)
        answer = core.handle(state, received, PERSONS, NOW, str(received.update), PROPOSALS)
        by |= dict.fromkeys(set(state.asked) - before, received.sender)
        if isinstance(answer, Act):
            assert received.private
            assert received.sender == by[answer.token]
            done.append(answer.command_id)
            core.acted(state, answer, Outcome("recorded", version=1), NOW)
        assert core.initial(core.snapshot(state)) == state
    assert len(done) == len(set(done))
    assert len(state.waiting) <= core.MOST_WAITING
    assert len(state.asked) <= core.MOST_ASKED
