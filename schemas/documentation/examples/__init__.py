"""One example of every event, as a chain: a bar, what follows from it, and the commands before it.

They are shown in the AsyncAPI document. The bytes that each release wrote for them are kept for ever
(``tests/schemas/golden``).
"""

from struct import pack

from schemas.codec import SAMPLED, Encoded, encode
from schemas.decisions import FenceClosed, FenceOpened
from schemas.documentation.examples.access import access
from schemas.documentation.examples.commands import commands
from schemas.documentation.examples.decisions import decision_of, failure, intent_of, late_ballot, other_features
from schemas.documentation.examples.evidence import gates, scores
from schemas.documentation.examples.inputs import inputs
from schemas.documentation.examples.operations import operations
from schemas.documentation.examples.trading import orders
from schemas.documentation.examples.training import training
from schemas.documentation.examples.values import ARTIFACT, OPEN, SET, STAMP, UP, WHERE, caused
from schemas.documentation.examples.venue import venue
from schemas.features import FeaturesComputed
from schemas.market import BarClosed, ReferenceCopied
from schemas.predictions import PredictionMade


def examples() -> tuple[Encoded, ...]:
    """Return at least one encoded event of every type of every stream, the same ones at each call."""
    bar = encode(
        "market",
        BarClosed(**WHERE, open=37_000.5, high=37_012.25, low=36_990.0, close=37_005.75, volume=12.5),
        flags=SAMPLED,
    )
    detailed = encode(
        "market",
        BarClosed(
            **{**WHERE, "symbol": "BTC/USDT", "origin": "live"},
            open=37_000.5,
            high=37_012.25,
            low=36_990.0,
            close=37_005.75,
            volume=12.5,
            trades=301,
            quote_volume=462_571.875,
            taker_volume=7.25,
        ),
    )
    copied = encode(
        "market",
        ReferenceCopied(**WHERE, open=37_000.5, high=37_012.25, low=36_990.0, close=37_005.75, volume=12.5),
    )
    values = pack("<4f", 1.5, -0.25, 0, 3)
    vector = caused(bar, "features", FeaturesComputed(**WHERE, **STAMP, feature_set=SET, values=values))
    ballot = caused(
        vector,
        "predictions",
        PredictionMade(
            **WHERE,
            model="xgboost",
            artifact=ARTIFACT,
            probabilities=UP,
            vector=vector.envelope.id,
            **STAMP,
        ),
    )
    decision = caused(ballot, "decisions", decision_of(ballot.envelope))
    intent = caused(decision, "intents", intent_of(decision.envelope))
    return (
        bar,
        detailed,
        copied,
        *(encode("market", each) for each in inputs()),
        vector,
        *other_features(bar),
        ballot,
        caused(vector, "predictions", failure(vector.envelope)),
        decision,
        caused(ballot, "decisions", late_ballot(ballot.envelope)),
        encode("decisions", FenceClosed("5f1e0a7c", "ada", "exchange outage", OPEN)),
        encode("decisions", FenceOpened("77aa01c2", "ada", "exchange is back", OPEN)),
        intent,
        *orders(intent),
        *(encode("control", command) for command in commands()),
        *operations(),
        *venue(),
        *access(),
        *scores(ballot, decision),
        *gates(),
        *training(),
    )
