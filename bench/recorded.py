"""Make scores of a synthetic market, for tests: of a candidate with a known skill and a champion with less."""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import structs

from schemas.codec import Envelope, encode
from schemas.common import ACTIONS
from schemas.control import Command, CommandRecorded, Found, Promote, RegisterArtifact, StartShadow
from schemas.gates import GateVerdict, VerdictReached
from schemas.scores import BallotMissing, InterferenceChecked, PredictionScored, PredictionUnscored
from shared.control import EMPTY, fold, propose
from shared.log import Commit, Log
from shared.runtime.process import owner

MINUTE = 60_000
START = 1_704_067_200_000
CANDIDATE, CHAMPION, OTHER = b"\xca" * 32, b"\xc4" * 32, b"\x07" * 32
PRIOR = (0.25, 0.5, 0.25)


def softmax(values: list[float]) -> tuple[float, float, float]:
    powers = [math.exp(value) for value in values]
    sell, hold, buy = (power / sum(powers) for power in powers)
    return sell, hold, buy


def scored(bar: int, symbol: str, said: tuple[float, float, float], outcome: int, **other: Any) -> PredictionScored:
    """Return one scored prediction of the candidate, in shadow."""
    action = max(range(3), key=lambda k: said[k])
    fields: dict[str, Any] = {
        "symbol": symbol,
        "interval_ms": 60 * MINUTE,
        "open_time": START + bar * 60 * MINUTE,
        "origin": "synthetic",
        "model": "xgboost",
        "artifact": CANDIDATE,
        "role": "shadow",
        "late": False,
        "probabilities": said,
        "prior": PRIOR,
        "action": ACTIONS[action],
        "outcome": ACTIONS[outcome],
        "hit": action == outcome,
        "forward_return": 0.001 * (outcome - 1),
        "scale": 0.001,
        "kappa": 0.5,
        "horizon": 1,
        "ends": START + (bar + 1) * 60 * MINUTE,
        "hour_return": 0.001 * (outcome - 1),
        "log_loss": -math.log(max(said[outcome], 1e-9)),
        "brier": sum((p - (k == outcome)) ** 2 for k, p in enumerate(said)),
        "signed_return": 0.001 * (outcome - 1) * (action - 1),
        "cost": 0.0,
        "incumbent": PRIOR,
        "incumbent_artifact": CHAMPION,
        "incumbent_return": 0.0,
        "pool_with": said,
        "pool_without": PRIOR,
        "decided": ACTIONS[max(range(3), key=lambda k: PRIOR[k])],
        "control_version": 7,
        "prediction": bytes(16),
        "decision": bytes(16),
        "latency_ms": 12,
    }
    return PredictionScored(**{**fields, **other})


def market(bars: int, seed: int = 7, signal: float = 1.2, symbols: int = 8) -> Iterator[PredictionScored]:
    """Yield scores of a candidate that predicts the true probabilities; the champion's log odds are half as large.

    ``signal`` is the strength of the true signal."""
    random_ = random.Random(seed)
    for bar in range(bars):
        for number in range(symbols):
            seen = random_.gauss(0, 1)
            truth = softmax(
                [math.log(PRIOR[0]) - signal * seen, math.log(PRIOR[1]), math.log(PRIOR[2]) + signal * seen]
            )
            weak = softmax([math.log(p) + 0.5 * math.log(q / p) for p, q in zip(PRIOR, truth, strict=True)])
            outcome = random_.choices(range(3), truth)[0]
            decided = ACTIONS[max(range(3), key=lambda k: weak[k])]
            yield scored(
                bar,
                f"SYN{number}",
                truth,
                outcome,
                incumbent=weak,
                pool_without=weak,
                decided=decided,
                latency_ms=5 + int(random_.expovariate(0.2)),
            )


def wrong(bars: int, **other: Any) -> list[PredictionScored]:
    """Return scores of a promoted candidate that is sure of wrong outcomes; the former champion has no skill."""
    found = []
    for bar in range(bars):
        for number in range(8):
            name, outcome = f"SYN{number}", (bar + number) % 3
            sure = (0.9, 0.06, 0.04) if outcome else (0.05, 0.05 + 0.001 * (bar % 50), 0.9 - 0.001 * (bar % 50))
            about = {"control_version": 8, **other}
            found.append(scored(bar, name, sure, outcome, role="voting", **about))
            found.append(scored(bar, name, PRIOR, outcome, artifact=CHAMPION, **about))
    return found


def about(event: PredictionScored) -> dict[str, Any]:
    names = ("symbol", "interval_ms", "open_time", "origin", "control_version")
    return {name: getattr(event, name) for name in names}


def unscored(event: PredictionScored, reason: Any = "gap", detail: str = "3 bars are missing") -> PredictionUnscored:
    return PredictionUnscored(
        **about(event),
        model=event.model,
        artifact=event.artifact,
        role=event.role,
        reason=reason,
        detail=detail,
        prediction=bytes(16),
    )


def missing(event: PredictionScored) -> BallotMissing:
    return BallotMissing(
        **about(event), model=event.model, artifact=event.artifact, role=event.role, detail="silent", decision=bytes(16)
    )


def checked(event: PredictionScored, count: int, equal: int, decision: bytes = bytes(16)) -> InterferenceChecked:
    return InterferenceChecked(
        **about(event), decision=decision, shadows=1, equal=count == equal, detail="", checked=count, equal_so_far=equal
    )


def verdict(overall: Any = "passed", **other: Any) -> VerdictReached:
    gates = (
        GateVerdict("distinct", "passed", "critical", 812.0, 50.0, 4800, None, None, detail="answers, rounded to 1e-3"),
        GateVerdict("skill", overall, "needed", 24.5, 2.9957, 31, 0.01, 0.05, effect=0.03, detail="gain +0.03 a row"),
    )
    fields: dict[str, Any] = {
        "model": "xgboost",
        "artifact": CANDIDATE.hex(),
        "champion": CHAMPION.hex(),
        "policy": "default",
        "policy_digest": "2a" * 32,
        "overall": overall,
        "gates": gates,
        "scores": 4800,
        "since": START,
        "until": START + 600 * 60 * MINUTE,
        "first_score": "1a" * 16,
        "last_score": "1b" * 16,
        "control_version": 7,
        "recommended_weight": 0.05,
    }
    return VerdictReached(**{**fields, **other})


def register(artifact: bytes, **also: Any) -> RegisterArtifact:
    centre = (-1.1, -1.1, -1.1)
    about: dict[str, Any] = {"horizon": 1, "kappa": 0.5, **also}
    return RegisterArtifact(
        model="xgboost",
        artifact=artifact.hex(),
        family="prior",
        feature_set="f" * 64,
        feature_set_name="user-8",
        interval_ms=60 * MINUTE,
        classes=ACTIONS,
        centre=centre,
        prior=PRIOR,
        **about,
    )


BEFORE: tuple[Command, ...] = (
    Found(1, "log-of-a-test"),
    register(CHAMPION),
    register(CANDIDATE),
    register(OTHER),
    Promote("xgboost", CHAMPION.hex(), forced=True, weight=1.0),
    StartShadow("xgboost", CANDIDATE.hex()),
    StartShadow("xgboost", OTHER.hex()),
)
"""The commands that lead to version 7, under which the scores of this module are made."""


def commands(*later: tuple[int, Command], first: Sequence[Command] = BEFORE) -> list[Envelope[CommandRecorded]]:
    """Return the control stream: ``first``, then each of ``later`` at its time (ms)."""
    state, found = EMPTY, []
    for number, (at, command) in enumerate([*((1, one) for one in first), *later]):
        entry = propose(state, command, command_id=str(number), actor="ada", reason="a test", at=at)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
        found.append(encode("control", entry).envelope)
    return found


def two_models() -> list[Command]:
    """Return commands after which two models vote from version 6 on, with equal weights."""
    second = structs.replace(register(OTHER), model="lightgbm")
    return [*BEFORE[:3], second, BEFORE[4], Promote("lightgbm", OTHER.hex(), forced=True, weight=0.5)]


def votes(bars: int) -> list[PredictionScored]:
    """Return scores of two voting models, of which one has skill and the other has none."""
    found = []
    for row in market(bars):
        about = {"role": "voting", "control_version": 6}
        found.append(structs.replace(row, artifact=CHAMPION, **about))
        found.append(structs.replace(row, model="lightgbm", artifact=OTHER, probabilities=PRIOR, **about))
    return found


async def record(log: Log, stream: str, events: Iterable[Any], partition: int = 0) -> list[str]:
    """Write events as the service that owns the stream does, and return their ids."""
    group = f"writer-of-{stream}"
    claim = await log.claim(group, (), partition, owner(group), take_over=True)
    sealed = [encode(stream, event) for event in events]
    for start in range(0, len(sealed), 500):
        await log.commit(claim, Commit(sealed[start : start + 500], {}, {}))
    return [one.envelope.id.hex() for one in sealed]
