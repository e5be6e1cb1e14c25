"""What would have been decided under another configuration: the voter's vote again over recorded ballots.

A round is a recorded decision. Each model's ballot is the recorded one of the artifact that is asked for, from
among the champions' and the shadows'; of an artifact that was in neither it comes from ``rescored``. What would
*follow* from another decision (fills, later training, a halt) is not played out: rounds stay as they were. Signed
return is that of ``scores``: the action times the plain return over the label's horizon, less its cost.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct, field, structs

from schemas.codec import UnreadableError, decode, framed
from schemas.common import ACTIONS, Action, Probabilities
from schemas.control import RegisterArtifact, SetVotingPolicy
from schemas.decisions import FenceClosed, FenceOpened
from schemas.scores import PredictionScored
from shared.audit.configurations import Configurations
from shared.audit.source import EntryRange, Recording
from shared.audit.votes import Basis
from shared.control import State
from shared.log import StreamKey
from shared.voting.pool import FLOOR, Panel, panel_of, vote

SIGN: Final[dict[Action, int]] = {"SELL": -1, "HOLD": 0, "BUY": 1}
SHOWN: Final = 20
POINTS: Final = 400
"""How many stretches of time a curve is kept in at most."""


class AskedError(ValueError):
    """A change that cannot be asked for. Says why."""


class Asked(Struct, frozen=True):
    """What is to be another: champions by model, weights by model, the voting policy's fields."""

    champions: dict[str, str] = {}
    weights: dict[str, float] = {}
    policy: dict[str, str] = {}


class WhatifOutcome(NamedTuple):
    """What came after a round: the plain return over the horizon, the cost of a trade, and the class."""

    forward_return: float
    cost: float
    action: Action


class Side(Struct):
    """How one side did: actions, rounds without quorum, and sums over the rounds with an outcome."""

    actions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACTIONS, 0))
    no_quorum: int = 0
    confidence: float = 0.0
    agreement: float = 0.0
    trades: int = 0
    signed_return: float = 0.0
    log_loss: float = 0.0
    hits: int = 0


class Point(NamedTuple):
    """A stretch of time: its last bar, rounds, rounds with another action, and returns before and after."""

    at: int
    rounds: int
    changed: int
    before: float
    after: float


class ChangedRound(NamedTuple):
    """A round that would have ended another way."""

    symbol: str
    open_time: int
    decision: str
    before: Action
    after: Action
    signed_before: float | None
    signed_after: float | None


class WhatifAnswer(Struct):
    """The whole of it. ``changed``: rounds with another action; ``moved``: with another probability at all.
    ``scored``: rounds with a recorded outcome, which returns and losses are over. ``silent``: rounds in which a
    model that is asked for has no ballot. ``matrix[i][j]``: action i before, j after."""

    rounds: int = 0
    changed: int = 0
    moved: int = 0
    scored: int = 0
    silent: int = 0
    before: Side = field(default_factory=Side)
    after: Side = field(default_factory=Side)
    matrix: list[list[int]] = field(default_factory=lambda: [[0, 0, 0], [0, 0, 0], [0, 0, 0]])
    first: list[ChangedRound] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    origins: dict[str, int] = field(default_factory=dict)


Rescored = Callable[[str, str, int, int], Probabilities | None]
"""The answer of (artifact, symbol, interval, open time), for an artifact that was not there."""


def altered(state: State, asked: Asked, known: Mapping[str, RegisterArtifact]) -> State:
    """A version with what is asked for in place of what was. A model that did not vote under it does not vote
    now. Raises ``AskedError``."""
    models = dict(state.models)
    for name, artifact in asked.champions.items():
        if name in models and models[name].champion is not None:
            models[name] = structs.replace(models[name], champion=artifact)
    voting = [name for name in sorted(models) if models[name].champion]
    given = {name: weight for name, weight in asked.weights.items() if name in voting}
    if given:
        rest = [name for name in voting if name not in given]
        left, held = 1.0 - math.fsum(given.values()), math.fsum(models[name].weight or 0.0 for name in rest)
        if left < -FLOOR or (not rest and abs(left) > FLOOR):
            raise AskedError(
                f"weights sum to {1 - left:.6g}; of {', '.join(voting)} they must leave the others a share"
            )
        for name in voting:
            share = (models[name].weight or 0.0) / held * left if held else 0.0
            models[name] = structs.replace(models[name], weight=given.get(name, share))
    artifacts = state.artifacts
    for artifact in asked.champions.values():
        if artifact not in artifacts:
            artifacts = artifacts.set(artifact, known[artifact])
    return structs.replace(state, models=models, artifacts=artifacts, policy=policy_of(state.policy, asked.policy))


def policy_of(policy: SetVotingPolicy, given: Mapping[str, str]) -> SetVotingPolicy:
    """A policy with some fields another. Raises ``AskedError``."""
    try:
        return msgspec.convert({**structs.asdict(policy), **given}, SetVotingPolicy, strict=False)
    except msgspec.ValidationError as error:
        raise AskedError(str(error)) from None


def outcomes(source: Recording, partition: int) -> dict[str, WhatifOutcome]:
    """What came after each decision, by its event id."""
    found: dict[str, WhatifOutcome] = {}
    for entry in source.entries(StreamKey("scores", partition)):
        try:
            event = decode("scores", entry.data).event
        except UnreadableError:
            continue
        if isinstance(event, PredictionScored) and event.decision is not None:
            found.setdefault(
                event.decision.hex(), WhatifOutcome(math.expm1(event.forward_return), event.cost, event.outcome)
            )
    return found


class _Late(Struct, tag="ballot.late"):
    """Not a decision."""


class _Whole(Basis, tag="decision.made", kw_only=True):
    """A decision with what came of it."""

    status: str
    action: Action
    confidence: float
    probabilities: Probabilities
    consensus_count: int
    total_models: int


_read: Final = msgspec.json.Decoder(_Whole | _Late | FenceClosed | FenceOpened).decode


def ask(
    source: Recording,
    configurations: Configurations,
    asked: Asked,
    known: Mapping[str, RegisterArtifact],
    rescored: Rescored,
    partition: int,
    span: EntryRange,
    into: WhatifAnswer,
) -> None:
    """Adds the rounds of a partition to an answer. Raises ``AskedError``."""
    came = outcomes(source, partition)
    panels: dict[int, tuple[Panel, list[tuple[str, str]]]] = {}
    for entry in source.entries(StreamKey("decisions", partition), span.after, span.until):
        try:
            frame = framed("decisions", entry.data)
            decision = _read(frame.payload)
        except (UnreadableError, msgspec.DecodeError):
            continue
        if not isinstance(decision, _Whole):
            continue
        made = panels.get(decision.control_version)
        if made is None:
            configuration = configurations.at(decision.control_version)
            if configuration is None:
                raise AskedError(f"decision {frame.id.hex()} is of a version that control does not make; verify first")
            panel = panel_of(altered(configuration.state, asked, known))
            made = panels[decision.control_version] = panel, [(m.model, m.artifact) for m in panel.members]
        panel, voices = made
        ballots = _ballots(decision, voices, rescored)
        into.silent += any(model in asked.champions and model not in ballots for model, _ in voices)
        _take(into, decision, panel, ballots, frame.id.hex(), came.get(frame.id.hex()))


def _ballots(decision: _Whole, voices: list[tuple[str, str]], rescored: Rescored) -> dict[str, Probabilities]:
    cast = {(ballot.model, ballot.artifact): ballot.probabilities for ballot in decision.counted}
    for shadow in decision.shadow:
        cast[shadow.model, shadow.artifact] = shadow.probabilities
    gone = {(absent.model, absent.artifact) for absent in decision.absent}
    found: dict[str, Probabilities] = {}
    for voice in voices:
        said = cast.get(voice)
        if said is None and voice not in gone:
            said = rescored(voice[1], decision.symbol, decision.interval_ms, decision.open_time)
        if said is not None:
            found[voice[0]] = said
    return found


def _take(
    into: WhatifAnswer,
    was: _Whole,
    panel: Panel,
    ballots: Mapping[str, Probabilities],
    name: str,
    came: WhatifOutcome | None,
) -> None:
    now = vote(panel, ballots)
    into.rounds += 1
    into.origins[was.origin] = into.origins.get(was.origin, 0) + 1
    changed = now.action != was.action
    into.changed += changed
    into.moved += changed or now.probabilities != was.probabilities or now.confidence != was.confidence
    into.matrix[ACTIONS.index(was.action)][ACTIONS.index(now.action)] += 1
    _add(
        into.before, was.action, was.status == "decided", was.confidence, was.consensus_count / (was.total_models or 1)
    )
    _add(into.after, now.action, now.quorum, now.confidence, now.consensus_count / (len(panel.members) or 1))
    earned = None
    if came is not None:
        into.scored += 1
        before = _earn(into.before, was.action, was.probabilities, came)
        earned = before, _earn(into.after, now.action, now.probabilities, came)
    if changed and len(into.first) < SHOWN:
        into.first.append(
            ChangedRound(was.symbol, was.open_time, name, was.action, now.action, *(earned or (None, None)))
        )
    _mark(into, was.open_time, changed, *(earned or (0.0, 0.0)))


def _add(side: Side, action: Action, quorum: bool, confidence: float, agreement: float) -> None:
    side.actions[action] += 1
    side.no_quorum += not quorum
    side.confidence += confidence
    side.agreement += agreement


def _earn(side: Side, action: Action, probabilities: Probabilities, came: WhatifOutcome) -> float:
    earned = SIGN[action] * came.forward_return - came.cost if action != "HOLD" else 0.0
    side.trades += action != "HOLD"
    side.signed_return += earned
    side.log_loss -= math.log(max(probabilities[ACTIONS.index(came.action)], FLOOR))
    side.hits += action == came.action
    return earned


def _mark(into: WhatifAnswer, at: int, changed: bool, before: float, after: float) -> None:
    """Appends a point; where there are too many, each two become one."""
    size = max(1, (into.points[0].rounds if into.points else 1))
    last = into.points[-1] if into.points else None
    if last is not None and last.rounds < size:
        into.points[-1] = Point(at, last.rounds + 1, last.changed + changed, last.before + before, last.after + after)
        return
    if len(into.points) >= POINTS:
        pairs = zip(into.points[::2], into.points[1::2], strict=True)
        into.points = [_joined(a, b) for a, b in pairs]
    into.points.append(Point(at, 1, int(changed), before, after))


def _joined(a: Point, b: Point) -> Point:
    return Point(b.at, a.rounds + b.rounds, a.changed + b.changed, a.before + b.before, a.after + b.after)


class Rescorer:
    """Answers of an artifact that was not there, from recorded vectors, by the worker's own core: it is handed
    in as one that serves this artifact alone."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._said: dict[tuple[str, int, int], Probabilities] = {}
        self._reached: dict[tuple[str, int], int] = {}

    def __call__(self, symbol: str, interval_ms: int, open_time: int) -> Probabilities | None:
        """The answer about a bar; bars are asked for in order."""
        while self._reached.get((symbol, interval_ms), -1) < open_time:
            event = next(self._events, None)
            if event is None:
                break
            key = (event.symbol, event.interval_ms, event.open_time)
            self._reached[key[:2]] = event.open_time
            if hasattr(event, "probabilities"):
                self._said[key] = event.probabilities
        return self._said.pop((symbol, interval_ms, open_time), None)
