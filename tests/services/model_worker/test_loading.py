"""The thread that loads: nothing waits for it but what must."""

import gc
import sys
import time
import weakref
from threading import Event
from typing import Any

import pytest

from services.model_worker.loading import REST, SWITCH_S, Rests, ThreadLoader
from services.model_worker.members import Fault, Loaded


class Disk:
    """Reads slowly: an artifact is there once its event is set."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.open = {"a": Event(), "b": Event()}

    def __call__(self, artifact: str, pause: Any = None) -> Any:
        self.reads.append(artifact)
        if artifact not in self.open:
            raise FileNotFoundError(f"no {artifact}")
        assert self.open[artifact].wait(10)
        return f"artifact {artifact}"


@pytest.fixture
def disk() -> Disk:
    return Disk()


def settled(loader: ThreadLoader, artifact: str) -> Loaded | Fault:
    """The outcome, once there is one."""
    loader._loading[artifact].result(10)
    found = loader.outcome(artifact)
    assert found is not None
    return found


def test_a_request_returns_before_anything_is_read_to_its_end(disk: Disk) -> None:
    loader = ThreadLoader(disk)
    loader.request("a")
    assert loader.outcome("a") is None
    disk.open["a"].set()
    found = settled(loader, "a")
    assert isinstance(found, Loaded)
    assert found.memory_mb is not None
    assert 10.0 < found.memory_mb < 100_000.0
    assert (str(found.predictor), disk.reads) == ("artifact a", ["a"])
    assert loader.outcome("a") is found


def test_what_nobody_asked_for_has_no_outcome(disk: Disk) -> None:
    assert ThreadLoader(disk).outcome("a") is None


def test_nothing_is_read_twice(disk: Disk) -> None:
    loader = ThreadLoader(disk)
    loader.request("a")
    loader.request("a")
    disk.open["a"].set()
    first = loader.load("a")
    loader.request("a")
    assert loader.load("a") is first
    assert disk.reads == ["a"]


def test_what_must_be_there_does_not_queue_behind_the_background(disk: Disk) -> None:
    loader = ThreadLoader(disk)
    loader.request("a")
    loader.request("b")
    disk.open["b"].set()
    assert isinstance(loader.load("b"), Loaded)
    assert loader.outcome("a") is None
    disk.open["a"].set()
    settled(loader, "a")
    assert sorted(disk.reads) == ["a", "b"]


def test_a_fault_says_what_was_raised_and_is_tried_again(disk: Disk) -> None:
    loader = ThreadLoader(disk)
    loader.request("c")
    assert settled(loader, "c")[0] == "FileNotFoundError: no c"
    loader.request("c")
    assert isinstance(settled(loader, "c"), Fault)
    assert isinstance(loader.load("c"), Fault)
    assert disk.reads == ["c", "c", "c"]


def test_what_is_forgotten_is_read_again(disk: Disk) -> None:
    loader = ThreadLoader(disk)
    disk.open["a"].set()
    loader.load("a")
    loader.forget("a")
    assert loader.outcome("a") is None
    loader.load("a")
    assert disk.reads == ["a", "a"]


class Heavy:
    """Something whose memory must be given back."""


@pytest.mark.parametrize("in_background", [False, True])
def test_the_memory_of_what_is_forgotten_is_given_back(in_background: bool) -> None:
    made: list[weakref.ref[Heavy]] = []

    def read(artifact: str, pause: Any) -> Any:
        heavy = Heavy()
        made.append(weakref.ref(heavy))
        return heavy

    loader = ThreadLoader(read)
    if in_background:
        loader.request("a")
        settled(loader, "a")
    else:
        loader.load("a")
    assert made[0]() is not None
    loader.forget("a")
    gc.collect()
    assert made[0]() is None


def test_what_is_forgotten_while_it_is_read_is_given_back_when_it_was_read(disk: Disk) -> None:
    loader = ThreadLoader(disk)
    loader.request("a")
    under_way = loader._loading["a"]
    loader.forget("a")
    disk.open["a"].set()
    under_way.result(10)
    assert loader.outcome("a") is None


def test_beside_ballots_a_load_pauses_and_hands_the_interpreter_over_quickly() -> None:
    told: list[tuple[Any, float]] = []
    loader = ThreadLoader(lambda artifact, pause: told.append((pause, sys.getswitchinterval())))  # type: ignore[arg-type,return-value]  # an artifact stands in
    usual = sys.getswitchinterval()
    loader.load("a")
    loader.request("b")
    settled(loader, "b")
    (now, slow), (beside, quick) = told
    assert (now, slow) == (None, usual)
    assert isinstance(beside, Rests)
    assert quick == pytest.approx(SWITCH_S)
    assert sys.getswitchinterval() == usual


def test_a_rest_is_a_multiple_of_the_work_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rests = iter([1.0, 1.25, 1.25, 1.75, 1.75]), list[float]()
    monkeypatch.setattr(time, "thread_time", lambda: next(clock))
    monkeypatch.setattr(time, "sleep", rests.append)
    rest = Rests()
    rest()
    rest()
    assert rests == [REST * 0.25, REST * 0.5]
