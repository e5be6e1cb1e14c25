"""Prices in scores, and verdicts about money, are recomputed from what was recorded."""

import math
import random
from collections.abc import Sequence

import pytest
from msgspec import structs

from bench.recorded import BEFORE, commands, market
from bench.recorded_rounds import Recorded
from schemas.codec import ROOT, decode, encode
from schemas.gates import VerdictReached
from schemas.scores import PredictionScored, TradedPrices
from services.gate_evaluator.candidates import WRITE_EVERY
from services.gate_evaluator.core import Evaluator
from services.shadow_recorder.core import Recorder
from shared.audit.findings import Findings
from shared.audit.gates import check_gates
from shared.audit.scores import check_scores
from shared.audit.source import EntryRange
from shared.log import Entry, StreamKey
from shared.runtime.service import Batch, Received
from tests.services.shadow_recorder.world import ART, STREAMS, Builder, Run, World

SCORES, GATES = StreamKey("scores"), StreamKey("gates")


@pytest.fixture(scope="module")
def scored() -> tuple[World, list[bytes]]:
    """A world in which every prediction is scored, and what the recorder writes over it."""
    dice, builder, close = random.Random(1), Builder(), 100.0
    for number in range(1, 240):
        close *= math.exp(dice.gauss(0.0, 0.001))
        builder.bar(number, close)
        if number > 104:
            for name in ART:
                builder.predict(name, number, (0.3, 0.4, 0.3) if number % 2 else (0.2, 0.2, 0.6))
    world = builder.world()
    run = Run(world)
    for _ in range(max(map(len, world.streams.values()))):
        run.take(*STREAMS)
    return world, [output.data for output in run.outputs if output.stream == "scores"]


def checked(world: World, scores: Sequence[bytes]) -> Findings:
    """What verify finds in these scores of a world."""
    source = Recorded()
    for stream in STREAMS:
        place = StreamKey(stream)
        for received in world.streams[stream]:
            envelope = received.envelope
            root = ROOT if envelope.correlation == envelope.id else envelope.correlation
            written = encode(stream, envelope.event, causation=envelope.causation, correlation=root)
            source.places.setdefault(place, []).append(Entry(place, received.entry, written.data))
    source.places[SCORES] = [Entry(SCORES, f"{10**6 + number}-0", data) for number, data in enumerate(scores)]
    return check_scores(source, Recorder(), world.commands, 0, EntryRange())


def without_prices(data: bytes) -> bytes:
    """A score as a release wrote it that recorded no prices; any other event as it is."""
    envelope = decode("scores", data)
    if not isinstance(envelope.event, PredictionScored):
        return data
    event = structs.replace(envelope.event, prices=None)
    return encode(
        "scores", event, causation=envelope.causation, correlation=envelope.correlation, flags=envelope.flags
    ).data


@pytest.mark.parametrize("upgraded", [0.0, 0.5, 1.0])
def test_scores_before_the_first_with_prices_are_of_an_earlier_release_and_compared_without(
    scored: tuple[World, list[bytes]], upgraded: float
) -> None:
    world, scores = scored
    first = int(len(scores) * upgraded)
    found = checked(world, [*map(without_prices, scores[:first]), *scores[first:]])
    assert found.differences == []
    assert found.equal["scores"] == found.checked["scores"] == len(scores)


def test_a_score_that_lost_its_prices_is_found(scored: tuple[World, list[bytes]]) -> None:
    world, scores = scored
    priced = [number for number, data in enumerate(scores) if without_prices(data) != data]
    assert len(priced) > 100
    lost = priced[len(priced) // 2]
    found = checked(world, [*scores[:lost], without_prices(scores[lost]), *scores[lost + 1 :]])
    (difference,) = found.differences
    assert difference.entry == f"{10**6 + lost}-0"
    assert difference.detail.startswith("prices: None recorded")


def judged(scores: Sequence[PredictionScored], verdicts: Sequence[bytes]) -> Findings:
    """What verify finds in these verdicts on a candidate with these scores."""
    source = Recorded()
    for score in scores:
        source.write("scores", encode("scores", score).data)
    for data in verdicts:
        source.write("gates", data)
    return check_gates(source, Evaluator(), commands(first=BEFORE), 0, EntryRange())


def test_a_verdict_about_money_follows_from_scores_and_control_to_the_byte() -> None:
    scores = []
    for number, row in enumerate(market(WRITE_EVERY // 8 + 1)):
        close = 100.0 * 1.001 ** (number // 8)
        prices = TradedPrices(close, close * 1.0002, close * 1.001, 1e6)
        scores.append(structs.replace(row, prices=prices))
    evaluator = Evaluator()
    state = evaluator.initial(b"")
    evaluator.apply(state, Batch(commands(first=BEFORE), ()))
    received = [Received("scores", f"{n}-0", encode("scores", each).envelope) for n, each in enumerate(scores, 1)]
    written = [each for each in evaluator.handle(state, Batch((), received)) if each.stream == "gates"]
    (verdict,) = (each for each in written if isinstance(each.envelope.event, VerdictReached))
    (gate,) = (each for each in verdict.envelope.event.gates if each.name == "money")
    assert gate.effect
    found = judged(scores, [each.data for each in written])
    assert found.differences == []
    assert found.equal["gates"] == found.checked["gates"] == len(written)
    without = judged([structs.replace(each, prices=None) for each in scores], [each.data for each in written])
    assert without.differences, "the verdict does not follow from scores without prices"
