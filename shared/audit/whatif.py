"""Compute what would have been decided under another configuration, by the voter's own code over recorded ballots.

Each recorded decision is one round. The ballot of a model is the recorded one of the chosen artifact, from the counted
and the shadow ballots. For an artifact that is in neither, ``rescored`` supplies the prediction. Consequences of
another decision (fills, later training, a halt) are not simulated: rounds stay as they were. Signed return is that of
``scores``: the action times the plain return over the label's horizon, less its cost.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct, field, structs

from schemas.codec import UnreadableError, decoded_as, framed
from schemas.common import ACTIONS, Action, Probabilities
from schemas.control import RegisterArtifact, SetVotingPolicy
from schemas.decisions import FenceClosed, FenceOpened
from schemas.scores import PredictionScored
from shared.audit.configurations import Configurations
from shared.audit.source import EntryRange, Recording
from shared.audit.votes import Basis
from shared.control import State
from shared.log import StreamKey
from shared.log.events import events_of, reported_elsewhere
from shared.voting.arithmetic import FLOOR
from shared.voting.changes import changed_policy
from shared.voting.in_force import PolicyUse, PolicyUses
from shared.voting.pool import Panel, panel_of, vote

SIGN: Final[dict[Action, int]] = {"SELL": -1, "HOLD": 0, "BUY": 1}
SHOWN: Final = 20
POINTS: Final = 400
"""Largest number of intervals of time in a curve."""


class ChangesError(ValueError):
    """A change that cannot be computed; the message names the reason."""


class Changes(Struct, frozen=True):
    """The changes to a configuration: champions by model, weights by model, fields of the voting policy."""

    champions: dict[str, str] = {}
    weights: dict[str, float] = {}
    policy: dict[str, str] = {}


class WhatifOutcome(NamedTuple):
    """The outcome of a round: the plain return over the horizon, the cost of a trade, and the class."""

    forward_return: float
    cost: float
    action: Action


class Side(Struct):
    """The results under one configuration: counts of actions, rounds without quorum, and sums over rounds with an
    outcome."""

    actions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACTIONS, 0))
    no_quorum: int = 0
    confidence: float = 0.0
    agreement: float = 0.0
    trades: int = 0
    signed_return: float = 0.0
    log_loss: float = 0.0
    hits: int = 0


class Point(NamedTuple):
    """An interval of time: its last bar, rounds, rounds with another action, and returns before and after the
    change."""

    at: int
    rounds: int
    changed: int
    before: float
    after: float


class ChangedRound(NamedTuple):
    """A round with another action."""

    symbol: str
    open_time: int
    decision: str
    before: Action
    after: Action
    signed_before: float | None
    signed_after: float | None


class WhatifResult(Struct):
    """The comparison of the recorded and the changed configuration.

    - ``changed``: rounds with another action. ``moved``: rounds with another probability.
    - ``scored``: rounds with a recorded outcome; returns and losses are sums over these.
    - ``silent``: rounds in which a model with a changed champion has no ballot.
    - ``policies``: the voting policies that were in force, as recorded.
    - ``matrix[i][j]``: rounds with action i before and j after."""

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
    policies: list[PolicyUse] = field(default_factory=list)


Rescored = Callable[[str, str, int, int], Probabilities | None]
"""Return the prediction for (artifact, symbol, interval, open time) of an artifact without a recorded ballot."""


def with_changes(state: State, changes: Changes, known: Mapping[str, RegisterArtifact]) -> State:
    """Return a version of the configuration with the changes applied. Raises ``ChangesError``.

    A model that did not vote under the version does not vote after the changes either."""
    models = dict(state.models)
    for name, artifact in changes.champions.items():
        if name in models and models[name].champion is not None:
            models[name] = structs.replace(models[name], champion=artifact)
    voting = [name for name in sorted(models) if models[name].champion]
    new_weights = {name: weight for name, weight in changes.weights.items() if name in voting}
    if new_weights:
        rest = [name for name in voting if name not in new_weights]
        rest_weight, former_weight = (
            1.0 - math.fsum(new_weights.values()),
            math.fsum(models[name].weight or 0.0 for name in rest),
        )
        if rest_weight < -FLOOR or (not rest and abs(rest_weight) > FLOOR):
            raise ChangesError(
                f"the new weights sum to {1 - rest_weight:.6g}; they must leave a share for the other voting models, "
                f"or sum to 1 if all are given ({', '.join(voting)})"
            )
        for name in voting:
            share = (models[name].weight or 0.0) / former_weight * rest_weight if former_weight else 0.0
            models[name] = structs.replace(models[name], weight=new_weights.get(name, share))
    artifacts = state.artifacts
    for artifact in changes.champions.values():
        if artifact not in artifacts:
            artifacts = artifacts.set(artifact, known[artifact])
    return structs.replace(state, models=models, artifacts=artifacts, policy=with_policy(state.policy, changes.policy))


def with_policy(policy: SetVotingPolicy, given: Mapping[str, str]) -> SetVotingPolicy:
    """Return a voting policy with some fields changed. Raises ``ChangesError``."""
    try:
        return changed_policy(policy, given)
    except msgspec.ValidationError as error:
        raise ChangesError(str(error)) from None


def outcomes(source: Recording, partition: int) -> dict[str, WhatifOutcome]:
    """Return the outcome of each decision, by its event id."""
    by_decision: dict[str, WhatifOutcome] = {}
    for _, envelope in events_of(source.entries(StreamKey("scores", partition)), reported_elsewhere):
        event = envelope.event
        if isinstance(event, PredictionScored) and event.decision is not None:
            by_decision.setdefault(
                event.decision.hex(), WhatifOutcome(math.expm1(event.forward_return), event.cost, event.outcome)
            )
    return by_decision


class _Late(Struct, tag="ballot.late"):
    """An event that is not a decision."""


class _FullDecision(Basis, tag="decision.made", kw_only=True):
    """A decision with its result."""

    status: str
    action: Action
    confidence: float
    probabilities: Probabilities
    consensus_count: int
    total_models: int


_read: Final = msgspec.json.Decoder(_FullDecision | _Late | FenceClosed | FenceOpened).decode


def compare(
    source: Recording,
    configurations: Configurations,
    changes: Changes,
    known: Mapping[str, RegisterArtifact],
    rescored: Rescored,
    partition: int,
    span: EntryRange,
    result: WhatifResult,
    uses: PolicyUses,
) -> None:
    """Add the rounds of a partition to a result, and to ``uses`` the policies in force. Raises ``ChangesError``."""
    by_decision = outcomes(source, partition)
    panels: dict[int, tuple[Panel, list[tuple[str, str]]]] = {}
    policies: dict[int, SetVotingPolicy] = {}
    for entry in source.entries(StreamKey("decisions", partition), span.after, span.until):
        try:
            frame = framed("decisions", entry.data)
            decision = decoded_as("decisions", frame.payload, _read)
        except UnreadableError:
            continue
        if not isinstance(decision, _FullDecision):
            continue
        panel_and_keys = panels.get(decision.control_version)
        if panel_and_keys is None:
            configuration = configurations.at(decision.control_version)
            if configuration is None:
                raise ChangesError(
                    f"decision {frame.id.hex()} is of a version that control does not make; verify first"
                )
            panel = panel_of(with_changes(configuration.state, changes, known))
            panel_and_keys = panels[decision.control_version] = panel, [(m.model, m.artifact) for m in panel.members]
            policies[decision.control_version] = configuration.state.policy
        panel, keys = panel_and_keys
        uses.note(decision.control_version, policies[decision.control_version], decision.open_time)
        ballots = _ballots(decision, keys, rescored)
        result.silent += any(model in changes.champions and model not in ballots for model, _ in keys)
        _add_round(result, decision, panel, ballots, frame.id.hex(), by_decision.get(frame.id.hex()))


def _ballots(decision: _FullDecision, keys: list[tuple[str, str]], rescored: Rescored) -> dict[str, Probabilities]:
    recorded = {(ballot.model, ballot.artifact): ballot.probabilities for ballot in decision.counted}
    for shadow in decision.shadow:
        recorded[shadow.model, shadow.artifact] = shadow.probabilities
    absent_keys = {(absent.model, absent.artifact) for absent in decision.absent}
    ballots: dict[str, Probabilities] = {}
    for key in keys:
        probabilities = recorded.get(key)
        if probabilities is None and key not in absent_keys:
            probabilities = rescored(key[1], decision.symbol, decision.interval_ms, decision.open_time)
        if probabilities is not None:
            ballots[key[0]] = probabilities
    return ballots


def _add_round(
    result: WhatifResult,
    was: _FullDecision,
    panel: Panel,
    ballots: Mapping[str, Probabilities],
    name: str,
    outcome: WhatifOutcome | None,
) -> None:
    now = vote(panel, ballots)
    result.rounds += 1
    result.origins[was.origin] = result.origins.get(was.origin, 0) + 1
    changed = now.action != was.action
    result.changed += changed
    result.moved += changed or now.probabilities != was.probabilities or now.confidence != was.confidence
    result.matrix[ACTIONS.index(was.action)][ACTIONS.index(now.action)] += 1
    _add_vote(
        result.before,
        was.action,
        was.status == "decided",
        was.confidence,
        was.consensus_count / (was.total_models or 1),
    )
    _add_vote(result.after, now.action, now.quorum, now.confidence, now.consensus_count / (len(panel.members) or 1))
    earned = None
    if outcome is not None:
        result.scored += 1
        before = _add_outcome(result.before, was.action, was.probabilities, outcome)
        earned = before, _add_outcome(result.after, now.action, now.probabilities, outcome)
    if changed and len(result.first) < SHOWN:
        result.first.append(
            ChangedRound(was.symbol, was.open_time, name, was.action, now.action, *(earned or (None, None)))
        )
    _add_point(result, was.open_time, changed, *(earned or (0.0, 0.0)))


def _add_vote(side: Side, action: Action, quorum: bool, confidence: float, agreement: float) -> None:
    side.actions[action] += 1
    side.no_quorum += not quorum
    side.confidence += confidence
    side.agreement += agreement


def _add_outcome(side: Side, action: Action, probabilities: Probabilities, outcome: WhatifOutcome) -> float:
    earned = SIGN[action] * outcome.forward_return - outcome.cost if action != "HOLD" else 0.0
    side.trades += action != "HOLD"
    side.signed_return += earned
    side.log_loss -= math.log(max(probabilities[ACTIONS.index(outcome.action)], FLOOR))
    side.hits += action == outcome.action
    return earned


def _add_point(result: WhatifResult, at: int, changed: bool, before: float, after: float) -> None:
    """Append a round to the curve; where there are too many points, join them in pairs."""
    size = max(1, (result.points[0].rounds if result.points else 1))
    last = result.points[-1] if result.points else None
    if last is not None and last.rounds < size:
        result.points[-1] = Point(at, last.rounds + 1, last.changed + changed, last.before + before, last.after + after)
        return
    if len(result.points) >= POINTS:
        pairs = zip(result.points[::2], result.points[1::2], strict=True)
        result.points = [_joined(a, b) for a, b in pairs]
    result.points.append(Point(at, 1, int(changed), before, after))


def _joined(a: Point, b: Point) -> Point:
    return Point(b.at, a.rounds + b.rounds, a.changed + b.changed, a.before + b.before, a.after + b.after)


class Rescorer:
    """Predictions of an artifact without recorded ballots, computed from recorded vectors by the worker's own core.

    ``events`` are the predictions of a core that serves this artifact alone."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._predicted: dict[tuple[str, int, int], Probabilities] = {}
        self._reached: dict[tuple[str, int], int] = {}

    def __call__(self, symbol: str, interval_ms: int, open_time: int) -> Probabilities | None:
        """Return the prediction for a bar; None if there is none. Call it in the order of the bars."""
        while self._reached.get((symbol, interval_ms), -1) < open_time:
            event = next(self._events, None)
            if event is None:
                break
            key = (event.symbol, event.interval_ms, event.open_time)
            self._reached[key[:2]] = event.open_time
            if hasattr(event, "probabilities"):
                self._predicted[key] = event.probabilities
        return self._predicted.pop((symbol, interval_ms, open_time), None)
