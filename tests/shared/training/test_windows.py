"""Windows are cut as they are used: the same numbers as an array of all of them, in the memory of the vectors."""

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.toy import MINUTE, market
from schemas.training import Recipe
from shared.families import Fitted, Sample, family_named
from shared.families.windows import AT_ONCE, CutWindows
from shared.features import SETS
from shared.training.fitting import fit, prepare, uncalibrated
from shared.training.series import assemble, computed

SET = SETS["user-8"]
SERIES = computed({name: market(name, 700, 0.3, seed) for seed, name in enumerate(("AAA", "BBB"))}, SET, 3)
LENGTH = 5
BATCH = 256
ROWS = np.array([3, 0, 3, 77], dtype=np.intp)


@pytest.fixture
def cut() -> CutWindows:
    return assemble(SERIES, LENGTH, interval_ms=MINUTE, horizon=3).windows


KEYS = [
    *(slice(None), slice(-3, None), ROWS, 7),
    *((slice(None), -1), (ROWS, slice(-2, None)), (slice(2, None), 0), (slice(9), -1, slice(1))),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_windows_are_indexed_as_an_array_of_them_is(cut: CutWindows, key: Any) -> None:
    whole = np.asarray(cut)
    assert (cut[key] == whole[key]).all()
    assert cut[key].shape == whole[key].shape
    assert cut.shape == whole.shape
    assert len(cut) == len(whole)


def test_parts_and_the_newest_vectors_are_cut_from_the_same_vectors(cut: CutWindows) -> None:
    assert (cut.of(ROWS)[:] == cut[ROWS]).all()
    assert (cut.newest(2)[:] == cut[:, -2:]).all()
    assert cut.of(ROWS).newest(1).vectors is cut.vectors


def test_windows_that_share_no_vectors_are_given_as_an_array() -> None:
    array = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    assert (CutWindows.separate(array)[:] == array).all()


def test_a_model_is_asked_about_every_window_once_and_in_order() -> None:
    vectors = np.arange(2 * AT_ONCE, dtype=np.float64)[:, None]
    windows = CutWindows(vectors, np.arange(7, len(vectors), dtype=np.intp), 8)
    sizes: list[int] = []

    def newest(x: NDArray[np.float64]) -> NDArray[np.float64]:
        sizes.append(len(x))
        return x[:, -1]

    assert (windows.each(newest) == windows[:, -1]).all()
    assert max(sizes) * 8 <= AT_ONCE
    assert windows.of(np.empty(0, dtype=np.intp)).each(newest).shape == (0, 1)


class Newest:
    def logits(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        return windows[:, -1, :3].astype(np.float64)


def in_batches(train: Sample, held: Sample, *_: object) -> Fitted:
    for at in range(0, len(train.y), BATCH):
        assert train.x[at : at + BATCH].dtype == np.float32
    return Fitted(Newest(), 0)


def test_a_training_never_holds_all_windows_of_its_data() -> None:
    recipe = Recipe("nhits", SET.name, {**family_named("nhits").defaults, "window": 128}, 3, 0.5, 1)
    series = computed({"AAA": market("AAA", 6000, 0.3, 1)}, SET, 3)
    kind: Any = SimpleNamespace(scaled=True, constant=True, fit=in_batches)
    tracemalloc.start()
    try:
        prepared = prepare(series, SET, recipe)._replace(family=kind)
        uncalibrated(prepared, fit(prepared), prepared.parts.train)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    rows, steps, features = prepared.table.windows.shape
    assert (rows, steps) > (5000, 127)
    assert peak < rows * steps * features * np.dtype(np.float32).itemsize / 4
