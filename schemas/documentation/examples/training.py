"""Examples of a training request and what follows from it."""

from collections.abc import Iterator
from typing import Any

from schemas.codec import Encoded, encode
from schemas.control import SetVotingPolicy, StackedMember, Stacker
from schemas.documentation.examples.values import ARTIFACT, CHALLENGER, MINUTE, OPEN, caused
from schemas.training import (
    DataAssessed,
    DataReport,
    Ends,
    Gain,
    PenaltyTried,
    PolicyGain,
    Recipe,
    RoundEnds,
    SanityCheck,
    StackerFitted,
    StackerRejected,
    StackerRequested,
    StackerStarted,
    SymbolData,
    TrainingCompleted,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
    TrainingRequested,
    TrainingStarted,
)


def training() -> Iterator[Encoded]:
    """Yield a request and all that can follow from it."""
    recipe = Recipe("xgboost", "core-28", {"rounds": 300, "eta": 0.05}, horizon=12, hold=0.55, seed=1)
    requested = TrainingRequested(
        model="xgboost",
        recipe=recipe,
        cause="drift",
        evidence="1d" * 16,
        actor="trainer",
        reason="inputs of 40414243 drifted: 2 of 8 features alarm",
        at=OPEN,
        window_ms=30 * 86_400_000,
    )
    first = encode("training", requested)
    yield first
    last = OPEN - MINUTE
    of: dict[str, Any] = {"request": first.envelope.id.hex(), "model": "xgboost", "at": OPEN}
    ends = (Ends(0, "1700000040000-3", "1700000040000-4"),)
    started = TrainingStarted(**of, attempt=1, first=0, last=last, ends=ends, worker="trainer (pid 11 on a)")
    report = DataReport(
        interval_ms=MINUTE,
        first=0,
        last=last,
        rows=3949,
        symbols={"BTCUSDT": SymbolData(bars=4100, vectors=4040, rows=3949, gaps=1, missing=2)},
        parts={"train": 2300, "validation": 380, "calibration": 380, "test": 770},
        classes=(0.25, 0.5, 0.25),
        constant=("gap_flag",),
        duplicated=(("rsi_14", "rsi_14_again"),),
        drifted=("rsi_14",),
        drift=0.125,
        against=ARTIFACT.hex(),
        kappa=0.75,
        bars_digest="2b" * 32,
        vectors_digest="2c" * 32,
        unfit=("3 labelled rows; 1,000 are the fewest",),
    )
    losses: dict[str, Any] = {"train_loss": 0.9375, "held_loss": 0.96875}
    answers: dict[str, Any] = {"skill": 0.03125, "spread": 0.25, "entropy": 0.875, "distinct": 40, "top": 0.75}
    rejected = TrainingRejected(
        **of,
        reason="no_information",
        evidence="3 epochs, and at best +0.01% of the prior's log loss was gained",
        quarantine="training/0a1b2c3d/quarantine",
        seconds=1.5,
    )
    completed = TrainingCompleted(
        **of,
        artifact=CHALLENGER.hex(),
        rows={"train": 2300, "validation": 380, "calibration": 380, "test": 770},
        log_loss=0.9375,
        prior_log_loss=0.96875,
        gains=(
            Gain("prior", 31.25, 12.5, 50.0),
            Gain("champion", 0.5, -2.0, 3.0, "it has seen these bars"),
        ),
        sanity=(SanityCheck("one_class", True, 0.625, 0.7),),
        seconds=12.5,
        peak_mb=310.0,
        version=12,
        shadow=True,
    )
    for event in (
        started,
        DataAssessed(**of, report=report),
        TrainingProgressed(**of, stage="reading", number=0, of=1),
        TrainingProgressed(**of, stage="fitting", number=2, of=6, **losses, **answers),
        completed,
        rejected,
        TrainingFailed(**of, reason="interrupted", detail="given up after 3 attempts"),
    ):
        yield caused(first, "training", event)
    yield from _stacker()


def _stacker() -> Iterator[Encoded]:
    """Yield a request for a stacker and all that can follow from it."""
    requested = StackerRequested(
        cause="operator",
        actor="ada",
        reason="weights by evidence",
        at=OPEN,
        base="mean",
        since=OPEN - 90 * 86_400_000,
    )
    first = encode("training", requested)
    yield first
    job = first.envelope.id.hex()
    tried = (
        PenaltyTried(penalty=1.0, value=0.5, low=0.25, high=0.75, least=0.125),
        PenaltyTried(penalty=0.1, value=0.75, low=-0.25, high=1.75, least=-0.5),
    )
    rows = ((0.25, 0.0, -0.125), (-0.125, 0.25, 0.0), (0.0, -0.125, 0.25))
    stacker = Stacker(
        "mean", (StackedMember("lightgbm", CHALLENGER.hex(), rows), StackedMember("xgboost", ARTIFACT.hex(), rows))
    )
    later = PolicyGain(rounds=3200, value=0.5, low=0.125, high=0.875, money=0.25, money_low=-0.5, money_high=1.0)
    ends = (RoundEnds(0, "1700000040000-3", "1700000040000-4"),)
    for event in (
        StackerStarted(request=job, attempt=1, control="1700000040000-0", ends=ends, worker="trainer", at=OPEN),
        StackerFitted(
            request=job,
            policy=SetVotingPolicy(rule="stacker", stacker=stacker),
            digest="3c" * 32,
            rounds=4800,
            penalty=1.0,
            tried=tried,
            later=later,
            scale=0.03125,
            money_scale=0.0009765625,
            seconds=1.5,
            version=13,
            shadow=False,
            at=OPEN,
            note="4 voting policies are in shadow, and no more can be; stop one first",
        ),
        StackerRejected(
            request=job,
            reason="no_certain_gain",
            evidence="its gain over the pool is +0.75 mnat, with a standard error of 0.50",
            tried=tried[1:],
            seconds=1.5,
            at=OPEN,
        ),
    ):
        yield caused(first, "training", event)
