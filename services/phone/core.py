"""Decide what an update of a chat asks for, and who may ask for it. Pure.

The state changes only when an update is done. An act is done when its outcome is known (``acted``), so an update whose
act was interrupted is handled again, with the same command id.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct, field, structs

from schemas.control import Approve, Halt, Refuse, Resume
from services.phone.messages import Button, Line, Received, Reply

ActName = Literal["halt", "resume", "approve", "refuse"]
Topic = Literal["status", "equity", "decisions", "verdicts", "proposals"]
Ending = Literal["recorded", "repeated", "refused", "unfenced", "unknown"]

COMMANDS: Final[Mapping[ActName, type[Halt | Resume | Approve | Refuse]]] = {
    "halt": Halt,
    "resume": Resume,
    "approve": Approve,
    "refuse": Refuse,
}
"""What the bot can do, and the command that it issues for it."""
OF_A_PROPOSAL: Final = ("approve", "refuse")
"""The acts that name a proposal by its number."""
TOPICS: Final[Mapping[Topic, str]] = {
    "status": "is it well?",
    "equity": "money and positions",
    "decisions": "the last decisions; with a symbol, those of that symbol",
    "verdicts": "what the gates say about each artifact",
    "proposals": "what waits for a second person",
}
_NOUNS: Final[Mapping[ActName, str]] = {
    "halt": "The halt",
    "resume": "The resume",
    "approve": "The approval",
    "refuse": "The refusal",
}
_ACTS: Final[Mapping[str, ActName]] = {act: act for act in COMMANDS}
_TOPICS: Final[Mapping[str, Topic]] = {topic: topic for topic in TOPICS}
VALID_MS: Final = 60_000
"""How long a question can be confirmed."""
IDLE_MS: Final = 7 * 86_400_000
"""After so long without an update, Telegram numbers the next one at random (Bot API, ``Update``). It keeps none for
more than a day, so none that was handled can arrive again."""
MINUTE_MS: Final = 60_000
A_MINUTE: Final = 20
"""Questions of one person in a minute. A halt, a resume and the tap on a button are not limited."""
STRANGER_MS: Final = 600_000
"""Between two answers to a sender who is no person of the settings."""
MOST_ASKED: Final = 20
MOST_WAITING: Final = 100
MOST_PACES: Final = 1_000
REASON: Final = 500
"""Characters of a reason."""
DIGITS: Final = 15
"""Of the number of a proposal, at most."""
Proposals = Mapping[int, tuple[Line, ...]]
NONE: Final[Proposals] = {}


class Asked(Struct, frozen=True):
    """A question that waits for its confirmation. ``update``: that of the message that asked. ``expires``: the time
    (ms) from which on it cannot be confirmed. ``proposal``: its number; 0 for an act that is about none."""

    act: ActName
    actor: str
    reason: str
    update: int
    expires: int
    proposal: int = 0


class Pace(Struct):
    """How many updates of a sender were answered since ``began`` (ms)."""

    began: int
    count: int = 0


class State(Struct):
    """``last``: the last update that is done; ``last_at``: when (ms). ``asked``: by token. ``waiting``: answers that
    were not sent yet, oldest first. ``refused``: updates that were handled before."""

    last: int | None = None
    last_at: int = 0
    asked: dict[str, Asked] = field(default_factory=dict)
    waiting: list[Reply] = field(default_factory=list)
    paces: dict[str, Pace] = field(default_factory=dict)
    refused: int = 0


class Person(Struct, frozen=True):
    """A person of the settings. ``refusals``: why the person cannot do an act, in words; '' if the person can."""

    actor: str
    refusals: Mapping[ActName, str]


class Show(Struct, frozen=True):
    """Something to be shown: an answer to ``received`` about a topic. ``about``: what it is limited to."""

    received: Received
    topic: Topic
    about: str


class Act(Struct, frozen=True):
    """A confirmed command, to be issued with the key of ``actor``. ``proposal``: its number; 0 if it is about none."""

    received: Received
    token: str
    act: ActName
    actor: str
    reason: str
    command_id: str
    proposal: int = 0


class Outcome(Struct, frozen=True):
    """What became of an act. ``unfenced``: it is recorded, but not every fence was moved. ``unknown``: the server did
    not confirm that it is recorded. ``version``: that of the entry."""

    ending: Ending
    words: str = ""
    version: int = 0


_decode: Final = msgspec.msgpack.Decoder(State).decode


def initial(snapshot: bytes = b"") -> State:
    """Return the state of a snapshot; an empty one without. Raises a decoding error of msgspec."""
    return _decode(snapshot) if snapshot else State()


def snapshot(state: State) -> bytes:
    """Return the state as bytes."""
    return msgspec.msgpack.encode(state)


def replay_from(state: State, at: int) -> int | None:
    """Return the number after which updates are asked for at the time ``at`` (ms); None: all."""
    return None if state.last is None or at - state.last_at >= IDLE_MS else state.last


def handle(
    state: State, received: Received, persons: Mapping[str, Person], at: int, token: str, proposals: Proposals = NONE
) -> Show | Act | None:
    """Return what an update asks for, or put an answer in ``state.waiting`` and return None.

    ``persons``: by chat id. ``proposals``: what each open one would change, by its number. ``at``: the server's time
    (ms). ``token``: unpredictable, and never used before."""
    after = replay_from(state, at)
    if after is not None and received.update <= after:
        state.refused += 1
        return None
    for name in [name for name, asked in state.asked.items() if at >= asked.expires]:
        del state.asked[name]
    answer = _answer(state, received, persons, at, token, proposals)
    if isinstance(answer, Act):
        return answer
    _done(state, received, at)
    if isinstance(answer, Reply):
        reply(state, answer)
        return None
    return answer


def reply(state: State, answer: Reply) -> None:
    """Let an answer wait to be sent."""
    state.waiting.append(answer)
    del state.waiting[:-MOST_WAITING]


def sent(state: State, answer: Reply) -> None:
    """Forget an answer that was sent, or never can be."""
    if answer in state.waiting:
        state.waiting.remove(answer)


def acted(state: State, act: Act, outcome: Outcome, at: int) -> None:
    """Apply the outcome of an act. Its question cannot be confirmed again, unless the outcome is not known."""
    asked = state.asked.pop(act.token, None)
    if outcome.ending == "unknown" and asked is not None:
        state.asked[act.token] = structs.replace(asked, expires=at + VALID_MS)  # the same command, tried again
    _done(state, act.received, at)
    lines = (Line("reason", act.reason), Line("by", act.actor), *((Line(outcome.words),) if outcome.words else ()))
    buttons = _buttons(act.act, act.token)[:1] if outcome.ending == "unknown" else ()
    reply(state, Reply(act.received.chat, _title(act.act, outcome), lines, buttons, act.received.tap))


def _title(act: ActName, outcome: Outcome) -> str:
    done = {"halt": "HALTED", "resume": "Resumed", "approve": "Approved", "refuse": "Refused"}[act]
    match outcome.ending:
        case "recorded":
            return f"{done} as version {outcome.version}"
        case "repeated":
            return f"{done} already, as version {outcome.version}; nothing was added"
        case "unfenced":
            return f"{done}, but not in every partition"
        case "refused":
            return f"{_NOUNS[act]} was refused"
        case "unknown":
            return f"It is not known whether {_NOUNS[act].lower()} is recorded"


def _done(state: State, received: Received, at: int) -> None:
    state.last, state.last_at = received.update, at


def _answer(
    state: State, received: Received, persons: Mapping[str, Person], at: int, token: str, proposals: Proposals
) -> Reply | Show | Act | None:
    if not received.chat or not received.sender:
        return None  # nothing that a person sent
    person = persons.get(received.sender)
    if person is None or not received.private:
        return _refuse_stranger(state, received, at)
    if received.tap:
        return _tapped(state, received, person)
    if not received.own:
        return _plain(received, "A forwarded message is not taken for yours. Type the command yourself.")
    word, rest = [*received.text.split(maxsplit=1), "", ""][:2]
    name = word.removeprefix("/").partition("@")[0].casefold()
    if (act := _ACTS.get(name)) is not None:
        return _ask(state, received, person, act, rest, at, token, proposals)
    if _too_many(state, f"person {received.sender}", at, A_MINUTE, MINUTE_MS):
        return _once_too_many(state, received)
    if (topic := _TOPICS.get(name)) is not None:
        return Show(received, topic, rest.strip())
    return _help(received, person) if name in {"start", "help"} else _unknown(received)


def _refuse_stranger(state: State, received: Received, at: int) -> Reply | None:
    if _too_many(state, f"chat {received.chat}", at, 1, STRANGER_MS):
        return None
    if not received.private:
        return _plain(received, "This bot answers in private chats alone.")
    return Reply(
        received.chat,
        "This bot does not know you",
        (
            Line("Who operates it can add you to persons in [phone] of the settings. Your chat id is", received.sender),
            Line("Nothing is shown to you, and nothing that you send has an effect."),
        ),
        tap=received.tap,
    )


def _too_many(state: State, who: str, at: int, most: int, period_ms: int) -> bool:
    pace = state.paces.pop(who, None)
    if pace is None or not 0 <= at - pace.began < period_ms:
        pace = Pace(at)
    pace.count += 1
    state.paces[who] = pace  # the newest last
    if len(state.paces) > MOST_PACES:
        del state.paces[next(iter(state.paces))]
    return pace.count > most


def _once_too_many(state: State, received: Received) -> Reply | None:
    """Return the answer to the first update that is too many, and None to those that follow it."""
    if state.paces[f"person {received.sender}"].count > A_MINUTE + 1:
        return None
    return _plain(received, f"More than {A_MINUTE} questions in a minute are not answered. A halt always is.")


def _ask(
    state: State,
    received: Received,
    person: Person,
    act: ActName,
    rest: str,
    at: int,
    token: str,
    proposals: Proposals,
) -> Reply:
    if why := person.refusals[act]:
        return Reply(received.chat, f"You cannot {act} from here", (Line(why),))
    number, about = 0, tuple[Line, ...]()
    if act in OF_A_PROPOSAL:
        first, _, rest = rest.strip().partition(" ")
        number = int(first) if first.isdecimal() and len(first) <= DIGITS else 0
        if number not in proposals:
            known = ", ".join(str(each) for each in sorted(proposals)) or "none"
            return _plain(received, f"Name an open proposal: /{act} NUMBER REASON. Open are: {known} (/proposals)")
        about = (Line("proposal", str(number)), *proposals[number])
    reason = " ".join(rest.split())
    if len(reason) > REASON:
        return _plain(received, f"A reason has at most {REASON} characters; this one has {len(reason)}.")
    if not reason and act != "halt":
        shown = {"resume": "/resume the exchange answers again"}.get(act, f"/{act} {number} I read its gates")
        return _plain(received, f"{_NOUNS[act]} needs its reason: {shown}")
    reason = reason or "halted by phone, no reason given"
    state.asked[token] = Asked(act, person.actor, reason, received.update, at + VALID_MS, number)
    while len(state.asked) > MOST_ASKED:
        del state.asked[next(iter(state.asked))]
    title = {
        "halt": "Halt? No intent is written until a resume",
        "resume": "Resume? Intents are written again",
        "approve": "Approve? It takes effect at once",
        "refuse": "Refuse? The proposal ends",
    }[act]
    lines = (
        *about,
        Line("reason", reason),
        Line("by", person.actor),
        Line(f"It is signed with your key, which the server holds. Confirm within {VALID_MS // 1000} s."),
    )
    return Reply(received.chat, title, lines, _buttons(act, token))


def _buttons(act: ActName, token: str) -> tuple[Button, Button]:
    return Button(f"{act.capitalize()} now", f"yes {token}"), Button("No", f"no {token}")


def _tapped(state: State, received: Received, person: Person) -> Reply | Act:
    word, _, token = received.data.partition(" ")
    asked = state.asked.get(token)
    if asked is None or asked.actor != person.actor or word not in {"yes", "no"}:
        return _plain(
            received,
            "This button has no effect: its question was answered, is older than a minute, or was asked by another "
            "person. Send the command again.",
        )
    if word == "no":
        del state.asked[token]
        return _plain(received, f"Nothing was done: {_NOUNS[asked.act].lower()} is dropped.")
    if why := person.refusals[asked.act]:
        del state.asked[token]
        return Reply(received.chat, f"You cannot {asked.act} from here", (Line(why),), tap=received.tap)
    return Act(
        received=received,
        token=token,
        act=asked.act,
        actor=asked.actor,
        reason=asked.reason,
        command_id=f"phone-{asked.update}-{token}",
        proposal=asked.proposal,
    )


def _help(received: Received, person: Person) -> Reply:
    shown = [Line(f"/{topic}", words) for topic, words in TOPICS.items()]
    acts = [
        Line(
            f"/{act} {'NUMBER ' if act in OF_A_PROPOSAL else ''}REASON",
            person.refusals[act] or "asks you to confirm, and is signed",
        )
        for act in COMMANDS
    ]
    return Reply(received.chat, f"You are {person.actor}. What you can send:", (*shown, *acts))


def _unknown(received: Received) -> Reply:
    known = ", ".join(f"/{name}" for name in (*TOPICS, *COMMANDS, "help"))
    lines = (
        Line("There are: " + known),
        Line("For everything else there is the console (`conclave --help`) on the server."),
    )
    return Reply(received.chat, "The phone cannot do that; nothing was done", lines)


def _plain(received: Received, sentence: str) -> Reply:
    return Reply(received.chat, sentence, tap=received.tap)
