"""Measure the time to vote on rounds under another configuration; check that an equal configuration changes nothing."""

import random
import time
from pathlib import Path

from bench.harness import Figure
from bench.recorded import scored
from bench.recorded_rounds import MODELS, recorded
from schemas.codec import decode, encode
from schemas.decisions import DecisionMade
from services.console.research.whatif import whatif_result
from shared.artifacts import ArtifactStore
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.whatif import Changes, WhatifResult
from shared.log import StreamKey


def run(quick: bool) -> dict[str, Figure]:
    """Return the figures of an unchanged configuration and of another weight, on the same rounds with outcomes."""
    source = recorded(5_000 if quick else 100_000)
    draw = random.Random(3)
    for entry in list(source.places[StreamKey("decisions")]):
        envelope = decode("decisions", entry.data)
        if isinstance(envelope.event, DecisionMade):
            for model in MODELS:
                came = draw.gauss(0.0, 0.002)
                event = scored(0, "P0S0", (0.3, 0.4, 0.3), 1, model=model, forward_return=came, decision=envelope.id)
                source.write("scores", encode("scores", event).data)
    configurations = Configurations(source, Findings())

    def timed(asked: Changes) -> tuple[float, WhatifResult]:
        begun = time.perf_counter()
        answer = whatif_result(source, configurations, asked, ArtifactStore(Path("nowhere")))
        return time.perf_counter() - begun, answer

    _, same = timed(Changes())
    took, other = timed(Changes(weights={MODELS[0]: 0.7}))
    per = 100_000 / other.rounds
    return {
        "identity": Figure(same.moved, f"of {same.rounds:,} rounds moved", "<= 0"),
        "another weight": Figure(other.changed, f"of {other.rounds:,} decisions changed"),
        "time": Figure(took * per, "s for 100,000 rounds with their outcomes", "< 5"),
    }
