"""Recorded rounds with outcomes, as the voter and the shadow-recorder write them: two models vote, and the second may
be right, wrong, or know nothing."""

import math
import random
from typing import Any, Final

from bench.recorded import MINUTE, START, scored, softmax
from schemas.codec import Encoded, encode
from schemas.common import ACTIONS, Probabilities
from schemas.control import Command, Found, Promote, RegisterArtifact, SetVotingPolicy
from schemas.decisions import DecisionMade
from schemas.predictions import PredictionMade
from services.ensemble_voter.core import Voter
from shared.control import State
from shared.control.issuing import ControlWriter, current
from shared.log import START as FIRST
from shared.log import Commit, Log, Owner, StreamKey
from shared.runtime.entries import decoded
from shared.runtime.service import Batch, Received

HOUR: Final = 60 * MINUTE
ARTIFACTS: Final = {"a": "a1" * 32, "b": "b1" * 32}
THIRD: Final = (math.log(1 / 3),) * 3
WHY: Final[dict[str, Any]] = {"actor": "ada", "reason": "a test"}


def commands() -> list[Command]:
    """An installation whose two models vote with equal weights."""
    registered = [
        RegisterArtifact(
            model=model,
            artifact=artifact,
            family="prior",
            feature_set="5e" * 32,
            feature_set_name="s",
            interval_ms=HOUR,
            classes=ACTIONS,
            centre=THIRD,
            prior=(1 / 3, 1 / 3, 1 / 3),
            horizon=1,
            kappa=0.5,
        )
        for model, artifact in ARTIFACTS.items()
    ]
    promoted = [
        Promote("a", ARTIFACTS["a"], forced=True, weight=1.0),
        Promote("b", ARTIFACTS["b"], forced=True, weight=0.5),
    ]
    policy = SetVotingPolicy(rule="mean", quorum_count=1, edge=0.3)
    return [Found(1, "log-of-a-test"), *registered, *promoted, policy]


async def found(log: Log) -> None:
    """Issue ``commands``."""
    control = ControlWriter(log)
    for command in commands():
        await control.issue(command, **WHY)


async def record(
    log: Log, count: int, *, informed: tuple[float, float] = (1.0, -1.0), first: int = 0, seed: int = 7
) -> list[DecisionMade]:
    """Write ``count`` decisions from the bar ``first`` on, with their scores, and return them. Each model sees its part
    of the true log odds."""
    state = await current(log)
    entries = await log.scan(StreamKey("control"), after=FIRST, count=1000)
    voter = Voter(ticks=0)
    held = voter.initial(b"")
    events, _ = decoded(entries, "ensemble-voter")
    voter.apply(held, Batch([event.envelope for event in events], ()))
    dice = random.Random(seed)
    outputs: list[Encoded] = []
    made: list[DecisionMade] = []
    for number in range(first, first + count):
        seen = dice.gauss(0, 0.6)
        outcome = dice.choices(range(3), softmax([-seen, 0.0, seen]))[0]
        ballots = []
        for model, share in zip(ARTIFACTS, informed, strict=True):
            logits = [share * each + dice.gauss(0, 0.05) for each in (-seen, 0.0, seen)]
            ballots.append(_ballot(state, model, START + number * HOUR, softmax(logits)))
        received = [Received("predictions", f"{number}-{k}", one.envelope) for k, one in enumerate(ballots)]
        for output in voter.handle(held, Batch((), received)):
            event = output.envelope.event
            if isinstance(event, DecisionMade):
                made.append(event)
                outputs += [output, _score(number, output, event, outcome, dice)]
    for stream, group in (("decisions", "ensemble-voter"), ("scores", "shadow-recorder")):
        claim = await log.claim(group, (), 0, Owner("elsewhere", 1, group))
        await log.commit(claim, Commit([each for each in outputs if each.stream == stream], {}, {}))
        await log.release(claim)
    return made


def _ballot(state: State, model: str, open_time: int, probabilities: Probabilities) -> Encoded:
    return encode(
        "predictions",
        PredictionMade(
            symbol="SYN",
            interval_ms=HOUR,
            open_time=open_time,
            origin="synthetic",
            model=model,
            artifact=bytes.fromhex(ARTIFACTS[model]),
            probabilities=probabilities,
            vector=bytes(16),
            control_version=state.version,
            control_head=bytes.fromhex(state.head),
        ),
    )


def _score(number: int, output: Encoded, event: DecisionMade, outcome: int, dice: random.Random) -> Encoded:
    move = 0.004 * (outcome - 1) + dice.gauss(0, 0.001)
    about = {
        "model": "a",
        "artifact": bytes.fromhex(ARTIFACTS["a"]),
        "role": "voting",
        "forward_return": math.log1p(move),
        "cost": 0.001,
        "decision": output.envelope.id,
        "control_version": event.control_version,
    }
    return encode("scores", scored(number, "SYN", event.probabilities, outcome, **about))
