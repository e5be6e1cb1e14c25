from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from schemas.codec import Encoded, decode, encode
from schemas.common import ACTIONS
from schemas.control import (
    Command,
    CommandRecorded,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Retire,
    StartShadow,
    StopShadow,
)
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.predictions import PredictionFailed, PredictionMade
from schemas.readiness import ArtifactFailed, ArtifactReady
from services.model_worker import windows
from services.model_worker.core import ModelWorker, State
from services.model_worker.inference import Predictor
from services.model_worker.members import Fault, Loaded
from services.model_worker.windows import MILESTONE
from shared.control import EMPTY, fold, head_of, propose
from shared.families.base import LONGEST_WINDOW
from shared.runtime.service import Batch, Received

MINUTE = 60_000
SET_A, SET_B = b"\xaa" * 32, b"\xbb" * 32
ONE, TWO, WINDOWED = "11" * 32, "22" * 32, "33" * 32
OWNER, LIFE = "model-worker.m (pid 7 on a)", "6f1d09b2"


@dataclass
class Fake:
    """An artifact of three features whose P(SELL) is the mean of its window, kept in (0, 1)."""

    feature_set: str = SET_A.hex()
    interval_ms: int = MINUTE
    window: int = 1
    features: int = 3
    batch_rows: int | None = None
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def predict(self, windows: np.ndarray) -> np.ndarray:
        self.shapes.append(windows.shape)
        if (windows == 13.0).any():
            raise ArithmeticError("thirteen")
        sell = 0.25 + 0.5 / (1 + np.exp(-windows.astype(np.float64).reshape(len(windows), -1).mean(axis=1)))
        p = np.stack([sell, 0.9 - sell, np.full(len(windows), 0.1)], axis=1)
        p[(windows == 99.0).any(axis=(1, 2))] = np.nan
        p[(windows == 98.0).any(axis=(1, 2)), 2] = 0.2
        return p


def control(*commands: Command) -> list[Any]:
    """The control stream of an installation with these commands."""
    state, recorded = EMPTY, []
    for number, command in enumerate((Found(1, "the-log-of-tests"), *commands)):
        entry = propose(state, command, command_id=f"c{number}", actor="test", reason="test", at=0)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
        recorded.append(encode("control", entry).envelope)
    return recorded


def register(artifact: str, feature_set: bytes = SET_A, interval_ms: int = MINUTE, model: str = "m") -> Command:
    third = (-1.1, -1.1, -1.1)
    return RegisterArtifact(
        model=model,
        artifact=artifact,
        family="fake",
        feature_set=feature_set.hex(),
        feature_set_name="abc",
        interval_ms=interval_ms,
        classes=ACTIONS,
        centre=third,
        prior=(0.25, 0.5, 0.25),
    )


CHAMPION = (register(ONE), Promote("m", ONE, forced=True, weight=1.0))


def vector(
    bar: int, values: Sequence[float] = (0.1, 0.2, 0.3), symbol: str = "AAA", feature_set: bytes = SET_A, **other: Any
) -> FeaturesComputed:
    data = np.array(values, dtype="<f4").tobytes()
    interval = other.pop("interval_ms", MINUTE)
    return FeaturesComputed(
        symbol=symbol,
        interval_ms=interval,
        open_time=bar * interval,
        origin="synthetic",
        feature_set=feature_set,
        values=data,
    )


def withheld(bar: int, symbol: str = "AAA", feature_set: bytes = SET_A) -> FeaturesWithheld:
    return FeaturesWithheld(
        symbol=symbol,
        interval_ms=MINUTE,
        open_time=bar * MINUTE,
        origin="synthetic",
        feature_set=feature_set,
        reason="warming",
        have=7,
        need=319,
    )


def under(event: Any, control: Sequence[Any]) -> Any:
    """A vector with the stamp that the feature-builder gives it once it has read these commands."""
    newest = control[-1].event
    return structs.replace(event, control_version=newest.version, control_head=bytes.fromhex(head_of(newest)))


def received(events: Iterable[Any], first: int = 1) -> list[Received]:
    """As the log would hand them over: each caused by, and correlated with, a bar of its own."""
    return [
        Received(
            "features",
            f"{5 + number // 3}-{number % 3}",
            encode(
                "features",
                event,
                causation=(event.open_time + 1).to_bytes(16, "big"),
                correlation=(event.open_time + 1).to_bytes(16, "big"),
                flags=number % 2,
            ).envelope,
        )
        for number, event in enumerate(events, first)
    ]


class Shelf:
    """A loader of artifacts that are there. What is requested is loaded at once, or, where it is slow,
    when ``arrive`` is called; ``loads`` is what was read, in order."""

    def __init__(self, there: dict[str, Predictor], *, slow: bool = False) -> None:
        self.there, self.slow = there, slow
        self.loads: list[str] = []
        self.found: dict[str, Loaded | Fault] = {}
        self.coming: list[str] = []

    def load(self, artifact: str) -> Loaded | Fault:
        if not isinstance(self.found.get(artifact), Loaded):
            self.loads.append(artifact)
            missing = Fault(f"FileNotFoundError: artifact {artifact[:12]} is not in the store", 5)
            predictor = self.there.get(artifact)
            self.found[artifact] = Loaded(predictor, 5, 3) if predictor else missing
        return self.found[artifact]

    def request(self, artifact: str) -> None:
        if not self.slow:
            self.load(artifact)
        elif not isinstance(self.found.get(artifact), Loaded) and artifact not in self.coming:
            self.coming.append(artifact)
            self.found.pop(artifact, None)

    def outcome(self, artifact: str) -> Loaded | Fault | None:
        return self.found.get(artifact)

    def forget(self, artifact: str) -> None:
        self.found.pop(artifact, None)

    def arrive(self) -> None:
        for artifact in self.coming:
            self.load(artifact)
        self.coming.clear()


def worker(*, slow: bool = False, **artifacts: Any) -> ModelWorker:
    known = {"one": ONE, "two": TWO, "windowed": WINDOWED}
    there = {known[name]: artifact for name, artifact in artifacts.items()}
    return ModelWorker("m", Shelf(there, slow=slow), OWNER, LIFE)


def shelf(service: ModelWorker) -> Shelf:
    assert isinstance(service.loader, Shelf)
    return service.loader


def predictions(outputs: Iterable[Encoded]) -> list[Encoded]:
    return [sealed for sealed in outputs if sealed.stream == "predictions"]


def announced(outputs: Iterable[Encoded]) -> list[tuple[str, str]]:
    """What is said about readiness: the event, and the artifact."""
    events = [sealed.envelope.event for sealed in outputs if sealed.stream == "readiness"]
    return [(type(event).__name__, event.artifact) for event in events]


def said(service: ModelWorker, state: State, events: Sequence[Received] = (), commands: Any = ()) -> list[Encoded]:
    """Predictions in answer to these events."""
    return predictions(service.handle(state, Batch(commands, events)))


def answers(service: ModelWorker, commands: Sequence[Command], events: Iterable[Any]) -> list[Encoded]:
    return said(service, service.initial(b""), received(events), control(*commands))


def failures(outputs: Sequence[Encoded]) -> list[tuple[str, str]]:
    found = [sealed.envelope.event for sealed in outputs]
    return [(event.reason, event.detail) for event in found if isinstance(event, PredictionFailed)]


def test_the_group_is_named_by_the_model() -> None:
    assert ModelWorker("xgboost", Shelf({}), OWNER, LIFE).group == "model-worker.xgboost"


def test_the_champion_answers_each_vector_of_its_set() -> None:
    events = received([vector(1), vector(2, symbol="BBB")])
    service = worker(one=Fake())
    outputs = said(service, service.initial(b""), events, control(*CHAMPION))
    assert [type(output.envelope.event) for output in outputs] == [PredictionMade, PredictionMade]
    for output, asked in zip(outputs, events, strict=True):
        made, envelope = output.envelope.event, asked.envelope
        assert (made.symbol, made.open_time) == (envelope.event.symbol, envelope.event.open_time)
        assert (made.model, made.artifact, made.control_version) == ("m", bytes.fromhex(ONE), 3)
        assert made.vector == output.envelope.causation == envelope.id
        assert (output.envelope.correlation, output.envelope.flags) == (envelope.correlation, envelope.flags)
        assert sum(made.probabilities) == pytest.approx(1)
        assert decode("predictions", output.data).event == made


def test_shadows_answer_before_the_champion_in_the_order_they_were_started() -> None:
    commands = (*CHAMPION, register(TWO), register(WINDOWED), StartShadow("m", WINDOWED), StartShadow("m", TWO))
    outputs = answers(worker(one=Fake(), two=Fake(), windowed=Fake()), commands, [vector(1), vector(2)])
    assert [output.envelope.event.artifact.hex() for output in outputs] == [WINDOWED, TWO, ONE] * 2


def test_a_model_without_an_artifact_says_nothing() -> None:
    assert answers(worker(), (register(ONE),), [vector(1), vector(2)]) == []
    assert answers(worker(one=Fake()), (register(ONE, model="other"),), [vector(1)]) == []


def test_before_any_command_nothing_is_said() -> None:
    service = worker()
    assert service.handle(service.initial(b""), Batch((), received([vector(1)]))) == []


def test_a_shadow_without_a_champion_answers() -> None:
    assert len(answers(worker(one=Fake()), (register(ONE), StartShadow("m", ONE)), [vector(1)])) == 1


def test_rows_of_a_batch_are_asked_together() -> None:
    fake = Fake()
    answers(worker(one=fake), CHAMPION, [vector(bar) for bar in range(50)])
    assert fake.shapes == [(50, 1, 3)]


def test_a_fixed_batch_is_asked_in_exactly_that_size() -> None:
    fake, free = Fake(batch_rows=4), Fake()
    events = [vector(bar, (bar, 0, 0)) for bar in range(6)]
    assert answers(worker(one=fake), CHAMPION, events) == answers(worker(one=free), CHAMPION, events)
    assert fake.shapes == [(4, 1, 3), (4, 1, 3)]


def test_an_artifact_answers_only_its_own_set() -> None:
    both = [vector(1, feature_set=SET_B), vector(1), vector(2), vector(2, feature_set=SET_B), vector(3)]
    outputs = answers(worker(one=Fake()), CHAMPION, both)
    assert failures(outputs) == []
    assert [output.envelope.event.open_time // MINUTE for output in outputs] == [1, 2, 3]


def test_a_bar_for_which_only_other_sets_came_is_a_failure() -> None:
    events = [vector(1, feature_set=SET_B), withheld(1, feature_set=b"\xcc" * 32), vector(2, feature_set=SET_B)]
    outputs = answers(worker(one=Fake()), CHAMPION, events)
    ((reason, detail),) = failures(outputs)
    assert reason == "wrong_feature_set"
    assert "bbbbbbbbbbbb, cccccccccccc came for this bar, none of abc aaaaaaaaaaaa" in detail
    failed = outputs[0].envelope
    assert failed.event.open_time == MINUTE
    assert failed.causation == failed.event.vector == received(events)[0].envelope.id


def test_the_bar_of_another_symbol_ends_the_bar_in_hand() -> None:
    events = [vector(1, feature_set=SET_B), vector(1, symbol="BBB")]
    outputs = answers(worker(one=Fake()), CHAMPION, events)
    assert [type(output.envelope.event).__name__ for output in outputs] == ["PredictionFailed", "PredictionMade"]


def test_vectors_withheld_are_passed_on_with_their_reason() -> None:
    assert failures(answers(worker(one=Fake()), CHAMPION, [withheld(1)])) == [
        ("features_withheld", "warming: have 7 of 319 bars")
    ]


def test_missing_bars_are_no_bar() -> None:
    missing = BarsMissing(
        symbol="AAA", interval_ms=MINUTE, open_time=MINUTE, origin="synthetic", count=3, bridged=False
    )
    assert failures(answers(worker(one=Fake()), CHAMPION, [missing, vector(1), missing, vector(2)])) == []


def test_a_bar_of_another_interval_is_refused() -> None:
    assert failures(answers(worker(one=Fake()), CHAMPION, [vector(1, interval_ms=5 * MINUTE)])) == [
        ("wrong_interval", "trained on bars of 60000 ms, this one has 300000 ms")
    ]


def test_a_vector_of_another_length_is_never_padded_or_cut() -> None:
    outputs = answers(worker(one=Fake()), CHAMPION, [vector(1, (1, 2)), vector(2, (1, 2, 3, 4)), vector(3)])
    assert [reason for reason, _ in failures(outputs)] == ["bad_vector", "bad_vector"]
    assert "8 bytes, expected 1 x 3 values of 4 bytes" in failures(outputs)[0][1]
    assert isinstance(outputs[2].envelope.event, PredictionMade)


def test_one_value_that_is_not_finite_fails_alone() -> None:
    outputs = answers(worker(one=Fake()), CHAMPION, [vector(1), vector(2, (0, np.nan, np.inf)), vector(3)])
    assert failures(outputs) == [("bad_vector", "not finite at (vector, feature) [[0, 1], [0, 2]]")]
    assert [type(output.envelope.event) for output in outputs] == [PredictionMade, PredictionFailed, PredictionMade]


def test_a_row_that_makes_the_artifact_raise_fails_alone() -> None:
    outputs = answers(worker(one=Fake()), CHAMPION, [vector(1), vector(2, (0, 13.0, 0)), vector(3)])
    assert failures(outputs) == [("error", "ArithmeticError: thirteen")]
    assert len(outputs) == 3


@pytest.mark.parametrize("value", [98.0, 99.0])
def test_an_answer_that_is_no_probability_fails_alone(value: float) -> None:
    outputs = answers(worker(one=Fake()), CHAMPION, [vector(1), vector(2, (0, value, 0)), vector(3)])
    ((reason, detail),) = failures(outputs)
    assert reason == "bad_output"
    assert "not three probabilities that sum to one" in detail


def test_an_artifact_that_does_not_load_fails_each_vector_and_says_why() -> None:
    outputs = answers(worker(), CHAMPION, [vector(1), withheld(2)])
    assert failures(outputs) == [("not_loaded", "FileNotFoundError: artifact 111111111111 is not in the store")] * 2


def test_an_artifact_other_than_the_registered_one_is_not_served() -> None:
    ((reason, detail),) = failures(answers(worker(one=Fake(interval_ms=1000)), CHAMPION, [vector(1)]))
    assert reason == "not_loaded"
    assert "60000" in detail
    assert "1000" in detail


def test_a_failed_load_is_tried_again_at_the_next_command() -> None:
    service = worker()
    state = service.initial(b"")
    stream = control(*CHAMPION, register(TWO))
    (first,) = said(service, state, received([vector(1)]), stream[:3])
    shelf(service).there[ONE] = Fake()
    (second,) = said(service, state, received([vector(2)], 2), stream[3:])
    assert (first.envelope.event.reason, type(second.envelope.event)) == ("not_loaded", PredictionMade)


def test_a_former_champion_stays_loaded() -> None:
    service = worker(one=Fake(), two=Fake())
    commands = (*CHAMPION, register(TWO), Promote("m", TWO, forced=True), StopShadow("m", ONE), StartShadow("m", ONE))
    state = service.initial(b"")
    for number, entry in enumerate(control(*commands)):
        service.handle(state, Batch([entry], received([vector(number)], number + 1)))
    assert shelf(service).loads == [ONE, TWO]
    assert [member.artifact for member in state.members] == [ONE, TWO]


def test_a_former_champion_is_loaded_again_after_a_start() -> None:
    service = worker(one=Fake(), two=Fake())
    commands = (*CHAMPION, register(TWO), Promote("m", TWO, forced=True), StopShadow("m", ONE))
    state = service.initial(b"")
    service.apply(state, Batch(control(*commands), ()))
    assert shelf(service).loads == [TWO, ONE]
    assert announced(service.handle(state, Batch((), ()))) == [("ArtifactReady", TWO), ("ArtifactReady", ONE)]


def test_a_retired_artifact_is_forgotten() -> None:
    service = worker(one=Fake(), two=Fake())
    commands = (*CHAMPION, register(TWO), Promote("m", TWO, forced=True), Retire("m", ONE))
    state = service.initial(b"")
    for entry in control(*commands):
        service.handle(state, Batch([entry], ()))
    assert set(shelf(service).found) == {TWO}


def test_only_the_newest_three_former_champions_stay_loaded() -> None:
    names = [f"{number:02x}" * 32 for number in range(1, 6)]
    service = ModelWorker("m", Shelf({name: Fake() for name in names}), OWNER, LIFE)
    commands: list[Command] = []
    for number, name in enumerate(names):
        commands += [register(name), Promote("m", name, forced=True, weight=None if number else 1.0)]
        commands += [StopShadow("m", names[number - 1])] if number else []
    state = service.initial(b"")
    for entry in control(*commands):
        service.handle(state, Batch([entry], ()))
    assert set(shelf(service).found) == set(names[1:])
    assert set(state.active.announced) == set(names[1:])


def test_a_shadow_that_was_stopped_is_forgotten_and_announced_again_when_it_returns() -> None:
    service = worker(one=Fake(), two=Fake())
    commands = (*CHAMPION, register(TWO), StartShadow("m", TWO), StopShadow("m", TWO), StartShadow("m", TWO))
    state = service.initial(b"")
    told, loaded = [], []
    for entry in control(*commands):
        told.append(announced(service.handle(state, Batch([entry], ()))))
        loaded.append(set(shelf(service).found))
    assert loaded[-3:] == [{ONE, TWO}, {ONE}, {ONE, TWO}]
    assert told[-3:] == [[("ArtifactReady", TWO)], [("ArtifactFreed", TWO)], [("ArtifactReady", TWO)]]


def test_a_shadow_that_is_stopped_while_it_loads_is_forgotten() -> None:
    service = worker(one=Fake(), two=Fake(), slow=True)
    commands = (*CHAMPION, register(TWO), StartShadow("m", TWO), StopShadow("m", TWO))
    state = service.initial(b"")
    for entry in control(*commands):
        service.handle(state, Batch([entry], ()))
    assert state.active.requested == {ONE}
    assert announced(service.handle(state, Batch((), received([vector(1)])))) == [("ArtifactReady", ONE)]
    assert [member.artifact for member in state.members] == [ONE]


def test_what_is_loaded_is_announced_once_by_whom_and_under_which_version() -> None:
    service = worker(one=Fake(), two=Fake())
    commands = control(*CHAMPION, register(TWO), StartShadow("m", TWO))
    state = service.initial(b"")
    outputs = service.handle(state, Batch(commands, ()))
    events = [output.envelope.event for output in outputs]
    assert events == [
        ArtifactReady(model="m", artifact=digest, owner=OWNER, life=LIFE, control_version=5, took_ms=3, at=5)
        for digest in (TWO, ONE)
    ]
    assert [service.handle(state, Batch((), received([vector(bar)], bar)))[0].stream for bar in (1, 2)] == [
        "predictions",
        "predictions",
    ]


def test_what_would_not_load_is_announced_with_the_reason() -> None:
    service = worker(one=Fake(interval_ms=1000))
    commands = control(*CHAMPION, register(TWO), StartShadow("m", TWO))
    outputs = service.handle(service.initial(b""), Batch(commands, ()))
    missing, other = (output.envelope.event for output in outputs)
    assert isinstance(missing, ArtifactFailed)
    assert missing.reason == "FileNotFoundError: artifact 222222222222 is not in the store"
    assert isinstance(other, ArtifactFailed)
    assert "60000" in other.reason
    assert "1000" in other.reason


def test_all_that_is_active_is_loaded_at_a_start_before_anything_is_answered() -> None:
    service = worker(slow=True, one=Fake(), two=Fake())
    commands = (*CHAMPION, register(TWO), StartShadow("m", TWO))
    state = service.initial(b"")
    service.apply(state, Batch(control(*commands), ()))
    outputs = service.handle(state, Batch((), received([vector(1)])))
    assert announced(outputs) == [("ArtifactReady", TWO), ("ArtifactReady", ONE)]
    assert [type(output.envelope.event) for output in predictions(outputs)] == [PredictionMade] * 2


def test_a_shadow_that_is_being_loaded_delays_nobody_and_then_answers() -> None:
    service = worker(slow=True, one=Fake(), two=Fake())
    commands = control(*CHAMPION, register(TWO), StartShadow("m", TWO))
    state = service.initial(b"")
    service.apply(state, Batch(commands[:3], ()))
    waiting, champion = said(service, state, received([vector(1)]), commands[3:])
    assert (waiting.envelope.event.reason, waiting.envelope.event.detail) == (
        "not_loaded",
        "still being loaded; it answers once it is verified and warm",
    )
    assert isinstance(champion.envelope.event, PredictionMade)
    assert shelf(service).loads == [ONE]
    shelf(service).arrive()
    outputs = service.handle(state, Batch((), received([vector(2)], 2)))
    assert announced(outputs) == [("ArtifactReady", TWO)]
    assert [type(output.envelope.event) for output in predictions(outputs)] == [PredictionMade] * 2


def test_readiness_is_announced_without_a_bar() -> None:
    service = worker(slow=True, one=Fake())
    state = service.initial(b"")
    service.handle(state, Batch(control(register(ONE), StartShadow("m", ONE)), (), 1))
    shelf(service).arrive()
    assert announced(service.handle(state, Batch((), (), 2))) == [("ArtifactReady", ONE)]
    assert 0 < service.ticks <= 1000


def test_a_champion_by_force_is_loaded_before_it_is_asked() -> None:
    service = worker(slow=True, one=Fake(), two=Fake())
    state = service.initial(b"")
    commands = control(*CHAMPION, register(TWO), Promote("m", TWO, forced=True))
    service.handle(state, Batch(commands[:3], ()))
    (former, champion) = said(service, state, received([vector(1)]), commands[3:])
    assert (former.envelope.event.artifact.hex(), champion.envelope.event.artifact.hex()) == (ONE, TWO)
    assert isinstance(champion.envelope.event, PredictionMade)


def test_a_window_must_fill_before_it_is_asked() -> None:
    fake = Fake(window=3)
    commands = (register(WINDOWED), Promote("m", WINDOWED, forced=True, weight=1.0))
    events = [vector(bar, (bar, 0, 0)) for bar in (1, 2, 3, 4, 6, 7, 8)]
    outputs = answers(worker(windowed=fake), commands, events)
    assert [type(output.envelope.event) is PredictionMade for output in outputs] == [0, 0, 1, 1, 0, 0, 1]
    assert failures(outputs)[0] == ("features_withheld", "window: have 1 of 3 successive vectors")
    assert fake.shapes == [(3, 3, 3)]


def test_a_window_holds_the_newest_vector_last() -> None:
    seen: list[np.ndarray] = []

    class Spy(Fake):
        def predict(self, windows: np.ndarray) -> np.ndarray:
            seen.append(windows.copy())
            return super().predict(windows)

    commands = (register(WINDOWED), Promote("m", WINDOWED, forced=True, weight=1.0))
    answers(worker(windowed=Spy(window=3)), commands, [vector(bar, (bar, 0, 0)) for bar in range(1, 6)])
    assert seen[0][:, :, 0].tolist() == [[1, 2, 3], [2, 3, 4], [3, 4, 5]]


def test_a_vector_is_answered_by_what_was_active_under_its_stamp_whatever_was_read_since() -> None:
    commands = control(*CHAMPION, register(TWO), StartShadow("m", TWO), Promote("m", TWO, forced=True), Halt())
    stamps = [2, 3, 4, 5, 6, 7]
    events = received(under(vector(bar), commands[:stamp]) for bar, stamp in enumerate(stamps))
    service = worker(one=Fake(), two=Fake())
    state = service.initial(b"")
    service.apply(state, Batch(commands, ()))
    made = [output.envelope.event for output in said(service, state, events)]
    assert [(event.control_version, event.artifact.hex()) for event in made] == [
        (3, ONE),
        (4, ONE),
        (5, TWO),
        (5, ONE),
        (6, ONE),
        (6, TWO),
        (7, ONE),
        (7, TWO),
    ]
    heads = [head_of(commands[event.control_version - 1].event) for event in made]
    assert [event.control_head.hex() for event in made] == heads


def test_a_shadow_that_was_stopped_answers_the_vectors_that_were_stamped_before() -> None:
    service = worker(one=Fake(), two=Fake())
    commands = control(*CHAMPION, register(TWO), StartShadow("m", TWO), StopShadow("m", TWO))
    state = service.initial(b"")
    first = said(service, state, received([under(vector(1), commands[:5])]), commands)
    assert [output.envelope.event.artifact.hex() for output in first] == [TWO, ONE]
    outputs = service.handle(state, Batch((), received([under(vector(2), commands)], 2)))
    assert announced(outputs) == [("ArtifactFreed", TWO)]
    assert [output.envelope.event.artifact.hex() for output in predictions(outputs)] == [ONE]


def test_a_shadow_has_its_whole_window_from_its_first_bar_however_late_it_loads() -> None:
    service = worker(slow=True, one=Fake(), windowed=Fake(window=3))
    commands = control(*CHAMPION, register(WINDOWED), StartShadow("m", WINDOWED))
    state = service.initial(b"")
    service.apply(state, Batch(commands[:3], ()))
    said(service, state, received([under(vector(bar), commands[:3]) for bar in (1, 2)]))
    first = said(service, state, received([under(vector(3), commands)], 3), commands[3:])
    assert failures(first) == [("not_loaded", "still being loaded; it answers once it is verified and warm")]
    shelf(service).arrive()
    second = said(service, state, received([under(vector(4), commands)], 4))
    assert failures(second) == []
    assert len(second) == 2


def test_what_was_active_under_the_stamp_at_a_start_is_loaded_before_it_is_asked() -> None:
    service = worker(slow=True, one=Fake(), two=Fake())
    commands = control(
        *CHAMPION, register(TWO), StartShadow("m", TWO), Promote("m", TWO, forced=True), Retire("m", ONE)
    )
    events = received(under(vector(bar), commands[:5]) for bar in (1, 2))
    state = service.initial(b"")
    service.apply(state, Batch(commands, ()))
    service.apply(state, Batch((), events[:1]))
    assert failures(said(service, state, events[1:])) == []


def test_a_restart_reads_again_from_a_milestone_before_all_that_is_kept() -> None:
    service = worker(one=Fake())
    state = service.initial(b"")
    assert service.replay_from(state) == {"features": "0-0"}
    events = received(vector(bar) for bar in range(2000))
    service.handle(state, Batch(control(*CHAMPION), events))
    since = service.replay_from(state)["features"]
    place = [event.entry for event in events].index(since)
    assert 2000 - LONGEST_WINDOW - MILESTONE <= place + 1 <= 2000 - LONGEST_WINDOW
    again = service.initial(service.snapshot(state))
    service.apply(again, Batch((), events[place + 1 :]))
    assert {name: list(kept.values) for name, kept in again.vectors.kept.items()} == {
        name: list(kept.values) for name, kept in state.vectors.kept.items()
    }
    assert service.replay_from(again) == service.replay_from(state)


def test_a_symbol_that_is_traded_no_more_does_not_hold_the_position_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "FORGOTTEN", 700)
    service = worker(windowed=Fake(window=3))
    commands = (register(WINDOWED), Promote("m", WINDOWED, forced=True, weight=1.0))
    state = service.initial(b"")
    events = received([vector(1, symbol="GONE"), *(vector(bar) for bar in range(1, 2000))])
    service.handle(state, Batch(control(*commands), events))
    assert {series[2] for series in state.vectors.kept} == {"AAA"}
    assert key(service.replay_from(state)["features"]) >= key(events[2000 - LONGEST_WINDOW - MILESTONE - 1].entry)


SERIES = st.lists(
    st.tuples(
        st.integers(0, 2),  # symbol
        st.sampled_from([1, 1, 1, 1, 2, 30]),  # bars further
        st.lists(st.sampled_from(["a", "a", "b", "withheld", "short", "nan", "raise"]), min_size=1, max_size=3),
        st.booleans(),  # announced by missing bars
    ),
    max_size=40,
)


def story(steps: list[tuple[int, int, list[str], bool]]) -> list[Any]:
    at = {0: 0, 1: 0, 2: 0}
    events: list[Any] = []
    for number, (who, further, kinds, missing) in enumerate(steps):
        at[who] += further
        symbol, bar = f"S{who}", at[who]
        if missing:
            events.append(
                BarsMissing(
                    symbol=symbol,
                    interval_ms=MINUTE,
                    open_time=bar * MINUTE,
                    origin="synthetic",
                    count=1,
                    bridged=False,
                )
            )
        made: dict[str, Any] = {
            "a": vector(bar, (number, bar, 1), symbol),
            "b": vector(bar, (1, 2), symbol, SET_B),
            "withheld": withheld(bar, symbol),
            "short": vector(bar, (1, 2), symbol),
            "nan": vector(bar, (np.nan, 1, 2), symbol),
            "raise": vector(bar, (13.0, 1, 2), symbol),
        }
        events += [made[kind] for kind in kinds]
    return events


CUTS = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 9), st.booleans()), max_size=12)


@given(steps=SERIES, cuts=CUTS, turns=st.lists(st.integers(0, 60), min_size=3, max_size=3))
@example(steps=[(0, 1, ["a"], False), (0, 1, ["a"], False)], cuts=[(1, 9, True)], turns=[1, 1, 1])
@settings(max_examples=150, deadline=None)
def test_neither_batch_cuts_nor_commands_read_early_nor_restarts_change_a_byte(
    steps: list[tuple[int, int, list[str], bool]], cuts: list[tuple[int, int, bool]], turns: list[int]
) -> None:
    """From the events ``turns`` on they are stamped with a windowed shadow, another champion, no shadow. A cut reads
    control up to some version beyond the stamps, and may be followed by a restart."""
    commands = control(
        *(*CHAMPION, register(TWO), register(WINDOWED)),
        *(StartShadow("m", WINDOWED), Promote("m", TWO, forced=True), StopShadow("m", WINDOWED)),
    )
    told = sorted(turns)
    events = received(
        under(event, commands[: 5 + sum(turn <= number for turn in told)]) for number, event in enumerate(story(steps))
    )

    def service() -> ModelWorker:
        return worker(one=Fake(), two=Fake(batch_rows=3), windowed=Fake(window=3))

    whole = service()
    expected = said(whole, whole.initial(b""), events, commands)

    cut = service()
    state = cut.initial(b"")
    got: list[Encoded] = []
    position = known = 0
    for place, ahead, restart in [*sorted(cuts), (len(events), 0, False)]:
        stop = max(position, min(place, len(events)))
        stamps = [event.envelope.event.control_version for event in events[position:stop]]
        reads = max(known, min(len(commands), max(stamps, default=known) + ahead))
        got += said(cut, state, events[position:stop], commands[known:reads])
        position, known = stop, reads
        if restart:
            since, memo, cut = cut.replay_from(state)["features"], cut.snapshot(state), service()
            state, known = cut.initial(memo), len(commands)
            cut.apply(state, Batch(commands, ()))
            for event in (event for event in events[:position] if key(event.entry) > key(since)):
                cut.apply(state, Batch((), [event]))
    assert [sealed.data for sealed in got] == [sealed.data for sealed in expected]


def key(entry: str) -> tuple[int, int]:
    moment, sequence = entry.split("-")
    return int(moment), int(sequence)
